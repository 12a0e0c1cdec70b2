//! `trueup rollout`: the way of a sha through the hosts of an environment.

mod act;
mod quarantine;
mod restart;
mod status;
mod wait;

pub(super) use act::step_outcome;
pub(super) use status::{is_unreachable, wait_for_end};

use super::Output;
use super::args::{RolloutArgs, RolloutCommand};
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::rollout::Intervention;
use crate::pass::Paths;
use crate::problem::Problem;

pub(super) fn run(
    args: &RolloutArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    let intervene = |act, what| act::run(act, &what, paths, output);
    match &args.command {
        RolloutCommand::Status(args) => status::run(args, paths, output),
        RolloutCommand::Restart(args) => restart::run(args, paths, output),
        RolloutCommand::Undo(args) if args.second.is_none() => Err(no_environment(
            &args.first,
            &format!("`trueup rollback {}` goes back on this host", args.first),
        )),
        RolloutCommand::Undo(args) => super::rollback::run(args, paths, output),
        RolloutCommand::History(args) if args.env.is_none() => Err(no_environment(
            "APP",
            "`trueup history` shows the passes of this host",
        )),
        RolloutCommand::History(args) => super::history::run(args, paths, output),
        RolloutCommand::Quarantine(args) => quarantine::run(args, paths, output),
        RolloutCommand::Resume(act) => intervene(act, Intervention::Resume),
        RolloutCommand::SkipCanary(act) => intervene(act, Intervention::SkipCanary),
        RolloutCommand::SkipAfter(act) => intervene(act, Intervention::SkipAfter),
        RolloutCommand::Reset(act) => intervene(act, Intervention::Reset),
        RolloutCommand::BreakSlot(args) => intervene(&args.act, act::break_slot(args)),
        RolloutCommand::Ignore(args) => {
            let node = args.node.clone();
            intervene(&args.act, Intervention::Ignore { node })
        }
        RolloutCommand::Once(args) => intervene(&args.act, act::resolve_step(args)),
    }
}

fn no_environment(app: &str, hint: &str) -> CommandError {
    let problem = Problem::new(format!("expected an environment and an app: `ENV {app}`"));
    CommandError::Usage(problem.hint(hint))
}
