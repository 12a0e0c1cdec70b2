//! The fetch stage: keeps a bare mirror of the app's repository that contains the wanted commit.
//!
//! A mirror is a cache. It is recreated when it is missing, broken, or of another address. The commit must be
//! on a ref that `allow_refs` allows, as the server has it now: a commit that was removed from its branch is
//! refused even if the mirror still contains it. Only a sha that is proven on this host is exempt, and needs
//! no network if the mirror contains it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use git2::{ErrorCode, ObjectType, Oid, Repository};

use super::commit_graph::{MAX_COMMIT_SIZE, WalkError};
use super::error::SourceError;
use super::fetch::{self, FetchTarget, Fetcher};
use super::mirror_keys::CHECKED_KEY;
use super::{allowed_commit, damage, ref_names};
use crate::desired::AllowedRefs;
use crate::desired::Sha;
use crate::ports::Host;
use crate::ports::git_memory;
use crate::ports::root::{Attrs, FileKind, Meta};
use crate::release::app::layout::Layout;
use crate::release::app::spec::ReleaseSpec;
use crate::release::deployment::Deployment;
use crate::release::record::ReleaseRecord;
use crate::release::record::entry::ReleaseStatus;
use crate::resource::Failure;

/// Config key of a mirror that replaces a broken one: the digest of the refs that the server advertised then.
const MADE_FOR_KEY: &str = "trueup.madefor";

/// The folder of packs in a mirror.
const PACK_DIR: &str = "objects/pack";

/// Returns the mirror with the wanted commit on an allowed ref; fetches it, or recreates the mirror, if
/// necessary.
pub(crate) fn ensure_commit(deployment: &Deployment<'_>) -> Result<Repository, Failure> {
    fetch::configure_libgit2()?;
    if let Some(mirror) = open(deployment) {
        let provided = match has_commit(&mirror, deployment) {
            Ok(true) => confirm_allowed(deployment, &mirror),
            Ok(false) => fetch_commit(deployment, &mirror),
            Err(unfetched) => Err(unfetched),
        };
        match provided {
            Ok(()) => return Ok(mirror),
            Err(SourceError::BrokenMirror { error, advertised }) => {
                tracing::warn!(
                    "{}: the mirror {} is damaged ({}): fetching all of it again",
                    deployment.spec.app,
                    deployment.layout.mirror().display(),
                    error.message()
                );
                // libgit2 keeps packs open by their paths: the new mirror may have one of the same name.
                drop(mirror);
                return recreate_after(deployment, advertised);
            }
            Err(SourceError::LimitExceeded(failure) | SourceError::Failed(failure)) => {
                return Err(failure);
            }
        }
    }
    recreate(deployment)
}

/// Returns the mirror if it contains the wanted commit already. Contacts no server.
pub(crate) fn cached_with_commit(deployment: &Deployment<'_>) -> Option<Repository> {
    fetch::configure_libgit2_for_reading().ok()?;
    let mirror = open(deployment)?;
    matches!(has_commit(&mirror, deployment), Ok(true)).then_some(mirror)
}

/// Resolves a branch or tag to its commit on the server now, and fetches that into the mirror.
pub(crate) fn resolve_ref(deployment: &Deployment<'_>, name: &str) -> Result<Sha, Failure> {
    fetch::configure_libgit2()?;
    let fetched = |mirror: Repository| {
        remove_leftovers(deployment)?;
        let fetch = Fetcher::new(deployment)?;
        run_fetch(deployment, &fetch, &mirror, &FetchTarget::Refs).map(|()| mirror)
    };
    let existing = open(deployment).map_or_else(|| create_empty(deployment, None), Ok)?;
    let mirror = match fetched(existing) {
        Err(SourceError::BrokenMirror { advertised, .. }) => {
            fetched(create_empty(deployment, advertised)?)
        }
        fetched => fetched,
    };
    match mirror {
        Ok(mirror) => ref_names::resolve(&mirror, name, deployment.spec),
        Err(error) => Err(unusable_mirror(deployment, error)),
    }
}

/// Replaces the mirror with a new one that contains the wanted commit.
pub(crate) fn recreate(deployment: &Deployment<'_>) -> Result<Repository, Failure> {
    recreate_after(deployment, None)
}

fn recreate_after(
    deployment: &Deployment<'_>,
    advertised: Option<String>,
) -> Result<Repository, Failure> {
    let mirror = create_empty(deployment, advertised)?;
    match fetch_commit(deployment, &mirror) {
        Ok(()) => Ok(mirror),
        Err(error) => Err(unusable_mirror(deployment, error)),
    }
}

/// The failure to report when even a new mirror does not serve.
fn unusable_mirror(deployment: &Deployment<'_>, error: SourceError) -> Failure {
    let error = match error {
        SourceError::BrokenMirror { error, .. } => error,
        SourceError::LimitExceeded(failure) | SourceError::Failed(failure) => return failure,
    };
    let path = deployment.layout.mirror();
    Failure::new(format!(
        "cannot mirror {} in {}: {}",
        deployment.spec.repo,
        path.display(),
        error.message()
    ))
    .hint(format!(
        "check that repository with `git fsck`; after `rm -r {}`, or after the next push, trueup fetches it again",
        path.display()
    ))
}

/// Replaces the mirror with an empty one. `advertised` is the digest of the refs that the old one failed to
/// take in.
fn create_empty(
    deployment: &Deployment<'_>,
    advertised: Option<String>,
) -> Result<Repository, Failure> {
    let root = &deployment.host.root;
    let path = deployment.layout.mirror();
    root.create_dir_all(&Layout::mirrors(), &Attrs::mode(0o700))?;
    root.remove_tree(&path)?;
    root.create_dir(&path, &Attrs::mode(0o700))?;
    init_repository(deployment, &root.machine_path(&path), advertised).map_err(|error| {
        Failure::new(format!(
            "cannot create the mirror {}: {}",
            path.display(),
            error.message()
        ))
    })
}

fn init_repository(
    deployment: &Deployment<'_>,
    path: &Path,
    advertised: Option<String>,
) -> Result<Repository, git2::Error> {
    let mirror = Repository::init_bare(path)?;
    let mut config = mirror.config()?;
    // Syncs loose objects and refs; `sync_new_packs` syncs packs after a fetch.
    config.set_bool("core.fsyncObjectFiles", true)?;
    config.set_bool(CHECKED_KEY, true)?;
    if let Some(advertised) = advertised {
        config.set_str(MADE_FOR_KEY, &advertised)?;
    }
    // Last: `open_existing` accepts no mirror without it.
    config.set_str("trueup.repo", deployment.spec.repo.url())?;
    Ok(mirror)
}

/// Opens the existing mirror, if it is readable and of this address.
pub(crate) fn open(deployment: &Deployment<'_>) -> Option<Repository> {
    open_existing(deployment.spec, deployment.host)
}

/// Like [`open`], for read-only use without a deployment.
pub(crate) fn open_existing(spec: &ReleaseSpec, host: &Host) -> Option<Repository> {
    // The file, its delta base and the delta; and a previous file of that size.
    git_memory::raise_limit(
        usize::try_from(spec.max_file())
            .unwrap_or(usize::MAX)
            .saturating_mul(4),
    );
    let mirror = Repository::open_bare(host.root.machine_path(&spec.layout().mirror())).ok()?;
    let of = mirror.config().ok()?.get_string("trueup.repo").ok()?;
    (of == spec.repo.url()).then_some(mirror)
}

/// Whether the mirror contains the wanted commit.
fn has_commit(mirror: &Repository, deployment: &Deployment<'_>) -> Result<bool, SourceError> {
    let id = Oid::from_str(deployment.sha.as_str()).map_err(SourceError::broken_mirror)?;
    let odb = mirror.odb().map_err(SourceError::broken_mirror)?;
    if let Ok((size, _)) = odb.read_header(id)
        && size > MAX_COMMIT_SIZE
    {
        return Err(SourceError::Failed(
            Failure::new(format!(
                "the commit {} in {} is an object of {size} bytes: no commit has more than {MAX_COMMIT_SIZE}",
                deployment.sha, deployment.spec.repo
            ))
            .hint("its message or headers look malicious: recreate the commit"),
        ));
    }
    match mirror.find_object(id, None) {
        Ok(object) => match object.kind() {
            Some(ObjectType::Commit) => Ok(true),
            kind => Err(SourceError::Failed(
                Failure::new(format!(
                    "{} in {} is a {} and not a commit",
                    deployment.sha,
                    deployment.spec.repo,
                    kind.map_or("thing", |kind| kind.str())
                ))
                .hint(format!(
                    "`git rev-parse '{}^{{commit}}'` prints the commit behind a tag",
                    deployment.sha
                )),
            )),
        },
        Err(error) if error.code() == ErrorCode::NotFound => Ok(false),
        Err(error) => Err(SourceError::broken_mirror(error)),
    }
}

/// Removes what a killed fetch left in the mirror: locks, which would block every later fetch, and
/// half-received packs. Only one pass at a time works on the mirror, so none of them is in use.
fn remove_leftovers(deployment: &Deployment<'_>) -> Result<(), Failure> {
    let root = &deployment.host.root;
    let mirror = deployment.layout.mirror();
    // Only the folder of refs is searched recursively: branches are in nested folders.
    let mut folders = vec![
        (mirror.join(PACK_DIR), false),
        (mirror.join("refs"), true),
        (mirror, false),
    ];
    while let Some((folder, deep)) = folders.pop() {
        for name in root.list(&folder)?.unwrap_or_default() {
            let (path, shown) = (folder.join(&name), name.to_string_lossy());
            let is_folder = |meta: Meta| meta.kind == FileKind::Directory;
            // A branch name may contain `_git2_`; git allows none that ends in `.lock`.
            let is_left = shown.ends_with(".lock") || !deep && shown.contains("_git2_");
            if is_left {
                root.remove_tree(&path)?;
            } else if deep && root.meta(&path)?.is_some_and(is_folder) {
                folders.push((path, true));
            }
        }
    }
    Ok(())
}

/// Fetches the server's current refs; fails unless the wanted commit is on an allowed one, or is proven and
/// served by its sha.
fn fetch_commit(deployment: &Deployment<'_>, mirror: &Repository) -> Result<(), SourceError> {
    remove_leftovers(deployment)?;
    let fetch = Fetcher::new(deployment)?;
    run_fetch(deployment, &fetch, mirror, &FetchTarget::Refs)?;
    if is_allowed(deployment, &fetch, mirror)? {
        return Ok(());
    }
    // Proven here, but removed from its branch since. Some servers still serve it by its sha.
    if is_proven(deployment)? {
        let id = Oid::from_str(deployment.sha.as_str()).map_err(SourceError::broken_mirror)?;
        if run_fetch(deployment, &fetch, mirror, &FetchTarget::Commit(id)).is_ok()
            && has_commit(mirror, deployment)?
        {
            return Ok(());
        }
    }
    Err(refuse_commit(deployment, &fetch, mirror))
}

/// The error for a commit that is on no allowed ref of the mirror, which is the fault of a damaged mirror perhaps.
fn refuse_commit(
    deployment: &Deployment<'_>,
    fetch: &Fetcher<'_>,
    mirror: &Repository,
) -> SourceError {
    let advertised = fetch.advertisement_digest();
    match damage::find(mirror) {
        // If a new mirror of the same refs has it too, the server does.
        Some(error) if !is_made_for(mirror, advertised.as_ref()) => {
            SourceError::BrokenMirror { error, advertised }
        }
        None if is_empty(deployment, mirror) && fetch.skipped_ref().is_none() => {
            SourceError::Failed(
                Failure::new(format!(
                    "{} has no branch and no tag: is it empty?",
                    deployment.spec.repo
                ))
                .hint(format!("push {} to it, or correct `repo`", deployment.sha)),
            )
        }
        _ => SourceError::Failed(not_allowed(deployment, fetch)),
    }
}

/// Whether the server has no branch and no tag. With refs of the settings, these may be what is missing.
fn is_empty(deployment: &Deployment<'_>, mirror: &Repository) -> bool {
    let references = mirror.references();
    deployment.spec.allow_refs == AllowedRefs::default()
        && references.is_ok_and(|mut references| references.next().is_none())
}

/// Whether the mirror replaced a damaged one when the server advertised these refs.
fn is_made_for(mirror: &Repository, advertised: Option<&String>) -> bool {
    let made_for = mirror
        .config()
        .and_then(|config| config.get_string(MADE_FOR_KEY));
    advertised.is_some() && made_for.ok().as_ref() == advertised
}

/// Checks that a commit in the mirror is still on an allowed ref. An unreachable server must cause no
/// downtime: then the refs of the last fetch decide.
fn confirm_allowed(deployment: &Deployment<'_>, mirror: &Repository) -> Result<(), SourceError> {
    if is_proven(deployment)? {
        return Ok(());
    }
    remove_leftovers(deployment)?;
    let fetch = Fetcher::new(deployment)?;
    let asked = run_fetch(deployment, &fetch, mirror, &FetchTarget::Refs);
    let silent = match asked {
        Ok(()) => None,
        Err(SourceError::Failed(failure)) if !deployment.host.stop.is_set() => Some(failure),
        Err(unfetched) => return Err(unfetched),
    };
    match (is_allowed(deployment, &fetch, mirror)?, silent) {
        (true, None) => Ok(()),
        (true, Some(failure)) => {
            tracing::warn!(
                "{}: {failure}; {} is on a branch or tag as of the last fetch",
                deployment.spec.app,
                deployment.sha
            );
            Ok(())
        }
        (false, None) => Err(refuse_commit(deployment, &fetch, mirror)),
        (false, Some(failure)) => Err(SourceError::Failed(failure)),
    }
}

/// Whether a release of the wanted sha is proven on this host.
fn is_proven(deployment: &Deployment<'_>) -> Result<bool, Failure> {
    let record = ReleaseRecord::load(deployment.host, &deployment.layout)?;
    let mut entries = record.entries().iter();
    Ok(entries.any(|entry| entry.sha == deployment.sha && entry.state == ReleaseStatus::Good))
}

/// Whether the mirror contains the wanted commit on an allowed ref.
fn is_allowed(
    deployment: &Deployment<'_>,
    fetch: &Fetcher<'_>,
    mirror: &Repository,
) -> Result<bool, SourceError> {
    if !has_commit(mirror, deployment)? {
        return Ok(false);
    }
    let id = Oid::from_str(deployment.sha.as_str()).map_err(SourceError::broken_mirror)?;
    let mut skipped = Vec::new();
    let allowed = &deployment.spec.allow_refs;
    let held = allowed_commit::is_on_allowed_ref(
        allowed,
        mirror,
        id,
        &|| fetch.may_continue(),
        &mut skipped,
    );
    for skipped in skipped {
        tracing::warn!(
            "{}: skipped in {}: {skipped}",
            deployment.spec.app,
            deployment.spec.repo
        );
    }
    held.map_err(|error| match (fetch.take_failure(), error) {
        (Some(failure), _) => SourceError::Failed(failure),
        (None, WalkError::Git(error)) => SourceError::broken_mirror(error),
        (None, WalkError::Stopped | WalkError::TooLong) => SourceError::Failed(
            Failure::new(format!(
                "cannot tell whether {} is on an allowed ref of {}: their history is too long",
                deployment.sha, deployment.spec.repo
            ))
            .hint("list the deployed branches in `allow_refs`: then no others are searched"),
        ),
    })
}

fn not_allowed(deployment: &Deployment<'_>, fetch: &Fetcher<'_>) -> Failure {
    let (sha, repo, allowed) = (
        &deployment.sha,
        &deployment.spec.repo,
        &deployment.spec.allow_refs,
    );
    // The commit may be on the skipped ref.
    let skipped = fetch.skipped_ref();
    let skipped = skipped.map_or_else(String::new, |skipped| format!(" ({skipped})"));
    if *allowed == AllowedRefs::default() {
        return Failure::new(format!("{sha} is on no branch and no tag of {repo}{skipped}")).hint(
            "push it, or merge it: trueup deploys only commits on a branch or tag. If a forced push removed it, push it again as a branch or tag; `allow_refs` can add other refs",
        );
    }
    Failure::new(format!(
        "{sha} is on no ref of {repo} that `allow_refs` allows, {allowed}{skipped}"
    ))
    .hint("push and merge it, publish a sha that is on one of these refs, or add its ref to `allow_refs`")
}

fn run_fetch(
    deployment: &Deployment<'_>,
    fetch: &Fetcher<'_>,
    mirror: &Repository,
    wanted: &FetchTarget,
) -> Result<(), SourceError> {
    let before = list_packs(deployment)?;
    let fetched = fetch
        .run(mirror, wanted, before.is_empty())
        .map_err(|error| classify_fetch_error(deployment, fetch, mirror, error));
    sync_new_packs(deployment, &before)?;
    if fetched.is_err() {
        // A partial pack is useless, and may take gigabytes.
        remove_leftovers(deployment)?;
    }
    fetched
}

/// Decides what caused a failed fetch. An error that is neither the transport's nor the server's nor this
/// host's is the mirror's, whatever libgit2 calls it. A broken transfer looks the same: a new mirror is right
/// for both, but only once per set of advertised refs, or each pass would fetch everything.
fn classify_fetch_error(
    deployment: &Deployment<'_>,
    fetch: &Fetcher<'_>,
    mirror: &Repository,
    error: git2::Error,
) -> SourceError {
    use git2::ErrorClass::Repository as NoRepository;
    use git2::ErrorClass::{Callback, Filesystem, Http, Net, NoMemory, Os, Ssh, Ssl, Thread};
    if let Some(failure) = fetch.take_failure() {
        return SourceError::Failed(failure);
    }
    let is_elsewhere = fetch::is_sha256(&error)
        || matches!(
            error.class(),
            Callback | Filesystem | Http | Net | NoMemory | NoRepository | Os | Ssh | Ssl | Thread
        );
    if is_elsewhere && error.code() != ErrorCode::Locked {
        return SourceError::Failed(fetch.git_failure(&error));
    }
    let advertised = fetch.advertisement_digest();
    let is_retried = is_made_for(mirror, advertised.as_ref());
    let broken = SourceError::BrokenMirror { error, advertised };
    match is_retried {
        true => SourceError::Failed(unusable_mirror(deployment, broken)),
        false => broken,
    }
}

/// The file names in the folder of packs.
fn list_packs(deployment: &Deployment<'_>) -> Result<BTreeSet<OsString>, Failure> {
    let names = deployment
        .host
        .root
        .list(&deployment.layout.mirror().join(PACK_DIR))?;
    Ok(names.unwrap_or_default().into_iter().collect())
}

/// Syncs new packs to disk: libgit2 syncs only loose objects and refs, and a power cut must not force another
/// transfer over the network.
fn sync_new_packs(deployment: &Deployment<'_>, before: &BTreeSet<OsString>) -> Result<(), Failure> {
    let path = deployment.layout.mirror().join(PACK_DIR);
    let Some(folder) = deployment.host.root.open_folder(&path)? else {
        return Ok(());
    };
    let now = list_packs(deployment)?;
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
