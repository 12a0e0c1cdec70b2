//! What to do about text that is no YAML, or is another value than was meant. The scanner only names what it met.

use super::node::{Node, NodeKind, PlainScalar, Style};

/// The remedy of an error of the scanner, by a part of its message.
const SCAN_HINTS: &[(&str, &str)] = &[
    (
        "quoted scalar, found unexpected end of stream",
        "a quote is opened here and never closed",
    ),
    (
        "found unknown escape character",
        "in double quotes a backslash begins an escape: write `\\\\`, or use single quotes",
    ),
    (
        "mapping values are not allowed",
        "quote a value that contains `: `; and write `key: value`, with the colon, on the line above",
    ),
    (
        "block mapping, did not find expected key",
        "check the indentation: the keys of one map, and the `-` of one list, begin in the same column",
    ),
    (
        "block collection, did not find expected '-'",
        "check the indentation: the `-` of one list begin in the same column",
    ),
    (
        "while parsing a flow mapping",
        "separate the entries between `{` and `}` by commas, close the brace, and quote a value that contains `: `",
    ),
    (
        "while parsing a flow sequence",
        "separate the items between `[` and `]` by commas, and close the bracket",
    ),
    (
        "did not find expected node content",
        "a bracket or brace is opened and never closed, or a value is missing",
    ),
    (
        "unexpected character",
        "quote a value that begins with this character",
    ),
    (
        "found unknown anchor",
        "quote a value that begins with `*`: without quotes it refers to an anchor",
    ),
    (
        "invalid trailing content after",
        "put the whole value into one pair of quotes",
    ),
];

/// What to do about an error of the scanner.
pub(super) fn scan_hint(message: &str) -> Option<&'static str> {
    let hint = SCAN_HINTS.iter().find(|(part, _)| message.contains(part));
    hint.map(|(_, hint)| *hint)
}

/// For a map or a list in the place of a key.
pub(super) const KEY_HINT: &str =
    "quote a value that begins with `{` or `[`: `\"{{ name }}\"` for a template";

/// What to write instead of a value of another type.
pub(super) fn mismatch_hint(expected: &str, found: &Node) -> Option<String> {
    /// Longer ones are shown shortened.
    const LONGEST: usize = 40;
    let NodeKind::Scalar { text, style } = &found.kind else {
        let is_list = matches!(found.kind, NodeKind::List(_));
        return (is_list && expected == "a map")
            .then(|| "write `name: value`, without `- ` or brackets".to_owned());
    };
    if found.is_null() || text.len() > LONGEST || text.contains('\n') {
        return None;
    }
    let plain = PlainScalar::resolve(text);
    match expected {
        "a list" if *style != Style::Rendered => Some(match style {
            Style::Quoted => format!("write `[\"{text}\"]`"),
            _ => format!("write `[{text}]`"),
        }),
        "`true` or `false`" => match (style, text.to_ascii_lowercase().as_str()) {
            (Style::Quoted, _) if matches!(plain, PlainScalar::Bool(_)) => {
                Some(format!("write `{text}` without quotes"))
            }
            (_, "yes" | "on" | "y") => Some("write `true`".to_owned()),
            (_, "no" | "off" | "n") => Some("write `false`".to_owned()),
            _ => None,
        },
        _ if expected.contains("number") => match (style, plain) {
            (Style::Quoted, PlainScalar::Int(_) | PlainScalar::Float(_)) => {
                Some(format!("write `{text}` without quotes"))
            }
            _ => None,
        },
        "a map" if text.contains(':') => {
            Some("write a space after the colon: `name: value`".to_owned())
        }
        _ => None,
    }
}
