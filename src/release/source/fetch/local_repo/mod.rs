//! Copies new objects from a repository on this host at the cost of what is new.
//!
//! libgit2's own fetch walks all folders of a new commit and searches for the smallest encoding of what it
//! copies, which together take most of the time of a deployment. This module skips folders that the mirror
//! has, and spends hardly any time on compression. It copies objects only; the ordinary fetch that follows
//! moves the refs and copies the remaining objects.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use git2::{Error, ObjectType, Odb, OdbLookupFlags, Oid, Repository, Sort};
use sha1::{Digest, Sha1};

/// Maximum number of commits; more are left to the ordinary fetch, which compresses them well.
const MAX_COMMITS: usize = 64;

/// Maximum number of objects, for the same reason.
const MAX_OBJECTS: usize = 20_000;

/// The path in an address without a host.
pub(super) fn local_path(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("file://").unwrap_or(url);
    // libgit2 handles percent-encoded addresses.
    (path.starts_with('/') && !(path.len() < url.len() && path.contains('%')))
        .then(|| PathBuf::from(path))
}

/// Copies the objects of new commits on the branches of `origin` into the mirror. Copies nothing if the
/// mirror is empty, if there are too many objects, or once `may_continue` returns false.
pub(super) fn copy_new_objects(
    mirror: &Repository,
    origin: &Path,
    may_continue: &dyn Fn() -> bool,
) -> Result<(), Error> {
    let origin = Repository::open(origin)?;
    let have = mirror.odb()?;
    let Some(commits) = new_commits(mirror, &have, &origin)? else {
        return Ok(());
    };
    let mut missing = MissingObjects::default();
    for id in commits {
        missing.add_if_missing(&have, id);
        let commit = origin.find_commit(id)?;
        let before = commit.parent_ids().next();
        let before = before.and_then(|parent| Some(mirror.find_commit(parent).ok()?.tree_id()));
        if !missing.collect_tree(
            mirror,
            &have,
            &origin,
            (before, commit.tree_id()),
            may_continue,
        )? {
            return Ok(());
        }
    }
    missing.write_pack(&have, &origin.odb()?, may_continue)
}

/// The commits of the branches that the mirror lacks. `None` if there are none, if there are too many, or if
/// the repository has no tip of the mirror's branches.
fn new_commits(
    mirror: &Repository,
    mirror_odb: &Odb<'_>,
    origin: &Repository,
) -> Result<Option<Vec<Oid>>, Error> {
    let mut walk = origin.revwalk()?;
    walk.set_sorting(Sort::NONE)?;
    let (theirs, mut wanted, mut known) = (origin.odb()?, false, false);
    for branch in origin.references_glob("refs/heads/*")? {
        let tip = branch?.target();
        if let Some(tip) = tip.filter(|tip| !has_object(mirror_odb, *tip)) {
            walk.push(tip)?;
            wanted = true;
        }
    }
    if !wanted {
        return Ok(None);
    }
    for branch in mirror.references_glob("refs/heads/*")? {
        let tip = branch?.target();
        if let Some(tip) = tip.filter(|tip| has_object(&theirs, *tip)) {
            walk.hide(tip)?;
            known = true;
        }
    }
    let commits: Vec<Oid> = match known {
        true => walk.take(MAX_COMMITS + 1).collect::<Result<_, _>>()?,
        false => return Ok(None),
    };
    Ok((commits.len() <= MAX_COMMITS).then_some(commits))
}

fn has_object(odb: &Odb<'_>, id: Oid) -> bool {
    odb.exists_ext(id, OdbLookupFlags::NO_REFRESH)
}

/// The objects that the mirror lacks.
#[derive(Default)]
struct MissingObjects {
    seen: HashSet<Oid>,
    /// In the order of discovery.
    ids_in_order: Vec<Oid>,
}

impl MissingObjects {
    /// Collects the missing objects of a tree; returns false if there are too many. A folder that the mirror
    /// has is complete there, so entries that a new folder shares with its predecessor (`before`, if known)
    /// are skipped.
    fn collect_tree(
        &mut self,
        mirror: &Repository,
        mirror_odb: &Odb<'_>,
        origin: &Repository,
        (before, tree): (Option<Oid>, Oid),
        may_continue: &dyn Fn() -> bool,
    ) -> Result<bool, Error> {
        let mut folders = Vec::new();
        if self.add_if_missing(mirror_odb, tree) {
            folders.push((before, tree));
        }
        // Iterative, because the depth of the repository is untrusted.
        while let Some((before, folder)) = folders.pop() {
            check_continue(may_continue)?;
            let before = before.and_then(|id| mirror.find_tree(id).ok());
            let mut before = before.iter().flatten().peekable();
            for entry in &origin.find_tree(folder)? {
                let name = entry.name_bytes();
                // Both are sorted; if one is not, or by other rules, more entries are searched and none is
                // missed.
                while before.next_if(|old| old.name_bytes() < name).is_some() {}
                let was = before.next_if(|old| old.name_bytes() == name);
                let was = was.map(|old| old.id());
                // A submodule's commit is in a repository of its own.
                if was != Some(entry.id())
                    && entry.kind() != Some(ObjectType::Commit)
                    && self.add_if_missing(mirror_odb, entry.id())
                    && entry.kind() == Some(ObjectType::Tree)
                {
                    folders.push((was, entry.id()));
                }
            }
            if self.ids_in_order.len() > MAX_OBJECTS {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns whether the object is missing and was not collected before.
    fn add_if_missing(&mut self, mirror_odb: &Odb<'_>, id: Oid) -> bool {
        let lacking = !has_object(mirror_odb, id) && self.seen.insert(id);
        if lacking {
            self.ids_in_order.push(id);
        }
        lacking
    }

    /// Writes all collected objects as one pack. libgit2 ingests it like one from the network: it unpacks
    /// each object and computes its id from the content.
    ///
    /// The format is that of gitformat-pack(5), without deltas.
    fn write_pack(
        &self,
        to: &Odb<'_>,
        from: &Odb<'_>,
        may_continue: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        if self.ids_in_order.is_empty() {
            return Ok(());
        }
        let mut writer = to.packwriter()?;
        let mut pack = HashingWriter {
            sha1: Sha1::new(),
            to: &mut writer,
        };
        let count =
            u32::try_from(self.ids_in_order.len()).map_err(|_| Error::from_str("too much"))?;
        let start = [
            b"PACK".as_slice(),
            &2_u32.to_be_bytes(),
            &count.to_be_bytes(),
        ];
        pack.write_all(&start.concat()).map_err(to_git_error)?;
        // A folder is mostly ids, which do not compress. One encoder per object would cost more than the
        // compression itself: each encoder starts by clearing a quarter of a megabyte.
        let encoder = |level| ZlibEncoder::new(Vec::new(), level);
        let mut fast = encoder(Compression::fast());
        let mut none = encoder(Compression::none());
        let mut empty = Vec::new();
        for id in &self.ids_in_order {
            check_continue(may_continue)?;
            let object = from.read(*id)?;
            let deflated = match object.kind() {
                ObjectType::Tree => &mut none,
                _ => &mut fast,
            };
            write_object_header(deflated.get_mut(), object.kind(), object.data().len());
            deflated.write_all(object.data()).map_err(to_git_error)?;
            let mut body = deflated.reset(empty).map_err(to_git_error)?;
            pack.write_all(&body).map_err(to_git_error)?;
            body.clear();
            empty = body;
        }
        let sum = pack.sha1.finalize();
        writer.write_all(&sum).map_err(to_git_error)?;
        writer.commit().map(|_| ())
    }
}

/// The type and length of an object: three and four bits in the first byte, then seven in each, the lowest
/// first.
fn write_object_header(to: &mut Vec<u8>, kind: ObjectType, length: usize) {
    let kind: u8 = match kind {
        ObjectType::Commit => 1,
        ObjectType::Tree => 2,
        ObjectType::Tag => 4,
        _ => 3,
    };
    let mut byte = kind << 4 | (length & 0x0f) as u8;
    let mut left = length >> 4;
    while left > 0 {
        to.push(byte | 0x80);
        byte = (left & 0x7f) as u8;
        left >>= 7;
    }
    to.push(byte);
}

fn check_continue(may_continue: &dyn Fn() -> bool) -> Result<(), Error> {
    match may_continue() {
        true => Ok(()),
        false => Err(Error::from_str("stopped on request")),
    }
}

fn to_git_error(error: io::Error) -> Error {
    Error::from_str(&error.to_string())
}

/// Forwards writes, and hashes everything that was written.
struct HashingWriter<'a, W> {
    sha1: Sha1,
    to: &'a mut W,
}

impl<W: Write> Write for HashingWriter<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.sha1.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
