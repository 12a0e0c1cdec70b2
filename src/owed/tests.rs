use jiff::Timestamp;
use proptest::prelude::*;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn stamp(fingerprint: &str, changed: i64) -> Stamp {
    Stamp {
        fingerprint: fingerprint.into(),
        changed_at: Some(at(changed)),
        is_request: false,
    }
}

fn run(id: &str, started: i64) -> ServiceRun {
    ServiceRun {
        id: id.into(),
        started_at: Some(at(started)),
        reloaded_at: None,
        reload_id: None,
    }
}

fn restart() -> Vec<Trigger> {
    vec![Trigger {
        duty: Duty::Restart,
        on: vec!["conf".into()],
    }]
}

fn stamps(fingerprint: &str, changed: i64) -> Stamps {
    [("conf".to_owned(), stamp(fingerprint, changed))].into()
}

#[test]
fn restart_is_owed_exactly_while_recorded_and_disk_fingerprints_differ() {
    let record = updated_record(
        None,
        Some(&run("a", 10)),
        &restart(),
        &stamps("one", 5),
        &[],
    );
    assert!(
        due_obligations(
            Some(&record),
            Some(&run("a", 10)),
            &restart(),
            &stamps("one", 5)
        )
        .is_empty()
    );
    let obligations = due_obligations(
        Some(&record),
        Some(&run("a", 10)),
        &restart(),
        &stamps("two", 20),
    );
    assert_eq!(
        obligations,
        [Obligation {
            duty: Duty::Restart,
            causes: vec!["conf".into()]
        }]
    );
    // Changed back before any restart: the running service is up to date again.
    assert!(
        due_obligations(
            Some(&record),
            Some(&run("a", 10)),
            &restart(),
            &stamps("one", 30)
        )
        .is_empty()
    );
}

#[test]
fn foreign_restart_counts_only_after_the_change() {
    let record = updated_record(
        None,
        Some(&run("a", 10)),
        &restart(),
        &stamps("one", 5),
        &[],
    );
    let after = run("b", 30);
    let before = run("b", 15);
    assert!(
        due_obligations(Some(&record), Some(&after), &restart(), &stamps("two", 20)).is_empty()
    );
    assert!(
        !due_obligations(Some(&record), Some(&before), &restart(), &stamps("two", 20)).is_empty()
    );
}

#[test]
fn a_clock_set_back_within_one_run_does_not_lose_a_restart() {
    // Started at 100 by a clock that ran ahead; then the clock was corrected and the file changed at 20.
    let record = updated_record(
        None,
        Some(&run("a", 100)),
        &restart(),
        &stamps("one", 5),
        &[],
    );
    assert!(
        !due_obligations(
            Some(&record),
            Some(&run("a", 100)),
            &restart(),
            &stamps("two", 20)
        )
        .is_empty()
    );
}

#[test]
fn obligation_stays_recorded_until_fulfilled() {
    let record = updated_record(
        None,
        Some(&run("a", 10)),
        &restart(),
        &stamps("one", 5),
        &[],
    );
    let still = updated_record(
        Some(&record),
        Some(&run("a", 10)),
        &restart(),
        &stamps("two", 20),
        &[],
    );
    assert_eq!(still, record);
    let paid = updated_record(
        Some(&record),
        Some(&run("b", 21)),
        &restart(),
        &stamps("two", 20),
        &[Duty::Restart],
    );
    assert!(
        due_obligations(
            Some(&paid),
            Some(&run("b", 21)),
            &restart(),
            &stamps("two", 20)
        )
        .is_empty()
    );
}

#[test]
fn without_a_record_timestamps_decide_what_is_owed() {
    assert!(due_obligations(None, Some(&run("a", 10)), &restart(), &stamps("one", 5)).is_empty());
    assert!(!due_obligations(None, Some(&run("a", 10)), &restart(), &stamps("one", 20)).is_empty());
}

#[test]
fn stopped_service_owes_nothing() {
    assert!(due_obligations(None, None, &restart(), &stamps("one", 20)).is_empty());
}

#[test]
fn owed_reload_is_fulfilled_by_any_later_reload_or_start() {
    let triggers = vec![Trigger {
        duty: Duty::Reload,
        on: vec!["conf".into()],
    }];
    let record = updated_record(None, Some(&run("a", 10)), &triggers, &stamps("one", 5), &[]);
    let owed = |run: &ServiceRun| {
        !due_obligations(Some(&record), Some(run), &triggers, &stamps("two", 20)).is_empty()
    };
    assert!(owed(&run("a", 10)));
    assert!(!owed(&run("b", 25)));
    assert!(!owed(&ServiceRun {
        reloaded_at: Some(at(30)),
        reload_id: Some("30".into()),
        ..run("a", 10)
    }));
}

#[test]
fn reload_is_recognized_although_its_computed_time_varies() {
    let triggers = vec![Trigger {
        duty: Duty::Reload,
        on: vec!["conf".into()],
    }];
    let reloaded_at = |nanos| ServiceRun {
        reloaded_at: Some(at(30) + jiff::SignedDuration::from_nanos(nanos)),
        reload_id: Some("30".into()),
        ..run("a", 10)
    };
    let (one, two) = (stamps("one", 20), stamps("two", 25));
    let record = updated_record(None, Some(&reloaded_at(0)), &triggers, &one, &[]);
    let again = updated_record(Some(&record), Some(&reloaded_at(7)), &triggers, &one, &[]);
    assert_eq!(again, record, "reading it rewrote the record");
    // The record decides, not the times: the clock may have been set back since the reload.
    assert!(!due_obligations(Some(&record), Some(&reloaded_at(7)), &triggers, &two).is_empty());
}

#[test]
fn a_command_runs_once_for_every_change() {
    let triggers = vec![Trigger {
        duty: Duty::Run,
        on: vec!["conf".into()],
    }];
    assert!(!due_obligations(None, None, &triggers, &stamps("one", 5)).is_empty());
    let record = updated_record(None, None, &triggers, &stamps("one", 5), &[Duty::Run]);
    assert!(due_obligations(Some(&record), None, &triggers, &stamps("one", 5)).is_empty());
    assert!(!due_obligations(Some(&record), None, &triggers, &stamps("two", 6)).is_empty());
    assert!(
        due_obligations(None, None, &triggers, &Stamps::new()).is_empty(),
        "nothing is there to run it for"
    );
}

#[derive(Debug, Clone)]
enum PassEvent {
    Change(u8),
    Foreign,
    Pass { killed_before_record: bool },
}

fn events() -> impl Strategy<Value = Vec<PassEvent>> {
    let event = prop_oneof![
        (0..3u8).prop_map(PassEvent::Change),
        Just(PassEvent::Foreign),
        any::<bool>().prop_map(|killed_before_record| PassEvent::Pass {
            killed_before_record
        }),
    ];
    proptest::collection::vec(event, 1..30)
}

proptest! {
    /// After any sequence of events and one complete pass, the service runs with what is on disk, and a pass
    /// restarts only a service that does not.
    #[test]
    fn no_restart_is_lost_and_none_is_repeated(events in events()) {
        let mut now = 0;
        let (mut disk, mut changed) = (0u8, 0);
        let mut running = (0u32, 0i64, 0u8); // run, start time, content it runs with
        let mut record: Option<RunRecord> = None;
        for event in events.into_iter().chain([PassEvent::Pass { killed_before_record: false }]) {
            now += 1;
            match event {
                PassEvent::Change(value) if value == disk => {}
                PassEvent::Change(value) => (disk, changed) = (value, now),
                PassEvent::Foreign => running = (running.0 + 1, now, disk),
                PassEvent::Pass { killed_before_record } => {
                    let this = run(&running.0.to_string(), running.1);
                    let stamps = stamps(&disk.to_string(), changed);
                    let owed = !due_obligations(record.as_ref(), Some(&this), &restart(), &stamps).is_empty();
                    prop_assert!(owed || running.2 == disk, "a restart was lost");
                    prop_assert!(!owed || running.2 != disk || changed >= running.1, "a restart was repeated");
                    let paid = if owed {
                        now += 1;
                        running = (running.0 + 1, now, disk);
                        vec![Duty::Restart]
                    } else {
                        Vec::new()
                    };
                    if !killed_before_record {
                        let this = run(&running.0.to_string(), running.1);
                        record = Some(updated_record(record.as_ref(), Some(&this), &restart(), &stamps, &paid));
                    }
                }
            }
        }
    }
}

#[test]
fn reload_that_did_not_succeed_stays_owed_whoever_reloads_next() {
    let triggers = vec![Trigger {
        duty: Duty::Reload,
        on: vec!["conf".into()],
    }];
    let before = updated_record(None, Some(&run("a", 10)), &triggers, &stamps("one", 5), &[]);
    let due = |record: &RunRecord, run: &ServiceRun| {
        !due_obligations(Some(record), Some(run), &triggers, &stamps("two", 20)).is_empty()
    };
    let reloaded = ServiceRun {
        reloaded_at: Some(at(30)),
        reload_id: Some("second".into()),
        ..run("a", 10)
    };
    assert!(!due(&before, &reloaded), "an operator's own reload counts");
    let mut marked = before;
    marked.mark_owed(Duty::Reload, "conf");
    assert!(due(&marked, &run("a", 10)) && due(&marked, &reloaded));
    assert!(!due(&marked, &run("b", 40)), "a restart takes it up");
    let done = updated_record(
        Some(&marked),
        Some(&reloaded),
        &triggers,
        &stamps("two", 20),
        &[Duty::Reload],
    );
    assert!(!due(&done, &reloaded));
}

#[test]
fn failed_reload_stays_owed_whatever_the_record_was_about() {
    let triggers = vec![Trigger {
        duty: Duty::Reload,
        on: vec!["conf".into()],
    }];
    let of_another_run =
        updated_record(None, Some(&run("a", 1)), &triggers, &stamps("one", 0), &[]);
    let b = run("b", 10);
    let of_another_run = updated_record(
        Some(&of_another_run),
        Some(&b),
        &triggers,
        &stamps("drift", 11),
        &[],
    );
    let now = stamps("two", 12);
    let without_the_file = updated_record(None, Some(&b), &triggers, &now, &[]);
    for record in [of_another_run, without_the_file] {
        assert!(!due_obligations(Some(&record), Some(&b), &triggers, &now).is_empty());
        let marked = record_of_unproven_reload(Some(&record), Some(&b), &triggers, &now);
        // It failed; systemd notes its time all the same.
        let reloaded = ServiceRun {
            reloaded_at: Some(at(13)),
            reload_id: Some("x".into()),
            ..run("b", 10)
        };
        let due = due_obligations(Some(&marked), Some(&reloaded), &triggers, &now);
        assert_eq!(due.len(), 1, "{marked:?}");
        let done = updated_record(
            Some(&marked),
            Some(&reloaded),
            &triggers,
            &now,
            &[Duty::Reload],
        );
        assert!(due_obligations(Some(&done), Some(&reloaded), &triggers, &now).is_empty());
    }
}
