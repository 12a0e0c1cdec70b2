//! The first half of a pass: compiles the settings into a catalog of resources. Writes only the cached
//! manifest and the last good peer lists.

use super::{ManifestSource, PassError, PassOptions, Session};
use crate::desired::{self, DesiredState, NodeContext, ReadManifest, ResumePolicy};
use crate::fleet::{PeerQueryError, PeerSource};
use crate::problem::Problem;
use crate::report::History;
use crate::role::{Catalog, DraftCatalog, Placeholders, RoleSources, SecretValues};
use crate::secrets::SecretSource;
use crate::settings::Settings;

impl Session {
    /// The catalog with the last known desired state. Does not ask the store.
    pub(crate) fn compile_offline(&self) -> Result<(Catalog, DesiredState), PassError> {
        self.compile(ManifestSource::LastGood, &PassOptions::default())
    }

    /// The resources of this host and its desired state, including the peer lists that its roles query.
    pub(super) fn compile(
        &self,
        source: ManifestSource,
        options: &PassOptions,
    ) -> Result<(Catalog, DesiredState), PassError> {
        let (settings, host) = (&self.settings, &self.host);
        let (mut peers, keep) = match source {
            ManifestSource::Store(ask, _) => {
                let store = &**self.shared_store()?;
                let peers = PeerSource::from_store(settings, host, store, options.accept_shrink)
                    .with_own_node(self.node(), self.own_addresses());
                (peers, ask.save_last_good)
            }
            ManifestSource::LastGood => (PeerSource::last_known(settings, host), false),
        };
        let described = self.compile_with(source, options, &mut peers);
        if keep {
            peers.save(described.is_ok())?;
        }
        match described {
            Ok((catalog, mut desired)) => {
                let notes = peers
                    .record_problems()
                    .into_iter()
                    .chain(peers.accepted_shrinks());
                desired.warnings.extend(notes.map(Problem::new));
                desired.kept_lists = peers.kept_reasons();
                Ok((catalog, desired))
            }
            Err(PassError::Input(problems)) => Err(match peers.into_query_error() {
                Some(PeerQueryError::Store(error)) => PassError::NoPeerList(error),
                Some(PeerQueryError::Lists(why)) => PassError::PeerList(why),
                None => PassError::Input(problems),
            }),
            Err(error) => Err(error),
        }
    }

    /// Decrypts the secrets that the resources use.
    fn fill_in_secrets(
        &self,
        source: ManifestSource,
        drafted: DraftCatalog,
        desired: &DesiredState,
        sources: &mut RoleSources<'_, '_>,
    ) -> Result<Catalog, PassError> {
        let (store, keeps) = match source {
            ManifestSource::Store(ask, _) => (Some(&**self.shared_store()?), ask.save_last_good),
            ManifestSource::LastGood => (None, false),
        };
        // Another request would only cost another timeout.
        let answers = !matches!(desired.freshness, desired::Freshness::Stale { .. });
        let secrets = SecretSource {
            host: &self.host,
            lookup: &self.settings.lookup,
            identity: self.settings.secrets.identity.as_deref(),
            environment: &self.settings.environment,
            named: &desired.secrets,
            store: store.filter(|_| answers),
            keeps,
        };
        if keeps {
            secrets.prune()?;
        }
        let drafted = drafted.check_secrets(desired, sources)?;
        let loaded = secrets.load(drafted.used_secrets());
        Ok(drafted.with_secrets(loaded, desired, sources)?)
    }

    fn compile_with(
        &self,
        source: ManifestSource,
        options: &PassOptions,
        peers: &mut PeerSource<'_>,
    ) -> Result<(Catalog, DesiredState), PassError> {
        let node = NodeContext {
            environment: &self.settings.environment,
            tags: &self.settings.tags,
            now: self.host.clock.now(),
            last_answer: History::new(&self.host)
                .last()
                .and_then(|last| last.store_answered),
            signers: self.settings.signers.as_ref(),
        };
        let key = &self.settings.manifest;
        // Before the roles: it names the bundle that they come from.
        let manifest = match source {
            ManifestSource::Store(ask, _) => {
                let store = &**self.shared_store()?;
                Some(desired::fetch(store, key, ask, &self.host, &node)?)
            }
            ManifestSource::LastGood => desired::last_known(key, &self.host, &node),
        };
        let compile = |settings: &Settings, peers: &mut PeerSource<'_>| {
            self.compile_roles(settings, manifest.as_ref(), (source, options), peers)
        };
        let policy = self.choose_policy(manifest.as_ref(), source, options)?;
        let compiled = match &policy.on_trial {
            None => compile(policy.base(&self.settings), peers),
            Some(settings) => match compile(settings, peers) {
                // Nothing has changed yet, so the pass goes on with what worked before.
                Err(PassError::Input(problems)) => {
                    self.refuse_policy(&problems.to_string(), source)?;
                    compile(policy.base(&self.settings), peers)
                }
                compiled => compiled,
            },
        };
        let (catalog, mut desired) = compiled?;
        desired.warnings.extend(policy.warning);
        Ok((catalog, desired))
    }

    /// The resources that the roles of these settings describe.
    fn compile_roles(
        &self,
        settings: &Settings,
        manifest: Option<&ReadManifest<'_>>,
        (source, options): (ManifestSource, &PassOptions),
        peers: &mut PeerSource<'_>,
    ) -> Result<(Catalog, DesiredState), PassError> {
        let root = self.root_text();
        let mut sources = RoleSources {
            settings,
            facts: &self.facts,
            peers,
            root: &root,
        };
        let expanded = sources.expand(&SecretValues::placeholders(Placeholders::First))?;
        let mut desired = match manifest {
            None => DesiredState::empty(),
            Some(manifest) => {
                let selected = manifest.select(&self.host, &expanded.apps());
                match source {
                    ManifestSource::Store(..) => selected?,
                    ManifestSource::LastGood => selected.unwrap_or_else(|_| DesiredState::empty()),
                }
            }
        };
        desired.environment.clone_from(&self.settings.environment);
        desired.resume_policy = match options.resume_policy() {
            ResumePolicy::Backoff if desired.is_pass_requested => ResumePolicy::Now,
            policy => policy,
        };
        if options.ignore_holds {
            desired.lift_holds();
        }
        let drafted = expanded.resolve(&desired)?;
        let catalog = self.fill_in_secrets(source, drafted, &desired, &mut sources)?;
        Ok((catalog, desired))
    }
}
