//! What is known about the releases of one app, and which of them may be activated.
//!
//! A release is only ever activated if this record says that it is built, and that is written,
//! durably, after its last step succeeded. A record that is lost, unreadable or from a newer trueup
//! is rebuilt from what is on the host (see `adopt`).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::adopt::{self, read_revision};
use super::entry::{ReleaseEntry, ReleaseStatus};
use super::layout::{Layout, is_release_name};
use crate::desired::Sha;
use crate::ports::Host;
use crate::ports::root::{Attrs, FileKind};
use crate::resource::Failure;

const VERSION: u32 = 2;

/// No record or log that trueup reads is larger, in bytes.
pub(super) const MAX_RECORD: usize = 8 << 20;

/// A switch of `current` that has not been proven yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The release that is tried.
    pub name: String,
    /// What was active before: where to go back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// It is itself the way back from a bad one, from which there is no further way.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub back: bool,
}

/// All releases of one app that are on disk, in the order in which they were last activated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    entries: Vec<ReleaseEntry>,
    trial: Option<Trial>,
    spare_attempted_for: Option<Sha>,
    unremoved: Vec<FailedRemoval>,
}

/// Something in `releases/` that is not needed and could not be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRemoval {
    pub name: String,
    /// What is in the way, and what ends it.
    pub why: String,
}

#[derive(Serialize, Deserialize)]
struct RecordFile {
    version: u32,
    releases: Vec<ReleaseEntry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trial: Option<Trial>,
    /// The sha from whose tree the next release can be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stocked: Option<Sha>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unremoved: Vec<FailedRemoval>,
}

/// The release that `current` points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveRelease {
    pub name: String,
    /// `None`: it has no usable `REVISION`, or one that contradicts the record.
    pub sha: Option<Sha>,
    /// When `current` was switched to it.
    pub since: Timestamp,
    /// As the record has it; `None`: it does not know it.
    pub state: Option<ReleaseStatus>,
    /// It has not been proven since `current` was switched to it.
    pub trial: Option<Trial>,
    /// The trial is one of a release after another one that was good, or is the way back to that one: the
    /// app served before.
    pub served_before: bool,
    /// A pass was killed before it had removed what is no longer needed, or made ready what comes
    /// next.
    pub needs_cleanup: bool,
    /// What is in the way of clearing up.
    pub unremoved: Vec<FailedRemoval>,
}

impl Record {
    /// The record, as far as it agrees with the disk. Writes nothing.
    pub fn load(host: &Host, layout: &Layout) -> Result<Record, Failure> {
        let file = read_record_file(host, layout).unwrap_or_else(RecordFile::empty);
        let on_disk = list_release_folders(host, layout)?;
        let mut record = Record {
            entries: file.releases,
            trial: file.trial,
            spare_attempted_for: file.stocked,
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
        // Older than anything that is remembered, but for the active one.
        adopted.append(&mut record.entries);
        record.entries = adopted;
        if let Some(active) = current(host, layout)? {
            record.set_last_activated(&active);
        }
        Ok(record)
    }

    pub fn save(&self, host: &Host, layout: &Layout) -> Result<(), Failure> {
        let path = layout.record();
        let file = RecordFile {
            version: VERSION,
            releases: self.entries.clone(),
            trial: self.trial.clone(),
            stocked: self.spare_attempted_for.clone(),
            unremoved: self.unremoved.clone(),
        };
        let body = serde_json::to_vec_pretty(&file).expect("plain data is always JSON");
        if let Some(folder) = path.parent() {
            host.root.create_dir_all(folder, &Attrs::mode(0o755))?;
        }
        Ok(host.root.write_atomic(&path, &body, &Attrs::mode(0o644))?)
    }

    /// Writes it if it says something else than the file, which may name what is gone.
    pub fn save_if_changed(&self, host: &Host, layout: &Layout) -> Result<(), Failure> {
        let same = read_record_file(host, layout).is_some_and(|file| {
            file.releases == self.entries
                && file.trial == self.trial
                && file.unremoved == self.unremoved
        });
        if same {
            return Ok(());
        }
        self.save(host, layout)
    }

    pub fn find(&self, name: &str) -> Option<&ReleaseEntry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// The names of the releases in this state, the one last activated last.
    pub fn in_state(&self, state: ReleaseStatus) -> Vec<String> {
        let matching = self.entries.iter().filter(|entry| entry.state == state);
        matching.map(|entry| entry.name.clone()).collect()
    }

    pub fn find_mut(&mut self, name: &str) -> Option<&mut ReleaseEntry> {
        self.entries.iter_mut().find(|entry| entry.name == name)
    }

    /// All of them, the one last activated last.
    pub fn entries(&self) -> &[ReleaseEntry] {
        &self.entries
    }

    /// A whole release of this sha, as it was built: the one last activated. Not a private one.
    pub fn find_complete(&self, sha: &Sha, host: &Host, layout: &Layout) -> Option<String> {
        let mut of_sha = self.entries.iter().rev();
        of_sha
            .find(|entry| {
                entry.state.is_complete()
                    && entry.private_until.is_none()
                    && entry.sha == *sha
                    && read_revision(host, layout, &entry.name).as_ref() == Some(sha)
            })
            .map(|entry| entry.name.clone())
    }

    /// An attempt at this sha that did not come to its end and can be taken up again: its files are
    /// laid out, and what was done since is on record.
    pub fn find_resumable(&self, sha: &Sha) -> Option<&ReleaseEntry> {
        let open = |entry: &&ReleaseEntry| {
            entry.is_resumable() && entry.private_until.is_none() && entry.sha == *sha
        };
        self.entries.iter().rev().find(open)
    }

    /// The good release that was active last before `name`.
    pub fn previous_good(&self, name: &str) -> Option<&ReleaseEntry> {
        let good = |entry: &&ReleaseEntry| entry.state == ReleaseStatus::Good && entry.name != name;
        self.entries.iter().rev().find(good)
    }

    pub fn trial(&self) -> Option<&Trial> {
        self.trial.as_ref()
    }

    /// Whether a tree was made ready, or could not be, while this sha was active.
    pub fn is_spare_attempted(&self, sha: &Sha) -> bool {
        self.spare_attempted_for.as_ref() == Some(sha)
    }

    pub fn set_spare_attempted(&mut self, sha: &Sha) {
        self.spare_attempted_for = Some(sha.clone());
    }

    pub fn set_trial(&mut self, trial: Option<Trial>) {
        self.trial = trial;
    }

    /// Takes up a release, in the place of what was known of it.
    pub fn put(&mut self, entry: ReleaseEntry) {
        match self.entries.iter_mut().find(|old| old.name == entry.name) {
            Some(old) => *old = entry,
            None => self.entries.push(entry),
        }
    }

    /// Notes that a release is the one last activated.
    pub fn set_last_activated(&mut self, name: &str) {
        self.entries.sort_by_key(|entry| entry.name == name);
    }

    /// Notes why something in `releases/` stays there.
    pub fn add_failed_removal(&mut self, name: &str, failure: &Failure) {
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

    pub fn clear_failed_removal(&mut self, name: &str) {
        self.unremoved.retain(|left| left.name != name);
    }

    /// What could not be removed the last time that it was tried.
    pub fn unremoved(&self) -> &[FailedRemoval] {
        &self.unremoved
    }

    pub fn forget(&mut self, name: &str) {
        self.entries.retain(|entry| entry.name != name);
    }
}

impl FailedRemoval {
    fn exists(&self, host: &Host, layout: &Layout) -> bool {
        !matches!(host.root.meta(&layout.release(&self.name)), Ok(None))
    }
}

impl RecordFile {
    fn empty() -> RecordFile {
        RecordFile {
            version: VERSION,
            releases: Vec::new(),
            trial: None,
            stocked: None,
            unremoved: Vec::new(),
        }
    }
}

/// The active release, with its sha where `REVISION` and the record do not contradict each other
/// and the record does not know it for half-built. Costs three reads.
///
/// `keep` is how many good releases are kept.
pub fn active(
    host: &Host,
    layout: &Layout,
    keep_releases: usize,
) -> Result<Option<ActiveRelease>, Failure> {
    let Some(meta) = host.root.meta(&layout.current())? else {
        return Ok(None);
    };
    let Some(name) = current(host, layout)? else {
        return Ok(None);
    };
    let (mut entry, mut trial, mut untidy, mut stocked) = (None, None, false, None);
    let (mut served, mut unremoved) = (false, Vec::new());
    if let Some(file) = read_record_file(host, layout) {
        let all = &file.releases;
        unremoved = file.unremoved;
        // What cannot be removed is tried again with the next deployment, not in each pass.
        let stays = |entry: &ReleaseEntry| unremoved.iter().any(|left| left.name == entry.name);
        let of = |state| {
            all.iter().filter(move |entry| {
                entry.state == state && entry.private_until.is_none() && !stays(entry)
            })
        };
        let is_gone = |left: &FailedRemoval| !left.exists(host, layout);
        untidy = unremoved.iter().any(is_gone)
            || of(ReleaseStatus::Good).count() > keep_releases.max(2)
            || of(ReleaseStatus::Failed).count() > 1;
        trial = file.trial.filter(|trial| trial.name == name);
        served = trial.as_ref().is_some_and(|trial| {
            let from = trial.from.as_ref();
            // One that the record does not know was put there by another tool.
            let unknown = from.is_some_and(|from| all.iter().all(|entry| entry.name != *from));
            let good = all
                .iter()
                .any(|entry| entry.state == ReleaseStatus::Good && entry.name != name);
            trial.back || unknown || good
        });
        stocked = file.stocked;
        entry = file.releases.into_iter().find(|e| e.name == name);
    }
    let sha = read_revision(host, layout, &name).filter(|sha| {
        entry.as_ref().is_none_or(|entry| {
            // A bad one is whole as well: it is where it is until it is put back.
            (entry.state.is_complete() || entry.state == ReleaseStatus::Bad) && entry.sha == *sha
        })
    });
    // A release that was taken over has no mirror to make anything from as yet.
    let bare = entry.is_some() && sha.is_some() && stocked != sha;
    Ok(Some(ActiveRelease {
        name,
        sha,
        since: meta.ctime,
        state: entry.map(|entry| entry.state),
        trial,
        served_before: served,
        needs_cleanup: untidy || bare,
        unremoved,
    }))
}

/// The record's file, if it can be taken.
fn read_record_file(host: &Host, layout: &Layout) -> Option<RecordFile> {
    let text = host.root.read(&layout.record(), MAX_RECORD).ok()??;
    let file: RecordFile = serde_json::from_slice(&text).ok()?;
    (file.version == VERSION).then_some(file)
}

/// The name of the release that `current` points to, whether it is there or not.
pub fn current(host: &Host, layout: &Layout) -> Result<Option<String>, Failure> {
    let target = host.root.read_link(&layout.current())?;
    Ok(target.and_then(|target| layout.release_of_link(&target)))
}

fn list_release_folders(host: &Host, layout: &Layout) -> Result<Vec<String>, Failure> {
    let names = host.root.list(&layout.releases())?.unwrap_or_default();
    let mut releases = Vec::new();
    for name in names.iter().filter_map(|name| name.to_str()) {
        let folder = |kind| kind == FileKind::Directory;
        if is_release_name(name)
            && host
                .root
                .meta(&layout.release(name))?
                .is_some_and(|meta| folder(meta.kind))
        {
            releases.push(name.to_owned());
        }
    }
    Ok(releases)
}
