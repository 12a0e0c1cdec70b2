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
use trueup::cli::{Cli, CompletionShell, completion_script};

/// Every file of the manual: its name in the folder, and its content.
pub fn files() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    pages(Cli::command(), &mut files)?;
    for (shell, name) in [
        (CompletionShell::Bash, "bash/trueup"),
        (CompletionShell::Zsh, "zsh/_trueup"),
        (CompletionShell::Fish, "fish/trueup.fish"),
    ] {
        files.push((name.to_owned(), completion_script(shell).into()));
    }
    Ok(files)
}

/// `man/trueup.1`, `man/trueup-converge.1`, `man/trueup-releases-build.1`, …
fn pages(cli: Command, files: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    let mut built = cli.disable_help_subcommand(true);
    built.build();
    let mut todo = vec![built];
    while let Some(command) = todo.pop() {
        let inner = command.get_subcommands();
        todo.extend(inner.filter(|inner| !inner.is_hide_set()).cloned());
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
