//! The journal of an app on disk: `/var/lib/trueup/rollouts/APP.json`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::journal::{Journal, JournalStore};
use super::object::RolloutError;
use crate::ports::STATE_DIR;
use crate::ports::root::Root;
use crate::ports::state::Document;

const VERSION: u32 = 1;

/// A log tail is part of it.
const DOCUMENT: Document = Document::new(VERSION, 1 << 20).private();

/// The journal of one app.
pub(crate) struct JournalFile<'a> {
    root: &'a Root,
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Contents {
    version: u32,
    #[serde(flatten)]
    journal: Journal,
}

impl<'a> JournalFile<'a> {
    pub(crate) fn new(root: &'a Root, app: &str) -> JournalFile<'a> {
        JournalFile {
            root,
            path: Path::new(STATE_DIR)
                .join("rollouts")
                .join(format!("{app}.json")),
        }
    }
}

impl JournalStore for JournalFile<'_> {
    /// A file that cannot be used is an error: it may name a slot that this host holds.
    fn load(&self) -> Result<Journal, RolloutError> {
        let found: Result<Option<Contents>, _> = DOCUMENT.load(self.root, &self.path);
        match found {
            Ok(found) => Ok(found.map_or_else(Journal::default, |contents| contents.journal)),
            Err(error) => Err(RolloutError::JournalStore(error.to_string())),
        }
    }

    fn save(&self, journal: &Journal) -> Result<(), RolloutError> {
        let contents = Contents {
            version: VERSION,
            journal: journal.clone(),
        };
        let saved = DOCUMENT.save(self.root, &self.path, &contents);
        saved.map_err(|error| RolloutError::JournalStore(error.to_string()))
    }
}
