use super::restart::RequestedRestart;
use super::tests::{observe, put, store, with_target};
use super::*;
use crate::exit::Exit;
use crate::operate::publish::testing::Unsigned;
use crate::ports::store::{MemoryStore, Store};

fn request(store: &MemoryStore, app: &str) -> Result<RequestedRestart, String> {
    let requested = with_target(store, app, |target| {
        let publisher = Unsigned {
            store: target.store,
            key: target.manifest_key,
        };
        request_restart(
            target,
            ("ana", "it leaks", Timestamp::UNIX_EPOCH),
            &publisher,
        )
    });
    requested.map_err(|error| {
        let problems = error.problems().into_iter();
        problems.map(|problem| problem.to_string()).collect()
    })
}

fn restart(store: &MemoryStore, app: &str) -> Result<u64, String> {
    let requested = request(store, app)?;
    assert!(requested.unrecorded.is_none());
    Ok(requested.generation.unwrap())
}

#[test]
fn restart_is_under_way_until_every_proven_host_has_marked_it() {
    let store = store("");
    let sha = "1".repeat(40);
    let done = format!(
        r#"{{"version": 1, "environment": "production", "app": "shop", "nonce": "00000000000000c3", "slots": 1,
        "entries": [{{"sha": "{sha}", "generation": 0, "opened": "2026-11-29T10:00:07Z", "opened_by": "web1", "epoch": 0,
        "end": "done", "was_done": true}}]}}"#
    );
    put(&store, "rollouts/production/shop.json", &done);
    // Of the third only the mark is left.
    for node in ["web1", "web2", "web3"] {
        put(&store, &format!("at/production/shop/{sha}/{node}"), "");
    }
    for node in ["web1", "web2"] {
        put(&store, &format!("nodes/production/{node}.json"), "{}");
    }
    assert_eq!(observe(&store, "shop").unwrap().outcome, Exit::Converged);
    assert_eq!(restart(&store, "shop"), Ok(1));
    let view = observe(&store, "shop").unwrap();
    assert_eq!(view.outcome, Exit::Pending);
    let act = view.acts.last().unwrap();
    assert_eq!(
        (&*act.what, &*act.by, &*act.reason),
        ("restart", "ana", "it leaks")
    );
    put(&store, "at/production/shop/restart-0/web2", "");
    // No host of the app.
    put(&store, "at/production/shop/restart-0/other", "");
    let restart_of = |view: RolloutView| view.restart.unwrap();
    let progress = restart_of(observe(&store, "shop").unwrap());
    assert_eq!(
        (progress.restarted, progress.pending),
        (vec!["web2".into()], vec!["web1".to_owned()])
    );
    let now = store.server_time().unwrap();
    store.set_server_time(now + jiff::SignedDuration::from_hours(1));
    let why = observe(&store, "shop").unwrap().waits_for.unwrap();
    assert!(
        why.contains("waits for the restart of web1") && why.contains("--forget web1"),
        "{why}"
    );
    put(&store, "at/production/shop/restart-0/web1", "");
    assert_eq!(observe(&store, "shop").unwrap().outcome, Exit::Converged);
    // The next one is another request, also at the same time.
    assert_eq!(restart(&store, "shop"), Ok(2));
    let progress = restart_of(observe(&store, "shop").unwrap());
    assert_eq!(progress.pending.len(), 2);
}

#[test]
fn restart_without_slots_is_refused() {
    let error = restart(&store(", rollout: none"), "shop").unwrap_err();
    assert!(error.contains("its policy is `rollout: none`"), "{error}");
    let hint = "hint: `trueup restart shop` on a host restarts its services there";
    assert!(error.ends_with(hint), "{error}");
    let error = restart(&store(""), "shp").unwrap_err();
    assert!(error.contains("has no app `shp`"), "{error}");
}

#[test]
fn hosts_that_are_too_old_for_the_request_are_named() {
    let store = store("");
    let sha = "1".repeat(40);
    let record = |agent: &str| {
        format!(
            r#"{{"version": 1, "node": "web1", "environment": "production", "agent": "{agent}",
            "apps": {{"shop": {{"wanted": "{sha}", "state": "serving"}}}},
            "last_pass": {{"at": "2026-11-29T10:00:07Z", "outcome": "converged"}}}}"#
        )
    };
    put(&store, "nodes/production/web1.json", &record("0.0.9"));
    let warnings = request(&store, "shop").unwrap().warnings;
    let warnings: Vec<String> = warnings.iter().map(|one| one.to_string()).collect();
    let expected = "web1 (0.0.9) would refuse the manifest: `restart_requested_at` of shop";
    assert!(warnings[0].starts_with(expected), "{warnings:?}");
    // The field is in the manifest already: a large fleet has many records.
    assert!(request(&store, "shop").unwrap().warnings.is_empty());
}
