use super::*;
use crate::operate::fleet::FleetWatch;
use crate::ports::store::double::StoreDouble;
use crate::ports::store::{Etag, GetOutcome, MemoryStore, Store, StoreError, WriteCondition};
use crate::settings::FleetSettings;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

pub(super) fn store(app: &str) -> MemoryStore {
    let store = MemoryStore::new();
    let sha = "1".repeat(40);
    let text = format!("production:\n  shop: {{sha: {sha}{app}}}\n");
    put(&store, "sha_number.yml", &text);
    store
}

pub(super) fn put(store: &MemoryStore, key: &str, body: &str) {
    let body = body.as_bytes();
    store.put(key, body, WriteCondition::Always).unwrap();
}

/// A store that reads no object of more than a MiB.
struct BoundedStore(MemoryStore);

impl StoreDouble for BoundedStore {
    fn inner(&self) -> &dyn Store {
        &self.0
    }

    fn get(&self, key: &str, known: Option<&Etag>) -> Result<GetOutcome, StoreError> {
        match self.0.get(key, known)? {
            GetOutcome::Object(found) if found.body.len() > 1 << 20 => Err(StoreError::TooLarge {
                store: "memory:".into(),
                key: key.into(),
                limit: 1 << 20,
            }),
            found => Ok(found),
        }
    }
}

pub(super) fn with_target<T>(
    store: &dyn Store,
    app: &str,
    act: impl FnOnce(&RolloutTarget<'_>) -> T,
) -> T {
    let fleet = FleetSettings::default();
    act(&RolloutTarget {
        store,
        environment: "production",
        app,
        manifest_key: "sha_number.yml",
        fleet: &fleet,
    })
}

pub(super) fn observe(store: &dyn Store, app: &str) -> Result<RolloutView, String> {
    with_target(store, app, |target| observe_rollout(target, NOW)).map_err(|error| {
        let problems = error.problems().into_iter();
        problems.map(|problem| problem.to_string()).collect()
    })
}

fn act(store: &dyn Store, what: &Intervention) -> Result<String, String> {
    let operator = ("ana".to_owned(), "it is known".to_owned(), NOW);
    let done = with_target(store, "shop", |target| {
        intervene(target, None, what, operator, None)
    });
    done.map_err(|error| error.summary())
}

/// A register with a halted entry.
fn register(more: &str) -> String {
    let sha = "1".repeat(40);
    format!(
        r#"{{"version": 1, "environment": "production", "app": "shop", "nonce": "00000000000000c3", "slots": 1, {more}
        "entries": [{{"sha": "{sha}", "generation": 0, "opened": "2026-11-29T10:00:07Z", "opened_by": "web1", "epoch": 0,
        "halt": {{"cause": "environment", "by": "web1", "reason": "no \u001b[2Jdatabase"}}}}]}}"#
    )
}

/// The record of a host that serves.
fn record_of_web1() -> String {
    let sha = "1".repeat(40);
    format!(
        r#"{{"version": 1, "node": "web1", "environment": "production", "machine_id": "{:032x}", "agent": "0.1.0",
        "apps": {{"shop": {{"wanted": "{sha}", "state": "serving"}}}},
        "last_pass": {{"at": "2026-11-29T10:00:07Z", "outcome": "converged"}}}}"#,
        7
    )
}

pub(super) const KEY: &str = "rollouts/production/shop.json";

#[test]
fn rollout_that_nobody_will_ever_begin_is_an_error() {
    let error = observe(&store(""), "shp").unwrap_err();
    assert!(error.contains("has no app `shp` in production"), "{error}");
    assert!(error.contains("did you mean `shop`?"), "{error}");
    let error = observe(&store(", rollout: none"), "shop").unwrap_err();
    assert!(error.contains("its policy is `rollout: none`"), "{error}");
    let error = observe(&MemoryStore::new(), "shop").unwrap_err();
    assert!(
        error.contains("sha_number.yml: there is no manifest"),
        "{error}"
    );
    assert_eq!(observe(&store(""), "shop").unwrap().outcome, Exit::Pending);
}

#[test]
fn held_rollout_is_waited_for_by_nobody() {
    let hold = ", hold: {reason: moving, by: ana}";
    let view = observe(&store(hold), "shop").unwrap();
    assert_eq!(view.outcome, Exit::Waiting);
    assert_eq!(view.hold.unwrap(), "held by ana until it is lifted: moving");
    let why = view.waits_for.unwrap();
    assert!(why.contains("`trueup unhold production shop`"), "{why}");
    // It is what all hosts are to take, and they do.
    let hold = format!(
        ", hold: {{sha: {}, reason: moving, by: ana}}",
        "1".repeat(40)
    );
    let view = observe(&store(&hold), "shop").unwrap();
    assert_eq!(view.outcome, Exit::Pending);
    assert!(view.hold.unwrap().starts_with("held at 1111111 by ana"));
    let hold = hold.replace("sha: 1", "sha: 2");
    let view = observe(&store(&hold), "shop").unwrap();
    assert!(
        view.wanted.unwrap().as_str().starts_with("21"),
        "the others wait behind it"
    );
}

#[test]
fn register_with_too_many_slots_is_refused_and_texts_control_no_terminal() {
    let store = store("");
    put(
        &store,
        KEY,
        &register("").replace("\"slots\": 1", "\"slots\": 4000000000"),
    );
    let error = observe(&store, "shop").unwrap_err();
    assert!(error.contains("it has 4000000000 slots"), "{error}");
    put(&store, KEY, &register(""));
    let view = observe(&store, "shop").unwrap();
    assert_eq!(view.outcome, Exit::Failed);
    let why = view.waits_for.unwrap();
    assert!(why.contains(r"no \x1b[2Jdatabase"), "{why:?}");
}

#[test]
fn damaged_register_is_begun_again_and_one_of_a_newer_trueup_is_not() {
    let store = BoundedStore(store(""));
    for damaged in [
        "{\"version\": 1",
        &"x".repeat(100 << 10),
        &"x".repeat(2 << 20),
    ] {
        put(&store.0, KEY, damaged);
        let error = observe(&store, "shop").unwrap_err();
        assert!(error.contains("`trueup rollout reset"), "{error}");
        act(&store, &Intervention::Reset).unwrap();
        let acts = observe(&store, "shop").unwrap().acts;
        assert_eq!(
            (acts.len(), &*acts[0].what, &*acts[0].by),
            (1, "reset", "ana")
        );
    }
    put(&store.0, KEY, "{\"version\": 2}");
    let error = act(&store, &Intervention::Reset).unwrap_err();
    assert!(error.contains("it has version 2"), "{error}");
}

#[test]
fn operator_resumes_what_is_halted_and_the_history_says_who() {
    let store = store("");
    let error = act(&store, &Intervention::Resume).unwrap_err();
    assert!(
        error.contains("no rollout of 1111111 is under way"),
        "{error}"
    );
    put(&store, KEY, &register(""));
    act(&store, &Intervention::Resume).unwrap();
    let view = observe(&store, "shop").unwrap();
    assert_eq!(view.outcome, Exit::Pending);
    let resumed = &view.acts[0];
    assert_eq!((&*resumed.by, &*resumed.reason), ("ana", "it is known"));
    assert!(resumed.what.starts_with("resume"), "{}", resumed.what);
}

#[test]
fn slot_of_a_live_host_is_broken_only_on_purpose() {
    let store = store("");
    put(&store, KEY, &register(""));
    let slot = r#"{"version": 1, "nonce": "00000000000000c4", "holder": {"node": "web1", "machine": "m", "since": "2026-11-29T10:00:07Z"}}"#;
    put(&store, "slots/production/shop/0.json", slot);
    put(&store, "nodes/production/web1.json", "{}");
    let break_slot = |even_if_alive| Intervention::BreakSlot {
        number: 0,
        even_if_alive,
        step: None,
    };
    let error = act(&store, &break_slot(false)).unwrap_err();
    assert!(
        error.contains("web1, which holds slot 0, was heard of"),
        "{error}"
    );
    assert_eq!(
        act(&store, &break_slot(true)).unwrap(),
        "slot 0 of web1 is free"
    );
    assert!(observe(&store, "shop").unwrap().holders.is_empty());
    let error = act(&store, &break_slot(true)).unwrap_err();
    assert!(error.contains("nobody holds slot 0"), "{error}");
}

#[test]
fn status_names_the_app_that_comes_first_until_an_operator_skips_it() {
    let store = store(", rollout: {after: [db]}");
    let text = format!(
        "production:\n  shop: {{sha: {0}, rollout: {{after: [db]}}}}\n  db: {0}\n",
        "1".repeat(40)
    );
    put(&store, "sha_number.yml", &text);
    let open = register("").replace("\"halt\"", "\"was_halted\"");
    let count = r#""count": {"hosts": 1, "serving": 1}, "epoch""#;
    put(&store, KEY, &open.replace("\"epoch\"", count));
    let waits_for = || observe(&store, "shop").unwrap().waits_for;
    let why = waits_for().unwrap();
    assert!(why.contains("waits for db, which is not done"), "{why}");
    assert!(why.contains("`trueup rollout skip-after"), "{why}");
    act(&store, &Intervention::SkipAfter).unwrap();
    assert_eq!(waits_for(), None);
}

#[test]
fn status_names_the_command_for_a_slot_whose_host_is_silent() {
    let store = store("");
    let open = register("").replace("\"halt\"", "\"was_halted\"");
    let count = r#""count": {"hosts": 1, "serving": 1}, "epoch""#;
    put(&store, KEY, &open.replace("\"epoch\"", count));
    let slot = r#"{"version": 1, "nonce": "00000000000000c4", "holder": {"node": "web1", "machine": "m", "since": "2026-11-29T10:00:07Z"}}"#;
    put(&store, "slots/production/shop/0.json", slot);
    let waits_for = || observe(&store, "shop").unwrap().waits_for;
    let why = waits_for().unwrap();
    assert!(why.contains("web1 has slot 0"), "{why}");
    assert!(
        why.contains("`trueup rollout break-slot production shop 0"),
        "{why}"
    );
    // It was heard of just now, but has the slot since yesterday.
    put(&store, "nodes/production/web1.json", "{}");
    let why = waits_for().unwrap();
    assert!(why.contains("waits for web1, which has been out"), "{why}");
    assert!(
        why.contains("break-slot production shop 0 --reason TEXT --yes`"),
        "{why}"
    );
    let now = store.server_time().unwrap().to_string();
    let slot = slot.replace("2026-11-29T10:00:07Z", &now);
    put(&store, "slots/production/shop/0.json", &slot);
    assert_eq!(waits_for(), None);
}

#[test]
fn hosts_are_counted_again_before_a_slot_is_broken() {
    let store = store("");
    let open = register("").replace("\"halt\"", "\"was_halted\"");
    let count = r#""count": {"hosts": 12, "serving": 12}, "epoch""#;
    let counted = open
        .replace("\"epoch\"", count)
        .replace("\"slots\": 1", "\"slots\": 3");
    put(&store, KEY, &counted);
    put(&store, "nodes/production/web1.json", &record_of_web1());
    let slot = r#"{"version": 1, "nonce": "00000000000000c4", "holder": {"node": "web9", "machine": "m", "since": "2026-11-29T10:00:07Z"}}"#;
    put(&store, "slots/production/shop/2.json", slot);
    let break_slot = Intervention::BreakSlot {
        number: 2,
        even_if_alive: false,
        step: None,
    };
    act(&store, &break_slot).unwrap();
    let view = observe(&store, "shop").unwrap();
    assert_eq!((view.slots, view.hosts), (1, Some(1)));
}

#[test]
fn fleet_shows_what_a_rollout_waits_for_and_who_has_none() {
    let store = store("");
    let sha = "1".repeat(40);
    put(&store, "nodes/production/web1.json", &record_of_web1());
    let settings = FleetSettings::default();
    let rollouts = |store: &MemoryStore| {
        let mut watch = FleetWatch::new(store, "production", "sha_number.yml", &settings);
        let view = watch.observe().unwrap().0;
        assert_eq!(view.problems, [""; 0]);
        view.rollouts
    };
    let first_rollout = |store: &MemoryStore| {
        let rollout = rollouts(store).remove(0);
        (rollout.headline(), rollout.waits_for)
    };
    assert_eq!(
        first_rollout(&store),
        ("1111111: not begun".to_owned(), None)
    );
    put(&store, KEY, &register(""));
    let (headline, waits_for) = first_rollout(&store);
    assert_eq!(headline, "1111111: halted");
    assert!(waits_for.unwrap().contains("`trueup rollout resume"));
    let text = format!("production:\n  shop: {{sha: {sha}, rollout: none}}\n");
    put(&store, "sha_number.yml", &text);
    assert_eq!(
        first_rollout(&store).0,
        "none: each host takes a new sha by itself"
    );
}

/// The listed failure of a host, as a part of an entry.
const FAILED_BUILD: &str =
    r#""local_failures": [{"node": "web3", "stage": "gems", "reason": "no \u001b[2Jspace"}]"#;

/// An open entry that is counted. `more`: other fields of it.
pub(super) fn open_register(more: &str) -> String {
    let halt = "\"halt\": {\"cause\": \"environment\", \"by\": \"web1\", \"reason\": \"no \\u001b[2Jdatabase\"}";
    let count = "\"count\": {\"hosts\": 4, \"serving\": 4}";
    register("").replace(halt, &format!("{count}, {more}"))
}

#[test]
fn hosts_that_cannot_build_end_the_rollout_unless_others_go_on() {
    let store = store("");
    put(&store, KEY, &open_register(FAILED_BUILD));
    let view = observe(&store, "shop").unwrap();
    assert_eq!(view.outcome, Exit::Failed);
    assert_eq!(
        view.local_failures[0].describe(),
        r"gems failed: no \x1b[2Jspace"
    );
    let why = view.waits_for.unwrap();
    assert_eq!(
        why,
        "waits for web3 to try again; if the sha is at fault, `trueup publish production shop=SHA`"
    );
    // A canary that bakes, and a host that is out.
    let canary =
        format!("\"canaries\": [{{\"node\": \"web1\", \"passed\": false}}], {FAILED_BUILD}");
    put(&store, KEY, &open_register(&canary));
    assert_eq!(observe(&store, "shop").unwrap().outcome, Exit::Failed);
    put(
        &store,
        &format!("at/production/shop/{}/web1", "1".repeat(40)),
        "",
    );
    assert_eq!(observe(&store, "shop").unwrap().outcome, Exit::Pending);
    put(&store, KEY, &open_register(FAILED_BUILD));
    // A host that has begun to build it.
    let mark = format!("at/production/shop/{}/web1", "1".repeat(40));
    store.delete(&mark).unwrap();
    let building = record_of_web1()
        .replace("serving\"", "serving\", \"outcome\": \"pending\"")
        .replace("converged", "pending");
    put(&store, "nodes/production/web1.json", &building);
    let view = observe(&store, "shop").unwrap();
    assert_eq!((view.outcome, view.waits_for), (Exit::Pending, None));
    assert_eq!(view.at_work, ["web1"]);
    put(&store, "nodes/production/web1.json", &record_of_web1());
    assert_eq!(observe(&store, "shop").unwrap().outcome, Exit::Failed);
    let slot = r#"{"version": 1, "nonce": "00000000000000c4", "holder": {"node": "web1", "machine": "m", "since": "2026-11-29T10:00:07Z"}}"#;
    put(&store, "slots/production/shop/0.json", slot);
    assert_eq!(observe(&store, "shop").unwrap().outcome, Exit::Pending);
}

#[test]
fn halt_says_more_than_hosts_that_cannot_build() {
    let store = store("");
    put(
        &store,
        KEY,
        &register("").replace("\"epoch\": 0", &format!("\"epoch\": 0, {FAILED_BUILD}")),
    );
    let view = observe(&store, "shop").unwrap();
    assert!(!view.is_stuck_in_local_failures());
    assert!(view.waits_for.unwrap().contains("`trueup rollout resume"));
}
