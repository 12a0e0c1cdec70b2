//! The targets, except those whose parser is private to its module.

use std::path::Path;

use super::Target;
use crate::desired::edit::edit_manifest;
use crate::desired::{Manifest, PublishRequest, Sha};
use crate::fleet::{NodeRecord, Peer};
use crate::settings;
use crate::yaml::{Node, ParseLimits, parse, serialize};

const YAML: &[&str] = &[
    "&a ",
    "*a",
    "<<: *a",
    "&b [",
    "[",
    "]",
    "{",
    "}",
    ": ",
    "- ",
    "? ",
    "|\n",
    ">-\n",
    "!!str ",
    "%YAML 1.2\n---\n",
    "---\n",
    "...\n",
    "null",
    "~",
    "true",
    "production:",
    "shop: ",
    "generation: ",
    "sha: ",
    "ref: ",
    "next: ",
    "hold: ",
    "overrides: ",
    "match: ",
    "until: ",
    "by: ",
    "reason: ",
    "_settings: ",
    "rollout: ",
    "none",
    "max_unavailable: ",
    "25%",
    "per: ",
    "canary: ",
    "hosts: ",
    "bake: ",
    "5m",
    "min_ready: ",
    "max_failures: ",
    "on_failure: ",
    "rollback",
    "after: ",
    "[shop]",
    "progress_deadline: ",
    "previous: ",
    "4f2c9d0e1b3a5c7d9e0f1a2b3c4d5e6f70819203",
    "2026-11-22T00:00:00Z",
    "'",
    "\"",
    "# ",
    "\n  ",
    "\n",
];

fn tree(text: &[u8]) -> Option<Node> {
    parse("f.yml", text, ParseLimits::default()).ok()
}

/// Parsed input can be written, and parses to the same value again.
fn comes_back(node: &Node) {
    let json = node.to_json();
    let text = serialize(json.clone());
    let again = parse("again.yml", text.as_bytes(), ParseLimits::default());
    let again = again.unwrap_or_else(|problem| panic!("{problem}\n{text}"));
    assert_eq!(again.to_json(), json, "{text}");
}

#[test]
fn fuzz_yaml() {
    let law = |input: &[u8]| {
        let Some(tree) = tree(input) else {
            return false;
        };
        comes_back(&tree);
        true
    };
    Target {
        name: "yaml",
        words: YAML,
        law: &law,
    }
    .run();
}

#[test]
fn fuzz_manifest() {
    let law = |input: &[u8]| {
        let Ok(manifest) = Manifest::parse("m.yml", input) else {
            return false;
        };
        for environment in manifest.environments.values() {
            for app in environment.app_names() {
                let now = jiff::Timestamp::UNIX_EPOCH;
                let wanted = environment.desired_app(app, &Default::default(), now);
                let Some(Ok(wanted)) = wanted else {
                    continue;
                };
                assert_eq!(wanted.sha.as_str().len(), 40);
                assert!(wanted.previous.as_ref() != Some(&wanted.sha));
                assert!(wanted.wanted_shas.contains(&wanted.sha));
                let policy = wanted.rollout.policy();
                for other in policy.iter().flat_map(|policy| &policy.after) {
                    assert!(environment.has_app(other) && other != app);
                }
            }
        }
        true
    };
    Target {
        name: "manifest",
        words: YAML,
        law: &law,
    }
    .run();
}

#[test]
fn fuzz_publish() {
    let new = Sha::parse(&"fedcba9876".repeat(4)).unwrap();
    let orders = [("shop", None), ("shop", Some("v1")), ("new", None)].map(|(app, reference)| {
        PublishRequest {
            shas: vec![(app.into(), new.clone())],
            references: reference
                .map(|name: &str| (app.to_owned(), name.to_owned()))
                .into_iter()
                .collect(),
            hold: crate::desired::HoldRequest::Keep,
            create: true,
            ..PublishRequest::new("production", "2026-11-21T04:43:01Z".parse().unwrap())
        }
    });
    let law = |input: &[u8]| {
        let mut taken = false;
        for order in &orders {
            let Ok(edited) = edit_manifest("m.yml", Some(input), order) else {
                continue;
            };
            let Some(body) = edited.body else {
                continue;
            };
            taken = true;
            let (app, sha) = &order.shas[0];
            let before = tree(input).expect("an edit reads its text").to_json();
            let mut after = tree(&body).expect("an edit can be read").to_json();
            let there = &after["production"][app];
            let found = if there.is_object() {
                &there["sha"]
            } else {
                there
            };
            assert_eq!(found, sha.as_str());
            let own = &after["production"]["_settings"]["generation"];
            assert_eq!(own.as_u64(), edited.generation);
            // Everything else is unchanged.
            let mut expected = before.clone();
            for tree in [&mut expected, &mut after] {
                if let Some(settings) = tree
                    .pointer_mut("/production/_settings")
                    .and_then(|it| it.as_object_mut())
                {
                    settings.shift_remove("generation");
                    settings.shift_remove("change");
                }
                let settings = tree.pointer("/production/_settings");
                let is_empty =
                    settings.is_some_and(|it| it.is_null() || *it == serde_json::json!({}));
                if let Some(apps) = tree["production"].as_object_mut().filter(|_| is_empty) {
                    apps.shift_remove("_settings");
                }
                if let Some(apps) = tree["production"].as_object_mut() {
                    apps.shift_remove(app);
                }
                if tree["production"].is_null() || tree["production"] == serde_json::json!({}) {
                    tree.as_object_mut().unwrap().shift_remove("production");
                }
            }
            assert_eq!(after, expected);
            // Comments are kept: an edit only replaces shas and the last change, and adds entries.
            let kept = input.iter().filter(|byte| **byte == b'#').count();
            let is_replaced = before.pointer("/production/_settings/change").is_some();
            assert!(is_replaced || body.iter().filter(|byte| **byte == b'#').count() >= kept);
            // A second edit changes nothing.
            let again = edit_manifest("m.yml", Some(&body), order).expect("an edit can be edited");
            assert!(again.body.is_none());
        }
        taken
    };
    Target {
        name: "publish",
        words: YAML,
        law: &law,
    }
    .run();
}

#[test]
fn fuzz_record() {
    let words = &[
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"tags\":",
        "\"roles\":",
        "\"addresses\":",
        "\"ports\":",
        "\"apps\":",
        "\"generation\":",
        "\"state\":\"serving\"",
        "\"10.0.0.1\"",
        "\"fd00:ec2::254\"",
        "\"::ffff:127.0.0.1\"",
        "\"64:ff9b::a9fe:a9fe\"",
        "\"a\"",
        "null",
        "\"\\u0000\"",
        "\"\\u001b\"",
        "\"why\":",
    ];
    let law = |input: &[u8]| {
        let Ok(record) = NodeRecord::parse("web1", "production", input) else {
            return false;
        };
        let again = NodeRecord::parse("web1", "production", &record.to_json());
        // The rewritten text may be too long: its spacing differs.
        if let Ok(again) = &again {
            assert_eq!(*again, record);
        } else {
            assert!(
                record.to_json().len() > crate::fleet::record::MAX_RECORD,
                "{again:?}"
            );
        }
        for ip in &record.addresses {
            assert!(settings::is_host_address(*ip), "{ip}");
            assert!(!ip.is_loopback() && !ip.is_multicast(), "{ip}");
        }
        let Some(peer) = Peer::from_record(&record) else {
            return true;
        };
        let shown = serde_json::to_string(&peer).unwrap();
        assert!(
            !shown.contains(char::is_control) && !shown.contains('\\'),
            "{shown}"
        );
        true
    };
    Target {
        name: "record",
        words,
        law: &law,
    }
    .run();
}

#[test]
fn fuzz_settings() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("node.yml");
    let words = &[
        "environment: ",
        "roles: ",
        "tags: ",
        "store: ",
        "url: ",
        "attributes: ",
        "fleet: ",
        "static: ",
        "addresses: ",
        "heartbeat: ",
        "5m",
        "gone_after: ",
        "1h",
        "max_shrink: ",
        "node: ",
        "manifest: ",
        "{",
        "}",
        "[",
        "]",
        "\n  ",
        "&a ",
        "*a",
        "../../etc",
        "\"dir:/srv/store\"",
    ];
    let law =
        |input: &[u8]| settings::load_from_body(&config, input, Path::new("/nonexistent")).is_ok();
    Target {
        name: "settings",
        words,
        law: &law,
    }
    .run();
}

#[test]
fn fuzz_role() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("node.yml");
    let node = "environment: production\nroles: [web]\nstore: {url: \"dir:/store\"}\n";
    std::fs::create_dir(dir.path().join("roles")).unwrap();
    std::fs::write(&config, node).unwrap();
    let words = &[
        "parameters: ",
        "for_each: ",
        "apps",
        "resources:\n",
        "- file: ",
        "- directory: ",
        "- service: ",
        "{{ app.name }}",
        "{% if ",
        "%}",
        "{% endif %}",
        "when: ",
        "id: ",
        "path: ",
        "content: ",
        "{",
        "}",
        "[",
        "]",
        "include: ",
        "web",
        "defaults: ",
        "checks: ",
        "ports: ",
        "restart_on: ",
        "&a ",
        "*a",
        "| default(value=",
        "nodes(",
        "secret('x')",
        "\n  ",
    ];
    let law = |input: &[u8]| {
        std::fs::write(dir.path().join("roles/web.yml"), input).unwrap();
        let settings = settings::load(&config, Path::new("/nonexistent")).unwrap();
        let root = std::rc::Rc::new(crate::ports::root::Root::at(dir.path()).unwrap());
        let facts = crate::facts::Facts::new(root);
        let mut peers = crate::fleet::PeerSource::from_settings(&settings);
        let catalog = crate::role::compile_offline(&settings, &facts, &mut peers, "/");
        // Ids are unique.
        catalog.is_ok_and(|catalog| {
            let ids = catalog.resources.iter().map(|resource| resource.id.clone());
            let distinct: std::collections::BTreeSet<_> = ids.collect();
            assert_eq!(distinct.len(), catalog.resources.len());
            true
        })
    };
    Target {
        name: "role",
        words,
        law: &law,
    }
    .run();
}
