//! What the hosts of an environment know of each other: each writes a record of itself into the store,
//! and templates ask for peers with `nodes(…)`.
//!
//! ```text
//! a host's pass ──put──▶ nodes/<env>/<node>.json ──list, get what is new──▶ Seen ──▶ Book ──▶ nodes(…)
//! ```
//!
//! What holds it together:
//!
//! - *Seen is not known.* A record comes from whoever may write in the store. It is typed and bounded
//!   when it is read (`record`); one that is anything but a record is told of, and the last good one of
//!   that node stays.
//! - *The store's clock is the only clock.* A record has no time of its writing in it: the heartbeat is
//!   the object's LastModified, held against the store's own time. So a heartbeat has the content, and
//!   with it the ETag, of the one before, and costs nobody a read.
//! - *A list never collapses* (`peer_list`). An answer that is empty, or much smaller than what was given
//!   within the last hour, is not taken, nor is one of which a part could not be read; the last good one
//!   stays, with what is new, and is shown, until somebody says otherwise.
//! - *A list that could not be held against later is not taken* (`last_good`). Lists that cannot be read are
//!   an error and not "none": else whoever makes them too large to read would end the guard.
//! - *No writer costs a reader more than a fleet does.* More records, or larger ones, than any fleet has are
//!   refused before they are read, and the last good list stays.
//! - *Silence is heard only by who listens* (`liveness`). A node that was listed leaves the list after a
//!   silence in which this host itself had answers of the store.
//! - *Nothing here fails a pass.* A store that does not answer or refuses a record costs a line in the
//!   report, and the pass does not end as if all were well.

mod cache;
mod last_good;
mod liveness;
mod peer;
mod peer_list;
mod peer_source;
mod publisher;
mod record;
mod registry;
#[cfg(test)]
mod tests;
mod view;

pub use cache::RecordCache;
pub use peer::{Peer, Query};
pub use peer_list::{PeerList, QueryResult};
pub use peer_source::{PeerQueryError, PeerSource};
pub use publisher::{PublishOutcome, RecordPublisher, machine_id, publish_error};
pub use record::{AppRecord, AppState, LastPass, MAX_RECORD, Record, VERSION, is_plain_value};
pub use registry::{
    NodeRow, Snapshot, UnreadRecords, forget_node, node_generations, node_silence, take_snapshot,
};
pub use view::{AppView, FleetView, NodeView, fleet_view};

/// The folder of an environment's records in the store.
fn records_prefix(environment: &str) -> String {
    format!("nodes/{environment}/")
}

/// The key of a node's record.
pub fn record_key(environment: &str, node: &str) -> String {
    format!("nodes/{environment}/{node}.json")
}

/// Text from outside as it may be shown: one line, no control characters, not long.
fn sanitize_line(text: &str) -> String {
    const LONGEST: usize = 300;
    let text = crate::printable::line(text.trim());
    let mut line: String = text.chars().take(LONGEST).collect();
    if text.chars().nth(LONGEST).is_some() {
        line.push('…');
    }
    line
}
