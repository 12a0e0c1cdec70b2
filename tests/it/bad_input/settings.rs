//! The node's settings.

use std::fs;

use super::{assert_invalid, assert_refused_within_bounds, host, yaml_bomb};
use crate::sandbox::NODE;

#[test]
fn invalid_settings_name_file_line_and_expected_value() {
    for (written, expected) in [
        (
            "",
            "this host is not configured yet: nothing is set in @ROOT@/etc/trueup/node.yml\n  hint: `sudo trueup init` sets it up; `trueup init -h` lists its options",
        ),
        (
            "environment: production\n\troles: [app]\n",
            "@ROOT@/etc/trueup/node.yml:2:1: not valid YAML: while scanning a plain scalar, found a tab\n  hint: the line is indented with a tab; YAML allows only spaces",
        ),
        (
            "a\0b",
            "@ROOT@/etc/trueup/node.yml:1:1: this is not text: it holds a NUL byte",
        ),
        (
            &NODE.replace("[app]", "[ap]"),
            "@ROOT@/etc/trueup/node.yml:2:8: there is no role `ap` in @ROOT@/etc/trueup/roles and @SHARE@/roles\n  hint: did you mean `app`?",
        ),
        (
            &NODE.replace("environment:", "enviroment:"),
            "@ROOT@/etc/trueup/node.yml:1:1: unknown field `enviroment`\n  hint: did you mean `environment`?",
        ),
        (
            &NODE.replace("production", "prod uction"),
            "@ROOT@/etc/trueup/node.yml:1:14: environment: `prod uction` is not a name: expected letters, digits, `-`, `_` or `.`, starting with a letter or digit",
        ),
        (
            &NODE.replace("dir:@STORE@", "s4://bucket"),
            "@ROOT@/etc/trueup/node.yml:3:8: store: `s4://bucket` is not the address of a store: expected s3://bucket, s3://bucket/prefix or dir:/absolute/path",
        ),
        (
            &NODE.replace("\"dir:@STORE@\"", "s3://Acme, region: eu-west-1"),
            "@ROOT@/etc/trueup/node.yml:3:8: store: `Acme` is not the name of a bucket of AWS: expected 3 to 63 lower-case letters, digits, dots and dashes (for another S3 server set `endpoint`)",
        ),
        (
            &NODE.replace("dir:@STORE@", "dir:store"),
            "@ROOT@/etc/trueup/node.yml:3:8: store: `dir:store` is not the address of a store: expected an absolute path, as in dir:/srv/store",
        ),
        (
            &format!("{NODE}attributes: {{wrd: 2}}\n"),
            "@ROOT@/etc/trueup/node.yml:4:14: attributes.wrd: no role of this node (app) has a parameter `wrd`\n  hint: did you mean `word`?",
        ),
        (
            &format!("{NODE}attributes: [word]\n"),
            "@ROOT@/etc/trueup/node.yml:4:13: attributes: expected a map of parameters, found a list",
        ),
        (
            &format!("{NODE}roles: [web]\n"),
            "@ROOT@/etc/trueup/node.yml:4:1: duplicate key `roles` (first on line 2)",
        ),
    ] {
        let host = host();
        host.write("/etc/trueup/node.yml", written);
        let share = host.sibling("share").display().to_string();
        assert_invalid(&host, &expected.replace("@SHARE@", &share));
    }
}

#[test]
fn mistake_in_a_drop_in_names_that_file() {
    let host = host();
    host.write(
        "/etc/trueup/node.d/20-more.yml",
        "tags: {}\nattributes: 3\n",
    );
    assert_invalid(
        &host,
        "@ROOT@/etc/trueup/node.d/20-more.yml:2:13: attributes: expected a map of parameters, found the number `3`",
    );
}

#[test]
fn missing_settings_name_their_path_and_a_hint() {
    let host = host();
    fs::remove_file(host.at("/etc/trueup/node.yml")).unwrap();
    assert_invalid(
        &host,
        "there are no settings at @ROOT@/etc/trueup/node.yml\n  hint: make them with `trueup init`, name another file with --config, or try `trueup demo`",
    );
    fs::create_dir(host.at("/etc/trueup/node.yml")).unwrap();
    assert_invalid(
        &host,
        "@ROOT@/etc/trueup/node.yml is a directory; expected a file",
    );
}

#[test]
fn yaml_bomb_in_the_settings_is_bounded() {
    let host = host();
    host.write("/etc/trueup/node.yml", &yaml_bomb());
    assert_refused_within_bounds(
        &host,
        "@ROOT@/etc/trueup/node.yml:6:8: it expands to more than 200000 values (an alias counts as its target)",
    );
}
