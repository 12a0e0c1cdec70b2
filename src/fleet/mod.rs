//! The node registry: each host of an environment publishes a record of itself in the store, and templates
//! query their peers with `nodes(…)`.
//!
//! ```text
//! a host's pass ──put──▶ nodes/<env>/<node>.json ──list, get changed──▶ Snapshot ──▶ PeerList ──▶ nodes(…)
//! ```
//!
//! Invariants:
//!
//! - *Records are untrusted.* Anyone with write access to the store can write one. The parser types and
//!   bounds every field (`record`); a pass reports an invalid record and keeps the last good one of that
//!   node.
//! - *Only the store's clock counts.* A record contains no time of its writing: the heartbeat is the object's
//!   LastModified, compared with the store's own time. So a heartbeat has the same content, and with it the
//!   same ETag, as the one before, and costs no other host a read.
//! - *A list never collapses* (`peer_list`). The shrink guard refuses an answer that is empty, much smaller
//!   than the largest of the last hour, or of which a part could not be read. The last good list stays, plus
//!   new nodes, and the pass reports it until an operator accepts the answer.
//! - *A list that cannot serve as a later baseline is refused* (`last_good`). Lists that cannot be read are
//!   an error and not "none"; otherwise a writer could disable the guard by making them too large to read.
//! - *No writer costs a reader more than a real fleet does.* A reader refuses more or larger records than any
//!   fleet has before it reads them, and the last good list stays.
//! - *Silence counts only while this host has answers* (`liveness`). A listed node leaves the list after a
//!   silence during which the store answered this host.
//! - *Nothing here fails a pass.* A store that does not answer or refuses a record costs a line in the
//!   report, and the pass does not exit as converged.

mod cache;
mod ec2;
mod last_good;
mod last_published;
mod liveness;
mod peer;
mod peer_list;
mod peer_source;
mod publisher;
pub(crate) mod record;
mod registry;
#[allow(dead_code, reason = "passes do not use it yet")]
pub(crate) mod rollout;
mod snapshot;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use cache::{RecordCache, cached_nodes};
#[cfg(test)]
pub(crate) use ec2::InstanceState;
pub(crate) use ec2::{
    ASK_INTERVAL, Ec2Api, Instance, InstanceView, Instances, list_instances, live_records,
    without_agent,
};
pub(crate) use last_published::publish_error;
pub(crate) use peer::{Peer, Query};
pub(crate) use peer_source::{LoadedPeers, PeerQueryError, PeerSource};
pub(crate) use publisher::{PublishOutcome, RecordPublisher, machine_id};
pub(crate) use record::{
    AppRecord, LastPass, NodeRecord, ServingState, VERSION, WAITS_FOR_SLOT, is_plain_value,
};
pub(crate) use registry::{
    count_records, forget_node, node_generations, node_names, node_record, node_silence,
    recent_nodes,
};
pub(crate) use snapshot::{NodeRow, Snapshot, any_record_besides, take_snapshot};
pub(crate) use view::{AppView, FleetView, NodeView, fleet_view};

/// The key prefix of an environment's records.
fn records_prefix(environment: &str) -> String {
    format!("nodes/{environment}/")
}

pub(crate) fn record_key(environment: &str, node: &str) -> String {
    format!("nodes/{environment}/{node}.json")
}

/// Makes untrusted text safe to print: one line, no control characters, at most 300 characters.
fn sanitize_line(text: &str) -> String {
    const LONGEST: usize = 300;
    let text = crate::printable::line(text.trim());
    let mut line: String = text.chars().take(LONGEST).collect();
    if text.chars().nth(LONGEST).is_some() {
        line.push('…');
    }
    line
}
