//! Commands for releases on one host: list, build, roll back, run a command in them.

use serde_json::Value;
use std::os::unix::process::ExitStatusExt;

use crate::app::{App, GOOD};
use crate::gate::ROLE;

fn releases(app: &App) -> Vec<Value> {
    let ran = app.sandbox.run(&["releases", "--json"]);
    assert_eq!(ran.code, 0, "{ran}");
    let apps = ran.json()["apps"].clone();
    assert_eq!(apps[0]["app"], "shop");
    apps[0]["releases"].as_array().unwrap().clone()
}

/// The names of all releases, the newest first.
pub fn release_names(app: &App) -> Vec<String> {
    let name = |release: &Value| release["release"].as_str().unwrap().to_owned();
    releases(app).iter().map(name).collect()
}

fn release_states(app: &App) -> Vec<String> {
    let state = |release: &Value| release["state"].as_str().unwrap().to_owned();
    releases(app).iter().map(state).collect()
}

#[test]
fn release_list_shows_state_and_size() {
    let app = App::new(ROLE);
    let empty = app.sandbox.run(&["releases"]);
    assert_eq!(empty.code, 0, "{empty}");
    assert_eq!(empty.out, "shop: no release yet\n");
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let bad = app.publish_commit(GOOD, "500", "page two");
    app.converge(4);
    app.publish_commit("exec python3 web.py $1 # three", "200", "page three");
    app.converge(0);
    assert_eq!(release_states(&app), ["active", "good", "bad"]);
    let list = releases(&app);
    assert!(list[0]["size"]["own"].as_u64().unwrap() > 1000, "{list:?}");
    assert_eq!(list[2]["sha"], bad.as_str());
    assert!(list[2]["why"].as_str().unwrap().contains("answered 500"));
    let text = app.sandbox.run(&["releases"]).out;
    let head: Vec<&str> = text.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(&head[..4], ["APP", "RELEASE", "STATE", "SHA"]);
    assert!(
        text.contains(&format!("shop: {} is quarantined", &bad[..7])),
        "{text}"
    );
    let other = app.sandbox.run(&["releases", "--app", "shpo"]);
    assert_eq!(other.code, 64, "{other}");
    assert!(other.err.contains("did you mean `shop`?"), "{other}");
}

#[test]
fn release_history_shows_every_stage_and_the_failure_log_tail() {
    let steps = "      steps: [{name: gems, run: \"seq 1 100\"}, {name: flaky, run: 'cat page; seq 1 100; exit $(cat status)'}]\n";
    let app = App::new(&ROLE.replace("      hooks:\n", &format!("{steps}      hooks:\n")));
    app.publish_commit(GOOD, "3", "page one");
    app.converge(1);
    let name = release_names(&app).remove(0);
    let ran = app.sandbox.run(&["history", "--release", &name]);
    assert_eq!(ran.code, 0, "{ran}");
    let lines: Vec<&str> = ran.out.lines().map(str::trim).collect();
    let at = |start: &str| lines.iter().position(|line| line.starts_with(start));
    let (gems, flaky) = (at("build gems").unwrap(), at("build flaky").unwrap());
    assert_eq!(&lines[gems + 1..flaky], ["| 98", "| 99", "| 100"], "{ran}");
    assert_eq!(
        lines[flaky + 1..]
            .iter()
            .filter(|l| l.starts_with("| "))
            .count(),
        20
    );
    assert!(lines[flaky].contains("failed"), "{ran}");
    assert!(at("fetch").is_some() && at("link").is_some(), "{ran}");
    let json = app
        .sandbox
        .run(&["history", "--release", &name, "--json"])
        .json();
    assert_eq!(
        (&json["app"], &json["version"]),
        (&"shop".into(), &1.into())
    );
    let stages = json["stages"].as_array().unwrap();
    let last = stages.last().unwrap();
    assert_eq!(
        (&last["step"], &last["ended"]),
        (&"flaky".into(), &"failed".into())
    );
    assert_eq!(last["output"][19], "100");
    let unknown = app
        .sandbox
        .run(&["history", "--release", &name[..name.len() - 1]]);
    assert_eq!(unknown.code, 64, "{unknown}");
    assert!(
        unknown.err.contains(&format!("did you mean `{name}`?")),
        "{unknown}"
    );
}

/// Makes a private build and returns the name of the release.
fn build_private(app: &App, args: &[&str]) -> String {
    let ran = app
        .sandbox
        .run(&[&["releases", "build", "shop"], args].concat());
    assert_eq!(ran.code, 0, "{ran}");
    let path = ran.out.strip_suffix('\n').unwrap();
    assert!(!path.contains('\n'), "more than the path: {ran}");
    assert!(path.starts_with("@ROOT@/srv/shop/releases/"), "{ran}");
    path.rsplit('/').next().unwrap().to_owned()
}

#[test]
fn private_build_takes_any_commit_and_is_never_activated() {
    let app = App::new(ROLE);
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let first = app.current();
    app.git(&["checkout", "-q", "-b", "try/this"]);
    let tried = app.publish_commit(GOOD, "200", "page two");
    app.git(&["checkout", "-q", "main"]);
    let name = build_private(&app, &["--ref", "try/this"]);
    assert!(name.ends_with(&tried[..7]), "{name}");
    let page = app.sandbox.read(&format!("/srv/shop/releases/{name}/page"));
    assert_eq!((page.as_str(), app.current()), ("page two", first.clone()));
    assert_eq!(release_states(&app), ["private", "active"]);
    assert_eq!(releases(&app)[0]["ref"], "try/this");
    // A second build returns the same release, by its sha as well.
    assert_eq!(
        build_private(&app, &["--sha", &tried, "--keep-days", "9"]),
        name
    );
    // When its sha is wanted, the deployment does not use the private release: a user may have changed it.
    app.sandbox
        .write(&format!("/srv/shop/releases/{name}/page"), "page of mine");
    app.converge(0);
    assert_ne!(app.current(), format!("releases/{name}"));
    assert_eq!(app.running(), tried);
    assert_eq!(app.sandbox.read("/srv/shop/current/page"), "page two");
    assert_eq!(release_states(&app), ["active", "private", "good"]);
    for (args, expected) in [
        (["--ref", "try/thsi"], "did you mean `try/this`?"),
        (["--ref", &tried], "say `--sha"),
        (["--ref", "refs/../x"], "there is no branch and no tag"),
        (["--sha", "main"], "--ref"),
        (["--sha", &"4f".repeat(20)], "is on no branch and no tag"),
    ] {
        let ran = app
            .sandbox
            .run(&[&["releases", "build", "shop"], &args[..]].concat());
        assert!([1, 64].contains(&ran.code), "{ran}");
        assert!(ran.err.contains(expected), "{ran}");
        assert_eq!(ran.out, "");
    }
    assert_eq!(release_states(&app).len(), 3);
}

#[test]
fn failed_private_build_resumes_where_it_stopped() {
    let steps = "      steps: [{name: one, run: 'echo x >> $SHARED_PATH/one'}, {name: two, run: 'test -e $SHARED_PATH/ready'}]\n";
    let app = App::new(&ROLE.replace("      hooks:\n", &format!("{steps}      hooks:\n")));
    let sha = app.publish_commit(GOOD, "200", "page one");
    let failed = app
        .sandbox
        .run(&["releases", "build", "shop", "--sha", &sha]);
    assert_eq!(failed.code, 1, "{failed}");
    assert!(failed.err.contains("step `two`"), "{failed}");
    assert_eq!(release_states(&app), ["failed"]);
    app.sandbox.write("/srv/shop/shared/ready", "");
    let name = build_private(&app, &["--ref", "main"]);
    assert_eq!(release_names(&app), [name]);
    assert_eq!(app.sandbox.read("/srv/shop/shared/one"), "x\n");
}

#[test]
fn clean_removes_unneeded_releases_and_keeps_those_in_use() {
    let app = App::new(ROLE);
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    for page in ["bad one", "bad two"] {
        app.publish_commit(GOOD, "500", page);
        app.converge(4);
    }
    app.publish_commit(GOOD, "200", "page two");
    app.converge(0);
    let private = build_private(&app, &["--ref", "main"]);
    let clean = |args: &[&str]| {
        let ran = app.sandbox.run(&[&["releases", "clean"], args].concat());
        assert_eq!(ran.code, 0, "{ran}");
        ran.out
    };
    let before = release_names(&app);
    let bad = release_states(&app)
        .iter()
        .position(|state| state == "bad")
        .unwrap();
    let bad = before[bad].clone();
    assert!(clean(&[]).contains("nothing to remove"));
    let dry = clean(&["--all-failed", "--dry-run"]);
    assert!(
        dry.contains(&format!("{bad} (bad, ")) && dry.contains("would be free"),
        "{dry}"
    );
    assert_eq!(release_names(&app), before);
    // A process runs in it.
    let folder = app.sandbox.at(&format!("/srv/shop/releases/{bad}"));
    let mut sleep = std::process::Command::new("sleep")
        .arg("60")
        .current_dir(&folder)
        .spawn()
        .unwrap();
    let kept = clean(&["--all-failed"]);
    assert!(kept.contains("kept, a process runs in it"), "{kept}");
    assert!(folder.is_dir());
    sleep.kill().unwrap();
    sleep.wait().unwrap();
    let json = app
        .sandbox
        .run(&["releases", "clean", "--all-failed", "--json"])
        .json();
    assert_eq!(json["apps"][0]["removed"][0]["release"], bad.as_str());
    assert!(json["freed"].as_u64().unwrap() > 0);
    assert!(!folder.exists());
    assert_eq!(release_states(&app), ["private", "active", "good"]);
    // It has expired.
    let record = app.sandbox.read("/var/lib/trueup/releases/shop.json");
    let mut record: Value = serde_json::from_str(&record).unwrap();
    for entry in record["releases"].as_array_mut().unwrap() {
        if entry["name"] == private.as_str() {
            entry["private_until"] = "2020-01-01T00:00:00Z".into();
        }
    }
    app.sandbox
        .write("/var/lib/trueup/releases/shop.json", &record.to_string());
    assert!(clean(&[]).contains(&private));
    assert_eq!(release_states(&app), ["active", "good"]);
}

/// Writes a file that the next [`App::publish_commit`] commits.
fn commit_file(app: &App, path: &str, text: &str) {
    let path = app.repo.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn run(app: &App, args: &[&str], code: i32) -> crate::sandbox::Ran {
    let mut command = app.sandbox.command(args);
    command.env("SUDO_USER", "ana");
    let ran = app.sandbox.run_command(command);
    assert_eq!(ran.code, code, "{args:?}: {ran}");
    ran
}

#[test]
fn rollback_restarts_passes_the_gate_and_pins_until_the_manifest_changes() {
    let app = App::new(ROLE);
    let one = app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let first = app.current();
    commit_file(&app, "db/migrate/1_more.rb", "more");
    commit_file(&app, "db/seeds.rb", "x");
    let two = app.publish_commit(GOOD, "200", "page two");
    app.converge(0);
    let second = app.current();
    let back = run(&app, &["rollback", "shop", "--reason", "orders fail"], 0);
    assert_eq!((app.current(), app.running()), (first.clone(), one.clone()));
    assert!(back.out.contains("is proven"), "{back}");
    assert!(
        back.out.contains("by ana") && back.out.contains("orders fail"),
        "{back}"
    );
    // One answer: what is so now, for how long, and what the other hosts do.
    let name = first.rsplit('/').next().unwrap();
    let now = format!("shop serves {name} on this host, pinned by ana: orders fail\n");
    assert!(back.out.contains(&now), "{back}");
    let fleet = format!(
        "other hosts go on to follow the manifest, to {}; to take all of them there: `trueup publish production shop={one}`\n",
        &two[..7]
    );
    assert!(back.out.ends_with(&fleet), "{back}");
    assert!(!back.out.contains("1 waiting"), "{back}");
    let warned = "\n  removed db/migrate/1_more.rb\n";
    assert!(back.err.ends_with(warned), "{back}");
    // The timer's pass keeps the pin, and every command reports it.
    for args in [&["status"][..], &["plan"], &["converge"], &["status"]] {
        let ran = run(&app, args, 3);
        assert!(
            ran.out.contains("by ana") && ran.out.contains("orders fail"),
            "{ran}"
        );
    }
    assert_eq!(app.running(), one);
    app.sandbox.pass_writes_nothing(&[], 3);
    let list = app.sandbox.run(&["releases"]).out;
    assert!(
        list.contains("active, pinned") && list.contains("orders fail"),
        "{list}"
    );
    // A second rollback has no target: the only other release is the wanted one.
    let again = run(&app, &["rollback", "shop"], 64);
    assert!(again.err.contains("no earlier good release"), "{again}");
    let over = run(&app, &["rollback", "shop", "--unpin"], 0);
    assert!(over.out.contains("ended: pinned"), "{over}");
    assert!(
        over.out.ends_with("and follows the manifest again\n"),
        "{over}"
    );
    assert_eq!((app.current(), app.running()), (second, two.clone()));
    // The end of the pin is announced once.
    app.converge(0);
    app.sandbox.assert_converged(&[]);
    // A manifest that wants another sha ends the pin for good.
    run(&app, &["rollback", "shop"], 0);
    let three = app.publish_commit(GOOD, "200", "page three");
    app.converge(0);
    assert_eq!(app.running(), three);
    app.sandbox.assert_converged(&[]);
    app.publish(&two);
    app.converge(0);
    assert_eq!(app.running(), two, "the old pin came back");
}

#[test]
fn pin_ends_when_the_manifest_wants_its_sha_and_never_returns() {
    let app = App::new(ROLE);
    let one = app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let two = app.publish_commit(GOOD, "200", "page two");
    app.converge(0);
    run(&app, &["rollback", "shop"], 0);
    app.publish(&one);
    let ended = app.converge(0);
    assert!(ended.out.contains("pin"), "{ended}");
    assert!(!ended.out.contains("restart"), "{ended}");
    app.sandbox.assert_converged(&[]);
    app.publish(&two);
    app.converge(0);
    assert_eq!(app.running(), two);
}

#[test]
fn rollback_to_an_invalid_release_is_refused_and_changes_nothing() {
    let app = App::new(ROLE);
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    app.publish_commit(GOOD, "500", "page bad");
    app.converge(4);
    app.publish_commit(GOOD, "200", "page two");
    app.converge(0);
    let (bad, active) = (release_names(&app).remove(2), app.current());
    let name = active.strip_prefix("releases/").unwrap();
    let before = crate::tree::fingerprints(&app.sandbox.root, &["/run"]);
    let near = format!("{name}0");
    for (args, code, expected) in [
        (
            &["rollback", "shop", "--to", "nothing"][..],
            64,
            "there are 20",
        ),
        (&["rollback", "shop", "--to", &near], 64, "did you mean"),
        (&["rollback", "shpo"], 64, "did you mean `shop`?"),
        (&["rollback", "shop", "--to", &bad], 64, "is bad and cannot"),
        (
            &["releases", "activate", "shop", &bad],
            64,
            "is bad and cannot",
        ),
        (&["rollback", "shop", "--reason", "a\nb"], 64, "one line"),
        (
            &["rollback", "shop", "--unpin", "--to", name],
            64,
            "cannot be used",
        ),
    ] {
        let ran = run(&app, args, code);
        assert!(ran.err.contains(expected), "{ran}");
    }
    let touched = crate::tree::changed_paths(
        &before,
        &crate::tree::fingerprints(&app.sandbox.root, &["/run"]),
    );
    assert!(touched.is_empty(), "{touched:?}");
    // The wanted release is active: there is nothing to pin.
    let same = run(&app, &["rollback", "shop", "--to", name], 0);
    assert!(same.out.contains("it needs no pin"), "{same}");
    app.sandbox.assert_converged(&[]);
    // A complete release of a quarantined sha.
    let sha = releases(&app)[2]["sha"].as_str().unwrap().to_owned();
    let private = build_private(&app, &["--sha", &sha]);
    let barred = run(&app, &["releases", "activate", "shop", &private], 4);
    assert!(
        barred.err.contains("is quarantined on this host"),
        "{barred}"
    );
    // An app on hold does not change.
    app.sandbox.manifest(format!(
        "production: {{shop: {{sha: {}, hold: {{reason: moving, by: eva}}}}}}\n",
        app.running()
    ));
    let held = run(&app, &["rollback", "shop"], 64);
    assert!(held.err.contains("held by eva: moving"), "{held}");
    assert!(held.err.contains("`--force`"), "{held}");
    assert_eq!(app.current(), active);
    // With --force it is rolled back, and pinned.
    run(&app, &["rollback", "shop", "--force"], 0);
    assert_ne!(app.current(), active);
    let back = app.current();
    app.converge(3);
    assert_eq!(app.current(), back);
    // Neither an invalid manifest nor an unreachable store prevents it.
    let short = |link: &'_ str| link.rsplit('/').next().unwrap().to_owned();
    app.sandbox.manifest("production: [\n");
    run(
        &app,
        &["rollback", "shop", "--to", &short(&active), "--force"],
        0,
    );
    assert_eq!(app.current(), active);
    std::fs::rename(&app.sandbox.store, app.sandbox.sibling("gone")).unwrap();
    run(
        &app,
        &["rollback", "shop", "--to", &short(&back), "--force"],
        0,
    );
    assert_eq!(app.current(), back);
}

#[test]
fn activated_private_release_is_rolled_back_when_its_gate_fails() {
    let app = App::new(ROLE);
    let one = app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let first = app.current();
    let two = app.publish_commit(GOOD, "200", "page two");
    let bad = app.publish_commit(GOOD, "500", "page bad");
    app.publish(&one);
    let (good, failing) = (
        build_private(&app, &["--sha", &two]),
        build_private(&app, &["--sha", &bad]),
    );
    let failed = run(&app, &["releases", "activate", "shop", &failing], 4);
    assert!(failed.out.contains("rolls back to"), "{failed}");
    assert!(failed.out.contains("nothing is pinned"), "{failed}");
    assert_eq!((app.current(), app.running()), (first, one));
    app.sandbox.assert_converged(&[]);
    let json = run(&app, &["releases", "activate", "shop", &good, "--json"], 0).json();
    assert_eq!(json["release"], good.as_str());
    assert_eq!(
        (&json["pin"]["by"], &json["outcome"]),
        (&"ana".into(), &"converged".into())
    );
    assert_eq!(app.running(), two);
    assert_eq!(release_states(&app)[0], "active");
    // It is active already: nothing is restarted.
    let again = run(&app, &["releases", "activate", "shop", &good], 0);
    assert!(!again.out.contains("restart"), "{again}");
}

#[test]
fn quarantine_ends_only_when_lifted_with_a_reason() {
    let app = App::new(ROLE);
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    // It needs a file that is still missing.
    let needs = "test -e ../../shared/ready || exit 1; exec python3 web.py $1";
    let two = app.publish_commit(needs, "200", "page two");
    app.converge(4);
    run(&app, &["converge", "--force"], 4);
    run(&app, &["converge", "--lift-quarantine", " "], 64);
    let early = run(&app, &["converge", "--lift-quarantine", "it will work"], 4);
    assert!(early.out.contains("lifted the quarantine"), "{early}");
    app.converge(4);
    app.sandbox.write("/srv/shop/shared/ready", "");
    let reason = "the file is there: deployed as release 20200101000000";
    run(&app, &["converge", "--lift-quarantine", reason], 0);
    assert_eq!(app.running(), two);
    let log = app.sandbox.read("/srv/shop/revisions.log");
    assert!(
        log.contains(&format!("lifted the quarantine of {two}")),
        "{log}"
    );
    assert!(log.contains(&format!("for ana: {reason}")), "{log}");
    let passes = app.sandbox.run(&["history", "--json"]).json();
    let warning = passes["passes"][0]["warnings"][0].as_str().unwrap();
    assert!(
        warning.starts_with("shop: lifted") && warning.contains("for ana"),
        "{warning}"
    );
    app.sandbox.assert_converged(&[]);
    let none = run(&app, &["converge", "--lift-quarantine", "x"], 0);
    assert!(none.out.contains("no wanted sha is quarantined"), "{none}");
}

/// An app without a service, with an environment.
const STILL: &str = r#"
resources:
  - directory: {path: /srv/shop, parents: true}
  - release: {id: code, app: shop, repo: "@REPO@", deploy_to: /srv/shop, env: {RAILS_ENV: production, OWN: "a b"}}
"#;

/// `trueup exec shop` with these arguments: what follows `--` is the command's own.
fn exec(app: &App, args: &[&str]) -> std::process::Command {
    let mut command = app.sandbox.command(&[]);
    command.args(["exec", "shop"]).args(args);
    command
}

#[test]
fn exec_runs_in_the_release_environment_and_returns_its_exit_code() {
    let app = App::new(STILL);
    let exec = |args: &[&str]| app.sandbox.run_command(exec(&app, args));
    let none = exec(&["--", "true"]);
    assert_eq!(none.code, 64, "{none}");
    assert!(none.err.contains("no release of shop is active"), "{none}");
    let one = app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let first = release_names(&app).remove(0);
    let two = app.publish_commit(GOOD, "200", "page two");
    app.converge(0);
    assert_eq!(exec(&["--", "cat", "page"]).out, "page two");
    assert_eq!(
        exec(&["--release", &first, "--", "cat", "page"]).out,
        "page one"
    );
    let vars = "echo $REVISION $PREVIOUS_REVISION $RAILS_ENV $OWN $APP $ENVIRONMENT $STAGE ${TRUEUP_SHARE:-clean}; pwd; exit 42";
    let ran = exec(&["--", "sh", "-c", vars]);
    assert_eq!(ran.code, 42, "{ran}");
    let here = std::fs::read_link(app.sandbox.at("/srv/shop/current")).unwrap();
    let expected = format!(
        "{two} {one} production a b shop production exec clean\n@ROOT@/srv/shop/{}\n",
        here.display()
    );
    assert_eq!((ran.out, ran.err), (expected, String::new()));
    for (args, code, expected) in [
        (
            &["--", "no-such-program"][..],
            1,
            "cannot run `no-such-program`",
        ),
        (
            &["--release", "nothing", "--", "true"],
            64,
            "has no release `nothing`",
        ),
        (&[], 64, "<CMD>"),
    ] {
        let ran = exec(args);
        assert_eq!(ran.code, code, "{ran}");
        assert!(ran.err.contains(expected), "{ran}");
    }
}

#[test]
fn exec_child_gets_stdin_and_signals() {
    use std::io::{BufRead, BufReader, Write};

    use std::process::Stdio;

    let app = App::new(STILL);
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let mut command = exec(&app, &["--", "sh", "-c"]);
    command.arg("read line; echo \"got $line\"; exec sleep 60");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"a word\n").unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "got a word\n");
    // It does not block a pass.
    app.converge(0);
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(15));
}

/// An app with a release, and `trueup exec` in it at a terminal.
fn exec_at_terminal(app: &App, line: &str) -> crate::terminal::Terminal {
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let mut command = exec(app, &["--", "sh", "-c", line]);
    command.env("TERM", "xterm-256color");
    crate::terminal::Terminal::start(command, None, None)
}

#[test]
fn exec_gives_its_command_a_pty_that_follows_the_callers_terminal() {
    let app = App::new(STILL);
    let line = "test -t 0 && test -t 1 && test -t 2 && ps -o stat= -p $$; echo $TERM; stty size; read line; echo \"got $line\"; \
                trap 'stty size' WINCH; while :; do sleep 0.1; done";
    let mut terminal = exec_at_terminal(&app, line);
    terminal.wait_for_text("+");
    terminal.wait_for_text("xterm-256color");
    terminal.type_keys("a word\r");
    terminal.wait_for_text("got a word");
    assert!(
        !terminal.is_cooked(),
        "keys mean something to both terminals"
    );
    terminal.resize(33, 77);
    terminal.wait_for_text("33 77");
    terminal.type_keys("\x03");
    let line = terminal.line();
    let (ended, screen) = terminal.end();
    assert_eq!(ended.signal(), Some(2), "{screen}");
    assert!(line.is_cooked(), "the terminal was not restored");
}

#[test]
fn exec_command_cannot_inject_input_into_the_callers_shell() {
    let app = App::new(STILL);
    let line = "python3 -c \"import fcntl, termios; fcntl.ioctl(open('/dev/tty'), termios.TIOCSTI, b'x')\" && echo typed; tty; exit 42";
    let terminal = exec_at_terminal(&app, line);
    let mut left = terminal.line();
    let (ended, screen) = terminal.end();
    assert_eq!(ended.code(), Some(42), "{screen}");
    assert!(
        screen.contains("typed") || screen.contains("Error"),
        "{screen}"
    );
    assert_eq!(left.unread(), 0, "it typed into the caller's terminal");
    assert!(
        !screen.contains(&left.name()),
        "it has the caller's: {screen}"
    );
}

#[test]
fn exec_passes_files_and_pipes_through_but_no_terminal() {
    let app = App::new(STILL);
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let input = app.sandbox.sibling("input");
    std::fs::write(&input, "from a file\n").unwrap();
    let output = app.sandbox.sibling("output");
    let tests = "cat; test -t 1 || echo no terminal; test -t 2 && echo aside >&2";
    let terminal = crate::terminal::Terminal::start(
        exec(&app, &["--", "sh", "-c", tests]),
        Some(std::fs::File::open(&input).unwrap().into()),
        Some(std::fs::File::create(&output).unwrap().into()),
    );
    let (ended, screen) = terminal.end();
    assert!(ended.success(), "{screen}");
    assert!(screen.contains("aside"), "{screen}");
    let text = std::fs::read_to_string(&output).unwrap();
    assert_eq!(text, "from a file\nno terminal\n");
    // In a pipeline the keyboard belongs to the reader: `| less`.
    let (mut reader, writer) = std::io::pipe().unwrap();
    let terminal = crate::terminal::Terminal::start(
        exec(&app, &["--", "sh", "-c", "wc -c; echo shown"]),
        None,
        Some(writer.into()),
    );
    let (ended, screen) = terminal.end();
    assert!(ended.success(), "{screen}");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
    assert_eq!(text, "0\nshown\n");
}

#[test]
fn exec_is_suspended_and_resumed_with_its_command() {
    use nix::sys::signal::{Signal, kill};
    let app = App::new(STILL);
    let line = "echo ready; read line; echo \"got $line\"";
    let mut terminal = exec_at_terminal(&app, line);
    terminal.wait_for_text("ready");
    let pid = nix::unistd::Pid::from_raw(terminal.child.id().cast_signed());
    let state = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(')').next().unwrap().trim().chars().next()
    };
    kill(pid, Signal::SIGTSTP).unwrap();
    assert!(crate::processes::wait_until(|| state() == Some('T')));
    assert!(terminal.is_cooked(), "the shell cannot be used");
    kill(pid, Signal::SIGCONT).unwrap();
    assert!(crate::processes::wait_until(|| !terminal.is_cooked()));
    terminal.type_keys("more\r");
    let (ended, screen) = terminal.end();
    assert!(ended.success() && screen.contains("got more"), "{screen}");
}

#[test]
fn exec_drops_privileges_to_the_app_user() {
    if !crate::privilege::is_root("a command of the app's user") {
        return;
    }
    let app = App::new(&STILL.replace("env: {", "user: app, env: {"));
    app.sandbox.write(
        "/etc/passwd",
        "root:x:0:0::/root:/bin/sh\napp:x:7001:7002::/home/app:/bin/sh\n",
    );
    app.sandbox
        .write("/etc/group", "app:x:7002:\nmore:x:7003:app\n");
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let ran = app.sandbox.run_command(exec(
        &app,
        &[
            "--",
            "sh",
            "-c",
            "id -u; id -g; id -G; echo $HOME $USER; cat /etc/shadow",
        ],
    ));
    assert_eq!(ran.code, 1, "{ran}");
    assert_eq!(ran.out, "7001\n7002\n7002 7003\n@ROOT@/home/app app\n");
}
