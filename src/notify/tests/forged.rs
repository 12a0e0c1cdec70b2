//! The object of the store as somebody else wrote it: a message may be missing or doubled, and no more.

use super::*;
use crate::notify::deliver::{Delivery, DeliveryStep, board_key, read_board};
use crate::ports::clock::Clock;
use crate::ports::store::double::StoreDouble;
use crate::ports::store::{Etag, GetOutcome, MemoryStore, Store, StoreError, WriteCondition};
use crate::ports::testing::FakeClock;

/// Runs passes for some minutes. Returns how many messages were sent, and what is left to send.
fn passes(store: &dyn Store, clock: &FakeClock) -> (usize, usize) {
    let mut memory = memory_with(&halted(), true, clock.now());
    let mut sent = 0;
    for _ in 0..10 {
        let mut delivery = Delivery {
            store,
            environment: "production",
            app: "shop",
            node: "web1",
            clock,
            random: &|| 7,
            is_ready: &|_| true,
            send: &mut |_, _| {
                sent += 1;
                DeliveryStep::Sent
            },
            save: &mut |_| {},
        };
        delivery.run(&mut memory).unwrap();
        clock.advance(60);
    }
    (sent, memory.pending.len())
}

fn record(state: &str, at: &str) -> String {
    format!(
        r#"{{"version": 1, "nonce": "00000000000000ff", "records": [
            {{"id": "halted:9999999:43", "channel": "ops", "by": "x\u001b[2J", "claim": "00000000000000fe", "at": "{at}", "state": "{state}", "failures": 4000000000}}]}}"#
    )
}

#[test]
fn forged_object_costs_at_most_the_message() {
    let huge = format!(r#"{{"version": 1, "x": "{}"}}"#, "x".repeat(1 << 20));
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    for (body, expected) in [
        ("{not json".to_owned(), (1, 0)),
        (String::new(), (1, 0)),
        (huge, (1, 0)),
        (deep, (1, 0)),
        (r#"{"version": 1, "nonce": "x"}"#.to_owned(), (1, 0)),
        (record("sent", "2026-11-21T03:00:00Z"), (0, 0)),
        (record("claimed", "2026-11-21T03:00:00Z"), (1, 0)),
        (record("claimed", "2090-01-01T00:00:00Z"), (1, 0)),
        (record("claimed", "0001-01-01T00:00:00Z"), (1, 0)),
        (record("failed", "2090-01-01T00:00:00Z"), (1, 0)),
        // A newer trueup may know more states, and sends itself.
        (r#"{"version": 9}"#.to_owned(), (0, 1)),
    ] {
        let (store, clock) = (MemoryStore::new(), FakeClock::default());
        store.set_server_time(clock.now());
        let key = board_key("production", "shop");
        store
            .put(&key, body.as_bytes(), WriteCondition::Always)
            .unwrap();
        let shown: String = body.chars().take(200).collect();
        // The store's clock follows.
        let follows = FollowsClock(&store, &clock);
        assert_eq!(passes(&follows, &clock), expected, "{shown}");
        let (board, _) = read_board(&store, "production", "shop")
            .unwrap()
            .unwrap_or_else(|| {
                assert!(shown.contains('9'), "{shown}");
                (
                    crate::notify::board::Board::empty(),
                    crate::notify::deliver::BoardVersion::Absent,
                )
            });
        assert!(
            !board
                .records
                .iter()
                .any(|record| record.by.contains('\x1b'))
        );
    }
}

struct FollowsClock<'a>(&'a MemoryStore, &'a FakeClock);

impl StoreDouble for FollowsClock<'_> {
    fn inner(&self) -> &dyn Store {
        self.0.set_server_time(self.1.now());
        self.0
    }
}

/// An object that is larger than any that is read.
struct Oversized<'a>(&'a MemoryStore);

impl StoreDouble for Oversized<'_> {
    fn inner(&self) -> &dyn Store {
        self.0
    }

    fn get(&self, key: &str, known: Option<&Etag>) -> Result<GetOutcome, StoreError> {
        let found = self.0.get(key, known)?;
        match &found {
            GetOutcome::Object(object) if object.body == b"10 MB" => Err(StoreError::TooLarge {
                store: "memory:".into(),
                key: key.into(),
                limit: 4 << 20,
            }),
            _ => Ok(found),
        }
    }
}

#[test]
fn oversized_object_is_replaced() {
    let (store, clock) = (MemoryStore::new(), FakeClock::default());
    let key = board_key("production", "shop");
    store.put(&key, b"10 MB", WriteCondition::Always).unwrap();
    assert_eq!(passes(&Oversized(&store), &clock), (1, 0));
    assert!(read_board(&store, "production", "shop").unwrap().is_some());
}

#[test]
fn object_keeps_a_bounded_number_of_records() {
    use crate::fleet::rollout::Nonce;
    use crate::notify::board::{Board, Parcel};
    let mut board = Board::empty();
    for number in 0..1000 {
        let parcel = Parcel {
            id: format!("{number}{}", "x".repeat(190)),
            channel: "c".repeat(190),
        };
        board.claim(&[parcel], &"n".repeat(190), Nonce(number), at("03:00:00"));
    }
    assert!(board.records.len() <= 150);
    assert!(serde_json::to_vec(&board).unwrap().len() <= 64 << 10);
    assert!(board.records.last().unwrap().parcel.id.starts_with("999x"));
}
