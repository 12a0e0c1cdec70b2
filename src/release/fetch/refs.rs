//! The refs of a mirror: as the server has them, without those that would spoil what is done with it.
//!
//! Whoever may push a branch decides what is on it. libgit2 walks from all refs of the mirror to tell the
//! server what is there, and one commit that it cannot read ends that. So a ref gets into the mirror only
//! once what is behind it was looked at.

use std::collections::BTreeMap;

use git2::{Error, Oid, Reference, RemoteHead, Repository};

use super::Fetch;
use super::nearby;
use crate::release::history::{self, Cut, Unreadable};
use crate::release::{AllowedRefs, mirror};
use crate::resource::Failure;

/// A mirror holds no more refs.
const MAX_REFS: usize = 100_000;

/// No part of a ref's name is longer: with `.lock` it is the name of a file.
const MAX_PART: usize = 250;

/// Nor a whole name.
const MAX_NAME: usize = 2000;

/// So many refs that are left out are named.
const NAMED: usize = 10;

/// Names of refs and what they are of.
pub(super) type Refs = BTreeMap<String, Oid>;

/// What a ref is of.
#[derive(Clone)]
enum Tip {
    Sound,
    /// A file or folder: nothing is to be done with it, and nothing wrong.
    NoCommit,
    /// It, or what is close behind it, was made to do harm.
    Flawed(String),
}

/// The refs of a repository that name an object themselves.
fn refs_of(repository: &Repository) -> Result<Refs, Error> {
    let mut refs = Refs::new();
    for reference in repository.references()? {
        let reference = reference?;
        if let (Ok(name), Some(id)) = (reference.name(), reference.target()) {
            refs.insert(name.to_owned(), id);
        }
    }
    Ok(refs)
}

impl Fetch<'_> {
    /// Those of a server's refs that belong into the mirror; no more than it may hold: each becomes a
    /// file.
    pub(super) fn select(&self, heads: &[RemoteHead<'_>]) -> Result<Refs, Error> {
        let allowed = &self.d.spec.allow_refs;
        let kept = |head: &&RemoteHead<'_>| {
            allowed.allows(head.name()) && Reference::is_valid_name(head.name())
        };
        let heads = heads.iter().filter(kept);
        let mut refs: Refs = heads
            .map(|head| (head.name().to_owned(), head.oid()))
            .collect();
        if refs.len() > MAX_REFS {
            self.end(too_many(refs.len(), allowed, &self.d.spec.repo));
            return Err(Error::from_str("too many refs"));
        }
        let mut left_out = Vec::new();
        refs.retain(|name, _| {
            let fits = name.len() <= MAX_NAME && name.split('/').all(|part| part.len() <= MAX_PART);
            if !fits {
                left_out.push((name.clone(), "its name is too long for a file".to_owned()));
            }
            fits
        });
        self.warn(&left_out);
        Ok(refs)
    }

    /// Removes refs from the mirror that the server no longer has. Before anything else: they are part
    /// of what libgit2 tells the server, and `a/b` cannot come while `a` is there.
    pub(super) fn prune(&self, mirror: &Repository, there: &Refs) -> Result<(), Error> {
        for name in refs_of(mirror)?.into_keys() {
            if !there.contains_key(&name) && !name.starts_with(mirror::BY_SHA) {
                mirror.find_reference(&name)?.delete()?;
            }
        }
        Ok(())
    }

    /// Moves the mirror's refs to where the server has them. A ref with a flaw is left out.
    pub(super) fn move_refs(
        &self,
        mirror: &Repository,
        there: &Refs,
        is_new: bool,
    ) -> Result<(), Error> {
        let have = refs_of(mirror)?;
        let is_moved = |(name, id): &(&String, &Oid)| have.get(*name) != Some(*id);
        let moved: Vec<(&String, &Oid)> = there.iter().filter(is_moved).collect();
        if moved.is_empty() {
            return Ok(());
        }
        let tips = self.look(mirror, have.values().copied(), &moved, is_new)?;
        let mut left_out = Vec::new();
        for ((name, id), tip) in moved.into_iter().zip(tips) {
            if !self.in_time() {
                return Err(Error::from_str("it was told to stop"));
            }
            if matches!(tip, Tip::Sound) {
                mirror.reference(name, *id, true, "")?;
                continue;
            }
            if let Tip::Flawed(why) = tip {
                left_out.push((name.clone(), why));
            }
            if have.contains_key(name) {
                mirror.find_reference(name)?.delete()?;
            }
        }
        self.warn(&left_out);
        Ok(())
    }

    /// Looks at all refs of a mirror that a version of trueup made which did not.
    pub(super) fn check_old(&self, mirror: &Repository) -> Result<(), Error> {
        let mut config = mirror.config()?;
        if config.get_bool(mirror::CHECKED).unwrap_or(false) {
            return Ok(());
        }
        let have = refs_of(mirror)?;
        let all: Vec<(&String, &Oid)> = have.iter().collect();
        let tips = self.look(mirror, std::iter::empty(), &all, false)?;
        for ((name, _), tip) in all.into_iter().zip(tips) {
            if !matches!(tip, Tip::Sound) {
                mirror.find_reference(name)?.delete()?;
            }
        }
        config.set_bool(mirror::CHECKED, true)
    }

    /// Whether a repository on this host has a ref that libgit2, which walks all of them there, would
    /// stumble over. `git` does not.
    pub(super) fn is_flawed(&self, mirror: &Repository) -> bool {
        let look = || -> Option<bool> {
            let origin = Repository::open(nearby::path(self.d.spec.repo.url())?).ok()?;
            let odb = origin.odb().ok()?;
            let known = refs_of(mirror).ok()?.into_values();
            let known = known.filter(|id| odb.exists(*id));
            let tips = refs_of(&origin).ok()?;
            let tips: Vec<(&String, &Oid)> = tips.iter().collect();
            let tips = self.look(&origin, known, &tips, false).ok()?;
            Some(tips.iter().any(|tip| matches!(tip, Tip::Flawed(_))))
        };
        look().unwrap_or(false)
    }

    /// What each of these refs is of.
    fn look(
        &self,
        of: &Repository,
        known: impl Iterator<Item = Oid>,
        refs: &[(&String, &Oid)],
        is_new: bool,
    ) -> Result<Vec<Tip>, Error> {
        let odb = of.odb()?;
        let known: Vec<Oid> = known
            .filter_map(|id| history::peel(of, &odb, id).ok().flatten())
            .collect();
        let mut tips = vec![Tip::Sound; refs.len()];
        let (mut commits, mut places) = (Vec::new(), Vec::new());
        for (place, (tip, (_, id))) in tips.iter_mut().zip(refs).enumerate() {
            match history::peel(of, &odb, **id) {
                Ok(Some(commit)) => {
                    commits.push(commit);
                    places.push(place);
                }
                Ok(None) => *tip = Tip::NoCommit,
                Err(Unreadable::Malformed(why)) => *tip = Tip::Flawed(why),
                Err(Unreadable::Lost(error)) if is_new => {
                    *tip = Tip::Flawed(format!("{id} cannot be read: {}", error.message()));
                }
                Err(Unreadable::Lost(error)) => return Err(error),
            }
        }
        let found = history::flaws(of, &known, &commits, is_new, &|| self.in_time());
        let found = found.map_err(|cut| match cut {
            Cut::Lost(error) => error,
            Cut::Stopped => Error::from_str("it was told to stop"),
            Cut::TooLong => {
                self.end(
                    Failure::new(format!(
                        "cannot fetch {}: the history of its branches and tags has more than {} commits or parents of commits",
                        self.d.spec.repo,
                        history::MAX_HISTORY
                    ))
                    .hint("name the branches that are deployed in `allow_refs`: no others are fetched then"),
                );
                Error::from_str("too much history")
            }
        })?;
        for (place, found) in places.into_iter().zip(found) {
            if let (Some(tip), Some(why)) = (tips.get_mut(place), found) {
                *tip = Tip::Flawed(why);
            }
        }
        Ok(tips)
    }

    fn warn(&self, left_out: &[(String, String)]) {
        let (app, repo) = (&self.d.spec.app, &self.d.spec.repo);
        for (name, why) in left_out.iter().take(NAMED) {
            tracing::warn!("{app}: `{name}` of {repo} is left out: {why}");
            self.left_out
                .replace(Some(format!("`{name}` is left out: {why}")));
        }
        if let Some(more) = left_out.len().checked_sub(NAMED).filter(|more| *more > 0) {
            tracing::warn!("{app}: {more} more refs of {repo} are left out for such reasons");
        }
    }
}

fn too_many(count: usize, allowed: &AllowedRefs, repo: &impl std::fmt::Display) -> Failure {
    if *allowed == AllowedRefs::default() {
        return Failure::new(format!(
            "cannot fetch {repo}: it has {count} branches and tags, more than {MAX_REFS}"
        ))
        .hint("name those that are deployed in `allow_refs`: no others are fetched then; or delete those that nobody needs");
    }
    Failure::new(format!(
        "cannot fetch {repo}: {count} of its refs are among those that `allow_refs` allows ({allowed}), more than {MAX_REFS}"
    ))
    .hint("name fewer in `allow_refs`, with less behind a `*`, or delete those that nobody needs")
}
