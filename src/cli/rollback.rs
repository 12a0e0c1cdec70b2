//! `trueup rollback` and `trueup releases activate`: activate another release and pin it.

use super::args::{RollbackArgs, WaitArgs};
use super::converge::{announce, print_text_report};
use super::format::{current_user, parse_one_line};
use super::locked::{LockRequest, LockedSession};
use super::plan::print_state;
use super::{Output, act};
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::rollback::{self, NextStep, Rollback, RollbackResult};
use crate::pass::Paths;
use crate::printable;
use crate::release::{ChangeType, RollbackTarget};

/// An operator's request.
pub(super) struct ActivationRequest<'a> {
    pub app: &'a str,
    /// `None`: the good release that was active before.
    pub to: Option<&'a str>,
    pub reason: Option<&'a str>,
    pub by: Option<&'a str>,
    /// Proceed even if the manifest holds the app.
    pub ignore_holds: bool,
    pub wait: &'a WaitArgs,
}

impl<'a> ActivationRequest<'a> {
    fn lock_request(&self, command: &'a str) -> LockRequest<'a> {
        LockRequest {
            command,
            alternative: "`trueup releases` shows the existing releases",
            wait: self.wait,
        }
    }
}

pub(super) fn run(
    args: &RollbackArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    if let Some(app) = &args.second {
        return act::rollback::run((&args.first, app), args, paths, output);
    }
    if args.policy {
        return act::roll_back_policy::run(args, paths, output);
    }
    let request = ActivationRequest {
        app: &args.first,
        to: args.to.as_deref(),
        reason: args.reason.as_deref(),
        by: args.publisher.by.as_deref(),
        ignore_holds: args.force,
        wait: &args.wait,
    };
    match args.unpin {
        true => unpin_and_converge(&request, paths, output),
        false => activate("`trueup rollback`", &request, paths, output),
    }
}

/// Activates the requested release and pins it.
pub(super) fn activate(
    command: &str,
    request: &ActivationRequest<'_>,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    let reason = parse_one_line("--reason", request.reason).map_err(CommandError::Usage)?;
    let by = parse_one_line("--by", request.by).map_err(CommandError::Usage)?;
    let by = by.unwrap_or_else(current_user);
    let locked = LockedSession::acquire(paths, &request.lock_request(command), output)?;
    let session = &locked.session;
    let apps = session.apps_from_store()?;
    let app = apps.find(request.app)?;
    let rollback = Rollback::select(session, app, request.to, request.ignore_holds)?;
    warn_of_migrations(&rollback.target, output);
    rollback.pin(by, reason)?;
    let report = rollback.run_pass(&mut |event| {
        locked.announce(&event);
        announce(&event, output);
    })?;
    let result = rollback.result(report)?;
    rollback::announce_state(session);
    if output.is_document() {
        output.print_document(&result.document());
        return Ok(result.outcome);
    }
    match result.outcome {
        // That the app waits for the end of the pin is what was asked for.
        Exit::Converged => print_state(&result.report, output),
        _ => print_text_report(session, &result.report, output),
    }
    for line in result_lines(request.app, &result) {
        output.print_line(line);
    }
    Ok(result.outcome)
}

/// What is so now on this host, how long it stays so, and what the other hosts do.
fn result_lines(app: &str, result: &RollbackResult<'_>) -> Vec<String> {
    let to = &result.target.release;
    let now = match &result.release {
        Some(release) => format!("it is at {release}"),
        None => "it has no active release".into(),
    };
    match &result.next {
        NextStep::Keep(pin) => {
            let reason = pin.reason.as_deref().unwrap_or("no reason given");
            let sha = &result.target.sha;
            let (wanted, fleet) = match &result.wanted {
                Some(wanted) => (
                    format!(" than {}", wanted.short()),
                    format!(
                        "other hosts go on to follow the manifest, to {}",
                        wanted.short()
                    ),
                ),
                None => (
                    String::new(),
                    "other hosts go on to follow the manifest".into(),
                ),
            };
            vec![
                format!(
                    "{app} serves {to} on this host, pinned by {}: {reason}",
                    pin.by
                ),
                format!(
                    "it stays there until the manifest wants another sha{wanted}, or `sudo trueup rollback {app} --unpin`; until then passes end with 3 (waiting)"
                ),
                format!(
                    "{fleet}; to take all of them there: `trueup publish {} {app}={sha}`",
                    result.environment
                ),
            ]
        }
        NextStep::Wanted => vec![format!(
            "{app} serves {to}, which the manifest wants: it needs no pin"
        )],
        NextStep::OnTrial(_) => vec![format!(
            "{app} is at {to}, which has not passed its gate: the next pass continues"
        )],
        NextStep::Retry(_) => vec![format!(
            "{app} is not at {to} but pinned to it: {now}; passes keep trying until `sudo trueup rollback {app} --unpin`"
        )],
        NextStep::Unpinned => vec![format!(
            "{app} is not at {to}: {now}, and nothing is pinned"
        )],
    }
}

fn unpin_and_converge(
    request: &ActivationRequest<'_>,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    let locked = LockedSession::acquire(paths, &request.lock_request("`trueup rollback`"), output)?;
    let session = &locked.session;
    let apps = session.apps_from_store()?;
    let app = apps.find(request.app)?;
    let pin = rollback::unpin(session, app)?;
    output.print_text(match &pin {
        Some(pin) => format!("ended: {}", pin.describe()),
        None => format!("{} was not pinned", request.app),
    });
    let report = rollback::run_unpinned_pass(session, app, &mut |event| {
        locked.announce(&event);
        announce(&event, output);
    })?;
    let document = rollback::unpin_document(session, app, &report)?;
    rollback::announce_state(session);
    if output.is_document() {
        output.print_document(&document);
        return Ok(report.outcome);
    }
    print_text_report(session, &report, output);
    if let (Exit::Converged, Some(release)) = (report.outcome, &document.release) {
        output.print_line(format!(
            "{} serves {release}, and follows the manifest{}",
            request.app,
            if pin.is_some() { " again" } else { "" }
        ));
    }
    Ok(report.outcome)
}

/// Warns of migrations that the rollback does not revert.
fn warn_of_migrations(target: &RollbackTarget, output: &Output) {
    if output.is_document() {
        return;
    }
    let differences = match &target.migrations {
        Ok(differences) => differences,
        Err(why) => {
            output.print_error(&format!(
                "trueup: warning: cannot determine whether migrations differ: {why}"
            ));
            return;
        }
    };
    if differences.is_empty() {
        return;
    }
    let from = target.from.as_deref().unwrap_or("the active release");
    output.print_error(&format!(
        "trueup: warning: migrations differ between {from} and {}; the database is not migrated down:",
        target.release
    ));
    for difference in differences {
        let change = match difference.change {
            ChangeType::Gone => "removed",
            ChangeType::New => "added",
            ChangeType::Changed => "changed",
        };
        let path = difference.path.display().to_string();
        output.print_error(&format!("  {change} {}", printable::line(&path)));
    }
}
