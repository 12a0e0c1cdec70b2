//! Shares the compiled assets of all releases, except the manifests that name the current ones.
//!
//! Each release compiles into a folder of its own. Then its files are moved to `shared/assets` and replaced
//! by links; links to the files of the other releases are added. So a page of any kept release finds its
//! files whichever release is active. The *manifest*, in which an app looks up the names of its own files,
//! stays in its release: it is correct while another release is built, during a switch, and after a rollback.
//!
//! A file in `shared/assets` is never written to again: if another release has the same name with other
//! content, that release keeps its own copy. A list beside the record, which only root can write, says which
//! files belong to which release. All folders here belong to the app's user, so trueup follows no links,
//! changes no owner, and leaves files of other users in place.

mod asset_list;
mod sweep;
mod unshared;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use git2::{Pathspec, PathspecFlags};

use super::copy::copy_from_release;
use super::parents::make_parents;
use crate::ports::Host;
use crate::ports::root::{
    FileKind, Folder, MoveOutcome, RootError, UserTree, UserTreeEntry, WalkLimits,
};
use crate::release::app::layout::{AppFolder, SHARED_ASSETS};
use crate::release::app::spec::ReleaseSpec;
use crate::release::app::step::AssetsSpec;
use crate::release::deployment::Deployment;
use crate::release::record;
use crate::resource::Failure;
use asset_list::{AssetList, MAX_FILES, MAX_NAME_BYTES, is_listable};
use unshared::UnsharedFiles;

pub(crate) use sweep::sweep;

/// Limits for walking a release's assets (with its links to the shared files) or `shared/assets`: they bound
/// the memory and the time.
const WALK_LIMITS: WalkLimits = WalkLimits {
    entries: 500_000,
    name_bytes: 32 << 20,
};

/// Creates the folder that a release compiles into; replaces a link at its place.
pub(crate) fn make_compile_folder(
    deployment: &Deployment<'_>,
    app: &AppFolder,
) -> Result<(), Failure> {
    let Some(assets) = &deployment.spec.assets else {
        return Ok(());
    };
    let root = &deployment.host.root;
    let mut folder = app.path().to_owned();
    for part in &assets.path {
        folder.push(part);
        let kind = root.meta(&folder)?.map(|meta| meta.kind);
        if kind == Some(FileKind::Directory) {
            continue;
        }
        match kind {
            Some(_) if folder == app.path().join(&assets.path) => root.remove_file(&folder)?,
            Some(other) => {
                return Err(Failure::new(format!(
                    "cannot make {}: {} is {}",
                    assets.path.display(),
                    folder.display(),
                    other.describe()
                ))
                .hint("assets can only be compiled in real folders: change the repository, or `assets.path`"));
            }
            None => {}
        }
        root.create_dir(&folder, &deployment.owner.attrs(0o755))?;
    }
    Ok(())
}

/// Unlinks what an earlier attempt shared, so that it is compiled again: the compiler must not write through
/// a link.
pub(crate) fn reset_compile_folder(deployment: &Deployment<'_>, name: &str) -> Result<(), Failure> {
    make_compile_folder(deployment, &deployment.app_folder(name))?;
    let Some(folders) = AssetFolders::open(
        deployment.spec,
        deployment.host,
        deployment.app_folder(name),
    )?
    else {
        return Ok(());
    };
    for (path, entry) in walk(&folders.own)? {
        if entry.kind == FileKind::Symlink && folders.is_shared_link(&path)? {
            let (folder, file) = folders.open_parent(&folders.own, &path)?;
            folder.unlink(file)?;
        }
    }
    Ok(())
}

/// Shares the files that a release compiled. Idempotent.
pub(crate) fn share_compiled(deployment: &Deployment<'_>, name: &str) -> Result<(), Failure> {
    let Some(folders) = AssetFolders::open(
        deployment.spec,
        deployment.host,
        deployment.app_folder(name),
    )?
    else {
        return Ok(());
    };
    let mut list = AssetList::load(deployment.host, &deployment.layout, name)?.unwrap_or_default();
    let (mut foreign, mut unusual) = (UnsharedFiles::default(), UnsharedFiles::default());
    for (path, entry) in walk(&folders.own)? {
        let shown = || folders.assets.path.join(&path);
        match (entry.kind, path.to_str().filter(|name| is_listable(name))) {
            (FileKind::File | FileKind::Directory, _) if entry.foreign_owner.is_some() => {
                foreign.add(&shown(), entry.foreign_owner);
            }
            (FileKind::File, Some(name)) => {
                let which = match folders.is_manifest(&path) {
                    true => &mut list.manifests,
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
            "{} holds more than {MAX_FILES} files, or more than {MAX_NAME_BYTES} bytes of names",
            folders.app.path().join(&folders.assets.path).display()
        ))
        .hint(too_many_files_hint()));
    }
    // Recorded first: a shared file that is on no list would stay for ever.
    list.save(deployment.host, &deployment.layout, name)?;
    for file in &list.files {
        deployment.check_stop()?;
        folders.share_file(deployment, Path::new(file))?;
    }
    folders.update_links(deployment, &mut foreign)?;
    foreign.warn(deployment, "its owner is not the owner of its folder");
    unusual.warn(
        deployment,
        "its name is not UTF-8 or contains control characters",
    );
    if folders.shared.device()? != folders.own.device()? {
        // The deploy syncs the release's own filesystem with the release.
        folders.shared.sync_filesystem()?;
    }
    Ok(())
}

/// Links the newly shared files into the active release: on other hosts the next release may be active
/// already, and its pages request files from this host as well.
pub(crate) fn update_active_links(deployment: &Deployment<'_>) -> Result<(), Failure> {
    match record::current(deployment.host, &deployment.layout)? {
        Some(active) => update_links(deployment, &active),
        None => Ok(()),
    }
}

/// Reuses the compiled files of another release.
pub(crate) fn reuse(deployment: &Deployment<'_>, name: &str, from: &str) -> Result<(), Failure> {
    let Some(assets) = &deployment.spec.assets else {
        return Ok(());
    };
    copy_from_release(deployment, name, from, &assets.path)?;
    let list = AssetList::load(deployment.host, &deployment.layout, from)?.unwrap_or_default();
    list.save(deployment.host, &deployment.layout, name)?;
    update_links(deployment, name)
}

/// Updates the links of a release to the files that are shared now.
pub(crate) fn update_links(deployment: &Deployment<'_>, name: &str) -> Result<(), Failure> {
    match AssetFolders::open(
        deployment.spec,
        deployment.host,
        deployment.app_folder(name),
    )? {
        Some(folders) => folders.update_links(deployment, &mut UnsharedFiles::default()),
        None => Ok(()),
    }
}

/// Whether all files that a release compiled still exist.
pub(crate) fn are_complete(spec: &ReleaseSpec, host: &Host, name: &str, app: &AppFolder) -> bool {
    let check = || -> Result<bool, Failure> {
        let Some(list) = AssetList::load(host, &spec.layout(), name)? else {
            return Ok(false);
        };
        let Some(folders) = AssetFolders::open(spec, host, app.clone())? else {
            return Ok(false);
        };
        for file in list.files.iter().chain(&list.manifests).map(Path::new) {
            if folders.own.find(file)?.is_none() {
                return Ok(false);
            }
        }
        for file in &list.files {
            if !is_file(folders.shared.find(Path::new(file))?) {
                return Ok(false);
            }
        }
        Ok(true)
    };
    check().unwrap_or(false)
}

/// All entries of a tree that root may enter on behalf of its owner.
fn walk(tree: &UserTree) -> Result<Vec<(PathBuf, UserTreeEntry)>, Failure> {
    tree.walk(WALK_LIMITS).map_err(|error| match error {
        RootError::LimitExceeded { .. } => Failure::from(error).hint(too_many_files_hint()),
        error => error.into(),
    })
}

fn too_many_files_hint() -> String {
    format!(
        "`assets.path` must be a folder of compiled assets only: remove other files there and in `shared/{SHARED_ASSETS}`. trueup shares {MAX_FILES} files with {} MiB of names of one release, and {} with {} MiB of all that `keep_releases` keeps",
        MAX_NAME_BYTES >> 20,
        WALK_LIMITS.entries,
        WALK_LIMITS.name_bytes >> 20
    )
}

fn is_file(entry: Option<UserTreeEntry>) -> bool {
    entry.is_some_and(|entry| entry.kind == FileKind::File)
}

/// The assets of one release, and the shared ones.
struct AssetFolders<'a> {
    assets: &'a AssetsSpec,
    app: AppFolder,
    own: UserTree,
    shared: UserTree,
    manifests: Pathspec,
}

impl<'a> AssetFolders<'a> {
    /// `None`: the release has no assets folder of its own. Releases of an earlier trueup have a link to the
    /// shared folder.
    fn open(
        spec: &'a ReleaseSpec,
        host: &Host,
        app: AppFolder,
    ) -> Result<Option<AssetFolders<'a>>, Failure> {
        let Some(assets) = &spec.assets else {
            return Ok(None);
        };
        let layout = spec.layout();
        let folder = app.open(&host.root)?;
        let own = match folder {
            Some(folder) => folder.subtree(&assets.path)?,
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
        let shared = host.root.open_user_tree(&shared)?;
        let manifests = Pathspec::new(&assets.manifests)
            .map_err(|error| Failure::new(format!("`assets.manifests`: {}", error.message())))?;
        Ok(own.zip(shared).map(|(own, shared)| AssetFolders {
            assets,
            app,
            own,
            shared,
            manifests,
        }))
    }

    fn is_manifest(&self, path: &Path) -> bool {
        let matches = |path: &Path| self.manifests.matches_path(path, PathspecFlags::DEFAULT);
        matches(path) || path.file_name().is_some_and(|name| matches(name.as_ref()))
    }

    /// The target of a link at this path.
    fn link_target(&self, path: &Path) -> PathBuf {
        let shared = Path::new("shared").join(SHARED_ASSETS);
        self.app
            .link_target(&self.assets.path.join(path), &shared.join(path))
    }

    /// The folder of a path below `top`, and its name in that folder.
    fn open_parent<'p>(
        &self,
        top: &UserTree,
        path: &'p Path,
    ) -> Result<(Rc<Folder>, &'p OsStr), Failure> {
        let gone = || {
            Failure::new(format!(
                "{} disappeared while it was in use",
                path.display()
            ))
        };
        let folder = top.open_folder(path.parent().unwrap_or(Path::new("")))?;
        folder.zip(path.file_name()).ok_or_else(gone)
    }

    /// Whether the link at this path points to the shared file.
    fn is_shared_link(&self, path: &Path) -> Result<bool, Failure> {
        let (folder, name) = self.open_parent(&self.own, path)?;
        Ok(folder.read_link(name)? == self.link_target(path))
    }

    /// Moves a file to the shared folder, if its name is free there or has the same content.
    fn share_file(&self, deployment: &Deployment<'_>, path: &Path) -> Result<(), Failure> {
        let is_own = match self.own.find(path) {
            Err(error) if error.is_out_of_bounds() => false,
            found => is_file(found?.filter(|entry| entry.foreign_owner.is_none())),
        };
        if !is_own || !make_parents(deployment, &self.shared, path)? {
            return Ok(());
        }
        let (own, name) = self.open_parent(&self.own, path)?;
        let (shared, _) = self.open_parent(&self.shared, path)?;
        match own.move_file(name, &shared)? {
            MoveOutcome::Moved => Ok(()),
            MoveOutcome::NameTaken if own.same_content(name, &shared)? => Ok(own.unlink(name)?),
            MoveOutcome::NameTaken => Ok(()),
        }
    }

    /// Links every shared file into the release unless it has its own entry of that name, and removes links
    /// to files that are no longer shared. Adds shared folders of other users to `unshared`.
    fn update_links(
        &self,
        deployment: &Deployment<'_>,
        unshared: &mut UnsharedFiles,
    ) -> Result<(), Failure> {
        for (path, entry) in walk(&self.shared)? {
            if entry.kind == FileKind::Directory && entry.foreign_owner.is_some() {
                unshared.add(
                    &Path::new("shared").join(SHARED_ASSETS).join(&path),
                    entry.foreign_owner,
                );
            }
            let is_shared = entry.kind == FileKind::File && !self.is_manifest(&path);
            if !is_shared || !make_parents(deployment, &self.own, &path)? {
                continue;
            }
            let (folder, name) = self.open_parent(&self.own, &path)?;
            if folder.find(name)?.is_none() {
                let target = self.link_target(&path);
                folder.create_symlink(name, target.as_os_str(), &deployment.owner.attrs(0o777))?;
            }
        }
        for (path, entry) in walk(&self.own)? {
            if entry.kind == FileKind::Symlink
                && self.is_shared_link(&path)?
                && !self.is_shared(&path)?
            {
                let (folder, name) = self.open_parent(&self.own, &path)?;
                folder.unlink(name)?;
            }
        }
        Ok(())
    }

    /// Whether the shared folder has a plain file at this path, or may have one where root does not look.
    fn is_shared(&self, path: &Path) -> Result<bool, Failure> {
        match self.shared.find(path) {
            Err(error) if error.is_out_of_bounds() => Ok(true),
            found => Ok(is_file(found?)),
        }
    }
}
