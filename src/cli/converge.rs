//! `trueup converge`: runs one pass; for the timer, more of them while the fleet does not permit what this one needs.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Output;
use super::args::ConvergeArgs;
use super::format::{current_user, is_started_by_hand, parse_one_line};
use super::locked::{LockRequest, LockedSession};
use crate::apply::{Event, RESOURCE_TARGET};
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::pass::{self, PassError, PassOptions, Paths, QuarantineLift, Session};
use crate::problem::Problem;
use crate::report::{
    Report, ResourceReport, ResourceStatus, change_line, obligation_line, runtime_update_line,
    summary_line,
};
use crate::resource::{Duty, DutyOutcome};

/// How long the timer's run waits for permission of the fleet, until the timer starts it again.
const MAX_WAIT: Duration = Duration::from_secs(600);

pub(super) fn run(
    args: &ConvergeArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    let mut options = PassOptions {
        force: args.force,
        by_hand: is_started_by_hand(),
        ignore_holds: args.force,
        fresh: args.fresh,
        only: args.only.clone(),
        accept_shrink: args.accept_shrink,
        lift_quarantine: parse_lift(args.lift_quarantine.as_deref())?,
        next_slots: BTreeMap::new(),
    };
    let mut started = None;
    loop {
        let (session, report) = run_pass(args, &options, paths, output)?;
        let now = session.host.clock.monotonic_now();
        let waited = now.saturating_duration_since(*started.get_or_insert(now));
        if options.by_hand || waited >= MAX_WAIT || !session.wait_for_rollouts() {
            return Ok(report.outcome);
        }
        options.next_slots = session.next_slots();
    }
}

/// Runs one pass and prints its report. The session has no lock any more.
fn run_pass(
    args: &ConvergeArgs,
    options: &PassOptions,
    paths: &Paths,
    output: &Output,
) -> Result<(Session, Report), CommandError> {
    let request = LockRequest {
        command: "`trueup converge`",
        alternative: "`trueup plan` needs less",
        wait: &args.wait,
    };
    let locked = LockedSession::acquire(paths, &request, output).inspect_err(|error| {
        if matches!(error, CommandError::Pass(PassError::Input(_))) {
            pass::announce_no_session(paths, error.exit(), &error.summary());
        }
    })?;
    let session = &locked.session;
    let done = session.converge(options, &mut |event| {
        locked.announce(&event);
        announce(&event, output);
    });
    let report = done.map_err(CommandError::from).inspect_err(|error| {
        if error.exit() != Exit::Usage {
            session.announce_failure(error.exit(), &error.summary());
        }
    })?;
    print_report(session, &report, output);
    session.send_notices();
    Ok((locked.into_session(), report))
}

/// Validates the reason of `--lift-quarantine` and adds the operator's name.
fn parse_lift(reason: Option<&str>) -> Result<Option<QuarantineLift>, CommandError> {
    if reason.is_none() {
        return Ok(None);
    }
    let reason = parse_one_line("--lift-quarantine", reason).map_err(CommandError::Usage)?;
    let reason = reason.ok_or_else(|| {
        let problem = Problem::new("--lift-quarantine: expected a reason");
        CommandError::Usage(problem.hint("expected what has changed, so that it works now"))
    })?;
    Ok(Some(QuarantineLift {
        by: current_user(),
        reason,
    }))
}

/// Prints and logs each change as it happens. The event's span names the resource.
pub(super) fn announce(event: &Event<'_>, output: &Output) {
    match event {
        Event::ChangeStarted { id, change } => {
            tracing::info!(target: RESOURCE_TARGET, verb = %change.verb, "{} {id}", change.verb);
            output.print_logged(change_line(output.paint, id, change));
        }
        Event::TrialProgress { id, message } => {
            tracing::info!(target: RESOURCE_TARGET, verb = "prove", "{id}: {message}");
            output.print_logged(format!("{} {id}: {message}", output.paint.changed("prove")));
        }
        Event::DutyStarted { id, obligation } => {
            // A running service may take over the change without it, so a reload is announced once that is known.
            if obligation.duty != Duty::Reload {
                let line = obligation_line(output.paint, id, obligation, true);
                announce_duty(id, obligation.duty, &obligation.causes, line, output);
            }
        }
        Event::DutyFulfilled {
            id,
            obligation,
            outcome: DutyOutcome::AsNamed,
        } => {
            if obligation.duty == Duty::Reload {
                let line = obligation_line(output.paint, id, obligation, true);
                announce_duty(id, obligation.duty, &obligation.causes, line, output);
            }
        }
        Event::DutyFulfilled {
            id,
            obligation,
            outcome: DutyOutcome::AtRuntime(done),
        } => {
            let (causes, verb) = (obligation.causes.join(" "), "update");
            tracing::info!(target: RESOURCE_TARGET, verb, causes, "{id}: updated at runtime: {done}");
            output.print_logged(runtime_update_line(output.paint, id, obligation, done));
        }
        // The progress of the trial and the report say it.
        Event::TrialStarted { .. } | Event::ReleaseFailed { .. } => {}
    }
}

fn announce_duty(id: &str, duty: Duty, causes: &[String], line: String, output: &Output) {
    let causes = causes.join(" ");
    tracing::info!(target: RESOURCE_TARGET, verb = %duty, causes, "{duty} {id}");
    output.print_logged(line);
}

/// Prints the report of a pass.
fn print_report(session: &Session, report: &Report, output: &Output) {
    if output.is_document() {
        output.print_document(report);
    } else if !output.to_journal {
        print_text_report(session, report, output);
    }
}

/// The resources that are not as they should be: those with the same result for the same reason together, at the place
/// of the first.
fn equal_results(rows: &[ResourceReport]) -> Vec<Vec<&ResourceReport>> {
    let mut groups: Vec<Vec<&ResourceReport>> = Vec::new();
    let is_right = |row: &ResourceReport| {
        let done = [ResourceStatus::Right, ResourceStatus::Changed];
        done.contains(&row.status) && row.owed.is_empty()
    };
    for row in rows.iter().filter(|row| !is_right(row)) {
        let is_equal = |other: &ResourceReport| {
            row.why.is_some()
                && (other.status, &other.why, &other.hint) == (row.status, &row.why, &row.hint)
        };
        match groups.iter_mut().find(|group| is_equal(group[0])) {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    groups
}

/// Prints the report of a pass as text.
pub(super) fn print_text_report(session: &Session, report: &Report, output: &Output) {
    let paint = output.paint;
    for rows in equal_results(&report.resources) {
        let row = rows[0];
        let word = match row.status {
            ResourceStatus::Failed => paint.bad("failed"),
            ResourceStatus::RolledBack => paint.bad("rolled back"),
            ResourceStatus::Waiting => paint.changed("waiting"),
            ResourceStatus::Skipped => paint.changed("skipped"),
            _ => paint.changed("owed"),
        };
        let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        output.print_line(format!(
            "{word} {}: {}",
            ids.join(", "),
            row.why.as_deref().unwrap_or("see above")
        ));
        if let Some(hint) = &row.hint {
            output.print_line(format!("  hint: {hint}"));
        }
        for row in rows {
            for obligation in &row.owed {
                output.print_line(format!("  still owed: {} of {}", obligation.duty, row.id));
            }
        }
    }
    super::plan::print_state(report, output);
    if !session.host.root.is_privileged() {
        output.print_line(paint.faint("not running as root: owners and accounts were not managed"));
    }
    output.print_line(summary_line(paint, report));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_with_equal_failures_are_printed_together_and_right_ones_not() {
        let row = |id: &str, status, why: Option<&str>| ResourceReport {
            id: id.into(),
            kind: "file".into(),
            status,
            change: None,
            why: why.map(str::to_owned),
            hint: None,
            paid: Vec::new(),
            owed: Vec::new(),
        };
        let rows = [
            row("a", ResourceStatus::Failed, Some("no space")),
            row("b", ResourceStatus::Right, None),
            row("c", ResourceStatus::Skipped, Some("no space")),
            row("d", ResourceStatus::Failed, Some("no space")),
            row("e", ResourceStatus::Failed, None),
            row("f", ResourceStatus::Failed, None),
        ];
        let groups = equal_results(&rows).into_iter().map(|group| {
            let ids: Vec<&str> = group.iter().map(|row| row.id.as_str()).collect();
            ids.join(" ")
        });
        let groups: Vec<String> = groups.collect();
        assert_eq!(groups, ["a d", "c", "e", "f"]);
    }
}
