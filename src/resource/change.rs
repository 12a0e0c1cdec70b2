//! What differs, field by field: shown by `plan`, made so by `apply`, kept in the report.

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
    /// A release ahead of its time; nothing is activated.
    Build,
    /// What was activated has to show that it works.
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

/// One side of a field's change, as people may see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldValue {
    Absent,
    /// A short value.
    Value(String),
    /// A text of lines, shown as a unified diff against the other side.
    Text(String),
    /// A content that must not be shown. Two secrets that differ look alike on purpose.
    Secret,
    /// Not known before something else has happened: "unknown until …".
    Unknown(String),
}

impl FieldValue {
    pub fn value(value: impl ToString) -> FieldValue {
        FieldValue::Value(value.to_string())
    }

    /// `value`, or absent.
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

/// What has to change about one resource. Never without a reason: `fields` says what differs.
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

    /// An update of these fields, if there are any.
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

    /// Whether nothing but owner, group and mode changes.
    pub fn is_access_only(&self) -> bool {
        let access = |field: &FieldChange| matches!(&*field.field, "owner" | "group" | "mode");
        self.verb == Verb::Update && self.fields.iter().all(access)
    }

    /// Whether it is not to be made now, because of a decision of the gate or of an operator.
    pub fn is_withheld(&self) -> bool {
        ["quarantine", "hold", "masked"]
            .iter()
            .any(|field| self.touches(field))
    }

    /// Whether this field is among what changes.
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

    /// A change of a short value, if there is one.
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
