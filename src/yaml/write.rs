//! Rendering of values as YAML text, for edits.

use serde_json::Value;

/// The quotes of a rendered scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QuoteStyle {
    /// No quotes where every reader takes it for the same text, else double quotes.
    AsNeeded,
    Single,
    Double,
}

/// Plain words that some YAML reader does not take for text.
const RESERVED_WORDS: &[&str] = &["y", "n", "yes", "no", "on", "off", "true", "false", "null"];

pub(super) fn is_reserved(text: &str) -> bool {
    RESERVED_WORDS.contains(&text.to_ascii_lowercase().as_str())
}

pub(super) fn render_scalar(value: &Value, quotes: QuoteStyle) -> String {
    let Value::String(text) = value else {
        return value.to_string();
    };
    let printable = !text.chars().any(char::is_control);
    match quotes {
        QuoteStyle::AsNeeded if is_bare(text) => text.clone(),
        QuoteStyle::Single if printable => format!("'{}'", text.replace('\'', "''")),
        // A JSON string is valid YAML.
        _ => value.to_string(),
    }
}

/// Whether a text needs no quotes: a word that starts with a letter or `_`, a full sha, or a time as trueup writes
/// it.
fn is_bare(text: &str) -> bool {
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_./+@".contains(c);
    let word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(safe)
        && !is_reserved(text);
    let sha = text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    word || sha || text.parse::<jiff::Timestamp>().is_ok()
}

fn render_key(key: &str) -> String {
    render_scalar(&Value::from(key), QuoteStyle::AsNeeded)
}

/// Renders `key: value` for a flow map.
pub(super) fn render_flow_entry(name: &str, value: &Value) -> String {
    format!("{}: {}", render_key(name), render_flow(value))
}

/// Renders a value on one line.
pub(super) fn render_flow(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let entries: Vec<String> = map.iter().map(|(k, v)| render_flow_entry(k, v)).collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(render_flow).collect();
            format!("[{}]", items.join(", "))
        }
        value => render_scalar(value, QuoteStyle::AsNeeded),
    }
}

/// Renders the entries of a map as lines, each with its line break in front.
pub(super) fn render_block(value: &Value, indent: usize, newline: &str) -> String {
    let entries = value.as_object().into_iter().flatten();
    entries
        .map(|(name, value)| render_block_entry(name, value, indent, 2, newline))
        .collect()
}

/// Renders an entry as lines, each with its line break in front. Nested lines are indented by `unit` more.
pub(super) fn render_block_entry(
    name: &str,
    value: &Value,
    indent: usize,
    unit: usize,
    newline: &str,
) -> String {
    let head = format!("{newline}{}{}:", " ".repeat(indent), render_key(name));
    match value {
        Value::Object(map) if !map.is_empty() => map.iter().fold(head, |lines, (name, value)| {
            lines + &render_block_entry(name, value, indent + unit, unit, newline)
        }),
        value => format!("{head} {}", render_flow(value)),
    }
}
