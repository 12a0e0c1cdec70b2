use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::fleet::rollout::OnceOutcome;
use crate::ports::store::double::StoreDouble;
use crate::ports::store::{
    Etag, GetOutcome, MemoryStore, ObjectMeta, PutOutcome, Store, StoreError, WriteCondition,
};
use crate::settings::FleetSettings;

fn put(store: &dyn Store, key: &str, body: &str) {
    let body = body.as_bytes();
    store.put(key, body, WriteCondition::Always).unwrap();
}

fn get(store: &dyn Store, key: &str) -> String {
    match store.get(key, None).unwrap() {
        GetOutcome::Object(object) => String::from_utf8(object.body).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn register(app: &str, more: &str) -> String {
    let sha = "1".repeat(40);
    format!(
        r#"{{"version": 1, "environment": "production", "app": "{app}", "nonce": "00000000000000c3", "slots": 1{more},
        "entries": [{{"sha": "{sha}", "generation": 2, "opened": "2026-11-29T10:00:07Z", "opened_by": "web1", "epoch": 0,
        "local_failures": [{{"node": "web3", "reason": "no space"}}, {{"node": "web4", "reason": "no space"}}]}}]}}"#
    )
}

fn slot(node: &str, nonce: u32) -> String {
    format!(
        r#"{{"version": 1, "nonce": "{nonce:016x}", "holder": {{"node": "{node}", "machine": "m", "since": "2026-11-29T10:00:07Z"}}}}"#
    )
}

/// web3 was last heard of an hour ago. It holds slots of two apps, one of them above the number of slots, and web4 another.
fn fleet(more: &str) -> MemoryStore {
    let store = MemoryStore::new();
    let start: Timestamp = "2026-11-29T10:00:00Z".parse().unwrap();
    store.set_server_time(start);
    put(&store, "nodes/production/web3.json", "{}");
    store.set_server_time(start + SignedDuration::from_hours(1));
    let sha = "1".repeat(40);
    let manifest = format!("production:\n  shop: {sha}\n  cart: {sha}\n  new: {sha}\n");
    put(&store, "sha_number.yml", &manifest);
    put(
        &store,
        "rollouts/production/shop.json",
        &register("shop", more),
    );
    put(
        &store,
        "rollouts/production/cart.json",
        &register("cart", ""),
    );
    put(&store, "slots/production/shop/0.json", &slot("web3", 1));
    put(&store, "slots/production/shop/1.json", &slot("web4", 2));
    put(&store, "slots/production/cart/5.json", &slot("web3", 3));
    store
}

fn forget_web3(store: &dyn Store, step: Option<OnceOutcome>) -> Result<ForgottenNode, String> {
    let settings = FleetSettings::default();
    let release = NodeRelease {
        store,
        environment: "production",
        manifest_key: "sha_number.yml",
        fleet: &settings,
        node: "web3",
        step,
        by: "ana",
        now: Timestamp::UNIX_EPOCH,
    };
    forget(&release, false).map_err(|error| {
        let problems = error.problems().into_iter();
        problems.map(|problem| problem.to_string()).collect()
    })
}

const CLAIM: &str = r#", "claim": {"step": "migrate", "entry": {"sha": "1111111111111111111111111111111111111111", "generation": 2},
    "node": "web3", "machine": "m", "claim": "00000000000000b2", "since": "2026-11-29T10:00:05Z"}"#;

#[test]
fn forgotten_node_gives_up_its_slots_in_all_apps_and_no_other_node_does() {
    let store = fleet("");
    let done = forget_web3(&store, None).unwrap();
    assert_eq!(
        done.released,
        ["slot 5 of cart is free", "slot 0 of shop is free"]
    );
    assert_eq!(done.warnings, [""; 0]);
    assert!(!get(&store, "slots/production/shop/0.json").contains("holder"));
    assert!(get(&store, "slots/production/shop/1.json").contains("web4"));
    let register = get(&store, "rollouts/production/shop.json");
    assert!(
        register.contains("break-slot 0 of web3") && register.contains("its node was forgotten")
    );
    assert!(
        !register.contains("\"web3\""),
        "its failure is still listed"
    );
    assert!(register.contains("\"web4\""));
    assert_eq!(store.list("nodes/").unwrap(), []);
    // The record is gone, and so is everything else: a mistyped name.
    let error = forget_web3(&store, None).unwrap_err();
    assert!(error.contains("production has no node `web3`"), "{error}");
}

#[test]
fn forgotten_balancer_gives_up_its_turn_with_a_service() {
    let store = fleet("");
    put(&store, "slots/production/_haproxy/0.json", &slot("web3", 4));
    put(&store, "slots/production/_-x/0.json", &slot("web3", 5));
    let done = forget_web3(&store, None).unwrap();
    let freed = "slot 0 of _haproxy is free";
    assert!(done.released.contains(&freed.to_owned()), "{done:?}");
    assert!(!get(&store, "slots/production/_haproxy/0.json").contains("holder"));
}

#[test]
fn node_without_a_record_still_gives_up_its_slots() {
    let store = fleet("");
    store.delete("nodes/production/web3.json").unwrap();
    let done = forget_web3(&store, None).unwrap();
    assert_eq!(done.released.len(), 2);
}

#[test]
fn claimed_step_has_to_be_settled_before_anything_changes() {
    let store = fleet(CLAIM);
    let error = forget_web3(&store, None).unwrap_err();
    assert!(
        error.contains("web3 has claimed the step `migrate`"),
        "{error}"
    );
    assert!(error.contains("--step done|failed|retry"), "{error}");
    assert!(get(&store, "slots/production/cart/5.json").contains("web3"));
    assert_eq!(store.list("nodes/").unwrap().len(), 1);
    forget_web3(&store, Some(OnceOutcome::Retry)).unwrap();
    assert!(!get(&store, "rollouts/production/shop.json").contains("\"claim\""));
    let result = format!("once/production/shop/{}/migrate.json", "1".repeat(40));
    assert!(get(&store, &result).contains("\"retry\""));
}

#[test]
fn claim_of_a_node_without_a_slot_is_settled_as_well() {
    let store = fleet(CLAIM);
    put(&store, "slots/production/shop/0.json", &slot("web4", 9));
    let done = forget_web3(&store, Some(OnceOutcome::Succeeded)).unwrap();
    assert!(
        done.released
            .contains(&"`migrate` is settled for shop".to_owned())
    );
    assert!(!get(&store, "rollouts/production/shop.json").contains("\"claim\""));
}

#[test]
fn damaged_objects_are_named_and_keep_no_record() {
    let store = fleet("");
    put(&store, "rollouts/production/cart.json", "{");
    put(&store, "slots/production/shop/7.json", "\u{1b}[2J");
    let done = forget_web3(&store, None).unwrap();
    assert_eq!(done.released, ["slot 0 of shop is free"]);
    let warnings = done.warnings.join("\n");
    assert!(
        warnings.contains(
            "whether web3 holds a slot of cart: rollouts/production/cart.json cannot be used"
        ),
        "{warnings}"
    );
    assert!(
        warnings.contains("slots/production/shop/7.json cannot be used"),
        "{warnings}"
    );
    assert!(!warnings.contains('\u{1b}'));
    assert_eq!(store.list("nodes/").unwrap(), []);
}

/// A store in which one may forget records, and nothing else.
struct RecordsOnly(MemoryStore);

impl RecordsOnly {
    fn check(key: &str) -> Result<(), StoreError> {
        match key.starts_with("nodes/") || key == "sha_number.yml" {
            true => Ok(()),
            false => Err(StoreError::Refused {
                store: "memory:".into(),
                key: key.into(),
                why: "AccessDenied".into(),
                hint: "",
            }),
        }
    }
}

impl StoreDouble for RecordsOnly {
    fn inner(&self) -> &dyn Store {
        &self.0
    }

    fn get(&self, key: &str, known: Option<&Etag>) -> Result<GetOutcome, StoreError> {
        RecordsOnly::check(key)?;
        self.0.get(key, known)
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        RecordsOnly::check(prefix)?;
        self.0.list(prefix)
    }

    fn put(
        &self,
        key: &str,
        body: &[u8],
        when: WriteCondition<'_>,
    ) -> Result<PutOutcome, StoreError> {
        RecordsOnly::check(key)?;
        self.0.put(key, body, when)
    }
}

#[test]
fn record_is_forgotten_without_permission_for_rollouts_and_says_so() {
    let store = RecordsOnly(fleet(""));
    let done = forget_web3(&store, None).unwrap();
    assert_eq!(done.released, [""; 0]);
    assert_eq!(done.warnings.len(), 4, "{:?}", done.warnings);
    let service = "web3 holds the slot of a service, such as _haproxy";
    assert!(done.warnings[0].contains(service), "{:?}", done.warnings);
    assert!(
        done.warnings[0].contains("AccessDenied"),
        "{:?}",
        done.warnings
    );
    assert_eq!(store.0.list("nodes/").unwrap(), []);
}
