use super::*;
use crate::desired::Sha;

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
/// Two shas.
pub(super) const SHAS: [&str; 2] = [A, B];
const C: &str = "cccccccccccccccccccccccccccccccccccccccc";

/// Parses `shop=B --ref master --create`, as on the command line; always in `production`, by ana.
pub(super) fn order(words: &str) -> PublishRequest {
    let mut order = PublishRequest {
        by: Some("ana".into()),
        ..PublishRequest::new("production", "2026-11-21T04:43:01.5Z".parse().unwrap())
    };
    let mut words = words.split(' ');
    while let Some(word) = words.next() {
        match (word, word.split_once('=')) {
            ("--create", _) => order.create = true,
            ("--ref", _) => {
                let app = order.shas[0].0.clone();
                let reference = words.next().unwrap().to_owned();
                order.references.insert(app, reference);
            }
            ("--restart", _) => order.restart = words.next().map(str::to_owned),
            ("--hold", _) => {
                order.hold = HoldRequest::Set {
                    reason: words.next().unwrap().to_owned(),
                    until: None,
                }
            }
            ("--until", _) => {
                let end = words.next().unwrap().parse().unwrap();
                if let HoldRequest::Set { until, .. } = &mut order.hold {
                    *until = Some(end);
                }
            }
            ("--lift-hold", _) => order.hold = HoldRequest::Lift,
            ("--env", _) => order.environment = words.next().unwrap().to_owned(),
            (_, Some((app, sha))) => order
                .shas
                .push((app.into(), Sha::parse(&expand_shas(sha)).unwrap())),
            _ => panic!("{word}"),
        }
    }
    order
}

/// Expands the abbreviations of short tables: `A` stands for a sha of forty a.
pub(super) fn expand_shas(text: &str) -> String {
    text.replace('A', A).replace('B', B).replace('C', C)
}

pub(super) fn abbreviate_shas(text: &str) -> String {
    text.replace(A, "A").replace(B, "B").replace(C, "C")
}

pub(super) fn edited(before: &str, words: &str) -> Result<ManifestEdit, String> {
    let before = expand_shas(before);
    edit_manifest("m.yml", Some(before.as_bytes()), &order(words))
        .map_err(|error| abbreviate_shas(&error.to_string()))
}

/// The text after an edit, as it is before its generation and its change are written.
pub(super) fn after(before: &str, words: &str) -> String {
    let edited = edited(before, words).unwrap_or_else(|error| panic!("{before:?}: {error}"));
    assert!(edited.body.is_some(), "something to write");
    let before = expand_shas(before);
    let manifest = Manifest::parse("m.yml", before.as_bytes()).unwrap();
    let order = order(words);
    let body = Some(before.as_bytes());
    let written = write_changes("m.yml", body, &manifest, &order, &edited.changes).unwrap();
    abbreviate_shas(&String::from_utf8(written).unwrap())
}

/// Each edit: the text before, the request and the text after.
pub(super) fn assert_edits(edits: &[(&str, &str, &str)]) {
    for (before, words, expected) in edits {
        assert_eq!(after(before, words), *expected, "{before:?}");
    }
}

/// Each request: the text before, the request and the start of the error.
pub(super) fn assert_refused(requests: &[(&str, &str, &str)]) {
    for (before, words, expected) in requests {
        let error = match edited(before, words) {
            Ok(edited) => panic!("{before:?} became {edited:?}"),
            Err(error) => error,
        };
        assert!(error.starts_with(expected), "{before:?}: {error}");
    }
}

#[test]
fn replacing_a_sha_changes_nothing_else() {
    assert_edits(&[
        // Comments, order, blank lines, indentation.
        (
            "# top\ngeneration: 42   # count\n\nproduction:   # live\n    web:  A # keep\n    # between\n    shop: A     # the shop\n\nstaging:\n    shop: A\n# end\n",
            "shop=B",
            "# top\ngeneration: 42   # count\n\nproduction:   # live\n    web:  A # keep\n    # between\n    shop:     # the shop\n        sha: B\n        previous: A\n        by: ana\n        at: 2026-11-21T04:43:01Z\n\nstaging:\n    shop: A\n# end\n",
        ),
        // Quotes; quoted keys.
        (
            "generation: 9\n\"production\": {'shop': \"A\", web: 'A'}\n",
            "shop=B web=B",
            "generation: 9\n\"production\": {'shop': {sha: B, previous: A, by: ana, at: 2026-11-21T04:43:01Z}, web: {sha: B, previous: A, by: ana, at: 2026-11-21T04:43:01Z}}\n",
        ),
        // No generation yet: it is added at the top.
        (
            "# top\nproduction:\n  shop: A\n",
            "shop=B",
            "# top\nproduction:\n  shop:\n    sha: B\n    previous: A\n    by: ana\n    at: 2026-11-21T04:43:01Z\n",
        ),
        (
            "%YAML 1.2\n---\n# top\nproduction:\n  shop: A\n...\n",
            "shop=B",
            "%YAML 1.2\n---\n# top\nproduction:\n  shop:\n    sha: B\n    previous: A\n    by: ana\n    at: 2026-11-21T04:43:01Z\n...\n",
        ),
        (
            "{production: {shop: A}}\n",
            "shop=B",
            "{production: {shop: {sha: B, previous: A, by: ana, at: 2026-11-21T04:43:01Z}}}\n",
        ),
    ]);
}

#[test]
fn restart_request_changes_one_field_of_its_app() {
    assert_edits(&[
        (
            "generation: 1\nproduction:\n  shop: A # live\n  web: A\n",
            "--restart shop",
            "generation: 1\nproduction:\n  shop: # live\n    sha: A\n    restart_requested_at: 2026-11-21T04:43:01Z\n  web: A\n",
        ),
        (
            "generation: 1\nproduction: {shop: {sha: A, ref: master}}\n",
            "--restart shop",
            "generation: 1\nproduction: {shop: {sha: A, restart_requested_at: 2026-11-21T04:43:01Z, ref: master}}\n",
        ),
        // Later by a clock that is behind, or twice in a second.
        (
            "production:\n  shop:\n    sha: A\n    restart_requested_at: 2027-01-01T00:00:59Z # first\n",
            "--restart shop",
            "production:\n  shop:\n    sha: A\n    restart_requested_at: 2027-01-01T00:01:00Z # first\n",
        ),
        (
            "generation: 1\nproduction:\n  shop:\n    sha: A\n    restart_requested_at: null\n",
            "--restart shop",
            "generation: 1\nproduction:\n  shop:\n    sha: A\n    restart_requested_at: 2026-11-21T04:43:01Z\n",
        ),
        // A later publish keeps it.
        (
            "generation: 1\nproduction: {shop: {sha: A, restart_requested_at: 2026-11-21T04:43:01Z}}\n",
            "shop=B",
            "generation: 1\nproduction: {shop: {sha: B, previous: A, by: ana, at: 2026-11-21T04:43:01Z, restart_requested_at: 2026-11-21T04:43:01Z}}\n",
        ),
    ]);
    assert_refused(&[(
        "production: {shop: A}\n",
        "--restart web",
        "the manifest wants nothing of `web` in production",
    )]);
}

#[test]
fn replacing_a_sha_keeps_line_ends_layout_and_anchors() {
    assert_edits(&[
        // No final newline, Windows line ends, a byte order mark, other alphabets.
        (
            "generation: 1\nproduction:\n  shop: A",
            "shop=B",
            "generation: 1\nproduction:\n  shop:\n    sha: B\n    previous: A\n    by: ana\n    at: 2026-11-21T04:43:01Z",
        ),
        (
            "production:\r\n  shop: A # x\r\n",
            "shop=B",
            "production:\r\n  shop: # x\r\n    sha: B\r\n    previous: A\r\n    by: ana\r\n    at: 2026-11-21T04:43:01Z\r\n",
        ),
        (
            "\u{feff}# größe\nproduction: {shop: A} # ü\n",
            "shop=B",
            "\u{feff}# größe\nproduction: {shop: {sha: B, previous: A, by: ana, at: 2026-11-21T04:43:01Z}} # ü\n",
        ),
        // The whole map is indented; the value is on a line of its own.
        (
            "  production:\n    shop:\n      A\n",
            "shop=B",
            "  production:\n    shop:\n      {sha: B, previous: A, by: ana, at: 2026-11-21T04:43:01Z}\n",
        ),
        // An unused anchor, a tag.
        (
            "generation: 1\nproduction: &p\n  shop: {sha: !!str &s A} # c\n",
            "shop=B",
            "generation: 1\nproduction: &p\n  shop: {sha: !!str &s B, previous: A, by: ana, at: 2026-11-21T04:43:01Z} # c\n",
        ),
    ]);
}

#[test]
fn long_entry_keeps_its_other_fields() {
    for (before, words, expected) in [
        (
            "generation: 1\nproduction:\n  shop:\n    sha: A  # now\n    ref: v1 # tag\n    by: 'bob'\n    at: 2020-01-01T00:00:00Z\n    next: C\n    overrides: [{match: {zone: b}, sha: C}]\n",
            "shop=B --ref v2",
            "generation: 1\nproduction:\n  shop:\n    sha: B  # now\n    previous: A\n    ref: v2 # tag\n    by: 'ana'\n    at: 2026-11-21T04:43:01Z\n    next: C\n    overrides: [{match: {zone: b}, sha: C}]\n",
        ),
        (
            "generation: 1\nproduction:\n  shop:\n    # why\n    next: C\n    sha: A # now\n    hold: {reason: db, by: bob}\n",
            "shop=B --ref v2",
            "generation: 1\nproduction:\n  shop:\n    # why\n    next: C\n    sha: B # now\n    previous: A\n    ref: v2\n    by: ana\n    at: 2026-11-21T04:43:01Z\n    hold: {reason: db, by: bob}\n",
        ),
        (
            "generation: 1\nproduction: {shop: {sha: A, next: C}, web: A}\n",
            "shop=B",
            "generation: 1\nproduction: {shop: {sha: B, previous: A, by: ana, at: 2026-11-21T04:43:01Z, next: C}, web: A}\n",
        ),
        // A field that was left empty.
        (
            "generation: 1\nproduction:\n  shop:\n    sha: A\n    by: # nobody\n    at: ~\n",
            "shop=B",
            "generation: 1\nproduction:\n  shop:\n    sha: B\n    previous: A\n    by: ana # nobody\n    at: 2026-11-21T04:43:01Z\n",
        ),
        // Values that a YAML reader could take for another type are quoted.
        (
            "generation: 1\nproduction:\n  shop: {sha: A, ref: x}\n",
            "shop=B --ref 1.10",
            "generation: 1\nproduction:\n  shop: {sha: B, previous: A, ref: \"1.10\", by: ana, at: 2026-11-21T04:43:01Z}\n",
        ),
    ] {
        assert_eq!(after(before, words), expected, "{before:?}");
    }
}

#[test]
fn short_entry_becomes_long_and_keeps_its_comment() {
    for (before, expected) in [
        (
            "generation: 1\nproduction:\n  shop: A # the shop\n  web: A\n",
            "generation: 1\nproduction:\n  shop: # the shop\n    sha: B\n    previous: A\n    ref: feature/x\n    by: ana\n    at: 2026-11-21T04:43:01Z\n  web: A\n",
        ),
        (
            "generation: 1\r\nproduction:\r\n    shop: A",
            "generation: 1\r\nproduction:\r\n    shop:\r\n        sha: B\r\n        previous: A\r\n        ref: feature/x\r\n        by: ana\r\n        at: 2026-11-21T04:43:01Z",
        ),
        (
            "generation: 1\nproduction: {shop: A, web: A}\n",
            "generation: 1\nproduction: {shop: {sha: B, previous: A, ref: feature/x, by: ana, at: 2026-11-21T04:43:01Z}, web: A}\n",
        ),
        (
            "generation: 1\nproduction:\n  shop:\n    'A'\n",
            "generation: 1\nproduction:\n  shop:\n    {sha: B, previous: A, ref: feature/x, by: ana, at: 2026-11-21T04:43:01Z}\n",
        ),
    ] {
        assert_eq!(
            after(before, "shop=B --ref feature/x"),
            expected,
            "{before:?}"
        );
    }
}

#[test]
fn new_app_is_added_after_its_siblings() {
    assert_edits(&[
        (
            "generation: 1\nproduction:\n    web: A # w\n    # later\n\n# next\nstaging:\n    web: A\n",
            "shop=B api=C --create",
            "generation: 1\nproduction:\n    web: A # w\n    shop: B\n    api: C\n    # later\n\n# next\nstaging:\n    web: A\n",
        ),
        (
            "generation: 1\nproduction:\n  web:\n    sha: A\n    overrides:\n    - match: {zone: b}\n      sha: C",
            "shop=B --ref v1 --create",
            "generation: 1\nproduction:\n  web:\n    sha: A\n    overrides:\n    - match: {zone: b}\n      sha: C\n  shop:\n    sha: B\n    ref: v1\n    by: ana\n    at: 2026-11-21T04:43:01Z",
        ),
        (
            "generation: 1\nproduction: {web: A}   # all\n",
            "shop=B --create",
            "generation: 1\nproduction: {web: A, shop: B}   # all\n",
        ),
        (
            "generation: 1\nproduction: {web: A,}\n",
            "shop=B --create",
            "generation: 1\nproduction: {web: A, shop: B,}\n",
        ),
        (
            "generation: 1\nproduction: {\n  api: A, # a\n  web: A # w\n}\n",
            "shop=B --create",
            "generation: 1\nproduction: {\n  api: A, # a\n  web: A, # w\n  shop: B\n}\n",
        ),
        (
            "generation: 1\nproduction: {\n  web: A, # w\n}\n",
            "shop=B web=B --create",
            "generation: 1\nproduction: {\n  web: {sha: B, previous: A, by: ana, at: 2026-11-21T04:43:01Z}, # w\n  shop: B,\n}\n",
        ),
        (
            "generation: 1\nproduction: {web: {sha: A}}\n",
            "shop=B --create",
            "generation: 1\nproduction: {web: {sha: A}, shop: B}\n",
        ),
    ]);
}

#[test]
fn new_app_is_added_to_an_empty_or_new_environment() {
    assert_edits(&[
        (
            "generation: 1\nproduction: {}\n",
            "shop=B web=C --create",
            "generation: 1\nproduction: {shop: B, web: C}\n",
        ),
        (
            "generation: 1\nproduction: # none yet\nstaging: ~\n",
            "shop=B web=C --create",
            "generation: 1\nproduction: # none yet\n  shop: B\n  web: C\nstaging: ~\n",
        ),
        (
            "generation: 1\nproduction: ~ # none yet\n",
            "shop=B --create",
            "generation: 1\nproduction: {shop: B} # none yet\n",
        ),
        (
            "generation: 1\nstaging:\n   web: A\n# end\n",
            "shop=B web=C --create",
            "generation: 1\nstaging:\n   web: A\nproduction:\n   shop: B\n   web: C\n# end\n",
        ),
        (
            "{staging: {web: A}}",
            "shop=B --create",
            "{staging: {web: A}, production: {shop: B}}",
        ),
        (
            "generation: 7\n",
            "shop=B --create",
            "generation: 7\nproduction:\n  shop: B\n",
        ),
        // Names that some readers take for a number or a boolean.
        (
            "generation: 1\nproduction:\n  web: A\n",
            "on=B 42=C --create",
            "generation: 1\nproduction:\n  web: A\n  \"on\": B\n  \"42\": C\n",
        ),
        // A new and a known app at once; a merge key of another app is left alone.
        (
            "generation: 1\nx: &x {web: A}\nproduction:\n  <<: *x\n  api: A\n",
            "shop=B api=C --create",
            "generation: 1\nx: &x {web: A}\nproduction:\n  <<: *x\n  api:\n    sha: C\n    previous: A\n    by: ana\n    at: 2026-11-21T04:43:01Z\n  shop: B\n",
        ),
    ]);
}

#[test]
fn first_manifest_is_created_only_with_create() {
    let first = edit_manifest("m.yml", None, &order("shop=B --create")).unwrap();
    let text = String::from_utf8(first.body.unwrap()).unwrap();
    assert_eq!(
        abbreviate_shas(&text),
        "production:\n  _settings:\n    generation: 1\n    change:\n      action: publish\n      by: ana\n      at: 2026-11-21T04:43:01Z\n      apps:\n        shop:\n          to: B\n  shop: B\n"
    );
    assert_eq!(
        (first.generation, first.changes[0].from.as_ref()),
        (Some(1), None)
    );
    let long = edit_manifest("m.yml", None, &order("shop=B --ref 1.10 --create")).unwrap();
    let text = abbreviate_shas(&String::from_utf8(long.body.unwrap()).unwrap());
    assert!(
        text.ends_with("  shop:\n    sha: B\n    ref: \"1.10\"\n    by: ana\n    at: \"2026-11-21T04:43:01Z\"\n"),
        "{text}"
    );
    let error = edit_manifest("m.yml", None, &order("shop=B")).unwrap_err();
    assert!(matches!(error, EditError::Request(_)));
    assert!(
        error
            .to_string()
            .starts_with("there is no manifest m.yml\n  hint: add --create")
    );
}

#[test]
fn unchanged_sha_is_not_written_again() {
    for before in [
        "production:\n  shop: A\n",
        "generation: 4\nproduction:\n  shop: {sha: A, ref: v1}\n",
    ] {
        let same = edited(before, "shop=A --ref v2").unwrap();
        assert_eq!(same.body, None, "{before}");
        assert_eq!(same.changes[0].from.as_ref(), Some(&same.changes[0].to));
    }
    // In one request, only the entries that differ change.
    assert_eq!(
        after(
            "generation: 4\nproduction:\n  shop: {sha: A, by: x}\n  web: A\n",
            "shop=A web=B"
        ),
        "generation: 4\nproduction:\n  shop: {sha: A, by: x}\n  web:\n    sha: B\n    previous: A\n    by: ana\n    at: 2026-11-21T04:43:01Z\n"
    );
}

#[test]
fn holds_and_overrides_that_block_the_sha_are_warnings() {
    let before = "generation: 1\nproduction:\n  shop:\n    sha: A\n    ref: v1\n    hold: {reason: db, by: bob, until: 2026-11-22T00:00:00Z}\n    overrides: [{match: {zone: b}, sha: C}, {match: {zone: c}, sha: B}]\n  bad: master\n";
    let done = edited(before, "shop=B").unwrap();
    let warnings: Vec<String> = done.warnings.iter().map(|p| p.to_string()).collect();
    assert_eq!(
        warnings,
        [
            "production/shop is held by bob until 2026-11-22T00:00:00Z: db; no host deploys the new sha before then",
            "production/shop: an override keeps the nodes with zone=b at ccccccc",
            "m.yml:10:8: bad: `master` is not a git sha\n  hint: expected 40 hexadecimal digits; for a branch or tag name `git rev-parse master` prints its sha",
        ]
    );
    let over = before.replace("11-22", "11-20");
    let done = edited(&over, "shop=B --ref v2").unwrap();
    assert_eq!(
        done.warnings.len(),
        2,
        "an expired hold is none: {:?}",
        done.warnings
    );
}
