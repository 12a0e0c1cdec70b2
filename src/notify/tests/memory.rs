//! What is news to a host, and what is not.

use super::*;

const NOW: &str = "03:00:00";

fn notice(id: &str, transition: Transition) -> Notice {
    let mut notice = halted();
    notice.id = id.into();
    notice.transition = transition;
    notice
}

fn started() -> Notice {
    notice("started:9999999:43", Transition::Started)
}

fn published(id: &str) -> Observation {
    Observation {
        manifest: vec![notice(id, Transition::Published)],
        published_key: id.into(),
        ..Observation::default()
    }
}

fn with_register(notices: Vec<Notice>) -> Observation {
    Observation {
        register: Some(notices),
        ..published("published:a")
    }
}

fn pending(memory: &AppMemory) -> Vec<&str> {
    let pending = memory.pending.iter();
    pending.map(|pending| pending.notice.id.as_str()).collect()
}

/// A host that has looked before.
fn settled() -> AppMemory {
    let mut memory = AppMemory::new(SCOPE);
    memory.notice(with_register(vec![]), (at("02:59:00"), false), &to_ops);
    memory
}

#[test]
fn first_look_of_a_host_is_no_news() {
    let mut memory = AppMemory::new(SCOPE);
    memory.notice(with_register(vec![started()]), (at(NOW), false), &to_ops);
    assert_eq!(pending(&memory), [""; 0]);
    memory.notice(published("published:b"), (at("03:01:00"), false), &to_ops);
    assert_eq!(pending(&memory), ["published:b"]);
}

#[test]
fn app_that_the_host_does_not_look_at_is_forgotten() {
    let sandbox = crate::ports::testing::Sandbox::empty();
    let root = &sandbox.host.root;
    let scope = ("s3://bucket", "production");
    for app in ["shop", "blog"] {
        let mut memory = AppMemory::load(root, app, scope);
        memory.notice(published("published:a"), (at(NOW), false), &to_ops);
        memory.save(root, app).unwrap();
    }
    let mut health = crate::notify::ChannelHealth::load(root);
    health.record("ops", Err("no answer"), at(NOW));
    health.save(root).unwrap();
    AppMemory::forget_others(root, &BTreeSet::from(["shop"])).unwrap();
    assert_eq!(crate::notify::ChannelHealth::load(root), health);
    let news = |app| {
        let mut memory = AppMemory::load(root, app, scope);
        memory.notice(published("published:b"), (at("09:00:00"), false), &to_ops);
        pending(&memory).len()
    };
    assert_eq!((news("shop"), news("blog")), (1, 0));
}

#[test]
fn what_the_host_did_itself_is_news_even_at_its_first_look() {
    let mut memory = AppMemory::new(SCOPE);
    let observation = Observation {
        own: BTreeSet::from(["published:a".to_owned(), started().id]),
        ..with_register(vec![started()])
    };
    memory.notice(observation, (at(NOW), true), &to_ops);
    assert_eq!(pending(&memory), ["published:a", "started:9999999:43"]);
    assert!(memory.is_due(at(NOW)));
}

#[test]
fn host_that_was_away_says_nothing_about_what_it_missed() {
    let mut memory = settled();
    let halt = || with_register(vec![halted()]);
    memory.notice(halt(), (at("23:00:00"), true), &to_ops);
    assert_eq!(pending(&memory), [""; 0]);
    memory.notice(halt(), (at("23:00:30"), false), &to_ops);
    assert_eq!(pending(&memory), [""; 0]);
    memory.notice(published("published:b"), (at("23:01:00"), false), &to_ops);
    assert_eq!(pending(&memory), ["published:b"]);
}

#[test]
fn register_that_was_not_read_before_is_news_only_if_its_rollout_is_new() {
    for (opened, expected) in [("02:00:00", 0), ("03:00:00", 1)] {
        let mut memory = AppMemory::new(SCOPE);
        memory.notice(published("published:a"), (at("02:30:00"), false), &to_ops);
        let observation = Observation {
            opened: Some(at(opened)),
            ..with_register(vec![halted()])
        };
        memory.notice(observation, (at(NOW), false), &to_ops);
        assert_eq!(pending(&memory).len(), expected, "{opened}");
    }
}

#[test]
fn transition_that_another_one_followed_is_not_sent() {
    let mut memory = settled();
    memory.notice(with_register(vec![started()]), (at(NOW), false), &to_ops);
    assert_eq!(pending(&memory), ["started:9999999:43"]);
    memory.notice(
        with_register(vec![halted()]),
        (at("03:00:10"), false),
        &to_ops,
    );
    assert_eq!(pending(&memory), ["halted:9999999:43"]);
    // A pass that does not read the register knows nothing of it.
    memory.notice(published("published:a"), (at("03:00:20"), false), &to_ops);
    assert_eq!(pending(&memory), ["halted:9999999:43"]);
}

#[test]
fn notice_that_waits_is_renewed_with_what_is_known_now() {
    let mut memory = settled();
    memory.notice(with_register(vec![halted()]), (at(NOW), false), &to_ops);
    let mut newer = halted();
    newer.summary = "3 hosts".into();
    memory.notice(with_register(vec![newer]), (at("03:00:10"), false), &to_ops);
    assert_eq!(memory.pending[0].notice.summary, "3 hosts");
}

#[test]
fn unsent_notice_is_dropped_after_an_hour() {
    let mut memory = settled();
    memory.notice(with_register(vec![halted()]), (at(NOW), false), &to_ops);
    memory.notice(published("published:a"), (at("04:00:01"), false), &to_ops);
    assert_eq!(pending(&memory), [""; 0]);
}

#[test]
fn end_of_a_hold_is_news_to_whoever_knew_it() {
    let hold = crate::notify::notice::NoticeHold {
        by: "ana".into(),
        reason: "db".into(),
        until: None,
        sha: None,
    };
    let held = Observation {
        hold: Some(("x".into(), hold)),
        ..published("published:a")
    };
    let mut memory = settled();
    memory.notice(held, (at(NOW), false), &to_ops);
    assert!(memory.known_hold().is_some());
    let ended = Observation {
        hold_ended: Some(notice("hold-ended:x", Transition::HoldEnded)),
        ..published("published:a")
    };
    memory.notice(ended, (at("03:10:00"), false), &to_ops);
    assert_eq!(pending(&memory), ["hold-ended:x"]);
    assert!(memory.known_hold().is_none());
}

#[test]
fn manifest_full_of_notes_keeps_few_notices() {
    let mut memory = settled();
    let many = (0..1000).map(|number| notice(&format!("note:{number}"), Transition::Note));
    let observation = Observation {
        manifest: many.collect(),
        ..Observation::default()
    };
    memory.notice(observation, (at(NOW), false), &to_ops);
    assert_eq!(pending(&memory).len(), 20);
}

#[test]
fn channel_rests_longer_the_more_often_it_fails() {
    use crate::notify::ChannelHealth;
    let mut health = ChannelHealth::default();
    assert_eq!(health.rest("ops", at(NOW)), None);
    let mut now = at(NOW);
    for minutes in [1, 2, 4, 8, 16, 30, 30] {
        health.record("ops", Err("no answer"), now);
        assert_eq!(
            health.rest("ops", now),
            Some(SignedDuration::from_mins(minutes))
        );
        now += SignedDuration::from_mins(minutes);
        assert_eq!(health.rest("ops", now), None);
    }
    let warning = health.warnings().next().unwrap().to_string();
    assert!(
        warning.contains("the channel ops failed 7 times in a row: no answer"),
        "{warning}"
    );
    health.record("ops", Ok(()), now);
    assert_eq!(
        (health.rest("ops", now), health.warnings().count()),
        (None, 0)
    );
}

#[test]
fn channel_takes_a_bounded_number_of_messages_an_hour() {
    let mut health = crate::notify::ChannelHealth::default();
    for _ in 0..60 {
        assert_eq!(health.rest("ops", at(NOW)), None);
        health.record("ops", Ok(()), at(NOW));
    }
    assert!(health.rest("ops", at("03:30:00")).is_some());
    assert_eq!(health.rest("ops", at("04:00:00")), None);
}
