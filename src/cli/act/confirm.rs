//! Asks a person before something happens.

use std::io::{BufRead, IsTerminal, Write};

use crate::operate::CommandError;
use crate::problem::Problem;

/// Asks a question that `y` or `yes` affirms. Without a terminal there is nobody to ask: `otherwise` says which option
/// answers it.
pub(in crate::cli) fn confirm(question: &str, otherwise: &str) -> Result<(), CommandError> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(CommandError::Usage(
            Problem::new(format!("{question} There is no terminal to ask at"))
                .hint(format!("{otherwise}; nothing was written")),
        ));
    }
    let _ = write!(std::io::stderr(), "{question} [y/N] ");
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    match read.is_ok() && ["y", "yes"].contains(&line.trim().to_ascii_lowercase().as_str()) {
        true => Ok(()),
        false => Err(CommandError::Failed(Problem::new(
            "not confirmed; nothing was written",
        ))),
    }
}
