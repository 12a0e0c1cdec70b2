//! Checks everything that a pass relies on.

use serde::Serialize;

use crate::checks::{self, Check};
use crate::exit::Exit;
use crate::pass::{PassError, Paths, Session};
use crate::ports::exec::StopFlag;
use crate::problem::Problem;

/// The document of `doctor --output`.
#[derive(Debug, Serialize)]
pub(crate) struct DoctorReport {
    version: u32,
    pub outcome: Exit,
    /// An ordinary user ran it, so what only root can look at was not checked.
    pub as_ordinary_user: bool,
    pub checks: Vec<Check>,
}

/// Runs all checks, until `stop` is set. Passes each result to `on_check` as soon as it is known, because some take
/// seconds.
pub(crate) fn run(
    paths: &Paths,
    stop: &StopFlag,
    on_check: &mut dyn FnMut(&Check),
) -> Result<DoctorReport, PassError> {
    let mut checks = Vec::new();
    let mut add = |check: Check| {
        on_check(&check);
        checks.push(check);
    };
    let mut as_ordinary_user = false;
    match Session::open(paths, stop.clone()) {
        Ok(session) => {
            as_ordinary_user = session.host.root.is_ordinary_user();
            checks::run_all(&session, &mut add);
        }
        // Without settings nothing else can be checked.
        Err(PassError::Input(problems)) => {
            for problem in problems.0 {
                add(Check::bad("settings", problem));
            }
        }
        Err(error) => return Err(error),
    }
    let is_stopped = stop.is_set();
    if is_stopped {
        add(Check::note(
            "stopped",
            Problem::new("by a signal: the remaining checks did not run"),
        ));
    }
    Ok(DoctorReport {
        version: crate::report::VERSION,
        outcome: match (checks.iter().any(Check::is_bad), is_stopped) {
            (true, _) => Exit::Failed,
            (false, true) => Exit::Stopped,
            (false, false) => Exit::Converged,
        },
        as_ordinary_user,
        checks,
    })
}
