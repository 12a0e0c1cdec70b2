//! Reads the trees of a commit. They are untrusted: names that leave their folder, that git reserves, or that
//! occur twice are refused here.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use git2::{Oid, Repository};

use crate::printable;
use crate::release::app::selection::Selection;
use crate::release::source::error::SourceError;
use crate::resource::Failure;

/// Maximum length of a name on all filesystems that servers use, in bytes.
const MAX_NAME_LEN: usize = 255;

/// Maximum depth: deeper than any project, and low enough for the open file limit of one process.
const MAX_DEPTH: usize = 200;

/// Maximum length of a path in a tree, in bytes: with the release's own path it must stay below the kernel's
/// limit (4096).
const MAX_PATH_LEN: usize = 3500;

/// Maximum number of entries of a commit if nothing else limits them: more than the largest projects have.
/// Git stores repeated trees once, so a small repository can expand to more than any memory or disk holds.
const MAX_ENTRIES: u64 = 1_000_000;

/// Maximum total length of their paths, in bytes.
const MAX_PATH_BYTES: usize = 128 << 20;

/// Maximum size of an entry in its tree object, in bytes: mode, name and id.
const MAX_ENTRY_LEN: u64 = 8 + MAX_NAME_LEN as u64 + 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File {
        executable: bool,
    },
    Symlink,
    /// Git has no empty folders, but attributes can leave out all files of one.
    Directory,
    /// Another repository: its folder stays empty.
    Submodule,
}

/// One entry of one tree.
#[derive(Debug, Clone)]
pub(super) struct GitEntry {
    pub name: Vec<u8>,
    pub id: Oid,
    /// `None`: a folder.
    pub kind: Option<EntryKind>,
}

/// Reads trees, and enforces limits on their total size.
pub(super) struct TreeReader<'a> {
    mirror: &'a Repository,
    selection: &'a Selection,
    odb: git2::Odb<'a>,
    entries_left: u64,
    /// Remaining total length of paths, in bytes.
    path_bytes_left: usize,
}

impl<'a> TreeReader<'a> {
    /// Reads selected entries only. Fails when the trees have more than `max_entries` entries in total.
    pub(super) fn new(
        mirror: &'a Repository,
        selection: &'a Selection,
        max_entries: Option<u64>,
    ) -> Result<TreeReader<'a>, SourceError> {
        Ok(TreeReader {
            mirror,
            selection,
            odb: mirror.odb()?,
            entries_left: max_entries.map_or(MAX_ENTRIES, |most| most.min(MAX_ENTRIES)),
            path_bytes_left: MAX_PATH_BYTES,
        })
    }

    /// The selected entries of the tree at this path, sorted by name.
    pub(super) fn read(&mut self, id: Oid, path: &Path) -> Result<Vec<GitEntry>, SourceError> {
        if path.components().count() > MAX_DEPTH {
            return Err(unsafe_path_error(
                path,
                &format!("it is more than {MAX_DEPTH} folders deep"),
            ));
        }
        // Checked before the tree is unpacked: an entry takes more bytes than its name.
        if self.odb.read_header(id)?.0 as u64 > self.entries_left.saturating_mul(MAX_ENTRY_LEN) {
            return Err(too_many_entries());
        }
        let tree = self.mirror.find_tree(id)?;
        self.entries_left = self
            .entries_left
            .checked_sub(tree.len() as u64)
            .ok_or_else(too_many_entries)?;
        let bytes = tree
            .iter()
            .map(|entry| path.as_os_str().len() + entry.name_bytes().len());
        self.path_bytes_left = self
            .path_bytes_left
            .checked_sub(bytes.sum())
            .ok_or_else(too_many_entries)?;
        let mut entries = Vec::with_capacity(tree.len());
        for entry in tree.iter() {
            let name = entry.name_bytes();
            let is_folder = entry.filemode_raw() & 0o170_000 == 0o040_000;
            let is_partial = !self.selection.is_everything();
            if is_partial && !self.selection.includes(&join_path(path, name), is_folder) {
                continue;
            }
            check_name(path, name)?;
            let kind = match entry.filemode_raw() & 0o170_000 {
                0o040_000 => None,
                0o100_000 => Some(EntryKind::File {
                    executable: entry.filemode_raw() & 0o100 != 0,
                }),
                0o120_000 => Some(EntryKind::Symlink),
                0o160_000 => Some(EntryKind::Submodule),
                other => {
                    return Err(unsafe_path_error(
                        &join_path(path, name),
                        &format!("git has no entries of the mode {other:o}"),
                    ));
                }
            };
            entries.push(GitEntry {
                name: name.to_vec(),
                id: entry.id(),
                kind,
            });
        }
        // Git sorts a folder as if its name ended in a slash, so this moves hardly any entry.
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        if let Some(twice) = entries.windows(2).find(|two| two[0].name == two[1].name) {
            return Err(unsafe_path_error(
                &join_path(path, &twice[0].name),
                "it exists twice",
            ));
        }
        Ok(entries)
    }
}

/// The path of an entry.
pub(super) fn join_path(folder: &Path, name: &[u8]) -> PathBuf {
    folder.join(OsStr::from_bytes(name))
}

fn check_name(folder: &Path, name: &[u8]) -> Result<(), SourceError> {
    let why = match name {
        b"" => "a name is empty",
        b"." | b".." => "it leaves its folder",
        _ if name.contains(&b'/') => "a name contains a slash",
        _ if name.eq_ignore_ascii_case(b".git") => "`.git` is git's own",
        _ if name.len() > MAX_NAME_LEN => "a name is longer than 255 bytes",
        _ if folder.as_os_str().len() + name.len() >= MAX_PATH_LEN => "it is too long",
        _ => return Ok(()),
    };
    Err(unsafe_path_error(
        Path::new(&format!(
            "{}/{}",
            folder.display(),
            String::from_utf8_lossy(name)
        )),
        why,
    ))
}

/// A path for a message: escaped, because a commit may contain line ends and control characters in names, and
/// truncated if it is long.
pub(super) fn display_path(path: &Path) -> String {
    let mut printed = path.to_string_lossy().trim_start_matches('/').to_owned();
    if let Some((end, _)) = printed.char_indices().nth(120) {
        printed.truncate(end);
        printed.push('…');
    }
    printable::line(&printed).into_owned()
}

fn unsafe_path_error(path: &Path, why: &str) -> SourceError {
    SourceError::Failed(
        Failure::new(format!(
            "the repository contains a path that cannot be checked out, `{}`: {why}",
            display_path(path)
        ))
        .hint("rename or remove it in the repository; nothing was written"),
    )
}

fn too_many_entries() -> SourceError {
    SourceError::Failed(
        Failure::new("the repository contains more files than fit on the filesystem")
            .hint("`git ls-tree -r SHA | wc -l` counts them; free inodes: `df -i`"),
    )
}
