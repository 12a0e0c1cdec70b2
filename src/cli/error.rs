//! Prints why a command ended early.

use std::io::Write;

use serde_json::json;

use super::{Output, help};
use crate::exit::Exit;
use crate::operate::CommandError;

pub(crate) fn print_error(error: &CommandError, output: &Output) -> Exit {
    let exit = error.exit();
    if output.is_document() {
        output.print_document(&json!({
            "version": crate::report::VERSION,
            "outcome": exit,
            "errors": error.problems(),
        }));
        return exit;
    }
    for problem in error.problems() {
        output.print_error(&format!("trueup: {problem}"));
    }
    if exit == Exit::BadInput {
        output.print_error("trueup: nothing was changed");
    }
    exit
}

/// Prints clap's message; help and version are no errors.
pub(crate) fn print_clap_message(error: &clap::Error) -> Exit {
    let text = help::with_spaces(&error.render().ansi().to_string());
    let text = match super::output::terminal_width() {
        Some(width) if !error.use_stderr() => help::wrap_usage(&text, width),
        _ => text,
    };
    let _ = match error.use_stderr() {
        true => anstream::stderr().write_all(text.as_bytes()),
        false => anstream::stdout().write_all(text.as_bytes()),
    };
    if error.use_stderr() {
        Exit::Usage
    } else {
        Exit::Converged
    }
}
