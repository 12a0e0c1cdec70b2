//! Compiled assets: shared by all releases, but for what says which of them are current.
//!
//! Each release compiles into a folder of its own. Then its files are moved to `shared/assets`, and
//! links stand in their place; links to the files of the other releases join them. So a page of any kept
//! release finds its files whichever is active, and what an app reads to know its own names (the
//! *manifest*) is in its release and nowhere else: it is the right one while another release is built,
//! in the moment of a switch, and after a way back.
//!
//! A file in `shared/assets` is never written to again: where another release has the same name with
//! another content, that one keeps its own. What belongs to whom stands in a list beside the record,
//! root's alone. All folders here belong to the app's user, so nothing is ever reached through a link,
//! nothing changes its owner, and what he put there that is somebody else's is left where it is.

mod left;
mod list;
mod sweep;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use git2::{Pathspec, PathspecFlags};

use super::layout::{SHARED_ASSETS, way_out};
use super::spec::Assets;
use super::{Deployment, Spec, record, unchanged};
use crate::ports::Host;
use crate::ports::root::{Entry, FileKind, Folder, Most, Moved, RootError, UserTree};
use crate::resource::Failure;
use left::Left;
use list::{List, MAX_FILES, MAX_NAMES, is_usual};

pub(super) use sweep::sweep;

/// What one release holds, with the links to what all kept ones share, or `shared/assets`: more is not
/// looked at, and takes no more memory.
const MOST: Most = Most {
    entries: 500_000,
    names: 32 << 20,
};

/// Makes the folder that a release compiles into, in the place of a link that is there.
pub(super) fn make_place(d: &Deployment<'_>, tree: &Path) -> Result<(), Failure> {
    let Some(assets) = &d.spec.assets else {
        return Ok(());
    };
    let root = &d.host.root;
    let mut folder = tree.to_owned();
    for part in &assets.path {
        folder.push(part);
        let kind = root.meta(&folder)?.map(|meta| meta.kind);
        if kind == Some(FileKind::Directory) {
            continue;
        }
        match kind {
            Some(_) if folder == tree.join(&assets.path) => root.remove(&folder)?,
            Some(other) => {
                return Err(Failure::new(format!(
                    "cannot make {}: {} is {}",
                    assets.path.display(),
                    folder.display(),
                    other.words()
                ))
                .hint("assets can only be compiled in real folders: change the repository, or `assets.path`"));
            }
            None => {}
        }
        root.make_dir(&folder, &d.owner.attrs(0o755))?;
    }
    Ok(())
}

/// What an earlier attempt shared already is compiled anew: nothing may be written through a link.
pub(super) fn begin(d: &Deployment<'_>, name: &str) -> Result<(), Failure> {
    make_place(d, &d.layout.release(name))?;
    let Some(place) = Place::of(d.spec, d.host, name)? else {
        return Ok(());
    };
    for (path, entry) in walk(&place.own)? {
        if entry.kind == FileKind::Symlink && place.is_ours(&path)? {
            let (folder, file) = place.at(&place.own, &path)?;
            folder.unlink(file)?;
        }
    }
    Ok(())
}

/// Shares what a release has compiled. Done twice it comes to the same.
pub(super) fn gather(d: &Deployment<'_>, name: &str) -> Result<(), Failure> {
    let Some(place) = Place::of(d.spec, d.host, name)? else {
        return Ok(());
    };
    let mut list = List::load(d.host, &d.layout, name)?.unwrap_or_default();
    let (mut foreign, mut unusual) = (Left::default(), Left::default());
    for (path, entry) in walk(&place.own)? {
        let shown = || place.assets.path.join(&path);
        match (entry.kind, path.to_str().filter(|name| is_usual(name))) {
            (FileKind::File | FileKind::Directory, _) if entry.foreign.is_some() => {
                foreign.add(&shown(), entry.foreign);
            }
            (FileKind::File, Some(name)) => {
                let which = match place.is_manifest(&path) {
                    true => &mut list.own,
                    false => &mut list.files,
                };
                which.insert(name.to_owned());
            }
            (FileKind::File, None) => unusual.add(&shown(), None),
            _ => {}
        }
    }
    if !list.fits() {
        return Err(Failure::new(format!(
            "{} holds more than {MAX_FILES} files, or more than {MAX_NAMES} bytes of names",
            d.layout.release(name).join(&place.assets.path).display()
        ))
        .hint(too_much()));
    }
    // First on record: what is shared and on no list would stay for ever.
    list.save(d.host, &d.layout, name)?;
    for file in &list.files {
        d.go_on()?;
        place.share(d, Path::new(file))?;
    }
    place.complete(d, &mut foreign)?;
    foreign.tell(
        d,
        "it belongs to somebody else than the folder that it is in",
    );
    unusual.tell(d, "its name is no text, or holds control characters");
    if place.shared.device()? != place.own.device()? {
        // The release's own filesystem is synced with the release.
        place.shared.sync_filesystem()?;
    }
    Ok(())
}

/// Has the release that is serving serve what was just shared, too: on other hosts the next one may be
/// active already, and its pages ask here as well.
pub(super) fn serve_beside(d: &Deployment<'_>) -> Result<(), Failure> {
    match record::current(d.host, &d.layout)? {
        Some(active) => tend(d, &active),
        None => Ok(()),
    }
}

/// Takes over what another release has compiled.
pub(super) fn take_over(d: &Deployment<'_>, name: &str, from: &str) -> Result<(), Failure> {
    let Some(assets) = &d.spec.assets else {
        return Ok(());
    };
    unchanged::carry(d, name, from, &assets.path)?;
    let list = List::load(d.host, &d.layout, from)?.unwrap_or_default();
    list.save(d.host, &d.layout, name)?;
    tend(d, name)
}

/// Brings the links of a release to what is shared now.
pub(super) fn tend(d: &Deployment<'_>, name: &str) -> Result<(), Failure> {
    match Place::of(d.spec, d.host, name)? {
        Some(place) => place.complete(d, &mut Left::default()),
        None => Ok(()),
    }
}

/// Whether everything that a release has compiled is still there.
pub(super) fn are_whole(spec: &Spec, host: &Host, name: &str) -> bool {
    let whole = || -> Result<bool, Failure> {
        let Some(list) = List::load(host, &spec.layout(), name)? else {
            return Ok(false);
        };
        let Some(place) = Place::of(spec, host, name)? else {
            return Ok(false);
        };
        for file in list.files.iter().chain(&list.own).map(Path::new) {
            if place.own.find(file)?.is_none() {
                return Ok(false);
            }
        }
        for file in &list.files {
            if !is_file(place.shared.find(Path::new(file))?) {
                return Ok(false);
            }
        }
        Ok(true)
    };
    whole().unwrap_or(false)
}

/// Everything in a tree that root may enter in its owner's place.
fn walk(tree: &UserTree) -> Result<Vec<(PathBuf, Entry)>, Failure> {
    tree.walk(MOST).map_err(|error| match error {
        RootError::TooMuch { .. } => Failure::from(error).hint(too_much()),
        error => error.into(),
    })
}

fn too_much() -> String {
    format!(
        "`assets.path` is to name the compiler's own folder: remove what else lies there and in `shared/{SHARED_ASSETS}`. trueup shares {MAX_FILES} files with {} MiB of names of one release, and {} with {} MiB of all that `keep_releases` keeps",
        MAX_NAMES >> 20,
        MOST.entries,
        MOST.names >> 20
    )
}

fn is_file(entry: Option<Entry>) -> bool {
    entry.is_some_and(|entry| entry.kind == FileKind::File)
}

/// The assets of one release, and those of all.
struct Place<'a> {
    assets: &'a Assets,
    own: UserTree,
    shared: UserTree,
    manifests: Pathspec,
}

impl<'a> Place<'a> {
    /// `None`: the release has no such folder. Those of an earlier trueup have a link to the shared one.
    fn of(spec: &'a Spec, host: &Host, name: &str) -> Result<Option<Place<'a>>, Failure> {
        let Some(assets) = &spec.assets else {
            return Ok(None);
        };
        let layout = spec.layout();
        let release = host.root.user_tree(&layout.release(name))?;
        let own = match release {
            Some(release) => release.below(&assets.path)?,
            None => None,
        };
        let shared = layout.shared_assets();
        let kind = host.root.meta(&shared)?.map(|meta| meta.kind);
        if kind == Some(FileKind::Symlink) {
            return Err(Failure::new(format!(
                "{} is a symbolic link in a folder of the app's user, where root follows none",
                shared.display()
            ))
            .hint(
                "mount the other disk there instead (`mount --bind`, or its own line in fstab)",
            ));
        }
        let shared = host.root.user_tree(&shared)?;
        let manifests = Pathspec::new(&assets.manifests)
            .map_err(|error| Failure::new(format!("`assets.manifests`: {}", error.message())))?;
        Ok(own.zip(shared).map(|(own, shared)| Place {
            assets,
            own,
            shared,
            manifests,
        }))
    }

    fn is_manifest(&self, path: &Path) -> bool {
        let matches = |path: &Path| self.manifests.matches_path(path, PathspecFlags::DEFAULT);
        matches(path) || path.file_name().is_some_and(|name| matches(name.as_ref()))
    }

    /// What a link at this path says.
    fn target(&self, path: &Path) -> PathBuf {
        let shared = Path::new("shared").join(SHARED_ASSETS);
        way_out(&self.assets.path.join(path), &shared.join(path))
    }

    /// The folder of a path below `top`, and its name in it.
    fn at<'p>(&self, top: &UserTree, path: &'p Path) -> Result<(Rc<Folder>, &'p OsStr), Failure> {
        let gone = || Failure::new(format!("{} has gone while it was used", path.display()));
        let folder = top.folder(path.parent().unwrap_or(Path::new("")))?;
        folder.zip(path.file_name()).ok_or_else(gone)
    }

    /// Whether the link at this path is one to what is shared.
    fn is_ours(&self, path: &Path) -> Result<bool, Failure> {
        let (folder, name) = self.at(&self.own, path)?;
        Ok(folder.read_link(name)? == self.target(path))
    }

    /// Moves a file to the shared ones, if its name is free there or has the same content.
    fn share(&self, d: &Deployment<'_>, path: &Path) -> Result<(), Failure> {
        let is_own = match self.own.find(path) {
            Err(error) if error.is_out_of_bounds() => false,
            found => is_file(found?.filter(|entry| entry.foreign.is_none())),
        };
        if !is_own || !make_way(d, &self.shared, path)? {
            return Ok(());
        }
        let (own, name) = self.at(&self.own, path)?;
        let (shared, _) = self.at(&self.shared, path)?;
        match own.move_file(name, &shared)? {
            Moved::There => Ok(()),
            Moved::Taken if own.same_content(name, &shared)? => Ok(own.unlink(name)?),
            Moved::Taken => Ok(()),
        }
    }

    /// Puts a link to everything shared where the release has nothing of its name, and removes links
    /// to what is no longer shared. What is left out is added to `foreign`.
    fn complete(&self, d: &Deployment<'_>, foreign: &mut Left) -> Result<(), Failure> {
        for (path, entry) in walk(&self.shared)? {
            if entry.kind == FileKind::Directory && entry.foreign.is_some() {
                foreign.add(
                    &Path::new("shared").join(SHARED_ASSETS).join(&path),
                    entry.foreign,
                );
            }
            let is_shared = entry.kind == FileKind::File && !self.is_manifest(&path);
            if !is_shared || !make_way(d, &self.own, &path)? {
                continue;
            }
            let (folder, name) = self.at(&self.own, &path)?;
            if folder.find(name)?.is_none() {
                let target = self.target(&path);
                folder.make_link(name, target.as_os_str(), &d.owner.attrs(0o777))?;
            }
        }
        for (path, entry) in walk(&self.own)? {
            if entry.kind == FileKind::Symlink && self.is_ours(&path)? && !self.is_shared(&path)? {
                let (folder, name) = self.at(&self.own, &path)?;
                folder.unlink(name)?;
            }
        }
        Ok(())
    }

    /// Whether there is a plain file at this path among the shared ones, or may be: where root does not
    /// look.
    fn is_shared(&self, path: &Path) -> Result<bool, Failure> {
        match self.shared.find(path) {
            Err(error) if error.is_out_of_bounds() => Ok(true),
            found => Ok(is_file(found?)),
        }
    }
}

/// Makes the folders below `top` on the way to a path. `false`: something else is in the way.
fn make_way(d: &Deployment<'_>, top: &UserTree, path: &Path) -> Result<bool, Failure> {
    let enters = |way: &Path| match top.folder(way) {
        Err(error) if error.is_out_of_bounds() => Ok(None),
        folder => folder,
    };
    let parent = path.parent().unwrap_or(Path::new(""));
    if enters(parent)?.is_some() {
        return Ok(true);
    }
    let mut way = PathBuf::new();
    for part in parent {
        let Some(folder) = enters(&way)? else {
            return Ok(false);
        };
        match folder.find(part)?.map(|meta| meta.kind) {
            Some(FileKind::Directory) => {}
            Some(_) => return Ok(false),
            None => folder.make_folder(part, &d.owner.attrs(0o755))?,
        }
        way.push(part);
    }
    Ok(enters(&way)?.is_some())
}
