//! Replaces Git LFS pointers with the files that they stand for, which are kept outside the repository.
//!
//! A release with a pointer in place of an image or a model looks complete and is not. So the files are
//! fetched into the mirror (see `fetch/lfs.rs`), and the commit is refused if they are not available.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use git2::{Oid, Repository};

use super::TreeEntry;
use super::walk::display_path;
use crate::digest::Hasher;
use crate::ports::root::{Attrs, FileCopier, Folder};
use crate::release::deployment::Deployment;
use crate::release::source::error::SourceError;
use crate::release::source::fetch::{Fetcher, LfsObject};
use crate::resource::Failure;

/// Maximum size of a pointer by the LFS specification, in bytes.
const MAX_POINTER: usize = 1024;

/// Maximum number of files that a refusal names.
const MAX_NAMED_FILES: usize = 3;

/// The LFS files of a plan, all of them present on the host.
#[derive(Debug, Default)]
pub(crate) struct LfsFiles {
    pointers: HashMap<Oid, LfsObject>,
    store: Option<Folder>,
    copier: FileCopier,
}

/// Parses a pointer file.
fn parse_pointer(text: &[u8]) -> Option<LfsObject> {
    let text = std::str::from_utf8(text).ok()?;
    let version = text.lines().next()?.strip_prefix("version ")?;
    if !version.contains("git-lfs.github.com/spec/") && !version.contains("hawser.github.com/spec/")
    {
        return None;
    }
    let field = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
    let digest = field("oid sha256:")?;
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if digest.len() != 64 || !digest.bytes().all(hex) {
        return None;
    }
    Some(LfsObject {
        digest: digest.to_owned(),
        size: field("size ")?.parse().ok()?,
    })
}

/// The content of a pointer's file, if the store has it.
fn open_object(pointer: &LfsObject, store: &Folder) -> Result<Option<File>, Failure> {
    let path = pointer.store_path();
    let (folder, name) = (path.parent(), path.file_name());
    let (Some(folder), Some(name)) = (folder, name) else {
        return Ok(None);
    };
    let Some(folder) = store.open_subfolder(folder)? else {
        return Ok(None);
    };
    let file = folder.open_file(name)?;
    Ok(file.filter(|file| file.metadata().is_ok_and(|meta| meta.len() == pointer.size)))
}

impl LfsFiles {
    /// Fetches the LFS files of these entries that the host lacks.
    pub(crate) fn fetch_missing(
        deployment: &Deployment<'_>,
        mirror: &Repository,
        items: &[TreeEntry],
    ) -> Result<LfsFiles, SourceError> {
        let odb = mirror.odb()?;
        let mut lfs = LfsFiles::default();
        let mut paths = HashMap::new();
        for item in items.iter().filter(|item| item.conversion.lfs) {
            if odb.read_header(item.id)?.0 <= MAX_POINTER
                && let Some(pointer) = parse_pointer(odb.read(item.id)?.data())
            {
                paths.entry(item.id).or_insert(&item.path);
                lfs.pointers.insert(item.id, pointer);
            }
        }
        if lfs.pointers.is_empty() {
            return Ok(lfs);
        }
        let objects_folder = deployment.layout.mirror().join("lfs/objects");
        lfs.store = deployment.host.root.open_folder(&objects_folder)?;
        let missing = lfs.missing()?;
        if !missing.is_empty() {
            let mut named: Vec<String> = missing
                .iter()
                .filter_map(|id| paths.get(id))
                .map(|path| display_path(path))
                .collect();
            named.sort();
            let more = named.len().saturating_sub(MAX_NAMED_FILES);
            named.truncate(MAX_NAMED_FILES);
            let mut named = named.join(", ");
            if more > 0 {
                named += &format!(" and {more} more");
            }
            let objects: HashSet<&LfsObject> = missing
                .iter()
                .filter_map(|id| lfs.pointers.get(id))
                .collect();
            let objects: Vec<&LfsObject> = objects.into_iter().collect();
            Fetcher::new(deployment)?
                .fetch_lfs_objects(&objects, &objects_folder)
                .map_err(|failure| failure.with_context(&named))?;
            lfs.store = deployment.host.root.open_folder(&objects_folder)?;
        }
        Ok(lfs)
    }

    fn missing(&self) -> Result<Vec<Oid>, Failure> {
        let mut missing = Vec::new();
        for (id, pointer) in &self.pointers {
            let found = self.store.as_ref().map(|store| open_object(pointer, store));
            if found.transpose()?.flatten().is_none() {
                missing.push(*id);
            }
        }
        Ok(missing)
    }

    /// The size of the file that replaces a pointer, in bytes.
    pub(super) fn size(&self, item: &TreeEntry) -> Option<u64> {
        let pointer = self.pointers.get(&item.id)?;
        item.conversion.lfs.then_some(pointer.size)
    }

    /// Writes the LFS file of an entry; `None` if the entry is no pointer.
    pub(super) fn write_file(
        &self,
        item: &TreeEntry,
        folder: &Folder,
        name: &OsStr,
        attrs: &Attrs,
    ) -> Result<Option<File>, SourceError> {
        let (Some(pointer), Some(store)) = (self.pointers.get(&item.id), &self.store) else {
            return Ok(None);
        };
        if !item.conversion.lfs {
            return Ok(None);
        }
        let unreadable = |why: String| {
            SourceError::Failed(Failure::new(format!(
                "cannot write {} from Git LFS: {why}",
                display_path(&item.path)
            )))
        };
        let mut source = open_object(pointer, store)?
            .ok_or_else(|| unreadable("it disappeared from the mirror".into()))?;
        let found = sha256_hex(&mut source).map_err(|error| unreadable(error.to_string()))?;
        if found != pointer.digest {
            // Removed, so that the next pass fetches it again.
            let path = pointer.store_path();
            if let Some(folder) = store.open_subfolder(path.parent().unwrap_or(Path::new("")))? {
                folder.remove_tree(OsStr::new(&pointer.digest))?;
            }
            return Err(unreadable(format!(
                "the mirror's copy is broken (its sha256 is {found}) and was removed"
            )));
        }
        Ok(Some(self.copier.copy(&source, folder, name, attrs)?))
    }
}

/// The sha256 of a file; rewinds the file afterwards.
fn sha256_hex(file: &mut File) -> std::io::Result<String> {
    let mut hasher = Hasher::default();
    let mut piece = vec![0; 256 << 10];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            n => hasher.update(&piece[..n]),
        }
    }
    file.rewind()?;
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_valid_lfs_pointers_are_parsed() {
        let oid = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";
        let text =
            format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 12345\n");
        let pointer = parse_pointer(text.as_bytes()).unwrap();
        assert_eq!((pointer.digest.as_str(), pointer.size), (oid, 12345));
        let bad = [
            String::new(),
            "a file about\nversion https://git-lfs.github.com/spec/v1".into(),
            text.replace("size", "length"),
            text.replace("12345", "many"),
            text.replace("4d7a", "../a"),
            text.replace("git-lfs", "other"),
        ];
        for text in bad {
            assert_eq!(parse_pointer(text.as_bytes()), None, "{text}");
        }
    }
}
