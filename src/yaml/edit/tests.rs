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
        how in 0..5_usize,
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
            _ => return Ok(()),
        };
        let Ok(body) = done.and_then(|()| draft.finish()) else { return Ok(()) };
        match how {
            4 => meant["first"] = json!(1),
            _ => {
                let value = meant.pointer_mut(&pointer).expect("only what is there is edited");
                match how {
                    0 => *value = json!("new"),
                    1 => *value = long,
                    2 => value["n"] = json!("v"),
                    _ => value["n"] = long,
                }
            }
        }
        let now = parse("t", &body, ParseLimits::default()).unwrap().to_json();
        prop_assert_eq!(canonical(&now), canonical(&meant), "{:?} became {:?}", text, String::from_utf8_lossy(&body));
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
