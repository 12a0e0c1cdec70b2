//! `trueup releases`: lists and manages the releases of each app on this host.

mod build;
mod clean;
mod list;

use super::Output;
use super::args::{ReleasesArgs, ReleasesCommand};
use super::rollback::{self, ActivationRequest};
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::pass::Paths;

pub(super) fn run(
    args: &ReleasesArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    match &args.command {
        None => list::run(&args.list, paths, output),
        Some(ReleasesCommand::List(list)) => list::run(list, paths, output),
        Some(ReleasesCommand::Build(args)) => build::run(args, paths, output),
        Some(ReleasesCommand::Activate(args)) => {
            let request = ActivationRequest {
                app: &args.app,
                to: Some(&args.release),
                reason: args.reason.as_deref(),
                by: args.by.as_deref(),
                ignore_holds: args.force,
                wait: &args.wait,
            };
            rollback::activate("`trueup releases activate`", &request, paths, output)
        }
        Some(ReleasesCommand::Clean(args)) => clean::run(args, paths, output),
    }
}
