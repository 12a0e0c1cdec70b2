//! Escapes foreign text for terminals: a control character in a hold's reason, a build's output or a peer's
//! record could write the operator's clipboard (OSC 52), hide a line (CR) or reverse text (bidi). Such
//! characters appear escaped: `\x1b`, `\u{202e}`.
//!
//! [`Failure`](crate::resource::Failure) and [`Problem`](crate::problem::Problem) hold escaped text only, and
//! the decoders escape what comes from the store; [`styled`] is the last filter before a terminal, for all
//! output. Log files keep the output of programs unescaped.

use std::borrow::Cow;
use std::fmt::Write;

use serde::{Deserialize, Deserializer};

/// Colour sequences (SGR) that [`Paint`](crate::report::Paint) prints, including the reset.
pub const STYLES: [&str; 6] = [
    "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[2m", "\x1b[1m", "\x1b[0m",
];

/// Escapes a single line; line ends and tabs are escaped as well.
pub fn line(text: &str) -> Cow<'_, str> {
    escape(text, |_| false, false)
}

/// Escapes several lines, such as the output of a program.
pub fn text(text: &str) -> Cow<'_, str> {
    escape(text, is_layout, false)
}

/// Escapes several lines, but keeps trueup's own colours.
pub fn styled(text: &str) -> Cow<'_, str> {
    escape(text, is_layout, true)
}

/// Escapes a single line, but keeps trueup's own colours.
pub fn styled_line(text: &str) -> Cow<'_, str> {
    escape(text, |_| false, true)
}

/// Escapes a JSON document without changing its meaning: control characters occur only inside its strings,
/// where `\u` is a valid escape.
pub fn json(document: &str) -> Cow<'_, str> {
    let steers = |c: char| is_unprintable(c) && !is_layout(c);
    if !document.chars().any(steers) {
        return Cow::Borrowed(document);
    }
    let mut shown = String::with_capacity(document.len() + 64);
    for c in document.chars() {
        if steers(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// For single-line fields of foreign data.
pub fn deserialize_line<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(line(&String::deserialize(deserializer)?).into_owned())
}

/// Same as [`deserialize_line`], for optional fields.
pub fn deserialize_optional_line<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let value = Option::<String>::deserialize(deserializer)?;
    Ok(value.map(|text| line(&text).into_owned()))
}

fn is_layout(c: char) -> bool {
    matches!(c, '\n' | '\t')
}

/// Whether a terminal would interpret the character instead of showing it: C0, C1, and invisible characters
/// that control direction or line breaks.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn escape(text: &str, keep: impl Fn(char) -> bool, styles: bool) -> Cow<'_, str> {
    if !text.chars().any(|c| is_unprintable(c) && !keep(c)) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let style = STYLES
            .iter()
            .find(|style| styles && rest.starts_with(**style));
        if let Some(style) = style {
            shown.push_str(style);
            rest = &rest[style.len()..];
            continue;
        }
        rest = &rest[c.len_utf8()..];
        match c {
            c if !is_unprintable(c) || keep(c) => shown.push(c),
            // CRLF, the line end of Windows.
            '\r' if rest.starts_with('\n') && keep('\n') => {}
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push_str("\\t"),
            '\r' => shown.push_str("\\r"),
            c if c.is_ascii() => drop(write!(shown, "\\x{:02x}", u32::from(c))),
            c => drop(write!(shown, "\\u{{{:x}}}", u32::from(c))),
        }
    }
    Cow::Owned(shown)
}

/// The text with `#` for each number, to compare reasons: the same one has other ids of processes and times in each pass.
pub(crate) fn without_numbers(text: &str) -> String {
    let mut shape = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_ascii_digit() {
            true if shape.ends_with('#') => {}
            true => shape.push('#'),
            false => shape.push(character),
        }
    }
    shape
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reasons_that_differ_in_numbers_compare_as_equal() {
        assert_eq!(without_numbers("[12] at 03:4 é"), "[#] at #:# é");
    }

    #[test]
    fn escaped_json_parses_to_the_same_value() {
        let hostile = "a\u{9b}31m\u{202e}\u{7f}\u{e0001} \"q\" \\ \u{1b} ü\n";
        let document = serde_json::to_string_pretty(&[hostile]).unwrap();
        let shown = json(&document);
        assert!(
            !shown.chars().any(|c| is_unprintable(c) && c != '\n'),
            "{shown}"
        );
        let read: Vec<String> = serde_json::from_str(&shown).unwrap();
        assert_eq!(read, [hostile]);
        assert!(matches!(json("{\n  \"a\": 1\n}"), Cow::Borrowed(_)));
    }

    #[test]
    fn control_characters_are_escaped_and_not_executed() {
        let hostile = "a\x1b]52;c;aGk=\x07b\rc\u{9b}31md\u{202e}e\nf\tg\r\n";
        assert_eq!(
            line(hostile),
            "a\\x1b]52;c;aGk=\\x07b\\rc\\u{9b}31md\\u{202e}e\\nf\\tg\\r\\n"
        );
        assert_eq!(
            text(hostile),
            "a\\x1b]52;c;aGk=\\x07b\\rc\\u{9b}31md\\u{202e}e\nf\tg\n"
        );
        assert_eq!(
            styled("\x1b[32mgood\x1b[0m \x1b[8mhidden"),
            "\x1b[32mgood\x1b[0m \\x1b[8mhidden"
        );
        assert_eq!(line("größer → ✓"), "größer → ✓");
    }

    proptest! {
        #[test]
        fn only_own_colours_and_line_ends_pass_through(
            parts in prop::collection::vec(prop_oneof![".*", "[\\x00-\\x9f\u{2000}-\u{2070}]*", prop::sample::select(STYLES.as_slice()).prop_map(str::to_owned)], 0..8)
        ) {
            let hostile = parts.concat();
            let mut shown = styled(&hostile).into_owned();
            for style in STYLES {
                shown = shown.replace(style, "");
            }
            prop_assert!(!shown.chars().any(|c| is_unprintable(c) && !is_layout(c)), "{shown:?}");
            prop_assert!(!line(&hostile).chars().any(is_unprintable));
            // Escaping is idempotent.
            let once = text(&hostile).into_owned();
            prop_assert_eq!(text(&once).into_owned(), once.clone());
        }
    }
}
