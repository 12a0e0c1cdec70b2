//! Which generation counts for a host.

use std::collections::BTreeMap;

use super::tests::SHA;
use super::*;
use crate::ports::store::{MemoryStore, Store, WriteCondition};
use crate::ports::testing::Sandbox;

struct Bench {
    store: MemoryStore,
    sandbox: Sandbox,
}

impl Bench {
    fn new() -> Bench {
        Bench {
            store: MemoryStore::new(),
            sandbox: Sandbox::empty(),
        }
    }

    /// The generation that a host of an environment acts on, or why it refuses this manifest.
    fn pass(&self, environment: &str, text: &str) -> Result<Option<u64>, String> {
        let (apps, none) = (["shop".to_owned()], BTreeMap::new());
        let node = NodeContext {
            environment,
            tags: &none,
            now: "2026-11-21T05:00:00Z".parse().unwrap(),
            last_answer: None,
            signers: None,
        };
        let body = text.replace("SHA", SHA);
        let when = WriteCondition::Always;
        self.store.put("m", body.as_bytes(), when).unwrap();
        let options = ReadOptions {
            force: false,
            save_last_good: true,
        };
        let desired = read(
            &self.store,
            "m",
            options,
            &self.sandbox.host,
            (&node, &apps),
        );
        let desired = desired.map_err(|error| error.to_string())?;
        match desired.freshness {
            Freshness::Refused(problem) => Err(problem.to_string()),
            _ => Ok(desired.generation),
        }
    }
}

#[test]
fn own_generation_of_an_environment_counts_instead_of_that_of_the_file() {
    let bench = Bench::new();
    let text = |file: u64, own: u64, other: u64| {
        format!(
            "generation: {file}\nproduction: {{_settings: {{generation: {own}}}, shop: SHA}}\nstaging: {{_settings: {{generation: {other}}}, shop: SHA}}\n"
        )
    };
    assert_eq!(bench.pass("production", &text(9, 5, 1)), Ok(Some(5)));
    // Others and the file may go back.
    assert_eq!(bench.pass("production", &text(1, 6, 0)), Ok(Some(6)));
    let refused = bench.pass("production", &text(7, 5, 9)).unwrap_err();
    assert!(
        refused.contains("m:2:38: generation: it is 5, and this host has applied 6: an older"),
        "{refused}"
    );
    // That of the file is no way around it.
    let refused = bench.pass("production", "generation: 5\nproduction: {shop: SHA}\n");
    assert!(
        refused
            .unwrap_err()
            .contains("it is 5, and this host has applied 6")
    );
    let refused = bench.pass("production", "staging: {shop: SHA}\n");
    assert!(
        refused
            .unwrap_err()
            .contains("it has none, and this host has applied 6")
    );
    let by_hand = "generation: 7\nproduction: {shop: SHA}\n";
    assert_eq!(bench.pass("production", by_hand), Ok(Some(7)));
}

#[test]
fn host_that_moves_to_another_environment_begins_with_its_generation() {
    let bench = Bench::new();
    let text = "production: {_settings: {generation: 50}, shop: SHA}\nstaging: {_settings: {generation: 2}, shop: SHA}\n";
    assert_eq!(bench.pass("production", text), Ok(Some(50)));
    assert_eq!(bench.pass("staging", text), Ok(Some(2)));
    let older = text.replace("generation: 2", "generation: 1");
    assert!(bench.pass("staging", &older).is_err());
}
