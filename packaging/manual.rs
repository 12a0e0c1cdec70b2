//! Man pages and completions, made from the command line itself when a package is built:
//! `cargo run --example manual -- FOLDER`.
//!
//! An example and no command of trueup, so that hosts do not carry what makes them.

#![allow(
    clippy::disallowed_methods,
    reason = "it writes what a package is made of, and nothing of a host"
)]

use std::io;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use trueup::cli::Cli;

/// Every file of the manual: its name in the folder, and its content.
pub fn files() -> io::Result<Vec<(String, Vec<u8>)>> {
    let cli = for_people(&Cli::command());
    let mut files = Vec::new();
    pages(cli.clone(), &mut files)?;
    for (shell, name) in [
        (Shell::Bash, "trueup"),
        (Shell::Zsh, "_trueup"),
        (Shell::Fish, "trueup.fish"),
    ] {
        let mut body = Vec::new();
        clap_complete::generate(shell, &mut cli.clone(), "trueup", &mut body);
        files.push((format!("{shell}/{name}"), body));
    }
    Ok(files)
}

/// The command line without what is hidden, which clap has no way to take out.
fn for_people(command: &Command) -> Command {
    let inner = command.get_subcommands();
    let shown = inner.filter(|inner| !inner.is_hide_set()).map(for_people);
    let hidden = |id: &clap::Id| {
        let mut hidden = command.get_arguments().filter(|arg| arg.is_hide_set());
        hidden.any(|arg| arg.get_id() == id)
    };
    let groups = command.get_groups().cloned();
    let mut bare = Command::new(leaked(command.get_name()))
        .args(command.get_arguments().filter(|arg| !arg.is_hide_set()))
        .groups(groups.filter(|group| !group.get_args().any(hidden)))
        .subcommands(shown)
        .subcommand_required(command.is_subcommand_required_set())
        .args_conflicts_with_subcommands(command.is_args_conflicts_with_subcommands_set());
    if let Some(about) = command.get_about() {
        bare = bare.about(about.clone());
    }
    if let Some(about) = command.get_long_about() {
        bare = bare.long_about(about.clone());
    }
    if let Some(after) = command.get_after_help() {
        bare = bare.after_help(after.clone());
    }
    if let Some(version) = command.get_version() {
        bare = bare.version(leaked(version));
    }
    bare
}

/// clap keeps names for as long as the process lives.
fn leaked(name: &str) -> &'static str {
    name.to_owned().leak()
}

/// `man/trueup.1`, `man/trueup-converge.1`, `man/trueup-releases-build.1`, …
fn pages(cli: Command, files: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    let mut built = cli.disable_help_subcommand(true);
    built.build();
    let mut todo = vec![built];
    while let Some(command) = todo.pop() {
        todo.extend(command.get_subcommands().cloned());
        let mut body = Vec::new();
        let man = clap_mangen::Man::new(command).manual("trueup");
        man.render(&mut body)?;
        files.push((format!("man/{}", man.get_filename()), body));
    }
    Ok(())
}

#[allow(dead_code, reason = "the tests take only the files")]
fn main() -> io::Result<()> {
    let Some(folder) = std::env::args_os().nth(1) else {
        return Err(io::Error::other("expected the folder to write to"));
    };
    for (name, body) in files()? {
        let path = Path::new(&folder).join(name);
        if let Some(above) = path.parent() {
            std::fs::create_dir_all(above)?;
        }
        std::fs::write(path, body)?;
    }
    Ok(())
}
