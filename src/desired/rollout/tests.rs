use std::time::Duration;

use super::*;
use crate::desired::Manifest;

const SHA: &str = "4f2c9d0e1b3a5c7d9e0f1a2b3c4d5e6f70819203";

/// The mode of `shop`, beside the apps `db` and `web`, with this `rollout:` of its own and of the environment; or
/// why hosts refuse it. Empty: not written.
fn resolve(own: &str, shared: &str) -> Result<RolloutMode, String> {
    let text = format!(
        "production:\n  _settings: {{{}}}\n  db: {SHA}\n  web: {SHA}\n  shop: {{sha: {SHA}{}}}\n",
        if shared.is_empty() {
            String::new()
        } else {
            format!("rollout: {shared}")
        },
        if own.is_empty() {
            String::new()
        } else {
            format!(", rollout: {own}")
        },
    );
    let manifest = Manifest::parse("m.yml", text.as_bytes()).unwrap();
    let environment = &manifest.environments["production"];
    match environment.entry("shop").unwrap() {
        Ok(_) => Ok(environment.rollout("shop")),
        Err(problem) => Err(problem.to_string()),
    }
}

fn policy(own: &str, shared: &str) -> RolloutPolicy {
    match resolve(own, shared).unwrap() {
        RolloutMode::Coordinated(policy) => policy,
        RolloutMode::Independent => panic!("{own} {shared}"),
    }
}

#[test]
fn nothing_written_is_the_default_policy() {
    for (own, shared) in [("", ""), ("~", ""), ("{}", "~"), ("{}", "none"), ("", "{}")] {
        assert_eq!(
            policy(own, shared),
            RolloutPolicy::default(),
            "{own} {shared}"
        );
    }
    let RolloutPolicy {
        max_unavailable,
        per,
        canary,
        min_ready,
        max_failures,
        on_failure,
        after,
        progress_deadline,
    } = RolloutPolicy::default();
    assert_eq!(max_unavailable, Amount::Percent(25));
    assert_eq!(max_failures, Amount::Count(1));
    assert_eq!(on_failure, OnFailure::Halt);
    assert_eq!((per, canary, progress_deadline), (None, None, None));
    assert_eq!((min_ready, after), (Duration::ZERO, Vec::new()));
}

#[test]
fn every_field_is_read() {
    let all = "{max_unavailable: 3, per: zone, canary: {match: {zone: a}, bake: 5m}, min_ready: 10s, max_failures: 10%, on_failure: rollback, after: [db], progress_deadline: 30m}";
    let expected = RolloutPolicy {
        max_unavailable: Amount::Count(3),
        per: Some("zone".into()),
        canary: Some(Canary {
            hosts: CanaryHosts::Matching([("zone".into(), "a".into())].into()),
            bake: Duration::from_secs(300),
        }),
        min_ready: Duration::from_secs(10),
        max_failures: Amount::Percent(10),
        on_failure: OnFailure::Rollback,
        after: vec!["db".into()],
        progress_deadline: Some(Duration::from_secs(1800)),
    };
    assert_eq!(policy(all, ""), expected);
    assert_eq!(policy("", all), expected);
    let first = policy("{canary: {hosts: 20}}", "").canary.unwrap();
    assert_eq!(
        (first.hosts, first.bake),
        (CanaryHosts::First(20), Duration::ZERO)
    );
}

#[test]
fn app_overrides_single_fields_of_its_environment() {
    let shared = "{max_unavailable: 1, per: zone, canary: {hosts: 2, bake: 5m}, min_ready: 10s, after: [db]}";
    let own = policy(
        "{max_unavailable: 50%, canary: {match: {zone: b}}, after: [web]}",
        shared,
    );
    assert_eq!(own.max_unavailable, Amount::Percent(50));
    assert_eq!(
        (own.per.as_deref(), own.min_ready.as_secs()),
        (Some("zone"), 10)
    );
    // A canary and a list replace as one.
    let canary = own.canary.unwrap();
    assert_eq!(canary.bake, Duration::ZERO);
    assert!(matches!(canary.hosts, CanaryHosts::Matching(_)));
    assert_eq!(own.after, ["web"]);
    // `null` is the default again, whatever the environment has.
    let nulls = "{max_unavailable: ~, per: ~, canary: ~, min_ready: ~, max_failures: ~, on_failure: ~, after: ~, progress_deadline: ~}";
    assert_eq!(policy(nulls, shared), RolloutPolicy::default());
    assert_eq!(
        policy("{min_ready: 0, after: []}", shared).min_ready,
        Duration::ZERO
    );
}

#[test]
fn independent_hosts_are_chosen_by_the_nearest_setting() {
    for (own, shared, is_independent) in [
        ("none", "", true),
        ("'none'", "{max_unavailable: 1}", true),
        ("", "none", true),
        ("none", "none", true),
        ("{max_failures: 2}", "none", false),
    ] {
        let mode = resolve(own, shared).unwrap();
        assert_eq!(
            mode == RolloutMode::Independent,
            is_independent,
            "{own} {shared}"
        );
        assert_eq!(mode.policy().is_none(), is_independent);
    }
    // It starts from the defaults, not from what the environment has not.
    assert_eq!(
        policy("{max_failures: 2}", "none").max_unavailable,
        Amount::Percent(25)
    );
}

#[test]
fn apps_that_the_settings_name_in_after_go_first() {
    let after = |own: &str, shared: &str| policy(own, shared).after;
    assert_eq!(after("", "{after: [db, web]}"), ["db", "web"]);
    assert_eq!(after("{per: zone}", "{after: [db, web]}"), ["db", "web"]);
    assert_eq!(after("", "{after: [db, shop]}"), [""; 0]);
    assert_eq!(after("{after: [db]}", "{after: [shop, db]}"), ["db"]);
    // Such an app may not wait for one that inherits the list.
    let error = resolve("{after: [web]}", "{after: [shop]}").unwrap_err();
    assert!(error.contains("circle: shop → web → shop"), "{error}");
}

#[test]
fn invalid_policy_is_refused_with_its_place() {
    let many: Vec<String> = (0..51).map(|n| format!("a{n}")).collect();
    let tags: Vec<String> = (0..21).map(|n| format!("t{n}: x")).collect();
    for (own, expected) in [
        (
            "off",
            ":66: shop.rollout: expected `none`, or a map such as `{max_unavailable: 25%}`, found the text `off`",
        ),
        (
            "false",
            ":66: shop.rollout: expected `none`, or a map such as `{max_unavailable: 25%}`, found `false`",
        ),
        (
            "25%",
            ":66: shop.rollout: expected `none`, or a map such as `{max_unavailable: 25%}`, found the text `25%`",
        ),
        (
            "1",
            ":66: shop.rollout: expected `none`, or a map such as `{max_unavailable: 25%}`, found the number `1`",
        ),
        (
            "[none]",
            ":66: shop.rollout: expected `none`, or a map such as `{max_unavailable: 25%}`, found a list",
        ),
        (
            "{max_unavailible: 1}",
            ":67: shop.rollout: unknown field `max_unavailible`\n  hint: did you mean `max_unavailable`?",
        ),
        (
            "{batch: 1}",
            ":67: shop.rollout: unknown field `batch`\n  hint: expected `max_unavailable`, `per`, `canary`, `min_ready`, `max_failures`, `on_failure`, `after` or `progress_deadline`",
        ),
        (
            "{max_unavailable: 0}",
            ":84: shop.rollout.max_unavailable: `0` lets no host take a new sha\n  hint: expected at least 1; to freeze an app, give it a `hold`",
        ),
        (
            "{max_unavailable: 0%}",
            ":84: shop.rollout.max_unavailable: `0%` lets no host take a new sha",
        ),
        (
            "{max_unavailable: 101%}",
            ":84: shop.rollout.max_unavailable: `101%` is more than all hosts\n  hint: expected a number of hosts from 1, such as `2`, or a percentage from `1%` to `100%`",
        ),
        (
            "{max_unavailable: -1}",
            ":84: shop.rollout.max_unavailable: `-1` is not a number of hosts",
        ),
        (
            "{max_unavailable: 1.5}",
            ":84: shop.rollout.max_unavailable: `1.5` is not a number of hosts",
        ),
        (
            "{max_unavailable: [1]}",
            ":84: shop.rollout.max_unavailable: expected text, found a list",
        ),
        (
            "{max_failures: 0}",
            ":81: shop.rollout.max_failures: `0` is no hosts at all",
        ),
        (
            "{max_failures: few}",
            ":81: shop.rollout.max_failures: `few` is not a number of hosts",
        ),
        (
            "{per: a b}",
            ":72: shop.rollout.per: `a b` is not a name: expected letters, digits",
        ),
        (
            "{per: [zone]}",
            ":72: shop.rollout.per: expected text, found a list",
        ),
        (
            "{canary: 2}",
            ":75: shop.rollout.canary: expected a map, found the number `2`",
        ),
        (
            "{canary: {}}",
            ":75: shop.rollout.canary: it does not say which hosts go first\n  hint: expected either `hosts`, a number, or `match`, tags of hosts",
        ),
        (
            "{canary: {bake: 5m}}",
            ":75: shop.rollout.canary: it does not say which hosts go first",
        ),
        (
            "{canary: {hosts: 1, match: {a: b}}}",
            ":75: shop.rollout.canary: it has both `hosts` and `match`",
        ),
        (
            "{canary: {hosts: 0}}",
            ":83: shop.rollout.canary.hosts: `0` is no host at all\n  hint: leave out `canary` if no hosts go first",
        ),
        (
            "{canary: {hosts: 21}}",
            ":83: shop.rollout.canary.hosts: `21` are too many to go first: at most 20 do",
        ),
        (
            "{canary: {hosts: 10%}}",
            ":83: shop.rollout.canary.hosts: expected a whole number that is not negative, found the text `10%`",
        ),
        (
            "{canary: {hosts: -1}}",
            ":83: shop.rollout.canary.hosts: expected a whole number that is not negative",
        ),
        (
            "{canary: {match: {}}}",
            ":83: shop.rollout.canary.match: it names no tag, so it would match every host",
        ),
        (
            "{canary: {match: zone}}",
            ":83: shop.rollout.canary.match: expected a map, found the text `zone`",
        ),
        (
            "{canary: {match: {a b: c}}}",
            ":83: shop.rollout.canary.match: `a b` is not a name",
        ),
        (
            "{canary: {match: {a: [c]}}}",
            ":87: shop.rollout.canary.match.a: expected text, found a list",
        ),
        (
            "{canary: {host: 1}}",
            ":76: shop.rollout.canary: unknown field `host`\n  hint: did you mean `hosts`?",
        ),
        (
            "{canary: {hosts: 1, bake: soon}}",
            ":92: shop.rollout.canary.bake: `soon` is not a duration",
        ),
        (
            "{min_ready: -10s}",
            ":78: shop.rollout.min_ready: `-10s` is not a duration",
        ),
        (
            "{min_ready: [5m]}",
            ":78: shop.rollout.min_ready: expected text, found a list",
        ),
        (
            "{on_failure: stop}",
            ":79: shop.rollout.on_failure: `stop` is not one of `halt` or `rollback`",
        ),
        (
            "{on_failure: roll_back}",
            ":79: shop.rollout.on_failure: `roll_back` is not one of `halt` or `rollback`\n  hint: did you mean `rollback`?",
        ),
        (
            "{progress_deadline: 0}",
            ":86: shop.rollout.progress_deadline: `0` is not longer than 0 seconds",
        ),
        (
            "{after: db}",
            ":74: shop.rollout.after: expected a list, found the text `db`\n  hint: write `[db]`",
        ),
        (
            "{after: [db, a/b]}",
            ":79: shop.rollout.after[1]: `a/b` is not a name",
        ),
        (
            "{after: [db, db]}",
            ":74: shop.rollout.after: it names `db` twice",
        ),
        (
            "{after: [db, wbe]}",
            ":79: shop.rollout.after[1]: there is no app `wbe` in this environment\n  hint: did you mean `web`?",
        ),
        (
            "{after: [shop]}",
            ":74: shop.rollout.after: shop can never take a new sha, because its `after` goes in a circle: shop → shop",
        ),
        (
            &format!("{{after: [{}]}}", many.join(", ")),
            ":74: shop.rollout.after: it names 51 apps; at most 50 are allowed",
        ),
        (
            &format!("{{canary: {{match: {{{}}}}}}}", tags.join(", ")),
            ":83: shop.rollout.canary.match: it names 21 tags; at most 20 are allowed",
        ),
    ] {
        let error = resolve(own, "").unwrap_err();
        let expected = format!("m.yml:5{expected}");
        assert!(error.starts_with(&expected), "{own}:\n{error}\n{expected}");
    }
}

#[test]
fn invalid_settings_are_refused_with_their_place() {
    for (shared, expected) in [
        (
            "{max_unavailable: 0}",
            "m.yml:2:42: _settings.rollout.max_unavailable: `0` lets no host",
        ),
        (
            "{after: [bd]}",
            "m.yml:2:33: _settings.rollout.after[0]: there is no app `bd` in this environment\n  hint: did you mean `db`?",
        ),
        ("{after: [db, web]}", ""),
    ] {
        match resolve("{after: []}", shared) {
            Err(error) => assert!(
                !expected.is_empty() && error.starts_with(expected),
                "{error}"
            ),
            Ok(_) => assert_eq!(expected, "", "{shared}"),
        }
    }
}
