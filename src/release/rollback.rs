//! Going to a release on an operator's word: which one, and the pin that keeps it there.
//!
//! The switch itself is a pass like any other, with its trial, its gate and its way back. Without the
//! pin the next pass would go to what the manifest wants again.

use super::between::{self, Difference};
use super::entry::Entry;
use super::orders::{Orders, Pin};
use super::record::{self, Record};
use super::{Deployment, Spec, activate, of_app};
use crate::desired::Sha;
use crate::ports::Host;
use crate::problem::nearest;
use crate::resource::Failure;

/// The release to go to.
#[derive(Debug)]
pub struct Chosen {
    pub release: String,
    pub sha: Sha,
    /// The manifest wants its sha anyway: no pin is needed to stay there.
    pub wanted: bool,
    /// What is active now.
    pub from: Option<String>,
    /// How the database's migrations differ between the two; an error if that cannot be told.
    pub migrations: Result<Vec<Difference>, String>,
}

/// Why there is none to go to.
#[derive(Debug)]
pub enum Refused {
    /// What was asked for cannot be.
    Asked(Failure),
    Quarantined(Failure),
    Other(Failure),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Refused {
        Refused::Other(failure)
    }
}

/// The release named `to`, or the good one that was active before. Changes nothing.
pub fn choose(spec: &Spec, host: &Host, to: Option<&str>) -> Result<Chosen, Refused> {
    let layout = spec.layout();
    let record = Record::load(host, &layout)?;
    let orders = Orders::load(host, &layout)?;
    let active = record::current(host, &layout)?;
    let view = View {
        app: &spec.app,
        wanted: spec.wanted.as_ref(),
        active: active.as_deref().and_then(|name| record.find(name)),
        record: &record,
        orders: &orders,
    };
    let entry = match to {
        Some(name) => view.named(name)?,
        None => view.before()?,
    };
    if let Some(hold) = spec
        .hold
        .as_ref()
        .filter(|_| active.as_ref() != Some(&entry.name))
    {
        let failure = Failure::new(format!(
            "{} is held by {}: {}",
            spec.app, hold.by, hold.reason
        ));
        return Err(Refused::Asked(failure.hint(
            "nothing is activated while a hold is in force; take it out of the manifest, or go over it on this host with `--force`",
        )));
    }
    let from = view.active.map(|active| &active.sha);
    let migrations = match from.filter(|from| **from != entry.sha) {
        Some(from) => between::migrations(spec, host, from, &entry.sha),
        None => Ok(Vec::new()),
    };
    Ok(Chosen {
        release: entry.name.clone(),
        sha: entry.sha.clone(),
        wanted: view.wanted == Some(&entry.sha),
        from: active,
        migrations: migrations.map_err(|failure| failure.message),
    })
}

/// What the choice is made from.
struct View<'a> {
    app: &'a str,
    wanted: Option<&'a Sha>,
    active: Option<&'a Entry>,
    record: &'a Record,
    orders: &'a Orders,
}

impl<'a> View<'a> {
    /// The good release that was active last before the active one and may be gone back to. The one
    /// that the manifest wants is not back: going back twice must not lead to where it began.
    fn before(&self) -> Result<&'a Entry, Refused> {
        let active = self.active.map(|active| &active.sha);
        let mut entries = self.record.entries().iter().rev();
        let found = entries.find(|entry| {
            entry.state == super::Standing::Good
                && Some(&entry.sha) != active
                && Some(&entry.sha) != self.wanted
                && self.orders.barred(&entry.sha).is_none()
        });
        found.ok_or_else(|| {
            let failure = Failure::new(format!(
                "there is no good release of {} to go back to",
                self.app
            ));
            Refused::Asked(failure.hint(
                "`trueup releases` shows what there is; `trueup releases build` builds another, which `trueup releases activate` puts into service",
            ))
        })
    }

    /// The release of this name, if it may be activated.
    fn named(&self, name: &str) -> Result<&'a Entry, Refused> {
        let entry = self
            .record
            .find(name)
            .ok_or_else(|| unknown(self.app, self.record, name))?;
        if !entry.state.is_whole() {
            let failure = Failure::new(format!(
                "release {name} of {} is {} and cannot be activated",
                self.app,
                entry.state.word()
            ));
            return Err(Refused::Asked(failure.hint(format!(
                "`trueup history --release {name}` tells more; `trueup releases` shows which are whole"
            ))));
        }
        if let Some(barred) = self.orders.barred(&entry.sha) {
            return Err(Refused::Quarantined(Failure::new(barred.words()).hint(
                "it failed in service here; if the reason is gone, lift that with `trueup converge --lift-quarantine REASON` once the manifest wants it",
            )));
        }
        match self.active {
            Some(active) if active.sha == entry.sha && active.name != name => {
                Err(Refused::Asked(Failure::new(format!(
                    "release {name} of {} is of the sha that is active already, in {}",
                    self.app, active.name
                ))))
            }
            _ => Ok(entry),
        }
    }
}

/// That there is no release of this name, with what there is.
pub(super) fn unknown(app: &str, record: &Record, name: &str) -> Refused {
    let failure = Failure::new(format!("{app} has no release `{name}`"));
    let names = || {
        let entries = record.entries().iter().rev();
        entries.map(|entry| entry.name.as_str())
    };
    let shown: Vec<&str> = names().take(8).collect();
    Refused::Asked(match nearest(name, names()) {
        Some(near) => failure.hint(format!("did you mean `{near}`?")),
        None if shown.is_empty() => failure.hint("nothing was ever built here"),
        None => failure.hint(format!("there are {}", shown.join(", "))),
    })
}

/// Puts the choice on record, for this pass and those to come: a pin, or, where the manifest wants
/// the same, the end of one.
pub fn pin(
    spec: &Spec,
    host: &Host,
    chosen: &Chosen,
    by: String,
    reason: Option<String>,
) -> Result<(), Failure> {
    let layout = spec.layout();
    let mut record = Record::load(host, &layout)?;
    // What is put into service is not private any more.
    if let Some(entry) = record.find_mut(&chosen.release)
        && entry.private_until.take().is_some()
    {
        record.save(host, &layout)?;
    }
    let mut orders = Orders::load(host, &layout)?;
    let pin = Pin {
        release: chosen.release.clone(),
        sha: chosen.sha.clone(),
        instead_of: spec.wanted.clone(),
        by,
        at: host.clock.now(),
        reason,
    };
    orders.pin = (!chosen.wanted).then_some(pin);
    orders.save(host, &layout)
}

/// Ends a pin, and returns it.
pub fn unpin(spec: &Spec, host: &Host) -> Result<Option<Pin>, Failure> {
    let layout = spec.layout();
    let mut orders = Orders::load(host, &layout)?;
    let pin = orders.pin.take();
    if pin.is_some() {
        orders.save(host, &layout)?;
    }
    Ok(pin)
}

/// Forgets that the wanted sha failed here, if it did, and returns a line that says so; it is in
/// `revisions.log` as well. Its release that failed stays what it is: a new one is built.
pub fn lift(spec: &Spec, host: &Host, by: &str, reason: &str) -> Result<Option<String>, Failure> {
    let d = of_app(spec, host)?;
    let mut orders = Orders::load(host, &d.layout)?;
    let wanted = spec.wanted.as_ref();
    let Some(barred) = wanted.and_then(|sha| orders.barred(sha)).cloned() else {
        return Ok(None);
    };
    let line = format!(
        "lifted the quarantine of {} (release {}) for {by}: {reason}",
        barred.sha, barred.release
    );
    activate::log(&d, &format!("trueup {line}"));
    orders.quarantine.retain(|other| other.sha != barred.sha);
    orders.save(host, &d.layout)?;
    Ok(Some(format!("{}: {line}", spec.app)))
}

/// The whole release that is pinned, if it is one of this sha: of two releases of one sha an
/// operator may mean either.
pub(super) fn pinned(d: &Deployment<'_>, record: &Record) -> Result<Option<String>, Failure> {
    let orders = Orders::load(d.host, &d.layout)?;
    let pin = orders.pinned(d.spec.wanted.as_ref());
    let entry = pin.and_then(|pin| record.find(&pin.release));
    let whole = entry.filter(|entry| {
        entry.state.is_whole()
            && entry.sha == d.sha
            && super::found::revision(d.host, &d.layout, &entry.name).as_ref() == Some(&d.sha)
    });
    Ok(whole.map(|entry| entry.name.clone()))
}
