//! The manifest in the store.

use super::{assert_refused, assert_refused_within_bounds, host, yaml_bomb};
use crate::sandbox::{MANIFEST, Sandbox};

const NAME: &str = "dir:@STORE@/sha_number.yml";
const SHA: &str = "4f2c9d0e1b3a5c7d9e0f1a2b3c4d5e6f70819203";

#[test]
fn invalid_manifest_is_refused_and_changes_nothing() {
    for (written, expected) in [
        (
            &b""[..],
            ":1:1: the manifest is empty; expected a map of environments to apps to shas",
        ),
        (
            b"\x7fELF\x00",
            ":1:1: this is not text: it holds a NUL byte",
        ),
        (b"production:\n  \xff\xfe", ":2:1: this is not UTF-8 text"),
        (
            b"\xff\xfep\0r\0",
            ":1:1: this is UTF-16 text\n  hint: save it as UTF-8, without a byte order mark",
        ),
        (
            b"\x1f\x8b\x08\0",
            ":1:1: this is compressed (gzip)\n  hint: store it as it is: leave out the compression of the tool that uploaded it",
        ),
        (&[b'a'; 10 << 20], " is larger than 4194304 bytes"),
        (
            b"production:\n\tshop: x\n",
            ":2:1: not valid YAML: tabs disallowed within this context (block indentation)\n  hint: the line is indented with a tab; YAML allows only spaces",
        ),
        (
            b"production: {}\nproduction: {}\n",
            ":2:1: duplicate key `production` (first on line 1)",
        ),
        (
            b"generation: -1\nproduction: {}\n",
            ":1:13: generation: expected a whole number that is not negative, found the number `-1`",
        ),
        (
            b"generaton: 3\nproduction: {}\n",
            ":1:12: generaton: expected an environment: a map of apps to shas, found the number `3`\n  hint: did you mean `generation`?",
        ),
    ] {
        let host = host();
        host.manifest(written);
        assert_refused(&host, &format!("{NAME}{expected}"));
    }
}

#[test]
fn yaml_bomb_in_the_manifest_is_bounded() {
    let host = host();
    host.manifest(yaml_bomb());
    assert_refused_within_bounds(
        &host,
        &format!(
            "{NAME}:6:8: it expands to more than 200000 values (an alias counts as its target)"
        ),
    );
}

/// A host of the app `shop`, whose repository does not exist.
fn shop() -> Sandbox {
    let host = host();
    host.role(
        "resources:\n  - directory: {path: /srv}\n  - release: {app: shop, repo: \"file:///no/such/repository\", deploy_to: /srv/shop}\n",
    );
    host
}

#[test]
fn end_of_a_hold_needs_its_time_zone() {
    let host = shop();
    host.manifest(format!(
        "production:\n  shop:\n    sha: {SHA}\n    hold: {{reason: a, by: b, until: 2026-11-29T18:00}}\n"
    ));
    assert_refused(
        &host,
        &format!(
            "{NAME}:4:37: shop.hold.until: `2026-11-29T18:00` has no time zone\n  hint: write `2026-11-29T18:00Z` for UTC, or another offset, as in `2026-11-29T18:00+01:00`"
        ),
    );
}

#[test]
fn invalid_sha_is_refused_only_by_hosts_of_its_app() {
    for (written, expected) in [
        (
            "4f2c9d0",
            "`4f2c9d0` is a short sha (7 of 40 digits)\n  hint: write the full sha: `git rev-parse 4f2c9d0` prints it",
        ),
        (
            "master",
            "`master` is not a git sha\n  hint: expected 40 hexadecimal digits; for a branch or tag name `git rev-parse master` prints its sha",
        ),
    ] {
        let host = shop();
        host.manifest(format!("production:\n  shop: {written}\n"));
        assert_refused(&host, &format!("{NAME}:2:9: shop: {expected}"));
        // A host that does not run the app only warns.
        host.role("resources:\n  - directory: {path: /srv}\n");
        let ran = host.converged();
        let warning = format!("warning: {NAME}:2:9: shop: {expected}\n");
        assert!(ran.out.contains(&warning), "{ran}");
    }
}

#[test]
fn invalid_policy_is_refused_only_by_hosts_of_its_app() {
    for (rollout, column, field, expected) in [
        (
            "{max_unavailible: 1}",
            15,
            "",
            "unknown field `max_unavailible`\n  hint: did you mean `max_unavailable`?",
        ),
        (
            "{max_unavailable: 0%}",
            32,
            ".max_unavailable",
            "`0%` lets no host take a new sha\n  hint: expected at least 1; to freeze an app, give it a `hold`",
        ),
        (
            "{max_unavailable: 101%}",
            32,
            ".max_unavailable",
            "`101%` is more than all hosts\n  hint: expected a number of hosts from 1, such as `2`, or a percentage from `1%` to `100%`",
        ),
        (
            "{after: [shop]}",
            22,
            ".after",
            "shop can never take a new sha, because its `after` goes in a circle: shop → shop",
        ),
        (
            "{after: [blog]}",
            23,
            ".after[0]",
            "there is no app `blog` in this environment",
        ),
    ] {
        let host = shop();
        host.manifest(format!(
            "production:\n  shop:\n    sha: {SHA}\n    rollout: {rollout}\n"
        ));
        let problem = format!("{NAME}:4:{column}: shop.rollout{field}: {expected}");
        assert_refused(&host, &problem);
        host.role("resources:\n  - directory: {path: /srv}\n");
        let ran = host.converged();
        assert!(ran.out.contains(&format!("warning: {problem}\n")), "{ran}");
    }
}

#[test]
fn invalid_settings_of_an_environment_are_refused_by_all_its_hosts() {
    let host = host();
    host.manifest("production:\n  _settings: {rollout: {per: [zone]}}\n");
    assert_refused(
        &host,
        &format!("{NAME}:2:30: _settings.rollout.per: expected text, found a list"),
    );
    host.manifest("staging:\n  _settings: {rollout: {per: [zone]}}\nproduction: {}\n");
    host.converged();
}

#[test]
fn missing_environment_or_app_in_the_manifest_deploys_nothing() {
    let host = shop();
    for (written, expected) in [
        (
            format!("prodution:\n  shop: {SHA}\n"),
            format!(
                "{NAME} has no environment `production` (it has prodution): nothing to deploy yet\n  hint: did you mean `prodution`?"
            ),
        ),
        (
            format!("production:\n  shopp: {SHA}\n"),
            format!(
                "nothing to deploy yet: {NAME} has no `shop` in production\n  hint: did you mean `shopp`?"
            ),
        ),
    ] {
        host.manifest(written);
        let ran = host.converged();
        assert!(ran.out.contains(&format!("warning: {expected}\n")), "{ran}");
    }
}

#[test]
fn store_without_a_manifest_changes_nothing() {
    let host = host();
    std::fs::remove_file(host.store.join("sha_number.yml")).unwrap();
    let ran = host.converge();
    assert_eq!(ran.code, 78, "{ran}");
    assert_eq!(
        ran.err,
        "trueup: there is no manifest `sha_number.yml` in dir:@STORE@\n  hint: `trueup publish ENV APP=SHA --create` makes the first one\ntrueup: nothing was changed\n"
    );
    assert!(!host.at("/srv").exists());
}

#[test]
fn deleted_manifest_leaves_the_last_good_one_in_force() {
    let host = host();
    host.converged();
    std::fs::remove_file(host.store.join("sha_number.yml")).unwrap();
    let ran = host.converge();
    assert_eq!(ran.code, 78, "{ran}");
    assert!(
        ran.out.contains("the last good one stays in force"),
        "{ran}"
    );
}

#[test]
fn store_that_never_answered_fails_the_pass_and_changes_nothing() {
    let host = host();
    std::fs::remove_dir_all(&host.store).unwrap();
    let ran = host.converge();
    assert_eq!(ran.code, 1, "{ran}");
    assert_eq!(
        ran.err,
        "trueup: the store dir:@STORE@ cannot be reached: there is no such folder; this host has no last good manifest yet, so nothing was changed\n  hint: create or mount the folder, for the user who runs trueup\n"
    );
    assert!(!host.at("/srv").exists());
}

#[test]
fn older_generation_is_refused_until_explicitly_accepted() {
    let host = host();
    host.converged();
    host.manifest(MANIFEST.replace("generation: 3", "generation: 2"));
    let expected = format!(
        "{NAME}:1:13: generation: it is 2, and this host has applied 3: an older manifest is refused"
    );
    let ran = host.converge();
    assert_eq!(ran.code, 78, "{ran}");
    assert!(ran.out.contains(&expected), "{ran}");
    // Truncated metadata of the last good manifest does not disable the check: the manifest itself remains.
    for torn in ["", "{\"version\": 1, \"gen", "{\"version\": 2}"] {
        host.write("/var/lib/trueup/manifest.json", torn);
        let ran = host.converge();
        assert_eq!(ran.code, 78, "{torn:?}: {ran}");
        assert!(ran.out.contains(&expected), "{ran}");
    }
    // As the hint says.
    std::fs::remove_file(host.at("/var/lib/trueup/manifest.json")).unwrap();
    host.converged();
}

#[test]
fn leaping_generation_is_repaired_through_the_store_alone() {
    let host = host();
    host.converged();
    host.manifest(MANIFEST.replace("generation: 3", "generation: 18446744073709551615"));
    let ran = host.converge();
    assert_eq!(ran.code, 78, "{ran}");
    let expected = format!(
        "{NAME}:1:13: generation: it is 18446744073709551615, and this host has applied 3: a leap of more than 1000000 is refused"
    );
    assert!(ran.out.contains(&expected), "{ran}");
    let publish = |words: &[&str]| {
        let mut line = vec!["publish", "production"];
        line.extend(words);
        host.run(&line)
    };
    let shop = format!("shop={SHA}");
    let ran = publish(&[&shop, "--create"]);
    assert_eq!(ran.code, 78, "{ran}");
    assert!(
        ran.err.contains("cannot be incremented") && ran.err.contains("--above-fleet"),
        "{ran}"
    );
    let ran = publish(&["--above-fleet"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(
        ran.out.ends_with(&format!("generation 4 in {NAME}\n")),
        "{ran}"
    );
    host.converged();
    let ran = publish(&["--above-fleet"]);
    assert!(
        ran.out.ends_with(&format!("generation 5 in {NAME}\n")),
        "{ran}"
    );
}
