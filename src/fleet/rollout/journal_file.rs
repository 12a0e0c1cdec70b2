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
            path: folder().join(format!("{app}.json")),
        }
    }
}

/// The apps and services of which this host has a journal. None if that cannot be found out: a later pass asks again.
pub(super) fn journaled_names(root: &Root) -> Vec<String> {
    let files = root.list(&folder()).unwrap_or_else(|error| {
        tracing::debug!(%error, "the journals of rollouts are not listed");
        None
    });
    let files = files.unwrap_or_default();
    let names = files.iter().filter_map(|name| {
        let name = name.to_str()?.strip_suffix(".json")?;
        Some(name.to_owned())
    });
    names.collect()
}

fn folder() -> PathBuf {
    Path::new(STATE_DIR).join("rollouts")
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
