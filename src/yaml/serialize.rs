//! New YAML text, written by serde_yaml.

use std::fmt::Write;

use serde_json::Value;

use super::write::is_reserved;
use crate::printable::is_unprintable;

/// What serde_yaml writes in place of each text that [`needs_quotes`], followed by a number that makes it a
/// key of its own in a map. serde_yaml itself offers no choice of quotes.
const STAND_IN: &str = "quoted-text-";

/// serde_yaml writes longer keys on a line of their own: readers take no long ones before a colon.
const LONG_KEY: usize = 128;

/// Serialises data as one document in block style, with a line break at its end. Every reader gets the same
/// texts back, and a terminal shows the document instead of interpreting it.
pub(crate) fn serialize(value: Value) -> String {
    let mut quoted = Vec::new();
    let value = take_quoted(value, &mut quoted);
    let document = serde_yaml::to_string(&value).expect("plain data is always YAML");
    // Only stand-ins contain the word, and serde_yaml writes them in the order in which they were taken.
    let mut pieces = document.split(STAND_IN);
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for (quoted, piece) in quoted.iter().zip(pieces) {
        text.push_str(quoted);
        text.push_str(piece.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    text
}

/// Replaces each text that [`needs_quotes`] by a stand-in, and adds it to `quoted`.
fn take_quoted(value: Value, quoted: &mut Vec<String>) -> Value {
    match value {
        Value::String(text) => Value::String(take_text(text, quoted)),
        Value::Array(items) => {
            let items = items.into_iter().map(|item| take_quoted(item, quoted));
            items.collect()
        }
        Value::Object(entries) => {
            let entries = entries.into_iter().map(|(key, value)| {
                let key = take_text(key, quoted);
                (key, take_quoted(value, quoted))
            });
            entries.collect()
        }
        value => value,
    }
}

fn take_text(text: String, quoted: &mut Vec<String>) -> String {
    if !needs_quotes(&text) {
        return text;
    }
    let text = quote(&text);
    // About as long as the text, for a long key has another form.
    let width = text.len().min(LONG_KEY);
    quoted.push(text);
    format!("{STAND_IN}{:0width$}", quoted.len())
}

/// Whether serde_yaml would write a text in a way that some reader takes for something else, or that steers
/// a terminal.
fn needs_quotes(text: &str) -> bool {
    // Bidi characters and line separators are printable to serde_yaml.
    let steers = text.chars().any(|c| is_unprintable(c) && c != '\n');
    // Its rules for what a number is are its own, and it knows no times; readers of YAML 1.1 have both.
    let unsigned = text.trim_start_matches(['+', '-', '.']);
    let numeric = unsigned.starts_with(|c: char| c.is_ascii_digit())
        && (unsigned.starts_with("0x")
            || text
                .chars()
                .all(|c| c.is_ascii_digit() || "bBeEoOxX+-.:,_TtZz ".contains(c)));
    // As a block, its last lines would depend on what follows it.
    let open_ended = text.ends_with("\n\n") || text == "\n";
    // Booleans and keys of YAML 1.1, and symbols of Ruby's.
    let keyword = is_reserved(text) || matches!(text, "<<" | "=") || text.starts_with(':');
    steers || numeric || open_ended || keyword || text.contains(STAND_IN)
}

/// A text in double quotes, without characters that a terminal or a YAML reader does not take as they are.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        let written = match c {
            '"' | '\\' => write!(quoted, "\\{c}"),
            '\n' => write!(quoted, "\\n"),
            '\t' => write!(quoted, "\\t"),
            c if is_unprintable(c) || matches!(c, '\u{fffe}' | '\u{ffff}') => match u32::from(c) {
                code @ ..=0xffff => write!(quoted, "\\u{code:04x}"),
                code => write!(quoted, "\\U{code:08x}"),
            },
            c => write!(quoted, "{c}"),
        };
        written.expect("a String takes everything");
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::yaml::{ParseLimits, parse};

    /// Both readers get the same data back, and the text is plain.
    fn assert_same(value: &Value) {
        let text = serialize(value.clone());
        let read: Value = serde_yaml::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        assert_eq!(read, *value, "serde_yaml: {text}");
        let own = parse("t", text.as_bytes(), ParseLimits::default())
            .unwrap_or_else(|problem| panic!("{problem}: {text}"));
        assert_eq!(own.to_json(), *value, "our reader: {text}");
        let steers = |c: char| c != '\n' && is_unprintable(c);
        assert!(!text.contains(steers), "{text:?}");
        assert!(text.ends_with('\n'), "{text:?}");
    }

    const TRAPS: &[&str] = &[
        "no",
        "y",
        "On",
        "null",
        "~",
        "",
        "true",
        "0x1f",
        "0o17",
        "017",
        "0b1_1",
        "0x1_f",
        ":sym",
        "1e3",
        "1e10000",
        "1e1000000000000000000000000000000000000000",
        "1234567",
        "0123456789012345678901234567890123456789",
        "-1",
        "+1",
        "1_000",
        "1,000",
        "1.10",
        ".5",
        ".inf",
        "-.INF",
        ".nan",
        "12:30:45",
        "2026-11-21",
        "2026-11-21T04:43:01Z",
        "2026-11-21 04:43:01.5 +01:00",
        "<<",
        "=",
        "- a",
        "a: b",
        "a #b",
        "#b",
        "? a",
        "! a",
        "!Tag",
        "&a",
        "*a",
        "|",
        "@a",
        "%a",
        "---",
        "...",
        "'a'",
        "\"a\"",
        "{a}",
        "[a]",
        " a ",
        "a\nb",
        "a\nb\n",
        "a\nb\n\n",
        "\n",
        "\na",
        "  a\n b\n",
        "a\n  ---\n---\n# b",
        "1\n2",
        "a\tb",
        "a\r\nb",
        "\u{1b}]52;c;aGk=\u{7}\u{9b}31m\u{202e}\u{feff}\u{2028}\u{85}\u{e0001}\u{fffe}",
        "größe → ✓ 😀",
        "quoted-text-1",
    ];

    #[test]
    fn texts_come_back_as_the_same_texts() {
        for text in TRAPS {
            assert_same(&json!([text]));
            assert_same(&json!({"above": {"a": text}, "list": [[text], {"b": text}], "end": 1}));
        }
        // Our reader merges by the key `<<` in any quotes.
        let keys = TRAPS.iter().filter(|text| **text != "<<");
        let all: serde_json::Map<_, _> = keys.map(|t| ((*t).to_owned(), json!(t))).collect();
        assert_same(&json!(all));
        let long = "a\u{202e}".repeat(500);
        assert_same(&json!({long.clone(): {long: 1}, "a".repeat(2000): "b"}));
    }

    #[test]
    fn data_keeps_its_types_and_its_order() {
        let value = json!({"z": null, "a": [true, 1, -2, 1.5, [], {}], "m": {"!Tag": {"k": "v"}}});
        assert_same(&value);
        assert_eq!(
            serialize(value),
            "z: null\na:\n- true\n- 1\n- -2\n- 1.5\n- []\n- {}\nm:\n  '!Tag':\n    k: v\n"
        );
    }

    #[test]
    fn text_that_a_reader_may_take_for_another_type_is_quoted() {
        let sha = "4f2c9d0e1b3a5c7d9e0f1a2b3c4d5e6f70819203";
        let value =
            json!({"at": "2026-11-21T04:43:01Z", "sha": sha, "ref": "1.10", "NO": "no", "n": 1});
        assert_eq!(
            serialize(value),
            format!(
                "at: \"2026-11-21T04:43:01Z\"\nsha: {sha}\nref: \"1.10\"\n\"NO\": \"no\"\n\"n\": 1\n"
            )
        );
    }

    proptest! {
        #[test]
        fn any_text_comes_back(
            text in prop_oneof![
                any::<String>(),
                "[ a\n\t:#'\"\\-]{0,12}",
                "[-+.0-9eExX:_TZ ]{0,12}",
                "[\\x00-\\xa0\u{2000}-\u{2070}\u{fff0}-\u{ffff}\n]{0,8}",
            ],
            other in any::<String>(),
        ) {
            assert_same(&json!({"a": text, "b": [other, {"c": text}], "d": 1}));
        }
    }
}
