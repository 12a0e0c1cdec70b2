//! The first stage: a bare mirror of the app's repository that holds the wanted commit.
//!
//! A mirror is a cache. It is made anew when it is missing, broken, or of another address. The commit
//! must be on a ref that `allow_refs` allows, as the server has them now: what was taken off its
//! branch is refused even where the mirror holds it. Only a sha that was proven on this host is free
//! of that, and then the network is not even looked at when the mirror holds it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use git2::{ErrorCode, ObjectType, Oid, Repository};

use super::entry::Standing;
use super::fetch::{self, Fetch};
use super::record::Record;
use super::{AllowedRefs, Deployment, Layout, Spec, names};
use crate::desired::Sha;
use crate::ports::Host;
use crate::ports::git_memory;
use crate::ports::root::{Attrs, FileKind, Meta};
use crate::resource::Failure;

/// No commit is larger, in bytes: its message is long, then.
const MAX_COMMIT: usize = 1 << 20;

/// Where its packs are.
const PACKS: &str = "objects/pack";

/// The mirror, with the wanted commit in it, on a ref that is allowed.
pub(super) fn with_commit(d: &Deployment<'_>) -> Result<Repository, Failure> {
    fetch::settle()?;
    if let Some(mirror) = open(d) {
        let provided = match lookup(&mirror, d) {
            Ok(true) => confirm(d, &mirror),
            Ok(false) => fill(d, &mirror),
            Err(unfetched) => Err(unfetched),
        };
        match provided {
            Ok(()) => return Ok(mirror),
            Err(Unfetched::Failed(failure)) => return Err(failure),
            Err(Unfetched::Broken(why)) => tracing::warn!(
                "{}: the mirror is broken ({why}): fetching it anew",
                d.spec.app
            ),
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
        run(d, &fetch, &mirror, &d.spec.allow_refs.refspecs()).map(|()| mirror)
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
    // The file, what it is a delta of, and the delta; and one of its size that came before.
    git_memory::allow(
        usize::try_from(spec.max_file())
            .unwrap_or(usize::MAX)
            .saturating_mul(4),
    );
    let mirror = Repository::open_bare(host.root.outside(&spec.layout().mirror())).ok()?;
    let of = mirror.config().ok()?.get_string("trueup.repo").ok()?;
    (of == spec.repo.url()).then_some(mirror)
}

/// Whether the wanted commit is there.
fn lookup(mirror: &Repository, d: &Deployment<'_>) -> Result<bool, Unfetched> {
    let broken = |error: git2::Error| Unfetched::Broken(error.message().to_owned());
    let id = Oid::from_str(d.sha.as_str()).map_err(broken)?;
    let odb = mirror.odb().map_err(broken)?;
    if let Ok((size, _)) = odb.read_header(id)
        && size > MAX_COMMIT
    {
        return Err(Unfetched::Failed(
            Failure::new(format!(
                "the commit {} in {} is an object of {size} bytes: no commit has more than {MAX_COMMIT}",
                d.sha, d.spec.repo
            ))
            .hint("its message or its headers were made to do harm: make the commit anew"),
        ));
    }
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

/// Brings the refs as the server has them now, with the wanted commit on one of them.
fn fill(d: &Deployment<'_>, mirror: &Repository) -> Result<(), Unfetched> {
    tidy(d).map_err(Unfetched::Failed)?;
    let fetch = Fetch::new(d).map_err(Unfetched::Failed)?;
    run(d, &fetch, mirror, &d.spec.allow_refs.refspecs())?;
    if is_allowed(d, &fetch, mirror)? {
        return Ok(());
    }
    // Proven here once, and taken off its branch since. Some servers still hand it out by its name.
    if is_proven(d).map_err(Unfetched::Failed)? {
        let by_name = format!("+{0}:refs/trueup/{0}", d.sha);
        if run(d, &fetch, mirror, &[by_name]).is_ok() && lookup(mirror, d)? {
            return Ok(());
        }
    }
    Err(Unfetched::Failed(not_allowed(d, mirror)))
}

/// Makes sure that a commit which the mirror holds is still on a ref that is allowed. A server that
/// cannot be asked now is no reason to be down: then what it said last counts.
fn confirm(d: &Deployment<'_>, mirror: &Repository) -> Result<(), Unfetched> {
    if is_proven(d).map_err(Unfetched::Failed)? {
        return Ok(());
    }
    tidy(d).map_err(Unfetched::Failed)?;
    let fetch = Fetch::new(d).map_err(Unfetched::Failed)?;
    let asked = run(d, &fetch, mirror, &d.spec.allow_refs.refspecs());
    let silent = match asked {
        Ok(()) => None,
        Err(Unfetched::Failed(failure)) if !d.host.stop.is_set() => Some(failure),
        Err(unfetched) => return Err(unfetched),
    };
    match (is_allowed(d, &fetch, mirror)?, silent) {
        (true, None) => Ok(()),
        (true, Some(failure)) => {
            tracing::warn!(
                "{}: {failure}; {} is on a branch or tag as of the last fetch",
                d.spec.app,
                d.sha
            );
            Ok(())
        }
        (false, None) => Err(Unfetched::Failed(not_allowed(d, mirror))),
        (false, Some(failure)) => Err(Unfetched::Failed(failure)),
    }
}

/// Whether a release of the sha was proven in service on this host.
fn is_proven(d: &Deployment<'_>) -> Result<bool, Failure> {
    let record = Record::load(d.host, &d.layout)?;
    let mut entries = record.entries().iter();
    Ok(entries.any(|entry| entry.sha == d.sha && entry.state == Standing::Good))
}

/// Whether the wanted commit is in the mirror, on a ref that is allowed.
fn is_allowed(
    d: &Deployment<'_>,
    fetch: &Fetch<'_>,
    mirror: &Repository,
) -> Result<bool, Unfetched> {
    let broken = |error: git2::Error| Unfetched::Broken(error.message().to_owned());
    if !lookup(mirror, d)? {
        return Ok(false);
    }
    let id = Oid::from_str(d.sha.as_str()).map_err(broken)?;
    let held = d.spec.allow_refs.hold(mirror, id, &|| fetch.in_time());
    held.map_err(|error| match fetch.ended() {
        Some(failure) => Unfetched::Failed(failure),
        None => broken(error),
    })
}

fn not_allowed(d: &Deployment<'_>, mirror: &Repository) -> Failure {
    let (sha, repo, allowed) = (&d.sha, &d.spec.repo, &d.spec.allow_refs);
    if *allowed == AllowedRefs::default() {
        return Failure::new(format!("{sha} is on no branch and no tag of {repo}")).hint(
            "is it pushed? Only what is on a branch or tag is deployed: merge it, or push it as a branch or tag again if a forced push took it away; other refs count when `allow_refs` names them",
        );
    }
    let id = Oid::from_str(sha.as_str()).ok();
    let elsewhere = id.is_some_and(|id| {
        let anywhere = AllowedRefs::default().hold(mirror, id, &|| true);
        mirror.find_commit(id).is_ok() && anywhere.unwrap_or(false)
    });
    let where_it_is = match elsewhere {
        true => " (it is on a branch or tag that these leave out)",
        false => "",
    };
    Failure::new(format!(
        "{sha} is on none of the refs of {repo} that `allow_refs` allows, {allowed}{where_it_is}"
    ))
    .hint("is it pushed and merged? Publish a sha that is on one of these refs, or add its ref to `allow_refs`")
}

fn run(
    d: &Deployment<'_>,
    fetch: &Fetch<'_>,
    mirror: &Repository,
    refs: &[String],
) -> Result<(), Unfetched> {
    use git2::ErrorClass::{Config, Indexer, Object, Odb, Reference, Zlib};
    let before = packs(d).map_err(Unfetched::Failed)?;
    let fetched = fetch.run(mirror, refs).map_err(|error| {
        if let Some(failure) = fetch.ended() {
            return Unfetched::Failed(failure);
        }
        if error.class() == git2::ErrorClass::NoMemory {
            return Unfetched::Failed(fetch.explain(&error));
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
    if fetched.is_err() {
        // What came of a pack is of no use, and may be gigabytes.
        tidy(d).map_err(Unfetched::Failed)?;
    }
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
