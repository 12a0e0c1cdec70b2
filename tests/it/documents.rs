//! The documents of `--json`, as the program prints them, against docs/json.md.

use crate::acts::{operator, report, run};
use crate::json_docs::JsonDocs;
use crate::s3::Bucket;
use crate::sandbox::Sandbox;

const OLD: &str = "4f2c9d0e1b3a5c7d9e0f1a2b3c4d5e6f70819203";
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
fn documents_of_acts_of_rollouts_are_as_the_page_promises() {
    const ACT: &str = "`trueup rollout resume`, `skip-canary`, `skip-after`, `break-slot`, `ignore`, `once`, `reset`, `quarantine lift`";
    let sandbox = operator();
    let folder = sandbox.store.join("rollouts/production");
    std::fs::create_dir_all(&folder).unwrap();
    let register = format!(
        r#"{{"version": 1, "environment": "production", "app": "shop", "nonce": "00000000000000c3", "generation": 7, "slots": 1,
        "entries": [{{"sha": "{OLD}", "generation": 7, "opened": "2026-11-29T10:00:07Z", "opened_by": "web1", "epoch": 0,
        "halt": {{"cause": "environment", "by": "web1", "reason": "no database"}}}}]}}"#
    );
    std::fs::write(folder.join("shop.json"), register).unwrap();
    for act in ["resume", "skip-canary", "skip-after"] {
        let words = ["rollout", act, "production", "shop", "--json"];
        let ran = run(&sandbox, &[&words[..], &["--reason", "it is up"]].concat());
        let document = ran.json();
        assert_eq!((ran.code, &document["version"]), (0, &1.into()), "{ran}");
        let differences = JsonDocs::read().differences(ACT, &document);
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }
}

#[test]
fn documents_of_a_rollout_are_as_the_page_promises() {
    let Some(bucket) = Bucket::new("documents") else {
        return;
    };
    let sandbox = Sandbox::empty();
    let store = bucket.settings();
    let settings = format!("environment: production\nroles: [app]\nstore: {store}\n");
    sandbox.write("/etc/trueup/node.yml", &settings);
    let document = |words: &[&str]| {
        let mut command = sandbox.command(&[words, &["--json"]].concat());
        command.envs(bucket.keys.variables());
        let ran = sandbox.run_command(command);
        let document = ran.json();
        assert_eq!(document["version"], 1, "{words:?}: {ran}");
        assert!(document.get("errors").is_none(), "{words:?}: {ran}");
        document
    };
    let change = format!("shop={OLD}");
    document(&["publish", "production", &change, "--create", "--yes"]);
    let restart = ["rollout", "restart", "production", "shop", "--reason", "x"];
    let restart = document(&restart);
    assert_eq!(restart["generation"], 2, "{restart}");
    let docs = JsonDocs::read();
    let mut different = docs.differences("`trueup rollout restart`", &restart);
    let mut status = document(&["rollout", "status", "production", "shop"]);
    assert_eq!(status["wanted"], OLD, "{status}");
    assert!(status["restart"].is_object(), "{status}");
    let fields = status.as_object_mut().unwrap();
    // The fields of a rollout come besides these two.
    assert!(fields.remove("version").is_some() && fields.remove("store").is_some());
    different.extend(docs.differences("rollout", &status));
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn page_that_differs_from_a_document_is_noticed() {
    let docs = JsonDocs::read();
    let differences =
        |text: &str| docs.differences("problem", &serde_json::from_str(text).unwrap());
    assert!(differences(r#"{"message": "a", "hint": "b"}"#).is_empty());
    for (text, why) in [
        ("{}", "promised and missing"),
        (r#"{"message": 5}"#, "expected string"),
        (r#"{"message": "a", "more": 1}"#, "does not have it"),
        (
            r#"{"message": "a", "at": {"file": "b", "line": 1.5, "column": 1}}"#,
            "expected number",
        ),
    ] {
        let found = differences(text).join("\n");
        assert!(found.contains(why), "{text}: {found}");
    }
}
