//! Exit codes, help, JSON, colours and pipes of every command.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::privilege::{as_nobody, is_root};
use crate::sandbox::{NODE, Sandbox, binary, isolated};

/// Every read-only command about a host, with its arguments.
const LOOKS: &[&[&str]] = &[
    &["plan"],
    &["plan", "--explain", "word"],
    &["status"],
    &["history"],
    &["releases"],
    &["releases", "list"],
    &["validate"],
    &["roles"],
    &["facts"],
];

/// A pass, besides.
const PASS: &[&[&str]] = &[&["converge"]];

/// Long options of every command.
const GLOBAL: &[&str] = &[
    "--config",
    "--root",
    "--output",
    "--json",
    "--log",
    "--verbose",
    "--help",
    "--version",
];

/// Long options of commands that take a store.
const STORE: &[&str] = &[
    "--store",
    "--region",
    "--endpoint",
    "--path-style",
    "--manifest",
];

/// Those of commands that change the manifest, besides.
const PUBLISHER: &[&str] = &["--by", "--sign", "--signers", "--trust-current", "--yes"];

/// The long options that a command shares with others.
fn shared_options(command: &str) -> Vec<&'static str> {
    let publishes = [
        "publish",
        "promote",
        "hold",
        "unhold",
        "note",
        "now",
        "rollback",
        "rollout restart",
        "secret set",
        "secret edit",
        "secret rekey",
        "secret remove",
        "policy push",
    ];
    let reads = [
        "history",
        "diff",
        "fleet",
        "rollout status",
        "rollout resume",
        "rollout quarantine list",
        "rollout quarantine lift",
        "secret list",
        "policy list",
        "policy show",
    ];
    match (publishes.contains(&command), reads.contains(&command)) {
        (true, _) => [STORE, PUBLISHER].concat(),
        (false, true) => STORE.to_vec(),
        _ => Vec::new(),
    }
}

fn host() -> Sandbox {
    let host = Sandbox::of("");
    host.role("parameters: {word: one}\nresources:\n  - directory: {path: /srv}\n  - file: {path: /srv/a, content: \"{{ word }}\\n\"}\n");
    host
}

fn help(args: &[&str]) -> String {
    let mut command = Command::new(binary());
    isolated(&mut command);
    let output = command.args(args).arg("--help").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{args:?}");
    assert!(output.stderr.is_empty(), "help goes to standard output");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn help_lists_every_command_and_explains_every_option() {
    let top = help(&[]);
    for (command, own) in [
        (
            "init",
            &[
                "--env",
                "--role",
                "--store",
                "--region",
                "--endpoint",
                "--path-style",
                "--manifest",
                "--node",
                "--tag",
                "--app",
                "--set",
                "--deploy-key",
                "--known-host",
                "--save-credentials",
                "--unchecked",
                "--no-timer",
                "--force",
            ][..],
        ),
        (
            "converge",
            &[
                "--force",
                "--fresh",
                "--only",
                "--lift-quarantine",
                "--wait",
                "--no-wait",
                "--accept-shrink",
            ],
        ),
        ("exec", &["--release", "--"]),
        ("ps", &[]),
        ("restart", &["--process", "--wait", "--no-wait"]),
        ("logs", &["--process", "--follow", "--lines"]),
        ("plan", &["--only", "--explain", "--accept-shrink"]),
        ("status", &[]),
        ("doctor", &[]),
        ("history", &["--limit", "--release", "--app", "--signers"]),
        ("releases", &["--app"]),
        ("releases list", &["--app"]),
        (
            "releases build",
            &[
                "--sha",
                "--ref",
                "--keep-days",
                "--by",
                "--wait",
                "--no-wait",
            ],
        ),
        (
            "releases activate",
            &["--reason", "--by", "--force", "--wait", "--no-wait"],
        ),
        (
            "rollback",
            &[
                "--to",
                "--reason",
                "--force",
                "--unpin",
                "--wait",
                "--no-wait",
                "--for",
                "--no-hold",
                "--policy",
                "--repo",
            ],
        ),
        (
            "releases clean",
            &["--app", "--all-failed", "--dry-run", "--wait", "--no-wait"],
        ),
        ("roles", &[]),
        ("roles list", &[]),
        ("roles show", &[]),
        ("validate", &[]),
        ("facts", &[]),
        (
            "publish",
            &[
                "--repo",
                "--via-ci",
                "--dry-run",
                "--next",
                "--wait",
                "--timeout",
                "--reason",
                "--unchecked",
                "--ref",
                "--create",
                "--hold",
                "--until",
                "--lift-hold",
                "--above-fleet",
            ],
        ),
        ("diff", &["--repo"]),
        (
            "fleet",
            &["--env", "--app", "--watch", "--forget", "--yes", "--step"],
        ),
        (
            "promote",
            &["--via-ci", "--create", "--dry-run", "--reason", "--wait"],
        ),
        ("hold", &["--reason", "--for", "--until"]),
        ("unhold", &["--reason"]),
        ("note", &["--done"]),
        ("now", &["--app", "--via", "--reason"]),
        ("rollout status", &["--wait", "--watch", "--timeout"]),
        ("rollout resume", &["--reason", "--sha", "--sign"]),
        ("rollout restart", &["--reason"]),
        ("rollout quarantine list", &[]),
        ("rollout quarantine lift", &["--reason", "--sha", "--sign"]),
        ("secret set", &["--accept", "--identity", "--reason"]),
        ("secret edit", &["--accept", "--identity", "--reason"]),
        ("secret list", &[]),
        (
            "secret rekey",
            &["--identity", "--reason", "--accept", "--add", "--remove"],
        ),
        ("secret remove", &["--reason"]),
        ("notify test", &[]),
        ("maintenance", &["--by", "--drain", "--for", "--reason"]),
        ("completions", &[]),
        ("policy push", &["--dry-run", "--reason", "--policy"]),
        ("policy test", &["--as", "--against"]),
        ("policy list", &[]),
        ("policy show", &["--file"]),
        ("demo", &["--keep", "--dir", "--stop"]),
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        let (last, above) = words.split_last().unwrap();
        let list = if above.is_empty() {
            top.clone()
        } else {
            help(above)
        };
        assert!(
            list.contains(&format!("\n  {last} ")),
            "{command} is not listed:\n{list}"
        );
        let text = help(&words);
        let shared = shared_options(command);
        for option in own.iter().chain(GLOBAL).chain(&shared) {
            let mut lines = text.lines();
            let found =
                lines.find(|line| line.split([' ', ',', '.', '`']).any(|word| word == *option));
            assert!(
                found.is_some(),
                "{command} does not mention {option}:\n{text}"
            );
        }
        for shown in text
            .split_whitespace()
            .filter(|word| word.starts_with("--"))
        {
            let shown = shown.trim_end_matches(['.', ',', ']', ')', '\'', '`']);
            assert!(
                own.contains(&shown) || GLOBAL.contains(&shown) || shared.contains(&shown),
                "{command}: {shown} is not tested here"
            );
        }
    }
}

#[test]
fn usage_error_exits_64_with_a_suggestion() {
    let host = host();
    for (args, expected) in [
        (&["convrege"][..], "'converge'"),
        (&["plan", "--onyl", "x"], "'--only'"),
        (&["history", "-n", "many"], "invalid value 'many'"),
        (
            &["converge", "--only", "file:/srv/b"],
            "did you mean `file:/srv/a`?",
        ),
        (
            &["converge", "--only", "nothing-like-it"],
            "hint: there are `directory:/srv`, `file:/srv/a`",
        ),
        (&[], "Usage: trueup"),
    ] {
        let ran = host.run(args);
        assert_eq!(ran.code, 64, "{ran}");
        assert!(ran.err.contains(expected), "{ran}");
        assert_eq!(ran.out, "");
    }
    assert!(!host.at("/srv").exists());
}

#[test]
fn exit_codes_distinguish_pending_converged_and_bad_input() {
    let host = host();
    let codes = |host: &Sandbox| -> Vec<i32> {
        let all = ["plan", "status", "validate", "facts", "history"];
        all.map(|command| host.run(&[command]).code).to_vec()
    };
    assert_eq!(codes(&host), [2, 2, 0, 0, 0]);
    assert_eq!(host.converge().code, 0);
    assert_eq!(codes(&host), [0, 0, 0, 0, 0]);
    host.role("nonsense: true\n");
    assert_eq!(codes(&host), [78, 78, 78, 0, 0]);
    assert_eq!(host.converge().code, 78);
}

#[test]
fn read_only_commands_write_nothing_and_need_no_privilege() {
    let host = host();
    let before = crate::tree::fingerprints(&host.root, &[]);
    let unprivileged = |args: &[&str]| {
        let mut command = host.command(args);
        as_nobody(&mut command);
        host.run_command(command)
    };
    for args in LOOKS {
        let ran = unprivileged(args);
        assert!([0, 2].contains(&ran.code), "{args:?}: {ran}");
        assert_eq!(ran.code, host.run(args).code, "{args:?}");
        let touched =
            crate::tree::changed_paths(&before, &crate::tree::fingerprints(&host.root, &[]));
        assert!(touched.is_empty(), "{args:?} wrote {touched:?}");
    }
    // A newer manifest that was only read has not been acted on.
    host.manifest(crate::sandbox::MANIFEST.replace("generation: 3", "generation: 9"));
    assert_eq!(host.run(&["plan"]).code, 2);
    host.manifest(crate::sandbox::MANIFEST);
    host.converged();
}

#[test]
fn json_is_one_versioned_document_on_success_and_failure() {
    let host = host();
    let document = |args: &[&str]| {
        let ran = host.run(&[args, &["--json"]].concat());
        assert_eq!(ran.err, "", "{args:?} speaks besides");
        let json = ran.json();
        assert_eq!(json["version"], 1, "{args:?}: {ran}");
        (ran.code, json)
    };
    let all = || LOOKS.iter().chain(PASS);
    for args in all() {
        document(args);
    }
    host.role("nonsense: true\n");
    for args in all().filter(|args| !["facts", "history"].contains(&args[0])) {
        let (code, json) = document(args);
        assert_eq!(
            (code, &json["outcome"]),
            (78, &"bad-input".into()),
            "{args:?}"
        );
        let error = &json["errors"][0];
        assert_eq!(error["message"], "unknown field `nonsense`");
        assert_eq!(error["at"]["line"], 1);
        assert!(error["hint"].as_str().unwrap().starts_with("expected"));
    }
    let (_, history) = document(&["history"]);
    assert_eq!(history["passes"][0]["counts"]["changed"], 2);
}

#[test]
fn no_escape_codes_in_a_pipe_or_with_no_color() {
    let host = host();
    for args in LOOKS.iter().chain(PASS) {
        let ran = host.run(args);
        assert!(
            !ran.out.contains('\x1b') && !ran.err.contains('\x1b'),
            "{args:?}: {ran}"
        );
    }
    // `script` (util-linux) runs a command at a terminal of its own.
    let at_a_terminal = |variable: &str| {
        let mut command = Command::new("script");
        isolated(&mut command);
        command.env("TERM", "xterm");
        let line = format!(
            "{} plan --explain word --root {1}; {0} validate --root {1}",
            binary().display(),
            host.root.display()
        );
        command.args(["-qec", &line, "/dev/null"]);
        if let Some((name, value)) = variable.split_once('=') {
            command.env(name, value);
        }
        host.run_command(command).out
    };
    assert!(
        at_a_terminal("TERM=xterm").contains("\x1b["),
        "no colour at a terminal"
    );
    for variable in ["NO_COLOR=1", "CLICOLOR=0", "TERM=dumb"] {
        let out = at_a_terminal(variable);
        assert!(
            out.contains("good: the role `app` describes 2 resources") && !out.contains('\x1b'),
            "{variable}: {out:?}"
        );
    }
}

#[test]
fn clicolor_force_colours_pipes_except_json_and_no_color() {
    let host = host();
    let forced = |args: &[&str], no_color: &str| {
        let mut command = host.command(args);
        command.env("CLICOLOR_FORCE", "1").env("NO_COLOR", no_color);
        host.run_command(command).out
    };
    assert!(forced(&["validate"], "").contains("\x1b["));
    for plain in [forced(&["validate"], "1"), forced(&["plan", "--json"], "")] {
        assert!(!plain.is_empty() && !plain.contains('\x1b'), "{plain:?}");
    }
}

#[test]
fn closed_output_pipe_causes_no_panic() {
    let host = host();
    host.role("parameters: {word: one}\nresources:\n  - directory: {path: /srv}\n  - file: {path: /srv/a, content: \"{% for i in range(end=20000) %}line {{ i }}\\n{% endfor %}\"}\n");
    for args in LOOKS
        .iter()
        .chain(PASS)
        .chain(&[&["converge", "--json"][..], &["--help"]])
    {
        let mut command = host.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
        assert!(
            ended
                .status
                .code()
                .is_some_and(|code| [0, 2].contains(&code)),
            "{args:?}: {ended:?}"
        );
    }
    // The pass completed in spite of it.
    host.assert_converged(&[]);
}

#[test]
fn unprivileged_pass_on_the_real_host_is_refused_with_a_hint() {
    let host = host();
    let mut command = Command::new(binary());
    isolated(&mut command);
    command
        .args(["converge", "--config"])
        .arg(host.at("/etc/trueup/node.yml"));
    as_nobody(&mut command);
    let ran = host.run_command(command);
    assert_eq!(ran.code, 64, "{ran}");
    assert_eq!(
        ran.err,
        "trueup: a pass on this host needs root\n  hint: `sudo trueup converge`, or `--root DIR` for a sandbox; `trueup plan` needs less\n"
    );
}

#[test]
fn unprivileged_sandbox_pass_reports_once_that_owners_are_unmanaged() {
    if !is_root("an owner that differs") {
        return;
    }
    let host = Sandbox::empty();
    host.write("/etc/trueup/node.yml", NODE);
    host.manifest(crate::sandbox::MANIFEST);
    host.role("resources:\n  - directory: {path: /srv, owner: root, group: root, mode: \"0755\"}\n  - file: {path: /srv/a, content: x, owner: root, mode: \"0640\"}\n  - file: {path: /srv/b, content: x, owner: nobody-here}\n");
    // The user owns the whole sandbox.
    let status = Command::new("chown")
        .arg("-R")
        .arg(format!("{0}:{0}", crate::privilege::NOBODY))
        .args([&host.root, &host.store])
        .status();
    assert!(status.unwrap().success());
    let run = |args: &[&str]| {
        let mut command = host.command(args);
        as_nobody(&mut command);
        host.run_command(command)
    };
    let expected = "not running as root: owners and accounts were not managed\n";
    let first = run(&["converge"]);
    assert_eq!(first.code, 0, "{first}");
    assert_eq!(first.out.matches(expected).count(), 1, "{first}");
    let mode = host.at("/srv/a").metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o640);
    assert_eq!(
        run(&["plan"]).code,
        0,
        "an owner is wanted that cannot be set"
    );
}
