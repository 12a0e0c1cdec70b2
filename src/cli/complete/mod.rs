//! `trueup completions`, and the hidden `trueup complete` that the scripts call at each TAB.
//!
//! The scripts contain no names and no options: they always fit the program. A candidate is a plain word, so that a shell
//! that puts it into the command line has nothing to quote and nothing to run; paths are the shell's own business.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use clap::builder::ValueHint;
use clap::{Arg, CommandFactory};
use clap_complete::CompletionCandidate;
use clap_complete::engine::{ArgValueCandidates, complete};

use super::args::{Cli, CompleteArgs, CompletionShell, CompletionsArgs};
use crate::exit::Exit;
use crate::operate::known_names::KnownNames;
use crate::ports::root::Root;

mod bash_words;

/// The script that teaches a shell.
pub fn completion_script(shell: CompletionShell) -> &'static str {
    match shell {
        CompletionShell::Bash => include_str!("trueup.bash"),
        CompletionShell::Zsh => include_str!("trueup.zsh"),
        CompletionShell::Fish => include_str!("trueup.fish"),
    }
}

/// Prints the script for a shell.
pub(super) fn print_script(args: &CompletionsArgs) -> Exit {
    let _ = std::io::stdout().write_all(completion_script(args.shell).as_bytes());
    Exit::Converged
}

/// Prints the candidates for a word, one a line. Whatever fails, there are none: an error has no room at a prompt.
pub(super) fn print_candidates(args: &CompleteArgs, root: PathBuf) -> Exit {
    let mut stdout = std::io::stdout().lock();
    for candidate in candidates(args, root) {
        let _ = writeln!(stdout, "{candidate}");
    }
    Exit::Converged
}

fn candidates(args: &CompleteArgs, root: PathBuf) -> Vec<String> {
    let (words, index, prefix) = match args.shell {
        CompletionShell::Bash => bash_words::join_broken(&args.words, args.index),
        _ => (args.words.clone(), args.index, String::new()),
    };
    let texts: Vec<String> = words
        .iter()
        .enumerate()
        .filter(|(number, _)| *number != index)
        // `--env=production` names it, too.
        .flat_map(|(_, word)| {
            let word = word.to_string_lossy();
            word.split('=').map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    if index > words.len() {
        return Vec::new();
    }
    let mut words = words;
    if index == words.len() {
        words.push(OsString::new());
    }
    let is_empty = words[index].is_empty();
    let mut command = with_names(Cli::command(), &root, &texts);
    let found = complete(&mut command, words, index, None).unwrap_or_default();
    let found = found.iter().filter(|one| !one.is_hide_set());
    let texts = found.filter_map(|one| one.get_value().to_str());
    let texts = texts.filter_map(|text| text.strip_prefix(&*prefix));
    let mut plain: Vec<String> = texts
        .filter(|text| is_plain(text))
        .map(str::to_owned)
        .collect();
    // Options only where a word begins like one, or nothing else fits.
    let is_option = |word: &String| word.starts_with('-');
    if is_empty && !plain.iter().all(is_option) {
        plain.retain(|word| !is_option(word));
    }
    plain
}

/// Whether a word means itself in every shell.
fn is_plain(word: &str) -> bool {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || "-_.=".contains(c);
    !word.is_empty() && word.chars().all(is_safe)
}

/// The command line with the known names as values of its arguments, which are recognized by what they are called in the
/// usage.
fn with_names(command: clap::Command, root: &std::path::Path, words: &[String]) -> clap::Command {
    let inner: Vec<String> = command
        .get_subcommands()
        .map(|inner| inner.get_name().to_owned())
        .collect();
    let command = command.mut_args(|arg| with_values(arg, root, words));
    inner.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, |inner| with_names(inner, root, words))
    })
}

fn with_values(arg: Arg, root: &std::path::Path, words: &[String]) -> Arg {
    let name = arg
        .get_value_names()
        .and_then(|names| names.first())
        .map(|name| name.to_string());
    // Otherwise a path is completed from the disk.
    let has_values = arg.get_action().takes_values();
    let is_path = has_values && arg.get_value_hint() == ValueHint::Unknown
        || arg.get_value_hint() == ValueHint::AnyPath;
    let arg = match is_path {
        true => arg.value_hint(ValueHint::Other),
        false => arg,
    };
    let (root, words) = (root.to_owned(), words.to_vec());
    let names = move |kinds: &'static [NameKind], suffix: &'static str| {
        ArgValueCandidates::new(move || {
            let Ok(root) = Root::at(&root) else {
                return Vec::new();
            };
            let known = KnownNames::new(&root);
            let names = kinds.iter().flat_map(|kind| match kind {
                NameKind::Environment => known.environments(),
                NameKind::App => known.apps(&words),
                NameKind::Node => known.nodes(),
                NameKind::Release => known.releases(&words),
            });
            names
                .map(|name| CompletionCandidate::new(format!("{name}{suffix}")))
                .collect()
        })
    };
    match name.as_deref() {
        Some("ENV" | "FROM" | "TO") => arg.add(names(&[NameKind::Environment], "")),
        Some("APP") => arg.add(names(&[NameKind::App], "")),
        Some("[ENV] APP") => arg.add(names(&[NameKind::Environment, NameKind::App], "")),
        Some("APP=SHA|REF") => arg.add(names(&[NameKind::App], "=")),
        Some("NODE") => arg.add(names(&[NameKind::Node], "")),
        Some("RELEASE" | "RELEASE|SHA") => arg.add(names(&[NameKind::Release], "")),
        _ => arg,
    }
}

/// What a name is of.
#[derive(Debug, Clone, Copy)]
enum NameKind {
    Environment,
    App,
    Node,
    Release,
}

#[cfg(test)]
mod tests;
