use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Sample {
    name: String,
    #[serde(default)]
    port: u16,
    #[serde(default)]
    on: bool,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    list: Vec<u32>,
    #[serde(default)]
    state: Option<SampleState>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum SampleState {
    Present,
    Absent,
}

fn tree(text: &str) -> Result<Node, crate::problem::Problem> {
    parse("t.yml", text.as_bytes(), ParseLimits::default())
}

fn sample(text: &str) -> Result<Sample, String> {
    tree(text)
        .and_then(|node| decode(&node))
        .map_err(|problem| problem.to_string())
}

#[test]
fn scalars_keep_their_written_text() {
    for written in [
        "1.10",
        "4200000000000000000000000000000000000e42",
        "0644",
        "yes",
        "1_000",
    ] {
        assert_eq!(sample(&format!("name: {written}")).unwrap().name, written);
    }
}

#[test]
fn decode_errors_name_file_line_column_and_field() {
    let cases = [
        (
            "name: a\nprot: 1",
            "t.yml:2:1: unknown field `prot`\n  hint: did you mean `port`?",
        ),
        (
            "name: a\nport: many",
            "t.yml:2:7: port: expected a whole number from 0 to 65535, found the text `many`",
        ),
        (
            "name: a\nport: 70000",
            "t.yml:2:7: port: expected a whole number from 0 to 65535, found the number `70000`",
        ),
        (
            "name: a\nport: '80'",
            "t.yml:2:7: port: expected a whole number from 0 to 65535, found the text `80`\n  hint: write `80` without quotes",
        ),
        (
            "name: a\non: 'yes'",
            "t.yml:2:5: on: expected `true` or `false`, found the text `yes`\n  hint: write `true`",
        ),
        (
            "name: a\ntags: [x]",
            "t.yml:2:7: tags: expected a map, found a list\n  hint: write `name: value`, without `- ` or brackets",
        ),
        (
            "name: a\ntags: {x: {y: 1}}",
            "t.yml:2:11: tags.x: expected text, found a map",
        ),
        (
            "name: a\nlist: [1, two]",
            "t.yml:2:11: list[1]: expected a whole number that is not negative, found the text `two`",
        ),
        (
            "name: a\nstate: abscent",
            "t.yml:2:8: state: `abscent` is not one of `present` or `absent`\n  hint: did you mean `absent`?",
        ),
        ("port: 1", "t.yml:1:1: the field `name` is missing"),
        ("name:", "t.yml:1:5: name: expected text, found nothing"),
        (
            "- a",
            "t.yml:1:1: expected a map, found a list\n  hint: write `name: value`, without `- ` or brackets",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(sample(text).unwrap_err(), expected, "{text}");
    }
}

#[test]
fn syntax_errors_name_their_line() {
    let cases: [(&[u8], &str); 6] = [
        (b"a: 1\n\tb: 2", "t.yml:2:1:"),
        (
            b"a: 1\na: 2",
            "t.yml:2:1: duplicate key `a` (first on line 1)",
        ),
        (b"a: [1", "t.yml:2:1: not valid YAML"),
        (b"a: 1\n\xff\xfe", "t.yml:2:1: this is not UTF-8 text"),
        (b"a\n\0", "t.yml:2:1: this is not text: it holds a NUL byte"),
        (
            b"a: 1\n---\nb: 2",
            "t.yml:2:1: a second document starts here; expected only one",
        ),
    ];
    for (text, expected) in cases {
        let problem = parse("t.yml", text, ParseLimits::default())
            .unwrap_err()
            .to_string();
        assert!(problem.starts_with(expected), "{problem}");
    }
    assert!(
        tree("a:\n\tb: 1")
            .unwrap_err()
            .to_string()
            .contains("only spaces")
    );
}

#[test]
fn syntax_errors_say_what_to_do() {
    for (text, line, hint) in [
        ("a: \"b", 1, "a quote is opened here and never closed"),
        ("a: \"\\d\"", 1, "use single quotes"),
        ("a: b: c", 1, "quote a value that contains `: `"),
        ("a b\nc: d", 2, "on the line above"),
        ("a:\n  b: 1\n c: 2", 3, "check the indentation"),
        ("a: {b: 1\n", 2, "close the brace"),
        ("a: {b: c: d}", 1, "quote a value that contains `: `"),
        ("a: [b\n", 2, "close the bracket"),
        ("a: @b", 1, "quote a value that begins with this character"),
        ("a: *b", 1, "refers to an anchor"),
        ("a: \"b\" c", 1, "one pair of quotes"),
        ("a: {{ b }}", 1, "`\"{{ name }}\"` for a template"),
    ] {
        let problem = tree(text).unwrap_err();
        assert_eq!(problem.at.as_ref().unwrap().line, line, "{text}: {problem}");
        let hint_given = problem.hint.as_deref().unwrap_or_default();
        assert!(hint_given.contains(hint), "{text}: {problem}");
    }
}

#[test]
fn a_billion_laughs_stays_small() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let below = vec![format!("*a{}", level - 1); 10].join(", ");
        text += &format!("a{level}: &a{level} [{below}]\n");
    }
    let problem = tree(&text).unwrap_err().to_string();
    assert!(
        problem.contains("expands to more than") || problem.contains("alias"),
        "{problem}"
    );
}

#[test]
fn deep_nesting_and_long_texts_are_refused() {
    let deep = "[".repeat(100_000);
    assert!(tree(&deep).is_err());
    let nested = format!("a: {}{}", "[".repeat(70), "]".repeat(70));
    assert!(
        tree(&nested)
            .unwrap_err()
            .to_string()
            .contains("nested deeper")
    );
    let long = vec![b' '; (4 << 20) + 1];
    assert!(
        parse("t", &long, ParseLimits::default())
            .unwrap_err()
            .to_string()
            .contains("bytes long")
    );
}

#[test]
fn an_empty_text_is_an_empty_map() {
    for text in ["", "# only a comment\n", "---\n", "~"] {
        assert_eq!(tree(text).unwrap().as_map().unwrap().len(), 0, "{text:?}");
    }
}

#[test]
fn merge_keys_and_aliases_are_resolved() {
    let node = tree("base: &base {a: 1, b: 2}\nuse: {<<: *base, b: 3}").unwrap();
    let json = node.get("use").unwrap().to_json();
    assert_eq!(json, serde_json::json!({"b": 3, "a": 1}));
}

#[test]
fn spans_are_byte_offsets_in_non_ascii_text() {
    let text = "täg: 'ünï'\nsha: abc # note\n";
    let node = tree(text).unwrap();
    let span = node.get("sha").unwrap().span.clone();
    assert_eq!(&text[span], "abc");
    let span = node.get("täg").unwrap().span.clone();
    assert_eq!(&text[span], "'ünï'");
}

#[test]
fn json_round_trip_keeps_plain_values() {
    let node = tree("{n: 1, f: 1.5, b: true, z: null, s: '1', l: [a, 2], mode: 0755}").unwrap();
    let json = node.to_json();
    assert_eq!(json["mode"], "0755");
    assert_eq!(Node::from_json(&node.at, &json).to_json(), json);
}

/// Parses a text and checks that it keeps to the memory bound for every text.
fn parse_within_memory_bound(text: &str) -> Result<Node, String> {
    let (read, peak) = crate::testing::peak_memory(|| tree(text));
    assert!(
        peak < 150 << 20,
        "{} MiB for {} KiB",
        peak >> 20,
        text.len() >> 10
    );
    read.map_err(|problem| problem.to_string())
}

#[test]
fn nested_anchors_are_bounded() {
    let mut text = String::new();
    let depth = 60;
    for level in 0..depth {
        text += &format!("&a{level} [");
    }
    text += &"x,".repeat(190_000);
    text += &"]".repeat(depth);
    let why = parse_within_memory_bound(&text).unwrap_err();
    assert!(
        why.contains("anchors name more than 200000 values"),
        "{why}"
    );
}

#[test]
fn copies_of_a_long_anchored_text_are_bounded() {
    let text = format!(
        "a: &a {}\nb: [{}]\n",
        "x".repeat(1 << 20),
        "*a,".repeat(1000)
    );
    let why = parse_within_memory_bound(&text).unwrap_err();
    assert!(why.contains("expand to more than 4194304 bytes"), "{why}");
}

#[test]
fn aliases_count_towards_the_nesting_limit() {
    let nest = |inner: &str| format!("{}{inner}{}", "[".repeat(50), "]".repeat(50));
    let mut text = format!("a0: &a0 {}\n", nest("x"));
    for level in 1..60 {
        text += &format!(
            "a{level}: &a{level} {}\n",
            nest(&format!("*a{}", level - 1))
        );
    }
    let why = parse_within_memory_bound(&text).unwrap_err();
    assert!(
        why.contains("t.yml:2:") && why.contains("nested deeper than 64"),
        "{why}"
    );
}

#[test]
fn parsing_many_keys_is_not_quadratic() {
    let keys = 99_000;
    let text: String = (0..keys).map(|n| format!("k{n}: v\n")).collect();
    let node = parse_within_memory_bound(&text).unwrap();
    assert_eq!(node.as_map().unwrap().len(), keys);
    let merged: String = (0..30_000).map(|n| format!("  k{n}: v\n")).collect();
    let text = format!("a: &a\n{merged}b:\n  <<: *a\n  k1: w\n");
    let node = parse_within_memory_bound(&text).unwrap();
    assert_eq!(node.get("b").unwrap().as_map().unwrap().len(), 30_000);
}

#[test]
fn byte_offsets_in_non_ascii_text_are_found_quickly() {
    let mut text = String::from("list:\n");
    for n in 0..60_000 {
        text += &format!("  ß{n}:\n");
    }
    let node = parse_within_memory_bound(&text).unwrap();
    let last = node.get("list").unwrap().as_map().unwrap().last().unwrap();
    assert_eq!(&text[last.key_start..], "ß59999:\n");
}
