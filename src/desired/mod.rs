//! What should be running: the manifest in the store, or the last good one when that cannot be had.

mod cache;
mod edit;
mod generation;
mod manifest;
mod publish;
mod sha;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::ports::Host;
use crate::ports::root::RootError;
use crate::ports::store::{Fetched, Store, StoreError};
use crate::problem::Problem;

pub use cache::{Cached, LastGood};
pub use edit::{EditError, Edited, Move, Order, edit};
pub use generation::{ActedOn, above};
pub use manifest::{Entry, Hold, Manifest, Override};
pub use publish::{ATTEMPTS, PublishError, Published, publish};
pub use sha::Sha;

/// What the manifest says about one app, for this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub sha: Sha,
    /// Where the sha came from, for people.
    pub reference: Option<String>,
    pub by: Option<String>,
    /// To be built ahead, not activated.
    pub next: Option<Sha>,
    /// In force now: an expired hold is not here.
    pub hold: Option<Hold>,
}

/// How much the desired state can be relied on to be the newest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Freshness {
    /// The store answered in this pass, and this is what it holds.
    Fresh,
    /// The store did not answer; this is the last good manifest, from `since`.
    Stale {
        since: Option<Timestamp>,
        why: String,
    },
    /// The store answered with something that cannot be taken; this is the last good manifest.
    Refused(Box<Problem>),
}

/// How a deployment that failed or was killed is taken up again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TakeUp {
    /// At the stage where it stopped, with pauses that grow when it keeps failing.
    #[default]
    Usual,
    /// At the stage where it stopped, now.
    Now,
    /// From the beginning, as a new release.
    Fresh,
}

/// What should be running on this host.
#[derive(Debug, Clone)]
pub struct Desired {
    /// The node's environment.
    pub environment: String,
    /// By app; only apps of this host's environment.
    pub apps: BTreeMap<String, Wanted>,
    /// How the pass takes up what is unfinished.
    pub take_up: TakeUp,
    pub freshness: Freshness,
    pub generation: Option<u64>,
    /// What is wrong elsewhere in the manifest, and other things worth a line in the report.
    pub warnings: Vec<Problem>,
    /// Why the last good list of peers is in force instead of what the store has, a line each.
    pub kept_lists: Vec<String>,
}

impl Desired {
    /// Nothing is wanted and nobody was asked.
    pub fn nothing() -> Desired {
        Desired {
            environment: String::new(),
            apps: BTreeMap::new(),
            take_up: TakeUp::Usual,
            freshness: Freshness::Fresh,
            generation: None,
            warnings: Vec::new(),
            kept_lists: Vec::new(),
        }
    }
}

impl Desired {
    /// Goes over the holds, for one pass: an operator at the host asked for it. Each is told.
    pub fn lift_holds(&mut self) {
        for (app, wanted) in &mut self.apps {
            if let Some(hold) = wanted.hold.take() {
                let what = format!("{app} is {}: this pass goes over it", hold.words());
                self.warnings.push(Problem::new(what));
            }
        }
    }
}

/// For whom the manifest is read.
#[derive(Debug, Clone)]
pub struct For<'a> {
    pub environment: &'a str,
    pub tags: &'a BTreeMap<String, String>,
    /// The apps that this host runs.
    pub apps: &'a [String],
    pub now: Timestamp,
    /// When the store last answered, as the last pass noted.
    pub last_answer: Option<Timestamp>,
}

/// Why there is no desired state at all.
#[derive(Debug, thiserror::Error)]
pub enum DesiredError {
    /// There is no last good manifest either, so nothing may be changed.
    #[error("{0}")]
    Refused(Box<Problem>),
    #[error("{source}; this host has no last good manifest yet, so nothing was changed")]
    NeverReached {
        #[source]
        source: StoreError,
    },
    #[error("cannot keep the last good manifest: {0}")]
    Cache(#[from] RootError),
}

/// How the store is asked.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// As if nothing were known.
    pub force: bool,
    /// What is good is kept as the last good manifest: it is about to be acted on.
    pub keep: bool,
}

/// Reads the manifest `key`, at the cost of one conditional request when nothing is new.
pub fn read(
    store: &dyn Store,
    key: &str,
    ask: Ask,
    host: &Host,
    whom: &For<'_>,
) -> Result<Desired, DesiredError> {
    let cached = cache::load(host);
    let known = cached
        .as_ref()
        .and_then(|cached| cached.meta.etag.as_ref())
        .filter(|_| !ask.force);
    let name = format!("{}/{key}", store.address());
    match store.get(key, known) {
        Ok(Fetched::Unchanged) => {
            let cached = cached.expect("only a cached manifest has an etag to be unchanged from");
            last_good(cached, &name, whom, Freshness::Fresh)
        }
        Ok(Fetched::Object(object)) => {
            match acceptable(&name, &object.body, cached.as_ref(), whom) {
                Ok((manifest, desired)) => {
                    if ask.keep {
                        cache::keep(host, &object, manifest.generation, whom.now)?;
                    }
                    Ok(desired)
                }
                Err(problem) => refuse(problem, cached, &name, whom),
            }
        }
        Ok(Fetched::Missing) => {
            let problem = Problem::new(format!(
                "there is no manifest `{key}` in {}",
                store.address()
            ))
            .hint("`trueup publish ENV APP=SHA --create` makes the first one");
            // Whether it was there once or never was: its absence is not an order to want nothing.
            refuse(problem, cached, &name, whom)
        }
        Err(StoreError::TooLarge { limit, .. }) => {
            let problem = Problem::new(format!("{name} is larger than {limit} bytes"));
            refuse(problem, cached, &name, whom)
        }
        Err(error) => match cached {
            Some(cached) => {
                let since = whom.last_answer.or(Some(cached.meta.taken));
                let why = error.to_string();
                last_good(cached, &name, whom, Freshness::Stale { since, why })
            }
            None => Err(DesiredError::NeverReached { source: error }),
        },
    }
}

/// What was last good, without asking anybody. `None`: there is no last good manifest.
pub fn last_known(name: &str, host: &Host, whom: &For<'_>) -> Option<Desired> {
    last_good(cache::load(host)?, name, whom, Freshness::Fresh).ok()
}

/// The new manifest, if it may be acted on.
fn acceptable(
    name: &str,
    body: &[u8],
    cached: Option<&Cached>,
    whom: &For<'_>,
) -> Result<(Manifest, Desired), Problem> {
    let manifest = Manifest::parse(name, body)?;
    let acted_on = cached.and_then(|cached| cached.meta.generation);
    if let Some(why) = generation::refusal(manifest.generation, acted_on) {
        return Err(Problem::new(why)
            .at(&manifest.generation_at)
            .field("generation")
            .hint(generation::remedy(manifest.generation, acted_on)));
    }
    let desired = select(&manifest, name, whom, Freshness::Fresh)?;
    Ok((manifest, desired))
}

fn refuse(
    problem: Problem,
    cached: Option<Cached>,
    name: &str,
    whom: &For<'_>,
) -> Result<Desired, DesiredError> {
    match cached {
        Some(cached) => last_good(cached, name, whom, Freshness::Refused(Box::new(problem))),
        None => Err(DesiredError::Refused(Box::new(problem))),
    }
}

fn last_good(
    cached: Cached,
    name: &str,
    whom: &For<'_>,
    freshness: Freshness,
) -> Result<Desired, DesiredError> {
    let wrap = |problem| DesiredError::Refused(Box::new(problem));
    let manifest = Manifest::parse(name, &cached.body).map_err(wrap)?;
    select(&manifest, name, whom, freshness).map_err(wrap)
}

/// What the manifest says for this node. A bad entry of one of its own apps is a refusal.
fn select(
    manifest: &Manifest,
    name: &str,
    whom: &For<'_>,
    freshness: Freshness,
) -> Result<Desired, Problem> {
    let mut desired = Desired {
        freshness,
        generation: manifest.generation,
        ..Desired::nothing()
    };
    let Some(entries) = manifest.environments.get(whom.environment) else {
        let known = || manifest.environments.keys().map(String::as_str);
        if !manifest.environments.is_empty() {
            desired.warnings.push(
                Problem::new(format!(
                    "{name} has no environment `{}` (it has {}): nothing to deploy yet",
                    whom.environment,
                    listed(known())
                ))
                .suggest(whom.environment, known()),
            );
        }
        return Ok(desired);
    };
    let mut bad = 0;
    for (app, entry) in entries {
        let ours = whom.apps.contains(app);
        match entry {
            Ok(entry) if ours => {
                desired
                    .apps
                    .insert(app.clone(), entry.for_node(whom.tags, whom.now));
            }
            Ok(_) => {}
            Err(problem) if ours => return Err(problem.clone()),
            Err(problem) => {
                bad += 1;
                if bad <= SHOWN {
                    desired.warnings.push(problem.clone());
                }
            }
        }
    }
    desired.warnings.extend(unshown(name, bad));
    for app in whom.apps.iter().filter(|app| !entries.contains_key(*app)) {
        let problem = Problem::new(format!(
            "nothing to deploy yet: {name} has no `{app}` in {}",
            whom.environment
        ));
        desired
            .warnings
            .push(problem.suggest(app, entries.keys().map(String::as_str)));
    }
    Ok(desired)
}

/// So many names or problems of a manifest are shown at most: it may have a hundred thousand.
const SHOWN: usize = 10;

/// `a, b, c and more`.
fn listed<'a>(mut names: impl Iterator<Item = &'a str>) -> String {
    let some: Vec<String> = names.by_ref().take(SHOWN).map(shorten).collect();
    let more = if names.next().is_some() {
        " and more"
    } else {
        ""
    };
    some.join(", ") + more
}

/// A name from outside as it may be shown.
fn shorten(name: &str) -> String {
    const LONGEST: usize = 80;
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// That there are more bad entries than are shown.
fn unshown(name: &str, bad: usize) -> Option<Problem> {
    let more = bad.checked_sub(SHOWN).filter(|more| *more > 0)?;
    Some(Problem::new(format!(
        "{name} has {more} more entries like these"
    )))
}
