//! Completions in a real shell, with the caches of a host that others have written to.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::sandbox::{Sandbox, binary};
use crate::terminal::Terminal;

const SHA: &str = "4f2c9d0e1b3a5c7d9e0f1a2b3c4d5e6f70819203";

/// Names that would run something if a shell expanded them, or would be an option.
const HOSTILE: [&str; 9] = [
    "$(touch ran)",
    "`touch ran`",
    "a;touch ran",
    "a'b",
    "a\"b",
    "a\nb",
    "--evil",
    "shop*",
    "sh op",
];

/// A host with caches, and its `trueup` in a folder for PATH.
fn host() -> Sandbox {
    let sandbox = Sandbox::empty();
    let mut manifest = format!(
        "generation: 1\nstaging:\n  blog: {SHA}\nproduction:\n  shop: {SHA}\n  cart: {SHA}\n"
    );
    for name in HOSTILE {
        manifest.push_str(&format!(
            "  {}: {SHA}\n",
            serde_json::to_string(name).unwrap()
        ));
    }
    sandbox.write("/var/lib/trueup/manifest.yml", &manifest);
    let mut records = serde_json::json!({"web1.shop": {"etag": "\"1\"", "record": null}});
    let mut releases: serde_json::Value =
        serde_json::from_str(include_str!("../fixtures/state/release-record.json")).unwrap();
    let entry = releases["releases"][0].clone();
    for name in HOSTILE {
        records[name] = serde_json::json!({"etag": "\"1\"", "record": null});
        let mut hostile = entry.clone();
        hostile["name"] = name.into();
        releases["releases"].as_array_mut().unwrap().push(hostile);
    }
    let records = serde_json::json!({"version": 1, "store": "dir:/x", "environment": "production", "records": records});
    sandbox.write("/var/lib/trueup/fleet-records.json", &records.to_string());
    sandbox.write("/var/lib/trueup/releases/shop.json", &releases.to_string());
    let program = format!(
        "#!/bin/sh\nexec {} --root {} \"$@\"\n",
        binary().display(),
        sandbox.root.display()
    );
    sandbox.write("/path/trueup", &program);
    let path = sandbox.at("/path/trueup");
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::create_dir(sandbox.sibling("here")).unwrap();
    sandbox
}

fn bash(sandbox: &Sandbox, words: &[&str]) -> Command {
    let mut command = Command::new("bash");
    command.args(["--norc", "--noprofile"]).args(words);
    command.env_clear();
    let path = format!("{}:/usr/bin:/bin", sandbox.at("/path").display());
    command.env("PATH", path).env("TERM", "dumb");
    command.env("HOME", sandbox.sibling("here"));
    command.current_dir(sandbox.sibling("here"));
    command
}

/// What bash offers after these words; the last one is completed.
fn offered(sandbox: &Sandbox, words: &[&str]) -> Vec<String> {
    let script = "source <(trueup completions bash)\nCOMP_WORDS=(\"$@\") COMP_CWORD=$(($# - 1))\n_trueup 2>&1\nprintf '%s\\n' \"${COMPREPLY[@]}\"";
    let mut all = vec!["-c", script, "bash"];
    all.extend(words);
    let output = bash(sandbox, &all).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}

#[test]
fn shell_offers_commands_options_and_known_names() {
    let sandbox = host();
    let rows: &[(&[&str], &[&str])] = &[
        (&["trueup", "conv"], &["converge"]),
        (&["trueup", "rollout", "stat"], &["status"]),
        (&["trueup", "hold", "p"], &["production"]),
        (&["trueup", "hold", "production", "sh"], &["shop"]),
        (&["trueup", "hold", "staging", "b"], &["blog"]),
        (&["trueup", "hold", "staging", "sh"], &[]),
        (&["trueup", "promote", "staging", "pro"], &["production"]),
        (&["trueup", "publish", "production", "ca"], &["cart="]),
        (&["trueup", "fleet", "--env", "sta"], &["staging"]),
        (&["trueup", "fleet", "--env", "=", "sta"], &["staging"]),
        (&["trueup", "fleet", "--forget", "we"], &["web1.shop"]),
        (&["trueup", "fleet", "--forg"], &["--forget"]),
        (
            &["trueup", "rollback", "shop", "--to", "20261128192207"],
            &["20261128192207-16fd597"],
        ),
        (&["trueup", "--log", "jou"], &["journal"]),
        (&["trueup", "--config", "/et"], &[]),
        (&["trueup", "demo-"], &[]),
    ];
    for (words, expected) in rows {
        assert_eq!(offered(&sandbox, words), *expected, "{words:?}");
    }
    let apps = offered(&sandbox, &["trueup", "hold", "production", ""]);
    assert_eq!(apps, ["cart", "shop"]);
}

#[test]
fn names_of_others_run_nothing_in_the_shell() {
    let sandbox = host();
    for words in [
        &["trueup", "hold", "production", ""][..],
        &["trueup", "fleet", "--forget", ""],
        &["trueup", "rollback", "shop", "--to", ""],
        &["trueup", "publish", "production", ""],
    ] {
        let offered = offered(&sandbox, words);
        assert!(!offered.is_empty(), "{words:?}");
        for word in offered {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.=".contains(c);
            assert!(word.chars().all(is_plain), "{words:?}: {word}");
            assert_ne!(word, "--evil", "{words:?}");
        }
    }
    let mut terminal = Terminal::start(bash(&sandbox, &["-i"]), None, None);
    terminal.type_keys("source <(trueup completions bash); echo re''ady\n");
    terminal.wait_for_text("ready");
    terminal.type_keys("echo trueup > /dev/null; trueup hold production \t\t");
    terminal.wait_for_text("cart");
    terminal.type_keys("sh\t");
    terminal.wait_for_text("production shop");
    terminal.type_keys("\u{15}exit\n");
    let (_, screen) = terminal.end();
    assert!(!screen.contains("touch"), "{screen}");
    let left = std::fs::read_dir(sandbox.sibling("here")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.contains(&"ran".into()), "{left:?}");
}

#[test]
fn caches_that_cannot_be_used_complete_to_nothing_in_silence() {
    let sandbox = host();
    sandbox.write("/var/lib/trueup/manifest.yml", "a: [");
    sandbox.write("/var/lib/trueup/fleet-records.json", "{");
    assert!(offered(&sandbox, &["trueup", "hold", "pro"]).is_empty());
    assert!(offered(&sandbox, &["trueup", "fleet", "--forget", "we"]).is_empty());
    std::fs::remove_dir_all(sandbox.at("/var/lib/trueup")).unwrap();
    // Nobody but root may name what root reads: a link is not followed.
    let other = sandbox.sibling("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(
        other.join("manifest.yml"),
        format!("production:\n  shop: {SHA}\n"),
    )
    .unwrap();
    assert!(offered(&sandbox, &["trueup", "hold", "pro"]).is_empty());
    for words in [
        &["complete", "bash", "99", "--", "trueup"][..],
        &["complete", "bash", "0", "--"],
    ] {
        let ran = sandbox.run(words);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran}");
    }
}
