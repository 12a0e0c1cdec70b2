//! The scenarios. Each is described by its name: two hosts that serve the old sha, one slot, a good sha, and what the
//! words say. Others may come between any two calls of a host but a read and the compare-and-swap that follows from it.

use std::time::Duration;

use super::operator::Act;
use super::scenario::{Grain, Scenario};
use crate::desired::{Amount, Canary, CanaryHosts, RolloutPolicy};
use crate::fleet::rollout::once::OnceOutcome;

/// Scenarios that each change has to pass.
pub(super) const SHORT: &[&str] = &[
    // The sha is good, and everything else goes wrong.
    "by call",
    "3 hosts, by reads",
    "3 hosts, 2 slots, by reads",
    "4 hosts, by reads",
    "crash, by reads",
    "lost reply, by reads",
    "late write, by reads",
    "duplicate",
    "pause",
    "crash, late write, by reads",
    "2 slots, groups",
    "3 hosts, 2 slots, groups, by reads",
    "twins, crash, by reads",
    "gone, recounts",
    "all at once, gone, recounts, by reads",
    // The sha, or what it depends on, does not work.
    "bad, by call",
    "3 hosts, 2 slots, bad, by reads",
    "bad, pause",
    "2 slots, bad, pause, by reads",
    "bad, crash, by reads",
    "bad, lost reply, by reads",
    "bad, late write, by reads",
    "bad, gone",
    "bad on one",
    "bad on one, 2 failures",
    "bad on one, 2 failures, lost reply, by reads",
    "3 hosts, bad, 2 failures, by reads",
    "environment",
    "3 hosts, 2 slots, environment, by reads",
    "environment, crash, by reads",
    // Hosts that go first.
    "canary, by call",
    "3 hosts, 2 slots, canary, by reads",
    "canary, crash, by reads",
    "canary, late write, by reads",
    "canary, bad",
    "canary, nobody matches",
    "canary, gone, recounts",
    "canary, nobody matches, skip-canary",
    "canary, published, by reads",
    // A step that one host runs for all.
    "2 slots, step, by reads",
    "2 slots, step, crash, by reads",
    "2 slots, step, lost reply, by reads",
    "2 slots, step, late write, by reads",
    "2 slots, step, step fails, by reads",
    "2 slots, step, gone, by reads",
    // Hosts that serve nothing yet.
    "1 host, newcomer",
    "1 host, newcomer, crash, by reads",
    "newcomer, by reads",
    "1 host, newcomer, bad",
    "1 host, newcomer, gone, recounts, by reads",
    "nobody serves, 2 newcomers",
    "nobody serves, 2 newcomers, bad",
    "1 host, newcomer, canary",
    "1 host, newcomer, published, by reads",
    // Another sha is published at any moment.
    "published, by reads",
    "2 slots, published, by reads",
    "bad, published, by reads",
    "published, late write, by reads",
    "published, pause, by reads",
    "1 host, published and back",
    // An operator acts at any moment.
    "break-slot, by reads",
    "bad, lift, by reads",
    "environment, resume, by reads",
    "restored",
    "restored, reset, by reads",
];

/// Larger ones: `tests/run long`.
pub(super) const LONG: &[&str] = &[
    "crash",
    "lost reply",
    "late write",
    "twins, crash",
    "2 slots, bad, pause",
    "bad, crash",
    "bad, lost reply",
    "bad, late write",
    "bad on one, 2 failures, lost reply",
    "environment, crash",
    "canary, crash",
    "canary, late write",
    "2 slots, step",
    "1 host, newcomer, crash",
    "2 slots, by call",
    "3 hosts, 2 slots, step, by reads",
    "2 slots, step, published, by reads",
    "break-slot, crash, by reads",
    "step, published with canary, crash, by reads",
    "canary, published, late write, by reads",
    "3 hosts",
    "3 hosts, 2 slots",
    "4 hosts, 2 slots, by reads",
    "2 crashes, by call",
    "all faults, by reads",
    "2 late writes",
    "3 hosts, crash, by reads",
    "3 hosts, late write, by reads",
    "3 hosts, 2 gone, recounts, by reads",
    "3 hosts, all at once, gone, recounts, by reads",
    "bad, all faults, by reads",
    "3 hosts, 2 slots, bad, pause, by reads",
    "4 hosts, 2 slots, bad, 2 failures, by reads",
    "bad on one, 2 failures, ignore",
    "environment, all faults, by reads",
    "environment, resume",
    "3 hosts, canary, crash, by reads",
    "canary, all faults, by reads",
    "2 slots, step, crash",
    "2 slots, step, late write",
    "step, published",
    "2 slots, step, canary, published, crash, by reads",
    "step, step fails, crash, retry step, by reads",
    "nobody serves, 3 newcomers, step, crash, by reads",
    "1 host, newcomer, published",
    "2 newcomers, by reads",
    "published",
    "published and back, by reads",
    "published and back, late write, by reads",
    "published, crash, by reads",
    "3 hosts, published, by reads",
    "break-slot, late write, by reads",
    "break-slot, late write",
    "3 hosts, break-slot, by reads",
    "3 hosts, break-slot, crash, by reads",
    "bad, lift, crash, by reads",
    "2 slots, bad, lift, by reads",
];

/// The scenario with this name.
pub(super) fn named(name: &'static str) -> Scenario {
    let mut scenario = Scenario::new(name);
    for word in name.split(", ") {
        apply(&mut scenario, word);
    }
    scenario
}

fn apply(scenario: &mut Scenario, word: &str) {
    let (count, what) = match word.split_once(' ') {
        Some((digits, what)) if digits.parse::<u8>().is_ok() => (digits.parse().unwrap(), what),
        _ => (1, word),
    };
    let faults = &mut scenario.faults;
    match what {
        "host" | "hosts" => scenario.serving = count.into(),
        "nobody serves" => scenario.serving = 0,
        "newcomer" | "newcomers" => scenario.newcomers = count.into(),
        "twins" => scenario.has_twins = true,
        "all at once" => scenario.policy.max_unavailable = Amount::Percent(100),
        "slots" => scenario.policy.max_unavailable = Amount::Count(count.into()),
        "groups" => scenario.policy.per = Some("zone".to_owned()),
        "failures" => scenario.policy.max_failures = Amount::Count(count.into()),
        "by call" => scenario.grain = Grain::Call,
        "by reads" => scenario.grain = Grain::Reads,
        "recounts" => scenario.recounts = true,
        "crash" | "crashes" => faults.crashes = count,
        "gone" => faults.departures = count,
        "lost reply" => faults.lost_replies = count,
        "late write" | "late writes" => faults.late_writes = count,
        "duplicate" => faults.duplicates = count,
        "pause" => faults.pauses = count,
        "all faults" => {
            faults.crashes = 1;
            faults.lost_replies = 1;
            faults.late_writes = 1;
            faults.duplicates = 1;
            faults.pauses = 1;
        }
        "bad" => scenario.bad_hosts = u8::MAX,
        "bad on one" => scenario.bad_hosts = 1,
        "environment" => scenario.is_environment_broken = true,
        "canary" => scenario.policy = with_canary(&scenario.policy),
        "restored" => scenario.is_restored = true,
        "nobody matches" => scenario.matches_canary = false,
        "step" => scenario.has_step = true,
        "step fails" => faults.step_failures = count,
        "published" => faults.publishes = 1,
        "published and back" => faults.publishes = 2,
        "published with canary" => {
            faults.publishes = 1;
            scenario.next_policy = Some(with_canary(&scenario.policy));
        }
        "break-slot" => scenario.acts.push(Act::BreakSlot(0)),
        "lift" => scenario.acts.push(Act::Lift),
        "reset" => scenario.acts.push(Act::Reset),
        "skip-canary" => scenario.acts.push(Act::SkipCanary),
        "ignore" => scenario.acts.push(Act::Ignore(0)),
        "retry step" => scenario.acts.push(Act::ResolveStep(OnceOutcome::Retry)),
        "resume" => scenario.acts = vec![Act::RepairEnvironment, Act::Resume],
        _ => panic!("what is `{word}`?"),
    }
}

/// The first host by name goes first.
fn with_canary(policy: &RolloutPolicy) -> RolloutPolicy {
    RolloutPolicy {
        canary: Some(Canary {
            hosts: CanaryHosts::First(1),
            bake: Duration::ZERO,
        }),
        ..policy.clone()
    }
}
