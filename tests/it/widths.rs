//! Tables and texts of commands about a fleet, at terminals of several widths and in pipes, with the longest names.

use crate::acts::{command, run};
use crate::sandbox::Sandbox;
use crate::terminal::Terminal;

const OLD: &str = "4f2c9d0e1b3a5c7d9e0f1a2b3c4d5e6f70819203";
const NEW: &str = "9b1c44ef0a1b2c3d4e5f60718293a4b5c6d7e8f9";

struct Fleet {
    sandbox: Sandbox,
    env: String,
    app: String,
}

/// Twenty hosts, an environment of 40 characters, an app of 30, texts of 200.
fn fleet() -> Fleet {
    let (env, app) = ("production-".repeat(4), "checkout-".repeat(4));
    let (env, app) = (format!("{}x", &env[..39]), format!("{}x", &app[..29]));
    let sandbox = Sandbox::empty();
    let note = "run the reindex ".repeat(12);
    sandbox.manifest(format!(
        "{env}:\n  _settings:\n    generation: 1\n    secrets: {{{}: sha256:{}}}\n  {app}:\n    sha: {NEW}\n    notes: [{{text: \"{}\", by: ana, at: 2026-11-30T10:00:00Z}}]\n",
        "database-password-of-the-primary",
        "a".repeat(64),
        note.trim_end(),
    ));
    let folder = sandbox.store.join("nodes").join(&env);
    std::fs::create_dir_all(&folder).unwrap();
    for number in 1..=20 {
        let node = format!("web{number:02}.shop.example.internal");
        let record = format!(
            r#"{{"version": 1, "node": "{node}", "environment": "{env}", "rollouts": true, "apps": {{"{app}": {{"wanted": "{NEW}", "actual": "{OLD}", "state": "serving"}}}},
            "last_pass": {{"at": "2026-11-21T03:00:12Z", "outcome": "converged"}}}}"#
        );
        std::fs::write(folder.join(format!("{node}.json")), record).unwrap();
    }
    let reason = "orders of the warehouse ".repeat(8);
    let words = [
        "hold",
        &env,
        &app,
        "--reason",
        reason.trim_end(),
        "--for",
        "2h",
    ];
    let ran = run(&sandbox, &words);
    assert_eq!(ran.code, 0, "{ran}");
    Fleet { sandbox, env, app }
}

/// Each command, and what has to be visible at every width.
fn commands(fleet: &Fleet) -> Vec<(Vec<&str>, &'static str)> {
    let (env, app) = (fleet.env.as_str(), fleet.app.as_str());
    vec![
        (vec!["fleet", "--env", env], "pending"),
        (vec!["diff", env], "9b1c44e"),
        (vec!["history", env], "hold"),
        (vec!["history", env, app], "hold"),
        (vec!["note", env], "reindex"),
        (vec!["secret", "list", env], "missing"),
        (vec!["unhold", env, app], "9b1c44e"),
    ]
}

#[test]
fn lines_fit_the_terminal_and_keep_what_matters() {
    for width in [60, 80, 200] {
        let fleet = fleet();
        for (words, shown) in commands(&fleet) {
            let mut command = command(&fleet.sandbox, &words);
            command.env("NO_COLOR", "1");
            let terminal = Terminal::start_sized(command, None, None, width);
            let (_, screen) = terminal.end();
            assert!(screen.contains(shown), "{words:?} at {width}: {screen}");
            assert!(!screen.contains('\x1b'), "{words:?}: {screen:?}");
            for line in screen.lines() {
                // A word that is wider than the terminal cannot be broken: people copy it.
                let longest = line.split_whitespace().map(str::len).max().unwrap_or(0) + 8;
                let fits = line.chars().count() <= usize::from(width).max(longest);
                assert!(fits, "{words:?} at {width}: {line}\n{screen}");
            }
        }
    }
}

#[test]
fn pipes_get_whole_lines_without_colours() {
    let fleet = fleet();
    for (words, shown) in commands(&fleet) {
        let mut command = command(&fleet.sandbox, &words);
        command.env("TERM", "xterm-256color");
        let ran = fleet.sandbox.run_command(command);
        assert!(ran.out.contains(shown), "{words:?}: {ran}");
        assert!(!ran.out.contains('\x1b') && !ran.out.contains('…'), "{ran}");
    }
    let listed = run(&fleet.sandbox, &["note", &fleet.env]).out;
    assert_eq!(listed.lines().count(), 2, "{listed}");
}
