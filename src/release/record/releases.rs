//! The record of an app's releases: their states, the current trial, and which of them may be activated.
//!
//! A release is only ever activated if this record calls it built, and that is written, durably, after its
//! last step succeeded. A record that is lost, unreadable or from a newer trueup is rebuilt from the host's
//! folders (see `adopt`).

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::adopt;
use super::disk::{current, list_release_folders, read_revision};
use super::entry::{ReleaseEntry, ReleaseStatus, StageStatus};
use super::trial::{RecordedBake, RecordedTrial};
use crate::desired::Sha;
use crate::ports::Host;
use crate::ports::root::Root;
use crate::ports::state::Document;
use crate::release::app::layout::Layout;
use crate::release::app::stage::Stage;
use crate::resource::Failure;

const VERSION: u32 = 2;

/// Largest record that trueup reads, in bytes.
const MAX_RECORD: usize = 8 << 20;

const DOCUMENT: Document = Document::new(VERSION, MAX_RECORD);

/// All releases of one app that are on disk, in the order of their last activation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReleaseRecord {
    entries: Vec<ReleaseEntry>,
    trial: Option<RecordedTrial>,
    bake: Option<RecordedBake>,
    spare_attempted_for: Option<Sha>,
    unremoved: Vec<FailedRemoval>,
}

/// An unneeded entry of `releases/` that could not be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FailedRemoval {
    pub name: String,
    /// The obstacle, and how to remove it.
    pub why: String,
}

#[derive(Serialize, Deserialize)]
pub(super) struct RecordFile {
    version: u32,
    pub(super) releases: Vec<ReleaseEntry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) trial: Option<RecordedTrial>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bake: Option<RecordedBake>,
    /// The sha for which a spare was prepared, or could not be.
    #[serde(rename = "stocked", default, skip_serializing_if = "Option::is_none")]
    pub(super) spare_attempted_for: Option<Sha>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) unremoved: Vec<FailedRemoval>,
}

impl ReleaseRecord {
    /// Loads the record, as far as it agrees with the disk. Writes nothing.
    pub(crate) fn load(host: &Host, layout: &Layout) -> Result<ReleaseRecord, Failure> {
        let file = read_record_file(host, layout).unwrap_or_else(RecordFile::empty);
        let on_disk = list_release_folders(host, layout)?;
        let mut record = ReleaseRecord {
            entries: file.releases,
            trial: file.trial,
            bake: file.bake,
            spare_attempted_for: file.spare_attempted_for,
            unremoved: file.unremoved,
        };
        record.unremoved.retain(|left| left.exists(host, layout));
        record.entries.retain(|entry| on_disk.contains(&entry.name));
        let mut unrecorded = on_disk;
        unrecorded.retain(|name| record.find(name).is_none());
        if unrecorded.is_empty() {
            return Ok(record);
        }
        let mut adopted = adopt::adopt_releases(host, layout, unrecorded)?;
        // Adopted releases count as older than recorded ones, except for the active one.
        adopted.append(&mut record.entries);
        record.entries = adopted;
        if let Some(active) = current(host, layout)? {
            record.set_last_activated(&active);
        }
        Ok(record)
    }

    pub(crate) fn save(&self, host: &Host, layout: &Layout) -> Result<(), Failure> {
        let file = RecordFile {
            version: VERSION,
            releases: self.entries.clone(),
            trial: self.trial.clone(),
            bake: self.bake.clone(),
            spare_attempted_for: self.spare_attempted_for.clone(),
            unremoved: self.unremoved.clone(),
        };
        Ok(DOCUMENT.save(&host.root, &layout.record(), &file)?)
    }

    /// Saves the record if it differs from the file, which may name releases that no longer exist.
    pub(crate) fn save_if_changed(&self, host: &Host, layout: &Layout) -> Result<(), Failure> {
        let same = read_record_file(host, layout).is_some_and(|file| {
            file.releases == self.entries
                && file.trial == self.trial
                && file.bake == self.bake
                && file.unremoved == self.unremoved
        });
        if same {
            return Ok(());
        }
        self.save(host, layout)
    }

    pub(crate) fn find(&self, name: &str) -> Option<&ReleaseEntry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// The names of the releases in this state, the last activated one last.
    pub(crate) fn in_state(&self, state: ReleaseStatus) -> Vec<String> {
        let matching = self.entries.iter().filter(|entry| entry.state == state);
        matching.map(|entry| entry.name.clone()).collect()
    }

    pub(crate) fn find_mut(&mut self, name: &str) -> Option<&mut ReleaseEntry> {
        self.entries.iter_mut().find(|entry| entry.name == name)
    }

    /// All releases, the last activated one last.
    pub(crate) fn entries(&self) -> &[ReleaseEntry] {
        &self.entries
    }

    /// A complete and usable release of this sha with an intact `REVISION`: the last activated one. Not a
    /// private one.
    pub(crate) fn find_complete(
        &self,
        sha: &Sha,
        host: &Host,
        layout: &Layout,
        is_usable: impl Fn(&ReleaseEntry) -> bool,
    ) -> Option<String> {
        let mut of_sha = self.entries.iter().rev();
        of_sha
            .find(|entry| {
                entry.state.is_complete()
                    && entry.private_until.is_none()
                    && entry.has_files_of(sha)
                    && is_usable(entry)
                    && read_revision(host, layout, &entry.name).as_ref() == Some(&entry.sha)
            })
            .map(|entry| entry.name.clone())
    }

    /// An unfinished build of this sha that can be resumed: its files are checked out, and the record has
    /// what was done since.
    pub(crate) fn find_resumable(&self, sha: &Sha) -> Option<&ReleaseEntry> {
        let open = |entry: &&ReleaseEntry| {
            entry.is_resumable() && entry.private_until.is_none() && entry.sha == *sha
        };
        self.entries.iter().rev().find(open)
    }

    /// The last activated good release other than `name`.
    pub(crate) fn previous_good(&self, name: &str) -> Option<&ReleaseEntry> {
        let good = |entry: &&ReleaseEntry| entry.state == ReleaseStatus::Good && entry.name != name;
        self.entries.iter().rev().find(good)
    }

    pub(crate) fn trial(&self) -> Option<&RecordedTrial> {
        self.trial.as_ref()
    }

    /// Whether a spare was prepared, or could not be, while this sha was active.
    pub(crate) fn is_spare_attempted(&self, sha: &Sha) -> bool {
        self.spare_attempted_for.as_ref() == Some(sha)
    }

    pub(crate) fn set_spare_attempted(&mut self, sha: &Sha) {
        self.spare_attempted_for = Some(sha.clone());
    }

    pub(crate) fn set_trial(&mut self, trial: Option<RecordedTrial>) {
        self.trial = trial;
    }

    pub(crate) fn bake(&self) -> Option<&RecordedBake> {
        self.bake.as_ref()
    }

    pub(crate) fn set_bake(&mut self, bake: Option<RecordedBake>) {
        self.bake = bake;
    }

    /// Whether a release of the app ever completed this stage here.
    pub(crate) fn has_done(&self, stage: Stage) -> bool {
        self.entries.iter().any(|entry| {
            let entry = entry.find_stage(stage, None);
            entry.is_some_and(|entry| entry.status == StageStatus::Done)
        })
    }

    /// Adds a release, or replaces its entry.
    pub(crate) fn put(&mut self, entry: ReleaseEntry) {
        match self.entries.iter_mut().find(|old| old.name == entry.name) {
            Some(old) => *old = entry,
            None => self.entries.push(entry),
        }
    }

    /// Marks a release as the last activated one.
    pub(crate) fn set_last_activated(&mut self, name: &str) {
        self.entries.sort_by_key(|entry| entry.name == name);
    }

    /// Records why an entry of `releases/` could not be removed.
    pub(crate) fn add_failed_removal(&mut self, name: &str, failure: &Failure) {
        let why = match &failure.hint {
            Some(hint) => format!("{}; {hint}", failure.message),
            None => failure.message.clone(),
        };
        self.clear_failed_removal(name);
        self.unremoved.push(FailedRemoval {
            name: name.to_owned(),
            why,
        });
        self.unremoved
            .sort_by(|one, other| one.name.cmp(&other.name));
    }

    pub(crate) fn clear_failed_removal(&mut self, name: &str) {
        self.unremoved.retain(|left| left.name != name);
    }

    /// What the last attempt could not remove.
    pub(crate) fn unremoved(&self) -> &[FailedRemoval] {
        &self.unremoved
    }

    pub(crate) fn forget(&mut self, name: &str) {
        self.entries.retain(|entry| entry.name != name);
    }
}

impl FailedRemoval {
    pub(super) fn exists(&self, host: &Host, layout: &Layout) -> bool {
        !matches!(host.root.meta(&layout.release(&self.name)), Ok(None))
    }
}

impl RecordFile {
    fn empty() -> RecordFile {
        RecordFile {
            version: VERSION,
            releases: Vec::new(),
            trial: None,
            bake: None,
            spare_attempted_for: None,
            unremoved: Vec::new(),
        }
    }
}

/// The record's file, if it is readable and of this version.
pub(super) fn read_record_file(host: &Host, layout: &Layout) -> Option<RecordFile> {
    DOCUMENT.load_cache(&host.root, &layout.record())
}

/// The names of the releases of an app that its record has, the newest last. Looks at nothing else.
pub(crate) fn recorded_names(root: &Root, app: &str) -> Vec<String> {
    let layout = Layout::new(app, Path::new("/"));
    let file: Option<RecordFile> = DOCUMENT.load_cache(root, &layout.record());
    let entries = file.map_or(Vec::new(), |file| file.releases);
    entries.into_iter().map(|entry| entry.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::state::testing::assert_round_trip;

    #[test]
    fn example_record_survives_a_round_trip() {
        assert_round_trip::<RecordFile>(&DOCUMENT, "release-record.json");
        assert_round_trip::<RecordFile>(&DOCUMENT, "release-record-described.json");
    }
}
