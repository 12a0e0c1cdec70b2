//! Commands that change the manifest for all hosts of an environment: what they show before they ask, and their documents.

use crate::sandbox::{Ran, Sandbox};
use crate::terminal::Terminal;

const OLD: &str = "4f2c9d0e1b3a5c7d9e0f1a2b3c4d5e6f70819203";
const LAST: &str = "dddddddddddddddddddddddddddddddddddddddd";
const NEW: &str = "9b1c44ef0a1b2c3d4e5f60718293a4b5c6d7e8f9";

/// A store with a protected environment, and one whose only host serves the new sha.
pub fn operator() -> Sandbox {
    let sandbox = Sandbox::empty();
    sandbox.manifest(manifest(7));
    report(&sandbox, "staging", "web1");
    sandbox
}

fn manifest(generation: u64) -> String {
    format!(
        "staging:\n  _settings: {{generation: 2}}\n  shop: {NEW}\nproduction:\n  _settings: {{generation: {generation}, protected: true}}\n  shop: {{sha: {OLD}, previous: {LAST}}}\n"
    )
}

/// A host that serves the new sha of the shop.
pub fn report(sandbox: &Sandbox, environment: &str, node: &str) {
    let folder = sandbox.store.join("nodes").join(environment);
    std::fs::create_dir_all(&folder).unwrap();
    let record = format!(
        r#"{{"version": 1, "node": "{node}", "environment": "{environment}", "rollouts": true, "apps": {{"shop": {{"wanted": "{NEW}", "actual": "{NEW}", "state": "serving"}}}},
        "last_pass": {{"at": "2026-11-21T03:00:12Z", "outcome": "converged"}}}}"#
    );
    std::fs::write(folder.join(format!("{node}.json")), record).unwrap();
}

/// The command line of an operator without settings.
pub fn command(sandbox: &Sandbox, words: &[&str]) -> std::process::Command {
    let store = format!("dir:{}", sandbox.store.display());
    let mut command = sandbox.command(words);
    command.args(["--store", &store]).env("TRUEUP_BY", "ana");
    command
}

pub fn run(sandbox: &Sandbox, words: &[&str]) -> Ran {
    sandbox.run_command(command(sandbox, words))
}

fn stored(sandbox: &Sandbox) -> String {
    std::fs::read_to_string(sandbox.store.join("sha_number.yml")).unwrap()
}

#[test]
fn protected_environment_shows_the_change_before_the_question() {
    let hold = [
        "hold",
        "production",
        "shop",
        "--reason",
        "audit",
        "--for",
        "2h",
    ];
    let change = format!("shop={NEW}");
    let publish = ["publish", "production", &change];
    let promote = ["promote", "staging", "production"];
    for (words, shown) in [
        (&hold[..], "reason: audit"),
        (&publish, "production/shop 4f2c9d0 -> 9b1c44e"),
        (&promote, "production/shop 4f2c9d0 -> 9b1c44e"),
    ] {
        let sandbox = operator();
        let mut terminal = Terminal::start(command(&sandbox, words), None, None);
        terminal.wait_for_text("is protected.");
        let screen = terminal.screen();
        assert!(screen.contains(shown), "{words:?}: {screen}");
        assert!(screen.contains("(as it would be)"), "{words:?}: {screen}");
        assert_eq!(stored(&sandbox), manifest(7), "{words:?}");
        terminal.type_keys("no\n");
        let (status, screen) = terminal.end();
        assert_eq!(status.code(), Some(1), "{screen}");
        assert_eq!(stored(&sandbox), manifest(7), "{words:?}");
    }
}

#[test]
fn change_of_others_during_the_question_makes_it_ask_again() {
    let sandbox = operator();
    let change = format!("shop={NEW}");
    let words = ["publish", "production", &change];
    let mut terminal = Terminal::start(command(&sandbox, &words), None, None);
    terminal.wait_for_text("(generation 8)");
    terminal.wait_for_text("is protected.");
    sandbox.manifest(manifest(11));
    terminal.type_keys("yes\n");
    terminal.wait_for_text("production was changed meanwhile: it is at generation 11 by now");
    terminal.wait_for_text("(generation 12)");
    assert_eq!(stored(&sandbox), manifest(11));
    // What concerns another environment only does not matter.
    let other = manifest(11).replace("{generation: 2}", "{generation: 3}");
    sandbox.manifest(&other);
    terminal.type_keys("yes\n");
    let (status, screen) = terminal.end();
    assert!(status.success(), "{screen}");
    assert!(stored(&sandbox).contains("generation: 12"), "{screen}");
    let diffs = screen.matches("+++ ").count();
    assert_eq!(diffs, 2, "once before each question: {screen}");
}

#[test]
fn rollback_goes_back_from_what_the_question_showed() {
    let sandbox = operator();
    let words = ["rollback", "production", "shop", "--json"];
    let mut terminal = Terminal::start(command(&sandbox, &words), None, None);
    terminal.wait_for_text("from 4f2c9d0 to ddddddd");
    terminal.wait_for_text("Go back?");
    let text = manifest(9).replace(OLD, &"c".repeat(40));
    sandbox.manifest(text);
    terminal.type_keys("yes\n");
    terminal.wait_for_text("production was changed meanwhile");
    terminal.wait_for_text("from ccccccc to ddddddd");
    terminal.type_keys("yes\n");
    let (status, screen) = terminal.end();
    assert!(status.success(), "{screen}");
}

#[test]
fn documents_have_what_the_texts_have() {
    let sandbox = operator();
    let promoted = run(
        &sandbox,
        &["promote", "staging", "production", "--yes", "--json"],
    );
    assert_eq!(promoted.code, 0, "{promoted}");
    let promoted = promoted.json();
    assert_eq!(promoted["served"][0]["app"], "shop");
    assert_eq!(promoted["served"][0]["hosts"], 1);
    assert_eq!(promoted["served"][0]["sha"], NEW);
    let words = ["rollback", "production", "shop", "--yes", "--json"];
    let ran = run(&sandbox, &words);
    assert_eq!(ran.code, 0, "{ran}");
    let back = ran.json();
    assert_eq!(back["plan"]["from"], NEW, "{ran}");
    assert_eq!(back["plan"]["to"], OLD, "{ran}");
    assert_eq!(back["plan"]["source"], "previous", "{ran}");
    assert_eq!(back["range"]["direction"], "unknown", "{ran}");
    assert!(back["range"]["why_unknown"].is_string(), "{ran}");
    assert_eq!(back["hold_reason"], "rolled back from 9b1c44e", "{ran}");
    assert!(back["held_until"].is_string(), "{ran}");
}

#[test]
fn misspelt_names_are_answered_with_the_nearest_known_one() {
    let sandbox = operator();
    report(&sandbox, "production", "web1");
    let set = ["shop=", NEW].concat();
    let because = ["--reason", "x"];
    let hold = ["--reason", "x", "--for", "1h"];
    let rows: &[(&[&str], &[&str], &str)] = &[
        (&["fleet", "--env", "prodution"], &[], "production"),
        (
            &["fleet", "--env", "production", "--app", "shpo"],
            &[],
            "shop",
        ),
        (
            &["fleet", "--env", "production", "--forget", "wbe1"],
            &[],
            "web1",
        ),
        (&["diff", "prodution"], &[], "production"),
        (&["diff", "production", "shpo"], &[], "shop"),
        (&["promote", "stagign", "production"], &[], "staging"),
        (&["promote", "staging", "prodution"], &[], "production"),
        (
            &["promote", "staging", "prodution", "shop"],
            &[],
            "production",
        ),
        (&["promote", "staging", "production", "shpo"], &[], "shop"),
        (&["hold", "prodution", "shop"], &hold, "production"),
        (&["hold", "production", "shpo"], &hold, "shop"),
        (&["unhold", "prodution", "shop"], &[], "production"),
        (&["unhold", "production", "shpo"], &[], "shop"),
        (&["note", "prodution"], &[], "production"),
        (&["note", "production", "shpo"], &[], "shop"),
        (&["note", "prodution", "shop", "x"], &[], "production"),
        (&["note", "production", "shpo", "x"], &[], "shop"),
        (&["note", "production", "shpo", "--done", "1"], &[], "shop"),
        (&["now", "prodution"], &[], "production"),
        (&["now", "prodution", "--via", "ssh"], &[], "production"),
        (
            &["now", "production", "--via", "ssh", "--app", "shpo"],
            &[],
            "shop",
        ),
        (&["rollback", "prodution", "shop"], &[], "production"),
        (&["rollback", "production", "shpo"], &[], "shop"),
        (&["history", "prodution"], &[], "production"),
        (&["history", "production", "shpo"], &[], "shop"),
        (&["policy", "list", "prodution"], &[], "production"),
        (&["publish", "prodution", &set], &[], "production"),
        (
            &["publish", "production", "shpo=main"],
            &["--repo", "shpo=/nowhere"],
            "shop",
        ),
        (&["secret", "list", "prodution"], &[], "production"),
        (&["secret", "set", "prodution", "db"], &[], "production"),
        (&["secret", "rekey", "prodution"], &[], "production"),
        (&["secret", "remove", "prodution", "db"], &[], "production"),
        (
            &["rollout", "status", "prodution", "shop"],
            &[],
            "production",
        ),
        (&["rollout", "status", "production", "shpo"], &[], "shop"),
        (
            &["rollout", "restart", "prodution", "shop"],
            &because,
            "production",
        ),
        (
            &["rollout", "restart", "production", "shpo"],
            &because,
            "shop",
        ),
        (
            &["rollout", "resume", "prodution", "shop"],
            &because,
            "production",
        ),
        (
            &["rollout", "resume", "production", "shpo"],
            &because,
            "shop",
        ),
        (
            &["rollout", "skip-canary", "production", "shpo"],
            &because,
            "shop",
        ),
        (
            &["rollout", "reset", "production", "shpo"],
            &because,
            "shop",
        ),
        (
            &["rollout", "quarantine", "list", "prodution"],
            &[],
            "production",
        ),
        (
            &["rollout", "quarantine", "list", "production", "shpo"],
            &[],
            "shop",
        ),
        (
            &["rollout", "quarantine", "lift", "production", "shpo"],
            &because,
            "shop",
        ),
    ];
    let mut silent = Vec::new();
    for (words, options, known) in rows {
        let ran = run(&sandbox, &[*words, *options].concat());
        let is_answered = ran
            .to_string()
            .contains(&format!("did you mean `{known}`?"));
        if ran.code == 0 || !is_answered {
            silent.push(format!("{words:?}\n{ran}"));
        }
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
    assert_eq!(stored(&sandbox), manifest(7));
}

#[test]
fn long_work_is_shown_at_a_terminal_and_gone_at_its_end() {
    let sandbox = operator();
    for node in ["web1", "web2"] {
        report(&sandbox, "production", node);
    }
    sandbox.write(
        "/bin/ssh",
        "#!/bin/sh\ncase \"$*\" in *web1*) exit 0;; esac\nwhile ! test -e @ROOT@/go; do sleep 0.1; done\n",
    );
    let ssh = sandbox.at("/bin/ssh");
    std::fs::set_permissions(&ssh, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let start = |columns| {
        let mut command = command(&sandbox, &["now", "production", "--via", "ssh"]);
        let path = format!("{}:/usr/bin:/bin", sandbox.at("/bin").display());
        command.env("PATH", path).env("TERM", "xterm");
        Terminal::start_sized(command, None, None, columns)
    };
    let terminal = start(80);
    terminal.wait_for_text("a pass on the hosts of production (1 s): 1 of 2 ended");
    sandbox.write("/go", "");
    let (status, screen) = terminal.end();
    assert!(status.success(), "{screen}");
    let last = screen.rsplit("\r\u{1b}[K").next().unwrap();
    assert!(!last.contains("of 2 ended"), "{screen:?}");
    let mut piped = command(&sandbox, &["now", "production", "--via", "ssh"]);
    piped.env(
        "PATH",
        format!("{}:/usr/bin:/bin", sandbox.at("/bin").display()),
    );
    let ran = sandbox.run_command(piped);
    assert!(!ran.to_string().contains("ended"), "{ran}");
}
