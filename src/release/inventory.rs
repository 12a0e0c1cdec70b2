//! What there is of an app on a host: its releases with how they stand, and what was decided about
//! its shas. Looks only.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

use super::entry::{Entry, Stage, Standing};
use super::orders::{Barred, Orders, Pin};
use super::record::{self, Record, Trial};
use super::{Layout, Spec};
use crate::desired::Sha;
use crate::ports::Host;
use crate::ports::root::Usage;
use crate::resource::Failure;

/// How a release stands, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// `current` points to it.
    Active,
    /// `current` points to it, and it has not been proven yet.
    OnTrial,
    /// It was active and proven.
    Good,
    /// Whole, and never active.
    Built,
    /// Somebody built it for himself.
    Private,
    Failed,
    /// It was active and failed its proof.
    Bad,
    Building,
}

/// One release.
#[derive(Debug, Serialize)]
pub struct Item {
    pub release: String,
    pub state: State,
    pub active: bool,
    pub sha: Sha,
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    /// When it was begun.
    pub begun: Timestamp,
    /// When it got into its state.
    pub at: Timestamp,
    /// The stage that it failed in or is in.
    pub stage: Option<Stage>,
    pub private_until: Option<Timestamp>,
    /// `None`: it could not be looked at.
    pub size: Option<Usage>,
    pub by: Option<String>,
    pub why: Option<String>,
    pub path: PathBuf,
}

/// One app.
#[derive(Debug, Serialize)]
pub struct Inventory {
    pub app: String,
    pub wanted: Option<Sha>,
    /// In force: the manifest still wants what it wanted when it was made.
    pub pin: Option<Pin>,
    pub quarantine: Vec<Barred>,
    /// The one last activated or begun first.
    pub releases: Vec<Item>,
}

/// Looks at all releases of an app.
pub fn inventory(spec: &Spec, host: &Host) -> Result<Inventory, Failure> {
    let layout = spec.layout();
    let record = Record::load(host, &layout)?;
    let orders = Orders::load(host, &layout)?;
    let active = record::current(host, &layout)?;
    let releases = record.entries().iter().rev().map(|entry| {
        let is_active = active.as_ref() == Some(&entry.name);
        item(entry, is_active, record.trial(), &layout, host)
    });
    Ok(Inventory {
        app: spec.app.clone(),
        wanted: spec.wanted.clone(),
        pin: orders.pinned(spec.wanted.as_ref()).cloned(),
        releases: releases.collect(),
        quarantine: orders.quarantine,
    })
}

/// The name of the active release.
pub fn active_name(spec: &Spec, host: &Host) -> Result<Option<String>, Failure> {
    record::current(host, &spec.layout())
}

/// The names of all releases of an app.
pub fn names(spec: &Spec, host: &Host) -> Result<Vec<String>, Failure> {
    let record = Record::load(host, &spec.layout())?;
    let entries = record.entries().iter();
    Ok(entries.map(|entry| entry.name.clone()).collect())
}

fn item(entry: &Entry, active: bool, trial: Option<&Trial>, layout: &Layout, host: &Host) -> Item {
    let path = layout.release(&entry.name);
    let begun = entry.stages.iter().map(|note| note.began).min();
    Item {
        release: entry.name.clone(),
        state: state(entry, active, trial),
        active,
        sha: entry.sha.clone(),
        reference: entry.reference.clone(),
        begun: begun.map_or(entry.at, |begun| begun.min(entry.at)),
        at: entry.at,
        stage: entry
            .unfinished()
            .filter(|_| !entry.state.is_whole())
            .map(|note| note.stage),
        private_until: entry.private_until,
        size: host.root.usage(&path).ok().flatten(),
        by: entry.by.clone(),
        why: entry.why.clone(),
        path: host.root.outside(&path),
    }
}

fn state(entry: &Entry, active: bool, trial: Option<&Trial>) -> State {
    let is_tried = trial.is_some_and(|trial| trial.name == entry.name);
    match entry.state {
        Standing::Building => State::Building,
        Standing::Failed => State::Failed,
        Standing::Bad => State::Bad,
        _ if active && is_tried => State::OnTrial,
        _ if active => State::Active,
        _ if entry.private_until.is_some() => State::Private,
        Standing::Built => State::Built,
        Standing::Good => State::Good,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_phase_shows_the_most_important_state() {
        let sha = Sha::parse(&"4f2c9d0e".repeat(5)).unwrap();
        let at = Timestamp::UNIX_EPOCH;
        let mut entry = Entry::begun("r", &sha, at);
        let trial = Trial {
            name: "r".into(),
            from: None,
            back: false,
        };
        assert_eq!(state(&entry, false, None), State::Building);
        entry.state = Standing::Built;
        assert_eq!(state(&entry, true, Some(&trial)), State::OnTrial);
        assert_eq!(state(&entry, false, Some(&trial)), State::Built);
        entry.private_until = Some(at);
        assert_eq!(state(&entry, false, None), State::Private);
        assert_eq!(state(&entry, true, None), State::Active);
        entry.state = Standing::Bad;
        assert_eq!(state(&entry, true, None), State::Bad);
    }
}
