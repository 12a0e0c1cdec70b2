//! Who made a generation, and what else than shas a request changes.

use serde_json::{Value, json};

use super::tests::SHAS;
use super::*;
use crate::desired::Action;
use crate::yaml::Node;

const A: &str = SHAS[0];
const B: &str = SHAS[1];

fn request() -> PublishRequest {
    PublishRequest {
        by: Some("ana".into()),
        ..PublishRequest::new("production", "2026-11-21T04:43:01Z".parse().unwrap())
    }
}

/// The text after a request.
fn edit(before: &str, request: &PublishRequest) -> Result<String, EditError> {
    let edited = edit_manifest("m.yml", Some(before.as_bytes()), request)?;
    let body = edited.body.map(|body| String::from_utf8(body).unwrap());
    Ok(body.unwrap_or_else(|| "nothing".to_owned()))
}

fn json_of(text: &str) -> Value {
    let tree = parse("m.yml", text.as_bytes(), ParseLimits::default()).unwrap();
    Node::to_json(&tree)
}

fn settings_of(text: &str) -> Value {
    json_of(text)["production"]["_settings"].clone()
}

#[test]
fn generation_goes_on_from_that_of_the_file_and_counts_by_environment() {
    let before = format!(
        "generation: 41 # by hand\nproduction:\n  # live\n  shop: {A}\nstaging:\n  shop: {A}\n"
    );
    let mut order = request();
    order.shas = vec![("shop".into(), Sha::parse(B).unwrap())];
    order.reason = Some("fixes the checkout".into());
    order.references.insert("shop".into(), "master".into());
    let commits = CommitList {
        from: Sha::parse(A).unwrap(),
        lines: vec!["bbbbbbb Fix it".into()],
    };
    order.commits.insert("shop".into(), commits.clone());
    let first = edit(&before, &order).unwrap();
    let moved = before.replace(A, &"c".repeat(40));
    let moved = settings_of(&edit(&moved, &order).unwrap());
    assert_eq!(
        moved["change"]["apps"]["shop"].get("commits"),
        None,
        "somebody else published meanwhile"
    );
    let expected = format!(
        "generation: 41 # by hand\nproduction:\n  _settings:\n    generation: 42\n    change:\n      action: publish\n      by: ana\n      at: 2026-11-21T04:43:01Z\n      reason: \"fixes the checkout\"\n      apps:\n        shop:\n          from: {A}\n          to: {B}\n          ref: master\n          commits: [\"bbbbbbb Fix it\"]\n  # live\n  shop:\n    sha: {B}\n    previous: {A}\n    ref: master\n    by: ana\n    at: 2026-11-21T04:43:01Z\nstaging:\n  shop: {A}\n"
    );
    assert_eq!(first, expected);
    // The change is replaced as a whole, and another environment counts for itself.
    let mut back = request();
    back.action = Action::Rollback;
    back.shas = vec![("shop".into(), Sha::parse(A).unwrap())];
    let second = edit(&first, &back).unwrap();
    assert_eq!(
        settings_of(&second),
        json!({"generation": 43, "change": {"action": "rollback", "by": "ana", "at": "2026-11-21T04:43:01Z", "apps": {"shop": {"from": B, "to": A}}}})
    );
    back.environment = "staging".into();
    back.shas = vec![("shop".into(), Sha::parse(B).unwrap())];
    let third = json_of(&edit(&second, &back).unwrap());
    assert_eq!(third["staging"]["_settings"]["generation"], 42);
    assert_eq!(third["production"], json_of(&second)["production"]);
}

#[test]
fn settings_are_set_and_removed_at_any_depth_and_nothing_else_changes() {
    let set = |path: &[&str], value: Value| SettingEdit {
        path: path.iter().map(|key| (*key).to_owned()).collect(),
        value: Some(value),
    };
    let remove = |path: &[&str]| SettingEdit {
        value: None,
        ..set(path, Value::Null)
    };
    let after = |text: &str, edits: Vec<SettingEdit>| {
        let order = PublishRequest {
            action: Action::Other,
            confirmed: true,
            settings: edits,
            ..request()
        };
        edit(text, &order).unwrap()
    };
    let before = format!("production:\n  shop: {A} # live\n");
    let one = after(
        &before,
        vec![set(&["rollout", "max_unavailable"], json!(2))],
    );
    assert!(one.ends_with(&format!("  shop: {A} # live\n")), "{one}");
    assert_eq!(settings_of(&one)["rollout"], json!({"max_unavailable": 2}));
    assert_eq!(
        settings_of(&one)["change"]["settings"],
        json!(["rollout.max_unavailable"])
    );
    let again = vec![set(&["rollout", "max_unavailable"], json!(2))];
    assert_eq!(after(&one, again), "nothing");
    let two = after(
        &one,
        vec![
            set(&["rollout", "per"], json!("zone")),
            set(&["protected"], json!(true)),
        ],
    );
    assert_eq!(
        settings_of(&two)["rollout"],
        json!({"max_unavailable": 2, "per": "zone"})
    );
    let three = after(
        &two,
        vec![
            remove(&["rollout", "per"]),
            remove(&["rollout", "max_unavailable"]),
        ],
    );
    let left = settings_of(&three);
    let keys: Vec<&String> = left.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["generation", "change", "protected"]);
    assert_eq!(after(&three, vec![remove(&["rollout", "per"])]), "nothing");
    // An absent one is not removed in place of its only neighbour.
    let alone = after(
        &before,
        vec![
            set(&["rollout", "per"], json!("zone")),
            remove(&["rollout", "canary"]),
        ],
    );
    assert_eq!(settings_of(&alone)["rollout"], json!({"per": "zone"}));
    // What hosts would refuse is not written.
    let order = PublishRequest {
        settings: vec![set(&["rollout"], json!("soon"))],
        ..request()
    };
    assert!(matches!(edit(&before, &order), Err(EditError::Manifest(_))));
}

#[test]
fn notes_are_added_ticked_off_and_bounded() {
    let note = |change: NoteChange| PublishRequest {
        action: Action::Note,
        notes: vec![NoteEdit {
            app: "shop".into(),
            change,
        }],
        ..request()
    };
    let before = format!("production:\n  shop: {A}\n");
    let add = |text: &str| note(NoteChange::Add(text.into()));
    let one = edit(&before, &add("run the reindex: *all*")).unwrap();
    let two = edit(&one, &add("clear the cache")).unwrap();
    let texts = |text: &str| -> Vec<String> {
        let manifest = Manifest::parse("m.yml", text.as_bytes()).unwrap();
        let entry = manifest.environments["production"].entry("shop").unwrap();
        let notes = entry.unwrap().notes.iter();
        notes.map(|note| note.text.clone()).collect()
    };
    assert_eq!(texts(&two), ["run the reindex: *all*", "clear the cache"]);
    let done = edit(&two, &note(NoteChange::Done(1))).unwrap();
    assert_eq!(texts(&done), ["clear the cache"]);
    let more = edit(&done, &add("tell support")).unwrap();
    assert_eq!(texts(&more), ["clear the cache", "tell support"]);
    let done = edit(&more, &note(NoteChange::Done(3))).unwrap();
    let none = edit(&done, &note(NoteChange::Done(2))).unwrap();
    assert!(texts(&none).is_empty() && !none.contains("notes"), "{none}");
    for (text, request, expected) in [
        (
            &two,
            note(NoteChange::Done(3)),
            "production/shop has no note 3: it may be ticked off already",
        ),
        (
            &done,
            note(NoteChange::Done(1)),
            "production/shop has no note 1: it may be ticked off already",
        ),
        (
            &two,
            note(NoteChange::Done(0)),
            "production/shop has no note 0",
        ),
        (
            &"production: {shopp: 1}\n".to_owned(),
            add("x"),
            "the manifest has no app `shop` in production",
        ),
    ] {
        let error = edit(text, &request).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    let mut text = before;
    for number in 0..50 {
        text = edit(&text, &add(&number.to_string())).unwrap();
    }
    let error = edit(&text, &add("one more")).unwrap_err().to_string();
    assert!(error.contains("there are 51 notes; at most 50"), "{error}");
}

#[test]
fn sha_to_build_ahead_is_written_beside_the_wanted_one() {
    let before = format!("production:\n  shop: {A} # live\n");
    let order = PublishRequest {
        next: vec![("shop".into(), Sha::parse(B).unwrap())],
        ..request()
    };
    let after = edit(&before, &order).unwrap();
    let shop = json!({"sha": A, "next": B});
    assert_eq!(json_of(&after)["production"]["shop"], shop);
    assert_eq!(
        settings_of(&after)["change"]["apps"]["shop"],
        json!({"next": B})
    );
    assert_eq!(edit(&after, &order).unwrap(), "nothing");
    let order = PublishRequest {
        next: vec![("web".into(), Sha::parse(B).unwrap())],
        ..request()
    };
    let error = edit(&before, &order).unwrap_err();
    assert!(matches!(error, EditError::Request(_)), "{error}");
}

#[test]
fn hold_freezes_the_app_at_whatever_it_is_then() {
    let before = format!("production:\n  shop: {B}\n");
    let mut hold = PublishRequest {
        action: Action::Hold,
        held_apps: vec!["shop".into()],
        hold: HoldRequest::Set {
            reason: "db".into(),
            until: None,
        },
        ..request()
    };
    let held = edit(&before, &hold).unwrap();
    let shop = &json_of(&held)["production"]["shop"];
    assert_eq!((&shop["sha"], &shop["hold"]["sha"]), (&json!(B), &json!(B)));
    // What comes later waits, or is refused for who asks for that.
    let mut later = request();
    later.shas = vec![("shop".into(), Sha::parse(A).unwrap())];
    assert!(edit(&held, &later).is_ok());
    later.refuses_holds = true;
    let error = edit(&held, &later).unwrap_err();
    assert!(
        matches!(&error, EditError::Held(problem) if problem.to_string().contains("is held by ana until it is removed: db")),
        "{error}"
    );
    hold.hold = HoldRequest::Lift;
    let lifted = edit(&held, &hold).unwrap();
    assert!(edit(&lifted, &later).is_ok());
    hold.held_apps = vec!["web".into()];
    assert!(matches!(edit(&held, &hold), Err(EditError::Request(_))));
}
