//! The line at the bottom of a terminal that shows what the running command of a release is at. It is rewritten in place,
//! and gone before anything else is printed.

use std::fmt::Debug;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use anstyle_query::term_supports_ansi_color;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::printable;

/// Width of a terminal that does not tell its own, in columns.
const DEFAULT_WIDTH: usize = 80;

const ERASE_LINE: &str = "\r\x1b[K";

/// Whether the line is on the screen.
static IS_SHOWN: AtomicBool = AtomicBool::new(false);

/// Whether standard error is a terminal on which a line can be rewritten.
pub(crate) fn is_supported() -> bool {
    std::io::stderr().is_terminal() && term_supports_ansi_color()
}

/// Erases the line, if it is on the screen. Called before anything else is printed.
pub(crate) fn erase() {
    if IS_SHOWN.swap(false, Ordering::Relaxed) {
        let _ = std::io::stderr().write_all(ERASE_LINE.as_bytes());
    }
}

/// Draws the line for the events of [`LIVE`](crate::release::progress::LIVE).
pub(super) struct LiveLayer;

impl<S: Subscriber> Layer<S> for LiveLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = LiveFields::default();
        event.record(&mut fields);
        if fields.title.is_empty() {
            return erase();
        }
        let width = terminal_size::terminal_size_of(std::io::stderr());
        let width = width.map_or(DEFAULT_WIDTH, |(width, _)| usize::from(width.0));
        let line = render(&fields, width);
        IS_SHOWN.store(true, Ordering::Relaxed);
        let _ = std::io::stderr().write_all(format!("{ERASE_LINE}{line}").as_bytes());
    }
}

#[derive(Default)]
struct LiveFields {
    title: String,
    elapsed: String,
    line: String,
}

impl Visit for LiveFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        let slot = match field.name() {
            "title" => &mut self.title,
            "elapsed" => &mut self.elapsed,
            "line" => &mut self.line,
            _ => return,
        };
        value.clone_into(slot);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// The line, shorter than the terminal, so that it never wraps: a wrapped line cannot be erased.
fn render(fields: &LiveFields, width: usize) -> String {
    let LiveFields {
        title,
        elapsed,
        line,
    } = fields;
    let mut text = title.clone();
    if !elapsed.is_empty() {
        text += &format!(" ({elapsed})");
    }
    if !line.trim().is_empty() {
        text += &format!(": {}", line.trim());
    }
    let text = printable::line(&text);
    let room = width.saturating_sub(1);
    let mut shown = String::new();
    let mut columns = 0;
    for c in text.chars() {
        columns += columns_of(c);
        if columns > room {
            break;
        }
        shown.push(c);
    }
    shown
}

/// At least as many as a terminal uses: which characters are wide depends on its font and its version of Unicode.
fn columns_of(c: char) -> usize {
    if c.is_ascii() { 1 } else { 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(line: &str, width: usize) -> String {
        let fields = LiveFields {
            title: "shop: step 2 of 3: install".into(),
            elapsed: "12 s".into(),
            line: line.into(),
        };
        render(&fields, width)
    }

    #[test]
    fn live_line_never_wraps() {
        assert_eq!(rendered("", 80), "shop: step 2 of 3: install (12 s)");
        assert_eq!(
            rendered("  ok ", 80),
            "shop: step 2 of 3: install (12 s): ok"
        );
        let long = rendered(&"x".repeat(1 << 20), 80);
        assert_eq!(long.chars().count(), 79);
        let wide = rendered(&"\u{597d}".repeat(100), 80);
        assert_eq!(wide.chars().count(), 35 + 22);
        for width in 0..40 {
            assert!(rendered("output", width).len() < width.max(1), "{width}");
        }
    }

    #[test]
    fn live_line_carries_no_control_sequence_of_a_program() {
        let line = rendered("a\x1b[2J\x1b]52;c;aGk=\x07\r\nb\u{202e}c\u{9b}", 200);
        assert!(!line.chars().any(printable::is_unprintable), "{line:?}");
        let broken = String::from_utf8_lossy(b"\xff\xc3").into_owned();
        assert!(rendered(&broken, 80).ends_with("\u{fffd}\u{fffd}"));
    }
}
