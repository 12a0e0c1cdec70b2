use super::tests::{NEXT, SHA, parse_and_select, tags};
use super::*;

#[test]
fn invalid_settings_fail_every_host_of_their_environment_only() {
    for (settings, expected) in [
        (
            "_settings: {rollout: {max_unavailable: 0}}",
            "m.yml:2:42: _settings.rollout.max_unavailable: `0` lets no host take a new sha\n  hint: expected at least 1; to freeze an app, give it a `hold`",
        ),
        (
            "_settings: {rolout: none}",
            "m.yml:2:15: _settings: unknown field `rolout`\n  hint: did you mean `rollout`?",
        ),
        (
            "_settings: none",
            "m.yml:2:14: _settings: expected a map, found the text `none`",
        ),
        (
            "_settings: {rollout: {after: [blog, shpo]}}",
            "m.yml:2:39: _settings.rollout.after[1]: there is no app `shpo` in this environment\n  hint: did you mean `shop`?",
        ),
        (
            "_settings: {repositories: {shop: /srv/git/shop}}",
            "m.yml:2:36: _settings.repositories.shop: `/srv/git/shop` is a path of one machine\n  hint: expected git@host:path, ssh://, https:// or http://; `publish --repo APP=PATH` takes a path",
        ),
        (
            "_settings: {repositories: {shop: {url: 'https://token-of-ana@github.com/shop'}}}",
            "m.yml:2:42: _settings.repositories.shop.url: `https://***@github.com/shop` has a password, and many may read the manifest\n  hint: write it without; git asks its credential helpers for the password",
        ),
        (
            "_settings: {repositories: {shop: 'ext::sh -c id'}}",
            "m.yml:2:36: _settings.repositories.shop: `ext::sh -c id` is not a repository address\n  hint: expected git@host:path, ssh://, https://, http://, file:/// or an absolute path",
        ),
        (
            "_settings: {repositories: {shop: 'git@-oProxyCommand=id:x'}}",
            "m.yml:2:36: _settings.repositories.shop: `git@-oProxyCommand=id:x` is not a repository address\n  hint: expected git@host:path, ssh://, https://, http://, file:/// or an absolute path",
        ),
        (
            "_settings: {repositories: {shop: {url: 'h:x', allow_refs: [main]}}}",
            "m.yml:2:61: _settings.repositories.shop.allow_refs: `main` is not a ref pattern: it does not begin with `refs/` and a folder\n  hint: expected one such as `refs/heads/release/*`, `refs/tags/v*` or `refs/pull/*/head`",
        ),
        (
            "_settings: {repositories: {shop: {url: 'h:x', alow_refs: []}}}",
            "m.yml:2:49: _settings.repositories.shop: unknown field `alow_refs`\n  hint: did you mean `allow_refs`?",
        ),
        (
            "_settings: {repositories: {_x: 'h:x'}}",
            "m.yml:2:34: _settings.repositories._x: `_x` cannot be an app: names that begin with `_` are reserved",
        ),
        (
            "_setings: {rollout: none}",
            "m.yml:2:3: `_setings` cannot be an app: names that begin with `_` are reserved\n  hint: did you mean `_settings`?",
        ),
        (
            "_notes: x",
            "m.yml:2:3: `_notes` cannot be an app: names that begin with `_` are reserved\n  hint: the only one is `_settings`, for what all apps share",
        ),
    ] {
        let text = format!("production:\n  {settings}\n  shop: {SHA}\n  blog: {SHA}\n");
        for apps in [&["shop"][..], &["blog"], &[]] {
            assert_eq!(
                parse_and_select(&text, &tags(&[]), apps).unwrap_err(),
                expected
            );
        }
        let elsewhere = text.replace("production", "staging");
        let text = format!("{elsewhere}production:\n  shop: {SHA}\n");
        let desired = parse_and_select(&text, &tags(&[]), &["shop"]).unwrap();
        assert_eq!((desired.apps.len(), desired.warnings.len()), (1, 0));
    }
    for empty in ["_settings: ~", "_settings: {}", "_settings: {rollout: ~}"] {
        let text = format!("production:\n  {empty}\n  shop: {SHA}\n");
        let desired = parse_and_select(&text, &tags(&[]), &["shop"]).unwrap();
        assert_eq!(desired.apps["shop"].rollout, RolloutMode::default());
    }
    let outside = format!("_settings: {{rollout: none}}\nproduction: {{shop: {SHA}}}\n");
    assert_eq!(
        parse_and_select(&outside, &tags(&[]), &["shop"]).unwrap_err(),
        "m.yml:1:1: `_settings` is no environment\n  hint: it goes below an environment, beside its apps"
    );
}

#[test]
fn impossible_order_fails_the_hosts_of_its_apps_only() {
    let text = format!(
        "production:\n  shop: {{sha: {SHA}, rollout: {{after: [db]}}}}\n  db: {{sha: {SHA}, rollout: {{after: [shop]}}}}\n  web: {{sha: {SHA}, rollout: {{after: [shop]}}}}\n  blog: {{sha: {SHA}, rollout: {{after: [mail]}}}}\n"
    );
    let refused = |app: &str| parse_and_select(&text, &tags(&[]), &[app]).unwrap_err();
    assert_eq!(
        refused("shop"),
        "m.yml:2:74: shop.rollout.after: shop can never take a new sha, because its `after` goes in a circle: shop → db → shop"
    );
    assert!(refused("db").starts_with("m.yml:3:72: db.rollout.after: db can never"));
    assert!(
        refused("blog").starts_with("m.yml:5:75: blog.rollout.after[0]: there is no app `mail`")
    );
    let desired = parse_and_select(&text, &tags(&[]), &["web"]).unwrap();
    assert_eq!(
        desired.apps["web"].rollout.policy().unwrap().after,
        ["shop"]
    );
    assert_eq!(desired.warnings.len(), 3, "{:?}", desired.warnings);
}

#[test]
fn previous_and_wanted_shas_are_those_of_the_entry() {
    let other = "c".repeat(40);
    let text = format!(
        "production:\n  shop:\n    sha: {SHA}\n    previous: {NEXT}\n    overrides: [{{match: {{zone: b}}, sha: {NEXT}}}, {{match: {{zone: c}}, sha: {other}}}, {{match: {{zone: d}}, sha: {other}}}]\n"
    );
    let previous = |zone: &str| {
        let desired = parse_and_select(&text, &tags(&[("zone", zone)]), &["shop"]).unwrap();
        let shop = &desired.apps["shop"];
        let wanted: Vec<&str> = shop.wanted_shas.iter().map(Sha::as_str).collect();
        assert_eq!(wanted, [SHA, NEXT, &other]);
        shop.previous.as_ref().map(|sha| sha.as_str().to_owned())
    };
    assert_eq!(previous("a").as_deref(), Some(NEXT));
    // What is wanted itself is no way back.
    assert_eq!(previous("b"), None);
    assert_eq!(previous("c").as_deref(), Some(NEXT));
    let short = format!("production: {{shop: {{sha: {SHA}, previous: 4f2c9d0}}}}");
    let error = parse_and_select(&short, &tags(&[]), &["shop"]).unwrap_err();
    assert!(
        error.contains("shop.previous: `4f2c9d0` is a short sha"),
        "{error}"
    );
}
