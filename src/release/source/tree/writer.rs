//! Carries out a plan on a tree, on all cores.
//!
//! Existing files are never written to: a file that changes is removed and created again, so that no hard
//! link to it and no process that has it open sees any of the new content.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use git2::OdbObject;

use super::attributes::Crlf;
use super::content::{self, CommitPlaceholders};
use super::disk_space::{ContentSource, LargeBlobs, SpaceMeter};
use super::filters;
use super::walk::display_path;
use super::{EntryKind, Plan, TreeEntry};
use crate::ports::exec::StopFlag;
use crate::ports::root::{Attrs, Folder, start_writeback};
use crate::ports::worker_pool::Priority;
use crate::release::source::error::SourceError;
use crate::resource::Failure;

/// Maximum number of files of one folder in one job.
const FILES_PER_JOB: usize = 32;

/// Maximum number of new files that are synced one by one; for more, the whole filesystem is synced.
const MAX_SINGLE_SYNCS: usize = 64;

/// Writes trees with these sources and owners.
pub(crate) struct TreeWriter<'a> {
    pub source: ContentSource<'a>,
    pub large: &'a LargeBlobs,
    /// Owner of the created files.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub pace: Priority,
    pub stop: &'a StopFlag,
}

/// Files of one folder.
struct Job<'a> {
    folder: &'a Path,
    items: Vec<&'a TreeEntry>,
}

impl TreeWriter<'_> {
    fn attrs(&self, runs: bool) -> Attrs {
        Attrs {
            mode: Some(if runs { 0o755 } else { 0o644 }),
            uid: self.uid,
            gid: self.gid,
        }
    }

    /// Carries out a plan on the tree in this folder. Waits until the tree is on disk if that takes no longer
    /// than the writing; returns whether it did.
    pub(crate) fn apply(&self, plan: &Plan, tree: &Folder) -> Result<bool, SourceError> {
        let mut touched = self.remove_paths(&plan.remove, tree)?;
        let jobs = group_into_jobs(&plan.create);
        for path in folder_paths(&plan.create) {
            let (parent, name) = split_path(path)?;
            open_folder(tree, parent)?.create_folder(name, &self.attrs(true))?;
            touched.extend([parent.to_owned(), path.to_owned()]);
        }
        touched.extend(jobs.iter().map(|job| job.folder.to_owned()));
        let few = plan.create.len() <= MAX_SINGLE_SYNCS;
        let made = Mutex::new(Vec::new());
        let meter = SpaceMeter::new(tree);
        self.pace.run_all(&jobs, self.stop, |job| {
            let folder = open_folder(tree, job.folder)?;
            for item in &job.items {
                // When a deploy waits for thousands of files, one sync of all of them is faster.
                if let Some(file) = self.write_entry(&folder, item, &plan.placeholders, &meter)?
                    && (few || self.pace == Priority::Idle)
                {
                    start_writeback(&file);
                    if few {
                        made.lock()
                            .unwrap_or_else(|broken| broken.into_inner())
                            .push(file);
                    }
                }
            }
            Ok::<(), SourceError>(())
        })?;
        if few {
            let made = made
                .into_inner()
                .unwrap_or_else(|broken| broken.into_inner());
            sync_to_disk(&made, &touched, tree)?;
        }
        Ok(few)
    }

    /// Removes these paths; returns the folders that changed.
    fn remove_paths(
        &self,
        paths: &[PathBuf],
        tree: &Folder,
    ) -> Result<BTreeSet<PathBuf>, SourceError> {
        let mut touched = BTreeSet::new();
        for path in paths {
            let (parent, name) = split_path(path)?;
            if let Some(folder) = tree.open_subfolder(parent)? {
                folder.remove_tree(name)?;
                touched.insert(parent.to_owned());
            }
        }
        Ok(touched)
    }

    fn write_entry(
        &self,
        folder: &Folder,
        item: &TreeEntry,
        placeholders: &CommitPlaceholders,
        meter: &SpaceMeter<'_>,
    ) -> Result<Option<File>, SourceError> {
        let (_, name) = split_path(&item.path)?;
        match item.kind {
            EntryKind::Directory | EntryKind::Submodule => {
                folder.create_folder(name, &self.attrs(true))?
            }
            EntryKind::Symlink => self.write_link(folder, name, item)?,
            EntryKind::File { executable } => {
                let file = self.write_file(folder, name, item, executable, placeholders, meter)?;
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    fn write_link(
        &self,
        folder: &Folder,
        name: &OsStr,
        item: &TreeEntry,
    ) -> Result<(), SourceError> {
        let target = self.read_blob(item)?;
        let target = OsStr::from_bytes(target.data());
        folder
            .create_symlink(name, target, &self.attrs(true))
            .map_err(|error| match error.is_invalid_link_target() {
                true => SourceError::Failed(
                    Failure::new(format!(
                        "the link `{}` in the repository has an invalid target",
                        display_path(&item.path)
                    ))
                    .hint("fix or remove it in the repository"),
                ),
                false => error.into(),
            })
    }

    fn write_file(
        &self,
        folder: &Folder,
        name: &OsStr,
        item: &TreeEntry,
        runs: bool,
        placeholders: &CommitPlaceholders,
        meter: &SpaceMeter<'_>,
    ) -> Result<File, SourceError> {
        let ContentSource {
            lfs, max_file, key, ..
        } = self.source;
        if let Some(size) = lfs.size(item) {
            meter.add_written(size)?;
        }
        if let Some(file) = lfs.write_file(item, folder, name, &self.attrs(runs))? {
            return Ok(file);
        }
        let _turn = self.large.lock(item.id);
        let blob = self.read_blob(item)?;
        let (mut conversion, mut attrs) = (item.conversion, self.attrs(runs));
        let secret = filters::decrypt(item, blob.data(), key)?;
        if secret.is_some() {
            // Git converts line ends and markers before its filters, on the ciphertext, hence not at all.
            (conversion.crlf, conversion.ident) = (Crlf::Never, false);
            // Unlike most of the repository, a secret is not world-readable.
            attrs.mode = Some(if runs { 0o750 } else { 0o640 });
        }
        let text = secret.as_deref().unwrap_or(blob.data());
        let max_bytes = content::max_size(text.len() as u64, max_file);
        let body = content::convert_blob(text, item.id, conversion, placeholders, max_bytes)
            .ok_or_else(|| SpaceMeter::size_error(item, text.len(), max_file))?;
        meter.add_converted(item, text.len(), body.len())?;
        Ok(folder.create_file(name, &body, &attrs)?)
    }

    fn read_blob(&self, item: &TreeEntry) -> Result<OdbObject<'_>, SourceError> {
        let blob = self.source.odb.read(item.id);
        blob.map_err(|error| object_error(item, error))
    }
}

/// Names the file, if the mirror is at fault.
fn object_error(item: &TreeEntry, error: git2::Error) -> SourceError {
    match SourceError::from(error) {
        SourceError::BrokenMirror { error, .. } => {
            let message = format!("{}: {}", display_path(&item.path), error.message());
            SourceError::broken_mirror(git2::Error::new(error.code(), error.class(), message))
        }
        other => other,
    }
}

/// Splits a path into its folder and its name.
pub(super) fn split_path(path: &Path) -> Result<(&Path, &OsStr), SourceError> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent, name)),
        _ => Err(SourceError::Failed(Failure::new(format!(
            "`{}` is not a path in a tree",
            display_path(path)
        )))),
    }
}

fn open_folder(tree: &Folder, path: &Path) -> Result<Folder, SourceError> {
    tree.open_subfolder(path)?.ok_or_else(|| {
        SourceError::Failed(Failure::new(format!(
            "the folder `{}` of the repository disappeared during the checkout",
            display_path(path)
        )))
    })
}

/// All folders among these entries, parents first.
pub(super) fn folder_paths(items: &[TreeEntry]) -> BTreeSet<&Path> {
    let folders = items
        .iter()
        .filter(|item| item.kind == EntryKind::Directory);
    folders.map(|item| item.path.as_path()).collect()
}

fn group_into_jobs(items: &[TreeEntry]) -> Vec<Job<'_>> {
    let mut jobs: Vec<Job<'_>> = Vec::new();
    for item in items
        .iter()
        .filter(|item| item.kind != EntryKind::Directory)
    {
        let folder = item.path.parent().unwrap_or(Path::new(""));
        match jobs.last_mut() {
            Some(job) if job.folder == folder && job.items.len() < FILES_PER_JOB => {
                job.items.push(item)
            }
            _ => jobs.push(Job {
                folder,
                items: vec![item],
            }),
        }
    }
    jobs
}

/// Waits until these files and folders are on disk.
fn sync_to_disk(
    files: &[File],
    touched: &BTreeSet<PathBuf>,
    tree: &Folder,
) -> Result<(), SourceError> {
    for file in files {
        file.sync_all().map_err(|error| {
            SourceError::Failed(Failure::new(format!(
                "cannot write the tree to disk: {error}"
            )))
        })?;
    }
    for path in touched {
        if let Some(folder) = tree.open_subfolder(path)? {
            folder.sync()?;
        }
    }
    Ok(())
}
