//! Holds of the manifest.

use super::*;
use crate::desired::Hold;
use crate::release::commands::rollback::{pin, select_target};

#[test]
fn held_app_waits_and_names_the_holder() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    let mut spec = bench.spec(&sha, "");
    spec.hold = Some(Hold {
        sha: None,
        reason: "db maintenance".into(),
        by: "ana".into(),
        until: Some("2026-11-22T00:00:00Z".parse().unwrap()),
    });
    let held = "held by ana until 2026-11-22T00:00:00Z: db maintenance";
    let before = snapshot(&bench.host_path(""));
    assert_eq!(
        run_pass(&spec, &bench.host()),
        Ok(Some(ApplyOutcome::Waiting(held.into())))
    );
    assert_eq!(before, snapshot(&bench.host_path("")));
    // The one that it names is what the app is frozen at.
    spec.hold.as_mut().unwrap().sha = Some(sha);
    deploy_ok(&spec, &bench.host());
    spec.hold = Some(Hold {
        sha: None,
        reason: "r".into(),
        by: "b".into(),
        until: None,
    });
    assert_eq!(
        run_pass(&spec, &bench.host()),
        Ok(None),
        "a hold of what is right already"
    );
}

#[test]
fn host_goes_back_from_a_failed_sha_under_a_hold() {
    let bench = Bench::new();
    let (one, two) = (bench.commit(&[("a", "1")]), bench.commit(&[("a", "2")]));
    deploy_ok(&bench.spec(&one, ""), &bench.host());
    let mut spec = bench.spec(&two, "");
    deploy_ok(&spec, &bench.host());
    spec.hold = Some(Hold {
        sha: None,
        reason: "r".into(),
        by: "b".into(),
        until: None,
    });
    spec.set_instead(InsteadOfWanted {
        sha: one.clone(),
        why: "it failed on web2".into(),
    });
    deploy_ok(&spec, &bench.host());
    assert!(bench.active_name().unwrap().ends_with(one.short()));
}

#[test]
fn pin_over_a_hold_is_carried_out_by_a_later_pass() {
    let bench = Bench::new();
    let (one, two) = (bench.commit(&[("a", "1")]), bench.commit(&[("a", "2")]));
    deploy_ok(&bench.spec(&one, ""), &bench.host());
    let mut spec = bench.spec(&two, "");
    deploy_ok(&spec, &bench.host());
    spec.hold = Some(Hold {
        sha: Some(two),
        reason: "r".into(),
        by: "b".into(),
        until: None,
    });
    assert!(select_target(&spec, &bench.host(), None, false).is_err());
    let target = select_target(&spec, &bench.host(), None, true).unwrap();
    assert!(target.is_held && !target.wanted);
    pin(&spec, &bench.host(), &target, "ana".into(), None).unwrap();
    // The pass of the command found no free slot: this is one of the timer.
    deploy_ok(&spec, &bench.host());
    assert!(bench.active_name().unwrap().ends_with(one.short()));
}
