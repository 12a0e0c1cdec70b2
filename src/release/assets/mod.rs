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
//! and nothing changes its owner.

mod list;
mod sweep;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use git2::{Pathspec, PathspecFlags};

use super::layout::{SHARED_ASSETS, way_out};
use super::spec::Assets;
use super::{Deployment, Spec, record, unchanged};
use crate::ports::Host;
use crate::ports::root::{FileKind, Folder, Moved};
use crate::resource::Failure;
use list::List;

pub(super) use sweep::sweep;

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
    for (path, kind) in place.own.walk()? {
        if kind == FileKind::Symlink && place.is_ours(&path)? {
            let (folder, file) = place.at(&place.own, &path)?;
            folder.remove(file)?;
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
    for (path, kind) in place.own.walk()? {
        // A name that is no text stays where it is.
        if let (FileKind::File, Some(text)) = (kind, path.to_str()) {
            let which = match place.is_manifest(&path) {
                true => &mut list.own,
                false => &mut list.files,
            };
            which.insert(text.to_owned());
        }
    }
    // First on record: what is shared and on no list would stay for ever.
    list.save(d.host, &d.layout, name)?;
    for file in &list.files {
        place.share(d, Path::new(file))?;
    }
    place.complete(d)?;
    let device = |folder: &Folder| Ok::<_, Failure>(folder.meta(OsStr::new("."))?.device);
    if device(&place.shared)? != device(&place.own)? {
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
        Some(place) => place.complete(d),
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
            if place.found(file, &place.own)?.is_none() {
                return Ok(false);
            }
        }
        for file in &list.files {
            if !place.has(Path::new(file), &place.shared)? {
                return Ok(false);
            }
        }
        Ok(true)
    };
    whole().unwrap_or(false)
}

/// The assets of one release, and those of all.
struct Place<'a> {
    assets: &'a Assets,
    own: Folder,
    shared: Folder,
    manifests: Pathspec,
}

impl<'a> Place<'a> {
    /// `None`: the release has no such folder. Those of an earlier trueup have a link to the shared one.
    fn of(spec: &'a Spec, host: &Host, name: &str) -> Result<Option<Place<'a>>, Failure> {
        let Some(assets) = &spec.assets else {
            return Ok(None);
        };
        let layout = spec.layout();
        let release = host.root.open_folder(&layout.release(name))?;
        let Some(own) = release
            .map(|release| release.inside(&assets.path))
            .transpose()?
        else {
            return Ok(None);
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
        let folder = host.root.open_folder(&shared)?;
        let manifests = Pathspec::new(&assets.manifests)
            .map_err(|error| Failure::new(format!("`assets.manifests`: {}", error.message())))?;
        Ok(own.zip(folder).map(|(own, shared)| Place {
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
    fn at<'p>(&self, top: &Folder, path: &'p Path) -> Result<(Folder, &'p OsStr), Failure> {
        let gone = || Failure::new(format!("{} has gone while it was used", path.display()));
        let folder = top.inside(path.parent().unwrap_or(Path::new("")))?;
        folder.zip(path.file_name()).ok_or_else(gone)
    }

    /// Whether the link at this path is one to what is shared.
    fn is_ours(&self, path: &Path) -> Result<bool, Failure> {
        let (folder, name) = self.at(&self.own, path)?;
        Ok(folder.read_link(name)? == self.target(path))
    }

    /// Whether there is a plain file at this path below `top`.
    fn has(&self, path: &Path, top: &Folder) -> Result<bool, Failure> {
        Ok(self.found(path, top)? == Some(FileKind::File))
    }

    fn found(&self, path: &Path, top: &Folder) -> Result<Option<FileKind>, Failure> {
        let folder = top.inside(path.parent().unwrap_or(Path::new("")))?;
        let meta = match folder.zip(path.file_name()) {
            Some((folder, name)) => folder.find(name)?,
            None => None,
        };
        Ok(meta.map(|meta| meta.kind))
    }

    /// Moves a file to the shared ones, if its name is free there or has the same content.
    fn share(&self, d: &Deployment<'_>, path: &Path) -> Result<(), Failure> {
        if !self.has(path, &self.own)? || !make_way(d, &self.shared, path)? {
            return Ok(());
        }
        let (own, name) = self.at(&self.own, path)?;
        let (shared, _) = self.at(&self.shared, path)?;
        match own.move_file(name, &shared)? {
            Moved::There => Ok(()),
            Moved::Taken if own.same_content(name, &shared)? => Ok(own.remove(name)?),
            Moved::Taken => Ok(()),
        }
    }

    /// Puts a link to everything shared where the release has nothing of its name, and removes links
    /// to what is no longer shared.
    fn complete(&self, d: &Deployment<'_>) -> Result<(), Failure> {
        for (path, kind) in self.shared.walk()? {
            if kind != FileKind::File || self.is_manifest(&path) || !make_way(d, &self.own, &path)?
            {
                continue;
            }
            let (folder, name) = self.at(&self.own, &path)?;
            if folder.find(name)?.is_none() {
                let target = self.target(&path);
                folder.make_link(name, target.as_os_str(), &d.owner.attrs(0o777))?;
            }
        }
        for (path, kind) in self.own.walk()? {
            if kind == FileKind::Symlink
                && self.is_ours(&path)?
                && !self.has(&path, &self.shared)?
            {
                let (folder, name) = self.at(&self.own, &path)?;
                folder.remove(name)?;
            }
        }
        Ok(())
    }
}

/// Makes the folders below `top` on the way to a path. `false`: something else is in the way.
fn make_way(d: &Deployment<'_>, top: &Folder, path: &Path) -> Result<bool, Failure> {
    let mut way = PathBuf::new();
    for part in path.parent().into_iter().flatten() {
        let folder = top.inside(&way)?;
        way.push(part);
        let Some(folder) = folder else {
            return Ok(false);
        };
        match folder.find(part)?.map(|meta| meta.kind) {
            Some(FileKind::Directory) => {}
            Some(_) => return Ok(false),
            None => folder.make_folder(part, &d.owner.attrs(0o755))?,
        }
    }
    Ok(true)
}
