// Tests create scratch files on the machine itself, not on a host of trueup.
#![allow(clippy::disallowed_methods)]

use std::path::Path;

use super::*;

fn write_files(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, body) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, body).unwrap();
    }
    dir
}

fn load_from(dir: &tempfile::TempDir) -> Result<Settings, String> {
    load(&dir.path().join("node.yml"), Path::new("/nonexistent")).map_err(|problems| {
        problems
            .to_string()
            .replace(&format!("{}/", dir.path().display()), "")
    })
}

const GOOD: &str = "environment: production\nroles: [app]\nstore: {url: \"dir:/srv/store\"}\n";

#[test]
fn drop_ins_are_merged_in_name_order_maps_deep_and_lists_replaced() {
    let dir = write_files(&[
        (
            "node.yml",
            &format!("{GOOD}attributes: {{a: {{x: 1, y: [1, 2]}}}}\n"),
        ),
        ("node.d/20-b.yml", "attributes: {a: {x: 3}}\n"),
        (
            "node.d/10-a.yml",
            "attributes: {a: {x: 2, y: [3]}}\ntags: {zone: b}\n",
        ),
        ("node.d/ignored.txt", "nonsense: true\n"),
        ("node.d/30-c.yaml", "tags: {zone: c}\n"),
    ]);
    let settings = load_from(&dir).unwrap();
    let warnings: Vec<String> = settings.warnings.iter().map(ToString::to_string).collect();
    assert!(
        warnings.len() == 1 && warnings[0].contains("30-c.yaml is not read\n  hint: "),
        "{warnings:?}"
    );
    let expected = serde_json::json!({"a": {"x": 3, "y": [3]}});
    assert_eq!(settings.attributes.to_json(), expected);
    assert_eq!(settings.tags["zone"], "b");
    let x = settings.attributes.get("a").unwrap().get("x").unwrap();
    assert!(
        x.at.file.ends_with("node.d/20-b.yml"),
        "the location of the winning value is kept"
    );
}

#[test]
fn bad_setting_names_its_file_line_and_a_similar_field() {
    for (body, drop_in, expected) in [
        (
            format!("{GOOD}apps: {{}}\n"),
            "",
            "node.yml:4:1: unknown field `apps`\n  hint: parameters of roles, such as `apps`, go below `attributes:`; expected `environment`, `roles`, `tags`, `node`, `store`, `manifest`, `services`, `metrics`, `fleet`, `secrets`, `ec2`, `notify`, `signers` or `attributes`",
        ),
        (
            format!("{GOOD}tag: {{}}\n"),
            "",
            "node.yml:4:1: unknown field `tag`\n  hint: did you mean `tags`?",
        ),
        (
            GOOD.into(),
            "\nenviroment: x\n",
            "node.d/a.yml:2:1: unknown field `enviroment`\n  hint: did you mean `environment`?",
        ),
        (
            GOOD.replace("[app]", "app"),
            "",
            "node.yml:2:8: roles: expected a list, found the text `app`\n  hint: write `[app]`",
        ),
        (
            GOOD.replace("[app]", "[]"),
            "",
            "node.yml:2:8: roles: expected at least one role",
        ),
        (
            GOOD.replace("[app]", "[../x]"),
            "",
            "node.yml:2:8: roles: `../x` is not a name: expected letters, digits, `-`, `_` or `.`, starting with a letter or digit",
        ),
        (
            "roles: [app]\nstore: {url: x}\n".into(),
            "",
            "node.yml:1:1: the field `environment` is missing\n  hint: such as `environment: production`",
        ),
    ] {
        let dir = write_files(&[("node.yml", &body), ("node.d/a.yml", drop_in)]);
        assert_eq!(load_from(&dir).unwrap_err(), expected);
    }
}

#[test]
fn missing_settings_name_the_path_and_the_remedy() {
    let dir = write_files(&[]);
    let error = load_from(&dir).unwrap_err();
    assert!(
        error.starts_with("there are no settings at node.yml\n  hint: make them"),
        "{error}"
    );
}

#[test]
fn comment_only_settings_are_unconfigured_unless_a_drop_in_is_set() {
    for body in ["", "# one day\n", "---\n", "{}\n"] {
        let dir = write_files(&[("node.yml", body)]);
        let error = load_from(&dir).unwrap_err();
        assert!(
            error.starts_with(
                "this host is not configured yet: nothing is set in node.yml\n  hint: `sudo trueup init`"
            ),
            "{body:?}: {error}"
        );
        assert_eq!(configured_by(&dir.path().join("node.yml")).unwrap(), None);
    }
    let dir = write_files(&[("node.yml", "# see node.d\n"), ("node.d/a.yml", GOOD)]);
    assert_eq!(load_from(&dir).unwrap().environment, "production");
    let why = configured_by(&dir.path().join("node.yml"))
        .unwrap()
        .unwrap();
    assert!(
        why.contains("node.d/a.yml sets `environment`, which overrides node.yml"),
        "{why}"
    );
}

#[test]
fn drop_in_that_only_adds_leaves_the_host_unconfigured() {
    let dir = write_files(&[("node.d/tags.yml", "tags: {zone: a}\n")]);
    let config = dir.path().join("node.yml");
    assert_eq!(configured_by(&config).unwrap(), None);
    let dir = write_files(&[("node.yml", "tags: {zone: a}\n")]);
    let why = configured_by(&dir.path().join("node.yml"))
        .unwrap()
        .unwrap();
    assert!(why.ends_with("node.yml is already configured"), "{why}");
}

/// The packaged file: it sets nothing, explains everything, and its examples work.
#[test]
fn the_shipped_settings_set_nothing_and_show_every_setting() {
    let shipped = include_str!("../../packaging/node.yml");
    let dir = write_files(&[("node.yml", shipped)]);
    assert!(load_from(&dir).unwrap_err().contains("not configured yet"));

    let sample = |line: &str| line.starts_with('#') && !line.starts_with("# ") && line != "#";
    let shown: String = shipped
        .lines()
        .filter_map(|line| match line.strip_prefix('#') {
            Some(rest) if sample(line) || rest.starts_with("  ") => Some(format!("{rest}\n")),
            _ => None,
        })
        .collect();
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN+NdHYYTyJ3nEi8bopJ68BrUYNyFbt1T6pYLq+zxEyP";
    let signers = format!("ana {key}\n");
    let shown = shown.replace("/etc/trueup/allowed_signers", "allowed_signers");
    let dir = write_files(&[("node.yml", &shown), ("allowed_signers", &signers)]);
    let settings = load_from(&dir).unwrap();
    assert_eq!(settings.roles, ["app"]);
    assert_eq!(settings.signers.unwrap().signers.len(), 1);
    assert!(settings.attributes.get("apps").is_some());
    let schema = serde_json::to_value(schemars::schema_for!(SettingsFile)).unwrap();
    let store = serde_json::to_value(schemars::schema_for!(StoreSettings)).unwrap();
    for (schema, before) in [(schema, "\n#"), (store, "\n#  ")] {
        for (field, _) in schema["properties"].as_object().unwrap() {
            let line = format!("{before}{field}:");
            assert!(
                shipped.contains(&line),
                "packaging/node.yml does not explain `{field}`"
            );
        }
    }
}
