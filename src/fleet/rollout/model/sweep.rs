//! The tests: all scenarios, and all rules of the protocol that are switched off one at a time.

use super::checker::check;
use super::scenarios::{LONG, SHORT, named};
use crate::fleet::rollout::mutation::Mutation;

/// Worlds of a scenario at most.
const LIMIT: usize = 5_000_000;

/// Explores scenarios, and prints what there was.
fn explore(names: &[&'static str]) {
    let mut broken = Vec::new();
    println!("| scenario | states | transitions | ends | seconds |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for name in names {
        let verdict = check(&named(name), None, LIMIT);
        let seconds = verdict.elapsed.as_secs_f64();
        println!(
            "| {name} | {} | {} | {} | {seconds:.1} |",
            verdict.states, verdict.transitions, verdict.mended
        );
        match verdict.broken {
            Some((property, steps)) => broken.push(format!("{name}: {property}: {steps:?}")),
            None => assert!(verdict.is_complete, "{name} has too many states"),
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn invariants_hold_in_all_worlds() {
    explore(SHORT);
}

/// Only where somebody has the time: `tests/run long`.
#[test]
fn invariants_hold_in_all_worlds_of_larger_scenarios() {
    #[expect(clippy::disallowed_methods, reason = "a setting of the test itself")]
    let is_wanted = std::env::var_os("TRUEUP_LONG_MODEL").is_some();
    if is_wanted {
        explore(LONG);
    }
}

/// Each rule, and a scenario in which it matters.
const MUTATIONS: &[(Mutation, &str)] = &[
    (Mutation::SlotFreedBeforeFailure, "bad, by call"),
    (Mutation::NoSecondAssessment, "bad, by call"),
    (
        Mutation::NoAssessmentAfterPause,
        "2 slots, bad, pause, by reads",
    ),
    (Mutation::FreeSlotWithoutNonce, "late write, by reads"),
    (Mutation::OwnershipByName, "twins, crash, by reads"),
    (Mutation::SlotExpires, "by call"),
    (Mutation::SlotNotedAfterWrite, "crash, by reads"),
    (
        Mutation::LateSlotWriteForgotten,
        "canary, published, late write, by reads",
    ),
    (
        Mutation::MarkKeptOnTrial,
        "published and back, late write, by reads",
    ),
    (
        Mutation::FreeSlotUnderWayForgotten,
        "published, late write, by reads",
    ),
    (Mutation::EmptyCanaryPasses, "canary, nobody matches"),
    (
        Mutation::CanaryPassesWithoutProof,
        "3 hosts, 2 slots, canary, by reads",
    ),
    (
        Mutation::FailureWithoutKey,
        "bad on one, 2 failures, lost reply, by reads",
    ),
    (Mutation::ClaimWithoutSecondRead, "2 slots, step"),
    (Mutation::ClaimReleasedBeforeResult, "2 slots, step"),
    (Mutation::ClaimPerSha, "2 slots, step, published, by reads"),
    (Mutation::OldManifestOpens, "published"),
    (Mutation::LiftWithoutEpoch, "bad, lift, by reads"),
    (Mutation::FailureWithoutEpoch, "bad, lift, crash, by reads"),
    (Mutation::DoneWithoutMarks, "by call"),
    (Mutation::BreakWithoutNonce, "3 hosts, break-slot, by reads"),
    (Mutation::BothGroupsYield, "2 slots, groups"),
    (Mutation::OnlyOpenerCounts, "canary, crash, by reads"),
    (
        Mutation::ClaimKeptWhileBlocked,
        "step, published with canary, crash, by reads",
    ),
    (Mutation::EndedForEver, "1 host, published and back"),
];

#[test]
fn every_broken_rule_breaks_an_invariant() {
    let mut missed = Vec::new();
    println!("| rule that is broken | scenario | found by | states | steps |");
    println!("| --- | --- | --- | ---: | ---: |");
    for (mutation, name) in MUTATIONS {
        let verdict = check(&named(name), Some(*mutation), LIMIT);
        match verdict.broken {
            Some((property, steps)) => println!(
                "| {mutation:?} | {name} | {property} | {} | {} |",
                verdict.states,
                steps.len()
            ),
            None => missed.push(format!("{mutation:?} in {name}")),
        }
    }
    assert!(missed.is_empty(), "not found: {}", missed.join(", "));
}
