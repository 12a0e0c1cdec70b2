//! What an edit refuses.

use super::tests::assert_refused;

#[test]
fn invalid_manifest_is_refused_with_its_location() {
    assert_refused(&[
        ("", "shop=B --create", "m.yml:1:1: the manifest is empty"),
        ("production: [", "shop=B", "m.yml:2:1: not valid YAML"),
        (
            "production:\n  shop: 4f2c9d0\n",
            "shop=B",
            "m.yml:2:9: shop: `4f2c9d0` is a short sha",
        ),
        (
            "production:\n  shop: {sha: A, holt: x}\n",
            "shop=B",
            "m.yml:2:57: shop: unknown field `holt`\n  hint: did you mean `hold`?",
        ),
        (
            "generation: 9223372036854775807\nproduction: {shop: A}\n",
            "shop=B",
            "m.yml:1:13: the generation 9223372036854775807 cannot be incremented",
        ),
        (
            "production:\r  shop: A\r",
            "shop=B",
            "m.yml:1:1: it has line ends with a bare carriage return",
        ),
    ]);
}

#[test]
fn new_name_needs_create_and_must_be_possible() {
    assert_refused(&[
        (
            "prodution:\n  shop: A\n",
            "shop=B",
            "m.yml has no environment `production`\n  hint: did you mean `prodution`? If it is new, add --create",
        ),
        (
            "production:\n  shopp: A\n",
            "shop=B",
            "m.yml has no app `shop` in production\n  hint: did you mean `shopp`? If it is new, add --create",
        ),
        (
            "production:\n  web: A\n",
            "shop=B",
            "m.yml has no app `shop` in production\n  hint: it has web; add --create if `shop` is new",
        ),
        (
            "production:\n  web: A\n",
            "sh:op=B --create",
            "`sh:op` cannot be the name of something new",
        ),
        (
            "production:\n  web: A\n",
            "_settings=B --create",
            "`_settings` cannot be an app: names that begin with `_` are reserved\n  hint: the only one is `_settings`",
        ),
        (
            "production:\n  web: A\n",
            "_setings=B",
            "`_setings` cannot be an app: names that begin with `_` are reserved\n  hint: did you mean `_settings`?",
        ),
        (
            "production:\n  web: A\n",
            "web=B --create --env _settings",
            "`_settings` cannot be the name of something new",
        ),
        (
            "production:\n  web: A\n",
            "shop=B --create --env generation",
            "`generation` cannot be the name of something new",
        ),
    ]);
}

#[test]
fn entry_tied_to_another_by_alias_or_merge_is_refused() {
    assert_refused(&[
        (
            "production:\n  web: &w A\n  shop: *w\n",
            "shop=B",
            "m.yml:3:3: production.shop: an alias (`*name`) or a merge key (`<<`) ties this",
        ),
        (
            "production:\n  shop: {sha: &w A}\n  web: *w\n",
            "shop=B",
            "m.yml:3:3: an alias (`*name`) or a merge key (`<<`) ties this",
        ),
        (
            "x: &x {shop: A}\nproduction:\n  <<: *x\n",
            "shop=B",
            "m.yml:1:8: production.shop: an alias (`*name`) or a merge key (`<<`) ties this",
        ),
        (
            "production: &x\n  shop: A\nstaging: *x\n",
            "web=B --create",
            "m.yml:3:1: an alias (`*name`) or a merge key (`<<`) ties this",
        ),
        (
            "production: {shop: &s {sha: A}}\nstaging: {shop: {<<: *s, by: x}}\n",
            "shop=B",
            "m.yml:1:24: an alias (`*name`) or a merge key (`<<`) ties this",
        ),
    ]);
}

#[test]
fn scalar_that_cannot_be_edited_in_place_is_refused() {
    assert_refused(&[
        (
            "production:\n  shop: >-\n    A\n",
            "shop=B",
            "m.yml:3:5: it is written in a way that cannot be edited in place",
        ),
        (
            "production:\n  shop: !!str A\n",
            "shop=B",
            "m.yml:2:9: it is written in a way that cannot be edited in place",
        ),
        (
            "production:\n  shop: &w A\n  web: *w\n",
            "shop=B",
            "m.yml:2:9: it is written in a way that cannot be edited in place",
        ),
        (
            "production:\n  shop: &s A\n",
            "shop=B --ref x",
            "m.yml:2:9: it is written in a way that cannot be edited in place",
        ),
        (
            "{production}",
            "shop=B --create",
            "m.yml:1:12: it is written in a way that cannot be edited in place",
        ),
    ]);
}
