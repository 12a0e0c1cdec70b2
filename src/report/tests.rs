use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::desired::DesiredState;
use crate::resource::{Duty, DutyOutcome, FieldValue, Verb};

pub(super) fn row(status: ResourceStatus) -> ResourceReport {
    ResourceReport {
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

pub(super) fn report(rows: Vec<ResourceReport>) -> Report {
    let desired = DesiredState::empty();
    let heading = ReportHeader {
        node: "app-1",
        environment: "production",
        started: "2026-11-21T04:43:01.123Z".parse().unwrap(),
        took: Duration::from_millis(7),
        desired: &desired,
        apps: BTreeMap::new(),
        maintenance: BTreeMap::new(),
        policy: None,
        notes: Vec::new(),
        stopped: false,
    };
    Report::new(heading, rows, 3, None)
}

#[test]
fn every_end_has_its_own_outcome_and_the_worst_one_counts() {
    let cases = [
        (vec![], Exit::Converged),
        (vec![row(ResourceStatus::Changed)], Exit::Converged),
        (vec![row(ResourceStatus::Pending)], Exit::Pending),
        (
            vec![row(ResourceStatus::Changed), row(ResourceStatus::Waiting)],
            Exit::Waiting,
        ),
        (
            vec![row(ResourceStatus::Waiting), row(ResourceStatus::Failed)],
            Exit::Failed,
        ),
        (vec![row(ResourceStatus::Skipped)], Exit::Failed),
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
        report.compute_outcome()
    };
    let owing = || ResourceReport {
        owed: vec![Obligation {
            duty: Duty::Restart,
            causes: vec!["code".into()],
        }],
        ..row(ResourceStatus::Changed)
    };
    assert_eq!(stopped(vec![row(ResourceStatus::Changed)]), Exit::Converged);
    assert_eq!(stopped(vec![row(ResourceStatus::Skipped)]), Exit::Stopped);
    assert_eq!(stopped(vec![owing()]), Exit::Stopped);
    assert_eq!(report(vec![owing()]).outcome, Exit::Pending);
    let failed = vec![row(ResourceStatus::Skipped), row(ResourceStatus::Failed)];
    assert_eq!(stopped(failed), Exit::Failed);
}

#[test]
fn stale_and_refused_are_never_green() {
    let mut stale = report(vec![]);
    stale.stale = Some(Staleness {
        since: None,
        why: "down".into(),
    });
    assert_eq!(stale.compute_outcome(), Exit::Stale);
    let mut unpublished = report(vec![]);
    unpublished.mark_unpublished("this host is not published to its peers: 403".into());
    assert_eq!(unpublished.outcome, Exit::Stale);
    assert!(!unpublished.is_quiet());
    assert_eq!(
        unpublished.why().as_deref(),
        unpublished.publish_error.as_deref()
    );
    let json = serde_json::to_value(&unpublished).unwrap();
    assert_eq!(json["untold"], unpublished.publish_error.unwrap());
    let mut refused = report(vec![row(ResourceStatus::Waiting)]);
    refused.refused = Some("bad".into());
    assert_eq!(refused.compute_outcome(), Exit::BadInput);
}

#[test]
fn report_round_trips_through_json() {
    let mut changed = row(ResourceStatus::Changed);
    changed.change = Some(Change::new(Verb::Update).with_field(
        "mode",
        FieldValue::value("0644"),
        FieldValue::value("0600"),
    ));
    let obligation = Obligation {
        duty: Duty::Restart,
        causes: vec!["code".into()],
    };
    changed.paid = vec![FulfilledObligation::new(obligation, DutyOutcome::AsNamed)];
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
    let change =
        Change::new(Verb::Update).with_field("content", FieldValue::Secret, FieldValue::Secret);
    let paint = Paint::default();
    assert_eq!(
        change_line(paint, "file:/key", &change),
        "update file:/key (content (secret))"
    );
    assert!(diff_lines(paint, "file:/key", &change).is_empty());
}

#[test]
fn summary_line_counts_changes_restarts_and_failures() {
    let mut changed = row(ResourceStatus::Changed);
    let obligation = Obligation {
        duty: Duty::Restart,
        causes: vec!["code".into()],
    };
    changed.paid = vec![FulfilledObligation::new(obligation, DutyOutcome::AsNamed)];
    let report = report(vec![changed, row(ResourceStatus::Failed)]);
    assert_eq!(
        summary_line(Paint::default(), &report),
        "failed: 1 change, 1 restarted, 1 failed, 1 right (7 ms)"
    );
}

#[test]
fn runtime_update_is_no_reload() {
    let mut updated = row(ResourceStatus::Right);
    let obligation = Obligation {
        duty: Duty::Reload,
        causes: vec!["shop/config".into()],
    };
    let outcome = DutyOutcome::AtRuntime("+shop/web4".into());
    updated.paid = vec![FulfilledObligation::new(obligation.clone(), outcome)];
    let report = report(vec![updated]);
    assert_eq!(
        (report.counts.reloaded, report.counts.updated_at_runtime),
        (0, 1)
    );
    assert_eq!(
        summary_line(Paint::default(), &report),
        "converged: 0 changes, 1 updated at runtime, 3 right (7 ms)"
    );
    assert_eq!(
        runtime_update_line(
            Paint::default(),
            "service:haproxy",
            &obligation,
            "+shop/web4"
        ),
        "updated service:haproxy at runtime: +shop/web4 (because of shop/config)"
    );
    let json = serde_json::to_value(&report).unwrap();
    let paid = &json["resources"][0]["paid"][0];
    assert_eq!(paid["duty"], "reload");
    assert_eq!(paid["at_runtime"], "+shop/web4");
    assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report);
}

#[test]
fn own_colours_pass_the_filter_for_terminals() {
    let paint = Paint { colour: true };
    for painted in [
        paint.good("a"),
        paint.changed("a"),
        paint.bad("a"),
        paint.faint("a"),
        paint.strong("a"),
    ] {
        assert!(
            painted.starts_with("\x1b[") && painted.ends_with("a\x1b[0m"),
            "{painted:?}"
        );
        assert_eq!(crate::printable::styled(&painted), painted);
    }
}
