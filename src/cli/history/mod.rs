//! `trueup history`: the passes that did something, or the stages of one release.

mod passes;
mod release;

use super::args::HistoryArgs;
use super::{Output, act};
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::pass::{Paths, Session};
use crate::ports::exec::StopFlag;

pub(super) fn run(
    args: &HistoryArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    if let Some(environment) = &args.env {
        return act::history::run(environment, args, paths, output);
    }
    let session = Session::open(paths, StopFlag::default())?;
    match &args.release {
        None => passes::run(args.limit, &session, output),
        Some(name) => release::run(name, args.app.as_deref(), &session, output),
    }
}
