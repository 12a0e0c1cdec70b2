//! A copy of a whole tree, by the cheapest way that its filesystem knows.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Trouble;
use super::space::{self, Need};
use crate::ports::exec::StopFlag;
use crate::ports::pace::Pace;
use crate::ports::root::{Attrs, Copier, FileKind, Folder, begin_writing};
use crate::resource::Failure;

/// So many files of one folder are one job.
const JOB: usize = 64;

/// What one tree holds.
#[derive(Default)]
struct Listing {
    /// Those above first.
    folders: Vec<PathBuf>,
    jobs: Vec<Job>,
    need: Need,
}

/// Things of one folder, with their modes.
struct Job {
    folder: PathBuf,
    names: Vec<(OsString, FileKind, u32)>,
}

/// Copies everything in one folder into another, empty one, for this owner. Where the filesystem can,
/// copies of files share their content on disk until one of them changes.
pub(crate) fn copy(
    from: &Folder,
    to: &Folder,
    owner: (Option<u32>, Option<u32>),
    pace: Pace,
    stop: &StopFlag,
) -> Result<(), Trouble> {
    let attrs = |mode: u32| Attrs {
        mode: Some(mode & 0o777),
        uid: owner.0,
        gid: owner.1,
    };
    let copier = Copier::default();
    let listing = list(from, to.room()?.block)?;
    for folder in &listing.folders {
        let (parent, name) = super::write::split(folder)?;
        inside(to, parent)?.make_folder(name, &attrs(0o755))?;
    }
    let copy_job = |job: &Job| -> Result<(), Trouble> {
        let (from, to) = (inside(from, &job.folder)?, inside(to, &job.folder)?);
        for (name, kind, mode) in &job.names {
            if *kind == FileKind::Symlink {
                to.make_link(name, &from.read_link(name)?, &attrs(0o755))?;
                continue;
            }
            let source = from.open_file(name)?.ok_or_else(|| changed(&job.folder))?;
            let file = copier.copy(&source, &to, name, &attrs(*mode))?;
            if pace == Pace::Idle && !copier.shares() {
                begin_writing(&file);
            }
        }
        Ok(())
    };
    // The first tells whether the rest takes any room.
    let Some((first, rest)) = listing.jobs.split_first() else {
        return Ok(());
    };
    copy_job(first)?;
    if !copier.shares() {
        space::check(listing.need, to, "a tree to be kept ready")?;
    }
    Ok(pace.each(rest, stop, copy_job)?)
}

fn changed(folder: &Path) -> Trouble {
    Trouble::Other(Failure::new(format!(
        "`{}` of a tree that is kept ready has changed while it was copied",
        folder.display()
    )))
}

fn inside(tree: &Folder, path: &Path) -> Result<Folder, Trouble> {
    tree.inside(path)?.ok_or_else(|| changed(path))
}

fn list(tree: &Folder, block: u64) -> Result<Listing, Trouble> {
    let mut listing = Listing::default();
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        let folder = inside(tree, &path)?;
        let mut names = Vec::new();
        for (name, kind) in folder.entries()? {
            match kind {
                FileKind::Directory => {
                    listing.need.add(block, block);
                    todo.push(path.join(&name));
                    listing.folders.push(path.join(name));
                    continue;
                }
                FileKind::Symlink => names.push((name, kind, 0)),
                FileKind::File => {
                    let meta = folder.meta(&name)?;
                    listing.need.add(meta.size, block);
                    names.push((name, kind, meta.mode));
                }
                FileKind::Other => return Err(changed(&path)),
            }
        }
        for names in names.chunks(JOB) {
            listing.jobs.push(Job {
                folder: path.clone(),
                names: names.to_vec(),
            });
        }
    }
    Ok(listing)
}
