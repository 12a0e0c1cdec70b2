//! The difference between a resource and its spec, field by field: `plan` shows it, `apply` makes it, the
//! report keeps it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// What a change does to the resource as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    Create,
    Update,
    Remove,
    Run,
    Deploy,
    /// Builds a release ahead without activating it.
    Build,
    /// An active release has to pass its gate.
    Prove,
}

impl std::fmt::Display for Verb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Remove => "remove",
            Verb::Run => "run",
            Verb::Deploy => "deploy",
            Verb::Build => "build",
            Verb::Prove => "prove",
        })
    }
}

/// One side of a field's change, as shown to people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldValue {
    Absent,
    /// A short value.
    Value(String),
    /// Text of several lines, shown as a unified diff against the other side.
    Text(String),
    /// Content that is never shown. Two different secrets look the same on purpose.
    Secret,
    /// Known only after something else has happened: "unknown until …".
    Unknown(String),
}

impl FieldValue {
    pub fn value(value: impl ToString) -> FieldValue {
        FieldValue::Value(value.to_string())
    }

    /// `value`, or [`FieldValue::Absent`].
    pub fn from_option<T: ToString>(value: Option<T>) -> FieldValue {
        value.map_or(FieldValue::Absent, |value| {
            FieldValue::Value(value.to_string())
        })
    }
}

/// The change of one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    pub field: Cow<'static, str>,
    pub from: FieldValue,
    pub to: FieldValue,
}

/// The changes that one resource needs. Never without a reason: `fields` says what differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub verb: Verb,
    pub fields: Vec<FieldChange>,
}

impl Change {
    pub fn new(verb: Verb) -> Change {
        Change {
            verb,
            fields: Vec::new(),
        }
    }

    /// An update of these fields; `None` if there are none.
    pub fn update(fields: Vec<FieldChange>) -> Option<Change> {
        (!fields.is_empty()).then_some(Change {
            verb: Verb::Update,
            fields,
        })
    }

    pub fn with_field(mut self, field: &'static str, from: FieldValue, to: FieldValue) -> Change {
        self.fields.push(FieldChange::new(field, from, to));
        self
    }

    /// Whether only owner, group and mode change.
    pub fn is_access_only(&self) -> bool {
        let access = |field: &FieldChange| matches!(&*field.field, "owner" | "group" | "mode");
        self.verb == Verb::Update && self.fields.iter().all(access)
    }

    /// Whether a decision of the gate or of an operator holds the change back.
    pub fn is_withheld(&self) -> bool {
        ["quarantine", "hold", "masked"]
            .iter()
            .any(|field| self.touches(field))
    }

    /// Whether the change includes this field.
    pub fn touches(&self, field: &str) -> bool {
        self.fields.iter().any(|change| change.field == field)
    }
}

impl FieldChange {
    pub fn new(field: &'static str, from: FieldValue, to: FieldValue) -> FieldChange {
        FieldChange {
            field: Cow::Borrowed(field),
            from,
            to,
        }
    }

    /// The change of a short value; `None` if the two are equal.
    pub fn diff<T: ToString + PartialEq>(
        field: &'static str,
        from: &T,
        to: &T,
    ) -> Option<FieldChange> {
        (from != to).then(|| {
            FieldChange::new(
                field,
                FieldValue::value(from.to_string()),
                FieldValue::value(to.to_string()),
            )
        })
    }
}
