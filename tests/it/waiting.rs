//! A pass waits for another running pass, and respects a hold of the manifest.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::app::{App, GOOD};
use crate::gate::ROLE;
use crate::processes::wait_until;
use crate::sandbox::{Ran, Sandbox};

/// A host whose pass waits for `/srv/go`.
fn slow() -> Sandbox {
    Sandbox::of(
        "  - directory: {path: /srv}\n  - command: {id: slow, run: \"touch begun; until test -e go; do sleep 0.02; done; touch slow\", cwd: /srv, creates: /srv/slow, timeout: 60s}\n",
    )
}

fn spawn(host: &Sandbox, args: &[&str], by: &str) -> Child {
    let mut command = host.command(args);
    command.env("SUDO_USER", by);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// The first line of its standard error.
fn first_line(child: &mut Child) -> (String, BufReader<std::process::ChildStderr>) {
    let mut reader = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    (line, reader)
}

fn spawn_running_pass(host: &Sandbox, by: &str) -> Child {
    let pass = spawn(host, &["converge"], by);
    assert!(
        wait_until(|| host.at("/srv/begun").exists()),
        "it did not begin"
    );
    pass
}

#[test]
fn second_pass_names_the_lock_holder_waits_and_runs() {
    let host = slow();
    let first = spawn_running_pass(&host, "ana");
    let mut second = spawn(&host, &["converge"], "eva");
    let (line, mut rest) = first_line(&mut second);
    let expected = format!(
        "trueup: waiting for process {} (trueup converge by ana, since ",
        first.id()
    );
    assert!(line.starts_with(&expected), "{line}");
    assert!(line.contains("UTC): run slow (Ctrl-C cancels"), "{line}");
    host.write("/srv/go", "");
    let first = Ran::of(&first.wait_with_output().unwrap(), &host);
    assert_eq!(first.code, 0, "{first}");
    let mut more = String::new();
    std::io::Read::read_to_string(&mut rest, &mut more).unwrap();
    let second = Ran::of(&second.wait_with_output().unwrap(), &host);
    assert_eq!(second.code, 0, "{second}");
    assert!(
        more.contains("trueup: the lock is free; starting"),
        "{more}"
    );
    assert!(second.out.contains("converged: 0 changes"), "{second}");
}

#[test]
fn lock_wait_ends_at_its_timeout_or_a_signal_without_changes() {
    let host = slow();
    let first = spawn_running_pass(&host, "ana");
    let limited = spawn(&host, &["converge", "--wait", "1s"], "eva");
    let limited = Ran::of(&limited.wait_with_output().unwrap(), &host);
    assert_eq!(limited.code, 75, "{limited}");
    assert!(limited.err.contains("still running after 1 s"), "{limited}");
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut waiting = spawn(&host, &["converge", "--json"], "eva");
        let (line, mut rest) = first_line(&mut waiting);
        assert!(line.contains("waiting for process"), "{line}");
        kill(Pid::from_raw(waiting.id() as i32), signal).unwrap();
        let mut more = String::new();
        std::io::Read::read_to_string(&mut rest, &mut more).unwrap();
        let ended = Ran::of(&waiting.wait_with_output().unwrap(), &host);
        assert_eq!(ended.code, 75, "{signal}: {ended}");
        assert_eq!(more, "", "{signal}");
        let document = ended.json();
        assert_eq!(document["outcome"], "locked");
        let why = document["errors"][0]["message"].as_str().unwrap();
        assert!(why.starts_with("stopped waiting, nothing was done"));
    }
    host.write("/srv/go", "");
    assert_eq!(first.wait_with_output().unwrap().status.code(), Some(0));
    host.assert_converged(&[]);
}

#[test]
fn doctor_does_not_check_owed_duties_during_a_pass() {
    let host = slow();
    let pass = spawn_running_pass(&host, "ana");
    let doctor = host.run(&["doctor"]);
    assert_eq!(doctor.code, 0, "{doctor}");
    let expected = format!(
        "running now: process {} (trueup converge by ana, since ",
        pass.id()
    );
    assert!(doctor.out.contains(&expected), "{doctor}");
    assert!(doctor.out.contains("note  owed"), "{doctor}");
    host.write("/srv/go", "");
    assert_eq!(pass.wait_with_output().unwrap().status.code(), Some(0));
}

fn set_hold(app: &App, sha: &str, until: &str) {
    app.sandbox.manifest(format!(
        "production: {{shop: {{sha: {sha}, hold: {{reason: db maintenance, by: eva{until}}}}}}}\n"
    ));
}

#[test]
fn hold_lasts_until_it_expires_and_only_force_overrides_it() {
    let app = App::new(ROLE);
    let one = app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let two = app.publish_commit(GOOD, "200", "page two");
    set_hold(&app, &two, ", until: 2999-01-01T00:00:00Z");
    let waiting = app.converge(3);
    let words = "held by eva until 2999-01-01T00:00:00Z: db maintenance";
    assert!(waiting.out.contains(words), "{waiting}");
    assert_eq!(app.running(), one);
    let status = app.sandbox.run(&["status"]);
    assert_eq!(status.code, 3, "{status}");
    assert!(status.out.contains(words), "{status}");
    // An app on hold is no failure.
    let doctor = app.sandbox.run(&["doctor"]);
    assert_eq!(doctor.code, 0, "{doctor}");
    let why = format!("note  last pass                 outcome waiting: code: {words}");
    assert!(doctor.out.contains(&why), "{doctor}");
    // Announced once, and not again in every pass.
    app.sandbox.pass_writes_nothing(&[], 3);
    let forced = app.sandbox.run(&["converge", "--force"]);
    assert_eq!(forced.code, 0, "{forced}");
    let over = format!("shop is {words}: this pass goes over it");
    assert!(forced.out.contains(&over), "{forced}");
    assert_eq!(app.running(), two);
    // The hold is still active, with nothing to hold back.
    app.converge(0);
    let three = app.publish_commit(GOOD, "200", "page three");
    set_hold(&app, &three, "");
    let waiting = app.converge(3);
    assert!(waiting.out.contains("until it is lifted"), "{waiting}");
    set_hold(&app, &three, ", until: 2020-01-01T00:00:00Z");
    app.converge(0);
    assert_eq!(app.running(), three);
}

#[test]
fn rollback_over_a_hold_outlives_the_passes_that_follow() {
    let app = App::new(ROLE);
    let one = app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let two = app.publish_commit(GOOD, "200", "page two");
    app.converge(0);
    let three = app.publish_commit(GOOD, "200", "page three");
    set_hold(&app, &three, &format!(", sha: {two}"));
    app.converge(0);
    assert_eq!(app.sandbox.run(&["rollback", "shop"]).code, 64);
    let forced = app.sandbox.run(&["rollback", "shop", "--force"]);
    assert_eq!((forced.code, app.running()), (0, one.clone()), "{forced}");
    app.converge(3);
    assert_eq!(app.running(), one);
    // The end of the hold wants another sha, which ends the pin.
    set_hold(
        &app,
        &three,
        &format!(", sha: {two}, until: 2020-01-01T00:00:00Z"),
    );
    app.converge(0);
    assert_eq!(app.running(), three);
}

#[test]
fn rollback_is_published_and_held_and_a_later_sha_waits() {
    let app = App::new(ROLE);
    let one = app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let two = app.publish_commit(GOOD, "200", "page two");
    app.converge(0);
    let publish = |sha: &str, more: &[&str]| {
        let sha = format!("shop={sha}");
        let published = app
            .sandbox
            .run(&[&["publish", "production", &sha], more].concat());
        assert_eq!(published.code, 0, "{published}");
        published.to_string()
    };
    publish(&one, &["--hold", "two loses orders", "--by", "eva"]);
    app.converge(0);
    assert_eq!(app.running(), one);
    let three = app.commit_page("page three");
    let published = publish(&three, &[]);
    assert!(
        published.contains("no host deploys the new sha"),
        "{published}"
    );
    for command in ["converge", "status"] {
        let ran = app.sandbox.run(&[command]);
        let held = format!(
            "held at {} by eva until it is lifted: two loses orders",
            &one[..7]
        );
        assert!(ran.code == 0 && ran.to_string().contains(&held), "{ran}");
    }
    assert_eq!(app.running(), one);
    publish(&three, &["--lift-hold"]);
    app.converge(0);
    assert_eq!(app.running(), three);
    assert_ne!(three, two);
}

#[test]
fn stopped_pass_is_not_reported_as_failed() {
    let slow = "      steps: [{run: 'cd ../../shared; while [ -e hold ]; do touch begun; sleep .02; done'}]\n      hooks:";
    let app = App::new(&ROLE.replacen("      hooks:", slow, 1));
    let one = app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let host = &app.sandbox;
    let before = host.read("/run/trueup/last.json");
    host.write("/srv/shop/shared/hold", "");
    let two = app.publish_commit(GOOD, "200", "page two");
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let pass = spawn(host, &["converge"], "ana");
        let started = host.at("/srv/shop/shared/begun");
        assert!(wait_until(|| started.exists()), "it did not begin");
        kill(Pid::from_raw(pass.id().cast_signed()), signal).unwrap();
        let ended = Ran::of(&pass.wait_with_output().unwrap(), host);
        assert_eq!(ended.code, 143, "{signal}: {ended}");
        assert!(ended.out.contains("stopped"), "{ended}");
        assert_eq!(app.running(), one);
        assert_eq!(host.read("/run/trueup/last.json"), before);
        assert!(!host.at("/run/motd.d/trueup").exists());
        std::fs::remove_file(&started).unwrap();
    }
    std::fs::remove_file(host.at("/srv/shop/shared/hold")).unwrap();
    app.converge(0);
    assert_eq!(app.running(), two);
}

#[test]
fn pass_under_nohup_survives_the_end_of_its_terminal() {
    let host = slow();
    let plain = host.command(&["converge"]);
    let mut command = std::process::Command::new("nohup");
    command.arg(plain.get_program()).args(plain.get_args());
    for (key, value) in plain.get_envs() {
        command.env(key, value.unwrap_or_default());
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let pass = command.spawn().unwrap();
    let started = host.at("/srv/begun");
    assert!(wait_until(|| started.exists()), "it did not begin");
    kill(Pid::from_raw(pass.id().cast_signed()), Signal::SIGHUP).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(50));
    host.write("/srv/go", "");
    let ended = Ran::of(&pass.wait_with_output().unwrap(), &host);
    assert_eq!(ended.code, 0, "{ended}");
}
