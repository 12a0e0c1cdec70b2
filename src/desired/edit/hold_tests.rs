//! Holds that `publish` sets and ends.

use super::tests::{after, assert_edits, assert_refused, edited};

#[test]
fn hold_names_the_published_sha_whatever_the_entry_looked_like() {
    let written = "    hold:\n      sha: B\n      reason: bad\n      by: ana\n";
    let meta = "    previous: A\n    by: ana\n    at: 2026-11-21T04:43:01Z\n";
    assert_edits(&[
        (
            "generation: 1\nproduction:\n  shop: A\n",
            "shop=B --hold bad",
            &format!("generation: 1\nproduction:\n  shop:\n    sha: B\n{meta}{written}"),
        ),
        (
            "generation: 1\nproduction:\n  shop:\n    sha: A # now\n    next: C\n",
            "shop=B --hold bad",
            &format!(
                "generation: 1\nproduction:\n  shop:\n    sha: B # now\n{meta}    next: C\n{written}"
            ),
        ),
        (
            "generation: 1\nproduction:\n  shop: {sha: A}\n",
            "shop=A --hold bad --until 2026-11-22T00:00:00Z",
            "generation: 1\nproduction:\n  shop: {sha: A, hold: {sha: A, reason: bad, by: ana, until: 2026-11-22T00:00:00Z}}\n",
        ),
        (
            "generation: 1\nproduction:\n  web: A\n",
            "shop=B --hold bad --create",
            &format!(
                "generation: 1\nproduction:\n  web: A\n  shop:\n    sha: B\n    by: ana\n    at: 2026-11-21T04:43:01Z\n{written}"
            ),
        ),
    ]);
}

#[test]
fn hold_replaces_an_earlier_one_field_by_field() {
    let before = "generation: 1\nproduction:\n  shop:\n    sha: B\n    hold: {reason: db, by: bob, until: 2026-11-22T00:00:00Z} # ask\n";
    assert_eq!(
        after(before, "shop=B --hold bad"),
        "generation: 1\nproduction:\n  shop:\n    sha: B\n    hold: {reason: bad, by: ana, until: null, sha: B} # ask\n"
    );
    let empty = "generation: 1\nproduction:\n  shop:\n    sha: B\n    hold: ~\n";
    assert!(after(empty, "shop=B --hold bad").contains("reason: bad"));
    let same =
        "generation: 1\nproduction:\n  shop: {sha: B, hold: {sha: B, reason: bad, by: ana}}\n";
    assert!(edited(same, "shop=B --hold bad").unwrap().body.is_none());
}

#[test]
fn lifted_hold_ends_now_and_stays_on_record() {
    let before = "generation: 1\nproduction:\n  shop: {sha: A, hold: {reason: db, by: bob}}\n";
    let after = after(before, "shop=A --lift-hold");
    assert_eq!(
        after,
        "generation: 1\nproduction:\n  shop: {sha: A, hold: {reason: db, by: bob, until: 2026-11-21T04:43:01Z}}\n"
    );
    assert!(edited(&after, "shop=A --lift-hold").unwrap().body.is_none());
    let none = "generation: 1\nproduction:\n  shop: A\n";
    assert!(edited(none, "shop=A --lift-hold").unwrap().body.is_none());
}

#[test]
fn later_sha_is_published_behind_the_hold_with_a_warning() {
    let before =
        "generation: 1\nproduction:\n  shop: {sha: A, hold: {sha: A, reason: bad, by: ana}}\n";
    let warnings = edited(before, "shop=B").unwrap().warnings;
    assert!(
        warnings[0]
            .to_string()
            .contains("no host deploys the new sha"),
        "{warnings:?}"
    );
    assert!(
        edited(before, "shop=A").unwrap().warnings.is_empty(),
        "it is held there"
    );
    assert!(
        edited(before, "shop=B --lift-hold")
            .unwrap()
            .warnings
            .is_empty()
    );
}

#[test]
fn endless_reason_is_refused_and_nothing_is_written() {
    let long = format!("shop=B --hold {}", "x".repeat(5000));
    let before = "generation: 1\nproduction:\n  shop: A\n";
    assert_refused(&[(
        before,
        &long,
        "m.yml:10:15: shop.hold.reason: it is 5000 characters long",
    )]);
}

#[test]
fn hold_that_is_over_already_is_refused() {
    let before = "generation: 1\nproduction:\n  shop: A\n";
    assert_refused(&[(
        before,
        "shop=B --hold bad --until 2026-11-21T04:43:01Z",
        "a hold until 2026-11-21T04:43:01Z is over already",
    )]);
}
