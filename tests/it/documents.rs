//! The documents of `--json`, as the program prints them, against docs/json.md.

use crate::acts::{operator, report, run};
use crate::json_docs::JsonDocs;

const NEW: &str = "9b1c44ef0a1b2c3d4e5f60718293a4b5c6d7e8f9";
const ACTS: &str = "`trueup promote`, `rollback ENV APP`, `hold`, `unhold`, `note`, `now`";

#[test]
fn documents_are_as_the_page_promises() {
    let sandbox = operator();
    report(&sandbox, "production", "web1");
    let change = format!("shop={NEW}");
    let rows: &[(&str, &[&str])] = &[
        (
            "`trueup publish`",
            &["publish", "production", &change, "--yes"],
        ),
        (
            "`trueup publish`",
            &["publish", "production", &change, "--next", "--dry-run"],
        ),
        ("`trueup diff`", &["diff", "production"]),
        ("`trueup fleet`", &["fleet", "--env", "production"]),
        (ACTS, &["promote", "staging", "production", "--yes"]),
        (
            ACTS,
            &[
                "hold",
                "production",
                "shop",
                "--reason",
                "x",
                "--for",
                "1h",
                "--yes",
            ],
        ),
        (ACTS, &["rollback", "production", "shop", "--yes"]),
        (
            ACTS,
            &["note", "production", "shop", "run the reindex", "--yes"],
        ),
        ("`trueup note ENV`", &["note", "production"]),
        (ACTS, &["unhold", "production", "shop", "--yes"]),
        (ACTS, &["now", "production", "--yes"]),
        ("`trueup history ENV`", &["history", "production"]),
        ("`trueup secret list`", &["secret", "list", "production"]),
        (
            "`trueup rollout quarantine list`",
            &["rollout", "quarantine", "list", "production"],
        ),
        (
            "`trueup fleet --forget`",
            &["fleet", "--env", "production", "--forget", "web1", "--yes"],
        ),
        ("An error", &["diff", "prodution"]),
    ];
    let docs = JsonDocs::read();
    let mut different = Vec::new();
    for (section, words) in rows {
        let ran = run(&sandbox, &[words, &["--json"][..]].concat());
        let document = ran.json();
        assert_eq!(document["version"], 1, "{words:?}: {ran}");
        let is_error = document.get("errors").is_some();
        assert_eq!(is_error, *section == "An error", "{words:?}: {ran}");
        different.extend(docs.differences(section, &document));
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn page_that_differs_from_a_document_is_noticed() {
    let docs = JsonDocs::read();
    let differences = |text: &str| docs.differences("note", &serde_json::from_str(text).unwrap());
    assert!(differences(r#"{"text": "a", "by": "ana"}"#).is_empty());
    for (text, why) in [
        ("{}", "promised and missing"),
        (r#"{"text": 5}"#, "expected string"),
        (r#"{"text": "a", "more": 1}"#, "does not have it"),
    ] {
        let found = differences(text).join("\n");
        assert!(found.contains(why), "{text}: {found}");
    }
}
