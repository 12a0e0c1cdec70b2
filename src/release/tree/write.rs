//! Bringing a tree on disk to where a plan says, on all cores.
//!
//! Nothing is ever written to: a file that changes is removed and made anew. So no other name of it,
//! and no process that has it open, sees anything of the new content.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::attributes::Crlf;
use super::content::{self, Stamp};
use super::filters;
use super::space::{Large, Meter, Source};
use super::{Item, Kind, Plan, Trouble};
use crate::ports::exec::StopFlag;
use crate::ports::pace::Pace;
use crate::ports::root::{Attrs, Folder, begin_writing};
use crate::resource::Failure;

/// So many files of one folder are one job.
const JOB: usize = 32;

/// Up to so many new files are waited for one by one; for more, the whole filesystem is.
const FEW: usize = 64;

/// How trees are written.
pub(crate) struct Writer<'a> {
    pub source: Source<'a>,
    pub large: &'a Large,
    /// Who owns what is made.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub pace: Pace,
    pub stop: &'a StopFlag,
}

/// Files of one folder.
struct Job<'a> {
    folder: &'a Path,
    items: Vec<&'a Item>,
}

impl Writer<'_> {
    fn attrs(&self, runs: bool) -> Attrs {
        Attrs {
            mode: Some(if runs { 0o755 } else { 0o644 }),
            uid: self.uid,
            gid: self.gid,
        }
    }

    /// Does what the plan says to the tree in this folder, and waits until it is on disk if that
    /// takes no longer than the writing; tells whether it did.
    pub(crate) fn apply(&self, plan: &Plan, tree: &Folder) -> Result<bool, Trouble> {
        let mut touched = self.remove(&plan.remove, tree)?;
        let jobs = jobs(&plan.put);
        for path in folders(&plan.put) {
            let (parent, name) = split(path)?;
            open(tree, parent)?.make_folder(name, &self.attrs(true))?;
            touched.extend([parent.to_owned(), path.to_owned()]);
        }
        touched.extend(jobs.iter().map(|job| job.folder.to_owned()));
        let few = plan.put.len() <= FEW;
        let made = Mutex::new(Vec::new());
        let meter = Meter::new(tree);
        self.pace.each(&jobs, self.stop, |job| {
            let folder = open(tree, job.folder)?;
            for item in &job.items {
                // Where somebody waits for thousands of files, one sync of all of them is quicker.
                if let Some(file) = self.put(&folder, item, &plan.stamp, &meter)?
                    && (few || self.pace == Pace::Idle)
                {
                    begin_writing(&file);
                    if few {
                        made.lock()
                            .unwrap_or_else(|broken| broken.into_inner())
                            .push(file);
                    }
                }
            }
            Ok::<(), Trouble>(())
        })?;
        if few {
            let made = made
                .into_inner()
                .unwrap_or_else(|broken| broken.into_inner());
            settle(&made, &touched, tree)?;
        }
        Ok(few)
    }

    /// Removes what is to go; gives the folders that changed.
    fn remove(&self, paths: &[PathBuf], tree: &Folder) -> Result<BTreeSet<PathBuf>, Trouble> {
        let mut touched = BTreeSet::new();
        for path in paths {
            let (parent, name) = split(path)?;
            if let Some(folder) = tree.inside(parent)? {
                folder.remove(name)?;
                touched.insert(parent.to_owned());
            }
        }
        Ok(touched)
    }

    fn put(
        &self,
        folder: &Folder,
        item: &Item,
        stamp: &Stamp,
        meter: &Meter<'_>,
    ) -> Result<Option<File>, Trouble> {
        let (_, name) = split(&item.path)?;
        let explain = |error: git2::Error| broken(item, &error);
        match item.kind {
            Kind::Folder | Kind::Submodule => folder.make_folder(name, &self.attrs(true))?,
            Kind::Link => {
                use std::os::unix::ffi::OsStrExt;
                let target = self.source.odb.read(item.id).map_err(explain)?;
                let target = OsStr::from_bytes(target.data());
                folder
                    .make_link(name, target, &self.attrs(true))
                    .map_err(|error| match error.is_bad_target() {
                        true => Trouble::Other(
                            Failure::new(format!(
                                "the link `{}` in the repository points to nothing that a link can name",
                                item.path.display()
                            ))
                            .hint("mend or remove it in the repository"),
                        ),
                        false => error.into(),
                    })?;
            }
            Kind::File { runs } => {
                let Source {
                    odb,
                    lfs,
                    max_file,
                    key,
                } = self.source;
                if let Some(size) = lfs.size(item) {
                    meter.write(size)?;
                }
                if let Some(file) = lfs.put(item, folder, name, &self.attrs(runs))? {
                    return Ok(Some(file));
                }
                let _turn = self.large.turn(item.id);
                let blob = odb.read(item.id).map_err(explain)?;
                let (mut how, mut attrs) = (item.how, self.attrs(runs));
                let secret = filters::plain(item, blob.data(), key)?;
                if secret.is_some() {
                    // Git changes line ends and marks before its filters, in ciphertext, so not at all.
                    (how.crlf, how.ident) = (Crlf::Never, false);
                    // Not for everybody on the host, as most of the repository is.
                    attrs.mode = Some(if runs { 0o750 } else { 0o640 });
                }
                let text = secret.as_deref().unwrap_or(blob.data());
                let most = content::most(text.len() as u64, max_file);
                let body = content::of(text, item.id, how, stamp, most)
                    .ok_or_else(|| Meter::refuse(item, text.len(), max_file))?;
                meter.add(item, text.len(), body.len())?;
                return Ok(Some(folder.make_file(name, &body, &attrs)?));
            }
        }
        Ok(None)
    }
}

fn broken(item: &Item, error: &git2::Error) -> Trouble {
    match Trouble::from(git2::Error::new(
        error.code(),
        error.class(),
        error.message(),
    )) {
        Trouble::Mirror(why) => Trouble::Mirror(format!("{}: {why}", item.path.display())),
        other => other,
    }
}

/// The folder of a path, and its last part.
pub(super) fn split(path: &Path) -> Result<(&Path, &OsStr), Trouble> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent, name)),
        _ => Err(Trouble::Other(Failure::new(format!(
            "`{}` is no path in a tree",
            path.display()
        )))),
    }
}

fn open(tree: &Folder, path: &Path) -> Result<Folder, Trouble> {
    tree.inside(path)?.ok_or_else(|| {
        Trouble::Other(Failure::new(format!(
            "the folder `{}` of the repository is not there while it is laid out",
            path.display()
        )))
    })
}

/// All folders among these, those above first.
pub(super) fn folders(items: &[Item]) -> BTreeSet<&Path> {
    let folders = items.iter().filter(|item| item.kind == Kind::Folder);
    folders.map(|item| item.path.as_path()).collect()
}

fn jobs(items: &[Item]) -> Vec<Job<'_>> {
    let mut jobs: Vec<Job<'_>> = Vec::new();
    for item in items.iter().filter(|item| item.kind != Kind::Folder) {
        let folder = item.path.parent().unwrap_or(Path::new(""));
        match jobs.last_mut() {
            Some(job) if job.folder == folder && job.items.len() < JOB => job.items.push(item),
            _ => jobs.push(Job {
                folder,
                items: vec![item],
            }),
        }
    }
    jobs
}

/// Waits until these are on disk.
fn settle(files: &[File], touched: &BTreeSet<PathBuf>, tree: &Folder) -> Result<(), Trouble> {
    for file in files {
        file.sync_all().map_err(|error| {
            Trouble::Other(Failure::new(format!(
                "cannot write the tree to disk: {error}"
            )))
        })?;
    }
    for path in touched {
        if let Some(folder) = tree.inside(path)? {
            folder.sync()?;
        }
    }
    Ok(())
}
