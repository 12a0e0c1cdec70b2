//! A YAML tree whose nodes keep their place in the text.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::problem::{Location, Problem};

/// The style that a scalar was written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Unquoted: may be null, a boolean or a number.
    Plain,
    /// Quoted or a block: always text.
    Quoted,
    /// The result of a template: text, unless the type wants a number or a boolean.
    Rendered,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub key: String,
    pub key_at: Location,
    /// Byte offset of the key in the parsed text.
    pub key_start: usize,
    pub value: Node,
}

#[derive(Debug, Clone, PartialEq)]
pub enum NodeKind {
    Scalar { text: String, style: Style },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub at: Location,
    pub kind: NodeKind,
    /// Its byte range in the parsed text.
    pub span: Range<usize>,
}

impl Node {
    /// Creates a node that was not parsed, at the place of the node that it comes from.
    pub fn synthetic(at: &Location, kind: NodeKind) -> Node {
        Node {
            at: at.clone(),
            kind,
            span: 0..0,
        }
    }

    pub fn text(at: &Location, text: impl Into<String>) -> Node {
        Node::synthetic(
            at,
            NodeKind::Scalar {
                text: text.into(),
                style: Style::Quoted,
            },
        )
    }

    /// The text of a scalar.
    pub fn as_text(&self) -> Option<&str> {
        match &self.kind {
            NodeKind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(&self.kind, NodeKind::Scalar { text, style: Style::Plain } if is_null(text))
    }

    pub fn as_map(&self) -> Option<&[Entry]> {
        match &self.kind {
            NodeKind::Map(entries) => Some(entries),
            _ => None,
        }
    }

    pub fn as_list(&self) -> Option<&[Node]> {
        match &self.kind {
            NodeKind::List(items) => Some(items),
            _ => None,
        }
    }

    /// The value of a key of this map.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.as_map()?.iter().find(|entry| entry.key == key)
    }

    /// The node at a dotted path such as `apps.shop.files.config/database.yml`, whose keys may contain dots.
    pub fn at_path(&self, path: &str) -> Option<&Node> {
        if path.is_empty() {
            return Some(self);
        }
        self.as_map()?.iter().find_map(|entry| {
            let rest = path.strip_prefix(&entry.key)?;
            match rest.strip_prefix('.') {
                Some(rest) => entry.value.at_path(rest),
                None => rest.is_empty().then_some(&entry.value),
            }
        })
    }

    /// Takes over the places of an equal tree that are in other files.
    pub fn place_like(&mut self, origin: &Node) {
        if self.at.file != origin.at.file && !origin.is_null() {
            self.at = origin.at.clone();
        }
        match (&mut self.kind, &origin.kind) {
            (NodeKind::List(items), NodeKind::List(origins)) => {
                for (item, origin) in items.iter_mut().zip(origins) {
                    item.place_like(origin);
                }
            }
            (NodeKind::Map(entries), NodeKind::Map(origins)) => {
                let origins: BTreeMap<&str, &Entry> = origins
                    .iter()
                    .map(|entry| (entry.key.as_str(), entry))
                    .collect();
                for entry in entries {
                    if let Some(origin) = origins.get(entry.key.as_str()) {
                        entry.key_at = origin.key_at.clone();
                        entry.value.place_like(&origin.value);
                    }
                }
            }
            _ => {}
        }
    }

    /// Sets a key of this map, replacing an existing value. Does nothing on other nodes.
    pub fn set(&mut self, key: &str, value: Node) {
        if let NodeKind::Map(entries) = &mut self.kind {
            match entries.iter_mut().find(|entry| entry.key == key) {
                Some(entry) => entry.value = value,
                None => entries.push(Entry {
                    key: key.into(),
                    key_at: value.at.clone(),
                    key_start: 0,
                    value,
                }),
            }
        }
    }

    /// Keeps only the entries of this map whose key is accepted. Does nothing on other nodes.
    pub fn retain(&mut self, mut accepts: impl FnMut(&str) -> bool) {
        if let NodeKind::Map(entries) = &mut self.kind {
            entries.retain(|entry| accepts(&entry.key));
        }
    }

    /// The entries of this map; an error if this is not a map.
    pub fn expect_map(&self, expected: &str) -> Result<&[Entry], Problem> {
        match &self.kind {
            NodeKind::Map(entries) => Ok(entries),
            _ => Err(self.type_mismatch(expected)),
        }
    }

    /// The items of this list; an error if this is not a list.
    pub fn expect_list(&self, expected: &str) -> Result<&[Node], Problem> {
        match &self.kind {
            NodeKind::List(items) => Ok(items),
            _ => Err(self.type_mismatch(expected)),
        }
    }

    fn type_mismatch(&self, expected: &str) -> Problem {
        Problem::new(format!("expected {expected}, found {}", self.describe())).at(&self.at)
    }

    /// Describes the node in error messages: "the number `755`".
    pub fn describe(&self) -> String {
        match &self.kind {
            NodeKind::List(_) => "a list".into(),
            NodeKind::Map(_) => "a map".into(),
            NodeKind::Scalar { text, style } => {
                let text = shorten(text);
                match (style, PlainScalar::resolve(&text)) {
                    (Style::Plain, PlainScalar::Null) => "nothing".into(),
                    (Style::Plain, PlainScalar::Bool(_)) => format!("`{text}`"),
                    (Style::Plain, PlainScalar::Int(_) | PlainScalar::Float(_)) => {
                        format!("the number `{text}`")
                    }
                    _ => format!("the text `{text}`"),
                }
            }
        }
    }

    /// Names what it is without showing it.
    pub fn kind_name(&self) -> &'static str {
        match &self.kind {
            NodeKind::List(_) => "a list",
            NodeKind::Map(_) => "a map",
            NodeKind::Scalar { .. } => "text",
        }
    }

    /// Converts to plain data, for templates.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value;
        match &self.kind {
            NodeKind::List(items) => Value::Array(items.iter().map(Node::to_json).collect()),
            NodeKind::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.value.to_json()))
                    .collect(),
            ),
            NodeKind::Scalar {
                text,
                style: Style::Plain,
            } => match PlainScalar::resolve(text) {
                PlainScalar::Null => Value::Null,
                PlainScalar::Bool(value) => Value::Bool(value),
                PlainScalar::Int(value) if value.to_string() == *text => Value::from(value),
                PlainScalar::Float(value) => match serde_json::Number::from_f64(value) {
                    Some(number) if number.to_string() == *text => Value::Number(number),
                    _ => Value::String(text.clone()),
                },
                // Text such as `0755` or `1e3` stays as written, so that a template shows it unchanged.
                PlainScalar::Int(_) | PlainScalar::Text => Value::String(text.clone()),
            },
            NodeKind::Scalar { text, .. } => Value::String(text.clone()),
        }
    }

    /// Converts plain data to a node, at the place of the node that asked for it.
    pub fn from_json(at: &Location, value: &serde_json::Value) -> Node {
        use serde_json::Value;
        let plain = |text: String| NodeKind::Scalar {
            text,
            style: Style::Plain,
        };
        let kind = match value {
            Value::Null => plain("null".into()),
            Value::Bool(value) => plain(value.to_string()),
            Value::Number(value) => plain(value.to_string()),
            Value::String(text) => NodeKind::Scalar {
                text: text.clone(),
                style: Style::Quoted,
            },
            Value::Array(items) => {
                NodeKind::List(items.iter().map(|item| Node::from_json(at, item)).collect())
            }
            Value::Object(entries) => NodeKind::Map(
                entries
                    .iter()
                    .map(|(key, value)| Entry {
                        key: key.clone(),
                        key_at: at.clone(),
                        key_start: 0,
                        value: Node::from_json(at, value),
                    })
                    .collect(),
            ),
        };
        Node::synthetic(at, kind)
    }
}

/// Shortens a text for error messages.
pub(super) fn shorten(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() > 60 {
        line.chars().take(57).chain("...".chars()).collect()
    } else {
        line.to_owned()
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// The meaning of a plain scalar in the YAML 1.2 core schema.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum PlainScalar {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text,
}

impl PlainScalar {
    pub(super) fn resolve(text: &str) -> PlainScalar {
        match text {
            _ if is_null(text) => PlainScalar::Null,
            "true" | "True" | "TRUE" => PlainScalar::Bool(true),
            "false" | "False" | "FALSE" => PlainScalar::Bool(false),
            _ => PlainScalar::resolve_number(text),
        }
    }

    fn resolve_number(text: &str) -> PlainScalar {
        if !text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
            return PlainScalar::Text;
        }
        let radix = |prefix, radix| {
            let digits = text.strip_prefix(prefix)?;
            i64::from_str_radix(digits, radix).ok()
        };
        if let Some(value) = radix("0x", 16).or_else(|| radix("0o", 8)) {
            return PlainScalar::Int(value);
        }
        if let Ok(value) = text.parse() {
            return PlainScalar::Int(value);
        }
        let digits = text.trim_start_matches(['+', '-']);
        let numeric = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            && digits.chars().any(|c| c.is_ascii_digit());
        match text.parse() {
            Ok(value) if numeric => PlainScalar::Float(value),
            _ => PlainScalar::Text,
        }
    }
}
