//! `trueup policy`: the policy bundles of an environment.

mod list;
mod opened;
mod push;
mod show;
mod test;

use super::Output;
use super::args::{PolicyArgs, PolicyCommand};
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::pass::Paths;

pub(super) fn run(args: &PolicyArgs, paths: &Paths, output: &Output) -> Result<Exit, CommandError> {
    match &args.command {
        PolicyCommand::Push(args) => push::run(args, paths, output),
        PolicyCommand::Test(args) => test::run(args, paths, output),
        PolicyCommand::List(args) => list::run(args, paths, output),
        PolicyCommand::Show(args) => show::run(args, paths, output),
    }
}
