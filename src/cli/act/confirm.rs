//! Asks a person before something happens.

use std::io::{BufRead, IsTerminal, Write};

use crate::operate::CommandError;
use crate::printable;
use crate::problem::Problem;

/// Whether an operator can answer.
pub(in crate::cli) fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks a question that `y` or `yes` affirms; anything else ends the command. Without a terminal there is nobody to ask:
/// `otherwise` says which option answers it.
pub(in crate::cli) fn confirm(question: &str, otherwise: &str) -> Result<(), CommandError> {
    match ask(question, otherwise)? {
        true => Ok(()),
        false => Err(CommandError::Failed(Problem::new(
            "not confirmed; nothing was written",
        ))),
    }
}

/// The same, for a command that goes on either way.
pub(in crate::cli) fn ask(question: &str, otherwise: &str) -> Result<bool, CommandError> {
    if !is_interactive() {
        return Err(CommandError::Usage(
            Problem::new(format!("{question} There is no terminal to ask at"))
                .hint(format!("{otherwise}; nothing was written")),
        ));
    }
    let _ = write!(std::io::stderr(), "{} [y/N] ", printable::line(question));
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    Ok(read.is_ok() && ["y", "yes"].contains(&line.trim().to_ascii_lowercase().as_str()))
}
