//! What keeps an app where it is, in words: a hold of the manifest, a pin of this host.

use crate::desired::Sha;
use crate::release::{Pin, Spec};
use crate::resource::{Change, Shown, Verb};

/// The field in which a change says that it waits, and for what.
const FIELD: &str = "hold";

/// A pin is told in every pass: green never hides that the manifest wants something else.
pub(super) fn pinned(spec: &Spec, active: Option<&Sha>, pin: &Pin) -> Change {
    Change::new(Verb::Deploy)
        .with(
            "sha",
            Shown::maybe(active),
            Shown::maybe(spec.wanted.as_ref()),
        )
        .with(FIELD, Shown::Absent, Shown::value(pin.words()))
}

/// What a change waits for, if it does.
pub(super) fn said(change: &Change) -> Option<String> {
    let hold = change.fields.iter().find(|field| field.field == FIELD)?;
    match &hold.to {
        Shown::Value(words) => Some(words.clone()),
        _ => None,
    }
}
