//! The register stays small, whatever happens.

use super::super::entry::HaltCause;
use super::super::fit::fit;
use super::super::local_failure::LocalFailure;
use super::super::object::{MAX_REGISTER, encode};
use super::super::register::Act;
use super::*;

#[test]
fn register_keeps_twenty_entries_and_drops_those_that_are_over_first() {
    let (mut register, _) = opened();
    for generation in 3..60 {
        let digit = ['2', '3'][generation % 2];
        let generation = u64::try_from(generation).unwrap();
        let shas = WantedShas {
            generation,
            shas: vec![sha('1'), sha(digit)],
            hold: None,
        };
        register.open(&sha(digit), &shas, OPENER);
    }
    assert_eq!(register.entries.len(), 20);
    assert_eq!(register.entries[0].id.sha, sha('1'), "it is open");
}

#[test]
fn entry_lists_a_hundred_failures_and_five_log_tails() {
    let (mut register, id) = opened();
    for attempt in 0..150 {
        register.record_failure(&id, 0, failure("web1", attempt), 1000);
    }
    let entry = register.entry(&id).unwrap();
    assert_eq!(entry.failure_count(), 150);
    assert_eq!(entry.failures.len(), 100);
    let tails = entry
        .failures
        .iter()
        .filter(|failure| !failure.log_tail.is_empty());
    assert_eq!(tails.count(), 5);
}

#[test]
fn longest_texts_fit_into_a_register() {
    let (mut register, _) = opened();
    let long = |length: usize| "\u{1f600}".repeat(length);
    let digits: Vec<char> = "123456789abcdef".chars().collect();
    let all: String = digits.iter().collect();
    for digit in &digits {
        register.open(&sha(*digit), &wanted(2, &all), OPENER);
        let id = register.current(&sha(*digit)).unwrap().id.clone();
        for attempt in 0..150 {
            let failure = HostFailure {
                reason: long(300),
                log_tail: long(512),
                ..failure(&"w".repeat(253), attempt)
            };
            register.record_failure(&id, 0, failure, 1000);
        }
        let entry = register.entries.iter_mut().find(|entry| entry.id == id);
        entry.unwrap().local_failures = (0..20)
            .map(|_| LocalFailure::new(&"w".repeat(253), Some(&long(300)), &long(300), &long(300)))
            .collect();
        register.halt(
            &id,
            HaltRecord::new(HaltCause::Environment, "web1", &long(1000)),
        );
    }
    for number in 0..40 {
        register.add_act(Act {
            at: Timestamp::UNIX_EPOCH,
            by: long(300),
            what: format!("{number}"),
            reason: long(300),
            signature: None,
        });
    }
    assert!(encode(&register).len() > MAX_REGISTER);
    assert!(fit(&mut register));
    assert!(encode(&register).len() <= MAX_REGISTER);
    for digit in digits {
        let entry = register.current(&sha(digit)).unwrap();
        assert_eq!(entry.failure_count(), 150, "all failures still count");
        assert!(entry.halt.is_some());
    }
}

#[test]
fn register_without_room_is_not_written() {
    let (mut register, _) = opened();
    register.entries[0].ignored = vec!["w".repeat(253); 400];
    assert!(!fit(&mut register));
}
