//! The versioned JSON files that trueup keeps on the host.
//!
//! A [`Document`] describes a file format: its version, size limit, mode and style. What a damaged file means
//! is up to the caller: a cache ignores it ([`Document::load_cache`]), a guard or an operator's decision does
//! not ([`Document::load`]).

mod version;

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::root::{Attrs, Root, RootError};

/// Mode of a file that everybody may read.
const PUBLIC_MODE: u32 = 0o644;

/// Mode of a file that may hold secrets, or what helps to guess one.
const PRIVATE_MODE: u32 = 0o600;

/// Stands for the version of files that have none.
const UNVERSIONED: u32 = 0;

/// The format of one kind of file. The version is a field of the contents, which the caller writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Document {
    version: u32,
    oldest_version: u32,
    version_field: &'static str,
    max_bytes: usize,
    mode: u32,
    is_compact: bool,
    /// Overwrite the file in place, padded to this width, instead of replacing it.
    width: Option<usize>,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// It cannot be read, or is too large.
    #[error(transparent)]
    Root(#[from] RootError),
    #[error("{path} is corrupt: {why}")]
    Damaged { path: PathBuf, why: String },
    /// Another version of trueup wrote it, usually a newer one.
    #[error("{path} cannot be used: it is of version {found}, and this trueup knows {known}")]
    OtherVersion {
        path: PathBuf,
        found: u32,
        known: u32,
    },
}

impl Document {
    /// Readable by everybody and indented. `max_bytes`: the largest file that is read.
    pub(crate) const fn new(version: u32, max_bytes: usize) -> Document {
        Document {
            version,
            oldest_version: version,
            version_field: "version",
            max_bytes,
            mode: PUBLIC_MODE,
            is_compact: false,
            width: None,
        }
    }

    /// For a file without a version: worthless once its writer has ended.
    pub(crate) const fn unversioned(max_bytes: usize) -> Document {
        Document::new(UNVERSIONED, max_bytes)
    }

    /// Readable by root alone.
    #[must_use]
    pub(crate) const fn private(self) -> Document {
        Document {
            mode: PRIVATE_MODE,
            ..self
        }
    }

    /// On one line.
    #[must_use]
    pub(crate) const fn compact(self) -> Document {
        Document {
            is_compact: true,
            ..self
        }
    }

    /// Overwritten in place and padded to `width` bytes: see [`Root::overwrite`].
    #[must_use]
    pub(crate) const fn overwritten(self, width: usize) -> Document {
        Document {
            width: Some(width),
            ..self.compact()
        }
    }

    /// Still reads the versions from `oldest` on: see [`Document::load_with`].
    #[must_use]
    pub(crate) const fn reads_since(self, oldest: u32) -> Document {
        Document {
            oldest_version: oldest,
            ..self
        }
    }

    /// The field that holds the version, if it is not `version`.
    #[must_use]
    pub(crate) const fn version_field(self, name: &'static str) -> Document {
        Document {
            version_field: name,
            ..self
        }
    }

    /// Loads a file; `None` if it does not exist.
    pub(crate) fn load<T: DeserializeOwned>(
        &self,
        root: &Root,
        path: &Path,
    ) -> Result<Option<T>, StateError> {
        self.load_with(root, path, |_, body| {
            serde_json::from_slice(body).map_err(|error| error.to_string())
        })
    }

    /// Loads a file of any version that is still read; `parse` gets the version.
    pub(crate) fn load_with<T>(
        &self,
        root: &Root,
        path: &Path,
        parse: impl FnOnce(u32, &[u8]) -> Result<T, String>,
    ) -> Result<Option<T>, StateError> {
        let Some(body) = root.read(path, self.max_bytes)? else {
            return Ok(None);
        };
        let version = version::find(&body, self.version_field);
        let is_missing = version.is_none() && self.version != UNVERSIONED;
        // Without a version, parsing most often tells what is wrong.
        let found = version.unwrap_or(self.version);
        if !(self.oldest_version..=self.version).contains(&found) {
            return Err(StateError::OtherVersion {
                path: path.into(),
                found,
                known: self.version,
            });
        }
        let parsed = match parse(found, &body) {
            Ok(_) if is_missing => Err(format!("it has no `{}`", self.version_field)),
            parsed => parsed,
        };
        parsed.map(Some).map_err(|why| StateError::Damaged {
            path: path.into(),
            why,
        })
    }

    /// Loads a file that can be made again: one that cannot be used counts as missing.
    pub(crate) fn load_cache<T: DeserializeOwned>(&self, root: &Root, path: &Path) -> Option<T> {
        self.load(root, path).unwrap_or_else(|error| {
            tracing::debug!(%error, "ignoring a file of trueup");
            None
        })
    }

    /// The bytes of a file with these contents.
    pub(crate) fn encode(&self, contents: &impl Serialize) -> Vec<u8> {
        let body = match self.is_compact {
            true => serde_json::to_vec(contents),
            false => serde_json::to_vec_pretty(contents),
        };
        body.expect("plain data is always JSON")
    }

    /// Saves a file, in its folder, which is created (0755) if needed. Does not check the size: whether a file
    /// too large to be read back is worse than none is up to the caller.
    pub(crate) fn save(
        &self,
        root: &Root,
        path: &Path,
        contents: &impl Serialize,
    ) -> Result<(), RootError> {
        self.write(root, path, &self.encode(contents))
    }

    /// Saves a file whose contents the caller has encoded.
    pub(crate) fn write(&self, root: &Root, path: &Path, body: &[u8]) -> Result<(), RootError> {
        if let Some(folder) = path.parent() {
            root.create_dir_all(folder, &Attrs::mode(0o755))?;
        }
        match self.width {
            Some(width) => root.overwrite(path, body, width),
            None => root.write_atomic(path, body, &Attrs::mode(self.mode)),
        }
    }
}

impl StateError {
    /// The reason, without the path.
    pub(crate) fn why(&self) -> String {
        match self {
            StateError::Root(error) => error.to_string(),
            StateError::Damaged { why, .. } => why.clone(),
            StateError::OtherVersion { found, known, .. } => {
                format!("it is of version {found}, and this trueup knows {known}")
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
