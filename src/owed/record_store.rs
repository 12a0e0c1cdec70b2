//! The records on disk: `/var/lib/trueup/services/`, one small file each, for root alone: with the
//! fingerprint of a file that has a short password in it, and the rest of the file, the password is soon
//! guessed.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::RunRecord;
use crate::ports::STATE_DIR;
use crate::ports::root::{Attrs, Root, RootError};

const VERSION: u32 = 1;

/// No record is larger, in bytes.
const MAX_RECORD_BYTES: usize = 1 << 20;

/// The file of one record.
#[derive(Debug, Serialize, Deserialize)]
struct RecordFile {
    version: u32,
    /// The resource, for people and against two ids that share a file name.
    id: String,
    #[serde(flatten)]
    record: RunRecord,
}

/// The folder and its files.
const PRIVATE_MODES: (u32, u32) = (0o700, 0o600);

/// Reads and writes records.
pub struct RecordStore<'a> {
    root: &'a Root,
}

impl<'a> RecordStore<'a> {
    pub fn new(root: &'a Root) -> RecordStore<'a> {
        RecordStore { root }
    }

    /// Whether the records are not for the user who asks.
    pub fn is_unreadable(&self) -> bool {
        self.root
            .list(&records_dir())
            .is_err_and(|error| error.is_permission_denied())
    }

    /// Takes from all others what an older trueup let everybody read.
    pub fn restrict_modes(&self) -> Result<(), RootError> {
        let folder = records_dir();
        let meta = self.root.meta(&folder)?;
        if meta.is_none_or(|meta| meta.mode == PRIVATE_MODES.0) {
            return Ok(());
        }
        // The files as well: somebody may have them open, or under another name. The folder last, so that
        // a pass that is killed here is made up for.
        for name in self.root.list(&folder)?.unwrap_or_default() {
            self.root
                .set_attrs(&folder.join(name), &Attrs::mode(PRIVATE_MODES.1))?;
        }
        self.root.set_attrs(&folder, &Attrs::mode(PRIVATE_MODES.0))
    }

    /// The record of a resource. A missing, broken or newer one is none at all: what is owed is
    /// then told from when the service started and when its things changed.
    pub fn read(&self, id: &str) -> Option<RunRecord> {
        let body = self.root.read(&record_path(id), MAX_RECORD_BYTES).ok()??;
        let file: RecordFile = serde_json::from_slice(&body).ok()?;
        (file.version == VERSION && file.id == id).then_some(file.record)
    }

    /// Writes a record if it differs from the one that is there.
    pub fn write(&self, id: &str, record: &RunRecord) -> Result<(), RootError> {
        if self.read(id).as_ref() == Some(record) {
            return Ok(());
        }
        let file = RecordFile {
            version: VERSION,
            id: id.to_owned(),
            record: record.clone(),
        };
        let body = serde_json::to_vec_pretty(&file).expect("plain data is always JSON");
        let path = record_path(id);
        let folder = path.parent().expect("a record lies in a folder");
        if self.root.meta(folder)?.is_none() {
            self.root
                .create_dir_all(Path::new(STATE_DIR), &Attrs::mode(0o755))?;
            self.root
                .create_dir(folder, &Attrs::mode(PRIVATE_MODES.0))?;
        }
        self.root
            .write_atomic(&path, &body, &Attrs::mode(PRIVATE_MODES.1))
    }
}

fn records_dir() -> PathBuf {
    Path::new(STATE_DIR).join("services")
}

/// A file name that no id can escape from; the hash keeps apart what the replacement makes alike.
fn record_path(id: &str) -> PathBuf {
    let word: String = id
        .chars()
        .take(80)
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '-'
            }
        })
        .collect();
    let hash = &crate::digest::digest(id.as_bytes())[..8];
    records_dir().join(format!("{word}-{hash}.json"))
}
