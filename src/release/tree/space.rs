//! Whether what is to be written fits: seen before anything is.

use git2::Odb;

use super::lfs::Lfs;
use super::{Item, Kind, Plan, Trouble};
use crate::ports::exec::StopFlag;
use crate::ports::pace::Pace;
use crate::ports::root::{Folder, Room};
use crate::resource::Failure;

/// What the host needs for itself meanwhile: logs, records, temporary files. In bytes.
const MARGIN: u64 = 16 << 20;

/// The same in files.
const MARGIN_FILES: u64 = 256;

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
        odb: &Odb<'_>,
        lfs: &Lfs,
        items: &[Item],
        block: u64,
        stop: &StopFlag,
    ) -> Result<Need, Trouble> {
        use std::sync::atomic::{AtomicU64, Ordering};
        let (bytes, files) = (AtomicU64::new(0), AtomicU64::new(0));
        let jobs: Vec<&[Item]> = items.chunks(64).collect();
        Pace::Now.each(&jobs, stop, |items| {
            let mut need = Need::default();
            for item in *items {
                need.add(size(odb, lfs, item)?, block);
            }
            bytes.fetch_add(need.bytes, Ordering::Relaxed);
            files.fetch_add(need.files, Ordering::Relaxed);
            Ok::<(), git2::Error>(())
        })?;
        Ok(Need {
            bytes: bytes.into_inner(),
            files: files.into_inner(),
        })
    }
}

fn size(odb: &Odb<'_>, lfs: &Lfs, item: &Item) -> Result<u64, git2::Error> {
    match item.kind {
        // A folder takes a block: there are no names without it.
        Kind::Folder | Kind::Submodule => Ok(1),
        Kind::File { .. } | Kind::Link => match lfs.size(item.id) {
            Some(size) => Ok(size),
            None => Ok(odb.read_header(item.id)?.0 as u64),
        },
    }
}

/// Refuses a plan whose result does not fit into the filesystem of a folder.
pub(crate) fn check_plan(
    plan: &Plan,
    odb: &Odb<'_>,
    lfs: &Lfs,
    folder: &Folder,
    stop: &StopFlag,
) -> Result<(), Trouble> {
    let need = Need::of(odb, lfs, &plan.put, folder.room()?.block, stop)?;
    Ok(check(need, folder, "the files of this commit")?)
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
    fn what_does_not_fit_is_told_with_both_numbers() {
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
