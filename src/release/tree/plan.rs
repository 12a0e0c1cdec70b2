//! What has to be removed and made to bring a tree to a commit: from nothing, or from another commit
//! at the cost of what differs.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::iter::from_fn;
use std::path::{Path, PathBuf};
use std::time::Duration;

use git2::{Oid, Repository};

use super::attributes::{self, Attributes, How};
use super::content::Stamp;
use super::walk::{Entry, Reader, join};
use super::{Item, Kind, Trouble};
use crate::ports::exec::StopFlag;
use crate::ports::patience::Patience;
use crate::resource::Failure;

/// No plan takes longer to make: the largest projects take seconds.
const LONGEST: Duration = Duration::from_secs(300);

/// What making plans may take.
pub(crate) struct Limits<'a> {
    stop: &'a StopFlag,
    patience: Patience,
}

impl Limits<'_> {
    /// From now on.
    pub(crate) fn new(stop: &StopFlag) -> Limits<'_> {
        Limits {
            stop,
            patience: Patience::from(LONGEST),
        }
    }

    fn check(&self) -> Result<(), Trouble> {
        if self.stop.is_set() {
            return Err(Trouble::Other(Failure::stopped()));
        }
        if !self.patience.left().is_zero() {
            return Ok(());
        }
        Err(Trouble::Refused(
            Failure::new(format!(
                "what has to be done for this commit is not known after {} s",
                LONGEST.as_secs()
            ))
            .hint("look at the `.gitattributes` of the repository, and at how many files it has: somebody may have made it to do harm"),
        ))
    }
}

/// What is to be done to a tree, in this order.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// With everything below; some may not be there.
    pub remove: Vec<PathBuf>,
    pub put: Vec<Item>,
    pub notes: Notes,
    pub(super) stamp: Stamp,
}

/// What is worth knowing about a commit when another is compared with it. Derived from it alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Notes {
    /// All `.gitattributes` in it, with their blobs.
    pub attributes: BTreeMap<PathBuf, Oid>,
    /// All files whose content depends on the commit itself.
    pub subst: BTreeSet<PathBuf>,
}

/// An entry, before anybody asked for its attributes.
#[derive(Debug)]
struct Found {
    path: PathBuf,
    kind: Kind,
    id: Oid,
}

impl Plan {
    /// For an empty folder. `most`: how many entries there may be at most.
    pub(crate) fn whole(
        mirror: &Repository,
        to: Oid,
        most: Option<u64>,
        limits: &Limits<'_>,
    ) -> Result<Plan, Trouble> {
        let commit = mirror.find_commit(to)?;
        let (put, notes) = everything(mirror, commit.tree_id(), most, limits)?;
        Ok(Plan {
            remove: Vec::new(),
            put,
            notes,
            stamp: Stamp::of(&commit)?,
        })
    }

    /// For a tree that is exactly at the commit `from`. `notes` are those of `from`, where they were
    /// kept; without them all of its folders are read.
    pub(crate) fn between(
        mirror: &Repository,
        from: Oid,
        notes: Option<Notes>,
        to: Oid,
        most: Option<u64>,
        limits: &Limits<'_>,
    ) -> Result<Plan, Trouble> {
        let (old, new) = (mirror.find_commit(from)?, mirror.find_commit(to)?);
        let stamp = Stamp::of(&new)?;
        let mut difference = Difference::new(mirror, most, limits)?;
        difference.folder(Path::new(""), Some(old.tree_id()), Some(new.tree_id()))?;
        if difference.attributes {
            return compared(mirror, old.tree_id(), new.tree_id(), most, stamp, limits);
        }
        let notes = match notes {
            Some(notes) => notes,
            None => everything(mirror, old.tree_id(), most, limits)?.1,
        };
        let Difference {
            mut remove,
            put: mut found,
            ..
        } = difference;
        let removed: HashSet<&Path> = remove.iter().map(PathBuf::as_path).collect();
        let gone = |path: &Path| path.ancestors().any(|part| removed.contains(part));
        let mut kept = notes.attributes;
        kept.retain(|path, _| !gone(path));
        let mut subst = notes.subst;
        subst.retain(|path| !gone(path));
        let above = subst.iter().flat_map(|path| path.ancestors().skip(1));
        let mut again = Again {
            reader: Reader::new(mirror, most)?,
            limits,
            folders: above.collect(),
            files: &subst,
            found: Vec::new(),
        };
        if !subst.is_empty() {
            again.folder(Path::new(""), new.tree_id())?;
        }
        found.append(&mut again.found);
        drop(again);
        remove.extend(subst);
        let put = treated(found, &mut Attributes::read(mirror, &kept)?, limits)?;
        let notes = Notes {
            attributes: kept,
            subst: substituted(&put),
        };
        Ok(Plan {
            remove,
            put,
            notes,
            stamp,
        })
    }
}

/// All that is in a tree.
fn everything(
    mirror: &Repository,
    tree: Oid,
    most: Option<u64>,
    limits: &Limits<'_>,
) -> Result<(Vec<Item>, Notes), Trouble> {
    let mut all = Difference::new(mirror, most, limits)?;
    all.folder(Path::new(""), None, Some(tree))?;
    let files = all.put.iter();
    let attributes: BTreeMap<PathBuf, Oid> = files
        .filter(|found| is_attributes(&found.path) && matches!(found.kind, Kind::File { .. }))
        .map(|found| (found.path.clone(), found.id))
        .collect();
    let put = treated(all.put, &mut Attributes::read(mirror, &attributes)?, limits)?;
    let subst = substituted(&put);
    Ok((put, Notes { attributes, subst }))
}

/// The plan between two trees whose attributes differ: any file may come out differently, so all are
/// compared.
fn compared(
    mirror: &Repository,
    old: Oid,
    new: Oid,
    most: Option<u64>,
    stamp: Stamp,
    limits: &Limits<'_>,
) -> Result<Plan, Trouble> {
    let (before, _) = everything(mirror, old, most, limits)?;
    let (put, notes) = everything(mirror, new, most, limits)?;
    let mut left: HashMap<PathBuf, Item> = before
        .into_iter()
        .map(|item| (item.path.clone(), item))
        .collect();
    // What is the same stays, unless it speaks of the commit.
    let put: Vec<Item> = put
        .into_iter()
        .filter(|item| {
            let same = left.get(&item.path) == Some(item) && !item.how.subst;
            if same {
                left.remove(&item.path);
            }
            !same
        })
        .collect();
    Ok(Plan {
        remove: left.into_keys().collect(),
        put,
        notes,
        stamp,
    })
}

fn substituted(items: &[Item]) -> BTreeSet<PathBuf> {
    let subst = items.iter().filter(|item| item.how.subst);
    subst.map(|item| item.path.clone()).collect()
}

fn is_attributes(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.as_encoded_bytes() == attributes::FILE)
}

/// What is not left out, with how its content comes about.
fn treated(
    found: Vec<Found>,
    attributes: &mut Attributes,
    limits: &Limits<'_>,
) -> Result<Vec<Item>, Trouble> {
    attributes.check_effort(found.len())?;
    let mut folders: HashMap<PathBuf, bool> = HashMap::new();
    let mut items = Vec::with_capacity(found.len());
    for Found { path, kind, id } in found {
        limits.check()?;
        let parent = path.parent().unwrap_or(Path::new(""));
        let left_out = left_out(parent, attributes, &mut folders, limits)?
            || attributes.ignores(&path, matches!(kind, Kind::Folder | Kind::Submodule))?;
        if !left_out {
            let how = match kind {
                Kind::File { .. } => attributes.how(&path)?,
                _ => How::default(),
            };
            items.push(Item {
                path,
                kind,
                id,
                how,
            });
        }
    }
    Ok(items)
}

/// Whether a folder is left out, or one above it.
fn left_out(
    folder: &Path,
    attributes: &mut Attributes,
    known: &mut HashMap<PathBuf, bool>,
    limits: &Limits<'_>,
) -> Result<bool, Trouble> {
    if folder.as_os_str().is_empty() {
        return Ok(false);
    }
    if let Some(known) = known.get(folder) {
        return Ok(*known);
    }
    limits.check()?;
    let above = folder.parent().unwrap_or(Path::new(""));
    let out = left_out(above, attributes, known, limits)? || attributes.ignores(folder, true)?;
    known.insert(folder.to_owned(), out);
    Ok(out)
}

/// Files of a tree that are there already and have to be made anew: each folder above them is read once.
struct Again<'a> {
    reader: Reader<'a>,
    limits: &'a Limits<'a>,
    folders: HashSet<&'a Path>,
    files: &'a BTreeSet<PathBuf>,
    found: Vec<Found>,
}

impl Again<'_> {
    fn folder(&mut self, path: &Path, id: Oid) -> Result<(), Trouble> {
        self.limits.check()?;
        let mut folders = Vec::new();
        for Entry { name, id, kind } in self.reader.read(id, path)? {
            let path = join(path, &name);
            match kind {
                None if self.folders.contains(path.as_path()) => folders.push((path, id)),
                Some(kind) if self.files.contains(&path) => {
                    self.found.push(Found { path, kind, id });
                }
                _ => {}
            }
        }
        for (path, id) in folders {
            self.folder(&path, id)?;
        }
        Ok(())
    }
}

/// What differs between two trees. Folders of one id are not looked into.
struct Difference<'a> {
    reader: Reader<'a>,
    limits: &'a Limits<'a>,
    remove: Vec<PathBuf>,
    put: Vec<Found>,
    /// Some `.gitattributes` differ that may be about something that stays.
    attributes: bool,
}

impl<'a> Difference<'a> {
    fn new(
        mirror: &'a Repository,
        most: Option<u64>,
        limits: &'a Limits<'a>,
    ) -> Result<Difference<'a>, Trouble> {
        Ok(Difference {
            reader: Reader::new(mirror, most)?,
            limits,
            remove: Vec::new(),
            put: Vec::new(),
            attributes: false,
        })
    }

    fn folder(&mut self, path: &Path, old: Option<Oid>, new: Option<Oid>) -> Result<(), Trouble> {
        self.limits.check()?;
        let mut read = |id: Option<Oid>| id.map_or(Ok(Vec::new()), |id| self.reader.read(id, path));
        // Both are sorted by name.
        let (old, new) = (read(old)?, read(new)?);
        let mut old = old.into_iter().peekable();
        let mut gone = Vec::new();
        // After the files, so that those of one folder come together.
        let mut folders = Vec::new();
        for Entry { name, id, kind } in new {
            gone.extend(from_fn(|| old.next_if(|entry| entry.name < name)));
            let before = old.next_if(|entry| entry.name == name);
            let same = |entry: &Entry| entry.id == id && entry.kind == kind;
            if before.as_ref().is_some_and(same) {
                continue;
            }
            let inner = join(path, &name);
            let folder = before.as_ref().filter(|entry| entry.kind.is_none());
            let both_folders = folder.filter(|_| kind.is_none()).map(|entry| entry.id);
            if before.is_some() && both_folders.is_none() {
                self.remove.push(inner.clone());
            }
            self.attributes |= name == attributes::FILE;
            match kind {
                None => {
                    if both_folders.is_none() {
                        self.put.push(Found {
                            path: inner.clone(),
                            kind: Kind::Folder,
                            // What is in it is said by what is in it.
                            id: Oid::ZERO_SHA1,
                        });
                    }
                    folders.push((inner, both_folders, id));
                }
                Some(kind) => self.put.push(Found {
                    path: inner,
                    kind,
                    id,
                }),
            }
        }
        for Entry { name, .. } in gone.into_iter().chain(old) {
            self.attributes |= name == attributes::FILE;
            self.remove.push(join(path, &name));
        }
        for (inner, before, id) in folders {
            self.folder(&inner, before, Some(id))?;
        }
        Ok(())
    }
}
