//! The list of compiled files that belong to a release: those it made, or would have made if they had not
//! existed.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ports::Host;
use crate::ports::root::RootError;
use crate::ports::state::{Document, StateError};
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

const DOCUMENT: Document = Document::new(VERSION, MAX_LIST).compact();

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
    pub(super) fn load(
        host: &Host,
        layout: &Layout,
        name: &str,
    ) -> Result<Option<AssetList>, Failure> {
        let read: Option<AssetListFile> = match DOCUMENT.load(&host.root, &layout.asset_list(name))
        {
            Err(StateError::Root(error)) if !matches!(error, RootError::TooLarge { .. }) => {
                return Err(error.into());
            }
            read => read.unwrap_or_default(),
        };
        Ok(read.map(|read| AssetList {
            files: read.files,
            manifests: read.own,
            removed_at: read.gone,
        }))
    }

    /// Total length of all names, in bytes.
    pub(super) fn name_bytes(&self) -> usize {
        self.files
            .iter()
            .chain(&self.manifests)
            .map(String::len)
            .sum()
    }

    /// Whether the list is within the limits, so that it can be read back.
    pub(super) fn fits(&self) -> bool {
        self.files.len() + self.manifests.len() <= MAX_FILES && self.name_bytes() <= MAX_NAME_BYTES
    }

    pub(super) fn save(&self, host: &Host, layout: &Layout, name: &str) -> Result<(), Failure> {
        let written = AssetListFileRef {
            version: VERSION,
            gone: self.removed_at,
            files: &self.files,
            own: &self.manifests,
        };
        Ok(DOCUMENT.save(&host.root, &layout.asset_list(name), &written)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::state::testing::assert_saved_as_loaded;

    #[test]
    fn example_list_survives_a_round_trip() {
        assert_saved_as_loaded(&DOCUMENT, "asset-list.json", |sandbox, path| {
            let root = &sandbox.host.root;
            let read: AssetListFile = DOCUMENT.load(root, path).unwrap().unwrap();
            let written = AssetListFileRef {
                version: VERSION,
                gone: read.gone,
                files: &read.files,
                own: &read.own,
            };
            DOCUMENT.save(root, path, &written).unwrap();
        });
    }

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
