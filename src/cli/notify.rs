//! `trueup notify`: tries the channels of notifications.

use super::Output;
use super::args::{NotifyArgs, NotifyCommand};
use super::format::current_user;
use crate::exit::Exit;
use crate::operate::{CommandError, notify};
use crate::pass::{Paths, Session};
use crate::ports::exec::StopFlag;
use crate::ports::signals;

pub(super) fn run(args: &NotifyArgs, paths: &Paths, output: &Output) -> Result<Exit, CommandError> {
    let NotifyCommand::Test(args) = &args.command;
    let stop = StopFlag::default();
    signals::stop_on_termination(&stop);
    let session = Session::open(paths, stop)?;
    let test = notify::test_channel(&session, &args.channel, &current_user())?;
    if output.is_document() {
        output.print_document(&test);
    } else {
        let answer = &test.answer;
        output.print_line(format!(
            "{}: sent: {answer}",
            output.paint.strong(&test.channel)
        ));
    }
    Ok(Exit::Converged)
}
