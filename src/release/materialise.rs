//! The stage that lays out a commit's files, in a folder that only root can enter.
//!
//! Where a tree was kept ready, it becomes the release by one rename, after which only what differs
//! is written. Otherwise everything is, on all cores. Either way the files are what `git archive`
//! makes of the commit: nothing of this host's git configuration has a say.

use std::path::Path;

use git2::Repository;

use super::Deployment;
use super::tree::{
    Item, Kept, Key, Kind, Large, Lfs, Limits, Plan, Source, Stock, Writer, check_filters,
    check_plan, named, oid,
};
use crate::ports::pace::Pace;
use crate::ports::root::{Attrs, Folder};
use crate::resource::Failure;

pub(super) use super::tree::Trouble;

/// A tree that has just been laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) struct Laid {
    /// All of it is on disk already: it needs no sync unless something is added to it.
    pub on_disk: bool,
}

/// Lays out the wanted commit in the new folder `tree`. Everything in it belongs to the app's owner;
/// the folder itself is root's until it is handed over.
pub(super) fn materialise(
    d: &Deployment<'_>,
    mirror: &Repository,
    tree: &Path,
) -> Result<Laid, Trouble> {
    let stock = Stock::of(d);
    let limits = Limits::new(&d.host.stop);
    for kept in stock.candidates()? {
        let planned = Plan::between(
            mirror,
            oid(&kept.sha)?,
            stock.notes(&kept.sha),
            oid(&d.sha)?,
            None,
            &limits,
        );
        // What is wrong with the wanted commit is told below; what is wrong with the kept one is not
        // worth a word.
        let Ok(plan) = planned else { continue };
        let work = Work::prepare(d, mirror, plan, Some(&kept))?;
        stock.take(&kept, tree)?;
        match work.carry_out(d, tree) {
            Err(trouble @ Trouble::Refused(_)) => return Err(trouble),
            Err(trouble) if !d.host.stop.is_set() => {
                tracing::warn!("{}: a kept tree is of no use: {trouble}", d.spec.app);
                d.host.root.remove_tree(tree)?;
            }
            done => return done,
        }
    }
    from_nothing(d, mirror, tree, &limits)
}

fn from_nothing(
    d: &Deployment<'_>,
    mirror: &Repository,
    tree: &Path,
    limits: &Limits<'_>,
) -> Result<Laid, Trouble> {
    let releases = folder(d, &d.layout.releases())?;
    let plan = Plan::whole(mirror, oid(&d.sha)?, releases.room()?.files, limits)?;
    let work = Work::prepare(d, mirror, plan, None)?;
    d.host.root.make_dir(tree, &Attrs::mode(0o700))?;
    work.carry_out(d, tree)
}

/// Everything that is needed to bring a tree to the wanted commit, and is known to be there.
struct Work<'a> {
    plan: Plan,
    lfs: Lfs,
    odb: git2::Odb<'a>,
    large: Large,
    key: Option<Key>,
}

impl<'a> Work<'a> {
    /// Refuses what cannot be done. Writes nothing, but for the files of LFS that it fetches into the mirror.
    /// `from` is the tree that it is to be made from: the other kept ones give way where room is short.
    fn prepare(
        d: &Deployment<'_>,
        mirror: &'a Repository,
        plan: Plan,
        from: Option<&Kept>,
    ) -> Result<Work<'a>, Trouble> {
        let odb = mirror.odb()?;
        let lfs = Lfs::ready(d, mirror, &plan.put)?;
        let releases = folder(d, &d.layout.releases())?;
        let key = Key::of(d.spec, d.host)?;
        let source = Source {
            odb: &odb,
            lfs: &lfs,
            max_file: d.spec.max_file(),
            key: key.as_ref(),
        };
        let fits = || check_plan(&plan, source, &releases, &d.host.stop);
        let large = match fits() {
            Err(trouble) if !Stock::of(d).make_room(from).unwrap_or(false) => return Err(trouble),
            Err(_) => fits()?,
            Ok(large) => large,
        };
        check_filters(d, source, &plan.put)?;
        tell(d, &plan);
        Ok(Work {
            plan,
            lfs,
            odb,
            large,
            key,
        })
    }

    fn carry_out(&self, d: &Deployment<'_>, tree: &Path) -> Result<Laid, Trouble> {
        let writer = Writer {
            source: Source {
                odb: &self.odb,
                lfs: &self.lfs,
                max_file: d.spec.max_file(),
                key: self.key.as_ref(),
            },
            large: &self.large,
            uid: d.owner.uid,
            gid: d.owner.gid,
            pace: Pace::Now,
            stop: &d.host.stop,
        };
        let on_disk = writer.apply(&self.plan, &folder(d, tree)?)?;
        Ok(Laid { on_disk })
    }
}

/// The wanted commit, with its name on it, becomes its owner's. What was linked into it belongs to root
/// until then, like the folder itself, which comes last: a tree that is closed to others stays so until
/// all of it is done.
pub(super) fn hand_over(d: &Deployment<'_>, tree: &Path) -> Result<(), Failure> {
    let root = &d.host.root;
    let revision = tree.join("REVISION");
    root.remove_tree(&revision)?;
    let line = format!("{}\n", d.sha);
    root.replace(&revision, line.as_bytes(), &d.owner.attrs(0o644))?;
    for (path, _) in d.spec.links() {
        for part in path.ancestors().filter(|part| !part.as_os_str().is_empty()) {
            root.set_attrs(&tree.join(part), &d.owner.attrs(0o755))?;
        }
    }
    root.set_attrs(tree, &d.owner.attrs(0o755))?;
    Ok(folder(d, tree)?.sync()?)
}

/// Makes the trees of the wanted commit that are kept ready for the next release, at the lowest
/// priority. Nothing is done when they are there.
pub(super) fn make_spare(d: &Deployment<'_>, mirror: &Repository) -> Result<(), Failure> {
    if spare_is_ready(d)? {
        return Ok(());
    }
    match Stock::of(d).fill(mirror) {
        Ok(()) => Ok(()),
        Err(Trouble::Refused(failure) | Trouble::Other(failure)) => Err(failure),
        Err(Trouble::Mirror(why)) => Err(Failure::new(format!("the mirror is broken: {why}"))),
    }
}

/// Whether there is nothing to do for [`make_spare`]. Costs two system calls.
pub(super) fn spare_is_ready(d: &Deployment<'_>) -> Result<bool, Failure> {
    Stock::of(d).is_full()
}

/// Removes the trees that are kept ready: for an app that is gone.
#[allow(dead_code, reason = "no state of a release asks for it yet")]
pub(super) fn drop_spare(d: &Deployment<'_>) -> Result<(), Failure> {
    Stock::of(d).clear()
}

fn folder(d: &Deployment<'_>, path: &Path) -> Result<Folder, Failure> {
    let folder = d.host.root.open_folder(path)?;
    folder.ok_or_else(|| Failure::new(format!("{} has gone while it was used", path.display())))
}

/// What comes out otherwise than somebody may expect.
fn tell(d: &Deployment<'_>, plan: &Plan) {
    let those = |chosen: fn(&Item) -> bool| {
        let chosen: Vec<&Item> = plan.put.iter().filter(|item| chosen(item)).collect();
        (!chosen.is_empty()).then(|| named(chosen.into_iter()))
    };
    if let Some(names) = those(|item| item.kind == Kind::Submodule) {
        tracing::warn!(
            "{}: submodules are not fetched, their folders stay empty: {names}",
            d.spec.app
        );
    }
    if let Some(names) = those(|item| item.how.encoded) {
        tracing::warn!(
            "{}: `working-tree-encoding` is not applied, these files stay in UTF-8: {names}",
            d.spec.app
        );
    }
}
