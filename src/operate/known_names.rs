//! The names that this host knows from its own caches, for completions: environments, apps, nodes, releases.
//!
//! Asks nobody and changes nothing; what cannot be read is left out. Only plain names leave this module: a record or a
//! manifest is the work of others, and a shell puts these names into a command line.

use crate::desired::{self, Manifest};
use crate::fleet;
use crate::ports::root::Root;
use crate::release;
use crate::settings::is_name;

/// Names of each kind; at most so many that a person can look through them.
const MAX_NAMES: usize = 1000;

/// Reads the caches only for what is asked of it.
pub(crate) struct KnownNames<'a> {
    root: &'a Root,
}

impl<'a> KnownNames<'a> {
    pub(crate) fn new(root: &'a Root) -> KnownNames<'a> {
        KnownNames { root }
    }

    fn manifest(&self) -> Option<Manifest> {
        desired::cached_manifest(self.root)
    }

    /// The environments of the last good manifest.
    pub(crate) fn environments(&self) -> Vec<String> {
        let manifest = self.manifest();
        plain(
            manifest
                .into_iter()
                .flat_map(|known| known.environments.into_keys()),
        )
    }

    /// The apps of the environments that these words name, or of all if they name none.
    pub(crate) fn apps(&self, words: &[String]) -> Vec<String> {
        let Some(manifest) = self.manifest() else {
            return Vec::new();
        };
        let environments = || manifest.environments.iter();
        let is_any_named = environments().any(|(name, _)| words.contains(name));
        let named = environments().filter(|(name, _)| !is_any_named || words.contains(name));
        plain(named.flat_map(|(_, known)| known.app_names().map(str::to_owned)))
    }

    /// The nodes of this host's environment, from the records that passes have read.
    pub(crate) fn nodes(&self) -> Vec<String> {
        plain(fleet::cached_nodes(self.root).into_iter())
    }

    /// The releases on this host of the apps that these words name, or of all.
    pub(crate) fn releases(&self, words: &[String]) -> Vec<String> {
        let apps = self.apps(words);
        let is_any_named = apps.iter().any(|app| words.contains(app));
        let named = apps
            .iter()
            .filter(|app| !is_any_named || words.contains(app));
        plain(named.flat_map(|app| release::recorded_names(self.root, app)))
    }
}

/// Sorted names without the special characters of any shell.
fn plain(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = names.filter(|name| is_name(name)).take(MAX_NAMES).collect();
    names.sort();
    names.dedup();
    names
}
