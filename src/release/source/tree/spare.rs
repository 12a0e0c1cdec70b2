//! Manages the spare and pristine trees of an app, in `releases/.trueup`.
//!
//! | name | purpose |
//! | --- | --- |
//! | `spare-…` | becomes the next release by one rename |
//! | `pristine-…` | source of the next spare; becomes the next release if there is no spare |
//! | `notes-SHA.json` | metadata of the commit of a tree |
//! | anything else | leftover of a killed pass; removed when the next tree is made |
//!
//! The name of a tree contains its commit, its owner and its layout rules. A tree gets its name when all of
//! it is on disk, and loses it before anything in it changes.

use std::path::{Path, PathBuf};

use git2::{Oid, Repository};
use serde::{Deserialize, Serialize};

use super::plan::CommitMetadata;
use super::{
    ContentSource, GitCryptKey, LAYOUT_VERSION, LfsFiles, Plan, PlanLimits, TreeWriter, copy_tree,
    disk_space, filters,
};
use crate::desired::Sha;
use crate::digest::digest;
use crate::ports::root::{Attrs, FileKind, Folder, RootError};
use crate::ports::state::Document;
use crate::ports::worker_pool::Priority;
use crate::release::app::filters::FilterPolicy;
use crate::release::deployment::Deployment;
use crate::release::source::error::SourceError;
use crate::resource::Failure;

/// Name of a tree while it is created or changed.
const UNFINISHED_NAME: &str = "unfinished";

const METADATA: Document = Document::new(LAYOUT_VERSION, 4 << 20)
    .version_field("form")
    .private()
    .compact();

/// The purpose of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TreeRole {
    Spare,
    Pristine,
}

/// A complete tree.
#[derive(Debug, Clone)]
pub(crate) struct SpareTree {
    role: TreeRole,
    pub sha: Sha,
    name: String,
}

/// The trees of one app.
pub(crate) struct SpareTrees<'a> {
    deployment: &'a Deployment<'a>,
    dir: PathBuf,
    /// The settings of the release that affect its files, abbreviated to a few letters.
    layout_options: String,
}

#[derive(Serialize, Deserialize)]
struct StoredMetadata {
    form: u32,
    /// Paths, with the ids of their blobs.
    attributes: Vec<(String, String)>,
    subst: Vec<String>,
}

impl<'a> SpareTrees<'a> {
    pub(crate) fn new(deployment: &'a Deployment<'a>) -> SpareTrees<'a> {
        let mut rules = String::new();
        if deployment.spec.filters == Some(FilterPolicy::Ignore) {
            rules.push('i');
        }
        if let Ok(Some(key)) = GitCryptKey::load(deployment.spec, deployment.host) {
            rules = format!("{rules}k{}", key.digest());
        }
        let selection = deployment.spec.selection();
        if !selection.is_everything() {
            let paths: Vec<&Path> = selection.paths().collect();
            let paths = digest(format!("{paths:?}").as_bytes());
            rules = format!("{rules}s{}", &paths[..16]);
        }
        SpareTrees {
            deployment,
            dir: deployment.layout.spares(),
            layout_options: rules,
        }
    }

    /// The user and group id of releases.
    fn owner(&self) -> (u32, u32) {
        let (uid, gid) = self.deployment.host.root.default_owner();
        (
            self.deployment.owner.uid.unwrap_or(uid),
            self.deployment.owner.gid.unwrap_or(gid),
        )
    }

    fn tree_name(&self, role: TreeRole, sha: &Sha) -> String {
        let role = match role {
            TreeRole::Spare => "spare",
            TreeRole::Pristine => "pristine",
        };
        let (uid, gid) = self.owner();
        format!(
            "{role}-{LAYOUT_VERSION}{}-{uid}-{gid}-{sha}",
            self.layout_options
        )
    }

    /// Whether all wanted trees exist: the spare is made last. Costs two system calls.
    pub(crate) fn is_complete(&self) -> Result<bool, Failure> {
        let last = match self.deployment.spec.spare {
            true => TreeRole::Spare,
            false => TreeRole::Pristine,
        };
        let path = self.dir.join(self.tree_name(last, &self.deployment.sha));
        let meta = self.deployment.host.root.meta(&path)?;
        Ok(meta.is_some_and(|meta| meta.kind == FileKind::Directory))
    }

    /// Whether only root has been able to change the content of the folder.
    fn is_root_only(&self) -> Result<bool, Failure> {
        let meta = self.deployment.host.root.meta(&self.dir)?;
        let (uid, _) = self.deployment.host.root.default_owner();
        Ok(meta.is_some_and(|meta| {
            meta.kind == FileKind::Directory && meta.uid == uid && meta.mode & 0o077 == 0
        }))
    }

    /// The complete trees for this owner, spares first, and the paths of everything else.
    fn list(&self) -> Result<(Vec<SpareTree>, Vec<PathBuf>), Failure> {
        let (mut trees, mut other) = (Vec::new(), Vec::new());
        for name in self
            .deployment
            .host
            .root
            .list(&self.dir)?
            .unwrap_or_default()
        {
            let sha = name.to_str().and_then(|name| name.rsplit('-').next());
            let sha = sha.and_then(|sha| Sha::parse(sha).ok());
            let role = sha.as_ref().and_then(|sha| {
                let mut roles = [TreeRole::Spare, TreeRole::Pristine].into_iter();
                roles.find(|role| name.to_str() == Some(&self.tree_name(*role, sha)))
            });
            match (role, sha) {
                (Some(role), Some(sha)) => trees.push(SpareTree {
                    role,
                    name: self.tree_name(role, &sha),
                    sha,
                }),
                _ => other.push(self.dir.join(name)),
            }
        }
        trees.sort_by_key(|tree| tree.role);
        Ok((trees, other))
    }

    /// The trees that a new release can be made from, the best first.
    pub(crate) fn candidates(&self) -> Result<Vec<SpareTree>, Failure> {
        if !self.is_root_only()? {
            return Ok(Vec::new());
        }
        Ok(self.list()?.0)
    }

    /// Moves a tree to `to`, durably and before anything in it is changed.
    pub(crate) fn take(&self, tree: &SpareTree, to: &Path) -> Result<(), Failure> {
        Ok(self
            .deployment
            .host
            .root
            .rename(&self.dir.join(&tree.name), to)?)
    }

    /// Removes all trees except this one; returns whether there were any.
    pub(crate) fn remove_except(&self, except: Option<&SpareTree>) -> Result<bool, Failure> {
        let mut made = false;
        for tree in self.candidates()? {
            if except.is_none_or(|but| but.name != tree.name) {
                self.remove(&tree)?;
                made = true;
            }
        }
        Ok(made)
    }

    /// Removes the whole folder.
    pub(crate) fn remove_all(&self) -> Result<(), Failure> {
        // A tree loses its name before anything in it changes.
        self.remove_except(None)?;
        Ok(self.deployment.host.root.remove_tree(&self.dir)?)
    }

    fn remove(&self, tree: &SpareTree) -> Result<(), Failure> {
        let root = &self.deployment.host.root;
        let unfinished = self.dir.join(UNFINISHED_NAME);
        self.clear_unfinished()?;
        root.rename(&self.dir.join(&tree.name), &unfinished)?;
        self.clear_unfinished()
    }

    /// Frees the name for unfinished trees. Renames a tree that cannot be removed, so that it blocks nothing.
    fn clear_unfinished(&self) -> Result<(), Failure> {
        let (root, unfinished) = (&self.deployment.host.root, self.dir.join(UNFINISHED_NAME));
        match root.remove_tree(&unfinished) {
            Ok(()) => return Ok(()),
            Err(error) => self.warn_not_removed(error),
        }
        let now = self.deployment.host.clock.now().as_nanosecond();
        Ok(root.rename(&unfinished, &self.dir.join(format!("left-{now}")))?)
    }

    fn warn_not_removed(&self, error: RootError) {
        let failure = Failure::from(error);
        tracing::warn!(
            "{}: cannot remove a spare tree: {failure}",
            self.deployment.spec.app
        );
    }

    fn remove_spares(&self, trees: &[SpareTree]) -> Result<(), Failure> {
        let mut spares = trees.iter().filter(|tree| tree.role == TreeRole::Spare);
        spares.try_for_each(|tree| self.remove(tree))
    }

    /// Makes the missing trees: a pristine tree of the wanted commit, and a copy of it as the spare unless
    /// the settings disable spares.
    pub(crate) fn prepare(&self, mirror: &Repository) -> Result<(), SourceError> {
        let folder = self.ensure_dir()?;
        let (trees, other) = self.list()?;
        let is_note = |path: &Path| path.extension().is_some_and(|end| end == "json");
        for path in other.iter().filter(|path| !is_note(path)) {
            if let Err(error) = self.deployment.host.root.remove_tree(path) {
                self.warn_not_removed(error);
            }
        }
        let filled = self
            .bring_to_commit(TreeRole::Pristine, &trees, mirror, &folder)
            .and_then(|()| match self.deployment.spec.spare {
                true => self.bring_to_commit(TreeRole::Spare, &trees, mirror, &folder),
                false => Ok(self.remove_spares(&trees)?),
            });
        if filled.is_err() {
            self.clear_unfinished()?;
            return filled;
        }
        // The metadata of earlier commits is no longer needed.
        let current_notes = format!("notes-{}.json", &self.deployment.sha);
        for path in other
            .iter()
            .filter(|path| is_note(path) && !path.ends_with(&current_notes))
        {
            self.deployment.host.root.remove_tree(path)?;
        }
        Ok(())
    }

    /// Opens the folder of the trees, which only root can enter; creates it if needed.
    fn ensure_dir(&self) -> Result<Folder, Failure> {
        let root = &self.deployment.host.root;
        if !self.is_root_only()? {
            let (uid, gid) = root.default_owner();
            let attrs = Attrs {
                mode: Some(0o700),
                uid: root.is_privileged().then_some(uid),
                gid: root.is_privileged().then_some(gid),
            };
            if root.meta(&self.dir)?.is_some() {
                // Restricted to root first, so that no other user can add anything during the removal.
                root.set_attrs(&self.dir, &attrs)?;
            }
            root.remove_tree(&self.dir)?;
            root.create_dir(&self.dir, &attrs)?;
        }
        root.open_folder(&self.dir)?.ok_or_else(|| {
            Failure::new(format!(
                "{} disappeared while it was in use",
                self.dir.display()
            ))
        })
    }

    /// Brings the tree of this role to the wanted commit: updates the existing one, or creates a new one.
    fn bring_to_commit(
        &self,
        role: TreeRole,
        trees: &[SpareTree],
        mirror: &Repository,
        home: &Folder,
    ) -> Result<(), SourceError> {
        let root = &self.deployment.host.root;
        let wanted = self.tree_name(role, &self.deployment.sha);
        let of_role = |tree: &&SpareTree| tree.role == role;
        let exists = trees.iter().any(|tree| tree.name == wanted);
        let mut moved = exists;
        for old in trees
            .iter()
            .filter(of_role)
            .filter(|tree| tree.name != wanted)
        {
            self.clear_unfinished()?;
            root.rename(&self.dir.join(&old.name), &self.dir.join(UNFINISHED_NAME))?;
            if !moved {
                moved = match self.update_tree(old, mirror, home) {
                    Ok(()) => true,
                    Err(error @ SourceError::LimitExceeded(_)) => return Err(error),
                    Err(error) if self.deployment.host.stop.is_set() => return Err(error),
                    // The mirror may, for example, no longer have the tree's own commit.
                    Err(error) => {
                        tracing::info!(
                            "{}: recreating a spare tree from scratch: {error}",
                            self.deployment.spec.app
                        );
                        false
                    }
                };
                if moved {
                    self.commit(home, &wanted)?;
                }
            }
        }
        if !moved {
            self.clear_unfinished()?;
            self.create_tree(role, mirror, home)?;
            self.commit(home, &wanted)?;
        }
        Ok(())
    }

    /// Syncs the tree to disk, then gives it its name.
    fn commit(&self, home: &Folder, name: &str) -> Result<(), Failure> {
        Priority::Idle.run(|| home.sync_filesystem())?;
        let root = &self.deployment.host.root;
        Ok(root.rename(&self.dir.join(UNFINISHED_NAME), &self.dir.join(name))?)
    }

    fn open_unfinished(&self, home: &Folder) -> Result<Folder, Failure> {
        home.open_subfolder(Path::new(UNFINISHED_NAME))?
            .ok_or_else(|| {
                Failure::new(format!(
                    "{} disappeared while it was in use",
                    self.dir.display()
                ))
            })
    }

    fn update_tree(
        &self,
        old: &SpareTree,
        mirror: &Repository,
        home: &Folder,
    ) -> Result<(), SourceError> {
        let most = home.free_space()?.files;
        let plan = Plan::incremental(
            mirror,
            &self.deployment.spec.selection(),
            parse_oid(&old.sha)?,
            self.load_metadata(&old.sha),
            parse_oid(&self.deployment.sha)?,
            most,
            &PlanLimits::new(&self.deployment.host.stop),
        )?;
        self.apply_plan(&plan, mirror, home)
    }

    fn create_tree(
        &self,
        role: TreeRole,
        mirror: &Repository,
        home: &Folder,
    ) -> Result<(), SourceError> {
        let closed = Attrs::mode(0o700);
        if role == TreeRole::Spare {
            let pristine = home.open_subfolder(Path::new(
                &self.tree_name(TreeRole::Pristine, &self.deployment.sha),
            ))?;
            if let Some(pristine) = pristine {
                if home.snapshot(&pristine, UNFINISHED_NAME.as_ref()) {
                    return Ok(());
                }
                home.create_folder(UNFINISHED_NAME.as_ref(), &closed)?;
                let owner = (self.deployment.owner.uid, self.deployment.owner.gid);
                let to = self.open_unfinished(home)?;
                return copy_tree(
                    &pristine,
                    &to,
                    owner,
                    Priority::Idle,
                    &self.deployment.host.stop,
                );
            }
        }
        let plan = Plan::full(
            mirror,
            &self.deployment.spec.selection(),
            parse_oid(&self.deployment.sha)?,
            home.free_space()?.files,
            &PlanLimits::new(&self.deployment.host.stop),
        )?;
        // A subvolume: filesystems that support snapshots can copy it as a whole.
        home.create_subvolume(UNFINISHED_NAME.as_ref(), &closed)?;
        self.apply_plan(&plan, mirror, home)
    }

    fn apply_plan(
        &self,
        plan: &Plan,
        mirror: &Repository,
        home: &Folder,
    ) -> Result<(), SourceError> {
        let tree = self.open_unfinished(home)?;
        let odb = mirror.odb()?;
        let lfs = LfsFiles::fetch_missing(self.deployment, mirror, &plan.create)?;
        let key = GitCryptKey::load(self.deployment.spec, self.deployment.host)?;
        let source = ContentSource {
            odb: &odb,
            lfs: &lfs,
            max_file: self.deployment.spec.max_file(),
            key: key.as_ref(),
        };
        let large = disk_space::check_plan(plan, source, home, &self.deployment.host.stop)?;
        filters::check(self.deployment, source, &plan.create)?;
        let writer = TreeWriter {
            source,
            large: &large,
            uid: self.deployment.owner.uid,
            gid: self.deployment.owner.gid,
            pace: Priority::Idle,
            stop: &self.deployment.host.stop,
        };
        writer.apply(plan, &tree)?;
        self.save_metadata(&plan.metadata)?;
        Ok(())
    }

    /// The stored metadata of a commit; `None` if it was lost.
    pub(crate) fn load_metadata(&self, sha: &Sha) -> Option<CommitMetadata> {
        let path = self.dir.join(format!("notes-{sha}.json"));
        let written: StoredMetadata = METADATA.load_cache(&self.deployment.host.root, &path)?;
        let attributes = written.attributes.into_iter();
        Some(CommitMetadata {
            attributes: attributes
                .map(|(path, id)| Some((PathBuf::from(path), Oid::from_str(&id).ok()?)))
                .collect::<Option<_>>()?,
            subst_paths: written.subst.into_iter().map(PathBuf::from).collect(),
        })
    }

    /// Stores the metadata of the wanted commit, unless it contains names that JSON cannot represent: it is
    /// then computed again.
    fn save_metadata(&self, metadata: &CommitMetadata) -> Result<(), Failure> {
        let text = |path: &PathBuf| path.to_str().map(str::to_owned);
        let attributes = metadata.attributes.iter();
        let attributes: Option<Vec<_>> = attributes
            .map(|(path, id)| Some((text(path)?, id.to_string())))
            .collect();
        let subst: Option<Vec<_>> = metadata.subst_paths.iter().map(text).collect();
        let (Some(attributes), Some(subst)) = (attributes, subst) else {
            return Ok(());
        };
        let written = StoredMetadata {
            form: LAYOUT_VERSION,
            attributes,
            subst,
        };
        let path = self
            .dir
            .join(format!("notes-{}.json", &self.deployment.sha));
        Ok(METADATA.save(&self.deployment.host.root, &path, &written)?)
    }
}

pub(crate) fn parse_oid(sha: &Sha) -> Result<Oid, SourceError> {
    Ok(Oid::from_str(sha.as_str())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::state::testing::assert_round_trip;

    #[test]
    fn example_metadata_survives_a_round_trip() {
        assert_round_trip::<StoredMetadata>(&METADATA, "commit-metadata.json");
    }
}
