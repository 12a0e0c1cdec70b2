//! Copies a whole tree in the cheapest way that its filesystem supports.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::disk_space::{self, RequiredSpace};
use crate::ports::exec::StopFlag;
use crate::ports::root::{Attrs, FileCopier, FileKind, Folder, start_writeback};
use crate::ports::worker_pool::Priority;
use crate::release::source::error::SourceError;
use crate::resource::Failure;

/// Maximum number of files of one folder in one job.
const FILES_PER_JOB: usize = 64;

/// The content of one tree.
#[derive(Default)]
struct Listing {
    /// Parents before their children.
    folders: Vec<PathBuf>,
    jobs: Vec<Job>,
    need: RequiredSpace,
}

/// Entries of one folder, with their modes.
struct Job {
    folder: PathBuf,
    names: Vec<(OsString, FileKind, u32)>,
}

/// Copies the content of one folder into another, empty one, with this owner. Where the filesystem supports
/// reflinks, the copies share their content on disk until one of them changes.
pub(crate) fn copy_tree(
    from: &Folder,
    to: &Folder,
    owner: (Option<u32>, Option<u32>),
    pace: Priority,
    stop: &StopFlag,
) -> Result<(), SourceError> {
    let attrs = |mode: u32| Attrs {
        mode: Some(mode & 0o777),
        uid: owner.0,
        gid: owner.1,
    };
    let copier = FileCopier::default();
    let listing = list_tree(from, to.free_space()?.block)?;
    for folder in &listing.folders {
        let (parent, name) = super::writer::split_path(folder)?;
        open_folder(to, parent)?.create_folder(name, &attrs(0o755))?;
    }
    let copy_job = |job: &Job| -> Result<(), SourceError> {
        let (from, to) = (
            open_folder(from, &job.folder)?,
            open_folder(to, &job.folder)?,
        );
        for (name, kind, mode) in &job.names {
            if *kind == FileKind::Symlink {
                to.create_symlink(name, &from.read_link(name)?, &attrs(0o755))?;
                continue;
            }
            let source = from
                .open_file(name)?
                .ok_or_else(|| changed_error(&job.folder))?;
            let file = copier.copy(&source, &to, name, &attrs(*mode))?;
            if pace == Priority::Idle && !copier.can_reflink() {
                start_writeback(&file);
            }
        }
        Ok(())
    };
    // The first job shows whether the filesystem reflinks: only if not, the other jobs need space.
    let Some((first, rest)) = listing.jobs.split_first() else {
        return Ok(());
    };
    copy_job(first)?;
    if !copier.can_reflink() {
        disk_space::check_space(listing.need, to, "a spare tree")?;
    }
    Ok(pace.run_all(rest, stop, copy_job)?)
}

fn changed_error(folder: &Path) -> SourceError {
    SourceError::Failed(Failure::new(format!(
        "`{}` of a spare tree changed while it was copied",
        folder.display()
    )))
}

fn open_folder(tree: &Folder, path: &Path) -> Result<Folder, SourceError> {
    tree.open_subfolder(path)?
        .ok_or_else(|| changed_error(path))
}

fn list_tree(tree: &Folder, block: u64) -> Result<Listing, SourceError> {
    let mut listing = Listing::default();
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        let folder = open_folder(tree, &path)?;
        let mut names = Vec::new();
        for (name, kind) in folder.entries()? {
            match kind {
                FileKind::Directory => {
                    listing.need.add_file(block, block);
                    todo.push(path.join(&name));
                    listing.folders.push(path.join(name));
                    continue;
                }
                FileKind::Symlink => names.push((name, kind, 0)),
                FileKind::File => {
                    let meta = folder.meta(&name)?;
                    listing.need.add_file(meta.size, block);
                    names.push((name, kind, meta.mode));
                }
                FileKind::Other => return Err(changed_error(&path)),
            }
        }
        for names in names.chunks(FILES_PER_JOB) {
            listing.jobs.push(Job {
                folder: path.clone(),
                names: names.to_vec(),
            });
        }
    }
    Ok(listing)
}
