//! The `schema` of a role: what values its parameters, and the settings of its items, may have.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::problem::{Problem, one_of};
use crate::resource::{Mode, Seconds, Size, check_variable_name};
use crate::yaml::{self, Node, NodeKind, Style};

/// What the values of a parameter may be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct ValueSchema {
    /// The type of its values. A number in quotes counts as a number.
    #[serde(default, rename = "type")]
    pub value_type: ValueType,
    /// The smallest number, for `integer` and `port`.
    pub min: Option<i64>,
    /// The largest number, for `integer` and `port`.
    pub max: Option<i64>,
    /// The only texts that it may be.
    #[serde(default)]
    pub one_of: Vec<String>,
    /// Whether it must have a value. Otherwise `null` means that it is not set, whatever its type.
    #[serde(default)]
    pub required: bool,
    /// For people: errors and `trueup roles show` print its first sentence. The comment above the parameter when not
    /// given.
    #[serde(default)]
    pub description: String,
}

/// The type of a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(crate) enum ValueType {
    #[default]
    Any,
    Text,
    Integer,
    Boolean,
    List,
    Map,
    /// A map of environment variables.
    Environment,
    Duration,
    Size,
    Port,
    Path,
    Mode,
}

impl ValueType {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            ValueType::Any => "any",
            ValueType::Text => "text",
            ValueType::Integer => "integer",
            ValueType::Boolean => "boolean",
            ValueType::List => "list",
            ValueType::Map => "map",
            ValueType::Environment => "environment",
            ValueType::Duration => "duration",
            ValueType::Size => "size",
            ValueType::Port => "port",
            ValueType::Path => "path",
            ValueType::Mode => "mode",
        }
    }

    fn is_number(self) -> bool {
        matches!(self, ValueType::Integer | ValueType::Port)
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The schemas of a role, by parameter, or as `app.port` by setting of an item.
pub(super) type RoleSchema = BTreeMap<String, ValueSchema>;

impl ValueSchema {
    /// Checks what its own types cannot express.
    pub(super) fn validate(&self) -> Result<(), Problem> {
        if (self.min.is_some() || self.max.is_some()) && !self.value_type.is_number() {
            return Err(Problem::new(format!(
                "`min` and `max` are for the types `integer` and `port`, not for `{}`",
                self.value_type
            )));
        }
        if !self.one_of.is_empty() && !matches!(self.value_type, ValueType::Any | ValueType::Text) {
            return Err(Problem::new(format!(
                "`one_of` is for the type `text`, not for `{}`",
                self.value_type
            )));
        }
        match (self.min, self.max) {
            (Some(min), Some(max)) if min > max => Err(Problem::new(format!(
                "`min` ({min}) is larger than `max` ({max})"
            ))),
            _ => Ok(()),
        }
    }

    /// Takes over what another schema of the same parameter says and this one does not.
    pub(super) fn inherit(&mut self, other: &ValueSchema) {
        let only_described = ValueSchema {
            description: self.description.clone(),
            ..ValueSchema::default()
        };
        if *self == only_described {
            let own = std::mem::take(&mut self.description);
            *self = other.clone();
            if !own.is_empty() {
                self.description = own;
            }
        }
    }

    /// The value, with numbers and booleans as such. The problem has the place of the value.
    pub(super) fn check(&self, value: Node) -> Result<Node, Problem> {
        if is_unset(&value) {
            return Ok(value);
        }
        let checked = match self.value_type {
            ValueType::Any => Ok(value),
            ValueType::Integer | ValueType::Port => self.check_number(value),
            ValueType::Boolean => self.check_boolean(value),
            ValueType::List if value.as_list().is_some() => Ok(value),
            ValueType::Map if value.as_map().is_some() => Ok(value),
            ValueType::Environment => self.check_environment(value),
            // May be a secret, in the wrong place.
            ValueType::List | ValueType::Map => Err(self.mismatch(&value, value.kind_name())),
            _ if value.as_text().is_none() => Err(self.mismatch(&value, value.kind_name())),
            ValueType::Text => Ok(value),
            ValueType::Duration => self.check_notation::<Seconds>(value),
            ValueType::Size => self.check_notation::<Size>(value),
            ValueType::Mode => self.check_notation::<Mode>(value),
            ValueType::Path => match value.as_text() {
                Some(text) if text.starts_with('/') => Ok(value),
                _ => Err(self.mismatch(&value, &value.describe())),
            },
        };
        let value = checked.map_err(|problem| self.explain(problem))?;
        let text = value.as_text().unwrap_or_default();
        if self.one_of.is_empty() || self.one_of.iter().any(|known| known == text) {
            return Ok(value);
        }
        let problem = self.mismatch(&value, &value.describe());
        Err(self.explain(problem.suggest(text, self.one_of.iter().map(String::as_str))))
    }

    /// Adds what the value is for, unless the problem has another hint.
    pub(super) fn explain(&self, problem: Problem) -> Problem {
        match first_sentence(&self.description) {
            "" => problem,
            sentence => problem.hint(sentence),
        }
    }

    fn check_number(&self, value: Node) -> Result<Node, Problem> {
        let mut number = value.clone();
        if let NodeKind::Scalar { style, .. } = &mut number.kind
            && *style == Style::Quoted
        {
            *style = Style::Rendered;
        }
        let (min, max) = self.range();
        match yaml::decode::<i64>(&number) {
            Ok(fitting)
                if min.is_none_or(|min| fitting >= min) && max.is_none_or(|max| fitting <= max) =>
            {
                Ok(plain(&value, &fitting))
            }
            _ => Err(self.mismatch(&value, &value.describe())),
        }
    }

    /// Texts by names that every shell can read. A variable with `null` is left out.
    fn check_environment(&self, value: Node) -> Result<Node, Problem> {
        let NodeKind::Map(entries) = &value.kind else {
            return Err(self.mismatch(&value, value.kind_name()));
        };
        let mut variables = Vec::new();
        for entry in entries {
            check_variable_name(&entry.key).map_err(|problem| problem.at(&entry.key_at))?;
            if entry.value.is_null() {
                continue;
            }
            // The value may be a secret.
            if entry.value.as_text().is_none() {
                let found = entry.value.kind_name();
                return Err(Problem::new(format!("expected text, found {found}"))
                    .at(&entry.value.at)
                    .field(&entry.key));
            }
            variables.push(entry.clone());
        }
        Ok(Node {
            kind: NodeKind::Map(variables),
            ..value
        })
    }

    fn check_boolean(&self, value: Node) -> Result<Node, Problem> {
        match yaml::decode::<bool>(&value) {
            Ok(fitting) => Ok(plain(&value, &fitting)),
            Err(_) => {
                let problem = self.mismatch(&value, &value.describe());
                Err(match value.as_text() {
                    Some(text @ ("true" | "false")) => {
                        problem.hint(format!("write `{text}` without quotes"))
                    }
                    _ => problem,
                })
            }
        }
    }

    /// Whether the type can read the value, which stays as written.
    fn check_notation<T: serde::de::DeserializeOwned>(&self, value: Node) -> Result<Node, Problem> {
        match yaml::decode::<T>(&Node::from_json(&value.at, &value.to_json())) {
            Ok(_) => Ok(value),
            Err(problem) => Err(problem),
        }
    }

    fn mismatch(&self, value: &Node, found: &str) -> Problem {
        Problem::new(format!("expected {}, found {found}", self.expected())).at(&value.at)
    }

    fn range(&self) -> (Option<i64>, Option<i64>) {
        match self.value_type {
            ValueType::Port => (self.min.or(Some(1)), self.max.or(Some(65_535))),
            _ => (self.min, self.max),
        }
    }

    /// In words: "a whole number from 1 to 9".
    pub(super) fn expected(&self) -> String {
        if !self.one_of.is_empty() {
            return one_of(&self.one_of);
        }
        let range = match self.range() {
            (Some(min), Some(max)) => format!(" from {min} to {max}"),
            (Some(min), None) => format!(" of at least {min}"),
            (None, Some(max)) => format!(" of at most {max}"),
            (None, None) => String::new(),
        };
        let what = match self.value_type {
            ValueType::Any => "a value",
            ValueType::Text => "text",
            ValueType::Integer => "a whole number",
            ValueType::Boolean => "`true` or `false`",
            ValueType::List => "a list",
            ValueType::Map => "a map",
            ValueType::Environment => "a map of environment variables",
            ValueType::Duration => "a duration",
            ValueType::Size => "a size",
            ValueType::Port => "a port",
            ValueType::Path => "an absolute path",
            ValueType::Mode => "a mode in quotes",
        };
        format!("{what}{range}")
    }
}

/// The first sentence of a description.
pub(crate) fn first_sentence(description: &str) -> &str {
    match description.find(". ") {
        Some(end) => &description[..=end],
        None => description,
    }
}

/// Whether a value stands for "not set": `null`, or a template that rendered to nothing.
pub(super) fn is_unset(value: &Node) -> bool {
    let is_empty =
        matches!(&value.kind, NodeKind::Scalar { text, style: Style::Rendered } if text.is_empty());
    value.is_null() || is_empty
}

/// A plain scalar in the place of another value.
fn plain(value: &Node, scalar: &dyn fmt::Display) -> Node {
    Node {
        kind: NodeKind::Scalar {
            text: scalar.to_string(),
            style: Style::Plain,
        },
        ..value.clone()
    }
}
