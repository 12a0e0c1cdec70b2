//! The materialise stage: checks out a commit's files, in a folder that only root can enter.
//!
//! A spare becomes the release by one rename, after which only the files that differ are written. Without one
//! all files are, on all cores. Either way the files are what `git archive` makes of the commit: this host's
//! git configuration has no influence.

use std::collections::BTreeSet;
use std::path::Path;

use git2::{ErrorCode, ObjectType, Repository};

use crate::ports::root::{Attrs, Folder};
use crate::ports::worker_pool::Priority;
use crate::release::app::layout::AppFolder;
use crate::release::app::selection::Selection;
use crate::release::deployment::Deployment;
use crate::release::source::error::SourceError;
use crate::release::source::tree::{
    ContentSource, EntryKind, GitCryptKey, LargeBlobs, LfsFiles, Plan, PlanLimits, SpareTree,
    SpareTrees, TreeEntry, TreeWriter, check_filters, check_plan, format_paths, parse_oid,
};
use crate::resource::Failure;

/// The result of a checkout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) struct Checkout {
    /// All files are on disk already: no sync is needed unless something is added.
    pub is_synced: bool,
}

/// Checks out the wanted commit into the new folder `tree`. Everything in it belongs to the app's owner; the
/// folder itself is root's until [`write_revision_and_chown`].
pub(crate) fn materialise(
    deployment: &Deployment<'_>,
    mirror: &Repository,
    tree: &Path,
) -> Result<Checkout, SourceError> {
    let selection = deployment.spec.selection();
    check_selection(deployment, mirror, &selection)?;
    let spares = SpareTrees::new(deployment);
    let limits = PlanLimits::new(&deployment.host.stop);
    for spare in spares.candidates()? {
        let planned = Plan::incremental(
            mirror,
            &selection,
            parse_oid(&spare.sha)?,
            spares.load_metadata(&spare.sha),
            parse_oid(&deployment.sha)?,
            None,
            &limits,
        );
        // Flaws of the wanted commit are reported below; flaws of the spare's do not matter.
        let Ok(plan) = planned else { continue };
        let job = CheckoutJob::prepare(deployment, mirror, plan, Some(&spare))?;
        spares.take(&spare, tree)?;
        match job.run(deployment, tree) {
            Err(error @ SourceError::LimitExceeded(_)) => return Err(error),
            Err(error) if !deployment.host.stop.is_set() => {
                let app = &deployment.spec.app;
                tracing::warn!("{app}: cannot use a spare tree: {error}");
                deployment.host.root.remove_tree(tree)?;
            }
            done => return done,
        }
    }
    checkout_from_scratch(deployment, mirror, tree, &limits)
}

/// Refuses a commit that lacks the app's folder, or what it needs also.
fn check_selection(
    deployment: &Deployment<'_>,
    mirror: &Repository,
    selection: &Selection,
) -> Result<(), SourceError> {
    let commit = mirror.find_commit(parse_oid(&deployment.sha)?)?;
    let tree = commit.tree()?;
    for path in selection.paths() {
        let kind = match tree.get_path(path) {
            Ok(entry) => entry.kind(),
            Err(error) if error.code() == ErrorCode::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let (field, expected) = match path == selection.subdir() {
            true => ("subdir", "folder"),
            false => ("also", "folder or file"),
        };
        let usable = match kind {
            Some(ObjectType::Tree) => true,
            Some(ObjectType::Blob) => field == "also",
            _ => false,
        };
        if !usable {
            return Err(SourceError::Failed(
                Failure::new(format!(
                    "there is no {expected} `{}` in the commit {}",
                    path.display(),
                    deployment.sha.short()
                ))
                .hint(format!(
                    "correct `{field}`, or publish a commit that has it; `git ls-tree --name-only {} .` lists the top of the repository",
                    deployment.sha.short()
                )),
            ));
        }
    }
    Ok(())
}

fn checkout_from_scratch(
    deployment: &Deployment<'_>,
    mirror: &Repository,
    tree: &Path,
    limits: &PlanLimits<'_>,
) -> Result<Checkout, SourceError> {
    let releases = open_folder(deployment, &deployment.layout.releases())?;
    let plan = Plan::full(
        mirror,
        &deployment.spec.selection(),
        parse_oid(&deployment.sha)?,
        releases.free_space()?.files,
        limits,
    )?;
    let job = CheckoutJob::prepare(deployment, mirror, plan, None)?;
    deployment.host.root.create_dir(tree, &Attrs::mode(0o700))?;
    job.run(deployment, tree)
}

/// Everything needed to bring a tree to the wanted commit, checked to be available.
struct CheckoutJob<'a> {
    plan: Plan,
    lfs: LfsFiles,
    odb: git2::Odb<'a>,
    large: LargeBlobs,
    key: Option<GitCryptKey>,
}

impl<'a> CheckoutJob<'a> {
    /// Refuses an impossible checkout. Writes nothing except the LFS files that it fetches into the mirror.
    /// `base` is the spare to start from: if space is short, the other spares are removed.
    fn prepare(
        deployment: &Deployment<'_>,
        mirror: &'a Repository,
        plan: Plan,
        base: Option<&SpareTree>,
    ) -> Result<CheckoutJob<'a>, SourceError> {
        let odb = mirror.odb()?;
        let lfs = LfsFiles::fetch_missing(deployment, mirror, &plan.create)?;
        let releases = open_folder(deployment, &deployment.layout.releases())?;
        let key = GitCryptKey::load(deployment.spec, deployment.host)?;
        let source = ContentSource {
            odb: &odb,
            lfs: &lfs,
            max_file: deployment.spec.max_file(),
            key: key.as_ref(),
        };
        let fits = || check_plan(&plan, source, &releases, &deployment.host.stop);
        let large = match fits() {
            Err(error)
                if !SpareTrees::new(deployment)
                    .remove_except(base)
                    .unwrap_or(false) =>
            {
                return Err(error);
            }
            Err(_) => fits()?,
            Ok(large) => large,
        };
        check_filters(deployment, source, &plan.create)?;
        warn_unsupported(deployment, &plan);
        Ok(CheckoutJob {
            plan,
            lfs,
            odb,
            large,
            key,
        })
    }

    fn run(&self, deployment: &Deployment<'_>, tree: &Path) -> Result<Checkout, SourceError> {
        let writer = TreeWriter {
            source: ContentSource {
                odb: &self.odb,
                lfs: &self.lfs,
                max_file: deployment.spec.max_file(),
                key: self.key.as_ref(),
            },
            large: &self.large,
            uid: deployment.owner.uid,
            gid: deployment.owner.gid,
            pace: Priority::Normal,
            stop: &deployment.host.stop,
        };
        let on_disk = writer.apply(&self.plan, &open_folder(deployment, tree)?)?;
        Ok(Checkout { is_synced: on_disk })
    }
}

/// Writes `REVISION`, into the app's folder too, and gives the tree to its owner. Until then the links in it belong to
/// root, like the folder itself, which comes last: the tree stays closed to others until all of it is done.
pub(crate) fn write_revision_and_chown(
    deployment: &Deployment<'_>,
    tree: &Path,
    app: &AppFolder,
) -> Result<(), Failure> {
    let root = &deployment.host.root;
    let line = format!("{}\n", deployment.sha);
    for folder in BTreeSet::from([tree, app.path()]) {
        let revision = folder.join("REVISION");
        root.remove_tree(&revision)?;
        root.write_atomic(&revision, line.as_bytes(), &deployment.owner.attrs(0o644))?;
    }
    for (path, _) in deployment.spec.links() {
        for part in path.ancestors().filter(|part| !part.as_os_str().is_empty()) {
            root.set_attrs(&app.path().join(part), &deployment.owner.attrs(0o755))?;
        }
    }
    root.set_attrs(tree, &deployment.owner.attrs(0o755))?;
    Ok(open_folder(deployment, tree)?.sync()?)
}

/// Prepares the spares of the wanted commit for the next release, at the lowest priority, unless they exist.
pub(crate) fn make_spare(deployment: &Deployment<'_>, mirror: &Repository) -> Result<(), Failure> {
    if spare_is_ready(deployment)? {
        return Ok(());
    }
    Ok(SpareTrees::new(deployment).prepare(mirror)?)
}

/// Whether [`make_spare`] has nothing to do. Costs two system calls.
pub(crate) fn spare_is_ready(deployment: &Deployment<'_>) -> Result<bool, Failure> {
    SpareTrees::new(deployment).is_complete()
}

/// Removes the spares, for an app that is removed.
#[allow(dead_code, reason = "no state of a release asks for it yet")]
pub(crate) fn remove_spares(deployment: &Deployment<'_>) -> Result<(), Failure> {
    SpareTrees::new(deployment).remove_all()
}

fn open_folder(deployment: &Deployment<'_>, path: &Path) -> Result<Folder, Failure> {
    let folder = deployment.host.root.open_folder(path)?;
    folder.ok_or_else(|| {
        Failure::new(format!(
            "{} disappeared while it was in use",
            path.display()
        ))
    })
}

/// Warns about git features that a checkout does not apply.
fn warn_unsupported(deployment: &Deployment<'_>, plan: &Plan) {
    let those = |chosen: fn(&TreeEntry) -> bool| {
        let chosen: Vec<&TreeEntry> = plan.create.iter().filter(|item| chosen(item)).collect();
        (!chosen.is_empty()).then(|| format_paths(chosen.into_iter()))
    };
    if let Some(names) = those(|item| item.kind == EntryKind::Submodule) {
        tracing::warn!(
            "{}: submodules are not fetched, their folders stay empty: {names}",
            deployment.spec.app
        );
    }
    if let Some(names) = those(|item| item.conversion.has_encoding) {
        tracing::warn!(
            "{}: `working-tree-encoding` is not applied, these files stay in UTF-8: {names}",
            deployment.spec.app
        );
    }
}
