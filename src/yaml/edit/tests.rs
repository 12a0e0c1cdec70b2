use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Fragments for generated YAML texts, including ones that no manifest should have.
const PIECES: &[&str] = &[
    "a:",
    "b:",
    "c: ",
    "x",
    "y # n",
    "\n",
    "\n",
    "\n  ",
    "\n  ",
    "\n    ",
    " ",
    "{",
    "}",
    ", ",
    "[",
    "]",
    "- ",
    "&m ",
    "*m",
    "<<: *m",
    "!!str ",
    "'q'",
    "\"w\"",
    "\"\\u00e9\"",
    ">-\n",
    "|\n",
    "# c\n",
    "# größe\n",
    "---\n",
    "...\n",
    "~",
    "ü",
    "? ",
    ": ",
    "\r\n",
    "a: 1\n",
    "b: {a: 1}\n",
    "c:\n  a: 1\n  b: 2\n",
    "c: &m {a: 1}\n",
];

fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(PIECES)
}

fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut rows: Vec<String> = map
                .iter()
                .map(|(k, v)| format!("{k}={}", canonical(v)))
                .collect();
            rows.sort();
            format!("{rows:?}")
        }
        other => other.to_string(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn any_text_is_edited_as_meant_or_refused(
        pieces in prop::collection::vec(piece(), 1..14),
        key in prop::sample::select(&["a", "b", "c"][..]),
        inner in prop::sample::select(&["", "a", "b"][..]),
        how in 0..7_usize,
    ) {
        let text = pieces.concat();
        let Ok(mut draft) = YamlEditor::new("t", text.as_bytes()) else { return Ok(()) };
        let mut meant = parse("t", text.as_bytes(), ParseLimits::default()).unwrap().to_json();
        let path: Vec<&str> = [key, inner].into_iter().filter(|key| !key.is_empty()).collect();
        let pointer = format!("/{}", path.join("/"));
        let at = meant.pointer(&pointer).cloned();
        let long = json!({"s": "one", "t": "two 2"});
        let done = match how {
            0 => draft.set(&path, &json!("new")),
            1 => draft.replace_with_map(&path, &long),
            // The editor does not have to reject an entry that exists already.
            2 if at.as_ref().is_none_or(|at| at.get("n").is_none()) => draft.insert_entry(&path, InsertPosition::Last, "n", &json!("v")),
            3 if at.as_ref().is_none_or(|at| at.get("n").is_none()) => draft.insert_entry(&path, InsertPosition::After("a"), "n", &long),
            4 => draft.insert_entry(&[], InsertPosition::First, "first", &json!(1)),
            5 if at.as_ref().is_none_or(|at| at.get("n").is_none()) => draft.insert_entry(&path, InsertPosition::First, "n", &json!("v")),
            6 if at.is_some() => draft.remove_entry(&path[..path.len() - 1], path[path.len() - 1]),
            _ => return Ok(()),
        };
        let Ok(body) = done.and_then(|()| draft.finish()) else { return Ok(()) };
        match how {
            4 => meant["first"] = json!(1),
            6 => {
                let (map, key) = pointer.rsplit_once('/').expect("it begins with one");
                let map = meant.pointer_mut(map).and_then(Value::as_object_mut);
                map.expect("only what is there is edited").remove(key);
            }
            _ => {
                let value = meant.pointer_mut(&pointer).expect("only what is there is edited");
                match how {
                    0 => *value = json!("new"),
                    1 => *value = long,
                    2 | 5 => value["n"] = json!("v"),
                    _ => value["n"] = long,
                }
            }
        }
        let now = parse("t", &body, ParseLimits::default()).unwrap().to_json();
        prop_assert_eq!(canonical(&now), canonical(&meant), "{:?} became {:?}", text, String::from_utf8_lossy(&body));
    }
}

#[test]
fn removed_entry_leaves_the_others_and_their_comments() {
    for (before, path, expected) in [
        (
            "a:\n  x: 1 # one\n  # of y\n  y: {k: [1]} # two\n\n  # of z\n  z: 3\n",
            &["a"][..],
            "a:\n  x: 1 # one\n  # of y\n\n  # of z\n  z: 3\n",
        ),
        ("x: 1\ny:\n  k: 1\n  l: 2", &[], "x: 1"),
        ("x: 1\r\ny: 2\r\n", &[], "x: 1\r\n"),
        ("a: {x: 1, y: {k: 2}, z: 3}\n", &["a"], "a: {x: 1, z: 3}\n"),
        ("a: {x: 1, y: 'q'}\n", &["a"], "a: {x: 1}\n"),
        ("a: {y: 1, x: 2}\n", &["a"], "a: {x: 2}\n"),
        ("x: 1\n", &[], "x: 1\n"),
    ] {
        let mut draft = YamlEditor::new("t", before.as_bytes()).unwrap();
        draft.remove_entry(path, "y").unwrap();
        let after = draft
            .finish()
            .unwrap_or_else(|error| panic!("{before:?}: {error}"));
        assert_eq!(String::from_utf8(after).unwrap(), expected, "{before:?}");
    }
    let mut only = YamlEditor::new("t", b"a:\n  y: 1\n").unwrap();
    assert!(
        only.remove_entry(&["a"], "y").is_err(),
        "nothing would be left of `a`"
    );
}

#[test]
fn first_entry_of_a_nested_map_goes_below_its_key() {
    for (before, expected) in [
        (
            "a: # live\n  # of x\n  x: 1\n",
            "a: # live\n  k: v\n  # of x\n  x: 1\n",
        ),
        ("a: {x: 1}\n", "a: {k: v, x: 1}\n"),
        ("a:\n", "a:\n  k: v\n"),
        ("b: 1\na: &m\n    x: 1", "b: 1\na: &m\n    k: v\n    x: 1"),
    ] {
        let mut draft = YamlEditor::new("t", before.as_bytes()).unwrap();
        draft
            .insert_entry(&["a"], InsertPosition::First, "k", &json!("v"))
            .unwrap();
        let after = draft
            .finish()
            .unwrap_or_else(|error| panic!("{before:?}: {error}"));
        assert_eq!(String::from_utf8(after).unwrap(), expected, "{before:?}");
    }
}

#[test]
fn edit_with_an_unexpected_result_is_refused() {
    let mut draft = YamlEditor::new("t", b"a: 1\nb: 2\n").unwrap();
    draft.apply_splices(vec![(3..4, "7".into())]);
    let error = draft.finish().unwrap_err().to_string();
    assert!(
        error.starts_with("t:1:1: internal error: the edited text"),
        "{error}"
    );
    let mut draft = YamlEditor::new("t", b"a: 1\nb: 2\n").unwrap();
    draft.apply_splices(vec![(3..4, "[".into())]);
    let error = draft.finish().unwrap_err().to_string();
    assert!(error.contains("internal error"), "{error}");
}
