//! What is known about the releases of one app, and which of them may be activated.
//!
//! A release is only ever activated if this record says `good`, and that is written, durably, after
//! its last step succeeded. A record that is lost, unreadable or from a newer trueup is rebuilt from
//! what is on the host, by the one rule that cannot activate a half-built release: a release counts
//! as good only if it has a `REVISION` and is active now or stands in `revisions.log`, which only
//! activations are written to. Any other is taken for a failed one.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::layout::{Layout, is_release_name};
use crate::desired::Sha;
use crate::ports::Host;
use crate::ports::root::{Attrs, FileKind};
use crate::resource::Failure;

const VERSION: u32 = 1;

/// No record or log that trueup reads is larger, in bytes.
const MAX_FILE: usize = 8 << 20;

/// How far a release has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    Building,
    Good,
    Failed,
}

/// The stages that a release goes through, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    Materialise,
    Link,
    Build,
    Assets,
    Activate,
}

/// One release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub name: String,
    pub sha: Sha,
    pub state: Standing,
    /// The stage that it is in, or in which it failed.
    pub stage: Stage,
    /// When it got there, by the host's clock.
    pub at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// All releases of one app that are on disk, in the order in which they were last activated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    entries: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    releases: Vec<Entry>,
}

/// The release that `current` points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Active {
    pub name: String,
    /// `None`: it has no usable `REVISION`, or one that contradicts the record.
    pub sha: Option<Sha>,
    /// When `current` was switched to it.
    pub since: Timestamp,
}

impl Record {
    /// The record, as far as it agrees with the disk. Writes nothing.
    pub fn load(host: &Host, layout: &Layout) -> Result<Record, Failure> {
        let written = host.root.read(&layout.record(), MAX_FILE).ok().flatten();
        let written: Option<Written> = written.and_then(|text| serde_json::from_slice(&text).ok());
        let known = written
            .filter(|written| written.version == VERSION)
            .map_or(Vec::new(), |written| written.releases);
        let on_disk = on_disk(host, layout)?;
        let mut record = Record { entries: known };
        record.entries.retain(|entry| on_disk.contains(&entry.name));
        let mut strangers = on_disk;
        strangers.retain(|name| record.find(name).is_none());
        if strangers.is_empty() {
            return Ok(record);
        }
        let activated = activated(host, layout)?;
        let mut found: Vec<Entry> = strangers
            .iter()
            .filter_map(|name| judge(host, layout, name, activated.contains(name)))
            .collect();
        // Older than anything that is remembered, but for the active one.
        found.append(&mut record.entries);
        record.entries = found;
        if let Some(active) = current(host, layout)? {
            record.last(&active);
        }
        Ok(record)
    }

    pub fn save(&self, host: &Host, layout: &Layout) -> Result<(), Failure> {
        let path = layout.record();
        let written = Written {
            version: VERSION,
            releases: self.entries.clone(),
        };
        let body = serde_json::to_vec_pretty(&written).expect("plain data is always JSON");
        if let Some(folder) = path.parent() {
            host.root.make_dirs(folder, &Attrs::mode(0o755))?;
        }
        Ok(host.root.replace(&path, &body, &Attrs::mode(0o644))?)
    }

    pub fn find(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// The names of the releases in this state, the one last activated last.
    pub fn in_state(&self, state: Standing) -> Vec<String> {
        let matching = self.entries.iter().filter(|entry| entry.state == state);
        matching.map(|entry| entry.name.clone()).collect()
    }

    /// A good release of this sha, as it was built: the one last activated.
    pub fn good(&self, sha: &Sha, host: &Host, layout: &Layout) -> Option<String> {
        let mut of_sha = self.entries.iter().rev();
        of_sha
            .find(|entry| {
                entry.state == Standing::Good
                    && entry.sha == *sha
                    && revision(host, layout, &entry.name).as_ref() == Some(sha)
            })
            .map(|entry| entry.name.clone())
    }

    /// Notes where a release is now.
    pub fn put(&mut self, entry: Entry) {
        match self.entries.iter_mut().find(|old| old.name == entry.name) {
            Some(old) => *old = entry,
            None => self.entries.push(entry),
        }
    }

    /// Notes that a release is the one last activated.
    pub fn last(&mut self, name: &str) {
        self.entries.sort_by_key(|entry| entry.name == name);
    }

    pub fn forget(&mut self, name: &str) {
        self.entries.retain(|entry| entry.name != name);
    }
}

/// The active release, with its sha where `REVISION` and the record do not contradict each other
/// and the record does not know it for half-built. Costs three reads.
pub fn active(host: &Host, layout: &Layout) -> Result<Option<Active>, Failure> {
    let Some(meta) = host.root.meta(&layout.current())? else {
        return Ok(None);
    };
    let Some(name) = current(host, layout)? else {
        return Ok(None);
    };
    let written = host.root.read(&layout.record(), MAX_FILE).ok().flatten();
    let written: Option<Written> = written.and_then(|text| serde_json::from_slice(&text).ok());
    let entry = written
        .filter(|written| written.version == VERSION)
        .and_then(|written| written.releases.into_iter().find(|e| e.name == name));
    let sha = revision(host, layout, &name).filter(|sha| {
        entry
            .as_ref()
            .is_none_or(|entry| entry.state == Standing::Good && entry.sha == *sha)
    });
    Ok(Some(Active {
        name,
        sha,
        since: meta.changed,
    }))
}

/// The name of the release that `current` points to, whether it is there or not.
pub fn current(host: &Host, layout: &Layout) -> Result<Option<String>, Failure> {
    let target = host.root.read_link(&layout.current())?;
    Ok(target.and_then(|target| layout.named_by(&target)))
}

/// What `REVISION` of a release says. The release belongs to the app's user, so this is only
/// believed where it does not matter or the record agrees.
fn revision(host: &Host, layout: &Layout, name: &str) -> Option<Sha> {
    let path = layout.release(name).join("REVISION");
    let text = host.root.read(&path, 256).ok()??;
    Sha::parse(std::str::from_utf8(&text).ok()?.trim()).ok()
}

fn on_disk(host: &Host, layout: &Layout) -> Result<Vec<String>, Failure> {
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

/// The names of all releases that were ever activated, from `revisions.log` and `current`.
fn activated(host: &Host, layout: &Layout) -> Result<Vec<String>, Failure> {
    let log = layout.revisions_log();
    let log = host.root.read(&log, MAX_FILE)?.unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let logged = log.lines().filter_map(|line| {
        let (_, rest) = line.split_once("deployed as release ")?;
        Some(rest.split_whitespace().next()?.to_owned())
    });
    Ok(logged.chain(current(host, layout)?).collect())
}

/// A release that the record does not know.
fn judge(host: &Host, layout: &Layout, name: &str, activated: bool) -> Option<Entry> {
    let meta = host.root.meta(&layout.release(name)).ok()??;
    let why = "there is no record that it was ever finished";
    Some(Entry {
        name: name.to_owned(),
        sha: revision(host, layout, name)?,
        state: if activated {
            Standing::Good
        } else {
            Standing::Failed
        },
        stage: if activated {
            Stage::Activate
        } else {
            Stage::Build
        },
        at: meta.changed,
        why: (!activated).then(|| why.to_owned()),
    })
}
