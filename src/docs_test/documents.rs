//! Checks parts of docs/json.md that no sandbox shows, and that no command is missing there.

use std::collections::BTreeSet;

use clap::Command;
use jiff::Timestamp;

use super::docs_path;
use super::json_docs::JsonDocs;
use crate::balancer::claim::{ClaimRecord, ClaimResult};
use crate::balancer::eip::ClaimOutcome;
use crate::cli::help;
use crate::fleet::rollout::RolloutView;
use crate::operate::eip;
use crate::operate::status::NextPass;
use crate::pass::CronStatus;
use crate::ports::ec2::fake::FakeEc2;
use crate::ports::testing::Sandbox;
use crate::release::{ChangeType, ChangedFile, RunningStep};

#[test]
fn rollout_in_documents_is_as_the_page_promises() {
    let view = RolloutView::empty("production", "shop");
    assert_documented("rollout", &view);
}

/// Checks that the page describes this value, and nothing more.
fn assert_documented(section: &str, value: &impl serde::Serialize) {
    let document = serde_json::to_value(value).unwrap();
    let differences = JsonDocs::read().differences(section, &document);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Parts of documents that need systemd, a long build, migrations or EC2.
#[test]
fn parts_that_few_hosts_have_are_as_the_page_promises() {
    let now = Timestamp::UNIX_EPOCH;
    assert_documented(
        "cron job",
        &CronStatus {
            name: "reports".into(),
            timer: "shop-reports.timer".into(),
            next: Some(now),
            last: None,
            running: false,
            failure: Some("it exited with 1".into()),
            why: None,
        },
    );
    assert_documented(
        "running stage",
        &RunningStep {
            release: "20261121044301-4f2c9d0".into(),
            stage: serde_json::from_str("\"build\"").unwrap(),
            step: Some("gems".into()),
            since: now,
            last_output: None,
        },
    );
    assert_documented(
        "next pass",
        &NextPass {
            at: Some(now),
            timer: "trueup.timer",
            underway: false,
        },
    );
    assert_documented(
        "changed file",
        &ChangedFile {
            path: "db/migrate/1.rb".into(),
            change: ChangeType::Gone,
        },
    );
    let claim = ClaimOutcome {
        address: "eipalloc-0a".into(),
        public_address: None,
        instance: "i-0abc1234def567890".parse().unwrap(),
        before: None,
        attempts: 1,
        took_ms: 7,
    };
    let mut claim = serde_json::to_value(claim).unwrap();
    // `eip claim` adds them.
    claim["version"] = 1.into();
    claim["outcome"] = "converged".into();
    assert_documented("`trueup eip claim`", &claim);
}

#[test]
fn moving_addresses_in_documents_are_as_the_page_promises() {
    let sandbox = Sandbox::with_base_system();
    let root = &sandbox.host.root;
    let addresses = ["eipalloc-0a", "10.0.0.5"].map(|text| text.parse().unwrap());
    let now = Timestamp::UNIX_EPOCH;
    ClaimRecord::add(root, &addresses[0], ClaimResult::Claimed, now, 7).unwrap();
    let ec2 = FakeEc2::new();
    let report = eip::status(root, &ec2, &addresses).unwrap();
    assert!(report.addresses[0].last_claim.is_some());
    assert!(!report.addresses[1].holders.is_empty());
    assert_documented("`trueup eip status`", &report);
}

/// Commands that print no document, as the page says.
const WITHOUT: &[&str] = &[
    "exec",
    "demo",
    "completions",
    "balancer check",
    "balancer state",
];

#[test]
fn every_command_with_a_document_is_on_the_page() {
    let page = std::fs::read_to_string(docs_path("json.md")).unwrap();
    let named = named_commands(&page);
    let is_named = |command: &String| {
        let longer = format!("{command} ");
        let mut named = named.iter();
        named.any(|named| named == command || named.starts_with(&longer))
    };
    let mut commands = Vec::new();
    add_commands("", &help::command(), &mut commands);
    commands.retain(|command| !WITHOUT.contains(&command.as_str()) && !is_named(command));
    assert!(commands.is_empty(), "docs/json.md lacks {commands:?}");
}

/// The commands of headings such as "`trueup secret set`, `edit`": `secret set`, and `edit` as well as `secret edit`.
fn named_commands(page: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    let headings = page.lines().filter(|line| line.starts_with("### `trueup "));
    for heading in headings {
        let quoted = heading.split('`').skip(1).step_by(2);
        let words = quoted.map(|words| words.strip_prefix("trueup ").unwrap_or(words));
        let words: Vec<&str> = words.collect();
        let parent = words[0].split(' ').next().unwrap_or_default();
        named.extend(words[1..].iter().map(|words| format!("{parent} {words}")));
        named.extend(words.iter().map(|words| (*words).to_owned()));
    }
    named
}

/// Adds the commands below this one that do something.
fn add_commands(above: &str, command: &Command, commands: &mut Vec<String>) {
    for inner in command.get_subcommands() {
        if inner.is_hide_set() || inner.get_name() == "help" {
            continue;
        }
        let name = format!("{above}{}", inner.get_name());
        match inner.has_subcommands() {
            true => add_commands(&format!("{name} "), inner, commands),
            false => commands.push(name),
        }
    }
}
