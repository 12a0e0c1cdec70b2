//! Publishing of this host's own record.

use super::*;
use crate::fleet::record::MAX_RECORD;
use crate::ports::store::{GetOutcome, PutOutcome, StoreError, double};
use crate::settings::FleetSettings;

/// A store that counts writes and can refuse them.
pub(super) struct CountingStore {
    pub(super) inner: MemoryStore,
    writes: std::cell::Cell<usize>,
    read_only: bool,
}

impl CountingStore {
    pub(super) fn new() -> CountingStore {
        CountingStore {
            inner: MemoryStore::new(),
            writes: Default::default(),
            read_only: false,
        }
    }

    pub(super) fn take_writes(&self) -> usize {
        self.writes.take()
    }

    pub(super) fn stored_record(&self, node: &str) -> NodeRecord {
        let Ok(GetOutcome::Object(object)) = self.inner.get(&record_key(ENV, node), None) else {
            panic!("no record of {node}");
        };
        NodeRecord::parse(node, ENV, &object.body).unwrap()
    }
}

impl double::StoreDouble for CountingStore {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    fn put(
        &self,
        key: &str,
        body: &[u8],
        when: WriteCondition<'_>,
    ) -> Result<PutOutcome, StoreError> {
        self.writes.set(self.writes.get() + 1);
        if self.read_only {
            return Err(StoreError::Refused {
                store: "s3://b".into(),
                key: key.into(),
                why: "403 AccessDenied".into(),
                hint: "as the test says",
            });
        }
        self.inner.put(key, body, when)
    }
}

/// What the pass reports, and whether it is new.
fn publish_outcome(
    sandbox: &Sandbox,
    store: &CountingStore,
    record: &NodeRecord,
) -> (Vec<String>, bool) {
    publish_after(false, sandbox, store, record)
}

/// The same; `store_returned`: the pass before had no answer from the store.
fn publish_after(
    store_returned: bool,
    sandbox: &Sandbox,
    store: &CountingStore,
    record: &NodeRecord,
) -> (Vec<String>, bool) {
    let own = RecordPublisher {
        host: &sandbox.host,
        store,
        store_name: "s",
        fleet: &FleetSettings::default(),
        store_returned,
    };
    let outcome = own.publish(record.clone());
    let lines = outcome.report_lines.into_iter();
    (lines.chain(outcome.publish_error).collect(), outcome.is_new)
}

pub(super) fn publish(
    sandbox: &Sandbox,
    store: &CountingStore,
    record: &NodeRecord,
) -> Vec<String> {
    publish_outcome(sandbox, store, record).0
}

/// The same record after a later pass.
fn later(record: &NodeRecord, minutes: i64) -> NodeRecord {
    let mut later = record.clone();
    later.last_pass.at = record.last_pass.at + SignedDuration::from_mins(minutes);
    later
}

#[test]
fn own_record_is_written_only_when_changed_or_heartbeat_due() {
    let (sandbox, store) = (Sandbox::empty(), CountingStore::new());
    let own = record("web1", 1);
    assert!(publish(&sandbox, &store, &own).is_empty());
    assert_eq!(store.take_writes(), 1);
    for minute in 1..5 {
        sandbox.clock.advance(59);
        publish(&sandbox, &store, &later(&own, minute));
    }
    assert_eq!(store.take_writes(), 0, "an unchanged tick writes nothing");
    sandbox.clock.advance(70);
    publish(&sandbox, &store, &later(&own, 5));
    assert_eq!(store.take_writes(), 1);
    assert_eq!(
        store.stored_record("web1"),
        own,
        "the heartbeat has the same content"
    );
    let mut moved = later(&own, 6);
    moved.apps.get_mut("shop").unwrap().actual = Some(sha('b'));
    publish(&sandbox, &store, &moved);
    assert_eq!(store.take_writes(), 1, "a change is written at once");
    assert_eq!(store.stored_record("web1"), moved);
    // An operator empties the registry; the next heartbeat restores the record.
    store.inner.delete(&record_key(ENV, "web1")).unwrap();
    sandbox.clock.advance(301);
    assert!(publish(&sandbox, &store, &moved).is_empty());
    assert_eq!(store.stored_record("web1"), moved);
    // A clock that was set back does not silence the host.
    store.take_writes();
    sandbox.clock.advance(-86_400);
    publish(&sandbox, &store, &moved);
    assert_eq!(store.take_writes(), 1);
}

#[test]
fn every_pass_reports_a_read_only_store_without_retrying_more_often() {
    let sandbox = Sandbox::empty();
    let mut store = CountingStore::new();
    store.read_only = true;
    let own = record("web1", 1);
    let (first, new) = publish_outcome(&sandbox, &store, &own);
    assert!(
        first.len() == 1 && first[0].contains("403") && first[0].contains("publish: false"),
        "{first:?}"
    );
    assert!(new, "the journal has it once");
    store.take_writes();
    let mut moved = own.clone();
    moved.ports.insert("https".into(), 443);
    assert_eq!(
        publish_outcome(&sandbox, &store, &moved),
        (first.clone(), false)
    );
    assert_eq!(store.take_writes(), 0);
    assert_eq!(
        publish_error(&sandbox.host, ENV, "web1").as_ref(),
        first.first()
    );
    assert_eq!(publish_error(&sandbox.host, ENV, "web2"), None);
    sandbox.clock.advance(301);
    assert_eq!(publish_outcome(&sandbox, &store, &moved), (first, false));
    assert!(
        store.take_writes() > 0,
        "and tried again with the heartbeat"
    );
    store.read_only = false;
    sandbox.clock.advance(301);
    assert!(publish(&sandbox, &store, &moved).is_empty());
    assert_eq!(store.stored_record("web1"), moved);
    assert_eq!(publish_error(&sandbox.host, ENV, "web1"), None);
}

#[test]
fn refused_record_is_written_at_once_when_the_store_answers_again() {
    for store_returned in [true, false] {
        let sandbox = Sandbox::empty();
        let mut store = CountingStore::new();
        store.read_only = true;
        let own = record("web1", 1);
        assert_eq!(publish(&sandbox, &store, &own).len(), 1);
        store.read_only = false;
        sandbox.clock.advance(15);
        let (lines, _) = publish_after(store_returned, &sandbox, &store, &own);
        assert_eq!(lines.is_empty(), store_returned, "{lines:?}");
        // An operator who only allowed the write gives no such sign.
        sandbox.clock.advance(46);
        assert!(publish(&sandbox, &store, &own).is_empty());
        assert_eq!(store.stored_record("web1"), own);
    }
}

#[test]
fn unanswered_write_is_reported_before_the_host_counts_as_gone() {
    let (sandbox, store) = (Sandbox::empty(), CountingStore::new());
    let own = record("web1", 1);
    publish(&sandbox, &store, &own);
    store.inner.set_unreachable(true);
    sandbox.clock.advance(301);
    assert!(publish(&sandbox, &store, &own).is_empty(), "it may be back");
    assert!(store.take_writes() > 0);
    sandbox.clock.advance(301);
    for expected in [true, false] {
        let (lines, is_new) = publish_outcome(&sandbox, &store, &own);
        assert!(lines[0].contains("cannot be reached"), "{lines:?}");
        assert_eq!(is_new, expected);
        assert!(store.take_writes() > 0, "each pass tries");
    }
    store.inner.set_unreachable(false);
    assert!(publish(&sandbox, &store, &own).is_empty());
}

#[test]
fn oversized_record_drops_its_reasons_or_is_reported() {
    let (sandbox, store) = (Sandbox::empty(), CountingStore::new());
    let mut own = record("web1", 1);
    own.last_pass.why = Some("x".repeat(MAX_RECORD));
    assert!(publish(&sandbox, &store, &own).is_empty());
    assert!(store.stored_record("web1").last_pass.why.unwrap().len() < 400);
    let app = own.apps["shop"].clone();
    for n in 0..150 {
        own.apps
            .insert(format!("an-app-with-a-long-name-{n}"), app.clone());
    }
    let lines = publish(&sandbox, &store, &own);
    assert!(
        lines[0].contains("no record has more than 16384"),
        "{lines:?}"
    );
}

#[test]
fn due_heartbeat_is_sent_before_a_long_pass() {
    let (sandbox, store) = (Sandbox::empty(), CountingStore::new());
    let send_heartbeat = || {
        let fleet = FleetSettings::default();
        let (host, store) = (&sandbox.host, &store);
        RecordPublisher {
            host,
            store,
            store_name: "s",
            fleet: &fleet,
            store_returned: false,
        }
        .send_heartbeat();
        store.take_writes()
    };
    assert_eq!(send_heartbeat(), 0, "it has published nothing yet");
    publish(&sandbox, &store, &record("web1", 1));
    store.take_writes();
    assert_eq!(send_heartbeat(), 0);
    sandbox.clock.advance(301);
    assert_eq!(send_heartbeat(), 1);
}

#[test]
fn second_machine_gets_a_taken_name_only_after_the_first_is_gone() {
    let store = CountingStore::new();
    store.inner.set_server_time(fixed_time());
    let (first, second) = (Sandbox::empty(), Sandbox::empty());
    let (first_record, mut second_record) = (record("web1", 1), record("web1", 2));
    second_record.machine_id = Some("f".repeat(32));
    publish(&first, &store, &first_record);
    let lines = publish(&second, &store, &second_record);
    assert!(
        lines.len() == 1
            && lines[0].contains("another machine")
            && lines[0].contains("`trueup fleet --forget web1 --yes`"),
        "{lines:?}"
    );
    assert_eq!(store.stored_record("web1"), first_record);
    let again = publish(&second, &store, &second_record);
    assert_eq!(again, lines, "every pass reports it");
    let snapshot = snapshot_of(&store, &mut RecordCache::empty("s", ENV));
    assert_eq!(names(&snapshot), ["web1"]);
    assert!(
        snapshot.problems[0].contains("two machines use the node name `web1`"),
        "{:?}",
        snapshot.problems
    );
    assert!(publish(&first, &store, &first_record).is_empty());
    // The first host is silent for longer than `gone_after`: the second is its replacement.
    store
        .inner
        .set_server_time(fixed_time() + SignedDuration::from_mins(61));
    second.clock.advance(301);
    assert!(publish(&second, &store, &second_record).is_empty());
    assert_eq!(store.stored_record("web1"), second_record);
    // When the first host returns, it is the second with that name.
    first.clock.advance(301);
    assert_eq!(publish(&first, &store, &first_record).len(), 1);
    store
        .inner
        .set_server_time(fixed_time() + SignedDuration::from_mins(65));
    let silence = |node| node_silence(&store, ENV, node).unwrap();
    assert_eq!(silence("web1"), Some(Duration::from_secs(240)));
    assert_eq!(silence("web"), None);
    assert_eq!(forget_node(&store, ENV, "web1").unwrap(), 3);
    assert_eq!(forget_node(&store, ENV, "web").unwrap(), 0);
}

#[test]
fn cloned_machines_agree_on_one_owner_of_the_name() {
    let store = CountingStore::new();
    let (first, copy) = (Sandbox::empty(), Sandbox::empty());
    let (first_record, mut second_record) = (record("web1", 1), record("web1", 1));
    second_record.addresses = vec!["10.0.0.99".parse().unwrap()];
    let mut lines = Vec::new();
    for _ in 0..4 {
        for (host, record) in [(&first, &first_record), (&copy, &second_record)] {
            host.clock.advance(301);
            lines.extend(publish(host, &store, record));
        }
    }
    assert_eq!(store.stored_record("web1"), first_record);
    assert!(
        lines.len() >= 2,
        "the copy reports it in each of its passes: {lines:?}"
    );
    // A host that only changed its address, and lost its saved record in a reboot, is no copy.
    let rebooted = Sandbox::empty();
    assert!(publish(&rebooted, &store, &second_record).is_empty());
    assert_eq!(store.stored_record("web1"), second_record);
}

#[test]
fn renamed_host_leaves_no_record_behind() {
    let (sandbox, store) = (Sandbox::empty(), CountingStore::new());
    publish(&sandbox, &store, &record("web1", 1));
    publish(&sandbox, &store, &record("web7", 1));
    let snapshot = snapshot_of(&store, &mut RecordCache::empty("s", ENV));
    assert_eq!(names(&snapshot), ["web7"]);
    assert!(snapshot.problems.is_empty(), "{:?}", snapshot.problems);
}

#[test]
fn host_with_failing_passes_keeps_sending_heartbeats() {
    let (sandbox, store) = (Sandbox::empty(), CountingStore::new());
    let own = record("web1", 1);
    let failed = LastPass {
        at: fixed_time(),
        outcome: Exit::BadInput,
        why: Some("node.yml:3: no such role".into()),
    };
    let republish = |sandbox: &Sandbox| {
        let fleet = FleetSettings::default();
        let host = &sandbox.host;
        let own = RecordPublisher {
            host,
            store: &store,
            store_name: "s",
            fleet: &fleet,
            store_returned: false,
        };
        own.republish(
            "web1",
            ENV,
            record("web1", 1).machine_id.as_deref(),
            failed.clone(),
        );
    };
    republish(&sandbox);
    assert_eq!(store.take_writes(), 0, "it has published nothing yet");
    publish(&sandbox, &store, &own);
    republish(&sandbox);
    let stored = store.stored_record("web1");
    assert_eq!(
        (stored.last_pass, &stored.apps),
        (failed.clone(), &own.apps)
    );
    store.take_writes();
    republish(&sandbox);
    assert_eq!(store.take_writes(), 0);
    sandbox.clock.advance(301);
    republish(&sandbox);
    assert_eq!(store.take_writes(), 1, "the heartbeat");
    // After a reboot there is no saved record; the one in the store is the host's own.
    republish(&Sandbox::empty());
    assert!(store.take_writes() >= 1);
}

#[test]
fn published_machine_id_does_not_reveal_the_real_one() {
    let sandbox = Sandbox::empty();
    assert_eq!(machine_id(&sandbox.host), None);
    let id = "0123456789abcdef0123456789abcdef";
    sandbox.write("/etc/machine-id", format!("{id}\n"));
    let derived = machine_id(&sandbox.host).unwrap();
    assert!(derived.len() == 32 && derived != id, "{derived}");
    sandbox.write("/etc/machine-id", "uninitialized\n");
    assert_eq!(machine_id(&sandbox.host), None);
}
