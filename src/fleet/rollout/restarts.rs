//! Rolling restarts: which hosts have carried out the last one that an operator asked for in the manifest. The restarts
//! themselves are permitted by slots, like those for a changed configuration.

use std::collections::BTreeSet;

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
        if !pending.is_empty() {
            // Of a node that was forgotten only its marks are left.
            let environment = self.context.environment;
            let records = self.store.list(&records_prefix(environment))?;
            let known: BTreeSet<&str> = records.iter().map(|object| &*object.key).collect();
            pending.retain(|node| known.contains(&*record_key(environment, node)));
        }
        Ok(RestartProgress {
            requested_at,
            restarted,
            pending,
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
            let key = |at| format!("{}{}", objects.restart_prefix(at), self.member.node);
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
