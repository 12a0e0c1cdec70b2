//! The encrypted objects of the secrets: in the store, and kept on the host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::age_file::MAX_OBJECT_BYTES;
use crate::desired::ContentDigest;
use crate::ports::Host;
use crate::ports::root::{Attrs, RootError};
use crate::ports::store::{GetOutcome, Store};

/// The folder of the objects below the state folder.
const FOLDER: &str = "secrets";

const SUFFIX: &str = ".age";

/// The file beside them that says since when the manifest does not name some: `<digest> <time>` lines.
const UNNAMED: &str = "unnamed";

/// How long an object stays after the manifest last named it.
const KEEP_UNNAMED: Duration = Duration::from_secs(7 * 24 * 3600);

/// Most objects that stay although the manifest does not name them; beyond that those that were named last go first, so
/// that nobody pushes out good ones.
const MAX_UNNAMED: usize = 200;

/// Maximum size of the file [`UNNAMED`], in bytes.
const MAX_NOTES_BYTES: usize = 64 << 10;

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

    /// Removes the objects that no manifest has named for [`KEEP_UNNAMED`]. Whoever can write the store could otherwise take
    /// them from every host with one manifest, and remove them from the store as well.
    pub(super) fn prune(&self, named: &BTreeMap<String, ContentDigest>) -> Result<(), RootError> {
        let (root, now) = (&self.host.root, self.host.clock.now());
        let folder = self.host.state_path(FOLDER);
        let notes = folder.join(UNNAMED);
        let names = root.list(&folder)?.unwrap_or_default();
        let known = self.unnamed_since(&notes)?;
        let mut unnamed: Vec<(Timestamp, String)> = Vec::new();
        for name in &names {
            let hex = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            match hex {
                Some(hex) if named.values().any(|digest| digest.hex() == hex) => {}
                Some(hex) => {
                    // Not later than now: the clock may have been set back.
                    let since = known.get(hex).copied().unwrap_or(now).min(now);
                    unnamed.push((since, hex.to_owned()));
                }
                None if *name == *UNNAMED => {}
                None => root.remove_tree(&folder.join(name))?,
            }
        }
        unnamed.sort();
        let mut kept = BTreeMap::new();
        for (since, hex) in unnamed {
            let age = Duration::try_from(now.duration_since(since)).unwrap_or_default();
            if age > KEEP_UNNAMED || kept.len() == MAX_UNNAMED {
                root.remove_tree(&folder.join(format!("{hex}{SUFFIX}")))?;
            } else {
                kept.insert(hex, since);
            }
        }
        if kept == known {
            return Ok(());
        }
        if kept.is_empty() {
            return root.remove_tree(&notes);
        }
        let lines = kept.iter().map(|(hex, since)| format!("{hex} {since}\n"));
        let text: String = lines.collect();
        root.write_atomic(&notes, text.as_bytes(), &Attrs::mode(0o600))
    }

    /// Since when the manifest does not name the objects that it named before.
    fn unnamed_since(&self, notes: &Path) -> Result<BTreeMap<String, Timestamp>, RootError> {
        let body = self.host.root.read(notes, MAX_NOTES_BYTES)?;
        let text = String::from_utf8_lossy(body.as_deref().unwrap_or_default()).into_owned();
        let lines = text.lines().filter_map(|line| {
            let (hex, since) = line.split_once(' ')?;
            Some((hex.to_owned(), since.parse().ok()?))
        });
        Ok(lines.collect())
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
