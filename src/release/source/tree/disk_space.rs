//! Checks that the files of a commit fit on the filesystem before any of them is written.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use git2::{Odb, Oid};

use super::git_crypt::GitCryptKey;
use super::lfs::LfsFiles;
use super::walk::display_path;
use super::{EntryKind, Plan, TreeEntry, content};
use crate::ports::exec::StopFlag;
use crate::ports::root::{Folder, FreeSpace};
use crate::ports::worker_pool::Priority;
use crate::release::source::error::SourceError;
use crate::resource::Failure;

/// Space left for the host's own needs during a deploy (logs, records, temporary files), in bytes.
const RESERVED_BYTES: u64 = 16 << 20;

/// Inodes left for the same purpose.
const RESERVED_INODES: u64 = 256;

/// Blobs of at least this size are held in memory one at a time, in bytes.
const LARGE_BLOB: u64 = 4 << 20;

/// Maximum growth of all files of a tree by the expansion of their markers, in bytes.
const MAX_GROWTH: u64 = 64 << 20;

/// The free space is checked again each time this many bytes were written.
const CHECK_EVERY: u64 = 4 << 20;

/// Maximum length of a symbolic link's target in the kernel, in bytes.
const MAX_LINK_TARGET: u64 = 4095;

/// The disk space that something needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RequiredSpace {
    pub bytes: u64,
    pub files: u64,
}

impl RequiredSpace {
    /// Adds a file of this size on a filesystem of this block size.
    pub(super) fn add_file(&mut self, bytes: u64, block: u64) {
        self.bytes = self
            .bytes
            .saturating_add(bytes.div_ceil(block).saturating_mul(block));
        self.files += 1;
    }

    /// The space that these entries need, by the sizes that git records.
    pub(super) fn for_entries(
        source: ContentSource<'_>,
        items: &[TreeEntry],
        block: u64,
        stop: &StopFlag,
    ) -> Result<(RequiredSpace, LargeBlobs), SourceError> {
        let (bytes, files) = (AtomicU64::new(0), AtomicU64::new(0));
        let large = Mutex::new(HashSet::new());
        let jobs: Vec<&[TreeEntry]> = items.chunks(64).collect();
        Priority::Normal.run_all(&jobs, stop, |items| {
            let mut need = RequiredSpace::default();
            for item in *items {
                let size = content_size(source, item)?;
                let in_memory = match item.conversion.may_grow() {
                    true => content::max_size(size, source.max_file),
                    false => size,
                };
                if in_memory >= LARGE_BLOB {
                    let mut large = large.lock().unwrap_or_else(|broken| broken.into_inner());
                    large.insert(item.id);
                }
                need.add_file(size, block);
            }
            bytes.fetch_add(need.bytes, Ordering::Relaxed);
            files.fetch_add(need.files, Ordering::Relaxed);
            Ok::<(), SourceError>(())
        })?;
        let need = RequiredSpace {
            bytes: bytes.into_inner(),
            files: files.into_inner(),
        };
        let large = large.into_inner();
        Ok((
            need,
            LargeBlobs::new(large.unwrap_or_else(|broken| broken.into_inner())),
        ))
    }
}

/// The sources of the content of files.
#[derive(Clone, Copy)]
pub(crate) struct ContentSource<'a> {
    pub odb: &'a Odb<'a>,
    pub lfs: &'a LfsFiles,
    /// Maximum size of one file, in bytes.
    pub max_file: u64,
    pub key: Option<&'a GitCryptKey>,
}

/// The large blobs, which are held in memory one at a time.
#[derive(Default)]
pub(crate) struct LargeBlobs {
    ids: HashSet<Oid>,
    mutex: Mutex<()>,
}

impl LargeBlobs {
    fn new(ids: HashSet<Oid>) -> LargeBlobs {
        LargeBlobs {
            ids,
            mutex: Mutex::default(),
        }
    }

    /// Returns the guard to hold while the blob is in memory.
    pub(super) fn lock(&self, id: Oid) -> Option<MutexGuard<'_, ()>> {
        let lock = || {
            self.mutex
                .lock()
                .unwrap_or_else(|broken| broken.into_inner())
        };
        self.ids.contains(&id).then(lock)
    }
}

/// The size of a file, from its header and before any of it is unpacked: a few bytes in a pack can unpack to
/// any size.
fn content_size(source: ContentSource<'_>, item: &TreeEntry) -> Result<u64, SourceError> {
    let ContentSource {
        odb, lfs, max_file, ..
    } = source;
    let limit = match item.kind {
        // A folder takes a block for its names.
        EntryKind::Directory | EntryKind::Submodule => return Ok(1),
        EntryKind::File { .. } => max_file,
        EntryKind::Symlink => MAX_LINK_TARGET,
    };
    if let Some(size) = lfs.size(item) {
        return Ok(size);
    }
    let size = odb.read_header(item.id)?.0 as u64;
    match item.kind {
        _ if size <= limit => Ok(size),
        EntryKind::Symlink => Err(SourceError::Failed(
            Failure::new(format!(
                "the link `{}` in the repository points to a path of {size} bytes: no path has more than {limit}",
                display_path(&item.path)
            ))
            .hint("fix or remove it in the repository; nothing was written"),
        )),
        _ => Err(SourceError::Failed(file_too_large(item, Some(size), limit))),
    }
}

pub(super) fn file_too_large(item: &TreeEntry, size: Option<u64>, limit: u64) -> Failure {
    let size = match size {
        Some(size) => format!("{size} bytes"),
        None => "more".to_owned(),
    };
    Failure::new(format!(
        "the file `{}` in the repository has {size}, and `max_file` allows {limit}",
        display_path(&item.path)
    ))
    .hint("keep large files in Git LFS (`git lfs migrate import`) or outside the repository, or raise `max_file` of the release; nothing was activated")
}

fn grows_too_much(item: &TreeEntry, from: usize, limit: u64) -> Failure {
    Failure::new(format!(
        "the file `{}` in the repository has {from} bytes and grows beyond {limit} bytes when its placeholders (`export-subst`, `ident`) are expanded",
        display_path(&item.path)
    ))
    .hint(MARKERS_HINT)
}

const MARKERS_HINT: &str = "remove `export-subst` or `ident` from it in `.gitattributes`, or check the commit's metadata, which may be malicious; nothing was activated";

/// Counts the bytes of a tree while it is written, because the size of converted files is not known before.
pub(super) struct SpaceMeter<'a> {
    tree: &'a Folder,
    written_bytes: AtomicU64,
    grown_bytes: AtomicU64,
}

impl<'a> SpaceMeter<'a> {
    pub(super) fn new(tree: &'a Folder) -> SpaceMeter<'a> {
        SpaceMeter {
            tree,
            written_bytes: AtomicU64::new(0),
            grown_bytes: AtomicU64::new(0),
        }
    }

    /// The error for content that exceeds [`content::max_size`].
    pub(super) fn size_error(item: &TreeEntry, blob: usize, max_file: u64) -> SourceError {
        let limit = content::max_size(blob as u64, max_file);
        SourceError::LimitExceeded(match limit < max_file {
            true => grows_too_much(item, blob, limit),
            false => file_too_large(item, None, max_file),
        })
    }

    /// Counts a file before it is written whose content differs in size from its blob.
    pub(super) fn add_converted(
        &self,
        item: &TreeEntry,
        blob: usize,
        bytes: usize,
    ) -> Result<(), SourceError> {
        if item.conversion.export_subst || item.conversion.ident {
            let more = bytes.saturating_sub(blob) as u64;
            if self.grown_bytes.fetch_add(more, Ordering::Relaxed) + more > MAX_GROWTH {
                return Err(SourceError::LimitExceeded(
                    Failure::new(format!(
                        "the files of this commit grow by more than {} MiB when their placeholders (`export-subst`, `ident`) are expanded; one of them is `{}`",
                        MAX_GROWTH >> 20,
                        display_path(&item.path)
                    ))
                    .hint(MARKERS_HINT),
                ));
            }
        }
        self.add_written(bytes as u64)
    }

    /// Counts bytes before they are written.
    pub(super) fn add_written(&self, bytes: u64) -> Result<(), SourceError> {
        let before = self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before / CHECK_EVERY == before.saturating_add(bytes) / CHECK_EVERY {
            return Ok(());
        }
        let need = RequiredSpace { bytes, files: 0 };
        check_space(need, self.tree, "the rest of this commit's files")
            .map_err(SourceError::LimitExceeded)
    }
}

/// Refuses a plan whose result does not fit on the filesystem of `folder`, or that contains a file which is
/// too large.
pub(crate) fn check_plan(
    plan: &Plan,
    source: ContentSource<'_>,
    folder: &Folder,
    stop: &StopFlag,
) -> Result<LargeBlobs, SourceError> {
    let (need, large) =
        RequiredSpace::for_entries(source, &plan.create, folder.free_space()?.block, stop)?;
    check_space(need, folder, "the files of this commit")?;
    Ok(large)
}

/// Refuses a need that exceeds the free space on the filesystem of `folder`.
pub(super) fn check_space(
    need: RequiredSpace,
    folder: &Folder,
    content: &str,
) -> Result<(), Failure> {
    let room = folder.free_space()?;
    shortage(need, room).map_or(Ok(()), |lack| {
        Err(Failure::new(format!(
            "not enough space in {} for {content}: {lack}",
            folder.path().display()
        )).hint(
            "free space on the filesystem of `deploy_to` (a lower `keep_releases` removes old releases; `spare: false` saves a copy of the code), or use a larger one",
        ))
    })
}

fn shortage(need: RequiredSpace, room: FreeSpace) -> Option<String> {
    let bytes = need.bytes.saturating_add(RESERVED_BYTES);
    if bytes > room.bytes {
        return Some(format!(
            "it needs {} and {} are free",
            format_megabytes(bytes),
            format_megabytes(room.bytes)
        ));
    }
    let files = need.files.saturating_add(RESERVED_INODES);
    match room.files {
        Some(free) if files > free => Some(format!("it needs {files} inodes and {free} are free")),
        _ => None,
    }
}

fn format_megabytes(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let megabytes = bytes as f64 / 1e6;
    format!("{megabytes:.1} MB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_shortage_names_needed_and_free_amounts() {
        let room = FreeSpace {
            bytes: 100_000_000,
            files: Some(1000),
            block: 4096,
        };
        let need = |bytes, files| RequiredSpace { bytes, files };
        assert_eq!(shortage(need(80_000_000, 700), room), None);
        assert_eq!(
            shortage(need(90_000_000, 700), room).unwrap(),
            "it needs 106.8 MB and 100.0 MB are free"
        );
        assert_eq!(
            shortage(need(1, 800), room).unwrap(),
            "it needs 1056 inodes and 1000 are free"
        );
        let uncounted = FreeSpace {
            files: None,
            ..room
        };
        assert_eq!(shortage(need(1, 800), uncounted), None);
        assert!(shortage(need(u64::MAX, u64::MAX), room).is_some());
    }
}
