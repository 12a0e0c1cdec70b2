//! `trueup restart`: restarts the services of an app, and waits until it serves.

use super::Output;
use super::args::RestartArgs;
use super::converge::announce;
use super::format::current_user;
use super::locked::{LockRequest, LockedSession};
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::restart::{self, RestartReport, RestartResult, RestartRow};
use crate::pass::Paths;
use crate::report::Paint;

pub(super) fn run(
    args: &RestartArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    let request = LockRequest {
        command: "`trueup restart`",
        alternative: "`trueup ps` shows what runs",
        wait: &args.wait,
    };
    let locked = LockedSession::acquire(paths, &request, output)?;
    let by = current_user();
    let process = args.process.as_deref();
    let report = restart::restart(&locked.session, &args.app, process, &by, &mut |event| {
        locked.announce(&event);
        announce(&event, output);
    })?;
    if output.is_document() {
        output.print_document(&report);
    } else {
        print_report(&report, output);
    }
    Ok(report.outcome)
}

fn print_report(report: &RestartReport, output: &Output) {
    let paint = output.paint;
    for row in &report.services {
        print_row(row, output);
    }
    let (app, release) = (&report.app, &report.release);
    let text = match (report.serves, &report.why) {
        (Some(true), _) => format!("{app} {} release {release}", paint.good("serves")),
        (Some(false), why) => {
            let why = why.as_deref().unwrap_or_default();
            format!("{app} {}: {why}", paint.bad("does not serve"))
        }
        (None, _) if report.outcome == Exit::Stopped => {
            format!(
                "{app}: {}",
                paint.changed("stopped on request, before it was known to serve")
            )
        }
        (None, _) if report.services.iter().any(|row| row.result.is_done()) => {
            format!("{app}: {}", paint.bad("restarted in part"))
        }
        (None, _) => format!("{app}: nothing was restarted"),
    };
    output.print_line(text);
    print_hint(report.hint.as_deref(), output);
    if report.on_trial {
        output.print_line(format!(
            "release {release} is {}: the next pass decides whether it stays",
            paint.changed("on trial")
        ));
    }
}

/// Prints what was not done; the rest was announced.
fn print_row(row: &RestartRow, output: &Output) {
    let Some(word) = word(row.result, output.paint) else {
        return;
    };
    let why = row.why.as_deref().unwrap_or("trueup was asked to stop");
    output.print_line(format!("{word} {}: {why}", row.id));
    print_hint(row.hint.as_deref(), output);
}

fn word(result: RestartResult, paint: Paint) -> Option<String> {
    Some(match result {
        RestartResult::Restarted | RestartResult::Reloaded => return None,
        RestartResult::Skipped => paint.faint("skipped"),
        RestartResult::Waiting => paint.changed("waiting"),
        RestartResult::Failed => paint.bad("failed"),
        RestartResult::Stopped => paint.changed("stopped"),
    })
}

fn print_hint(hint: Option<&str>, output: &Output) {
    if let Some(hint) = hint {
        output.print_line(format!("  hint: {hint}"));
    }
}
