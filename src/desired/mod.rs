//! The desired state: the manifest in the store, or the last good one if the store does not provide it.

mod cache;
mod change;
mod content_digest;
pub(crate) mod edit;
mod entry;
mod environment;
#[cfg(test)]
mod environment_tests;
mod generation;
#[cfg(test)]
mod generation_tests;
mod hold;
#[cfg(test)]
mod hold_tests;
mod manifest;
mod note;
mod notify;
mod publish;
mod repository;
mod rollout;
mod sha;
mod signature;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::ports::Host;
use crate::ports::root::RootError;
use crate::ports::store::{GetOutcome, Store, StoreError};
use crate::problem::Problem;
use crate::settings::Signers;

pub(crate) use cache::cached_manifest;
use cache::{CachedManifest, ManifestMeta};
pub(crate) use change::{Action, AppChange, ManifestChange};
pub(crate) use content_digest::ContentDigest;
pub(crate) use edit::{
    CommitList, EditError, HoldRequest, NoteChange, NoteEdit, PublishRequest, SettingEdit,
    ShaChange,
};
pub(crate) use entry::{AppEntry, DesiredApp};
pub(crate) use environment::{Environment, EnvironmentSettings};
pub(crate) use generation::NodeGeneration;
pub(crate) use hold::{Hold, MAX_REASON_CHARS};
pub(crate) use manifest::Manifest;
pub(crate) use note::DeployNote;
pub(crate) use notify::{NotifySpec, Transition};
pub(crate) use publish::{
    FleetReports, PublishError, PublishSummary, ReportedHost, ReportedHosts, ServedBefore, Signing,
    history_key, publish,
};

pub(crate) use repository::{AllowedRefs, Repo, SshServer};
pub(crate) use rollout::{Amount, Canary, CanaryHosts, OnFailure, RolloutMode, RolloutPolicy};
pub(crate) use sha::Sha;
#[cfg(test)]
pub(crate) use signature::signed_lines;
pub(crate) use signature::verified_manifest;

/// Whether the desired state is known to be the newest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// The store answered in this pass, and this is its content.
    Fresh,
    /// The store did not answer; this is the last good manifest, from `since`.
    Stale {
        since: Option<Timestamp>,
        why: String,
    },
    /// The store returned a manifest that is refused; this is the last good one.
    Refused(Box<Problem>),
}

/// How a deployment that failed or was killed is resumed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum ResumePolicy {
    /// At the stage where it stopped, with growing pauses while it keeps failing.
    #[default]
    Backoff,
    /// At the stage where it stopped, now.
    Now,
    /// From the beginning, as a new release.
    FromScratch,
}

/// The desired state of this host.
#[derive(Debug, Clone)]
pub(crate) struct DesiredState {
    /// The node's environment.
    pub environment: String,
    /// By app; only apps of this host's environment.
    pub apps: BTreeMap<String, DesiredApp>,
    /// How the pass resumes unfinished deployments.
    pub resume_policy: ResumePolicy,
    pub freshness: Freshness,
    pub generation: Option<u64>,
    /// Channels that the rollouts of this environment notify.
    pub notify: NotifySpec,
    /// What made this generation.
    pub change: Option<ManifestChange>,
    /// An operator asked for a pass of every host since the last manifest that this host acted on.
    pub is_pass_requested: bool,
    /// The secrets of the environment, by name.
    pub secrets: BTreeMap<String, ContentDigest>,
    /// Problems elsewhere in the manifest, and other warnings for the report.
    pub warnings: Vec<Problem>,
    /// Why the last good list of peers is in force instead of the store's, a line each.
    pub kept_lists: Vec<String>,
}

impl DesiredState {
    /// No apps are wanted and no store was read.
    pub(crate) fn empty() -> DesiredState {
        DesiredState {
            environment: String::new(),
            apps: BTreeMap::new(),
            resume_policy: ResumePolicy::Backoff,
            freshness: Freshness::Fresh,
            generation: None,
            notify: NotifySpec::default(),
            change: None,
            is_pass_requested: false,
            secrets: BTreeMap::new(),
            warnings: Vec::new(),
            kept_lists: Vec::new(),
        }
    }

    /// The wanted sha of each app.
    pub(crate) fn wanted_shas(&self) -> BTreeMap<String, String> {
        let apps = self.apps.iter();
        apps.map(|(app, wanted)| (app.clone(), wanted.sha.to_string()))
            .collect()
    }

    /// Ignores the holds for one pass, at the request of an operator on the host. Adds a warning for each.
    pub(crate) fn lift_holds(&mut self) {
        for (app, wanted) in &mut self.apps {
            if let Some(hold) = wanted.hold.take() {
                wanted.ignores_hold = true;
                wanted.sha.clone_from(&wanted.unheld_sha);
                let warning = format!("{app} is {}: this pass goes over it", hold.description());
                self.warnings.push(Problem::new(warning));
            }
        }
    }
}

/// The node that the manifest is read for.
#[derive(Debug, Clone)]
pub(crate) struct NodeContext<'a> {
    pub environment: &'a str,
    pub tags: &'a BTreeMap<String, String>,
    /// The apps that this host runs.
    pub apps: &'a [String],
    /// By this host's own clock, for want of the store's.
    pub now: Timestamp,
    /// When the store last answered, as the last pass recorded.
    pub last_answer: Option<Timestamp>,
    /// Who may sign the manifest; `None`: unsigned ones are accepted.
    pub signers: Option<&'a Signers>,
}

/// Why there is no desired state at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DesiredError {
    /// There is no last good manifest either, so nothing may be changed.
    #[error(transparent)]
    Refused(Box<Problem>),
    #[error("{0}; this host has no last good manifest yet, so nothing was changed")]
    NeverReached(StoreError),
    #[error(transparent)]
    Cache(#[from] RootError),
}

/// How the store is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadOptions {
    /// Reads unconditionally, ignoring the cache.
    pub force: bool,
    /// Saves a good manifest as the last good one, because the pass is about to act on it.
    pub save_last_good: bool,
}

/// Reads the manifest `key`, at the cost of one conditional request if nothing is new.
pub(crate) fn read(
    store: &dyn Store,
    key: &str,
    options: ReadOptions,
    host: &Host,
    node: &NodeContext<'_>,
) -> Result<DesiredState, DesiredError> {
    let name = format!("{}/{key}", store.address());
    let last_good = LastGood::load(&name, host, node);
    let known = last_good
        .as_ref()
        .filter(|last_good| last_good.manifest.is_ok() && !options.force)
        .and_then(|last_good| last_good.meta.etag.as_ref());
    let answer = store.get(key, known);
    let accepted_at = node.now;
    // Whether a hold is over: all hosts have to agree on it, and their clocks may not.
    let node = &NodeContext {
        now: match &answer {
            Ok(_) => store.server_time().unwrap_or(node.now),
            Err(_) => node.now,
        },
        ..node.clone()
    };
    match answer {
        Ok(GetOutcome::Unchanged) => {
            let last_good = last_good.expect("only a last good manifest can be unchanged");
            last_good.desired(&name, node, Freshness::Fresh)
        }
        Ok(GetOutcome::Object(object)) => {
            let acted_on = last_good.as_ref().and_then(|known| known.meta.generation);
            match parse_and_check(&name, &object.body, acted_on, node) {
                Ok((manifest, mut desired)) => {
                    let requested = manifest.passes_requested_at(node.environment);
                    let before = last_good.as_ref().and_then(|known| {
                        known
                            .manifest
                            .as_ref()
                            .ok()?
                            .passes_requested_at(node.environment)
                    });
                    desired.is_pass_requested = requested.is_some() && requested != before;
                    if options.save_last_good {
                        let accepted = cache::Accepted {
                            environment: node.environment,
                            generation: manifest.generation_of(node.environment),
                            at: accepted_at,
                        };
                        cache::save(host, &object, accepted)?;
                    }
                    Ok(desired)
                }
                Err(problem) => last_good_or_refuse(problem, last_good, &name, node),
            }
        }
        Ok(GetOutcome::Missing) => {
            let problem = Problem::new(format!(
                "there is no manifest `{key}` in {}",
                store.address()
            ))
            .hint("`trueup publish ENV APP=SHA --create` makes the first one");
            // Whether it existed before or never did: its absence is not an instruction to want nothing.
            last_good_or_refuse(problem, last_good, &name, node)
        }
        Err(StoreError::TooLarge { limit, .. }) => {
            let problem = Problem::new(format!("{name} is larger than {limit} bytes"));
            last_good_or_refuse(problem, last_good, &name, node)
        }
        Err(error) => match last_good {
            Some(last_good) => {
                let since = node.last_answer.or(Some(last_good.meta.taken));
                let why = error.to_string();
                last_good.desired(&name, node, Freshness::Stale { since, why })
            }
            None => Err(DesiredError::NeverReached(error)),
        },
    }
}

/// The last good state, without contacting the store. `None`: there is no last good manifest.
pub(crate) fn last_known(name: &str, host: &Host, node: &NodeContext<'_>) -> Option<DesiredState> {
    let last_good = LastGood::load(name, host, node)?;
    last_good.desired(name, node, Freshness::Fresh).ok()
}

/// The last good manifest.
struct LastGood {
    meta: ManifestMeta,
    /// An error if no signer whom this host has now has signed it.
    manifest: Result<Manifest, Problem>,
}

impl LastGood {
    fn load(name: &str, host: &Host, node: &NodeContext<'_>) -> Option<LastGood> {
        let CachedManifest { body, meta } = cache::load(host, node.environment)?;
        // A key that has expired since signed it in time.
        let manifest = trusted_manifest(name, &body, node, meta.taken);
        Some(LastGood { meta, manifest })
    }

    fn desired(
        self,
        name: &str,
        node: &NodeContext<'_>,
        freshness: Freshness,
    ) -> Result<DesiredState, DesiredError> {
        let manifest = self.manifest;
        let desired = manifest.and_then(|manifest| select_apps(&manifest, name, node, freshness));
        desired.map_err(|problem| DesiredError::Refused(Box::new(problem)))
    }
}

/// The manifest that a text stands for, taken at this time; with signers, what one of them has signed of it.
fn trusted_manifest(
    name: &str,
    body: &[u8],
    node: &NodeContext<'_>,
    at: Timestamp,
) -> Result<Manifest, Problem> {
    match node.signers {
        None => Manifest::parse(name, body),
        Some(signers) => signature::verified_manifest(name, body, node.environment, signers, at),
    }
}

/// The new manifest, if it may be acted on.
fn parse_and_check(
    name: &str,
    body: &[u8],
    acted_on: Option<u64>,
    node: &NodeContext<'_>,
) -> Result<(Manifest, DesiredState), Problem> {
    let manifest = trusted_manifest(name, body, node, node.now)?;
    let generation = manifest.generation_of(node.environment);
    if let Some(why) = generation::refusal_reason(generation, acted_on) {
        return Err(Problem::new(why)
            .at(manifest.generation_location(node.environment))
            .field("generation")
            .hint(generation::refusal_hint(generation, acted_on)));
    }
    let desired = select_apps(&manifest, name, node, Freshness::Fresh)?;
    Ok((manifest, desired))
}

fn last_good_or_refuse(
    problem: Problem,
    last_good: Option<LastGood>,
    name: &str,
    node: &NodeContext<'_>,
) -> Result<DesiredState, DesiredError> {
    match last_good {
        Some(last_good) if last_good.manifest.is_ok() => {
            last_good.desired(name, node, Freshness::Refused(Box::new(problem)))
        }
        _ => Err(DesiredError::Refused(Box::new(problem))),
    }
}

/// The manifest's entries for this node. A bad entry of one of its own apps is a refusal, and so are bad settings
/// of its environment.
fn select_apps(
    manifest: &Manifest,
    name: &str,
    node: &NodeContext<'_>,
    freshness: Freshness,
) -> Result<DesiredState, Problem> {
    let mut desired = DesiredState {
        freshness,
        generation: manifest.generation_of(node.environment),
        ..DesiredState::empty()
    };
    let Some(environment) = manifest.environments.get(node.environment) else {
        let known = || manifest.environments.keys().map(String::as_str);
        if !manifest.environments.is_empty() {
            desired.warnings.push(
                Problem::new(format!(
                    "{name} has no environment `{}` (it has {}): nothing to deploy yet",
                    node.environment,
                    format_names(known())
                ))
                .suggest(node.environment, known()),
            );
        }
        return Ok(desired);
    };
    match &environment.settings {
        Ok(settings) => {
            desired.secrets.clone_from(&settings.secrets);
            desired.notify.clone_from(&settings.notify);
            desired.change.clone_from(&settings.change);
        }
        Err(problem) => return Err(problem.clone()),
    }
    let mut bad = 0;
    for app in environment.app_names() {
        if node.apps.iter().any(|own| own == app) {
            if let Some(entry) = environment.desired_app(app, node.tags, node.now) {
                let entry = entry.map_err(Problem::clone)?;
                desired.apps.insert(app.to_owned(), entry);
            }
        } else if let Some(Err(problem)) = environment.entry(app) {
            bad += 1;
            if bad <= MAX_LISTED {
                desired.warnings.push(problem.clone());
            }
        }
    }
    desired.warnings.extend(more_entries_warning(name, bad));
    for app in node.apps.iter().filter(|app| !environment.has_app(app)) {
        let problem = Problem::new(format!(
            "nothing to deploy yet: {name} has no `{app}` in {}",
            node.environment
        ));
        desired
            .warnings
            .push(problem.suggest(app, environment.app_names()));
    }
    Ok(desired)
}

/// Maximum number of names or problems of a manifest in messages: it may have a hundred thousand.
const MAX_LISTED: usize = 10;

/// `a, b, c and more`.
fn format_names<'a>(mut names: impl Iterator<Item = &'a str>) -> String {
    let some: Vec<String> = names.by_ref().take(MAX_LISTED).map(truncate_name).collect();
    let more = if names.next().is_some() {
        " and more"
    } else {
        ""
    };
    some.join(", ") + more
}

/// An untrusted name, truncated for messages.
fn truncate_name(name: &str) -> String {
    const LONGEST: usize = 80;
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// The warning that there are more bad entries than shown.
fn more_entries_warning(name: &str, bad: usize) -> Option<Problem> {
    let more = bad.checked_sub(MAX_LISTED).filter(|more| *more > 0)?;
    Some(Problem::new(format!(
        "{name} has {more} more entries like these"
    )))
}
