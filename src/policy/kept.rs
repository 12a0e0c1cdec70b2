//! The bundles that a host keeps, and the store that it gets them from.

use std::path::PathBuf;
use std::rc::Rc;

use super::limits::MAX_PACKED;
use super::{SUFFIX, digest_of_key, object_key, open};
use crate::desired::ContentDigest;
use crate::ports::Host;
use crate::ports::root::{Attrs, RootError};
use crate::ports::store::{GetOutcome, Store, StoreError};
use crate::settings::PolicyFiles;

/// The folder below the state folder.
const FOLDER: &str = "policy";

/// The packed bundles on this host. Every user may read them, as they may read the roles of the package: `plan` and `status`
/// need them, and what is secret in them is encrypted.
pub(crate) struct KeptBundles<'a> {
    pub host: &'a Host,
}

impl KeptBundles<'_> {
    fn path(&self, digest: &ContentDigest) -> PathBuf {
        let name = format!("{FOLDER}/{}{SUFFIX}", digest.hex());
        self.host.state_path(&name)
    }

    /// A packed bundle, if it is there and undamaged. The folder is root's own; the digest is verified because a disk may
    /// have lost a part of it.
    pub(crate) fn read(&self, digest: &ContentDigest) -> Option<Vec<u8>> {
        let body = self.host.root.read(&self.path(digest), MAX_PACKED).ok()??;
        (ContentDigest::of(&body) == *digest).then_some(body)
    }

    /// The files of a bundle; `None`: this host does not have it.
    pub(crate) fn open(&self, digest: &ContentDigest) -> Option<Result<Rc<PolicyFiles>, String>> {
        Some(open(digest, &self.read(digest)?))
    }

    pub(crate) fn save(&self, digest: &ContentDigest, body: &[u8]) -> Result<(), RootError> {
        let root = &self.host.root;
        root.create_dir_all(&self.host.state_path(FOLDER), &Attrs::mode(0o755))?;
        root.write_atomic(&self.path(digest), body, &Attrs::mode(0o644))
    }

    pub(crate) fn save_if_absent(
        &self,
        digest: &ContentDigest,
        body: &[u8],
    ) -> Result<(), RootError> {
        match self.read(digest) {
            Some(_) => Ok(()),
            None => self.save(digest, body),
        }
    }

    /// Removes all bundles but these.
    pub(crate) fn prune(&self, kept: &[&ContentDigest]) -> Result<(), RootError> {
        let folder = self.host.state_path(FOLDER);
        for name in self.host.root.list(&folder)?.unwrap_or_default() {
            let digest = name.to_str().and_then(digest_of_key);
            let is_other = digest.is_some_and(|digest| !kept.contains(&&digest));
            if is_other {
                self.host.root.remove_file(&folder.join(name))?;
            }
        }
        Ok(())
    }
}

/// Why a bundle cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not there, or is another one.
    #[error("{0}")]
    Object(String),
}

/// Gets a packed bundle from the store, and verifies its digest.
pub(crate) fn fetch(store: &dyn Store, digest: &ContentDigest) -> Result<Vec<u8>, FetchError> {
    let key = object_key(digest);
    let name = format!("{}/{key}", store.address());
    match store.get(&key, None)? {
        GetOutcome::Object(object) if ContentDigest::of(&object.body) == *digest => Ok(object.body),
        GetOutcome::Object(_) => Err(FetchError::Object(format!(
            "{name} has another content than the manifest says"
        ))),
        GetOutcome::Missing | GetOutcome::Unchanged => {
            Err(FetchError::Object(format!("there is no {name}")))
        }
    }
}
