use std::collections::BTreeMap;

use super::*;

pub(super) const SHA: &str = "4f2c9d0e1b3a5c7d9e0f1a2b3c4d5e6f70819203";
pub(super) const NEXT: &str = "77aa01c0000000000000000000000000000000ff";

pub(super) fn tags(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect()
}

pub(super) fn parse_and_select(
    text: &str,
    tags: &BTreeMap<String, String>,
    apps: &[&str],
) -> Result<DesiredState, String> {
    let manifest = Manifest::parse("m.yml", text.as_bytes()).map_err(|p| p.to_string())?;
    let apps: Vec<String> = apps.iter().map(|app| app.to_string()).collect();
    let whom = NodeContext {
        environment: "production",
        tags,
        now: "2026-11-21T05:00:00Z".parse().unwrap(),
        last_answer: None,
        signers: None,
    };
    select_apps(&manifest, "m.yml", &whom, &apps, Freshness::Fresh).map_err(|p| p.to_string())
}

#[test]
fn short_and_long_entries_mean_the_same_sha() {
    let short = parse_and_select(
        &format!("production: {{shop: {SHA}}}"),
        &tags(&[]),
        &["shop"],
    )
    .unwrap();
    let long = parse_and_select(
        &format!("generation: 42\nproduction:\n  shop:\n    sha: {SHA}\n    ref: master\n    by: jenkins\n    at: 2026-11-21T04:43:01Z\n    next: {NEXT}\n"),
        &tags(&[]),
        &["shop"],
    )
    .unwrap();
    assert_eq!(short.apps["shop"].sha, long.apps["shop"].sha);
    assert_eq!(long.apps["shop"].next.as_ref().unwrap().as_str(), NEXT);
    assert_eq!(long.generation, Some(42));
}

#[test]
fn override_applies_to_matching_tags_and_expired_hold_is_ignored() {
    let text = format!(
        "production:\n  shop:\n    sha: {SHA}\n    hold: {{reason: db, by: ana, until: 2026-11-21T04:00:00Z}}\n    overrides: [{{match: {{zone: b}}, sha: {NEXT}}}]\n"
    );
    let here = parse_and_select(&text, &tags(&[("zone", "b")]), &["shop"]).unwrap();
    let there = parse_and_select(&text, &tags(&[("zone", "a")]), &["shop"]).unwrap();
    assert_eq!(
        (
            here.apps["shop"].sha.as_str(),
            there.apps["shop"].sha.as_str()
        ),
        (NEXT, SHA)
    );
    assert_eq!(here.apps["shop"].hold, None);
    let held = parse_and_select(&text.replace("T04:00", "T06:00"), &tags(&[]), &["shop"]).unwrap();
    assert_eq!(held.apps["shop"].hold.as_ref().unwrap().by, "ana");
}

#[test]
fn all_digit_sha_stays_text() {
    let sha = "4200000000000000000000000000000000000e42";
    let desired = parse_and_select(
        &format!("production: {{shop: {sha}}}"),
        &tags(&[]),
        &["shop"],
    )
    .unwrap();
    assert_eq!(desired.apps["shop"].sha.as_str(), sha);
}

#[test]
fn bad_entry_fails_its_own_host_and_warns_others() {
    for (bad, expected) in [
        (
            "4f2c9d0",
            "m.yml:2:9: shop: `4f2c9d0` is a short sha (7 of 40 digits)\n  hint: write the full sha: `git rev-parse 4f2c9d0` prints it",
        ),
        (
            "master",
            "m.yml:2:9: shop: `master` is not a git sha\n  hint: expected 40 hexadecimal digits; for a branch or tag name `git rev-parse master` prints its sha",
        ),
        (
            "{sah: 1}",
            "m.yml:2:10: shop: unknown field `sah`\n  hint: did you mean `sha`?",
        ),
    ] {
        let text = format!("production:\n  shop: {bad}\n  other: {SHA}\n");
        assert_eq!(
            parse_and_select(&text, &tags(&[]), &["shop"]).unwrap_err(),
            expected
        );
        let desired = parse_and_select(&text, &tags(&[]), &["other"]).unwrap();
        assert_eq!(desired.warnings[0].to_string(), expected);
        assert_eq!(desired.apps["other"].sha.as_str(), SHA);
    }
}

#[test]
fn unknown_environment_or_app_deploys_nothing_and_suggests_a_name() {
    let desired = parse_and_select(
        &format!("prodution: {{shop: {SHA}}}"),
        &tags(&[]),
        &["shop"],
    )
    .unwrap();
    assert!(desired.apps.is_empty());
    assert!(
        desired.warnings[0]
            .to_string()
            .ends_with("did you mean `prodution`?"),
        "{}",
        desired.warnings[0]
    );
    let desired = parse_and_select(
        &format!("production: {{shopp: {SHA}}}"),
        &tags(&[]),
        &["shop"],
    )
    .unwrap();
    assert!(
        desired.warnings[0]
            .to_string()
            .contains("did you mean `shopp`?")
    );
}

#[test]
fn manifest_without_a_map_of_environments_is_refused() {
    for (text, expected) in [
        ("", "m.yml:1:1: the manifest is empty"),
        ("- a", "m.yml:1:1: expected a map of environments"),
        (
            "generaton: 3",
            "m.yml:1:12: generaton: expected an environment: a map of apps to shas, found the number `3`\n  hint: did you mean `generation`?",
        ),
        (
            "generation: soon",
            "m.yml:1:13: generation: expected a whole number",
        ),
    ] {
        let error = parse_and_select(text, &tags(&[]), &["shop"]).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn manifest_size_is_limited_and_a_large_one_needs_little_memory() {
    let nested = 60;
    let many = |apps: usize, value: &str| -> String {
        let apps: String = (0..apps).map(|n| format!("  app{n}: {value}\n")).collect();
        format!("production: {{shop: {SHA}}}\nstaging:\n{apps}")
    };
    for text in [many(75_000, SHA), many(95_000, "x")] {
        let (read, peak) =
            crate::testing::peak_memory(|| parse_and_select(&text, &tags(&[]), &["shop"]));
        assert_eq!(read.unwrap().apps["shop"].sha.as_str(), SHA);
        assert!(peak < 150 << 20, "{} MiB", peak >> 20);
    }
    // Each of many apps inherits a long list, and a circle goes through half of them.
    let after: Vec<String> = (0..50).map(|n| format!("app{n}")).collect();
    let apps: String = (0..17_000)
        .map(|n| {
            let next = 50 + (n + 1) % 17_000;
            format!(
                "  app{n}: {SHA}\n  r{}: {{sha: {SHA}, rollout: {{after: [r{next}]}}}}\n",
                n + 50
            )
        })
        .collect();
    let text = format!(
        "production:\n  _settings: {{rollout: {{after: [{}]}}}}\n  shop: {SHA}\n{apps}",
        after.join(", ")
    );
    let (read, peak) =
        crate::testing::peak_memory(|| parse_and_select(&text, &tags(&[]), &["shop"]));
    assert_eq!(read.unwrap().warnings.len(), 11);
    assert!(peak < 150 << 20, "{} MiB", peak >> 20);
    let bomb: String = (0..nested).map(|n| format!("&a{n} [")).collect();
    let bomb = format!("{bomb}{}{}", "x,".repeat(190_000), "]".repeat(nested));
    let (read, peak) =
        crate::testing::peak_memory(|| parse_and_select(&bomb, &tags(&[]), &["shop"]));
    assert!(read.unwrap_err().contains("anchors"));
    assert!(peak < 150 << 20, "{} MiB", peak >> 20);
}

#[test]
fn long_manifest_names_and_problems_are_truncated() {
    let bad: String = (0..5000).map(|n| format!("  app{n}: master\n")).collect();
    let text = format!("production:\n  shop: {SHA}\n{bad}");
    let desired = parse_and_select(&text, &tags(&[]), &["shop"]).unwrap();
    assert_eq!(desired.warnings.len(), 11);
    assert!(desired.warnings[10].to_string().contains("4990 more"));
    let many: String = (0..5000)
        .map(|n| format!("e{n}{}: {{}}\n", "x".repeat(500)))
        .collect();
    let desired = parse_and_select(&many, &tags(&[]), &["shop"]).unwrap();
    let message = desired.warnings[0].to_string();
    assert!(
        message.contains(" and more") && message.len() < 2000,
        "{message}"
    );
}

#[test]
fn entry_texts_and_overrides_are_limited() {
    let long = "x".repeat(5000);
    for (entry, expected) in [
        (
            format!("{{sha: {SHA}, ref: {long}}}"),
            "shop.ref: it is 5000 characters long; at most 300",
        ),
        (format!("{{sha: {SHA}, by: {long}}}"), "shop.by: it is 5000"),
        (
            format!("{{sha: {SHA}, hold: {{by: a, reason: {long}}}}}"),
            "shop.hold.reason: it is 5000 characters long; at most 2000",
        ),
        (
            format!(
                "{{sha: {SHA}, overrides: [{}]}}",
                format!("{{match: {{a: b}}, sha: {SHA}}},").repeat(1001)
            ),
            "shop.overrides: there are 1001 overrides",
        ),
        (
            format!(
                "{{sha: {SHA}, overrides: [{{match: {{a: b}}, sha: {SHA}}}, {{match: {{}}, sha: {SHA}}}]}}"
            ),
            "shop.overrides[1].match: it names no tag, so it would match every host",
        ),
    ] {
        let message = parse_and_select(
            &format!("production: {{shop: {entry}}}"),
            &tags(&[]),
            &["shop"],
        )
        .unwrap_err();
        assert!(message.contains(expected), "{message}");
    }
}

/// The host's reaction to each manifest, one after the other.
fn read_each(manifests: &[&str]) -> Vec<Result<Option<u64>, String>> {
    use crate::ports::store::{MemoryStore, Store, WriteCondition};
    use crate::ports::testing::Sandbox;

    let sandbox = Sandbox::empty();
    let store = MemoryStore::new();
    let (apps, none) = (["shop".to_owned()], tags(&[]));
    let whom = NodeContext {
        environment: "production",
        tags: &none,
        now: "2026-11-21T05:00:00Z".parse().unwrap(),
        last_answer: None,
        signers: None,
    };
    let pass = |generation: &&str| {
        let body = format!("generation: {generation}\nproduction: {{shop: {SHA}}}\n");
        store
            .put("m", body.as_bytes(), WriteCondition::Always)
            .unwrap();
        let ask = ReadOptions {
            force: false,
            save_last_good: true,
        };
        let desired = read(&store, "m", ask, &sandbox.host, (&whom, &apps))
            .map_err(|error| error.to_string())?;
        match desired.freshness {
            Freshness::Refused(problem) => Err(problem.to_string()),
            _ => Ok(desired.generation),
        }
    };
    manifests.iter().map(pass).collect()
}

#[test]
fn leaping_generation_is_refused_and_the_last_good_one_kept() {
    let most = "18446744073709551615";
    let taken = read_each(&["42", most, "1000043", "1000042", "43", "1000043"]);
    assert_eq!(taken[0], Ok(Some(42)));
    let refused = |n: usize, part: &str| {
        let message = taken[n].as_ref().unwrap_err();
        assert!(
            message.contains(part) && message.contains("--above-fleet"),
            "{message}"
        );
    };
    refused(
        1,
        "it is 18446744073709551615, and this host has applied 42: a leap",
    );
    refused(2, "a leap of more than 1000000");
    assert_eq!(taken[3], Ok(Some(1_000_042)));
    refused(4, "an older manifest");
    assert_eq!(taken[5], Ok(Some(1_000_043)));
}

#[test]
fn first_generation_is_limited() {
    let first = |generation: &str| read_each(&[generation]).remove(0);
    assert_eq!(first("1099511627776"), Ok(Some(1 << 40)));
    for generation in ["1099511627777", "18446744073709551615"] {
        let message = first(generation).unwrap_err();
        assert!(
            message.contains("accepts none above 1099511627776"),
            "{message}"
        );
    }
}

#[test]
fn times_of_an_entry_say_what_is_expected_of_them() {
    const EXPECTED: &str = "hint: expected such as `2026-11-29T18:00:00Z`";
    for (field, value, problem) in [
        ("restart_requested_at", "yesterday", "is not a time"),
        ("restart_requested_at", "2026-11-29", "is not a time"),
        ("at", "soon", "is not a time"),
        ("at", "2026-11-29T18:00:00", "has no time zone"),
        ("hold.until", "tomorrow", "is not a time"),
    ] {
        let entry = match field.split_once('.') {
            None => format!("{field}: {value}"),
            Some((map, key)) => format!("{map}: {{by: ana, reason: r, {key}: {value}}}"),
        };
        let text = format!("production:\n  shop:\n    sha: {SHA}\n    {entry}\n");
        let message = parse_and_select(&text, &tags(&[]), &["shop"]).unwrap_err();
        let expected = format!("shop.{field}: `{value}` {problem}");
        assert!(message.contains(&expected), "{message}");
        assert!(message.starts_with("m.yml:4:"), "{message}");
        let has_hint =
            message.contains(EXPECTED) || message.contains("write `2026-11-29T18:00:00Z`");
        assert!(has_hint, "{message}");
    }
}
