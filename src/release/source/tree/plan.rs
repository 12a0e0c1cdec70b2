//! Plans the removals and creations that bring a tree to a commit: from an empty folder, or from another
//! commit at the cost of the differences.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::iter::from_fn;
use std::path::{Path, PathBuf};
use std::time::Duration;

use git2::{Oid, Repository};

use super::attributes::{self, Attributes, Conversion};
use super::content::CommitPlaceholders;
use super::walk::{GitEntry, TreeReader, join_path};
use super::{EntryKind, TreeEntry};
use crate::ports::deadline::Deadline;
use crate::ports::exec::StopFlag;
use crate::release::app::selection::Selection;
use crate::release::source::error::SourceError;
use crate::resource::Failure;

/// Maximum time to make a plan; the largest projects take seconds.
const MAX_PLANNING_TIME: Duration = Duration::from_secs(300);

/// The stop flag and the deadline of planning.
pub(crate) struct PlanLimits<'a> {
    stop: &'a StopFlag,
    deadline: Deadline,
}

impl PlanLimits<'_> {
    /// The time starts now.
    pub(crate) fn new(stop: &StopFlag) -> PlanLimits<'_> {
        PlanLimits {
            stop,
            deadline: Deadline::from(MAX_PLANNING_TIME),
        }
    }

    fn check(&self) -> Result<(), SourceError> {
        if self.stop.is_set() {
            return Err(SourceError::Failed(Failure::stopped()));
        }
        if !self.deadline.remaining().is_zero() {
            return Ok(());
        }
        Err(SourceError::LimitExceeded(
            Failure::new(format!(
                "comparing the commit with the existing tree took longer than {} s",
                MAX_PLANNING_TIME.as_secs()
            ))
            .hint("check the `.gitattributes` and the number of files of the repository, which may be malicious"),
        ))
    }
}

/// The changes to a tree, carried out in the order of the fields.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Removed with everything below; some may not exist.
    pub remove: Vec<PathBuf>,
    pub create: Vec<TreeEntry>,
    pub metadata: CommitMetadata,
    pub(super) placeholders: CommitPlaceholders,
}

/// The data about a commit that a comparison with another one needs. Derived from the commit alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CommitMetadata {
    /// All `.gitattributes` files of the commit, with their blobs.
    pub attributes: BTreeMap<PathBuf, Oid>,
    /// All files whose content depends on the commit itself (`export-subst`).
    pub subst_paths: BTreeSet<PathBuf>,
}

/// An entry before its attributes are looked up.
#[derive(Debug)]
struct UnfilteredEntry {
    path: PathBuf,
    kind: EntryKind,
    id: Oid,
}

impl Plan {
    /// The plan for an empty folder, with what is selected of the commit. `max_entries` limits the number of entries.
    pub(crate) fn full(
        mirror: &Repository,
        selection: &Selection,
        to: Oid,
        max_entries: Option<u64>,
        limits: &PlanLimits<'_>,
    ) -> Result<Plan, SourceError> {
        let commit = mirror.find_commit(to)?;
        let (put, metadata) = list_tree(mirror, selection, commit.tree_id(), max_entries, limits)?;
        Ok(Plan {
            remove: Vec::new(),
            create: put,
            metadata,
            placeholders: CommitPlaceholders::from_commit(&commit)?,
        })
    }

    /// The plan for a tree that is exactly at the commit `from`. `metadata` is the stored one of `from`;
    /// without it all folders of `from` are read.
    pub(crate) fn incremental(
        mirror: &Repository,
        selection: &Selection,
        from: Oid,
        metadata: Option<CommitMetadata>,
        to: Oid,
        max_entries: Option<u64>,
        limits: &PlanLimits<'_>,
    ) -> Result<Plan, SourceError> {
        let (old, new) = (mirror.find_commit(from)?, mirror.find_commit(to)?);
        let stamp = CommitPlaceholders::from_commit(&new)?;
        let mut difference = TreeDiff::new(mirror, selection, max_entries, limits)?;
        difference.visit_folder(Path::new(""), Some(old.tree_id()), Some(new.tree_id()))?;
        if difference.attributes_changed {
            return diff_trees(
                mirror,
                selection,
                old.tree_id(),
                new.tree_id(),
                max_entries,
                stamp,
                limits,
            );
        }
        let metadata = match metadata {
            Some(metadata) => metadata,
            None => list_tree(mirror, selection, old.tree_id(), max_entries, limits)?.1,
        };
        let TreeDiff {
            mut remove,
            create: mut found,
            ..
        } = difference;
        let removed: HashSet<&Path> = remove.iter().map(PathBuf::as_path).collect();
        let gone = |path: &Path| path.ancestors().any(|part| removed.contains(part));
        let mut attribute_files = metadata.attributes;
        attribute_files.retain(|path, _| !gone(path));
        let mut subst = metadata.subst_paths;
        subst.retain(|path| !gone(path));
        let reader = TreeReader::new(mirror, selection, max_entries)?;
        found.extend(SubstWalk::find(reader, &subst, new.tree_id(), limits)?);
        remove.extend(subst);
        let put = apply_attributes(
            found,
            &mut Attributes::read(mirror, &attribute_files)?,
            limits,
        )?;
        let metadata = CommitMetadata {
            attributes: attribute_files,
            subst_paths: paths_with_subst(&put),
        };
        Ok(Plan {
            remove,
            create: put,
            metadata,
            placeholders: stamp,
        })
    }
}

/// Lists all entries of a tree.
fn list_tree(
    mirror: &Repository,
    selection: &Selection,
    tree: Oid,
    max_entries: Option<u64>,
    limits: &PlanLimits<'_>,
) -> Result<(Vec<TreeEntry>, CommitMetadata), SourceError> {
    let mut all = TreeDiff::new(mirror, selection, max_entries, limits)?;
    all.visit_folder(Path::new(""), None, Some(tree))?;
    let files = all.create.iter();
    let attributes: BTreeMap<PathBuf, Oid> = files
        .filter(|found| {
            is_attributes_file(&found.path) && matches!(found.kind, EntryKind::File { .. })
        })
        .map(|found| (found.path.clone(), found.id))
        .collect();
    let put = apply_attributes(
        all.create,
        &mut Attributes::read(mirror, &attributes)?,
        limits,
    )?;
    let subst = paths_with_subst(&put);
    Ok((
        put,
        CommitMetadata {
            attributes,
            subst_paths: subst,
        },
    ))
}

/// The plan between two trees whose attributes differ: compares all files, because any of them may be
/// converted differently.
fn diff_trees(
    mirror: &Repository,
    selection: &Selection,
    old: Oid,
    new: Oid,
    max_entries: Option<u64>,
    stamp: CommitPlaceholders,
    limits: &PlanLimits<'_>,
) -> Result<Plan, SourceError> {
    let (before, _) = list_tree(mirror, selection, old, max_entries, limits)?;
    let (put, metadata) = list_tree(mirror, selection, new, max_entries, limits)?;
    let mut left: HashMap<PathBuf, TreeEntry> = before
        .into_iter()
        .map(|item| (item.path.clone(), item))
        .collect();
    // Equal files stay, unless they contain placeholders of the commit.
    let put: Vec<TreeEntry> = put
        .into_iter()
        .filter(|item| {
            let same = left.get(&item.path) == Some(item) && !item.conversion.export_subst;
            if same {
                left.remove(&item.path);
            }
            !same
        })
        .collect();
    Ok(Plan {
        remove: left.into_keys().collect(),
        create: put,
        metadata,
        placeholders: stamp,
    })
}

fn paths_with_subst(items: &[TreeEntry]) -> BTreeSet<PathBuf> {
    let subst = items.iter().filter(|item| item.conversion.export_subst);
    subst.map(|item| item.path.clone()).collect()
}

fn is_attributes_file(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.as_encoded_bytes() == attributes::FILE_NAME)
}

/// Drops the entries that attributes leave out, and adds the conversion to the others.
fn apply_attributes(
    found: Vec<UnfilteredEntry>,
    attributes: &mut Attributes,
    limits: &PlanLimits<'_>,
) -> Result<Vec<TreeEntry>, SourceError> {
    attributes.check_lookup_count(found.len())?;
    let mut folders: HashMap<PathBuf, bool> = HashMap::new();
    let mut items = Vec::with_capacity(found.len());
    for UnfilteredEntry { path, kind, id } in found {
        limits.check()?;
        let parent = path.parent().unwrap_or(Path::new(""));
        let is_omitted = is_folder_ignored(parent, attributes, &mut folders, limits)?
            || attributes.is_export_ignored(
                &path,
                matches!(kind, EntryKind::Directory | EntryKind::Submodule),
            )?;
        if !is_omitted {
            let conversion = match kind {
                EntryKind::File { .. } => attributes.conversion(&path)?,
                _ => Conversion::default(),
            };
            items.push(TreeEntry {
                path,
                kind,
                id,
                conversion,
            });
        }
    }
    Ok(items)
}

/// Whether attributes leave out a folder or one above it.
fn is_folder_ignored(
    folder: &Path,
    attributes: &mut Attributes,
    known: &mut HashMap<PathBuf, bool>,
    limits: &PlanLimits<'_>,
) -> Result<bool, SourceError> {
    if folder.as_os_str().is_empty() {
        return Ok(false);
    }
    if let Some(known) = known.get(folder) {
        return Ok(*known);
    }
    limits.check()?;
    let above = folder.parent().unwrap_or(Path::new(""));
    let out = is_folder_ignored(above, attributes, known, limits)?
        || attributes.is_export_ignored(folder, true)?;
    known.insert(folder.to_owned(), out);
    Ok(out)
}

/// Finds the existing files of a tree that have to be rewritten; reads each folder above them once.
struct SubstWalk<'a> {
    reader: TreeReader<'a>,
    limits: &'a PlanLimits<'a>,
    folders: HashSet<&'a Path>,
    files: &'a BTreeSet<PathBuf>,
    found: Vec<UnfilteredEntry>,
}

impl<'a> SubstWalk<'a> {
    /// Those of `files` that are in the tree `id`.
    fn find(
        reader: TreeReader<'a>,
        files: &'a BTreeSet<PathBuf>,
        id: Oid,
        limits: &'a PlanLimits<'a>,
    ) -> Result<Vec<UnfilteredEntry>, SourceError> {
        let above = files.iter().flat_map(|path| path.ancestors().skip(1));
        let mut walk = SubstWalk {
            reader,
            limits,
            folders: above.collect(),
            files,
            found: Vec::new(),
        };
        if !files.is_empty() {
            walk.visit_folder(Path::new(""), id)?;
        }
        Ok(walk.found)
    }

    fn visit_folder(&mut self, path: &Path, id: Oid) -> Result<(), SourceError> {
        self.limits.check()?;
        let mut folders = Vec::new();
        for GitEntry { name, id, kind } in self.reader.read(id, path)? {
            let path = join_path(path, &name);
            match kind {
                None if self.folders.contains(path.as_path()) => folders.push((path, id)),
                Some(kind) if self.files.contains(&path) => {
                    self.found.push(UnfilteredEntry { path, kind, id });
                }
                _ => {}
            }
        }
        for (path, id) in folders {
            self.visit_folder(&path, id)?;
        }
        Ok(())
    }
}

/// The differences between two trees. Skips folders with equal ids.
struct TreeDiff<'a> {
    reader: TreeReader<'a>,
    limits: &'a PlanLimits<'a>,
    remove: Vec<PathBuf>,
    create: Vec<UnfilteredEntry>,
    /// Some `.gitattributes` files differ in a way that may affect unchanged files.
    attributes_changed: bool,
}

impl<'a> TreeDiff<'a> {
    fn new(
        mirror: &'a Repository,
        selection: &'a Selection,
        max_entries: Option<u64>,
        limits: &'a PlanLimits<'a>,
    ) -> Result<TreeDiff<'a>, SourceError> {
        Ok(TreeDiff {
            reader: TreeReader::new(mirror, selection, max_entries)?,
            limits,
            remove: Vec::new(),
            create: Vec::new(),
            attributes_changed: false,
        })
    }

    fn visit_folder(
        &mut self,
        path: &Path,
        old: Option<Oid>,
        new: Option<Oid>,
    ) -> Result<(), SourceError> {
        self.limits.check()?;
        let mut read = |id: Option<Oid>| id.map_or(Ok(Vec::new()), |id| self.reader.read(id, path));
        // Both are sorted by name.
        let (old, new) = (read(old)?, read(new)?);
        let mut old = old.into_iter().peekable();
        let mut gone = Vec::new();
        // Visited after the files, so that the files of one folder stay together.
        let mut folders = Vec::new();
        for GitEntry { name, id, kind } in new {
            gone.extend(from_fn(|| old.next_if(|entry| entry.name < name)));
            let before = old.next_if(|entry| entry.name == name);
            let same = |entry: &GitEntry| entry.id == id && entry.kind == kind;
            if before.as_ref().is_some_and(same) {
                continue;
            }
            let inner = join_path(path, &name);
            let folder = before.as_ref().filter(|entry| entry.kind.is_none());
            let both_folders = folder.filter(|_| kind.is_none()).map(|entry| entry.id);
            if before.is_some() && both_folders.is_none() {
                self.remove.push(inner.clone());
            }
            self.attributes_changed |= name == attributes::FILE_NAME;
            match kind {
                None => {
                    if both_folders.is_none() {
                        self.create.push(UnfilteredEntry {
                            path: inner.clone(),
                            kind: EntryKind::Directory,
                            // Zero, because a folder is compared by its content.
                            id: Oid::ZERO_SHA1,
                        });
                    }
                    folders.push((inner, both_folders, id));
                }
                Some(kind) => self.create.push(UnfilteredEntry {
                    path: inner,
                    kind,
                    id,
                }),
            }
        }
        for GitEntry { name, .. } in gone.into_iter().chain(old) {
            self.attributes_changed |= name == attributes::FILE_NAME;
            self.remove.push(join_path(path, &name));
        }
        for (inner, before, id) in folders {
            self.visit_folder(&inner, before, Some(id))?;
        }
        Ok(())
    }
}
