//! Standard output: text, or a document in JSON or YAML; text is coloured where the terminal and the environment want
//! it. Control sequences other than trueup's own colours are escaped, whatever their source.

use std::borrow::Cow;
use std::cell::Cell;
use std::io::{self, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle_query::term_supports_ansi_color;
use clap::error::ErrorKind;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::logging::erase_live_line;
use super::table;
use crate::printable;
use crate::report::Paint;
use crate::yaml;

/// What standard output is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people
    Text,
    /// One document for programs
    Json,
    /// The same document in YAML
    Yaml,
}

#[derive(Debug, Args)]
pub struct OutputArgs {
    /// What to print [default: text]
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT")]
    pub output: Option<OutputFormat>,
    /// The same as `--output json`
    #[arg(long, global = true)]
    pub json: bool,
}

impl OutputArgs {
    /// `command` builds the command whose usage clap's error shows.
    pub(super) fn format(
        &self,
        command: impl FnOnce() -> clap::Command,
    ) -> Result<OutputFormat, clap::Error> {
        match (self.json, self.output) {
            (true, None | Some(OutputFormat::Json)) => Ok(OutputFormat::Json),
            (false, format) => Ok(format.unwrap_or(OutputFormat::Text)),
            (true, Some(other)) => {
                let other = match other {
                    OutputFormat::Yaml => "yaml",
                    _ => "text",
                };
                Err(command().error(
                    ErrorKind::ArgumentConflict,
                    format!("the argument '--json' cannot be used with '--output {other}'"),
                ))
            }
        }
    }
}

/// Where and how a command prints.
pub(crate) struct Output {
    format: OutputFormat,
    /// A document was printed: the next one of a YAML stream is separated from it.
    has_document: Cell<bool>,
    /// Standard output is the journal: lines become events, and output that was logged as an event is not
    /// repeated.
    pub to_journal: bool,
    pub paint: Paint,
}

impl Output {
    pub(crate) fn new(format: OutputFormat, journalled: bool) -> Output {
        // Reads NO_COLOR, CLICOLOR, CLICOLOR_FORCE and TERM.
        let wanted = AutoStream::choice(&std::io::stdout()) != ColorChoice::Never;
        let colour = wanted && format == OutputFormat::Text && !journalled;
        Output {
            format,
            has_document: Cell::new(false),
            to_journal: journalled,
            paint: Paint { colour },
        }
    }

    /// Whether a document is wanted in place of text.
    pub(crate) fn is_document(&self) -> bool {
        self.format != OutputFormat::Text
    }

    /// Prints one line of text. A reader that closed the pipe (`| head`) is no error.
    pub(crate) fn print_line(&self, text: impl AsRef<str>) {
        if self.to_journal {
            tracing::info!(target: "trueup::said", "{}", printable::text(text.as_ref()));
            return;
        }
        erase_live_line();
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
        if !self.is_document() {
            self.print_line(text);
        }
    }

    /// Prints a line in text mode only, for something already logged as an event.
    pub(crate) fn print_logged(&self, text: impl AsRef<str>) {
        if !self.is_document() && !self.to_journal {
            self.print_line(text);
        }
    }

    /// Prints one of many lines of text of others; fails once nobody reads them.
    pub(crate) fn stream_line(&self, text: &str) -> io::Result<()> {
        writeln!(std::io::stdout(), "{}", self.sanitize(text))
    }

    /// Prints one of many documents: JSON in one line each; fails once nobody reads them.
    pub(crate) fn stream_document(&self, document: &impl Serialize) -> io::Result<()> {
        let value = serde_json::to_value(document)?;
        match self.format {
            OutputFormat::Yaml => write!(std::io::stdout(), "---\n{}", yaml::serialize(value)),
            _ => writeln!(std::io::stdout(), "{}", printable::json(&value.to_string())),
        }
    }

    /// Prints a document in the wanted format, with the same data and order of fields in each.
    pub(crate) fn print_document(&self, document: &impl Serialize) {
        let text = match self.format {
            OutputFormat::Yaml => serde_json::to_value(document).map(|value| {
                let mark = if self.has_document.replace(true) {
                    "---\n"
                } else {
                    ""
                };
                format!("{mark}{}", yaml::serialize(value))
            }),
            _ => serde_json::to_string_pretty(document)
                .map(|text| format!("{}\n", printable::json(&text))),
        };
        match text {
            Ok(text) => {
                erase_live_line();
                let _ = std::io::stdout().write_all(text.as_bytes());
            }
            Err(error) => self.print_error(&format!("cannot write the document: {error}")),
        }
    }

    pub(crate) fn print_error(&self, text: &str) {
        if self.to_journal {
            tracing::error!(target: "trueup::said", "{}", printable::text(text));
            return;
        }
        erase_live_line();
        let _ = writeln!(std::io::stderr(), "{}", printable::text(text));
    }

    /// Clears the screen before repeated output; prints an empty line in a pipe or at a dumb terminal.
    pub(crate) fn clear_screen(&self) {
        let screen = std::io::stdout().is_terminal() && term_supports_ansi_color();
        if screen && !self.is_document() {
            let _ = write!(std::io::stdout(), "\x1b[2J\x1b[H");
        } else {
            self.print_text("");
        }
    }

    /// Prints rows in aligned columns, shortened to the width of the terminal. A pipe gets the full text.
    pub(crate) fn print_table(&self, rows: &[Vec<String>]) {
        self.print_lines(rows, |rows| table::layout(rows, terminal_width()));
    }

    /// Prints labels with their texts, which are never shortened.
    pub(crate) fn print_list(&self, rows: &[Vec<String>]) {
        self.print_lines(rows, |rows| table::layout(rows, None));
    }

    /// The same for a last column of texts to read, which are not shortened either.
    pub(crate) fn print_reference(&self, rows: &[Vec<String>]) {
        self.print_lines(rows, |rows| {
            table::layout_with_texts(rows, terminal_width())
        });
    }

    /// Prints text to read: at a terminal in lines of its width, broken between words, each but the first further in. A pipe
    /// gets one line for each of the text's own.
    pub(crate) fn print_paragraph(&self, text: &str) {
        let lines = text.lines();
        let lines = lines.flat_map(|line| match terminal_width() {
            Some(width) => table::wrap_paragraph(&printable::styled_line(line), width),
            None => vec![line.to_owned()],
        });
        lines.for_each(|line| self.print_line(line));
    }

    fn print_lines(
        &self,
        rows: &[Vec<String>],
        layout: impl FnOnce(&[Vec<String>]) -> Vec<String>,
    ) {
        let fit = |cell: &String| printable::styled_line(cell).into_owned();
        let rows: Vec<Vec<String>> = rows
            .iter()
            .map(|row| row.iter().map(fit).collect())
            .collect();
        for line in layout(&rows) {
            self.print_line(line);
        }
    }
}

/// The width of the terminal that standard output is, if it is one.
pub(super) fn terminal_width() -> Option<usize> {
    let (width, _) = terminal_size::terminal_size_of(std::io::stdout())?;
    Some(usize::from(width.0)).filter(|width| *width > 0)
}
