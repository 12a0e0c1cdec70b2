//! `trueup rollout`: the way of a sha through the hosts of an environment.

mod act;
mod quarantine;
mod status;

use super::Output;
use super::args::{RolloutArgs, RolloutCommand};
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::pass::Paths;

pub(super) fn run(
    args: &RolloutArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    if let Some((act, what)) = act::intervention(&args.command) {
        return act::run(act, &what, paths, output);
    }
    match &args.command {
        RolloutCommand::Quarantine(args) => quarantine::run(args, paths, output),
        RolloutCommand::Status(args) => status::run(args, paths, output),
        _ => unreachable!("the others intervene"),
    }
}
