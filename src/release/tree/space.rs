//! Whether what is to be written fits: seen before anything is.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use git2::{Odb, Oid};

use super::git_crypt::Key;
use super::lfs::Lfs;
use super::walk::shown;
use super::{Item, Kind, Plan, Trouble, content};
use crate::ports::exec::StopFlag;
use crate::ports::pace::Pace;
use crate::ports::root::{Folder, Room};
use crate::resource::Failure;

/// What the host needs for itself meanwhile: logs, records, temporary files. In bytes.
const MARGIN: u64 = 16 << 20;

/// The same in files.
const MARGIN_FILES: u64 = 256;

/// From this size on, in bytes, blobs are held in memory one at a time.
const LARGE: u64 = 4 << 20;

/// The files of a tree grow by no more than this when their marks are filled in, in bytes.
const MAX_GROWTH: u64 = 64 << 20;

/// Room is looked for again after so many bytes.
const LOOK: u64 = 4 << 20;

/// What the kernel takes for the target of a link, in bytes.
const LONGEST_TARGET: u64 = 4095;

/// What something takes on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Need {
    pub bytes: u64,
    pub files: u64,
}

impl Need {
    /// One more file of this size, on a filesystem of this block size.
    pub(super) fn add(&mut self, bytes: u64, block: u64) {
        self.bytes = self
            .bytes
            .saturating_add(bytes.div_ceil(block).saturating_mul(block));
        self.files += 1;
    }

    /// What these take: their content as git knows it.
    pub(super) fn of(
        source: Source<'_>,
        items: &[Item],
        block: u64,
        stop: &StopFlag,
    ) -> Result<(Need, Large), Trouble> {
        let (bytes, files) = (AtomicU64::new(0), AtomicU64::new(0));
        let large = Mutex::new(HashSet::new());
        let jobs: Vec<&[Item]> = items.chunks(64).collect();
        Pace::Now.each(&jobs, stop, |items| {
            let mut need = Need::default();
            for item in *items {
                let size = size(source, item)?;
                let in_memory = match item.how.grows() {
                    true => content::most(size, source.max_file),
                    false => size,
                };
                if in_memory >= LARGE {
                    let mut large = large.lock().unwrap_or_else(|broken| broken.into_inner());
                    large.insert(item.id);
                }
                need.add(size, block);
            }
            bytes.fetch_add(need.bytes, Ordering::Relaxed);
            files.fetch_add(need.files, Ordering::Relaxed);
            Ok::<(), Trouble>(())
        })?;
        let need = Need {
            bytes: bytes.into_inner(),
            files: files.into_inner(),
        };
        let large = large.into_inner();
        Ok((
            need,
            Large::of(large.unwrap_or_else(|broken| broken.into_inner())),
        ))
    }
}

/// Where the content of files comes from.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub odb: &'a Odb<'a>,
    pub lfs: &'a Lfs,
    /// In bytes.
    pub max_file: u64,
    pub key: Option<&'a Key>,
}

/// The blobs that are held in memory one at a time.
#[derive(Default)]
pub(crate) struct Large {
    ids: HashSet<Oid>,
    turn: Mutex<()>,
}

impl Large {
    fn of(ids: HashSet<Oid>) -> Large {
        Large {
            ids,
            turn: Mutex::default(),
        }
    }

    /// To be kept as long as the blob is in memory.
    pub(super) fn turn(&self, id: Oid) -> Option<MutexGuard<'_, ()>> {
        let lock = || {
            self.turn
                .lock()
                .unwrap_or_else(|broken| broken.into_inner())
        };
        self.ids.contains(&id).then(lock)
    }
}

/// The size of a file, known from its header before any of it is unpacked: a few bytes in a pack can
/// unfold to any size.
fn size(source: Source<'_>, item: &Item) -> Result<u64, Trouble> {
    let Source {
        odb, lfs, max_file, ..
    } = source;
    let most = match item.kind {
        // A folder takes a block: there are no names without it.
        Kind::Folder | Kind::Submodule => return Ok(1),
        Kind::File { .. } => max_file,
        Kind::Link => LONGEST_TARGET,
    };
    if let Some(size) = lfs.size(item) {
        return Ok(size);
    }
    let size = odb.read_header(item.id)?.0 as u64;
    match item.kind {
        _ if size <= most => Ok(size),
        Kind::Link => Err(Trouble::Other(
            Failure::new(format!(
                "the link `{}` in the repository points to a path of {size} bytes: no path has more than {most}",
                item.path.display()
            ))
            .hint("mend or remove it in the repository; nothing was written"),
        )),
        _ => Err(Trouble::Other(too_large(item, Some(size), most))),
    }
}

pub(super) fn too_large(item: &Item, size: Option<u64>, most: u64) -> Failure {
    let size = match size {
        Some(size) => format!("{size} bytes"),
        None => "more".to_owned(),
    };
    Failure::new(format!(
        "the file `{}` in the repository comes to {size}, and `max_file` allows {most}",
        item.path.display()
    ))
    .hint("keep large files in Git LFS (`git lfs migrate import`) or outside the repository, or raise `max_file` of the release; nothing was activated")
}

fn too_grown(item: &Item, from: usize, most: u64) -> Failure {
    Failure::new(format!(
        "the file `{}` in the repository has {from} bytes and comes to more than {most} bytes when its marks (`export-subst`, `ident`) are filled in",
        shown(&item.path)
    ))
    .hint(UNMARK)
}

const UNMARK: &str = "take `export-subst` or `ident` away from it in `.gitattributes`, or look at what the commit says about itself: somebody may have made it to do harm; nothing was activated";

/// What a tree takes while it is written. What its files come to is not known before.
pub(super) struct Meter<'a> {
    tree: &'a Folder,
    written: AtomicU64,
    grown: AtomicU64,
}

impl<'a> Meter<'a> {
    pub(super) fn new(tree: &'a Folder) -> Meter<'a> {
        Meter {
            tree,
            written: AtomicU64::new(0),
            grown: AtomicU64::new(0),
        }
    }

    /// What is to be in a file comes to more than [`content::most`].
    pub(super) fn refuse(item: &Item, blob: usize, max_file: u64) -> Trouble {
        let most = content::most(blob as u64, max_file);
        Trouble::Refused(match most < max_file {
            true => too_grown(item, blob, most),
            false => too_large(item, None, max_file),
        })
    }

    /// A file is about to be written that was of another size in the repository.
    pub(super) fn add(&self, item: &Item, blob: usize, bytes: usize) -> Result<(), Trouble> {
        if item.how.subst || item.how.ident {
            let more = bytes.saturating_sub(blob) as u64;
            if self.grown.fetch_add(more, Ordering::Relaxed) + more > MAX_GROWTH {
                return Err(Trouble::Refused(
                    Failure::new(format!(
                        "the files of this commit grow by more than {} MiB when their marks (`export-subst`, `ident`) are filled in; one of them is `{}`",
                        MAX_GROWTH >> 20,
                        shown(&item.path)
                    ))
                    .hint(UNMARK),
                ));
            }
        }
        self.write(bytes as u64)
    }

    /// So many bytes are about to be written.
    pub(super) fn write(&self, bytes: u64) -> Result<(), Trouble> {
        let before = self.written.fetch_add(bytes, Ordering::Relaxed);
        if before / LOOK == before.saturating_add(bytes) / LOOK {
            return Ok(());
        }
        let need = Need { bytes, files: 0 };
        check(need, self.tree, "the rest of this commit's files").map_err(Trouble::Refused)
    }
}

/// Refuses a plan whose result does not fit into the filesystem of a folder, or that holds a file
/// which is too large.
pub(crate) fn check_plan(
    plan: &Plan,
    source: Source<'_>,
    folder: &Folder,
    stop: &StopFlag,
) -> Result<Large, Trouble> {
    let (need, large) = Need::of(source, &plan.put, folder.room()?.block, stop)?;
    check(need, folder, "the files of this commit")?;
    Ok(large)
}

/// Refuses what does not fit into the filesystem of a folder.
pub(super) fn check(need: Need, folder: &Folder, what: &str) -> Result<(), Failure> {
    let room = folder.room()?;
    lacks(need, room).map_or(Ok(()), |lack| {
        Err(Failure::new(format!(
            "no room in {} for {what}: {lack}",
            folder.path().display()
        )).hint(
            "make room on the filesystem of `deploy_to` (a lower `keep_releases` removes old releases; `spare: false` saves a copy of the code), or use a larger one",
        ))
    })
}

fn lacks(need: Need, room: Room) -> Option<String> {
    let bytes = need.bytes.saturating_add(MARGIN);
    if bytes > room.bytes {
        return Some(format!(
            "it needs {} and {} are free",
            megabytes(bytes),
            megabytes(room.bytes)
        ));
    }
    let files = need.files.saturating_add(MARGIN_FILES);
    match room.files {
        Some(free) if files > free => Some(format!("it needs {files} inodes and {free} are free")),
        _ => None,
    }
}

fn megabytes(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let megabytes = bytes as f64 / 1e6;
    format!("{megabytes:.1} MB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_shortage_names_needed_and_free_amounts() {
        let room = Room {
            bytes: 100_000_000,
            files: Some(1000),
            block: 4096,
        };
        let need = |bytes, files| Need { bytes, files };
        assert_eq!(lacks(need(80_000_000, 700), room), None);
        assert_eq!(
            lacks(need(90_000_000, 700), room).unwrap(),
            "it needs 106.8 MB and 100.0 MB are free"
        );
        assert_eq!(
            lacks(need(1, 800), room).unwrap(),
            "it needs 1056 inodes and 1000 are free"
        );
        let uncounted = Room {
            files: None,
            ..room
        };
        assert_eq!(lacks(need(1, 800), uncounted), None);
        assert!(lacks(need(u64::MAX, u64::MAX), room).is_some());
    }
}
