//! What a request writes about the hold of an app.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::request::{HoldRequest, PublishRequest};
use crate::desired::{Hold, Sha};
use crate::printable;

impl PublishRequest {
    /// Whether a hold that blocks the published shas is no longer there afterwards.
    pub(super) fn replaces_hold(&self) -> bool {
        self.hold != HoldRequest::Keep
    }

    /// The hold that an app at this sha is to have; `None`: it stays as it is. `before`: the one that it has.
    pub(super) fn hold_of(&self, sha: &Sha, before: Option<&Hold>) -> Option<Hold> {
        match &self.hold {
            HoldRequest::Keep => None,
            HoldRequest::Set { reason, until } => {
                let hold = Hold {
                    sha: Some(sha.clone()),
                    reason: reason.clone(),
                    by: printable::line(self.by.as_deref().unwrap_or("unknown")).into_owned(),
                    until: *until,
                };
                (before != Some(&hold)).then_some(hold)
            }
            // It ends now and stays on record.
            HoldRequest::Lift => {
                let before = before.filter(|hold| hold.is_in_force(self.now))?;
                Some(Hold {
                    until: Some(whole_second(self.now)),
                    ..before.clone()
                })
            }
        }
    }
}

/// The fields of a hold as they are written; `null`: a field that an earlier one may have.
pub(super) fn hold_fields(hold: &Hold) -> [(&'static str, Value); 4] {
    let text = |text: Option<String>| text.map_or(Value::Null, Value::from);
    [
        (
            "sha",
            text(hold.sha.as_ref().map(|sha| sha.as_str().to_owned())),
        ),
        ("reason", text(Some(hold.reason.clone()))),
        ("by", text(Some(hold.by.clone()))),
        ("until", text(hold.until.map(|until| until.to_string()))),
    ]
}

/// A hold where there is none yet.
pub(super) fn new_hold(hold: &Hold) -> Value {
    let fields = hold_fields(hold).into_iter();
    let fields = fields.filter(|(_, value)| !value.is_null());
    Value::Object(
        fields
            .map(|(key, value)| (key.to_owned(), value))
            .collect::<Map<_, _>>(),
    )
}

/// Rounded down.
pub(super) fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
