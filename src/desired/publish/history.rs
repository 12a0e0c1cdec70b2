//! The history of an environment in the store: a copy of it for each of its generations, at
//! `history/<environment>/<generation>.yml`.
//!
//! A copy says everything that the environment itself said: who made the generation, when, why and with which signature.
//! The publisher writes it after the manifest. One that is killed in between leaves none, so each publisher completes that
//! of the generation that it replaces first.

use serde_json::{Map, Value};

use crate::desired::Manifest;
use crate::desired::manifest::SIGNATURES_KEY;
use crate::ports::store::{Store, StoreError, WriteCondition};
use crate::problem::Problem;
use crate::yaml::{Node, ParseLimits, entry_text, parse, serialize};

/// The key of a copy.
pub(crate) fn history_key(environment: &str, generation: u64) -> String {
    format!("history/{environment}/{generation}.yml")
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
        Ok(_) => None,
        Err(error) => Some(unrecorded(&key, &error)),
    }
}

fn unrecorded(key: &str, error: &StoreError) -> Problem {
    Problem::new(format!("the history has no {key}: {error}"))
        .hint("let the publisher write `history/*` (docs/fleet.md has the policy); the next one completes it")
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
