use super::tests::{assert_edits, edited};

const ROLLOUT: &str = "generation: 1\nproduction:\n  # for all\n  _settings:\n    rollout: {max_unavailable: 1, per: zone} # one by one\n  db: A\n  shop: # the shop\n    rollout: {after: [db]} # the schema first\n    sha: A\n    previous: C # before\n";

#[test]
fn policy_and_settings_are_kept_and_the_old_sha_becomes_previous() {
    assert_edits(&[
        (
            ROLLOUT,
            "shop=B",
            "generation: 1\nproduction:\n  # for all\n  _settings:\n    rollout: {max_unavailable: 1, per: zone} # one by one\n  db: A\n  shop: # the shop\n    rollout: {after: [db]} # the schema first\n    sha: B\n    previous: A # before\n    by: ana\n    at: 2026-11-21T04:43:01Z\n",
        ),
        // Back to the previous sha: the two swap.
        (
            ROLLOUT,
            "shop=C",
            "generation: 1\nproduction:\n  # for all\n  _settings:\n    rollout: {max_unavailable: 1, per: zone} # one by one\n  db: A\n  shop: # the shop\n    rollout: {after: [db]} # the schema first\n    sha: C\n    previous: A # before\n    by: ana\n    at: 2026-11-21T04:43:01Z\n",
        ),
        // A new app, below an environment that has only settings; an empty `previous`.
        (
            "generation: 1\nproduction: {_settings: {rollout: none}}\n",
            "shop=B --create",
            "generation: 1\nproduction: {_settings: {rollout: none}, shop: B}\n",
        ),
        (
            "generation: 1\nproduction:\n  shop:\n    sha: A\n    previous:\n    rollout: none\n",
            "shop=B",
            "generation: 1\nproduction:\n  shop:\n    sha: B\n    previous: A\n    by: ana\n    at: 2026-11-21T04:43:01Z\n    rollout: none\n",
        ),
    ]);
    assert_eq!(edited(ROLLOUT, "shop=A").unwrap().body, None);
}

#[test]
fn policy_that_no_host_can_follow_is_refused() {
    let circle = ROLLOUT.replace("db: A", "db: {sha: A, rollout: {after: [shop]}}");
    let three = circle.replace(
        "[shop]}}",
        "[web]}}\n  web: {sha: A, rollout: {after: [shop]}}",
    );
    let own = ROLLOUT.replace("[db]", "[db, shop]");
    let unknown = ROLLOUT.replace("[db]", "[bd]");
    let zero = ROLLOUT.replace("max_unavailable: 1", "max_unavailable: 0");
    let reserved = ROLLOUT.replace("_settings", "_setings");
    for (before, words, expected) in [
        (
            &circle,
            "shop=B",
            "m.yml:8:22: shop.rollout.after: shop can never take a new sha, because its `after` goes in a circle: shop → db → shop",
        ),
        (
            &circle,
            "db=B",
            "m.yml:6:72: db.rollout.after: db can never take a new sha, because its `after` goes in a circle: db → shop → db",
        ),
        // The same sha as before does not hide it.
        (
            &circle,
            "shop=A",
            "m.yml:8:22: shop.rollout.after: shop can",
        ),
        (&three, "web=B", "circle: web → shop → db → web"),
        (&own, "shop=B", "circle: shop → shop"),
        (
            &unknown,
            "shop=B",
            "m.yml:8:23: shop.rollout.after[0]: there is no app `bd` in this environment\n  hint: did you mean `db`?",
        ),
        (
            &zero,
            "shop=B",
            "m.yml:5:32: _settings.rollout.max_unavailable: `0` lets no host take a new sha",
        ),
        (&zero, "new=B --create", "m.yml:5:32: _settings.rollout"),
        (
            &reserved,
            "shop=B",
            "m.yml:4:3: `_setings` cannot be an app: names that begin with `_` are reserved\n  hint: did you mean `_settings`?",
        ),
    ] {
        let error = edited(before, words).unwrap_err();
        assert!(error.contains(expected), "{error}\n{expected}");
    }
}

#[test]
fn mistake_in_the_policy_of_another_app_is_a_warning() {
    let warnings = |before: &str, words: &str| {
        let edited = edited(before, words).unwrap();
        let lines = edited.warnings.iter().map(|problem| problem.to_string());
        lines.collect::<Vec<_>>()
    };
    let unknown = ROLLOUT.replace("[db]", "[bd]");
    let found = warnings(&unknown, "db=B");
    assert!(
        found[0].contains("shop.rollout.after[0]: there is no app `bd`"),
        "{found:?}"
    );
    assert_eq!(found.len(), 1);
    // The request itself mends it.
    assert_eq!(warnings(&unknown, "shop=B bd=C --create"), [""; 0]);
    let staging = format!("{ROLLOUT}staging:\n  _settings: {{rollout: 25%}}\n  a: A\n  b: A\n");
    let found = warnings(&staging, "db=B");
    assert!(
        found[0].contains("_settings.rollout: expected `none`"),
        "{found:?}"
    );
    assert_eq!(found.len(), 1, "{found:?}");
    let never_done = ROLLOUT.replace("db: A", "db: {sha: A, rollout: none}");
    let found = warnings(&never_done, "shop=B");
    assert_eq!(
        found,
        [
            "production/shop goes after db, whose hosts go each for itself (`rollout: none`): nobody sees when they are done\n  hint: take db out of the `after` of shop, or give it a `rollout`"
        ]
    );
}
