//! What the running worker process of haproxy has loaded, as far as it cannot be asked.
//!
//! haproxy names its servers and their addresses, but not their options, nor anything else of its configuration. So
//! trueup notes them before it replaces the file that the worker has loaded. The note is about one process: after a
//! reload, by anybody, it says nothing, and the next change is a reload unless a pass has made a new one before.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::config::Configuration;
use crate::digest::digest;
use crate::ports::RUN_DIR;
use crate::ports::haproxy::ServerId;
use crate::ports::root::{Attrs, Root, RootError};
use crate::ports::state::Document;

const VERSION: u32 = 1;

/// Some ten thousand servers. Readable by root alone: a digest of a short secret helps to guess it.
const DOCUMENT: Document = Document::new(VERSION, 8 << 20).private().compact();

const PRIVATE_MODE: u32 = 0o700;

/// A process, by its id and the time of its start: ids are reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Worker {
    pub pid: u32,
    /// In ticks since boot.
    pub started: u64,
}

/// What a worker process has loaded, and what trueup is changing of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LoadedConfig {
    version: u32,
    pub worker: Worker,
    /// [`Configuration::rest`].
    pub rest: String,
    /// The servers that it may have, each with a fingerprint of its options.
    pub servers: BTreeMap<ServerId, String>,
    /// Those that trueup has begun to add, or to bring back.
    pub joining: BTreeSet<ServerId>,
    /// Those that trueup has put into maintenance because they left the configuration. They exist until their last
    /// connection ends.
    pub leaving: BTreeSet<ServerId>,
}

impl LoadedConfig {
    pub(super) fn new(worker: Worker, configuration: &Configuration) -> LoadedConfig {
        LoadedConfig {
            version: VERSION,
            worker,
            rest: configuration.rest.clone(),
            servers: fingerprints(configuration).collect(),
            joining: BTreeSet::new(),
            leaving: BTreeSet::new(),
        }
    }

    /// Adds the servers of a configuration that the worker is about to get.
    pub(super) fn extend(&mut self, configuration: &Configuration) {
        self.servers.extend(fingerprints(configuration));
    }

    /// The worker has exactly these servers now, besides those that leave.
    pub(super) fn settle(&mut self, configuration: &Configuration) {
        self.joining.clear();
        let leaving = &self.leaving;
        self.servers
            .retain(|id, _| configuration.servers.contains_key(id) || leaving.contains(id));
    }

    /// Whether trueup itself has set the administrative state of a server.
    pub(super) fn is_own_change(&self, id: &ServerId) -> bool {
        self.joining.contains(id) || self.leaving.contains(id)
    }
}

fn fingerprints(configuration: &Configuration) -> impl Iterator<Item = (ServerId, String)> {
    let servers = configuration.servers.iter();
    servers.map(|(id, server)| (id.clone(), options_fingerprint(&server.options)))
}

pub(super) fn options_fingerprint(options: &str) -> String {
    digest(options.as_bytes())
}

/// The note about the worker process of one service. It goes with a reboot, as the process does.
pub(super) struct LoadedStore<'a> {
    root: &'a Root,
    path: PathBuf,
}

impl<'a> LoadedStore<'a> {
    pub(super) fn new(root: &'a Root, service: &str) -> LoadedStore<'a> {
        let name = digest(service.as_bytes());
        let path = folder().join(format!("{}.json", &name[..16]));
        LoadedStore { root, path }
    }

    pub(super) fn load(&self) -> Option<LoadedConfig> {
        DOCUMENT.load_cache(self.root, &self.path)
    }

    pub(super) fn save(&self, loaded: &LoadedConfig) -> Result<(), RootError> {
        self.root
            .create_dir_all(&folder(), &Attrs::mode(PRIVATE_MODE))?;
        DOCUMENT.save(self.root, &self.path, loaded)
    }

    pub(super) fn remove(&self) -> Result<(), RootError> {
        match self.root.meta(&self.path)? {
            Some(_) => self.root.remove_file(&self.path),
            None => Ok(()),
        }
    }
}

fn folder() -> PathBuf {
    Path::new(RUN_DIR).join("haproxy")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::state::testing::assert_round_trip;

    #[test]
    fn example_of_a_loaded_configuration_survives_a_round_trip() {
        assert_round_trip::<LoadedConfig>(&DOCUMENT, "haproxy-loaded.json");
    }
}
