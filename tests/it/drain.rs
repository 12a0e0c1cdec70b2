//! An app is drained while its services are restarted, and never longer. That nginx and a balancer act on it is in the lab.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::app::{App, GOOD};
use crate::gate::ROLE;
use crate::processes::wait_until;
use crate::sandbox::Ran;

const FILE: &str = "/run/trueup/drain/shop.json";

/// A role that drains its app for so long, and has a reason of its own to restart its service.
fn role(drain: &str) -> String {
    let drain = format!("gate_timeout: 3s\n      drain: {drain}\n      port: @PORT@");
    let settings =
        "  - file: {id: settings, path: /srv/settings, content: \"one\\n\"}\n  - service:";
    let role = ROLE.replace("gate_timeout: 3s", &drain);
    role.replace("  - service:", settings)
        .replace("restart_on: [code]", "restart_on: [code, settings]")
}

const SHORT: &str = "{wait: 3s, notice: 1s}";
/// Longer than a test waits.
const LONG: &str = "{notice: 10m}";

fn served_app(drain: &str) -> App {
    let app = App::new(&role(drain));
    app.publish_commit(GOOD, "200", "page one");
    let began = Instant::now();
    app.converge(0);
    let limit = Duration::from_secs(60);
    assert!(
        began.elapsed() < limit,
        "the first release waits for nobody"
    );
    app
}

fn is_drained(app: &App) -> bool {
    app.sandbox.at(FILE).exists()
}

fn begin(app: &App, args: &[&str]) -> Child {
    let mut command = app.sandbox.command(args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    assert!(wait_until(|| is_drained(app)), "it is not drained");
    child
}

fn end(app: &App, child: Child) -> Ran {
    Ran::of(&child.wait_with_output().unwrap(), &app.sandbox)
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

fn starts(app: &App) -> usize {
    app.sandbox.read("/srv/shop/shared/starts").lines().count()
}

#[test]
fn deploy_drains_before_the_switch_and_ends_it_after_the_gate() {
    let app = served_app(SHORT);
    let first = app.current();
    app.publish_commit(GOOD, "200", "page two");
    let pass = begin(&app, &["converge"]);
    assert_eq!((app.current(), starts(&app)), (first.clone(), 1));
    let status = app.sandbox.run(&["status"]);
    assert!(status.out.contains("drained since "), "{status}");
    assert!(wait_until(|| app.current() != first), "it does not switch");
    assert!(is_drained(&app), "it is drained until it is proven");
    let ran = end(&app, pass);
    assert_eq!(
        (ran.code, is_drained(&app), starts(&app)),
        (0, false, 2),
        "{ran}"
    );
    assert!(!app.sandbox.run(&["status"]).out.contains("drained"));
    app.sandbox.assert_converged(&[]);
    // A bad one is drained once, and its predecessor comes back with the rollback.
    app.publish_commit(GOOD, "500", "page three");
    let ran = app.converge(4);
    assert_eq!(ran.err.matches("shop: drained;").count(), 1, "{ran}");
    assert_eq!((is_drained(&app), starts(&app)), (false, 4), "{ran}");
}

#[test]
fn stop_during_the_wait_ends_the_drain_and_switches_nothing() {
    let app = served_app(LONG);
    let first = app.current();
    let two = app.publish_commit(GOOD, "200", "page two");
    let pass = begin(&app, &["converge"]);
    signal(&pass, Signal::SIGTERM);
    let ran = end(&app, pass);
    assert_eq!((ran.code, is_drained(&app)), (143, false), "{ran}");
    assert_eq!((app.current(), starts(&app)), (first, 1));
    app.role(&role(SHORT));
    app.converge(0);
    assert_eq!(app.running(), two);
}

#[test]
fn next_pass_ends_the_drain_of_one_that_was_killed() {
    let app = served_app(LONG);
    app.publish_commit(GOOD, "200", "page two");
    let pass = begin(&app, &["converge"]);
    signal(&pass, Signal::SIGKILL);
    end(&app, pass);
    assert!(is_drained(&app));
    let doctor = app.sandbox.run(&["doctor"]);
    assert!(
        doctor.out.contains("a pass that was killed left it"),
        "{doctor}"
    );
    // Even a pass that fails at once.
    app.role("resources: [");
    app.converge(78);
    assert!(!is_drained(&app));
    app.role(&role(SHORT));
    app.converge(0);
    assert_eq!((is_drained(&app), starts(&app)), (false, 2));
}

#[test]
fn restart_without_a_deployment_is_drained_too() {
    let app = served_app(SHORT);
    app.role(&role(SHORT).replace("one\\n", "two\\n"));
    let pass = begin(&app, &["converge"]);
    assert_eq!(starts(&app), 1, "it waits before the restart");
    assert!(wait_until(|| starts(&app) == 2), "it is not restarted");
    let ran = end(&app, pass);
    assert_eq!((ran.code, is_drained(&app)), (0, false), "{ran}");
    app.sandbox.assert_converged(&[]);

    let restart = begin(&app, &["restart", "shop"]);
    assert_eq!(starts(&app), 2, "it waits before the restart");
    let ran = end(&app, restart);
    assert_eq!(
        (ran.code, is_drained(&app), starts(&app)),
        (0, false, 3),
        "{ran}"
    );

    app.role(&role(LONG).replace("one\\n", "two\\n"));
    let restart = begin(&app, &["restart", "shop"]);
    signal(&restart, Signal::SIGTERM);
    let ran = end(&app, restart);
    assert_eq!(
        (ran.code, is_drained(&app), starts(&app)),
        (143, false, 3),
        "{ran}"
    );
    app.role(&role(LONG).replace("one\\n", "three\\n"));
    let pass = begin(&app, &["converge"]);
    signal(&pass, Signal::SIGTERM);
    let ran = end(&app, pass);
    assert_eq!(
        (ran.code, is_drained(&app), starts(&app)),
        (143, false, 3),
        "{ran}"
    );
    // The restart stays owed.
    app.role(&role(SHORT).replace("one\\n", "three\\n"));
    app.converge(0);
    assert_eq!(starts(&app), 4);
}

#[test]
fn hosts_that_ask_nobody_are_drained_by_an_operator_only() {
    let app = served_app(SHORT);
    let sha = app.running();
    app.sandbox.manifest(format!(
        "production: {{shop: {{sha: {sha}, rollout: none}}}}\n"
    ));
    app.converge(0);
    // Other hosts may use this store. It does not answer, and the last good manifest is in force.
    let store = "s3://bucket\", endpoint: \"http://127.0.0.1:1\", region: \"eu-west-1";
    let settings = crate::sandbox::NODE.replace("dir:@STORE@", store);
    app.sandbox.write("/etc/trueup/node.yml", &settings);
    app.role(&role(SHORT).replace("one\\n", "two\\n"));
    let ran = app.converge(5);
    assert!(ran.err.contains("shop: not drained: "), "{ran}");
    assert_eq!(starts(&app), 2, "{ran}");
    let restart = begin(&app, &["restart", "shop"]);
    let ran = end(&app, restart);
    assert_eq!((ran.code, starts(&app)), (0, 3), "{ran}");
}

#[test]
fn app_that_cannot_be_drained_is_deployed_nevertheless() {
    let app = served_app(LONG);
    app.sandbox.write("/run/trueup/drain", "in the way");
    let two = app.publish_commit(GOOD, "200", "page two");
    let ran = app.converge(0);
    assert!(ran.err.contains("it cannot be drained"), "{ran}");
    assert_eq!(app.running(), two);
}

#[test]
fn disabled_drain_waits_for_nobody() {
    let app = served_app("{enabled: 'false', notice: 10m}");
    let two = app.publish_commit(GOOD, "200", "page two");
    app.converge(0);
    assert_eq!(app.running(), two);
}
