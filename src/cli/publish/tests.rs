use clap::Parser;

use super::print::move_line;
use super::*;
use crate::cli::{Cli, Command};
use crate::desired::{HoldRequest, PublishRequest, PublishSummary, Sha, ShaChange};
use crate::operate::commits::Revision;
use crate::operate::publish::WantedCommit;

const SHA: &str = "4f2c9d0e1b3a5c7d9e0f1a2b3c4d5e6f70819203";

fn parse_all(
    words: &[&str],
    job: Option<&CiJob>,
) -> Result<(PublishRequest, Vec<WantedCommit>), String> {
    let words = ["trueup", "publish"].iter().chain(words);
    match Cli::try_parse_from(words).unwrap().command {
        Command::Publish(args) => parse_request(&args, job).map_err(|problem| problem.to_string()),
        other => panic!("{other:?}"),
    }
}

fn parse(words: &[&str]) -> Result<PublishRequest, String> {
    parse_all(words, None).map(|(request, _)| request)
}

fn job() -> CiJob {
    CiJob {
        system: "GitHub Actions",
        sha: Sha::parse(SHA).unwrap(),
        reference: Some("main".into()),
        by: Some("ana".into()),
    }
}

#[test]
fn invalid_publish_arguments_say_what_to_type_instead() {
    let full = format!("shop={SHA}");
    let web = format!("web={SHA}");
    for (words, expected) in [
        (
            vec!["production", "shop=main~1"],
            "shop: `main~1` is not the name of a commit\n  hint: expected a branch, a tag or a sha; for anything else `git rev-parse 'main~1'` prints the sha",
        ),
        (
            vec!["production", "shop="],
            "shop: the sha is empty\n  hint: expected 40 hexadecimal digits",
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
                "`{SHA}` is not `APP=SHA` or `APP=REF`\n  hint: as in `trueup publish production shop=main`; with --via-ci the app is enough"
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
    let words = ["production", &full, "--ref", "", "--by", "jenkins"];
    let (order, wanted) = parse_all(&words, None).unwrap();
    assert_eq!(wanted[0].reference, None);
    assert_eq!(order.by.as_deref(), Some("jenkins"));
}

#[test]
fn job_of_ci_names_the_commit_of_an_app_without_one() {
    let web = format!("web={}", "a".repeat(40));
    let words = [
        "staging", "shop", &web, "blog=v1", "--via-ci", "--reason", "r",
    ];
    let (request, wanted) = parse_all(&words, Some(&job())).unwrap();
    assert_eq!(request.by.as_deref(), Some("ana"));
    assert_eq!(request.reason.as_deref(), Some("r"));
    assert!(request.refuses_holds);
    let own = WantedCommit {
        app: "shop".into(),
        revision: Revision::Full(Sha::parse(SHA).unwrap()),
        reference: Some("main".into()),
    };
    assert_eq!(wanted[0], own);
    assert_eq!(wanted[1].reference, None);
    assert_eq!(wanted[2].revision, Revision::Name("v1".into()));
    let words = ["staging", "shop", "--via-ci", "--by", "ben", "--next"];
    let (request, _) = parse_all(&words, Some(&job())).unwrap();
    assert_eq!(request.by.as_deref(), Some("ben"));
    assert!(!request.refuses_holds, "a hold lets hosts build ahead");
    assert!(parse(&["staging", "shop"]).is_err());
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    for options in [
        &["--wait", "--dry-run"][..],
        &["--wait", "--next"],
        &["--next", "--hold", "x"],
        &["--timeout", "5m"],
    ] {
        let words = ["trueup", "publish", "production", "shop=main"];
        let words = words.iter().chain(options);
        assert!(Cli::try_parse_from(words).is_err(), "{options:?}");
    }
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
        texts: None,
        desired: Manifest::parse("m.yml", b"generation: 43").unwrap(),
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
