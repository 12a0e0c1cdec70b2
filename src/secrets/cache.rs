//! The encrypted objects of the secrets: in the store, and kept on the host.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::age_file::MAX_OBJECT_BYTES;
use crate::desired::ContentDigest;
use crate::ports::Host;
use crate::ports::root::{Attrs, RootError};
use crate::ports::store::{GetOutcome, Store};

/// The folder of the objects below the state folder.
const FOLDER: &str = "secrets";

const SUFFIX: &str = ".age";

/// The key in the store of a secret of an environment.
pub(crate) fn object_key(environment: &str, digest: &ContentDigest) -> String {
    format!("{}{}{SUFFIX}", objects_prefix(environment), digest.hex())
}

/// What the keys of all secrets of an environment begin with.
pub(crate) fn objects_prefix(environment: &str) -> String {
    format!("secrets/{environment}/")
}

/// The objects that this host has fetched. Encrypted, and nevertheless only root's: whoever gets a key later
/// should not find them on every host.
pub(super) struct ObjectCache<'a> {
    pub host: &'a Host,
}

impl ObjectCache<'_> {
    fn path(&self, digest: &ContentDigest) -> PathBuf {
        let name = format!("{FOLDER}/{}{SUFFIX}", digest.hex());
        self.host.state_path(&name)
    }

    /// An object, if it is there and undamaged.
    pub(super) fn read(&self, digest: &ContentDigest) -> Option<Vec<u8>> {
        let body = self.host.root.read(&self.path(digest), MAX_OBJECT_BYTES);
        let body = body.ok()??;
        (ContentDigest::of(&body) == *digest).then_some(body)
    }

    pub(super) fn save(&self, digest: &ContentDigest, body: &[u8]) -> Result<(), RootError> {
        let root = &self.host.root;
        root.create_dir_all(&self.host.state_path(FOLDER), &Attrs::mode(0o700))?;
        root.write_atomic(&self.path(digest), body, &Attrs::mode(0o600))
    }

    /// Removes the objects that the manifest does not name.
    pub(super) fn prune(&self, named: &BTreeMap<String, ContentDigest>) -> Result<(), RootError> {
        let folder = self.host.state_path(FOLDER);
        for name in self.host.root.list(&folder)?.unwrap_or_default() {
            let hex = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            let is_named = |hex: &str| named.values().any(|digest| digest.hex() == hex);
            if !hex.is_some_and(is_named) {
                self.host.root.remove_tree(&folder.join(name))?;
            }
        }
        Ok(())
    }
}

/// Fetches objects, each with the reason if it cannot be had.
pub(crate) fn fetch(
    store: &dyn Store,
    environment: &str,
    digests: &[ContentDigest],
) -> Vec<Result<Vec<u8>, String>> {
    let keys: Vec<String> = digests
        .iter()
        .map(|digest| object_key(environment, digest))
        .collect();
    let unanswered = || Err("the store did not answer in time".to_owned());
    let mut objects: Vec<_> = keys.iter().map(|_| unanswered()).collect();
    store.get_many(&keys, MAX_OBJECT_BYTES, &mut |number, answer| {
        objects[number] = match answer {
            Ok(GetOutcome::Object(object))
                if ContentDigest::of(&object.body) == digests[number] =>
            {
                Ok(object.body)
            }
            Ok(GetOutcome::Object(_)) => Err(format!(
                "{}/{} has another content than the manifest says",
                store.address(),
                keys[number]
            )),
            Ok(_) => Err(format!("there is no {}/{}", store.address(), keys[number])),
            Err(error) => Err(error.to_string()),
        };
    });
    objects
}
