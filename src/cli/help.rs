//! The help texts as they are printed: what is in backticks stays in one line at any width, because people copy it.

use anstream::adapter::strip_str;
use clap::builder::StyledStr;
use clap::error::ErrorKind;
use clap::{Arg, Command, CommandFactory};

use super::args::Cli;
use super::table;

/// Longer quotes are broken, so that lines stay within a narrow terminal.
const MAX_UNBROKEN: usize = 44;

/// A space at which clap breaks no line. It is a plain one again before it is printed.
const NO_BREAK_SPACE: char = '\u{a0}';

/// The command line, to render help from. The result goes through [`with_spaces`].
pub(crate) fn command() -> Command {
    unbroken(Cli::command())
}

/// Whether an error of the parser is a help text.
pub(super) fn is_help(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    )
}

pub(crate) fn with_spaces(help: &str) -> String {
    help.replace(NO_BREAK_SPACE, " ")
}

/// Breaks the line of the usage, which clap leaves as long as it is.
pub(super) fn wrap_usage(help: &str, width: usize) -> String {
    let wrapped = |line: &str| match strip_str(line).to_string().starts_with("Usage: ") {
        true => table::wrap_paragraph(line, width).join("\n"),
        false => line.to_owned(),
    };
    let end = if help.ends_with('\n') { "\n" } else { "" };
    let lines: Vec<String> = help.lines().map(wrapped).collect();
    lines.join("\n") + end
}

fn unbroken(command: Command) -> Command {
    let names: Vec<String> = command
        .get_subcommands()
        .map(|inner| inner.get_name().to_owned())
        .collect();
    let text = |styled: Option<&StyledStr>| styled.map(|text| join_quotes(&text.to_string()));
    let about = text(command.get_about());
    let long_about = text(command.get_long_about());
    let after_help = text(command.get_after_help());
    let mut command = command.mut_args(unbroken_arg);
    if let Some(text) = about {
        command = command.about(text);
    }
    if let Some(text) = long_about {
        command = command.long_about(text);
    }
    if let Some(text) = after_help {
        command = command.after_help(text);
    }
    names.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, unbroken)
    })
}

fn unbroken_arg(arg: Arg) -> Arg {
    let help = arg.get_help().map(|text| join_quotes(&text.to_string()));
    let long = arg
        .get_long_help()
        .map(|text| join_quotes(&text.to_string()));
    let arg = match help {
        Some(help) => arg.help(help),
        None => arg,
    };
    match long {
        Some(long) => arg.long_help(long),
        None => arg,
    }
}

/// Joins the words of each quote.
fn join_quotes(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    for (number, part) in text.split('`').enumerate() {
        if number > 0 {
            joined.push('`');
        }
        let is_quote = number % 2 == 1 && part.chars().count() <= MAX_UNBROKEN;
        match is_quote && !part.contains('\n') {
            true => joined.extend(
                part.chars()
                    .map(|c| if c == ' ' { NO_BREAK_SPACE } else { c }),
            ),
            false => joined.push_str(part),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The help of every command, short and long.
    fn help_texts(command: &Command, width: usize, texts: &mut Vec<(String, String)>) {
        let mut sized = command.clone().term_width(width);
        for help in [
            sized.render_help().to_string(),
            sized.render_long_help().to_string(),
        ] {
            let help = wrap_usage(&with_spaces(&help), width);
            texts.push((command.get_name().to_owned(), help));
        }
        for inner in command.get_subcommands() {
            help_texts(inner, width, texts);
        }
    }

    #[test]
    fn help_fits_every_width_and_breaks_no_quote() {
        for width in [60, 80, 120, 200] {
            let mut texts = Vec::new();
            let mut command = command();
            command.build();
            help_texts(&command, width, &mut texts);
            assert!(texts.len() > 40, "{}", texts.len());
            let mut broken = Vec::new();
            for (name, help) in &texts {
                for line in help.lines() {
                    let fits = line.chars().count() <= width;
                    if !fits || !line.matches('`').count().is_multiple_of(2) {
                        broken.push(format!("{name} at {width}: {line}"));
                    }
                }
            }
            assert!(broken.is_empty(), "{}", broken.join("\n"));
        }
    }

    /// An example has lines of its own, indented, which the shell continues.
    #[test]
    fn lines_of_examples_are_never_wrapped() {
        fn check(command: &Command) {
            let after = command.get_after_help().map(ToString::to_string);
            for line in after.unwrap_or_default().lines() {
                let is_example = line.starts_with("  ");
                assert!(!is_example || line.chars().count() <= 58, "{line}");
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn only_short_quotes_in_one_line_are_joined() {
        assert_eq!(
            join_quotes("see `a b` and `c\nd e`, `f`"),
            "see `a\u{a0}b` and `c\nd e`, `f`"
        );
        let long = format!("`{} x`", "y".repeat(MAX_UNBROKEN));
        assert_eq!(join_quotes(&long), long);
        assert_eq!(with_spaces("a\u{a0}b"), "a b");
    }
}
