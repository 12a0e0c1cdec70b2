//! Which notices are due, who sends them, and what reaches the other side.

mod budget;
mod channels;
mod due;
mod forged;
mod memory;
mod protocol;
mod text;

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::due::{Publication, Subject, Wanted};
use super::memory::{AppMemory, News, Observation};
use super::notice::Notice;
use crate::desired::{OnFailure, Sha, Transition};
use crate::fleet::rollout::Register;

const SCOPE: &str = "store";

fn sha(digit: char) -> Sha {
    Sha::parse(&digit.to_string().repeat(40)).unwrap()
}

fn at(text: &str) -> Timestamp {
    format!("2026-11-21T{text}Z").parse().unwrap()
}

fn subject() -> Subject<'static> {
    Subject {
        environment: "production",
        app: "shop",
        node: "web1",
        now: at("03:00:00"),
    }
}

/// The sha `9` instead of `4`, by ana.
fn wanted() -> Wanted {
    Wanted {
        sha: sha('9'),
        published: sha('9'),
        previous: Some(sha('4')),
        publication: Publication {
            by: Some("ana".into()),
            at: Some(at("02:59:00")),
            reason: Some("faster checkout".into()),
            from: Some(sha('4')),
            commits: vec!["9999999 Fix the checkout".into()],
            generation: Some(43),
            ..Publication::default()
        },
        generation: Some(43),
        hold: None,
        notes: Vec::new(),
        on_failure: OnFailure::Halt,
    }
}

/// A register with these fields in its entry of the sha `9`.
fn register(fields: &serde_json::Value) -> Register {
    let mut entry =
        json!({"sha": sha('9'), "generation": 43, "opened": at("03:00:00"), "opened_by": "web1"});
    for (name, value) in fields.as_object().unwrap() {
        entry[name] = value.clone();
    }
    let register = json!({
        "version": 1, "environment": "production", "app": "shop", "nonce": "0000000000000001",
        "slots": 1, "entries": [entry],
    });
    serde_json::from_value(register).unwrap()
}

fn ids(notices: &[Notice]) -> Vec<&str> {
    notices.iter().map(|notice| notice.id.as_str()).collect()
}

/// A notice of the transition that the rollout is halted.
fn halted() -> Notice {
    let mut notice = Notice::new(
        "halted:9999999:43".into(),
        Transition::Halted,
        ("production", "shop"),
        at("03:00:00"),
    );
    notice.summary = "production/shop: 9999999 failed on web1: the gate failed".into();
    notice.to = Some(sha('9'));
    notice
}

/// All notices go to the channel `ops`, those of others after 30 s.
fn to_ops(_: &Notice, is_own: bool) -> News {
    News {
        channels: BTreeSet::from(["ops".to_owned()]),
        delay: SignedDuration::from_secs(if is_own { 0 } else { 30 }),
    }
}

/// What a host remembers that waits with this notice.
fn memory_with(notice: &Notice, is_own: bool, now: Timestamp) -> AppMemory {
    let mut memory = AppMemory::new(SCOPE);
    memory.notice(Observation::default(), (now, false), &to_ops);
    let own = is_own.then(|| notice.id.clone());
    let observation = Observation {
        manifest: vec![notice.clone()],
        own: own.into_iter().collect(),
        ..Observation::default()
    };
    memory.notice(observation, (now, false), &to_ops);
    memory
}
