//! Builds and publishes this host's record for its peers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::apps::{DeployedApp, deployed_apps};
use super::{PassError, Session};
use crate::desired::POLICY_APP;
use crate::fleet::{
    self, AppRecord, LastPass, NodeRecord, PublishOutcome, RecordPublisher, ServingState, VERSION,
    is_plain_value, machine_id,
};
use crate::release;
use crate::report::{History, Report};
use crate::resource::one_line;
use crate::role::Catalog;
use crate::secrets;

/// Maximum number of published addresses.
const MAX_ADDRESSES: usize = 16;

impl Session {
    /// Publishes the host's record if it changed or a heartbeat is due. Returns lines for the report.
    pub(super) fn publish_record(&self, report: &Report, catalog: &Catalog) -> PublishOutcome {
        // A store that did not answer during this pass would only cost another timeout.
        let (None, Some(publisher)) = (&report.stale, self.publisher()) else {
            return PublishOutcome::default();
        };
        let mut outcome = publisher.publish(self.build_record(report, catalog));
        for (key, value) in self.settings.tags.iter().filter(|tag| !is_publishable(tag)) {
            outcome.report_lines.push(format!(
                "the tag `{key}: {value}` is not published: only letters, digits and `. _ : / @ + , = -` are allowed"
            ));
        }
        outcome
    }

    /// Publishes a heartbeat before a pass that may take long.
    pub(super) fn send_heartbeat(&self) {
        if let Some(publisher) = self.publisher() {
            publisher.send_heartbeat();
        }
    }

    /// Why the last pass failed to publish this host's record.
    pub(super) fn publish_error(&self) -> Option<String> {
        if !self.settings.fleet.publish {
            return None;
        }
        fleet::publish_error(&self.host, &self.settings.environment, self.node())
    }

    /// The publisher of the record, unless the settings disable publishing.
    pub(super) fn publisher(&self) -> Option<RecordPublisher<'_>> {
        let store = match self.settings.fleet.publish {
            true => &**self.shared_store().ok()?,
            false => return None,
        };
        Some(RecordPublisher {
            host: &self.host,
            store,
            store_name: &self.settings.store.url,
            fleet: &self.settings.fleet,
            store_returned: History::new(&self.host)
                .last()
                .is_some_and(|last| !last.store_had_answered()),
        })
    }

    /// Publishes that no pass could run.
    pub(super) fn publish_failure(&self, error: &PassError) {
        match error {
            // The record would not reach the store, or the error says nothing about this host.
            PassError::Store(_) | PassError::NoPeerList(_) | PassError::NoManifest(_) => return,
            PassError::Usage(_) | PassError::Locked { .. } | PassError::ForeignLock(_) => return,
            PassError::Input(_)
            | PassError::PeerList(_)
            | PassError::NoPolicy(_)
            | PassError::Root(_)
            | PassError::LiftQuarantine(_) => {}
        }
        let Some(publisher) = self.publisher() else {
            return;
        };
        let why = error.to_string();
        let pass = LastPass {
            at: self.host.clock.now(),
            outcome: error.exit(),
            why: Some(one_line(&why)),
        };
        let machine = machine_id(&self.host);
        let environment = &self.settings.environment;
        publisher.republish(self.node(), environment, machine.as_deref(), pass);
    }

    fn build_record(&self, report: &Report, catalog: &Catalog) -> NodeRecord {
        let fleet = &self.settings.fleet;
        let apps = deployed_apps(catalog).map(|app| {
            let row = report.app(&app.spec.app);
            (app.spec.app.clone(), self.app_record(app, row))
        });
        let mut apps: BTreeMap<String, AppRecord> = apps.collect();
        let policy = report.policy.as_ref();
        apps.extend(policy.map(|policy| (POLICY_APP.to_owned(), self.policy_record(policy))));
        let mut ports = catalog.ports.clone();
        ports.extend(fleet.ports.clone());
        let addresses = match fleet.addresses.as_slice() {
            [] => self.reachable_addresses(),
            given => given.to_vec(),
        };
        let tags = self.settings.tags.iter().filter(is_publishable);
        NodeRecord {
            version: VERSION,
            node: self.node().to_owned(),
            environment: self.settings.environment.clone(),
            machine_id: machine_id(&self.host),
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            roles: self.settings.roles.clone(),
            tags: tags
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            addresses,
            ports,
            apps,
            takes_policy: self.settings.signers.is_some(),
            generation: report.generation,
            rollouts: self.may_take_part_in_rollouts(catalog),
            last_pass: LastPass {
                at: report.started,
                outcome: report.outcome,
                why: report.why(),
            },
            recipient: self.recipient(),
            heartbeat_s: fleet.heartbeat.map(|seconds| seconds.0.as_secs()),
        }
    }

    /// The public key that this host decrypts secrets with.
    fn recipient(&self) -> Option<String> {
        let identity = self.settings.secrets.identity.as_deref();
        let key = secrets::host_recipient(&self.host.root, identity)?;
        Some(key.line())
    }

    pub(super) fn app_record(
        &self,
        app: DeployedApp<'_>,
        row: Option<&crate::report::AppReport>,
    ) -> AppRecord {
        let spec = app.spec;
        let active = release::active(&self.host, &spec.layout(), spec.keep_releases);
        let active = active.ok().flatten();
        let state = match &active {
            None => ServingState::Absent,
            Some(active) if active.trial.is_some() => ServingState::OnTrial,
            Some(active) => match active.state {
                Some(release::ReleaseStatus::Bad) => ServingState::Bad,
                // A release that another tool deployed has no state, but serves as it did before.
                Some(release::ReleaseStatus::Good) | None if active.sha.is_some() => {
                    ServingState::Serving
                }
                _ => ServingState::Unknown,
            },
        };
        let overrides = release::Overrides::load(&self.host, &spec.layout());
        let is_pinned = overrides
            .is_ok_and(|overrides| overrides.effective_pin(spec.wanted.as_ref()).is_some());
        AppRecord {
            wanted: row
                .and_then(|row| row.wanted.as_deref())
                .and_then(|sha| crate::desired::Sha::parse(sha).ok()),
            pinned: is_pinned,
            served: active.as_ref().is_some_and(|active| active.served_before),
            outcome: row.and_then(|row| row.state.outcome()),
            since: active.as_ref().map(|active| active.since),
            actual: active.and_then(|active| active.sha_for(spec.wanted.as_ref()).cloned()),
            state,
            why: row.and_then(|row| row.why.clone()),
        }
    }

    /// All addresses, by interface.
    fn interfaces(&self) -> BTreeMap<String, Vec<IpAddr>> {
        let found = self.facts.at_path("network.interfaces");
        let interfaces = found.and_then(|found| serde_json::from_value(found.clone()).ok());
        interfaces.unwrap_or_default()
    }

    /// All addresses of this host, to recognize it in a peer list.
    pub(super) fn own_addresses(&self) -> Vec<IpAddr> {
        let configured = self.settings.fleet.addresses.iter().copied();
        let all = self.interfaces().into_values().flatten();
        all.chain(configured).collect()
    }

    /// Addresses at which peers can presumably reach this host, the best first.
    fn reachable_addresses(&self) -> Vec<IpAddr> {
        let found = self.facts.at_path("network.addresses");
        let all = found.and_then(|found| serde_json::from_value(found.clone()).ok());
        let mut all: Vec<IpAddr> = all.unwrap_or_default();
        all.retain(|ip| crate::settings::is_host_address(*ip));
        all.dedup();
        all.truncate(MAX_ADDRESSES);
        all
    }
}

fn is_publishable((key, value): &(&String, &String)) -> bool {
    crate::settings::is_name(key) && is_plain_value(value)
}
