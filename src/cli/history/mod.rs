//! `trueup history`: the passes that did something, or what a release went through.

mod passes;
mod release;

use super::args::HistoryArgs;
use super::{Output, edge};
use crate::exit::Exit;
use crate::pass::{Places, Session};
use crate::ports::exec::StopFlag;

pub(super) fn run(
    args: &HistoryArgs,
    places: &Places,
    output: &Output,
) -> Result<Exit, edge::Error> {
    let session = Session::open(places, StopFlag::default())?;
    match &args.release {
        None => passes::run(args.limit, &session, output),
        Some(name) => release::run(name, args.app.as_deref(), &session, output),
    }
}
