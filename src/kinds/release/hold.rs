//! What keeps an app where it is, in words: a hold of the manifest, a pin of this host.

use crate::desired::Sha;
use crate::release::{Pin, ReleaseSpec};
use crate::resource::{Change, FieldValue, Verb};

/// The field in which a change says that it waits, and for what.
const HOLD_FIELD: &str = "hold";

/// A pin is told in every pass: green never hides that the manifest wants something else.
pub(super) fn pinned_change(spec: &ReleaseSpec, active: Option<&Sha>, pin: &Pin) -> Change {
    Change::new(Verb::Deploy)
        .with_field(
            "sha",
            FieldValue::from_option(active),
            FieldValue::from_option(spec.wanted.as_ref()),
        )
        .with_field(
            HOLD_FIELD,
            FieldValue::Absent,
            FieldValue::value(pin.describe()),
        )
}

/// What a change waits for, if it does.
pub(super) fn hold_reason(change: &Change) -> Option<String> {
    let hold = change
        .fields
        .iter()
        .find(|field| field.field == HOLD_FIELD)?;
    match &hold.to {
        FieldValue::Value(words) => Some(words.clone()),
        _ => None,
    }
}
