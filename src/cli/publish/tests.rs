use clap::Parser;

use super::*;
use crate::cli::{Cli, Command};

const SHA: &str = "4f2c9d0e1b3a5c7d9e0f1a2b3c4d5e6f70819203";

fn parse(words: &[&str]) -> Result<PublishRequest, String> {
    let words = ["trueup", "publish"].iter().chain(words);
    match Cli::try_parse_from(words).unwrap().command {
        Command::Publish(args) => parse_request(&args).map_err(|problem| problem.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn invalid_publish_arguments_say_what_to_type_instead() {
    let full = format!("shop={SHA}");
    let web = format!("web={SHA}");
    for (words, expected) in [
        (
            vec!["production", "shop=4f2c9d0"],
            "shop: `4f2c9d0` is a short sha (7 of 40 digits)\n  hint: write the full sha: `git rev-parse 4f2c9d0` prints it",
        ),
        (
            vec!["production", "shop=master"],
            "shop: `master` is not a git sha\n  hint: expected 40 hexadecimal digits; for a branch or tag name `git rev-parse master` prints its sha",
        ),
        (
            vec!["production", &format!("shop={}", "4f2c9d0e".repeat(8))],
            &format!(
                "shop: `{}` is a sha-256 id (64 digits): not supported\n  hint: expected 40 hexadecimal digits: trueup deploys from repositories with git's default object format, sha-1, alone (`git rev-parse --show-object-format` prints it)",
                "4f2c9d0e".repeat(8)
            ),
        ),
        (
            vec!["production", SHA],
            &format!(
                "`{SHA}` is not `APP=SHA`\n  hint: as in `trueup publish production shop=$(git rev-parse HEAD)`"
            ),
        ),
        (vec!["production", &full, &full], "`shop` is given twice"),
        (
            vec!["production", &full, &web, "--ref", "master"],
            "--ref goes with one app only\n  hint: publish the apps one by one",
        ),
        (
            vec!["production", &full, "--ref", "a\nb"],
            "--ref: expected one line of text",
        ),
        (
            vec!["production", &full, "--hold", " "],
            "--hold: expected a reason",
        ),
        (
            vec!["production", &full, "--hold", "a\u{1b}[2J"],
            "--hold: expected one line of text",
        ),
        (
            vec!["production", &full, "--hold", &"x".repeat(2001)],
            "--hold: it is 2001 characters long; at most 2000 are allowed",
        ),
        (
            vec!["production", &full, "--hold", "r", "--until", "later"],
            "--until: `later` is not a time\n  hint: expected such as `2026-11-29T18:00:00Z`, or a date, `2026-11-29`, for the end of that day in UTC",
        ),
    ] {
        assert_eq!(parse(&words).unwrap_err(), expected);
    }
}

#[test]
fn hold_is_set_or_lifted_with_the_shas_that_are_published() {
    let full = format!("shop={SHA}");
    let hold = |words: &[&str]| {
        let words = [&["production", &full], words].concat();
        parse(&words).unwrap().hold
    };
    assert_eq!(hold(&[]), HoldRequest::Keep);
    assert_eq!(hold(&["--lift-hold"]), HoldRequest::Lift);
    let set = HoldRequest::Set {
        reason: r"bad \u{202e}sha".into(),
        until: Some("2026-11-30T00:00:00Z".parse().unwrap()),
    };
    let words = ["--hold", "bad \u{202e}sha", "--until", "2026-11-29"];
    assert_eq!(hold(&words), set);
}

#[test]
fn empty_options_count_as_absent() {
    let full = format!("shop={SHA}");
    let order = parse(&["production", &full, "--ref", "", "--by", "jenkins"]).unwrap();
    assert!(order.references.is_empty());
    assert_eq!(order.by.as_deref(), Some("jenkins"));
}

#[test]
fn each_app_is_printed_in_one_line() {
    let sha = |text: &str| Sha::parse(&text.repeat(40)).unwrap();
    let published = PublishSummary {
        manifest: "s3://packages/sha_number.yml".into(),
        written: true,
        generation: Some(43),
        changes: Vec::new(),
        warnings: Vec::new(),
    };
    for (from, expected) in [
        (
            Some(sha("a")),
            "production/shop aaaaaaa -> bbbbbbb (generation 43) in s3://packages/sha_number.yml",
        ),
        (
            Some(sha("b")),
            "production/shop is already at bbbbbbb (generation 43) in s3://packages/sha_number.yml",
        ),
        (
            None,
            "production/shop new -> bbbbbbb (generation 43) in s3://packages/sha_number.yml",
        ),
    ] {
        let one = ShaChange {
            app: "shop".into(),
            from,
            to: sha("b"),
        };
        assert_eq!(move_line(&one, "production", &published), expected);
    }
}

#[test]
fn store_options_require_a_store() {
    for option in ["--region=x", "--endpoint=http://x", "--path-style"] {
        let full = format!("shop={SHA}");
        let words = ["trueup", "publish", "production", &full, option];
        let error = Cli::try_parse_from(words).unwrap_err().to_string();
        assert!(error.contains("--store"), "{error}");
    }
}
