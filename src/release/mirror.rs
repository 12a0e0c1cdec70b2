//! The first stage: a bare mirror of the app's repository that holds the wanted commit.
//!
//! A mirror is a cache. It is made anew when it is missing, broken, or of another address, and not
//! even looked at by the network when it already holds the commit.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use git2::{ErrorCode, ObjectType, Oid, Repository};

use super::fetch::{self, Fetch};
use super::{Deployment, Layout, Spec, names};
use crate::desired::Sha;
use crate::ports::Host;
use crate::ports::root::{Attrs, FileKind, Meta};
use crate::resource::Failure;

/// What is fetched: the branches and tags. Not every ref: on shared servers the others hold what
/// anybody may have proposed.
const REFS: [&str; 2] = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];

/// Where its packs are.
const PACKS: &str = "objects/pack";

/// The mirror, with the wanted commit in it.
pub(super) fn with_commit(d: &Deployment<'_>) -> Result<Repository, Failure> {
    fetch::settle()?;
    if let Some(mirror) = open(d) {
        match lookup(&mirror, d) {
            Ok(true) => return Ok(mirror),
            Ok(false) => match fill(d, &mirror) {
                Err(Unfetched::Broken(why)) => tracing::warn!(
                    "{}: the mirror is broken ({why}): fetching it anew",
                    d.spec.app
                ),
                Err(Unfetched::Failed(failure)) => return Err(failure),
                Ok(()) => return Ok(mirror),
            },
            Err(Unfetched::Failed(failure)) => return Err(failure),
            Err(Unfetched::Broken(_)) => {}
        }
    }
    anew(d)
}

/// The mirror, if it holds the wanted commit already. Asks no server.
pub(super) fn at_hand(d: &Deployment<'_>) -> Option<Repository> {
    fetch::settle_reading().ok()?;
    let mirror = open(d)?;
    matches!(lookup(&mirror, d), Ok(true)).then_some(mirror)
}

/// The commit that a branch or tag names on the server now; the mirror holds it from then on.
pub(super) fn named(d: &Deployment<'_>, name: &str) -> Result<Sha, Failure> {
    fetch::settle()?;
    let fetched = |mirror: Repository| {
        tidy(d).map_err(Unfetched::Failed)?;
        let fetch = Fetch::new(d).map_err(Unfetched::Failed)?;
        run(d, &fetch, &mirror, &REFS).map(|()| mirror)
    };
    let there = open(d).map_or_else(|| empty(d), Ok)?;
    let mirror = match fetched(there) {
        Err(Unfetched::Broken(_)) => fetched(empty(d)?),
        fetched => fetched,
    };
    match mirror {
        Ok(mirror) => names::commit(&mirror, name, d.spec),
        Err(Unfetched::Failed(failure)) => Err(failure),
        Err(Unfetched::Broken(why)) => Err(unkept(d, &why)),
    }
}

/// A new mirror in the place of the old one, with the wanted commit in it.
pub(super) fn anew(d: &Deployment<'_>) -> Result<Repository, Failure> {
    let mirror = empty(d)?;
    match fill(d, &mirror) {
        Ok(()) => Ok(mirror),
        Err(Unfetched::Failed(failure)) => Err(failure),
        Err(Unfetched::Broken(why)) => Err(unkept(d, &why)),
    }
}

fn unkept(d: &Deployment<'_>, why: &str) -> Failure {
    let path = d.layout.mirror();
    Failure::new(format!(
        "cannot keep {} in {}: {why}",
        d.spec.repo,
        path.display()
    ))
}

/// A new mirror with nothing in it in the place of the old one.
fn empty(d: &Deployment<'_>) -> Result<Repository, Failure> {
    let root = &d.host.root;
    let path = d.layout.mirror();
    root.make_dirs(&Layout::mirrors(), &Attrs::mode(0o700))?;
    root.remove_tree(&path)?;
    root.make_dir(&path, &Attrs::mode(0o700))?;
    create(d, &root.outside(&path)).map_err(|error| {
        Failure::new(format!(
            "cannot make the mirror {}: {}",
            path.display(),
            error.message()
        ))
    })
}

/// Why the commit is still not in the mirror.
enum Unfetched {
    /// It is the mirror's fault.
    Broken(String),
    Failed(Failure),
}

fn create(d: &Deployment<'_>, path: &Path) -> Result<Repository, git2::Error> {
    let mirror = Repository::init_bare(path)?;
    let mut config = mirror.config()?;
    // Of loose objects and refs; packs are seen to after a fetch.
    config.set_bool("core.fsyncObjectFiles", true)?;
    // Last: a mirror without it is not taken for one.
    config.set_str("trueup.repo", d.spec.repo.url())?;
    Ok(mirror)
}

/// The mirror that is there, if it can be opened and is of this address.
pub(super) fn open(d: &Deployment<'_>) -> Option<Repository> {
    as_it_is(d.spec, d.host)
}

/// The same, for looking only.
pub(super) fn as_it_is(spec: &Spec, host: &Host) -> Option<Repository> {
    let mirror = Repository::open_bare(host.root.outside(&spec.layout().mirror())).ok()?;
    let of = mirror.config().ok()?.get_string("trueup.repo").ok()?;
    (of == spec.repo.url()).then_some(mirror)
}

/// Whether the wanted commit is there.
fn lookup(mirror: &Repository, d: &Deployment<'_>) -> Result<bool, Unfetched> {
    let broken = |error: git2::Error| Unfetched::Broken(error.message().to_owned());
    let id = Oid::from_str(d.sha.as_str()).map_err(broken)?;
    match mirror.find_object(id, None) {
        Ok(object) => match object.kind() {
            Some(ObjectType::Commit) => Ok(true),
            kind => Err(Unfetched::Failed(
                Failure::new(format!(
                    "{} in {} is a {} and no commit",
                    d.sha,
                    d.spec.repo,
                    kind.map_or("thing", |kind| kind.str())
                ))
                .hint(format!(
                    "`git rev-parse '{}^{{commit}}'` prints the commit behind a tag",
                    d.sha
                )),
            )),
        },
        Err(error) if error.code() == ErrorCode::NotFound => Ok(false),
        Err(error) => Err(broken(error)),
    }
}

/// Removes what a killed fetch left in the mirror: locks, which would stop every later fetch, and
/// half-received packs. Nobody else works on it: one pass at a time.
fn tidy(d: &Deployment<'_>) -> Result<(), Failure> {
    let root = &d.host.root;
    let mirror = d.layout.mirror();
    // Branches lie in folders of folders; elsewhere there is nothing to look for further down.
    let mut folders = vec![
        (mirror.join(PACKS), false),
        (mirror.join("refs"), true),
        (mirror, false),
    ];
    while let Some((folder, deep)) = folders.pop() {
        for name in root.list(&folder)?.unwrap_or_default() {
            let (path, shown) = (folder.join(&name), name.to_string_lossy());
            let is_folder = |meta: Meta| meta.kind == FileKind::Directory;
            if shown.ends_with(".lock") || shown.contains("_git2_") {
                root.remove_tree(&path)?;
            } else if deep && root.meta(&path)?.is_some_and(is_folder) {
                folders.push((path, true));
            }
        }
    }
    Ok(())
}

fn fill(d: &Deployment<'_>, mirror: &Repository) -> Result<(), Unfetched> {
    tidy(d).map_err(Unfetched::Failed)?;
    let fetch = Fetch::new(d).map_err(Unfetched::Failed)?;
    run(d, &fetch, mirror, &REFS)?;
    if lookup(mirror, d)? && on_a_ref(mirror, d) {
        return Ok(());
    }
    // On no branch or tag: after a forced push, say. Some servers hand it out by its name.
    let by_name = format!("+{}:refs/trueup/{}", d.sha, d.sha);
    let asked = run(d, &fetch, mirror, &[by_name.as_str()]);
    if asked.is_ok() && lookup(mirror, d)? {
        tracing::warn!(
            "{}: {} is on no branch and no tag of {}; the server gave it by its name",
            d.spec.app,
            d.sha,
            d.spec.repo
        );
        return Ok(());
    }
    Err(Unfetched::Failed(
        Failure::new(format!(
            "{} is on no branch and no tag of {}",
            d.sha, d.spec.repo
        ))
        .hint("is it pushed? If a forced push took it away, push it as a branch or tag again"),
    ))
}

fn run(
    d: &Deployment<'_>,
    fetch: &Fetch<'_>,
    mirror: &Repository,
    refs: &[&str],
) -> Result<(), Unfetched> {
    use git2::ErrorClass::{Config, Indexer, Object, Odb, Reference, Zlib};
    let before = packs(d).map_err(Unfetched::Failed)?;
    let fetched = fetch.run(mirror, refs).map_err(|error| {
        if let Some(failure) = fetch.ended() {
            return Unfetched::Failed(failure);
        }
        // A broken transfer is of the same classes as a broken mirror: either way anew is right.
        if matches!(
            error.class(),
            Config | Indexer | Object | Odb | Reference | Zlib
        ) || error.code() == ErrorCode::Locked
        {
            Unfetched::Broken(error.message().to_owned())
        } else {
            Unfetched::Failed(fetch.explain(&error))
        }
    });
    settle(d, &before).map_err(Unfetched::Failed)?;
    fetched
}

/// The names in the folder of packs.
fn packs(d: &Deployment<'_>) -> Result<BTreeSet<OsString>, Failure> {
    let names = d.host.root.list(&d.layout.mirror().join(PACKS))?;
    Ok(names.unwrap_or_default().into_iter().collect())
}

/// Waits until the packs that were not there before are on disk: libgit2 does that for loose objects
/// and refs alone, and what came over a network should not be asked for again after a power cut.
fn settle(d: &Deployment<'_>, before: &BTreeSet<OsString>) -> Result<(), Failure> {
    let path = d.layout.mirror().join(PACKS);
    let Some(folder) = d.host.root.open_folder(&path)? else {
        return Ok(());
    };
    let now = packs(d)?;
    let new: Vec<&OsString> = now.difference(before).collect();
    for name in &new {
        if let Some(file) = folder.open_file(name)? {
            file.sync_all().map_err(|error| {
                Failure::new(format!("cannot write {} to disk: {error}", path.display()))
            })?;
        }
    }
    match new.is_empty() {
        true => Ok(()),
        false => Ok(folder.sync()?),
    }
}

/// Whether the commit can be reached from a branch or tag, as the fetch has just brought them.
fn on_a_ref(mirror: &Repository, d: &Deployment<'_>) -> bool {
    let walk = || -> Result<bool, git2::Error> {
        let id = Oid::from_str(d.sha.as_str())?;
        let mut walk = mirror.revwalk()?;
        walk.push_glob("refs/heads/*")?;
        walk.push_glob("refs/tags/*")?;
        for commit in walk {
            if commit? == id {
                return Ok(true);
            }
        }
        Ok(false)
    };
    walk().unwrap_or(false)
}
