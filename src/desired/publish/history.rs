//! The history of an environment in the store: a copy of it for each of its generations, at
//! `history/<environment>/<generation>.yml`.
//!
//! A copy says everything that the environment itself said: who made the generation, when, why and with which signature.
//! The publisher writes it after the manifest. One that is killed in between leaves none, so each publisher completes that
//! of the generation that it replaces first.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::desired::Manifest;
use crate::desired::manifest::SIGNATURES_KEY;
use crate::desired::signature::{Verification, verified_manifest};
use crate::ports::store::{GetOutcome, Object, PutOutcome, Store, StoreError, WriteCondition};
use crate::problem::Problem;
use crate::settings::Signers;
use crate::yaml::{Node, ParseLimits, entry_text, parse, serialize};

/// The key of a copy.
pub(crate) fn history_key(environment: &str, generation: u64) -> String {
    format!("history/{environment}/{generation}.yml")
}

/// The prefix of all copies of an environment.
pub(super) fn history_key_prefix(environment: &str) -> String {
    format!("history/{environment}/")
}

/// Writes the copy of an environment's generation, unless it is there. A warning if that fails, because the manifest is
/// what counts.
pub(super) fn record_history(
    store: &dyn Store,
    name: &str,
    body: &[u8],
    environment: &str,
) -> Option<Problem> {
    let manifest = Manifest::parse(name, body).ok()?;
    let known = manifest.environments.get(environment)?;
    // By hand: nobody said who and why.
    let generation = known.settings.as_ref().ok()?.generation?;
    let copy = environment_copy(name, body, environment)?;
    let key = history_key(environment, generation);
    match store.put(&key, copy.as_bytes(), WriteCondition::Absent) {
        Ok(PutOutcome::Written(_)) => None,
        Ok(PutOutcome::Conflict) => match store.get(&key, None) {
            Ok(GetOutcome::Object(known)) if known.body != copy.as_bytes() => Some(
                Problem::new(format!("the history has another {key} than the manifest"))
                    .hint("somebody restored an older manifest, or wrote there: compare the two"),
            ),
            _ => None,
        },
        Err(error) => Some(unrecorded(&key, &error)),
    }
}

fn unrecorded(key: &str, error: &StoreError) -> Problem {
    Problem::new(format!("the history has no {key}: {error}"))
        .hint("let the publisher write `history/*` (docs/fleet.md has the policy); the next one completes it")
}

/// What a request has asked the history. An attempt that an act on another environment beats finds its own one as it was,
/// and asks nothing again: it lasts no longer than a read and a write, whoever signs and whoever does not.
#[derive(Debug, Default)]
pub(super) struct HistoryMemory {
    /// By the copy of the environment before the edit.
    facts: Option<(String, HistoryFacts)>,
    recorded: Option<String>,
}

impl HistoryMemory {
    /// [`history_facts`], once for each text of the environment.
    pub(super) fn facts(
        &mut self,
        store: &dyn Store,
        name: &str,
        body: &[u8],
        environment: &str,
    ) -> Result<HistoryFacts, StoreError> {
        let copy = environment_copy(name, body, environment);
        if let (Some(copy), Some((known, facts))) = (&copy, &self.facts)
            && copy == known
        {
            return Ok(facts.clone());
        }
        let facts = history_facts(store, name, body, environment)?;
        // Somebody may be about to write the manifest of that one.
        let is_last = facts.next.is_none();
        self.facts = copy.filter(|_| is_last).map(|copy| (copy, facts.clone()));
        Ok(facts)
    }

    /// [`record_history`] of what an edit replaces, until that has succeeded once for this text of the environment.
    pub(super) fn record(
        &mut self,
        store: &dyn Store,
        name: &str,
        body: &[u8],
        environment: &str,
    ) -> Option<Problem> {
        let copy = environment_copy(name, body, environment);
        if copy.is_some() && copy == self.recorded {
            return None;
        }
        let problem = record_history(store, name, body, environment);
        self.recorded = copy.filter(|_| problem.is_none());
        problem
    }
}

/// What the history knows of an environment as it is in a manifest.
#[derive(Debug, Clone, Default)]
pub(super) struct HistoryFacts {
    /// When the copy of its generation was written, by the store's clock, if it is the same.
    pub copied: Option<Timestamp>,
    /// The copy of the generation after it.
    pub next: Option<Object>,
}

/// Reads what the history knows of an environment.
pub(super) fn history_facts(
    store: &dyn Store,
    name: &str,
    body: &[u8],
    environment: &str,
) -> Result<HistoryFacts, StoreError> {
    let manifest = Manifest::parse(name, body).ok();
    let generation = manifest.and_then(|manifest| manifest.generation_of(environment));
    let Some(generation) = generation else {
        return Ok(HistoryFacts::default());
    };
    let read = |generation: u64| -> Result<Option<Object>, StoreError> {
        Ok(
            match store.get(&history_key(environment, generation), None)? {
                GetOutcome::Object(object) => Some(object),
                GetOutcome::Missing | GetOutcome::Unchanged => None,
            },
        )
    };
    let copy = environment_copy(name, body, environment);
    let known = read(generation)?;
    let same = known.filter(|known| {
        copy.as_ref()
            .is_some_and(|copy| known.body == copy.as_bytes())
    });
    Ok(HistoryFacts {
        copied: same.map(|same| same.modified),
        next: read(generation.saturating_add(1))?,
    })
}

/// Whether an environment is written and signed in the same way in two manifests.
pub(super) fn is_same_environment(name: &str, one: &[u8], other: &[u8], environment: &str) -> bool {
    let copy = |body| environment_copy(name, body, environment);
    copy(one) == copy(other)
}

/// A manifest with this environment alone, as it is written, and with its signature.
pub(super) fn environment_copy(name: &str, body: &[u8], environment: &str) -> Option<String> {
    let tree = parse(name, body, ParseLimits::default()).ok()?;
    let value = tree.get(environment)?.to_json();
    let written = entry_text(name, body, environment).map(|text| format!("{text}\n"));
    // Not where an alias refers to something outside of it.
    let is_whole = |text: &String| {
        let own = parse(name, text.as_bytes(), ParseLimits::default());
        own.is_ok_and(|own| own.get(environment).map(Node::to_json).as_ref() == Some(&value))
    };
    let single = |key: &str, value: Value| {
        serialize(Value::Object(Map::from_iter([(key.to_owned(), value)])))
    };
    let copy = written
        .filter(is_whole)
        .unwrap_or_else(|| single(environment, value.clone()));
    let signature = tree
        .get(SIGNATURES_KEY)
        .and_then(|all| all.get(environment));
    let signature = signature.map(|signature| {
        let own = single(environment, signature.to_json());
        let own: Vec<String> = own.lines().map(|line| format!("  {line}\n")).collect();
        format!("{SIGNATURES_KEY}:\n{}", own.concat())
    });
    Some(copy + &signature.unwrap_or_default())
}

/// The environment of a manifest of the store, if one of the signers has signed it: now, or when its copy was written, because
/// a key that has expired since signed it in time.
pub(crate) fn verify_published(
    store: &dyn Store,
    name: &str,
    body: &[u8],
    environment: &str,
    signers: &Signers,
    now: Timestamp,
) -> Result<Manifest, Problem> {
    let verify = |at: Timestamp| {
        let verification = Verification {
            signers,
            at,
            location: Some(name),
        };
        verified_manifest(name, body, environment, verification)
    };
    verify(now).or_else(|problem| {
        let facts = history_facts(store, name, body, environment);
        match facts.ok().and_then(|facts| facts.copied) {
            Some(copied) => verify(copied.min(now)),
            None => Err(problem),
        }
    })
}
