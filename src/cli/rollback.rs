//! `trueup rollback` and `trueup releases activate`: activate another release and pin it.

use serde::Serialize;

use super::args::{RollbackArgs, WaitArgs};
use super::converge::{announce, print_text_report};
use super::error::{command_failed, refusal_error};
use super::format::{current_user, parse_one_line};
use super::locked::{LockRequest, LockedSession};
use super::{Output, error};
use crate::exit::Exit;
use crate::pass::{DeployedApp, PassOptions, Paths, Session};
use crate::release::{self, ChangeType, Pin, RollbackTarget};
use crate::report::Report;

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
    fn lock_request(&self, what: &'a str) -> LockRequest<'a> {
        LockRequest {
            command: what,
            alternative: "`trueup releases` shows the existing releases",
            wait: self.wait,
        }
    }
}

/// The document of `--output`.
#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    outcome: Exit,
    app: &'a str,
    /// The release that is active now.
    release: Option<&'a str>,
    pin: Option<&'a Pin>,
    /// Migrations that differ; `null`: unknown.
    migrations: Option<&'a [release::ChangedFile]>,
    report: &'a Report,
}

pub(super) fn run(
    args: &RollbackArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, error::CliError> {
    let request = ActivationRequest {
        app: &args.app,
        to: args.to.as_deref(),
        reason: args.reason.as_deref(),
        by: args.by.as_deref(),
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
    what: &str,
    request: &ActivationRequest<'_>,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, error::CliError> {
    let reason = parse_one_line("--reason", request.reason).map_err(error::CliError::Usage)?;
    let by = parse_one_line("--by", request.by).map_err(error::CliError::Usage)?;
    let by = by
        .or_else(current_user)
        .unwrap_or_else(|| "somebody".into());
    let locked = LockedSession::acquire(paths, &request.lock_request(what), output)?;
    let session = &locked.session;
    let apps = session.apps_from_store(request.ignore_holds)?;
    let app = apps.find(request.app)?;
    let chosen =
        release::select_target(app.spec, &session.host, request.to).map_err(refusal_error)?;
    warn_of_migrations(&chosen, output);
    release::pin(app.spec, &session.host, &chosen, by, reason).map_err(command_failed)?;
    let report = run_pass(&locked, app, request, output)?;
    let pinned = pin_after_pass(session, app, &chosen).map_err(command_failed)?;
    let active = release::active_release_name(app.spec, &session.host).map_err(command_failed)?;
    let name = active.as_deref();
    let is_there = name == Some(&chosen.release);
    let outcome = match (report.outcome, is_there) {
        // The app waits for the end of the pin, as requested.
        (Exit::Waiting, true) if pinned.is_some() => Exit::Converged,
        // The wanted sha of the manifest, and whether it can be read, does not affect this request.
        (Exit::Stale | Exit::BadInput, true) => Exit::Converged,
        // The manifest changed between the selection and the pass.
        (Exit::Converged, false) => Exit::Failed,
        (outcome, _) => outcome,
    };
    if output.is_document() {
        output.print_document(&Document {
            version: crate::report::VERSION,
            outcome,
            app: request.app,
            release: name,
            pin: pinned.as_ref(),
            migrations: chosen.migrations.as_deref().ok(),
            report: &report,
        });
        return Ok(outcome);
    }
    let (app, to) = (request.app, &chosen.release);
    output.print_line(match (is_there, &pinned) {
        (true, Some(pin)) => format!(
            "{app} is {}\nit stays there until the manifest wants another sha, or `trueup rollback {app} --unpin`",
            pin.describe()
        ),
        (true, None) => format!("{app} is at {to}, which the manifest wants: it needs no pin"),
        (false, Some(_)) => format!(
            "{app} is not at {to}; passes keep trying: `trueup rollback {app} --unpin` stops that"
        ),
        (false, None) => format!("{app} is not at {to}, and nothing is pinned"),
    });
    Ok(outcome)
}

fn unpin_and_converge(
    request: &ActivationRequest<'_>,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, error::CliError> {
    let locked = LockedSession::acquire(paths, &request.lock_request("`trueup rollback`"), output)?;
    let session = &locked.session;
    let apps = session.apps_from_store(false)?;
    let app = apps.find(request.app)?;
    let pin = release::unpin(app.spec, &session.host).map_err(command_failed)?;
    output.print_text(match &pin {
        Some(pin) => format!("no longer {}", pin.describe()),
        None => format!("{} was not pinned", request.app),
    });
    let report = run_pass(&locked, app, request, output)?;
    if output.is_document() {
        let active =
            release::active_release_name(app.spec, &session.host).map_err(command_failed)?;
        output.print_document(&Document {
            version: crate::report::VERSION,
            outcome: report.outcome,
            app: request.app,
            release: active.as_deref(),
            pin: None,
            migrations: Some(&[]),
            report: &report,
        });
    }
    Ok(report.outcome)
}

/// Runs a pass over the app and what runs from it.
fn run_pass(
    locked: &LockedSession,
    app: DeployedApp<'_>,
    request: &ActivationRequest<'_>,
    output: &Output,
) -> Result<Report, error::CliError> {
    let session = &locked.session;
    let options = PassOptions {
        // Retries failed releases at once: an operator asks for it.
        force: true,
        ignore_holds: request.ignore_holds,
        only: Some(app.id.to_owned()),
        ..PassOptions::default()
    };
    let report = session.converge(&options, &mut |event| {
        locked.announce(&event);
        announce(&event, output);
    })?;
    if !output.is_document() {
        print_text_report(session, &report, output);
    }
    Ok(report)
}

/// The pin after the pass. Ends the pin of a release that failed its gate, because it would only keep the
/// host from the wanted sha.
fn pin_after_pass(
    session: &Session,
    app: DeployedApp<'_>,
    chosen: &RollbackTarget,
) -> Result<Option<Pin>, crate::resource::Failure> {
    let orders = release::Overrides::load(&session.host, &app.spec.layout())?;
    if orders.find_quarantined(&chosen.sha).is_some() {
        release::unpin(app.spec, &session.host)?;
        return Ok(None);
    }
    Ok(orders.pin)
}

/// Warns of migrations that the rollback does not revert.
fn warn_of_migrations(chosen: &RollbackTarget, output: &Output) {
    if output.is_document() {
        return;
    }
    let differences = match &chosen.migrations {
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
    let from = chosen.from.as_deref().unwrap_or("the active release");
    output.print_error(&format!(
        "trueup: warning: migrations differ between {from} and {}; the database is not migrated down:",
        chosen.release
    ));
    for difference in differences {
        let how = match difference.how {
            ChangeType::Gone => "-",
            ChangeType::New => "+",
            ChangeType::Changed => "~",
        };
        output.print_error(&format!("  {how} {}", difference.path.display()));
    }
}
