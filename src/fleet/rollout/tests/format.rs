//! The objects in the store, as they are written (`tests/fixtures/rollout`).

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::journal::Journal;
use super::super::object::{MAX_OBJECT, MAX_REGISTER, encode, parse};
use super::super::once::OnceResult;
use super::super::quarantine::Quarantine;
use super::super::slot::Slot;
use super::*;

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/rollout/",
            $name
        ))
    };
}

/// Parses an object and writes it again: it loses nothing, of a newer trueup's fields neither.
fn assert_round_trip<T: DeserializeOwned + Serialize>(text: &str) {
    let object: T = parse("key", MAX_OBJECT, text.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(encode(&object)).unwrap(), text);
}

#[test]
fn objects_survive_a_read_and_write() {
    assert_round_trip::<Register>(fixture!("register.json"));
    assert_round_trip::<Slot>(fixture!("slot.json"));
    assert_round_trip::<Quarantine>(fixture!("quarantine.json"));
    assert_round_trip::<OnceResult>(fixture!("once.json"));
}

#[test]
fn journal_survives_a_read_and_write() {
    let text = fixture!("journal.json");
    let journal: Journal = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string_pretty(&journal).unwrap(), text);
    let empty: Journal = serde_json::from_str("{}").unwrap();
    assert_eq!(empty, Journal::default());
}

fn refusal(body: &[u8]) -> String {
    let refused = parse::<Register>("rollouts/production/shop.json", MAX_REGISTER, body);
    refused.unwrap_err().to_string()
}

#[test]
fn unusable_registers_are_refused_with_their_key() {
    let newer = fixture!("register.json").replacen("\"version\": 1", "\"version\": 2", 1);
    assert!(refusal(newer.as_bytes()).contains("has version 2, and this trueup reads version 1"));
    for damaged in [
        "",
        "{",
        "[]",
        "null",
        "{\"version\": 1}",
        "{\"version\": \"1\"}",
    ] {
        let why = refusal(damaged.as_bytes());
        assert!(why.contains("rollouts/production/shop.json cannot be used: it is damaged"));
    }
    let large = vec![b' '; 10 << 20];
    assert!(refusal(&large).contains("10485760 bytes; at most 65536"));
}

#[test]
fn states_and_causes_of_a_newer_version_are_understood_or_refused() {
    let text = fixture!("register.json");
    let other = text.replace("\"once-step\"", "\"full-moon\"");
    let register: Register = parse("key", MAX_REGISTER, other.as_bytes()).unwrap();
    let halted = &register.entries[1];
    assert_eq!(
        halted.halt.as_ref().unwrap().cause,
        super::super::entry::HaltCause::Other
    );
    // An end that this version does not know could mean anything.
    let other = text.replace("\"superseded\"", "\"paused\"");
    assert!(refusal(other.as_bytes()).contains("damaged"));
}
