//! Standard output: text or one JSON document, coloured where the terminal and the environment want it.
//! Control sequences other than trueup's own colours are escaped, whatever their source.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};
use anstyle_query::term_supports_ansi_color;
use serde::Serialize;

use crate::printable;
use crate::report::Paint;

/// Where and how a command prints.
pub(crate) struct Output {
    pub json: bool,
    /// Standard output is the journal: lines become events, and output that was logged as an event is not
    /// repeated.
    pub to_journal: bool,
    pub paint: Paint,
}

impl Output {
    pub(crate) fn new(json: bool, journalled: bool) -> Output {
        // Reads NO_COLOR, CLICOLOR, CLICOLOR_FORCE and TERM.
        let wanted = AutoStream::choice(&std::io::stdout()) != ColorChoice::Never;
        let colour = wanted && !json && !journalled;
        Output {
            json,
            to_journal: journalled,
            paint: Paint { colour },
        }
    }

    /// Prints one line of text. A reader that closed the pipe (`| head`) is no error.
    pub(crate) fn print_line(&self, text: impl AsRef<str>) {
        if self.to_journal {
            tracing::info!(target: "trueup::said", "{}", printable::text(text.as_ref()));
            return;
        }
        let _ = writeln!(std::io::stdout(), "{}", self.sanitize(text.as_ref()));
    }

    /// The text with control sequences escaped.
    fn sanitize<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.paint.colour {
            true => printable::styled(text),
            false => printable::text(text),
        }
    }

    /// Prints a line in text mode only.
    pub(crate) fn print_text(&self, text: impl AsRef<str>) {
        if !self.json {
            self.print_line(text);
        }
    }

    /// Prints a line in text mode only, for something already logged as an event.
    pub(crate) fn print_logged(&self, text: impl AsRef<str>) {
        if !self.json && !self.to_journal {
            self.print_line(text);
        }
    }

    /// Prints the single document of `--json`.
    pub(crate) fn print_json(&self, value: &impl Serialize) {
        match serde_json::to_string_pretty(value) {
            Ok(text) => {
                let _ = writeln!(std::io::stdout(), "{}", printable::json(&text));
            }
            Err(error) => self.print_error(&format!("cannot write JSON: {error}")),
        }
    }

    pub(crate) fn print_error(&self, text: &str) {
        if self.to_journal {
            tracing::error!(target: "trueup::said", "{}", printable::text(text));
            return;
        }
        let _ = writeln!(std::io::stderr(), "{}", printable::text(text));
    }

    /// Clears the screen before repeated output; prints an empty line in a pipe or at a dumb terminal.
    pub(crate) fn clear_screen(&self) {
        let screen = std::io::stdout().is_terminal() && term_supports_ansi_color();
        if screen && !self.json {
            let _ = write!(std::io::stdout(), "\x1b[2J\x1b[H");
        } else {
            self.print_text("");
        }
    }

    /// Prints rows in aligned columns; the last column is not padded.
    pub(crate) fn print_table(&self, rows: &[Vec<String>]) {
        let fit = |cell: &String| printable::styled_line(cell).into_owned();
        let rows: Vec<Vec<String>> = rows
            .iter()
            .map(|row| row.iter().map(fit).collect())
            .collect();
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| visible_width(cell)).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                line.push_str(cell);
                if column + 1 < row.len() {
                    let pad = widths[column] - visible_width(cell) + 2;
                    line.extend(std::iter::repeat_n(' ', pad));
                }
            }
            self.print_line(line.trim_end());
        }
    }
}

/// Width of a cell in characters, without colour sequences.
fn visible_width(cell: &str) -> usize {
    strip_str(cell).map(|text| text.chars().count()).sum()
}
