//! `trueup history`: the passes that did something, or the stages of one release.

mod passes;
mod release;

use super::Output;
use super::args::HistoryArgs;
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::pass::{Paths, Session};
use crate::ports::exec::StopFlag;

pub(super) fn run(
    args: &HistoryArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    let session = Session::open(paths, StopFlag::default())?;
    match &args.release {
        None => passes::run(args.limit, &session, output),
        Some(name) => release::run(name, args.app.as_deref(), &session, output),
    }
}
