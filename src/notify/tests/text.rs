//! The texts that ship, and what they make of texts from elsewhere.

#![allow(
    clippy::disallowed_methods,
    reason = "templates are files of the machine"
)]

use std::path::Path;

use super::*;
use crate::notify::notice::{HostProgress, NoticeFailure};
use crate::notify::text::render;
use crate::settings::{Channel, Lookup};

fn lookup() -> Lookup {
    let nowhere = Path::new("/nonexistent");
    Lookup::for_config(&nowhere.join("node.yml"), nowhere).unwrap()
}

fn channel(kind: serde_json::Value) -> Channel {
    serde_json::from_value(kind).unwrap()
}

fn slack() -> Channel {
    channel(json!({"slack": {"url": "https://hooks.example.com/x"}}))
}

fn email() -> Channel {
    channel(json!({"email": {"to": ["root"]}}))
}

fn full() -> Notice {
    let mut notice = halted();
    notice.from = Some(sha('4'));
    notice.by = Some("ana".into());
    notice.reason = Some("faster checkout".into());
    notice.reference = Some("master".into());
    notice.hosts = Some(HostProgress {
        done: Some(2),
        total: 10,
    });
    notice.failure = Some(NoticeFailure {
        node: "web1".into(),
        stage: None,
        reason: "the gate failed".into(),
        log_tail: "boom\n  at app.rb:3".into(),
        hosts: 3,
    });
    notice.with_commits(&["9999999 Fix the checkout".to_owned()]);
    notice.with_notes(["run the reindex"].into_iter());
    notice.add_command("go back", "trueup rollback production shop".into());
    notice
}

#[test]
fn message_has_all_that_an_operator_asks_first() {
    let text = render(&lookup(), &email(), &full()).unwrap();
    assert_eq!(
        text,
        "production/shop: 9999999 failed on web1: the gate failed\n\
         \n\
         Sha:    4444444 -> 9999999 (master)\n\
         By:     ana\n\
         Why:    faster checkout\n\
         Hosts:  2 of 10\n\
         \n\
         \x20 9999999 Fix the checkout\n\
         \n\
         web1 and 2 more: the gate failed\n\
         \n\
         boom\n\
         \x20 at app.rb:3\n\
         \n\
         To do:  run the reindex\n\
         \n\
         To go back: trueup rollback production shop"
    );
}

#[test]
fn failure_that_the_first_line_has_is_not_repeated() {
    let mut notice = full();
    notice.failure.as_mut().unwrap().hosts = 1;
    for channel in [slack(), email()] {
        let text = render(&lookup(), &channel, &notice).unwrap();
        assert_eq!(text.matches("the gate failed").count(), 1, "{text}");
        assert!(text.contains("boom\n"), "{text}");
    }
}

#[test]
fn message_of_slack_has_the_same_in_its_own_form() {
    let text = render(&lookup(), &slack(), &full()).unwrap();
    assert_eq!(
        text,
        "*production/shop: halted* production/shop: 9999999 failed on web1: the gate failed\n\
         by ana: faster checkout\n\
         2 of 10 hosts have it\n\
         • 9999999 Fix the checkout\n\
         *web1 and 2 more:* the gate failed\n\
         ```\n\
         boom\n\
         \x20 at app.rb:3\n\
         ```\n\
         :point_right: to do: run the reindex\n\
         to go back: `trueup rollback production shop`"
    );
}

#[test]
fn every_transition_has_a_text_without_details() {
    for transition in Transition::ALL {
        let mut notice = halted();
        notice.transition = transition;
        for channel in [slack(), email()] {
            let text = render(&lookup(), &channel, &notice).unwrap();
            assert!(text.contains(&notice.summary), "{text}");
            assert!(!text.contains("\n\n\n"), "{text}");
        }
    }
}

#[test]
fn nobody_is_pinged_by_a_commit_or_a_reason() {
    let mut notice = full();
    notice
        .with_commits(&["1 <!channel> <@U1> @here & ``` [x](http://evil.example.com)".to_owned()]);
    notice.reason = Some("<!everyone> @channel".into());
    notice.failure.as_mut().unwrap().log_tail = "```\n<!here>".into();
    let text = render(&lookup(), &slack(), &notice).unwrap();
    for ping in ["<!", "<@", "@here", "@channel", "](http"] {
        assert!(!text.contains(ping), "{ping}: {text}");
    }
    assert!(
        text.contains("&lt;!channel&gt;") && text.contains("&amp;"),
        "{text}"
    );
    assert_eq!(text.matches("```").count(), 2, "{text}");
}

#[test]
fn mistake_in_a_template_names_file_line_and_value() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("templates/own.txt");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "{{ summary }}\n{{ sumary }}\n").unwrap();
    let lookup =
        Lookup::for_config(&folder.path().join("node.yml"), Path::new("/nonexistent")).unwrap();
    let mut own = email();
    own.template = Some("own.txt".into());
    let error = render(&lookup, &own, &full()).unwrap_err().to_string();
    assert!(
        error.contains("templates/own.txt:2:") && error.contains("sumary"),
        "{error}"
    );
    std::fs::write(&path, "{{ app }} is {{ transition }}").unwrap();
    assert_eq!(render(&lookup, &own, &full()).unwrap(), "shop is halted");
    own.template = Some("notify/mesage.txt".into());
    let error = render(&lookup, &own, &full()).unwrap_err().to_string();
    assert!(
        error.contains("did you mean `notify/message.txt`?"),
        "{error}"
    );
}
