//! Stores the last good manifest on the host.
//!
//! Two files: the manifest unchanged, and its metadata. The metadata contains the hash of the manifest, so
//! that a pass killed between the two writes leaves a detectable mismatch, and the next pass fetches the
//! manifest again.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Manifest;
use crate::digest::digest;
use crate::ports::root::{Attrs, Root, RootError};
use crate::ports::state::{Document, StateError};
use crate::ports::store::{Etag, MAX_OBJECT_SIZE, Object};
use crate::ports::{Host, STATE_DIR};

/// The metadata of the last good manifest (`manifest.json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestMeta {
    version: u32,
    /// `None` if the pair of files did not match: the next read is unconditional.
    pub etag: Option<Etag>,
    /// Of `environment`.
    pub generation: Option<u64>,
    /// The environment of this host when it accepted it: each has its own generations. Empty: unknown.
    #[serde(default)]
    environment: String,
    /// When this host first accepted it.
    pub taken: Timestamp,
    sha256: String,
}

/// The last good manifest with its metadata.
#[derive(Debug, Clone)]
pub(crate) struct CachedManifest {
    pub body: Vec<u8>,
    pub meta: ManifestMeta,
}

const VERSION: u32 = 1;

const META: Document = Document::new(VERSION, MAX_OBJECT_SIZE);

fn paths(host: &Host) -> (PathBuf, PathBuf) {
    (
        host.state_path("manifest.yml"),
        host.state_path("manifest.json"),
    )
}

/// The last good manifest, if one is readable. Never an error: a lost cache costs one unconditional request.
pub(super) fn load(host: &Host, environment: &str) -> Option<CachedManifest> {
    let (body, meta) = paths(host);
    let body = host.root.read(&body, MAX_OBJECT_SIZE).ok()??;
    let known: Result<Option<ManifestMeta>, StateError> = META.load(&host.root, &meta);
    let lost = matches!(known, Ok(None) | Err(StateError::Root(_)));
    let mut known = known.ok().flatten();
    if let Some(meta) = &mut known
        && !["", environment].contains(&meta.environment.as_str())
    {
        meta.generation = None;
        meta.etag = None;
    }
    let meta = match known {
        Some(meta) if meta.sha256 == digest(&body) => meta,
        // The generation still counts: a torn file must not let an old manifest through. It does not count
        // only if the metadata was removed, which is how an operator goes back on purpose.
        other => ManifestMeta {
            version: VERSION,
            etag: None,
            generation: match &other {
                Some(meta) => meta.generation,
                None if lost => None,
                None => Manifest::parse("", &body)
                    .ok()
                    .and_then(|manifest| manifest.generation_of(environment)),
            },
            environment: environment.to_owned(),
            taken: other.map_or(Timestamp::UNIX_EPOCH, |meta| meta.taken),
            sha256: digest(&body),
        },
    };
    Some(CachedManifest { body, meta })
}

/// The last good manifest of this host, whatever its age, for what needs no more than its names.
pub(crate) fn cached_manifest(root: &Root) -> Option<Manifest> {
    let path = Path::new(STATE_DIR).join("manifest.yml");
    let body = root.read(&path, MAX_OBJECT_SIZE).ok()??;
    Manifest::parse("the last good manifest", &body).ok()
}

/// What a host accepted, and when.
pub(super) struct Accepted<'a> {
    pub environment: &'a str,
    pub generation: Option<u64>,
    pub at: Timestamp,
}

pub(super) fn save(host: &Host, object: &Object, accepted: Accepted<'_>) -> Result<(), RootError> {
    let (body_path, meta_path) = paths(host);
    let meta = ManifestMeta {
        version: VERSION,
        etag: Some(object.etag.clone()),
        generation: accepted.generation,
        environment: accepted.environment.to_owned(),
        taken: accepted.at,
        sha256: digest(&object.body),
    };
    host.root
        .create_dir_all(&host.state_path(""), &Attrs::mode(0o755))?;
    // World-readable: it contains no secret, and `status` shows the desired state to users without root.
    host.root
        .write_atomic(&body_path, &object.body, &Attrs::mode(0o644))?;
    META.save(&host.root, &meta_path, &meta)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::state::testing::assert_round_trip;

    #[test]
    fn example_metadata_survives_a_round_trip() {
        assert_round_trip::<ManifestMeta>(&META, "manifest-meta.json");
    }
}
