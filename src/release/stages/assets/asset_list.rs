//! The list of compiled files that belong to a release: those it made, or would have made if they had not
//! existed.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ports::Host;
use crate::ports::root::{Attrs, RootError};
use crate::release::app::layout::Layout;
use crate::resource::Failure;

const VERSION: u32 = 1;

/// Maximum number of files: more than any app compiles for one release.
pub(super) const MAX_FILES: usize = 100_000;

/// Maximum total length of their paths, in bytes.
pub(super) const MAX_NAME_BYTES: usize = 8 << 20;

/// Maximum size of a list file, in bytes: of the characters that a name may contain, JSON escapes a quote
/// with one more byte.
const MAX_LIST: usize = 2 * MAX_NAME_BYTES + 4 * MAX_FILES + 1024;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct AssetList {
    /// Paths below `assets.path`, and below `shared/assets`.
    pub files: BTreeSet<String>,
    /// Paths below `assets.path` of the files that stay in the release: its manifests.
    pub manifests: BTreeSet<String>,
    /// When the release was found to be removed.
    pub removed_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct AssetListFile {
    version: u32,
    gone: Option<Timestamp>,
    files: BTreeSet<String>,
    own: BTreeSet<String>,
}

#[derive(Serialize)]
struct AssetListFileRef<'a> {
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    gone: Option<Timestamp>,
    files: &'a BTreeSet<String>,
    own: &'a BTreeSet<String>,
}

/// Whether a list may contain this name. Control characters are refused: JSON takes six bytes for each.
pub(super) fn is_listable(name: &str) -> bool {
    !name.chars().any(char::is_control)
}

impl AssetList {
    /// `None`: no list exists, or it is unreadable.
    pub fn load(host: &Host, layout: &Layout, name: &str) -> Result<Option<AssetList>, Failure> {
        let text = match host.root.read(&layout.asset_list(name), MAX_LIST) {
            Ok(Some(text)) => text,
            Ok(None) | Err(RootError::TooLarge { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let read = serde_json::from_slice::<AssetListFile>(&text).ok();
        let read = read.filter(|read| read.version == VERSION);
        Ok(read.map(|read| AssetList {
            files: read.files,
            manifests: read.own,
            removed_at: read.gone,
        }))
    }

    /// Total length of all names, in bytes.
    pub fn name_bytes(&self) -> usize {
        self.files
            .iter()
            .chain(&self.manifests)
            .map(String::len)
            .sum()
    }

    /// Whether the list is within the limits, so that it can be read back.
    pub fn fits(&self) -> bool {
        self.files.len() + self.manifests.len() <= MAX_FILES && self.name_bytes() <= MAX_NAME_BYTES
    }

    pub fn save(&self, host: &Host, layout: &Layout, name: &str) -> Result<(), Failure> {
        let written = AssetListFileRef {
            version: VERSION,
            gone: self.removed_at,
            files: &self.files,
            own: &self.manifests,
        };
        let body = serde_json::to_vec(&written).expect("plain data is always JSON");
        host.root
            .create_dir_all(&layout.asset_lists(), &Attrs::mode(0o755))?;
        let path = layout.asset_list(name);
        Ok(host.root.write_atomic(&path, &body, &Attrs::mode(0o644))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list of `count` names of this length, made of the character that JSON expands most.
    fn list_of(count: usize, length: usize) -> AssetList {
        let name = |n: usize| format!("{n:06}{}", "\"".repeat(length - 6));
        AssetList {
            files: (0..count).map(name).collect(),
            ..AssetList::default()
        }
    }

    #[test]
    fn largest_asset_list_can_be_saved_and_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let host = crate::release::tests::host_at(dir.path());
        let layout = Layout::new("shop", std::path::Path::new("/srv/www/shop"));
        for list in [
            list_of(MAX_FILES, MAX_NAME_BYTES / MAX_FILES),
            list_of(MAX_NAME_BYTES / 255, 255),
        ] {
            assert!(list.fits());
            list.save(&host, &layout, "one").unwrap();
            assert!(AssetList::load(&host, &layout, "one").unwrap() == Some(list));
        }
    }

    #[test]
    fn asset_list_over_its_limits_does_not_fit() {
        assert!(!list_of(MAX_FILES + 1, 6).fits());
        assert!(!list_of(MAX_NAME_BYTES / 255 + 1, 255).fits());
        assert!(
            is_listable("app-é \"1\".css") && !is_listable("a\u{1}") && !is_listable("a\u{9b}")
        );
    }
}
