use super::*;
use crate::desired::PublishRequest;
use crate::operate::publish::Publish;
use crate::operate::publish::testing::Unsigned;
use crate::ports::store::{MemoryStore, WriteCondition};

const KEY: &str = "sha_number.yml";

fn publish(store: &MemoryStore, app: &str, letter: &str) {
    let publisher = Unsigned { store, key: KEY };
    let request = PublishRequest {
        shas: vec![(app.into(), Sha::parse(&letter.repeat(40)).unwrap())],
        by: Some("ana".into()),
        create: true,
        ..PublishRequest::new("production", "2026-11-21T04:43:01Z".parse().unwrap())
    };
    publisher.publish(request).unwrap();
}

fn history(store: &MemoryStore, app: Option<&str>, limit: usize) -> Vec<Generation> {
    read_history(store, KEY, ("production", app), limit, None).unwrap()
}

fn numbers(found: &[Generation]) -> Vec<u64> {
    found.iter().map(|one| one.generation).collect()
}

#[test]
fn history_is_the_newest_first_over_many_generations() {
    let store = MemoryStore::new();
    for n in 0..80 {
        let app = if n % 10 == 0 { "web" } else { "shop" };
        publish(&store, app, &format!("{:x}", n % 16));
    }
    let last = history(&store, None, 3);
    assert_eq!(numbers(&last), [80, 79, 78]);
    let moved = &last[0].apps[0];
    assert_eq!(moved.app, "shop");
    assert_eq!(moved.from.as_ref().unwrap().as_str(), "e".repeat(40));
    assert_eq!(last[0].by.as_deref(), Some("ana"));
    let of_web = history(&store, Some("web"), 100);
    assert_eq!(numbers(&of_web), [71, 61, 51, 41, 31, 21, 11, 1]);
    assert_eq!(history(&store, None, 1000).len(), 80);
}

#[test]
fn hand_edits_and_missing_copies_are_in_the_history_as_what_they_are() {
    let store = MemoryStore::new();
    publish(&store, "shop", "a");
    publish(&store, "shop", "b");
    // Somebody edits another app by hand, and the next act is about something else.
    let GetOutcome::Object(object) = store.get(KEY, None).unwrap() else {
        panic!("it is gone");
    };
    let text = String::from_utf8(object.body).unwrap();
    let by_hand = format!("{text}  web: {}\n", "c".repeat(40));
    let when = WriteCondition::Always;
    store.put(KEY, by_hand.as_bytes(), when).unwrap();
    publish(&store, "shop", "d");
    let last = &history(&store, None, 1)[0];
    let apps: Vec<&str> = last.apps.iter().map(|one| one.app.as_str()).collect();
    assert_eq!(apps, ["shop", "web"]);
    store.delete("history/production/2.yml").unwrap();
    let all = history(&store, None, 10);
    assert_eq!(numbers(&all), [3, 2, 1]);
    assert!(all[1].action.is_none() && all[1].apps.is_empty());
    // No copy at all: a bucket that was restored, or a forged generation.
    let far = by_hand.replace("generation: 2", "generation: 900000000");
    store.put(KEY, far.as_bytes(), when).unwrap();
    let none = history(&store, None, 10);
    assert!(none.len() <= 1, "{none:?}");
}
