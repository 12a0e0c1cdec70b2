//! Merges two layers of settings: maps merge deep, every other value replaces.

use crate::yaml::{Node, NodeKind};

/// Merges `over` into `under`; `over` takes precedence.
pub(crate) fn merge(under: &mut Node, over: Node) {
    match (&mut under.kind, over.kind) {
        (NodeKind::Map(below), NodeKind::Map(above)) => {
            for entry in above {
                match below.iter_mut().find(|known| known.key == entry.key) {
                    Some(known) => merge(&mut known.value, entry.value),
                    None => below.push(entry),
                }
            }
        }
        (_, kind) => {
            under.kind = kind;
            under.at = over.at;
            under.span = over.span;
        }
    }
}
