//! What a pass waits for: another one that is running, a hold of the manifest.

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

fn begin(host: &Sandbox, args: &[&str], by: &str) -> Child {
    let mut command = host.command(args);
    command.env("SUDO_USER", by);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// The first line that it says on standard error.
fn first_word(child: &mut Child) -> (String, BufReader<std::process::ChildStderr>) {
    let mut reader = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    (line, reader)
}

fn running(host: &Sandbox, by: &str) -> Child {
    let pass = begin(host, &["converge"], by);
    assert!(
        wait_until(|| host.at("/srv/begun").exists()),
        "it did not begin"
    );
    pass
}

#[test]
fn second_pass_names_the_lock_holder_waits_and_runs() {
    let host = slow();
    let first = running(&host, "ana");
    let mut second = begin(&host, &["converge"], "eva");
    let (word, mut rest) = first_word(&mut second);
    let who = format!(
        "trueup: waiting for process {} (trueup converge by ana, since ",
        first.id()
    );
    assert!(word.starts_with(&who), "{word}");
    assert!(word.contains("UTC): run slow (Ctrl-C cancels"), "{word}");
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
    let first = running(&host, "ana");
    let limited = begin(&host, &["converge", "--wait", "1s"], "eva");
    let limited = Ran::of(&limited.wait_with_output().unwrap(), &host);
    assert_eq!(limited.code, 75, "{limited}");
    assert!(limited.err.contains("still running after 1 s"), "{limited}");
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut waiting = begin(&host, &["converge", "--json"], "eva");
        let (word, mut rest) = first_word(&mut waiting);
        assert!(word.contains("waiting for process"), "{word}");
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
    host.is_right(&[]);
}

#[test]
fn doctor_does_not_check_owed_duties_during_a_pass() {
    let host = slow();
    let pass = running(&host, "ana");
    let doctor = host.run(&["doctor"]);
    assert_eq!(doctor.code, 0, "{doctor}");
    let who = format!(
        "running now: process {} (trueup converge by ana, since ",
        pass.id()
    );
    assert!(doctor.out.contains(&who), "{doctor}");
    assert!(doctor.out.contains("note  owed"), "{doctor}");
    host.write("/srv/go", "");
    assert_eq!(pass.wait_with_output().unwrap().status.code(), Some(0));
}

fn held(app: &App, sha: &str, until: &str) {
    app.sandbox.manifest(format!(
        "production: {{shop: {{sha: {sha}, hold: {{reason: db maintenance, by: eva{until}}}}}}}\n"
    ));
}

#[test]
fn hold_lasts_until_it_expires_and_only_force_overrides_it() {
    let app = App::new(ROLE);
    let one = app.want(GOOD, "200", "page one");
    app.converge(0);
    let two = app.want(GOOD, "200", "page two");
    held(&app, &two, ", until: 2999-01-01T00:00:00Z");
    let waiting = app.converge(3);
    let words = "held by eva until 2999-01-01T00:00:00Z: db maintenance";
    assert!(waiting.out.contains(words), "{waiting}");
    assert_eq!(app.running(), one);
    let status = app.sandbox.run(&["status"]);
    assert_eq!(status.code, 3, "{status}");
    assert!(status.out.contains(words), "{status}");
    // Which is as it should be.
    let doctor = app.sandbox.run(&["doctor"]);
    assert_eq!(doctor.code, 0, "{doctor}");
    let why = format!("note  last pass                 ended with waiting: code: {words}");
    assert!(doctor.out.contains(&why), "{doctor}");
    // Told once, and not again in every pass.
    app.sandbox.pass_writes_nothing(&[], 3);
    let forced = app.sandbox.run(&["converge", "--force"]);
    assert_eq!(forced.code, 0, "{forced}");
    let over = format!("shop is {words}: this pass goes over it");
    assert!(forced.out.contains(&over), "{forced}");
    assert_eq!(app.running(), two);
    // The hold lasts, and has nothing to keep back any more.
    app.converge(0);
    let three = app.want(GOOD, "200", "page three");
    held(&app, &three, "");
    let waiting = app.converge(3);
    assert!(waiting.out.contains("until it is lifted"), "{waiting}");
    held(&app, &three, ", until: 2020-01-01T00:00:00Z");
    app.converge(0);
    assert_eq!(app.running(), three);
}

#[test]
fn stopped_pass_is_not_reported_as_failed() {
    let slow = "      steps: [{run: 'cd ../../shared; while [ -e hold ]; do touch begun; sleep .02; done'}]\n      hooks:";
    let app = App::new(&ROLE.replacen("      hooks:", slow, 1));
    let one = app.want(GOOD, "200", "page one");
    app.converge(0);
    let host = &app.sandbox;
    let before = host.read("/run/trueup/last.json");
    host.write("/srv/shop/shared/hold", "");
    let two = app.want(GOOD, "200", "page two");
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let pass = begin(host, &["converge"], "ana");
        let begun = host.at("/srv/shop/shared/begun");
        assert!(wait_until(|| begun.exists()), "it did not begin");
        kill(Pid::from_raw(pass.id().cast_signed()), signal).unwrap();
        let ended = Ran::of(&pass.wait_with_output().unwrap(), host);
        assert_eq!(ended.code, 143, "{signal}: {ended}");
        assert!(ended.out.contains("stopped"), "{ended}");
        assert_eq!(app.running(), one);
        assert_eq!(host.read("/run/trueup/last.json"), before);
        assert!(!host.at("/run/motd.d/trueup").exists());
        std::fs::remove_file(&begun).unwrap();
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
    let begun = host.at("/srv/begun");
    assert!(wait_until(|| begun.exists()), "it did not begin");
    kill(Pid::from_raw(pass.id().cast_signed()), Signal::SIGHUP).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(50));
    host.write("/srv/go", "");
    let ended = Ran::of(&pass.wait_with_output().unwrap(), &host);
    assert_eq!(ended.code, 0, "{ended}");
}
