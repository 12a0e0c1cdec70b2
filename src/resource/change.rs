//! The difference between a resource and its spec, field by field: `plan` shows it, `apply` makes it, the
//! report keeps it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// What a change does to the resource as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verb {
    Create,
    Update,
    Remove,
    Run,
    Deploy,
    /// Builds a release ahead without activating it.
    Build,
    /// An active release has to pass its gate.
    Prove,
    /// A release stays for another sha, which changes nothing in it.
    Keep,
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
            Verb::Keep => "keep",
        })
    }
}

/// One side of a field's change, as shown to people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FieldValue {
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
    pub(crate) fn value(value: impl ToString) -> FieldValue {
        FieldValue::Value(value.to_string())
    }

    /// `value`, or [`FieldValue::Absent`].
    pub(crate) fn from_option<T: ToString>(value: Option<T>) -> FieldValue {
        value.map_or(FieldValue::Absent, |value| {
            FieldValue::Value(value.to_string())
        })
    }
}

/// The change of one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FieldChange {
    pub field: Cow<'static, str>,
    pub from: FieldValue,
    pub to: FieldValue,
}

/// The changes that one resource needs. Never without a reason: `fields` says what differs. People read the
/// fields; the stages decide by the rest, which the kind knows when it compares.
#[derive(Debug, Clone, Eq, Serialize, Deserialize)]
pub(crate) struct Change {
    pub verb: Verb,
    pub fields: Vec<FieldChange>,
    /// What keeps a pass from making it.
    #[serde(skip)]
    pub withheld: Option<Withheld>,
    /// Whether it starts or stops a service.
    #[serde(skip)]
    pub sets_running: bool,
    /// Whether it leaves the stamp as it is, so that no dependent has a duty.
    #[serde(skip)]
    pub keeps_stamp: bool,
}

/// Equal if people see the same: a change that was read from an old report has only what they see.
impl PartialEq for Change {
    fn eq(&self, other: &Change) -> bool {
        (self.verb, &self.fields) == (other.verb, &other.fields)
    }
}

/// A decision that keeps trueup from making a change, and its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Withheld {
    /// The sha failed on this host.
    Quarantined(String),
    /// An operator or the manifest wants it as it is: a hold, a pin, a masked unit.
    OnHold(String),
}

impl Change {
    pub(crate) fn new(verb: Verb) -> Change {
        Change {
            verb,
            fields: Vec::new(),
            withheld: None,
            sets_running: false,
            keeps_stamp: false,
        }
    }

    /// An update of these fields; `None` if there are none.
    pub(crate) fn update(fields: Vec<FieldChange>) -> Option<Change> {
        (!fields.is_empty()).then(|| Change::new(Verb::Update).with_fields(fields))
    }

    pub(crate) fn with_field(
        mut self,
        field: &'static str,
        from: FieldValue,
        to: FieldValue,
    ) -> Change {
        self.fields.push(FieldChange::new(field, from, to));
        self
    }

    pub(crate) fn with_fields(mut self, fields: impl IntoIterator<Item = FieldChange>) -> Change {
        self.fields.extend(fields);
        self
    }

    /// A pass does not make it, for this reason.
    pub(crate) fn withheld(mut self, why: Withheld) -> Change {
        self.withheld = Some(why);
        self.keeps_stamp = true;
        self
    }

    /// It leaves the stamp as it is.
    pub(crate) fn keeping_stamp(mut self) -> Change {
        self.keeps_stamp = true;
        self
    }

    /// What it waits for: the reason of a hold.
    pub(crate) fn hold_reason(&self) -> Option<&str> {
        match &self.withheld {
            Some(Withheld::OnHold(why)) => Some(why),
            _ => None,
        }
    }

    /// Whether the change includes this field.
    #[cfg(test)]
    pub(crate) fn touches(&self, field: &str) -> bool {
        self.fields.iter().any(|change| change.field == field)
    }
}

impl FieldChange {
    pub(crate) fn new(field: &'static str, from: FieldValue, to: FieldValue) -> FieldChange {
        FieldChange {
            field: Cow::Borrowed(field),
            from,
            to,
        }
    }

    /// The change of a short value; `None` if the two are equal.
    pub(crate) fn diff<T: ToString + PartialEq>(
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
