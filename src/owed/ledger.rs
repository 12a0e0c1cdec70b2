//! The records on disk: `/var/lib/trueup/services/`, one small file each, for root alone: with the
//! fingerprint of a file that has a short password in it, and the rest of the file, the password is soon
//! guessed.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Record;
use crate::ports::STATE;
use crate::ports::root::{Attrs, Root, RootError};

const VERSION: u32 = 1;

/// No record is larger, in bytes.
const MAX_RECORD: usize = 1 << 20;

/// The file of one record.
#[derive(Debug, Serialize, Deserialize)]
struct File {
    version: u32,
    /// The resource, for people and against two ids that share a file name.
    id: String,
    #[serde(flatten)]
    record: Record,
}

/// The folder and its files.
const PRIVATE: (u32, u32) = (0o700, 0o600);

/// Reads and writes records.
pub struct Ledger<'a> {
    root: &'a Root,
}

impl<'a> Ledger<'a> {
    pub fn new(root: &'a Root) -> Ledger<'a> {
        Ledger { root }
    }

    /// Whether the records are not for the user who asks.
    pub fn is_hidden(&self) -> bool {
        self.root
            .list(&folder())
            .is_err_and(|error| error.is_denied())
    }

    /// Takes from all others what an older trueup let everybody read.
    pub fn make_private(&self) -> Result<(), RootError> {
        let folder = folder();
        let meta = self.root.meta(&folder)?;
        if meta.is_none_or(|meta| meta.mode == PRIVATE.0) {
            return Ok(());
        }
        // The files as well: somebody may have them open, or under another name. The folder last, so that
        // a pass that is killed here is made up for.
        for name in self.root.list(&folder)?.unwrap_or_default() {
            self.root
                .set_attrs(&folder.join(name), &Attrs::mode(PRIVATE.1))?;
        }
        self.root.set_attrs(&folder, &Attrs::mode(PRIVATE.0))
    }

    /// The record of a resource. A missing, broken or newer one is none at all: what is owed is
    /// then told from when the service started and when its things changed.
    pub fn read(&self, id: &str) -> Option<Record> {
        let body = self.root.read(&path(id), MAX_RECORD).ok()??;
        let file: File = serde_json::from_slice(&body).ok()?;
        (file.version == VERSION && file.id == id).then_some(file.record)
    }

    /// Writes a record if it differs from the one that is there.
    pub fn write(&self, id: &str, record: &Record) -> Result<(), RootError> {
        if self.read(id).as_ref() == Some(record) {
            return Ok(());
        }
        let file = File {
            version: VERSION,
            id: id.to_owned(),
            record: record.clone(),
        };
        let body = serde_json::to_vec_pretty(&file).expect("plain data is always JSON");
        let path = path(id);
        let folder = path.parent().expect("a record lies in a folder");
        if self.root.meta(folder)?.is_none() {
            self.root.make_dirs(Path::new(STATE), &Attrs::mode(0o755))?;
            self.root.make_dir(folder, &Attrs::mode(PRIVATE.0))?;
        }
        self.root.replace(&path, &body, &Attrs::mode(PRIVATE.1))
    }
}

fn folder() -> PathBuf {
    Path::new(STATE).join("services")
}

/// A file name that no id can escape from; the hash keeps apart what the replacement makes alike.
fn path(id: &str) -> PathBuf {
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
    folder().join(format!("{word}-{hash}.json"))
}
