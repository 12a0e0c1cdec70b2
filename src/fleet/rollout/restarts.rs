//! Rolling restarts: which hosts have carried out the last one that an operator asked for in the manifest. The restarts
//! themselves are permitted by slots, like those for a changed configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::host_rollout::HostRollout;
use super::journal::JournalStore;
use super::object::RolloutError;
use super::objects::StoreObjects;
use crate::fleet::{record_key, records_prefix};
use crate::ports::store::WriteCondition;

/// How far a rolling restart is.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RestartProgress {
    pub requested_at: Timestamp,
    /// The nodes that have carried it out.
    pub restarted: Vec<String>,
    pub pending: Vec<String>,
    /// Those of `pending` that were not heard of for two heartbeats.
    pub silent: Vec<String>,
    /// When the last node carried it out, by the store's clock.
    pub last_restart: Option<Timestamp>,
}

impl StoreObjects<'_> {
    fn restart_prefix(&self, requested_at: Timestamp) -> String {
        let StoreObjects { context, app, .. } = self;
        let second = requested_at.as_second();
        format!("at/{}/{app}/restart-{second}/", context.environment)
    }

    /// How far a restart is. `nodes`: those that are proven at the wanted sha. One request for every 1,000 nodes, and
    /// another one while it is under way.
    pub(crate) fn restart_progress(
        &self,
        requested_at: Timestamp,
        nodes: &[String],
    ) -> Result<RestartProgress, RolloutError> {
        let prefix = self.restart_prefix(requested_at);
        let listed = self.store.list(&prefix)?;
        let marked = listed
            .iter()
            .filter_map(|object| object.key.strip_prefix(&prefix));
        let marked: BTreeSet<&str> = marked.collect();
        // Whoever may write in the store may have written other keys there.
        let (restarted, mut pending): (Vec<String>, Vec<String>) = nodes
            .iter()
            .cloned()
            .partition(|node| marked.contains(node.as_str()));
        let mut silent = Vec::new();
        if !pending.is_empty() {
            // Of a node that was forgotten only its marks are left.
            let environment = self.context.environment;
            let records = self.store.list(&records_prefix(environment))?;
            let records = records.iter().map(|object| (&*object.key, object.modified));
            let heard_at: BTreeMap<&str, Timestamp> = records.collect();
            let heard_of = |node: &String| heard_at.get(&*record_key(environment, node)).copied();
            pending.retain(|node| heard_of(node).is_some());
            let (now, limit) = (self.store.server_time(), self.context.fleet.heartbeat() * 2);
            let silence =
                |node: &String| Duration::try_from(now?.duration_since(heard_of(node)?)).ok();
            let is_silent = |node: &&String| silence(node).is_some_and(|silence| silence >= limit);
            silent = pending.iter().filter(is_silent).cloned().collect();
        }
        Ok(RestartProgress {
            requested_at,
            restarted,
            pending,
            silent,
            last_restart: listed.iter().map(|object| object.modified).max(),
        })
    }
}

impl HostRollout {
    /// Says that the services of this host were started since a restart was asked for, once they were: `has_restarted`.
    /// A host that holds a slot has not proven them yet: it says so in a later pass.
    pub(crate) fn mark_restart(
        &self,
        requested_at: Timestamp,
        has_restarted: &dyn Fn() -> bool,
    ) -> Result<(), RolloutError> {
        self.with(|participant| {
            let mut journal = participant.journals.load()?;
            let is_marked = journal.restarted == Some(requested_at);
            if is_marked || journal.slot.is_some() || !has_restarted() {
                return Ok(());
            }
            let objects = participant.store;
            let key = |at| format!("{}{}", objects.restart_prefix(at), self.host.member.node);
            if let Some(old) = journal.restarted {
                objects.store.delete(&key(old))?;
            }
            let new = key(requested_at);
            objects.store.put(&new, b"", WriteCondition::Always)?;
            journal.restarted = Some(requested_at);
            participant.journals.save(&journal)
        })
    }
}
