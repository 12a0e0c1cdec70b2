//! Values as YAML text, for edits.

use serde_json::Value;

/// How a scalar is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quotes {
    /// Bare where every reader takes it for the same text, else in double quotes.
    AsNeeded,
    Single,
    Double,
}

/// Bare words that some reader takes for something other than text.
const WORDS: &[&str] = &["y", "n", "yes", "no", "on", "off", "true", "false", "null"];

pub(super) fn scalar(value: &Value, quotes: Quotes) -> String {
    let Value::String(text) = value else {
        return value.to_string();
    };
    let printable = !text.chars().any(char::is_control);
    match quotes {
        Quotes::AsNeeded if is_bare(text) => text.clone(),
        Quotes::Single if printable => format!("'{}'", text.replace('\'', "''")),
        // A string of JSON is one of YAML.
        _ => value.to_string(),
    }
}

/// A whole word that starts with a letter, a full sha, or a time as trueup writes it.
fn is_bare(text: &str) -> bool {
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_./+@".contains(c);
    let word = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(safe)
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    let sha = text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    word || sha || text.parse::<jiff::Timestamp>().is_ok()
}

fn key(key: &str) -> String {
    scalar(&Value::from(key), Quotes::AsNeeded)
}

/// `key: value` for inside of a flow map.
pub(super) fn flow_entry(name: &str, value: &Value) -> String {
    format!("{}: {}", key(name), flow(value))
}

/// On one line.
pub(super) fn flow(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let entries: Vec<String> = map.iter().map(|(k, v)| flow_entry(k, v)).collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(flow).collect();
            format!("[{}]", items.join(", "))
        }
        value => scalar(value, Quotes::AsNeeded),
    }
}

/// The entries of a map as lines, each with the line break before it.
pub(super) fn block(value: &Value, indent: usize, newline: &str) -> String {
    let entries = value.as_object().into_iter().flatten();
    entries
        .map(|(name, value)| entry(name, value, indent, 2, newline))
        .collect()
}

/// An entry as lines, each with the line break before it. What is in it is indented by `unit` more.
pub(super) fn entry(
    name: &str,
    value: &Value,
    indent: usize,
    unit: usize,
    newline: &str,
) -> String {
    let head = format!("{newline}{}{}:", " ".repeat(indent), key(name));
    match value {
        Value::Object(map) if !map.is_empty() => map.iter().fold(head, |lines, (name, value)| {
            lines + &entry(name, value, indent + unit, unit, newline)
        }),
        value => format!("{head} {}", flow(value)),
    }
}
