//! Mirrors the server's refs, without those that would break later operations.
//!
//! The content of a branch is untrusted. libgit2 walks from all refs of the mirror to tell the server what it
//! has, and fails at the first commit that it cannot read. So a ref is added to the mirror only after the
//! commits behind it were checked.

use std::collections::BTreeMap;

use git2::{Error, Oid, Reference, RemoteHead, Repository};

use super::Fetcher;
use crate::desired::AllowedRefs;
use crate::release::source::commit_graph::{self, GitObjectError, WalkError};
use crate::release::source::mirror_keys::{BY_SHA_PREFIX, CHECKED_KEY};
use crate::resource::Failure;

/// Maximum number of refs in a mirror.
const MAX_REFS: usize = 100_000;

/// Maximum length of a component of a ref's name: with `.lock` appended it is a file name.
const MAX_NAME_PART: usize = 250;

/// Maximum length of a ref's name.
const MAX_NAME: usize = 2000;

/// Maximum number of skipped refs that are logged.
const MAX_WARNINGS: usize = 10;

/// Names of refs and the objects that they point to.
pub(super) type Refs = BTreeMap<String, Oid>;

/// The result of checking a ref.
#[derive(Clone)]
enum RefCheck {
    Valid,
    /// It points to a file or folder: ignored, but not an error.
    NotACommit,
    /// The object, or one close behind it, is malformed.
    Invalid(String),
}

/// The refs of a repository that point directly to an object.
fn list_refs(repository: &Repository) -> Result<Refs, Error> {
    let mut refs = Refs::new();
    for reference in repository.references()? {
        let reference = reference?;
        if let (Ok(name), Some(id)) = (reference.name(), reference.target()) {
            refs.insert(name.to_owned(), id);
        }
    }
    Ok(refs)
}

impl Fetcher<'_> {
    /// Selects the server's refs that belong in the mirror. Refuses more than `MAX_REFS`, because each
    /// becomes a file.
    pub(super) fn select_refs(&self, heads: &[RemoteHead<'_>]) -> Result<Refs, Error> {
        let allowed = &self.deployment.spec.allow_refs;
        let belongs = |head: &&RemoteHead<'_>| {
            allowed.allows(head.name()) && Reference::is_valid_name(head.name())
        };
        let heads = heads.iter().filter(belongs);
        let mut refs: Refs = heads
            .map(|head| (head.name().to_owned(), head.oid()))
            .collect();
        if refs.len() > MAX_REFS {
            self.set_failure(too_many_refs(
                refs.len(),
                allowed,
                &self.deployment.spec.repo,
            ));
            return Err(Error::from_str("too many refs"));
        }
        let mut skipped = Vec::new();
        refs.retain(|name, _| {
            let fits =
                name.len() <= MAX_NAME && name.split('/').all(|part| part.len() <= MAX_NAME_PART);
            if !fits {
                skipped.push((name.clone(), "its name is too long for a file".to_owned()));
            }
            fits
        });
        self.warn_skipped(&skipped);
        Ok(refs)
    }

    /// Removes refs from the mirror that the server no longer has. Runs first: libgit2 announces the
    /// remaining refs to the server, and `a/b` cannot be created while `a` exists.
    pub(super) fn prune_refs(&self, mirror: &Repository, server_refs: &Refs) -> Result<(), Error> {
        for name in list_refs(mirror)?.into_keys() {
            if !server_refs.contains_key(&name) && !name.starts_with(BY_SHA_PREFIX) {
                mirror.find_reference(&name)?.delete()?;
            }
        }
        Ok(())
    }

    /// Moves the mirror's refs to the server's positions. Leaves out malformed refs.
    pub(super) fn update_refs(
        &self,
        mirror: &Repository,
        server_refs: &Refs,
        is_new: bool,
    ) -> Result<(), Error> {
        let have = list_refs(mirror)?;
        let is_moved = |(name, id): &(&String, &Oid)| have.get(*name) != Some(*id);
        let moved: Vec<(&String, &Oid)> = server_refs.iter().filter(is_moved).collect();
        if moved.is_empty() {
            return Ok(());
        }
        let tips = self.check_refs(mirror, have.values().copied(), &moved, is_new)?;
        let mut skipped = Vec::new();
        for ((name, id), tip) in moved.into_iter().zip(tips) {
            if !self.may_continue() {
                return Err(Error::from_str("stopped on request"));
            }
            if matches!(tip, RefCheck::Valid) {
                mirror.reference(name, *id, true, "")?;
                continue;
            }
            if let RefCheck::Invalid(why) = tip {
                skipped.push((name.clone(), why));
            }
            if have.contains_key(name) {
                mirror.find_reference(name)?.delete()?;
            }
        }
        self.warn_skipped(&skipped);
        Ok(())
    }

    /// Checks all refs of a mirror that an older trueup created without checking them.
    pub(super) fn check_existing_refs(&self, mirror: &Repository) -> Result<(), Error> {
        let mut config = mirror.config()?;
        if config.get_bool(CHECKED_KEY).unwrap_or(false) {
            return Ok(());
        }
        let have = list_refs(mirror)?;
        let all: Vec<(&String, &Oid)> = have.iter().collect();
        let tips = self.check_refs(mirror, std::iter::empty(), &all, false)?;
        for ((name, _), tip) in all.into_iter().zip(tips) {
            if !matches!(tip, RefCheck::Valid) {
                mirror.find_reference(name)?.delete()?;
            }
        }
        config.set_bool(CHECKED_KEY, true)
    }

    /// Whether a repository on this host has a ref that makes libgit2 fail, because it walks all of them
    /// there. `git` does not fail.
    pub(super) fn has_invalid_ref(&self, mirror: &Repository) -> bool {
        let look = || -> Option<bool> {
            let origin = Repository::open(self.deployment.spec.repo.local_path()?).ok()?;
            let odb = origin.odb().ok()?;
            let known = list_refs(mirror).ok()?.into_values();
            let known = known.filter(|id| odb.exists(*id));
            let tips = list_refs(&origin).ok()?;
            let tips: Vec<(&String, &Oid)> = tips.iter().collect();
            let tips = self.check_refs(&origin, known, &tips, false).ok()?;
            Some(tips.iter().any(|tip| matches!(tip, RefCheck::Invalid(_))))
        };
        look().unwrap_or(false)
    }

    /// Checks the object of each of these refs.
    fn check_refs(
        &self,
        repository: &Repository,
        known: impl Iterator<Item = Oid>,
        refs: &[(&String, &Oid)],
        is_new: bool,
    ) -> Result<Vec<RefCheck>, Error> {
        let odb = repository.odb()?;
        let known: Vec<Oid> = known
            .filter_map(|id| commit_graph::peel(repository, &odb, id).ok().flatten())
            .collect();
        let mut tips = vec![RefCheck::Valid; refs.len()];
        let (mut commits, mut indices) = (Vec::new(), Vec::new());
        for (index, (tip, (_, id))) in tips.iter_mut().zip(refs).enumerate() {
            match commit_graph::peel(repository, &odb, **id) {
                Ok(Some(commit)) => {
                    commits.push(commit);
                    indices.push(index);
                }
                Ok(None) => *tip = RefCheck::NotACommit,
                Err(GitObjectError::Malformed(why)) => *tip = RefCheck::Invalid(why),
                Err(GitObjectError::Git(error)) if is_new => {
                    *tip = RefCheck::Invalid(format!("{id} cannot be read: {}", error.message()));
                }
                Err(GitObjectError::Git(error)) => return Err(error),
            }
        }
        let flaws = commit_graph::find_flaws(repository, &known, &commits, is_new, &|| {
            self.may_continue()
        });
        let flaws = flaws.map_err(|error| match error {
            WalkError::Git(error) => error,
            WalkError::Stopped => Error::from_str(&error.to_string()),
            WalkError::TooLong => {
                self.set_failure(
                    Failure::new(format!(
                        "cannot fetch {}: the history of its branches and tags has more than {} commits or parents of commits",
                        self.deployment.spec.repo,
                        commit_graph::MAX_WALKED_COMMITS
                    ))
                    .hint("list the deployed branches in `allow_refs`: then no others are fetched"),
                );
                Error::from_str(&error.to_string())
            }
        })?;
        for (index, flaw) in indices.into_iter().zip(flaws) {
            if let (Some(tip), Some(why)) = (tips.get_mut(index), flaw) {
                *tip = RefCheck::Invalid(why);
            }
        }
        Ok(tips)
    }

    fn warn_skipped(&self, skipped: &[(String, String)]) {
        let (app, repo) = (&self.deployment.spec.app, &self.deployment.spec.repo);
        for (name, why) in skipped.iter().take(MAX_WARNINGS) {
            tracing::warn!("{app}: skipping `{name}` of {repo}: {why}");
            self.skipped_ref
                .replace(Some(format!("skipping `{name}`: {why}")));
        }
        if let Some(more) = skipped
            .len()
            .checked_sub(MAX_WARNINGS)
            .filter(|more| *more > 0)
        {
            tracing::warn!("{app}: skipping {more} more refs of {repo} for similar reasons");
        }
    }
}

fn too_many_refs(count: usize, allowed: &AllowedRefs, repo: &impl std::fmt::Display) -> Failure {
    if *allowed == AllowedRefs::default() {
        return Failure::new(format!(
            "cannot fetch {repo}: it has {count} branches and tags, more than {MAX_REFS}"
        ))
        .hint("list the deployed ones in `allow_refs`: then no others are fetched; or delete unneeded ones");
    }
    Failure::new(format!(
        "cannot fetch {repo}: `allow_refs` ({allowed}) matches {count} of its refs, more than {MAX_REFS}"
    ))
    .hint("list fewer in `allow_refs`, with narrower patterns, or delete unneeded ones")
}
