//! Descriptions of what keeps an app at its release: a hold of the manifest, a pin of this host.

use crate::desired::Sha;
use crate::release::{Pin, ReleaseSpec};
use crate::resource::{Change, FieldValue, Verb};

/// The field of a change that holds the reason for waiting.
const HOLD_FIELD: &str = "hold";

/// Reports a pin in every pass, so that a green result never hides that the manifest wants another sha.
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

/// The reason for which a change waits, if it does.
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
