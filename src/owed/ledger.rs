//! The records on disk: `/var/lib/trueup/services/`, one small file each.

use std::path::PathBuf;

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

/// Reads and writes records.
pub struct Ledger<'a> {
    root: &'a Root,
}

impl<'a> Ledger<'a> {
    pub fn new(root: &'a Root) -> Ledger<'a> {
        Ledger { root }
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
        self.root.make_dirs(folder, &Attrs::mode(0o755))?;
        self.root.replace(&path, &body, &Attrs::mode(0o644))
    }
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
    PathBuf::from(STATE)
        .join("services")
        .join(format!("{word}-{hash}.json"))
}
