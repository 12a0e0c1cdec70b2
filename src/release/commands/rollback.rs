//! An operator's rollback: selects the release, and pins the app to it.
//!
//! The switch itself is a pass like any other, with its trial, its gate and its rollback. Without the pin the
//! next pass would return to what the manifest wants.

use super::diff::{self, ChangedFile};
use super::selection_error::SelectionError;
use crate::desired::Sha;
use crate::ports::Host;
use crate::release::app::spec::ReleaseSpec;
use crate::release::deployment::deployment_of_app;
use crate::release::record::entry::{ReleaseEntry, ReleaseStatus};
use crate::release::record::overrides::Overrides;
use crate::release::record::pin::Pin;
use crate::release::record::{self, ReleaseRecord};
use crate::release::stages::activate;
use crate::release::stages::unchanged::quarantined_with_same_files;
use crate::resource::Failure;

/// The release to activate.
#[derive(Debug)]
pub(crate) struct RollbackTarget {
    pub release: String,
    pub sha: Sha,
    /// The manifest wants its sha anyway, so it needs no pin.
    pub wanted: bool,
    /// A hold of the manifest stands against it, over which the operator goes.
    pub is_held: bool,
    /// The active release.
    pub from: Option<String>,
    /// The migrations that differ between the two; an error if they cannot be compared.
    pub migrations: Result<Vec<ChangedFile>, String>,
}

/// Selects the release named `to`, or the good one that was active before. `ignores_hold`: a hold of the manifest does not
/// matter. Changes nothing.
pub(crate) fn select_target(
    spec: &ReleaseSpec,
    host: &Host,
    to: Option<&str>,
    ignores_hold: bool,
) -> Result<RollbackTarget, SelectionError> {
    let layout = spec.layout();
    let record = ReleaseRecord::load(host, &layout)?;
    let overrides = Overrides::load(host, &layout)?;
    let active = record::current(host, &layout)?;
    let view = ReleaseSelector {
        app: &spec.app,
        wanted: spec.wanted.as_ref(),
        active: active.as_deref().and_then(|name| record.find(name)),
        record: &record,
        overrides: &overrides,
    };
    let entry = match to {
        Some(name) => view.by_name(name)?,
        None => view.previous_good()?,
    };
    let is_active = active.as_ref() == Some(&entry.name);
    let hold = spec.hold.as_ref();
    let hold = hold.filter(|hold| !is_active && hold.blocks(&entry.sha));
    if let Some(hold) = hold.filter(|_| !ignores_hold) {
        return Err(SelectionError::Held {
            app: spec.app.clone(),
            by: hold.by.clone(),
            reason: hold.reason.clone(),
        });
    }
    let from = view.active.map(|active| &active.sha);
    let migrations = match from.filter(|from| **from != entry.sha) {
        Some(from) => diff::diff_migrations(spec, host, from, &entry.sha),
        None => Ok(Vec::new()),
    };
    Ok(RollbackTarget {
        release: entry.name.clone(),
        sha: entry.sha.clone(),
        wanted: view.wanted.is_some_and(|wanted| entry.has_files_of(wanted)),
        is_held: hold.is_some(),
        from: active,
        migrations: migrations.map_err(|failure| failure.message),
    })
}

/// The state from which a release is selected.
struct ReleaseSelector<'a> {
    app: &'a str,
    wanted: Option<&'a Sha>,
    active: Option<&'a ReleaseEntry>,
    record: &'a ReleaseRecord,
    overrides: &'a Overrides,
}

impl<'a> ReleaseSelector<'a> {
    /// The good release that was active last before the active one and may be rolled back to. Never the one
    /// that the manifest wants: a second rollback must not return to where the first began.
    fn previous_good(&self) -> Result<&'a ReleaseEntry, SelectionError> {
        let active = self.active.map(|active| &active.sha);
        let mut entries = self.record.entries().iter().rev();
        let previous = entries.find(|entry| {
            entry.state == ReleaseStatus::Good
                && Some(&entry.sha) != active
                && !self.wanted.is_some_and(|wanted| entry.has_files_of(wanted))
                && self.overrides.find_quarantined(&entry.sha).is_none()
        });
        previous.ok_or_else(|| SelectionError::NoPreviousGood {
            app: self.app.to_owned(),
        })
    }

    /// The release of this name, if it may be activated.
    fn by_name(&self, name: &str) -> Result<&'a ReleaseEntry, SelectionError> {
        let entry = self
            .record
            .find(name)
            .ok_or_else(|| SelectionError::unknown_release(self.app, self.record, name))?;
        if !entry.state.is_complete() {
            return Err(SelectionError::Incomplete {
                app: self.app.to_owned(),
                name: name.to_owned(),
                status: entry.state.as_str(),
            });
        }
        if let Some(quarantined) = self.overrides.find_quarantined(&entry.sha) {
            return Err(SelectionError::Quarantined(quarantined.clone()));
        }
        match self.active {
            Some(active)
                if active.name != name && active.shas().any(|sha| entry.has_files_of(sha)) =>
            {
                Err(SelectionError::SameSha {
                    app: self.app.to_owned(),
                    name: name.to_owned(),
                    active: active.name.clone(),
                })
            }
            _ => Ok(entry),
        }
    }
}

/// Records the selection for this pass and later ones: sets a pin, or removes it if the manifest wants the
/// same sha.
pub(crate) fn pin(
    spec: &ReleaseSpec,
    host: &Host,
    target: &RollbackTarget,
    by: String,
    reason: Option<String>,
) -> Result<(), Failure> {
    let layout = spec.layout();
    let mut record = ReleaseRecord::load(host, &layout)?;
    // An activated release is no longer private.
    if let Some(entry) = record.find_mut(&target.release)
        && entry.private_until.take().is_some()
    {
        record.save(host, &layout)?;
    }
    let mut overrides = Overrides::load(host, &layout)?;
    let pin = Pin {
        release: target.release.clone(),
        sha: target.sha.clone(),
        instead_of: spec.wanted.clone(),
        by,
        at: host.clock.now(),
        reason,
    };
    overrides.pin = (!target.wanted).then_some(pin);
    overrides.save(host, &layout)
}

/// Removes the pin, and returns it.
pub(crate) fn unpin(spec: &ReleaseSpec, host: &Host) -> Result<Option<Pin>, Failure> {
    let layout = spec.layout();
    let mut overrides = Overrides::load(host, &layout)?;
    let pin = overrides.pin.take();
    if pin.is_some() {
        overrides.save(host, &layout)?;
    }
    Ok(pin)
}

/// Lifts the quarantine of the wanted sha, if there is one, and returns a line that reports it;
/// `revisions.log` gets it as well. The failed release stays bad: the pass builds a new one.
pub(crate) fn lift_quarantine(
    spec: &ReleaseSpec,
    host: &Host,
    by: &str,
    reason: &str,
) -> Result<Option<String>, Failure> {
    let deployment = deployment_of_app(spec, host)?;
    let mut overrides = Overrides::load(host, &deployment.layout)?;
    let wanted = spec.wanted.as_ref();
    let Some(quarantined) = wanted
        .and_then(|sha| overrides.find_quarantined(sha))
        .cloned()
    else {
        return Ok(None);
    };
    let line = format!(
        "lifted the quarantine of {} (release {}) for {by}: {reason}",
        quarantined.sha, quarantined.release
    );
    activate::append_revisions_log(&deployment, &format!("trueup {line}"));
    // One that stays would put this one back.
    let same = quarantined_with_same_files(spec, host, &overrides, &quarantined.sha);
    overrides
        .quarantine
        .retain(|other| other.sha != quarantined.sha && !same.contains(&other.sha));
    overrides.save(host, &deployment.layout)?;
    Ok(Some(format!("{}: {line}", spec.app)))
}
