//! `trueup status`: drift, health and passes of this host; what an operator reads first.

mod print;

use super::Output;
use crate::exit::Exit;
use crate::operate;
use crate::operate::CommandError;
use crate::pass::{Paths, Session};
use crate::ports::exec::StopFlag;

pub(super) fn run(paths: &Paths, output: &Output) -> Result<Exit, CommandError> {
    let session = Session::open(paths, StopFlag::default())?;
    let status = operate::status::observe(&session)?;
    if output.is_document() {
        output.print_document(&status.document());
    } else {
        print::print_status(&status, output);
    }
    Ok(status.outcome)
}
