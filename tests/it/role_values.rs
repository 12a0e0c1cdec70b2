//! What operators may set in the shipped roles: types, configuration files, and `trueup roles`.

use std::process::Command;

use crate::roles::{host, run};
use crate::sandbox::isolated;

/// The problems that `trueup validate` prints for an app, one a line.
fn problems(roles: &str, attributes: &str) -> String {
    let host = host(roles, attributes);
    let ran = run(&host, &["validate"]);
    assert_eq!(ran.code, 78, "{ran}");
    ran.err
        .replace(&host.at("/etc/trueup/").display().to_string(), "")
}

#[test]
fn value_of_the_wrong_type_is_refused_at_its_own_place() {
    for (roles, attributes, expected) in [
        (
            "app",
            "  apps:\n    shop:\n      repo: /a.git\n      port: three\n",
            "node.yml:8:13: apps.shop.port: expected a port from 1 to 65535, found the text `three`\n  hint: The port of puma, on the loopback address.",
        ),
        (
            "app",
            "  apps:\n    shop: {port: 3000}\n",
            "node.yml:6:5: apps.shop.repo: the role `app` needs a value for it: text\n  hint: The git repository: git@host:path, ssh://, https://, file:// or a path.",
        ),
        (
            "app",
            "  keep_releases: 0\n  apps: {}\n",
            "node.yml:5:18: keep_releases: expected a whole number of at least 1, found the number `0`",
        ),
        (
            "python",
            "  python_apps:\n    shop: {repo: /a, port: 1, app_module: a, manager: supervisord}\n",
            "apps.shop.manager: expected `supervisor` or `systemd`, found the text `supervisord`\n  hint: did you mean `supervisor`?",
        ),
        (
            "app",
            "  apps:\n    shop: {repo: /a, port: 1, secrets: hunter2, gate_timeout: soon}\n",
            "apps.shop.secrets: expected a map of environment variables, found text",
        ),
        (
            "app",
            "  apps:\n    shop:\n      repo: /a\n      port: 1\n      env: {my-var: 1}\n",
            "node.yml:9:13: apps.shop.env: `my-var` is not a name of an environment variable",
        ),
        (
            "web",
            "  web_apps:\n    shop:\n      repo: /a\n      secrets: {KEY: [hunter2]}\n",
            "node.yml:8:22: web_apps.shop.secrets.KEY: expected text, found a list",
        ),
        (
            "app, base",
            "  nginx: \"false\"\n  deploy_user: null\n",
            "node.yml:5:10: nginx: expected `true` or `false`, found the text `false`\n  hint: write `false` without quotes",
        ),
    ] {
        let found = problems(roles, attributes);
        assert!(found.contains(expected), "{found}");
        assert!(!found.contains("hunter2"), "{found}");
    }
}

#[test]
fn variable_that_is_null_is_left_out() {
    let attributes = "  apps:\n    shop: {repo: /a, port: 1, env: {RAILS_ENV: null, LOCALE: de}, secrets: {KEY: null}}\n";
    let ran = run(&host("app", attributes), &["validate"]);
    assert_eq!(ran.code, 0, "{ran}");
}

#[test]
fn all_wrong_values_are_reported_once_each() {
    let found = problems(
        "app, web",
        "  keep_releases: few\n  nginx: maybe\n  web_apps: {}\n",
    );
    assert_eq!(
        found.matches("keep_releases: expected").count(),
        1,
        "{found}"
    );
    assert_eq!(found.matches("nginx: expected").count(), 1, "{found}");
}

#[test]
fn configuration_file_that_cannot_be_is_refused_at_its_own_place() {
    let with = |file: &str| {
        problems(
            "web",
            &format!("  web_apps:\n    shop:\n      repo: /a.git\n      files:\n        {file}\n"),
        )
    };
    for (file, expected) in [
        (
            "config/database.yml: {source: databse.yml, secret: true}",
            "node.yml:9:39: shop/code: web_apps.shop.files.config/database.yml.source: there is no template `databse.yml` in ",
        ),
        (
            "config/x: {content: a, source: b}",
            "node.yml:9:19: shop/code: web_apps.shop.files.config/x: expected either `source` or `content` for config/x, found both",
        ),
        (
            "log/x: {content: a}",
            "node.yml:9:16: shop/code: web_apps.shop.files.log/x: `log/x` cannot be a file of each release: `log` is in `linked_dirs`",
        ),
        (
            ".trueup/env: {content: a}",
            "web_apps.shop.files..trueup/env: `.trueup/env` is reserved: the role renders its own files there",
        ),
        (
            "x: {contnet: a}",
            "node.yml:9:13: shop/code: web_apps.shop.files.x: unknown field `contnet`\n  hint: did you mean `content`?",
        ),
    ] {
        let found = with(file);
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn template_of_a_configuration_file_sees_the_app_and_its_secrets() {
    let host = host(
        "web",
        "  web_apps:\n    shop:\n      repo: /a.git\n      port: 4000\n      secrets: {DATABASE: geheim}\n      files: {config/database.yml: {source: database.yml, secret: true}}\n",
    );
    let template = "/etc/trueup/templates/database.yml";
    host.write(template, "{{ app.name }} {{ app.port }} {{ app.secrets.DATABASE }} {{ keep_releases }} {{ node.environment }}\n");
    assert_eq!(run(&host, &["validate"]).code, 0);
    host.write(template, "line\n{{ app.prot }}\n");
    let ran = run(&host, &["validate"]);
    assert!(ran.err.contains("templates/database.yml:2:"), "{ran}");
    assert!(
        ran.err
            .contains("web_apps.shop.files.config/database.yml.source"),
        "{ran}"
    );
}

#[test]
fn roles_lists_shipped_and_own_roles_and_names_broken_ones() {
    let host = host("app", "  apps: {}\n");
    host.write(
        "/etc/trueup/roles/motd.yml",
        "description: A message.\nparameters:\n  # What it says.\n  # Any text.\n  message: hi\n",
    );
    let ran = run(&host, &["roles"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(
        ran.out.contains("motd        settings  A message.\n"),
        "{ran}"
    );
    assert!(ran.out.contains("app         shipped   Ruby apps"), "{ran}");
    let shown = run(&host, &["roles", "show", "motd"]);
    assert!(
        shown.out.contains("  message  any  hi  What it says.\n"),
        "{shown}"
    );
    host.write("/etc/trueup/roles/broken.yml", "resource: []\n");
    let ran = run(&host, &["roles", "list"]);
    assert_eq!(ran.code, 78, "{ran}");
    assert!(
        ran.out.contains("motd ") && ran.err.contains("broken.yml:1:1"),
        "{ran}"
    );
}

#[test]
fn roles_need_no_settings_and_show_types_and_defaults() {
    let mut command = Command::new(crate::sandbox::binary());
    isolated(&mut command);
    let share = env!("CARGO_MANIFEST_DIR");
    command.args([
        "roles",
        "show",
        "app",
        "--json",
        "--config",
        "/nonexistent/node.yml",
        "--share",
        share,
    ]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&json["name"], &json["origin"]),
        (&"app".into(), &"shipped".into())
    );
    let settings = json["items"]["settings"].as_array().unwrap();
    let setting = |name: &str| settings.iter().find(|one| one["name"] == name).unwrap();
    assert_eq!(setting("port")["type"], "port");
    assert_eq!(setting("port")["required"], true);
    assert_eq!(setting("threads")["default"], 5);
    assert_eq!(setting("puma_type")["one_of"][0], "notify");
    let untyped = |value: &serde_json::Value| value["type"] == "any" || value["description"] == "";
    let own = json["parameters"].as_array().unwrap().iter();
    let mut all = own.chain(settings);
    let untyped: Vec<_> = all.by_ref().filter(|value| untyped(value)).collect();
    assert!(untyped.is_empty(), "{untyped:?}");
}

#[test]
fn schema_is_inherited_and_its_own_mistakes_are_refused() {
    for (role, expected) in [
        (
            "include: [base]\nparameters:\n  # Ours.\n  deploy_sudo: one\n",
            "roles/site.yml:4:16: deploy_sudo: expected a list, found text\n  hint: Ours.",
        ),
        (
            "parameters: {word: a}\nschema: {wrod: {type: text}}\n",
            "roles/site.yml:2:10: schema: the role has no parameter `wrod`\n  hint: did you mean `word`?",
        ),
        (
            "parameters: {word: a}\nschema: {word: {type: string}}\n",
            "roles/site.yml:2:23: schema.word.type: `string` is not one of",
        ),
        (
            "parameters: {word: a}\nschema: {word: {type: text, min: 1}}\n",
            "roles/site.yml:2:10: schema.word: `min` and `max` are for the types `integer` and `port`",
        ),
        (
            "parameters: {size: 1, word: \"{{ size }}x\"}\nschema: {word: {type: integer}}\n",
            "roles/site.yml:1:29: word: expected a whole number, found the text `1x`",
        ),
    ] {
        let host = host("site", "  {}\n");
        host.write("/etc/trueup/roles/site.yml", role);
        let ran = run(&host, &["validate"]);
        assert_eq!(ran.code, 78, "{ran}");
        let found = ran
            .err
            .replace(&host.at("/etc/trueup/").display().to_string(), "");
        assert!(found.contains(expected), "{found}");
    }
}
