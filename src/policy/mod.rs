//! Policy bundles: the roles, templates and parameters of an environment as one object of the store, which the signed
//! manifest names by its digest.
//!
//! A host keeps the packed object and unpacks it into memory, in each pass again: nothing of it becomes a file of root's, so
//! there is no path, link, mode or owner of a stranger's archive to be careful with, and what a pass reads is what the
//! digest was verified of. A bundle has some dozens of small files.

mod folder;
mod kept;
mod limits;
mod pack;
mod state;
mod status;
#[cfg(test)]
mod tests;
mod unpack;

use std::rc::Rc;

use crate::desired::ContentDigest;
use crate::settings::PolicyFiles;

pub(crate) use folder::read_folder;
pub(crate) use kept::{FetchError, KeptBundles, fetch};
pub(crate) use pack::pack;
pub(crate) use state::{FailedPolicy, PolicyState, PolicyTrial};
pub(crate) use status::{PolicyPhase, PolicyStatus};
pub(crate) use unpack::unpack;

/// What the keys of all bundles begin with.
pub(crate) const OBJECTS_PREFIX: &str = "policy/";

const SUFFIX: &str = ".tar.zst";

/// The key of a bundle in the store.
pub(crate) fn object_key(digest: &ContentDigest) -> String {
    format!("{OBJECTS_PREFIX}{}{SUFFIX}", digest.hex())
}

/// The digest that a key or a file name stands for.
pub(crate) fn digest_of_key(key: &str) -> Option<ContentDigest> {
    let hex = key.strip_prefix(OBJECTS_PREFIX).unwrap_or(key);
    ContentDigest::parse(&format!("sha256:{}", hex.strip_suffix(SUFFIX)?))
}

/// The files of a packed bundle whose digest is verified, for the search path of roles.
pub(crate) fn open(digest: &ContentDigest, packed: &[u8]) -> Result<Rc<PolicyFiles>, String> {
    Ok(Rc::new(PolicyFiles {
        name: format!("policy:{}", digest.short()),
        files: unpack(packed)?,
    }))
}
