//! `trueup secret`: the secrets of an environment. No command prints a value.

mod edit;
mod identity;
mod list;
mod opened;
mod recipients;
mod rekey;
mod remove;
mod set;

use super::Output;
use super::args::{SecretArgs, SecretCommand};
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::pass::Paths;

pub(super) fn run(args: SecretArgs, paths: &Paths, output: &Output) -> Result<Exit, CommandError> {
    match &args.command {
        SecretCommand::Set(args) => set::run(args, paths, output),
        SecretCommand::Edit(args) => edit::run(args, paths, output),
        SecretCommand::List(args) => list::run(args, paths, output),
        SecretCommand::Rekey(args) => rekey::run(args, paths, output),
        SecretCommand::Remove(args) => remove::run(args, paths, output),
    }
}
