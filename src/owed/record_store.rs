//! The records on disk: `/var/lib/trueup/services/`, one small file each, readable by root alone. With the
//! fingerprint of a file that holds a short password, and the rest of the file, the password is soon guessed.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::RunRecord;
use crate::ports::STATE_DIR;
use crate::ports::root::{Attrs, Root, RootError};
use crate::ports::state::Document;

const VERSION: u32 = 1;

const DOCUMENT: Document = Document::new(VERSION, 1 << 20).private();

/// The file format of one record.
#[derive(Debug, Serialize, Deserialize)]
struct RecordFile {
    version: u32,
    /// The resource id, for people and to detect two ids that share a file name.
    id: String,
    #[serde(flatten)]
    record: RunRecord,
}

/// Modes of the folder and of its files.
const PRIVATE_MODES: (u32, u32) = (0o700, 0o600);

pub(crate) struct RecordStore<'a> {
    root: &'a Root,
}

impl<'a> RecordStore<'a> {
    pub(crate) fn new(root: &'a Root) -> RecordStore<'a> {
        RecordStore { root }
    }

    /// Whether the user who runs trueup cannot read the records.
    pub(crate) fn is_unreadable(&self) -> bool {
        self.root
            .list(&records_dir())
            .is_err_and(|error| error.is_permission_denied())
    }

    /// Restricts records that an older trueup made readable by everybody.
    pub(crate) fn restrict_modes(&self) -> Result<(), RootError> {
        let folder = records_dir();
        let meta = self.root.meta(&folder)?;
        if meta.is_none_or(|meta| meta.mode == PRIVATE_MODES.0) {
            return Ok(());
        }
        // The files too: another user may have them open, or under another name. The folder goes last, so
        // that the next pass repeats what a killed one did not finish.
        for name in self.root.list(&folder)?.unwrap_or_default() {
            self.root
                .set_attrs(&folder.join(name), &Attrs::mode(PRIVATE_MODES.1))?;
        }
        self.root.set_attrs(&folder, &Attrs::mode(PRIVATE_MODES.0))
    }

    /// Reads the record of a resource. A missing, broken or newer one counts as none: then the start time of
    /// the service and the change times of its dependencies decide what is owed.
    pub(crate) fn read(&self, id: &str) -> Option<RunRecord> {
        let file: RecordFile = DOCUMENT.load_cache(self.root, &record_path(id))?;
        (file.id == id).then_some(file.record)
    }

    /// Writes a record if it differs from the stored one.
    pub(crate) fn write(&self, id: &str, record: &RunRecord) -> Result<(), RootError> {
        if self.read(id).as_ref() == Some(record) {
            return Ok(());
        }
        let file = RecordFile {
            version: VERSION,
            id: id.to_owned(),
            record: record.clone(),
        };
        self.root
            .create_dir_all(&records_dir(), &Attrs::mode(PRIVATE_MODES.0))?;
        DOCUMENT.save(self.root, &record_path(id), &file)
    }
}

fn records_dir() -> PathBuf {
    Path::new(STATE_DIR).join("services")
}

/// A safe file name for any id; the hash separates ids that the replacement makes equal.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::state::testing::assert_round_trip;

    #[test]
    fn example_record_survives_a_round_trip() {
        assert_round_trip::<RecordFile>(&DOCUMENT, "owed-record.json");
    }
}
