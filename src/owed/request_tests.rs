//! Restarts that an operator requests, which are on no disk.

use super::*;

const CAUSE: &str = "a rolling restart of shop";

fn run(id: &str) -> ServiceRun {
    ServiceRun {
        id: id.into(),
        started_at: Some("2026-11-30T08:00:00Z".parse().unwrap()),
        reloaded_at: None,
        reload_id: None,
    }
}

fn triggers() -> Vec<Trigger> {
    vec![Trigger {
        duty: Duty::Restart,
        on: vec![CAUSE.into()],
    }]
}

/// What the manifest requests; empty: nothing.
fn requested(fingerprint: &str) -> Stamps {
    let stamp = Stamp {
        fingerprint: fingerprint.into(),
        changed_at: None,
        is_request: true,
    };
    [(CAUSE.to_owned(), stamp)].into()
}

fn is_due(record: Option<&RunRecord>, id: &str, fingerprint: &str) -> bool {
    let due = due_obligations(record, Some(&run(id)), &triggers(), &requested(fingerprint));
    !due.is_empty()
}

/// The record of a run that has done all that is requested.
fn settled(record: Option<&RunRecord>, id: &str, fingerprint: &str) -> RunRecord {
    let (run, stamps) = (run(id), requested(fingerprint));
    updated_record(record, Some(&run), &triggers(), &stamps, &[Duty::Restart])
}

#[test]
fn each_request_is_one_restart_whoever_restarted_it_meanwhile() {
    let before = settled(None, "a", "");
    assert!(!is_due(Some(&before), "a", ""));
    assert!(is_due(Some(&before), "a", "one"));
    assert!(is_due(Some(&before), "b", "one"), "nobody knows when");
    let done = settled(Some(&before), "b", "one");
    assert!(!is_due(Some(&done), "b", "one") && !is_due(Some(&done), "c", "one"));
    assert!(is_due(Some(&done), "c", "two"));
    assert!(!is_due(None, "a", "one"), "it starts with the first record");
}

#[test]
fn manifest_that_loses_its_request_restarts_nothing() {
    let done = settled(None, "a", "one");
    assert!(!is_due(Some(&done), "a", "") && !is_due(Some(&done), "b", ""));
    let without = settled(Some(&done), "b", "");
    assert!(
        !is_due(Some(&without), "b", "one"),
        "it is the same request"
    );
    assert!(is_due(Some(&without), "b", "two"));
    // One that was open is open again.
    let open = updated_record(
        Some(&done),
        Some(&run("a")),
        &triggers(),
        &requested("two"),
        &[],
    );
    let without = settled(Some(&open), "a", "");
    assert!(is_due(Some(&without), "a", "two"));
}

#[test]
fn run_recorded_before_requests_were_known_is_restarted() {
    let old = RunRecord {
        run: Some("a".into()),
        ..RunRecord::default()
    };
    assert!(!is_due(Some(&old), "a", ""));
    assert!(is_due(Some(&old), "a", "one"));
    let open = updated_record(
        Some(&old),
        Some(&run("a")),
        &triggers(),
        &requested("one"),
        &[],
    );
    assert!(is_due(Some(&open), "a", "one"), "it stays due");
    assert!(
        !is_due(Some(&old), "b", "one"),
        "a run of which nothing is known"
    );
}
