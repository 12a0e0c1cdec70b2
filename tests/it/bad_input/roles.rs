//! Roles and templates.

use super::{assert_invalid, assert_refused_within_bounds, host, yaml_bomb};

const ROLE: &str = "@ROOT@/etc/trueup/roles/app.yml";

/// Validates a role with these resources; `R` in `expected` is the role's file.
fn assert_mistake(resources: &str, expected: &str) {
    let host = host();
    host.template("site.conf", "port {{ port }}\n");
    host.template("typo", "first\nword {{ wrod }}\n");
    host.template("open", "first\nword {{ word\n");
    host.template("filter", "first\nword {{ word | uper }}\n");
    host.role(&format!(
        "parameters: {{word: one, port: 80}}\nresources:\n{resources}"
    ));
    let share = host.sibling("share").display().to_string();
    assert_invalid(
        &host,
        &expected
            .replace("R:", &format!("{ROLE}:"))
            .replace("@SHARE@", &share),
    );
}

#[test]
fn unknown_names_in_roles_suggest_similar_ones() {
    assert_mistake(
        "  - fiel: {path: /srv/a}\n",
        "R:3:5: there is no kind `fiel`\n  hint: did you mean `file`?",
    );
    assert_mistake(
        "  - file: {path: /srv/a, contnet: x}\n",
        "R:3:26: file: unknown field `contnet`\n  hint: did you mean `content`?",
    );
    assert_mistake(
        "  - template: {path: /srv/a, source: site.con}\n",
        "R:3:5: template:/srv/a: source: there is no template `site.con` in @ROOT@/etc/trueup/templates and @SHARE@/templates\n  hint: did you mean `site.conf`?",
    );
    assert_mistake(
        "  - file: {id: conf, path: /srv/a, content: x}\n  - service: {name: app, restart_on: [cnf]}\n",
        "R:4:5: service:app: there is no resource `cnf`\n  hint: did you mean `conf`?",
    );
    assert_mistake(
        "  - file: {path: /srv/a, content: x, check: web}\n",
        "R:3:5: file:/srv/a: check: no role of this node has a check `web`\n  hint: define it under `checks:` in the role: `web: [command, arguments]`",
    );
}

#[test]
fn undefined_variable_is_reported_with_its_place() {
    assert_mistake(
        "  - template: {path: /srv/a, source: typo}\n",
        "@ROOT@/etc/trueup/templates/typo:2:9: template:/srv/a: source: template error: Variable `wrod` is not defined\n  hint: did you mean `word`?",
    );
    assert_mistake(
        "  - template: {path: /srv/a, source: open}\n",
        "@ROOT@/etc/trueup/templates/open:2:13: template:/srv/a: source: template error: Unexpected end of input\n  hint: something is not closed: `{{` needs `}}`, `{%` needs `%}`, and each `{% if %}` and `{% for %}` its `{% endif %}` or `{% endfor %}`",
    );
    assert_mistake(
        "  - template: {path: /srv/a, source: filter}\n",
        "@ROOT@/etc/trueup/templates/filter:2:16: template:/srv/a: source: template error: Unknown filter `uper`\n  hint: docs/roles.md lists the filters, tests and functions of templates",
    );
    assert_mistake(
        "  - file: {path: /srv/a, content: \"{{ wrod }}\"}\n",
        "R:3:35: file: content: `wrod` is not defined\n  hint: did you mean `word`?",
    );
    // Tera evaluates it as false: a resource would be left out silently.
    assert_mistake(
        "  - file: {path: /srv/a, content: x, when: prot == 80}\n",
        "R:3:44: file: when: `prot` is not defined\n  hint: did you mean `port`?",
    );
}

#[test]
fn two_resources_with_one_path_are_both_named() {
    assert_mistake(
        "  - file: {path: /srv/a, content: x}\n  - symlink: {path: /srv//a, to: b}\n",
        "R:4:5: symlink:/srv//a: /srv/a is already owned by file:/srv/a (R:3:5)\n  hint: one path belongs to one resource",
    );
    assert_mistake(
        "  - file: {path: /srv/a, content: x}\n  - file: {id: again, path: /srv/a, content: y}\n",
        "R:4:5: again: it is described differently as file:/srv/a on R:3:5\n  hint: describe it once, or the same each time",
    );
}

#[test]
fn relative_or_parent_paths_are_refused() {
    assert_mistake(
        "  - file: {path: /srv/../etc/shadow, content: x}\n",
        "R:3:5: file:/srv/../etc/shadow: path: /srv/../etc/shadow is not a valid path: `..` is not allowed: write the resolved path",
    );
    assert_mistake(
        "  - directory: {path: srv}\n",
        "R:3:5: directory:srv: path: srv is not a valid path: expected an absolute path",
    );
}

#[test]
fn unquoted_mode_is_refused_with_a_hint() {
    for mode in ["755", "0755"] {
        assert_mistake(
            &format!("  - file: {{path: /srv/a, content: x, mode: {mode}}}\n"),
            "R:3:44: file: mode: a mode must be quoted, or YAML reads it as the decimal number 755\n  hint: write \"0755\"",
        );
    }
    assert_mistake(
        "  - file: {path: /srv/a, content: x, mode: rwxr-x---}\n",
        "R:3:44: file: mode: `rwxr-x---` is not a mode\n  hint: expected a quoted octal string such as \"0644\"",
    );
}

#[test]
fn invalid_resource_list_names_the_expected_type() {
    assert_mistake(
        "  file: {path: /srv/a, content: x}\n",
        "R:3:3: resources: expected a list of resources, found a map\n  hint: begin each resource with `- `, with the space",
    );
    assert_mistake(
        "  - file: {path: /srv/a, content: x}\n    mode: \"0644\"\n",
        "R:3:5: expected exactly one `kind: {…}` in each item of the list\n  hint: indent the fields below the kind",
    );
    assert_mistake(
        "  - file:\n\tpath: /srv/a\n",
        "R:4:1: not valid YAML: tabs disallowed within this context (block indentation)\n  hint: the line is indented with a tab; YAML allows only spaces",
    );
    assert_mistake(
        "  - command: {run: reboot}\n",
        "R:3:5: command:reboot: one of `creates`, `unless` and `when_changed` is required\n  hint: a command without a condition would run in every pass",
    );
}

#[test]
fn all_mistakes_of_a_role_are_reported_together() {
    assert_mistake(
        "  - file: {path: a, content: x}\n  - file: {path: b, content: x}\n",
        "R:3:5: file:a: path: a is not a valid path: expected an absolute path\ntrueup: R:4:5: file:b: path: b is not a valid path: expected an absolute path",
    );
}

#[test]
fn yaml_bomb_in_a_role_is_bounded() {
    let host = host();
    host.role(&yaml_bomb());
    assert_refused_within_bounds(
        &host,
        "@ROOT@/etc/trueup/roles/app.yml:6:8: it expands to more than 200000 values (an alias counts as its target)",
    );
}

#[test]
fn mistakes_in_the_structure_of_a_role_show_the_right_form() {
    for (resources, expected) in [
        (
            "  - file: /srv/a\n",
            "R:3:11: file: expected the fields of the resource, found the text `/srv/a`\n  hint: as in `- file: {path: /srv/x}`, or each field on a line of its own, as `name: value`",
        ),
        (
            "  -file: {path: /srv/a}\n",
            "R:3:3: resources: expected a list of resources, found a map\n  hint: begin each resource with `- `, with the space",
        ),
        (
            "  - file: {path: {{ port }}, content: x}\n",
            "R:3:19: a key must be a single word\n  hint: quote a value that begins with `{` or `[`: `\"{{ name }}\"` for a template",
        ),
        (
            "  - service: {name: app, enabled: yes}\n",
            "R:3:35: service: enabled: expected `true` or `false`, found the text `yes`\n  hint: write `true`",
        ),
    ] {
        assert_mistake(resources, expected);
    }
}

#[test]
fn apps_on_one_port_or_in_a_folder_of_the_system_are_refused() {
    let release = |app: &str, more: &str| {
        format!("  - release: {{app: {app}, repo: /srv/git/{app}, {more}}}\n")
    };
    assert_mistake(
        &(release("shop", "port: 3000") + &release("blog", "port: 3000")),
        "R:4:5: release:blog: port: the app `shop` listens on 3000 too\n  hint: give each app of a node a port of its own",
    );
    assert_mistake(
        &release("shop", "deploy_to: /etc/"),
        "R:3:5: release:shop: deploy_to: `/etc/` is a folder of the system: an app needs one of its own\n  hint: such as /srv/www/shop",
    );
}
