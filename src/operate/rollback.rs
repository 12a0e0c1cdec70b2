//! An operator's rollback: activates a release of an app and pins the app to it, or removes the pin.
//!
//! The caller holds the run lock and makes each step, so that it can report one before the next begins:
//! [`Rollback::select`] changes nothing, [`Rollback::pin`] or [`unpin`] changes what passes want,
//! [`Rollback::run_pass`] or [`run_unpinned_pass`] carries it out, and [`Rollback::result`] says what it led to.

use serde::Serialize;

use crate::apply::Event;
use crate::desired::Sha;
use crate::exit::Exit;
use crate::operate::status;
use crate::pass::{DeployedApp, PassError, PassOptions, Session};
use crate::release::{self, ChangedFile, Overrides, Pin, RollbackTarget, SelectionError};
use crate::report::Report;
use crate::resource::Failure;

/// The document of `rollback --output`.
#[derive(Debug, Serialize)]
pub(crate) struct Document<'a> {
    version: u32,
    outcome: Exit,
    app: &'a str,
    /// The release that is active now.
    pub release: Option<String>,
    pin: Option<&'a Pin>,
    /// Migrations that differ; `null`: unknown.
    migrations: Option<&'a [ChangedFile]>,
    report: &'a Report,
}

/// The activation of a release of an app.
pub(crate) struct Rollback<'a> {
    session: &'a Session,
    app: DeployedApp<'a>,
    pub target: RollbackTarget,
}

/// What a rollback led to.
pub(crate) struct RollbackResult<'a> {
    app: &'a str,
    pub outcome: Exit,
    pub target: RollbackTarget,
    /// The release that is active now.
    pub release: Option<String>,
    /// What the manifest wants for this host, and so for others.
    pub wanted: Option<Sha>,
    pub environment: String,
    pub next: NextStep,
    pub report: Report,
}

/// Where the app is, and what the following passes do with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NextStep {
    /// The target is active, and passes keep it.
    Keep(Pin),
    /// The target is active, and the manifest wants it.
    Wanted,
    /// The target is active, and has not passed its gate.
    OnTrial(Option<Pin>),
    /// The target is not active; passes keep trying.
    Retry(Pin),
    /// The target is not active, and nothing is pinned.
    Unpinned,
}

impl<'a> Rollback<'a> {
    /// Selects the release named `to`, or the good one that was active before. Changes nothing.
    pub(crate) fn select(
        session: &'a Session,
        app: DeployedApp<'a>,
        to: Option<&str>,
        ignores_hold: bool,
    ) -> Result<Rollback<'a>, SelectionError> {
        Ok(Rollback {
            session,
            app,
            target: release::select_target(app.spec, &session.host, to, ignores_hold)?,
        })
    }

    /// Pins the app to the target, unless the manifest wants it anyway.
    pub(crate) fn pin(&self, by: String, reason: Option<String>) -> Result<(), Failure> {
        release::pin(self.app.spec, &self.session.host, &self.target, by, reason)
    }

    /// Runs a pass over the app and what runs from it. No hold stands against a pin; a release that the manifest wants has
    /// none, and needs to go over it.
    pub(crate) fn run_pass(
        &self,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<Report, PassError> {
        let ignores_hold = self.target.wanted && self.target.is_held;
        run_pass(self.session, self.app, ignores_hold, on_event)
    }

    /// What the pass with this report led to.
    pub(crate) fn result(self, report: Report) -> Result<RollbackResult<'a>, Failure> {
        let pin = self.pin_after_pass()?;
        let spec = self.app.spec;
        let active = release::active(&self.session.host, &spec.layout(), spec.keep_releases)?;
        let active = active.as_ref();
        let reached = active.filter(|active| active.name == self.target.release);
        let is_proven = reached.is_some_and(|active| active.trial.is_none());
        let next = NextStep::new(reached.is_some(), is_proven, pin);
        let release = active.map(|active| active.name.clone());
        Ok(RollbackResult {
            wanted: spec.wanted.clone(),
            environment: self.session.settings.environment.clone(),
            app: &self.app.spec.app,
            outcome: next.outcome(report.outcome),
            target: self.target,
            release,
            next,
            report,
        })
    }

    /// The pin after the pass. Ends the pin of a release that failed its gate, because it would only keep the
    /// host from the wanted sha.
    fn pin_after_pass(&self) -> Result<Option<Pin>, Failure> {
        let (host, spec) = (&self.session.host, self.app.spec);
        let overrides = Overrides::load(host, &spec.layout())?;
        if overrides.find_quarantined(&self.target.sha).is_some() {
            release::unpin(spec, host)?;
            return Ok(None);
        }
        Ok(overrides.pin)
    }
}

impl RollbackResult<'_> {
    pub(crate) fn document(&self) -> Document<'_> {
        Document {
            version: crate::report::VERSION,
            outcome: self.outcome,
            app: self.app,
            release: self.release.clone(),
            pin: self.next.pin(),
            migrations: self.target.migrations.as_deref().ok(),
            report: &self.report,
        }
    }
}

impl NextStep {
    fn new(is_active: bool, is_proven: bool, pin: Option<Pin>) -> NextStep {
        match (is_active, pin) {
            (true, pin) if !is_proven => NextStep::OnTrial(pin),
            (true, Some(pin)) => NextStep::Keep(pin),
            (true, None) => NextStep::Wanted,
            (false, Some(pin)) => NextStep::Retry(pin),
            (false, None) => NextStep::Unpinned,
        }
    }

    /// The outcome of the request, given the outcome of its pass.
    fn outcome(&self, of_pass: Exit) -> Exit {
        match (of_pass, self) {
            // The app waits for the end of the pin, as requested.
            (Exit::Waiting, NextStep::Keep(_)) => Exit::Converged,
            // The wanted sha of the manifest, and whether it can be read, does not affect this request.
            (Exit::Stale | Exit::BadInput, NextStep::Keep(_) | NextStep::Wanted) => Exit::Converged,
            // The manifest changed between the selection and the pass.
            (Exit::Converged, NextStep::Retry(_) | NextStep::Unpinned | NextStep::OnTrial(_)) => {
                Exit::Failed
            }
            (outcome, _) => outcome,
        }
    }

    fn pin(&self) -> Option<&Pin> {
        match self {
            NextStep::Keep(pin) | NextStep::Retry(pin) => Some(pin),
            NextStep::OnTrial(pin) => pin.as_ref(),
            NextStep::Wanted | NextStep::Unpinned => None,
        }
    }
}

/// Writes what is so now into the note for who logs in: the pass over one app leaves it to the next one, which would go on
/// to show a pin that has ended.
pub(crate) fn announce_state(session: &Session) {
    match status::observe(session) {
        Ok(now) => session.announce_state(now.outcome, now.why.as_deref()),
        Err(error) => tracing::warn!("cannot update the note for who logs in: {error}"),
    }
}

/// Removes the pin of the app and returns it.
pub(crate) fn unpin(session: &Session, app: DeployedApp<'_>) -> Result<Option<Pin>, Failure> {
    release::unpin(app.spec, &session.host)
}

/// The document of `rollback --unpin --output`, after the pass with this report.
pub(crate) fn unpin_document<'a>(
    session: &Session,
    app: DeployedApp<'a>,
    report: &'a Report,
) -> Result<Document<'a>, Failure> {
    Ok(Document {
        version: crate::report::VERSION,
        outcome: report.outcome,
        app: &app.spec.app,
        release: release::active_release_name(app.spec, &session.host)?,
        pin: None,
        migrations: Some(&[]),
        report,
    })
}

/// Runs a pass over the app and what runs from it, without a pin.
pub(crate) fn run_unpinned_pass(
    session: &Session,
    app: DeployedApp<'_>,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<Report, PassError> {
    run_pass(session, app, false, on_event)
}

fn run_pass(
    session: &Session,
    app: DeployedApp<'_>,
    ignore_holds: bool,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<Report, PassError> {
    let options = PassOptions {
        // Retries failed releases at once: an operator asks for it.
        force: true,
        ignore_holds,
        only: Some(app.id.to_owned()),
        ..PassOptions::default()
    };
    session.converge(&options, on_event)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin() -> Pin {
        Pin {
            release: "20261128120000".into(),
            sha: Sha::parse("4f2c9d0e1b3a5c7d9e0f1a2b3c4d5e6f70819203").unwrap(),
            instead_of: None,
            by: "ann".into(),
            at: jiff::Timestamp::UNIX_EPOCH,
            reason: None,
        }
    }

    #[test]
    fn outcome_is_that_of_the_request_not_of_the_host() {
        for (is_active, pin, of_pass, expected) in [
            (true, Some(pin()), Exit::Converged, Exit::Converged),
            (true, Some(pin()), Exit::Waiting, Exit::Converged),
            (true, None, Exit::Waiting, Exit::Waiting),
            (true, Some(pin()), Exit::Stale, Exit::Converged),
            (true, None, Exit::BadInput, Exit::Converged),
            (true, Some(pin()), Exit::Failed, Exit::Failed),
            (false, Some(pin()), Exit::Converged, Exit::Failed),
            (false, None, Exit::Converged, Exit::Failed),
            (false, Some(pin()), Exit::Stale, Exit::Stale),
            (false, None, Exit::RolledBack, Exit::RolledBack),
        ] {
            let next = NextStep::new(is_active, true, pin);
            assert_eq!(
                next.outcome(of_pass),
                expected,
                "{next:?} after {of_pass:?}"
            );
        }
    }

    #[test]
    fn release_that_has_not_passed_its_gate_is_not_in_service() {
        for of_pass in [Exit::Waiting, Exit::Stale, Exit::Failed, Exit::Stopped] {
            let next = NextStep::new(true, false, Some(pin()));
            assert_eq!(next.outcome(of_pass), of_pass);
        }
        let next = NextStep::new(true, false, None);
        assert_eq!(next.outcome(Exit::Converged), Exit::Failed);
    }
}
