//! The hosts of an app, as their records and the manifest describe them.

use std::time::Duration;

use jiff::Timestamp;

use super::objects::StoreObjects;
use super::store::AppHost;
use crate::desired::{AppEntry, Manifest, POLICY_APP};
use crate::fleet::{NodeRow, ServingState};

/// A host counts as live within so many of its heartbeats.
const LIVE_HEARTBEATS: u32 = 3;

/// No host writes its record more often than it runs passes, whatever its settings say.
const SHORTEST_HEARTBEAT: Duration = Duration::from_secs(20);

impl StoreObjects<'_> {
    pub(super) fn entry_in<'m>(&self, manifest: &'m Manifest) -> Option<&'m AppEntry> {
        let environment = manifest.environments.get(self.context.environment);
        environment.and_then(|environment| environment.entry(self.app)?.ok())
    }

    /// The host that a record describes, if it has the app.
    pub(super) fn app_host(
        &self,
        row: &NodeRow,
        now: Timestamp,
        entry: Option<&AppEntry>,
    ) -> Option<AppHost> {
        let app = row.record.apps.get(self.app);
        // Before its first bundle a host has no record of it, and goes by the roles of the package.
        let takes_policy = self.app == POLICY_APP && row.record.takes_policy;
        if app.is_none() && !takes_policy {
            return None;
        }
        let heartbeat = row.record.heartbeat().unwrap_or(Duration::from_secs(300));
        // The rollout waits for no host that could not tell it how it ended.
        let takes_part = row.record.rollouts != Some(false);
        let serves = app.is_none_or(|app| {
            app.state == ServingState::Serving || (app.state == ServingState::OnTrial && app.served)
        });
        let is_pinned = app.is_some_and(|app| app.pinned);
        Some(AppHost {
            node: row.node.clone(),
            is_live: row.silent_for(now)
                <= heartbeat
                    .max(SHORTEST_HEARTBEAT)
                    .saturating_mul(LIVE_HEARTBEATS),
            serves,
            matches_canary: takes_part
                && self
                    .canary
                    .is_none_or(|canary| canary.hosts.admits(&row.record.tags)),
            wanted: entry
                .filter(|_| takes_part && !is_pinned)
                .map(|entry| entry.sha_for(&row.record.tags, now).clone()),
        })
    }
}
