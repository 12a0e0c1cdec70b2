use super::*;
use crate::resource::{Duty, Shown, Verb};

pub(super) fn row(status: Status) -> Row {
    Row {
        id: "file:/a".into(),
        kind: "file".into(),
        status,
        change: None,
        why: None,
        hint: None,
        paid: Vec::new(),
        owed: Vec::new(),
    }
}

pub(super) fn report(rows: Vec<Row>) -> Report {
    let desired = Desired::nothing();
    let heading = Heading {
        node: "app-1",
        environment: "production",
        started: "2026-11-21T04:43:01.123Z".parse().unwrap(),
        took: Duration::from_millis(7),
        desired: &desired,
        apps: BTreeMap::new(),
        notes: Vec::new(),
        stopped: false,
    };
    Report::new(heading, rows, 3, None)
}

#[test]
fn every_end_has_its_own_outcome_and_the_worst_one_counts() {
    let cases = [
        (vec![], Exit::Converged),
        (vec![row(Status::Changed)], Exit::Converged),
        (vec![row(Status::Pending)], Exit::Pending),
        (
            vec![row(Status::Changed), row(Status::Waiting)],
            Exit::Waiting,
        ),
        (
            vec![row(Status::Waiting), row(Status::Failed)],
            Exit::Failed,
        ),
        (vec![row(Status::Skipped)], Exit::Failed),
    ];
    for (rows, expected) in cases {
        assert_eq!(report(rows).outcome, expected);
    }
}

#[test]
fn stopped_pass_fails_only_when_a_resource_failed() {
    let stopped = |rows| {
        let report = Report {
            stopped: true,
            ..report(rows)
        };
        report.verdict()
    };
    let owing = || Row {
        owed: vec![Debt {
            duty: Duty::Restart,
            causes: vec!["code".into()],
        }],
        ..row(Status::Changed)
    };
    assert_eq!(stopped(vec![row(Status::Changed)]), Exit::Converged);
    assert_eq!(stopped(vec![row(Status::Skipped)]), Exit::Stopped);
    assert_eq!(stopped(vec![owing()]), Exit::Stopped);
    assert_eq!(report(vec![owing()]).outcome, Exit::Pending);
    let failed = vec![row(Status::Skipped), row(Status::Failed)];
    assert_eq!(stopped(failed), Exit::Failed);
}

#[test]
fn stale_and_refused_are_never_green() {
    let mut stale = report(vec![]);
    stale.stale = Some(Stale {
        since: None,
        why: "down".into(),
    });
    assert_eq!(stale.verdict(), Exit::Stale);
    let mut untold = report(vec![]);
    untold.is_untold("peers do not learn of this host: 403".into());
    assert_eq!(untold.outcome, Exit::Stale);
    assert!(!untold.is_quiet());
    assert_eq!(untold.why().as_deref(), untold.untold.as_deref());
    let mut refused = report(vec![row(Status::Waiting)]);
    refused.refused = Some("bad".into());
    assert_eq!(refused.verdict(), Exit::BadInput);
}

#[test]
fn report_round_trips_through_json() {
    let mut changed = row(Status::Changed);
    changed.change =
        Some(Change::new(Verb::Update).with("mode", Shown::value("0644"), Shown::value("0600")));
    changed.paid = vec![Debt {
        duty: Duty::Restart,
        causes: vec!["code".into()],
    }];
    let report = report(vec![changed]);
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    assert_eq!(report.run, "20261121T044301.123Z");
}

#[test]
fn the_first_version_of_a_report_can_still_be_read() {
    let text = include_str!("fixtures/report-v1.json");
    let report: Report = serde_json::from_str(text).unwrap();
    assert_eq!((report.version, report.counts.restarted), (1, 1));
}

#[test]
fn a_secret_is_never_in_what_is_shown() {
    let change = Change::new(Verb::Update).with("content", Shown::Secret, Shown::Secret);
    let paint = Paint::default();
    assert_eq!(
        change_lines(paint, "file:/key", &change),
        "~ update file:/key (content (secret))"
    );
    assert!(diff_lines(paint, "file:/key", &change).is_empty());
}

#[test]
fn summary_line_counts_changes_restarts_and_failures() {
    let mut changed = row(Status::Changed);
    changed.paid = vec![Debt {
        duty: Duty::Restart,
        causes: vec!["code".into()],
    }];
    let report = report(vec![changed, row(Status::Failed)]);
    assert_eq!(
        totals(Paint::default(), &report),
        "failed: 1 change, 1 restarted, 1 failed, 1 right (7 ms)"
    );
}
