//! Failures that are a host's own: shown, and counted against nobody.

use super::*;
use crate::fleet::rollout::local_failure::LocalFailure;

fn build_failure(host: &HostRollout, reason: &str) -> LocalFailure {
    LocalFailure::new(
        &host.host.member.node,
        Some("build"),
        reason,
        "line 1\nline 2\n",
    )
}

/// A pass of a host whose build fails. Returns how often it asked the store.
fn fail_build(fleet: &Fleet, host: &HostRollout, reason: &str) -> usize {
    let before = fleet.store.calls.get();
    let failure = build_failure(host, reason);
    host.list_failure(Some(&failure)).unwrap();
    fleet.store.calls.get() - before
}

fn listed(fleet: &Fleet) -> Vec<String> {
    let register = fleet.register();
    let entry = register.current(&sha('1')).unwrap();
    let failures = entry.local_failures.iter();
    failures
        .map(|failure| format!("{}: {}", failure.node, failure.describe()))
        .collect()
}

#[test]
fn failed_build_is_listed_once_and_blocks_no_other_host() {
    let fleet = fleet(one_slot());
    let (web1, web2) = (fleet.host(1), fleet.host(2));
    assert!(fail_build(&fleet, &web1, "exit status 3 after 12 s") > 0);
    assert_eq!(
        listed(&fleet),
        ["web1: build failed: exit status 3 after 12 s"]
    );
    let entry = fleet.register().entries[0].clone();
    assert_eq!(entry.local_failures[0].log_tail, "line 1\nline 2\n");
    assert_eq!(entry.count.unwrap().hosts, 2, "nobody else had opened it");
    assert_eq!(
        fail_build(&fleet, &web1, "exit status 3 after 13 s"),
        0,
        "only the numbers differ"
    );
    deploy(&web2);
    assert!(fail_build(&fleet, &web1, "the disk is full") > 0);
    assert_eq!(listed(&fleet), ["web1: build failed: the disk is full"]);
}

#[test]
fn host_that_gets_further_is_listed_no_longer() {
    let fleet = fleet(one_slot());
    let (web1, web2) = (fleet.host(1), fleet.host(2));
    fail_build(&fleet, &web1, "no space");
    fail_build(&fleet, &web2, "no space");
    web1.list_failure(None).unwrap();
    assert_eq!(listed(&fleet), ["web2: build failed: no space"]);
    let before = fleet.store.calls.get();
    web1.list_failure(None).unwrap();
    assert_eq!(
        fleet.store.calls.get(),
        before,
        "there is nothing to remove"
    );
    // Its journal was lost.
    let reborn = fleet.host(2);
    deploy(&reborn);
    assert_eq!(listed(&fleet), [""; 0]);
}

#[test]
fn full_list_costs_further_hosts_one_read_and_no_write() {
    let fleet = fleet(one_slot());
    for number in 1..=20 {
        fail_build(&fleet, &fleet.host(number), "no such gem");
    }
    let (nonce, late) = (fleet.register().nonce, fleet.host(21));
    for _ in 0..2 {
        assert_eq!(fail_build(&fleet, &late, "no such gem"), 1);
    }
    let register = fleet.register();
    assert_eq!(register.nonce, nonce, "it was written");
    let failures = &register.entries[0].local_failures;
    assert!(failures.is_sorted_by_key(|failure| &failure.node));
    let tails = failures
        .iter()
        .filter(|failure| !failure.log_tail.is_empty());
    assert_eq!((failures.len(), tails.count()), (20, 5));
    fleet.host(3).list_failure(None).unwrap();
    deploy(&fleet.host(3));
    assert!(fail_build(&fleet, &late, "no such gem") > 1);
    assert_eq!(listed(&fleet).len(), 20, "there was room again");
}

#[test]
fn list_ends_with_its_entry_and_begins_again_with_the_next() {
    let fleet = fleet(one_slot());
    let web1 = fleet.host(1);
    fail_build(&fleet, &web1, "no such gem");
    let later = |generation, digit| HostRollout {
        sha: sha(digit),
        wanted: WantedShas {
            generation,
            shas: vec![sha(digit)],
            hold: None,
        },
        ..fleet.rollout_of("shop", digit, "web1".into(), &fleet.hosts.borrow()[0])
    };
    later(3, '2').list_failure(None).unwrap();
    fail_build(&fleet, &later(3, '2'), "no such gem");
    fail_build(&fleet, &later(4, '1'), "no such gem");
    let entries = fleet.register().entries;
    let lists = entries.iter().map(|entry| entry.local_failures.len());
    assert_eq!(lists.collect::<Vec<_>>(), [0, 0, 1]);
}

#[test]
fn failure_that_counts_or_a_halted_rollout_lists_nothing() {
    let fleet = fleet(RolloutPolicy {
        max_failures: Amount::Count(2),
        ..one_slot()
    });
    let (web1, web2) = (fleet.host(1), fleet.host(2));
    fail(&web1);
    fail_build(&fleet, &web1, "it is quarantined here");
    assert_eq!(listed(&fleet), [""; 0], "it counts already");
    fail(&web2);
    fail_build(&fleet, &fleet.host(3), "no such gem");
    assert_eq!(listed(&fleet), [""; 0], "the rollout is halted");
}

#[test]
fn host_that_may_not_write_is_not_listed_and_tries_again() {
    let fleet = fleet(one_slot());
    let (web1, web2) = (fleet.host(1), fleet.host(2));
    deploy(&web2);
    fleet.store.is_read_only.set(true);
    let failure = build_failure(&web1, "no space");
    assert!(web1.list_failure(Some(&failure)).is_err());
    fleet.store.is_read_only.set(false);
    web1.list_failure(Some(&failure)).unwrap();
    assert_eq!(listed(&fleet), ["web1: build failed: no space"]);
}

#[test]
fn hostile_and_endless_texts_are_escaped_and_cut() {
    let fleet = fleet(one_slot());
    let web1 = fleet.host(1);
    let long = "\u{1b}]0;x\u{7} \u{1f600}\n".repeat(100_000);
    let failure = LocalFailure::new("web1", Some("a\nb"), &long, &long);
    web1.list_failure(Some(&failure)).unwrap();
    web1.list_failure(Some(&failure)).unwrap();
    let entry = fleet.register().entries[0].clone();
    let listed = &entry.local_failures[0];
    assert_eq!(listed.stage.as_deref(), Some("a\\nb"));
    assert!(listed.reason.starts_with("\\x1b]0;x"), "{}", listed.reason);
    assert!(listed.reason.chars().count() <= 301);
    assert!(!listed.log_tail.contains('\u{1b}') && listed.log_tail.len() < 4 << 10);
    let empty = LocalFailure::new("web1", None, "", "");
    web1.list_failure(Some(&empty)).unwrap();
    assert_eq!(empty.describe(), "it failed: ");
}

#[test]
fn host_that_is_to_get_another_sha_is_listed_at_none_of_others() {
    for then_fails in [false, true] {
        let fleet = fleet(one_slot());
        let web1 = fleet.host(1);
        fail_build(&fleet, &web1, "no space");
        let retagged = HostRollout {
            sha: sha('2'),
            wanted: WantedShas {
                generation: 2,
                shas: vec![sha('1'), sha('2')],
                hold: None,
            },
            ..fleet.rollout_of("shop", '2', "web1".into(), &fleet.hosts.borrow()[0])
        };
        let failure = build_failure(&retagged, "no space");
        let failure = Some(&failure).filter(|_| then_fails);
        retagged.list_failure(failure).unwrap();
        assert_eq!(listed(&fleet), [""; 0]);
    }
}
