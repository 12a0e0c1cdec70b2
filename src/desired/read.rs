//! Reads the manifest for a node, in two steps: first the manifest itself, which names the policy bundle that the roles come
//! from; then, for the apps that those roles name, what it wants of this node.

use jiff::Timestamp;

use super::cache::{self, CachedManifest, ManifestMeta};
use super::node::NodeContext;
use super::select::select_apps;
use super::signature::{self, Verification};
use super::state::{DesiredState, Freshness};
use super::{Manifest, WantedPolicy, generation};
use crate::ports::Host;
use crate::ports::root::RootError;
use crate::ports::store::{GetOutcome, Object, Store, StoreError};
use crate::problem::Problem;

/// Why there is no desired state at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DesiredError {
    /// There is no last good manifest either, so nothing may be changed.
    #[error(transparent)]
    Refused(Box<Problem>),
    #[error("{0}; this host has no last good manifest yet, so nothing was changed")]
    NeverReached(StoreError),
    #[error(transparent)]
    Cache(#[from] RootError),
}

/// How the store is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadOptions {
    /// Reads unconditionally, ignoring the cache.
    pub force: bool,
    /// Saves a good manifest as the last good one, because the pass is about to act on it.
    pub save_last_good: bool,
}

/// The manifest that a pass goes by, before its apps are known.
pub(crate) struct ReadManifest<'a> {
    name: String,
    node: NodeContext<'a>,
    manifest: Manifest,
    source: Source,
    /// An operator asked for a pass of every host since the last manifest that this host acted on.
    is_pass_requested: bool,
}

/// Where the manifest comes from.
enum Source {
    /// It is the last good one.
    LastGood(Freshness),
    /// The store has a new one. It is not the last good one before its entries for this node are known to be right.
    New {
        object: Object,
        accepted_at: Timestamp,
        saves: bool,
        last_good: Box<Option<LastGood>>,
    },
}

/// Reads the manifest `key`, at the cost of one conditional request if nothing is new.
pub(crate) fn fetch<'a>(
    store: &dyn Store,
    key: &str,
    options: ReadOptions,
    host: &Host,
    node: &NodeContext<'a>,
) -> Result<ReadManifest<'a>, DesiredError> {
    let name = format!("{}/{key}", store.address());
    let last_good = LastGood::load(&name, host, node);
    let known = last_good
        .as_ref()
        .filter(|last_good| last_good.manifest.is_ok() && !options.force)
        .and_then(|last_good| last_good.meta.etag.as_ref());
    let answer = store.get(key, known);
    // Whether a hold is over: all hosts have to agree on it, and their clocks may not.
    let node = NodeContext {
        now: match &answer {
            Ok(_) => store.server_time().unwrap_or(node.now),
            Err(_) => node.now,
        },
        ..node.clone()
    };
    // By the same clock as signatures are judged.
    let accepted_at = node.now;
    match answer {
        Ok(GetOutcome::Unchanged) => {
            let last_good = last_good.expect("only a last good manifest can be unchanged");
            last_good.read(name, node, Freshness::Fresh)
        }
        Ok(GetOutcome::Object(object)) => {
            match parse_and_check(&name, &object.body, last_good.as_ref(), &node) {
                Ok(manifest) => {
                    let requested = manifest.passes_requested_at(node.environment);
                    let before = last_good.as_ref().and_then(|known| {
                        let known = known.manifest.as_ref().ok()?;
                        known.passes_requested_at(node.environment)
                    });
                    Ok(ReadManifest {
                        name,
                        node,
                        manifest,
                        is_pass_requested: requested.is_some() && requested != before,
                        source: Source::New {
                            object,
                            accepted_at,
                            saves: options.save_last_good,
                            last_good: Box::new(last_good),
                        },
                    })
                }
                Err(problem) => last_good_or_refuse(problem, last_good, name, node),
            }
        }
        Ok(GetOutcome::Missing) => {
            let problem = Problem::new(format!(
                "there is no manifest `{key}` in {}",
                store.address()
            ))
            .hint("`trueup publish ENV APP=SHA --create` makes the first one");
            // Whether it existed before or never did: its absence is not an instruction to want nothing.
            last_good_or_refuse(problem, last_good, name, node)
        }
        Err(StoreError::TooLarge { limit, .. }) => {
            let problem = Problem::new(format!("{name} is larger than {limit} bytes"));
            last_good_or_refuse(problem, last_good, name, node)
        }
        Err(error) => match last_good {
            Some(last_good) => {
                let since = node.last_answer.or(Some(last_good.meta.taken));
                let why = error.to_string();
                last_good.read(name, node, Freshness::Stale { since, why })
            }
            None => Err(DesiredError::NeverReached(error)),
        },
    }
}

/// The last good manifest, without contacting the store. `None`: there is none.
pub(crate) fn last_known<'a>(
    name: &str,
    host: &Host,
    node: &NodeContext<'a>,
) -> Option<ReadManifest<'a>> {
    let last_good = LastGood::load(name, host, node)?;
    let read = last_good.read(name.to_owned(), node.clone(), Freshness::Fresh);
    read.ok()
}

/// Both steps at once.
#[cfg(test)]
pub(crate) fn read(
    store: &dyn Store,
    key: &str,
    options: ReadOptions,
    host: &Host,
    (node, apps): (&NodeContext<'_>, &[String]),
) -> Result<DesiredState, DesiredError> {
    fetch(store, key, options, host, node)?.select(host, apps)
}

impl ReadManifest<'_> {
    /// The policy bundle that it wants of this node.
    pub(crate) fn policy(&self) -> Option<WantedPolicy> {
        let environment = self.manifest.environments.get(self.node.environment)?;
        environment.wanted_policy(self.node.tags, self.node.now)
    }

    /// Whether the store does not answer in this pass.
    pub(crate) fn is_stale(&self) -> bool {
        matches!(&self.source, Source::LastGood(Freshness::Stale { .. }))
    }

    pub(crate) fn generation(&self) -> Option<u64> {
        self.manifest.generation_of(self.node.environment)
    }

    /// What it wants of a node with these apps. Saves it as the last good one if it is new.
    pub(crate) fn select(
        &self,
        host: &Host,
        apps: &[String],
    ) -> Result<DesiredState, DesiredError> {
        let (name, node) = (&self.name, &self.node);
        match &self.source {
            Source::LastGood(freshness) => {
                let freshness = freshness.clone();
                let selected = select_apps(&self.manifest, name, node, apps, freshness);
                selected.map_err(|problem| DesiredError::Refused(Box::new(problem)))
            }
            Source::New {
                object,
                accepted_at,
                saves,
                last_good,
            } => match select_apps(&self.manifest, name, node, apps, Freshness::Fresh) {
                Ok(mut desired) => {
                    desired.is_pass_requested = self.is_pass_requested;
                    if *saves {
                        let accepted = cache::Accepted {
                            environment: node.environment,
                            generation: self.manifest.generation_of(node.environment),
                            at: *accepted_at,
                        };
                        cache::save(host, object, accepted)?;
                    }
                    Ok(desired)
                }
                Err(problem) => {
                    let (name, node) = (name.clone(), node.clone());
                    last_good_or_refuse(problem, (**last_good).clone(), name, node)?
                        .select(host, apps)
                }
            },
        }
    }
}

/// The last good manifest.
#[derive(Clone)]
struct LastGood {
    meta: ManifestMeta,
    /// An error if no signer whom this host has now has signed it.
    manifest: Result<Manifest, Problem>,
    body: Vec<u8>,
}

impl LastGood {
    fn load(name: &str, host: &Host, node: &NodeContext<'_>) -> Option<LastGood> {
        let CachedManifest { body, meta } = cache::load(host, node.environment)?;
        // A key that has expired since signed it in time.
        let manifest = trusted_manifest(name, &body, node, meta.taken, None);
        Some(LastGood {
            meta,
            manifest,
            body,
        })
    }

    fn read(
        self,
        name: String,
        node: NodeContext<'_>,
        freshness: Freshness,
    ) -> Result<ReadManifest<'_>, DesiredError> {
        let refuse = |problem| DesiredError::Refused(Box::new(problem));
        Ok(ReadManifest {
            manifest: self.manifest.map_err(refuse)?,
            name,
            node,
            source: Source::LastGood(freshness),
            is_pass_requested: false,
        })
    }
}

/// The manifest that a text stands for, taken at this time; with signers, what one of them has signed of it.
fn trusted_manifest(
    name: &str,
    body: &[u8],
    node: &NodeContext<'_>,
    at: Timestamp,
    location: Option<&str>,
) -> Result<Manifest, Problem> {
    match node.signers {
        None => Manifest::parse(name, body),
        Some(signers) => {
            let verification = Verification {
                signers,
                at,
                location,
            };
            signature::verified_manifest(name, body, node.environment, verification)
        }
    }
}

/// The new manifest, if it may be acted on.
fn parse_and_check(
    name: &str,
    body: &[u8],
    last_good: Option<&LastGood>,
    node: &NodeContext<'_>,
) -> Result<Manifest, Problem> {
    // Hosts without signers need no signed lines.
    let same_lines = node.signers.and(last_good).map(|known| {
        let lines = |body| signature::signed_lines(name, body, node.environment).ok();
        lines(&known.body).is_some_and(|known| lines(body) == Some(known))
    });
    // What was taken while its key was valid stays, whatever else of the manifest is new.
    let at = match (last_good, same_lines) {
        (Some(known), Some(true)) => known.meta.taken.min(node.now),
        _ => node.now,
    };
    let manifest = trusted_manifest(name, body, node, at, Some(name))?;
    // A mistake in the settings hides the generation that stands there.
    if let Some(environment) = manifest.environments.get(node.environment)
        && let Err(problem) = &environment.settings
    {
        return Err(problem.clone());
    }
    let generation = manifest.generation_of(node.environment);
    let acted_on = last_good.and_then(|known| known.meta.generation);
    if generation == acted_on && same_lines == Some(false) {
        let number = generation.unwrap_or_default();
        return Err(Problem::new(format!(
            "it is {number}, and this host has applied another {number}: an older manifest was published again"
        ))
        .at(manifest.generation_location(node.environment))
        .field("generation")
        .hint("compare `trueup history` with what people remember, and publish once more"));
    }
    if let Some(why) = generation::refusal_reason(generation, acted_on) {
        return Err(Problem::new(why)
            .at(manifest.generation_location(node.environment))
            .field("generation")
            .hint(generation::refusal_hint(generation, acted_on)));
    }
    Ok(manifest)
}

fn last_good_or_refuse(
    problem: Problem,
    last_good: Option<LastGood>,
    name: String,
    node: NodeContext<'_>,
) -> Result<ReadManifest<'_>, DesiredError> {
    match last_good {
        Some(last_good) if last_good.manifest.is_ok() => {
            last_good.read(name, node, Freshness::Refused(Box::new(problem)))
        }
        _ => Err(DesiredError::Refused(Box::new(problem))),
    }
}
