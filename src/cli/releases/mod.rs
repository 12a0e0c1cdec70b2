//! `trueup releases`: what there is of each app on this host, and what an operator does with it.

mod build;
mod clean;
mod list;

use super::args::{ReleasesArgs, ReleasesCommand};
use super::rollback::{self, Wish};
use super::{Output, edge};
use crate::exit::Exit;
use crate::pass::Places;

pub(super) fn run(
    args: &ReleasesArgs,
    places: &Places,
    output: &Output,
) -> Result<Exit, edge::Error> {
    match &args.command {
        None => list::run(&args.list, places, output),
        Some(ReleasesCommand::List(list)) => list::run(list, places, output),
        Some(ReleasesCommand::Build(args)) => build::run(args, places, output),
        Some(ReleasesCommand::Activate(args)) => {
            let wish = Wish {
                app: &args.app,
                to: Some(&args.release),
                reason: args.reason.as_deref(),
                by: args.by.as_deref(),
                over_holds: args.force,
                wait: &args.wait,
            };
            rollback::go("`trueup releases activate`", &wish, places, output)
        }
        Some(ReleasesCommand::Clean(args)) => clean::run(args, places, output),
    }
}
