//! Commands for the services of an app: their processes, their logs, a restart.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::app::{App, GOOD};
use crate::gate::ROLE;
use crate::processes::wait_until;
use crate::sandbox::Ran;

/// A second service of the app.
const WORKER: &str = r#"  - file:
      path: /etc/systemd/system/worker.service
      content: |
        [Service]
        WorkingDirectory={{ root }}/srv/shop/current
        ExecStart=/bin/sh worker.sh
        TimeoutStopSec=2
  - service: {name: worker, running: true, serves: /srv/shop/current, restart_on: [code]}
"#;

/// An app with two services, deployed once.
fn app_with_worker(worker: &str) -> App {
    let app = App::new(&format!("{ROLE}{WORKER}"));
    std::fs::write(app.repo.join("worker.sh"), worker).unwrap();
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    app
}

/// The document of `trueup ps shop`.
fn ps(app: &App, code: i32) -> Value {
    let ran = app.sandbox.run(&["ps", "shop", "--json"]);
    assert_eq!(ran.code, code, "{ran}");
    ran.json()
}

/// The id of the oldest process of the service at this place.
fn pid(document: &Value, service: usize) -> Pid {
    let pid = document["services"][service]["processes"][0]["pid"].as_i64();
    Pid::from_raw(i32::try_from(pid.unwrap()).unwrap())
}

#[test]
fn ps_shows_each_process_with_what_it_uses_and_its_release() {
    let app = app_with_worker("sleep 1000 & exec sleep 1001");
    let document = ps(&app, 0);
    let release = crate::operate::release_names(&app).remove(0);
    assert_eq!(document["release"], release.as_str());
    let [shop, worker] = document["services"].as_array().unwrap().as_slice() else {
        panic!("{document}");
    };
    assert_eq!(
        (&shop["id"], &shop["name"], &shop["state"]),
        (&"service:shop".into(), &"shop".into(), &"running".into())
    );
    let commands: Vec<&str> = worker["processes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|process| process["command"].as_str().unwrap())
        .collect();
    assert!(
        commands.contains(&"sleep 1000") && commands.contains(&"sleep 1001"),
        "{commands:?}"
    );
    let process = &shop["processes"][0];
    assert!(
        process["command"]
            .as_str()
            .unwrap()
            .starts_with("python3 web.py "),
        "{process}"
    );
    assert!(
        process["resident_bytes"].as_u64().unwrap() > 1 << 20,
        "{process}"
    );
    assert!(process["started"].as_str().unwrap() > "2", "{process}");
    assert_eq!(
        (&process["release"], &process["active"]),
        (&release.as_str().into(), &true.into())
    );
    let text = app.sandbox.run(&["ps", "shop"]).out;
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let heading = [
        "SERVICE", "PID", "USER", "MEMORY", "CPU", "UP", "RELEASE", "COMMAND",
    ];
    assert_eq!(lines[0], heading);
    assert_eq!(&lines[1][..2], ["shop", &pid(&document, 0).to_string()]);
    assert!(lines[1].contains(&release.as_str()), "{text}");
    assert!(
        text.contains("worker") && text.contains("  sleep 1000\n"),
        "{text}"
    );
}

#[test]
fn ps_fails_if_a_service_that_should_run_has_no_process() {
    let app = app_with_worker("exec sleep 1000");
    kill(pid(&ps(&app, 0), 1), Signal::SIGKILL).unwrap();
    assert!(wait_until(|| app.sandbox.run(&["ps", "shop"]).code == 1));
    let document = ps(&app, 1);
    let worker = &document["services"][1];
    assert_eq!(
        (&worker["state"], &worker["outcome"], &document["outcome"]),
        (&"failed".into(), &"failed".into(), &"failed".into())
    );
    let text = app.sandbox.run(&["ps", "shop"]).out;
    assert!(text.contains("(failed)"), "{text}");
    assert!(
        text.ends_with("worker: it should run, and has no process\n"),
        "{text}"
    );
    // A service that an operator masked waits for them.
    std::fs::remove_file(app.sandbox.at("/etc/systemd/system/worker.service")).unwrap();
    symlink(
        "/dev/null",
        app.sandbox.at("/etc/systemd/system/worker.service"),
    )
    .unwrap();
    let masked = app.sandbox.run(&["ps", "shop"]);
    assert_eq!(masked.code, 3, "{masked}");
    assert!(
        masked.out.contains("worker: an operator masked it"),
        "{masked}"
    );
}

#[test]
fn ps_marks_a_process_that_runs_from_another_release() {
    let app = app_with_worker("exec sleep 1000");
    let first = app.current();
    app.publish_commit(GOOD, "200", "page two");
    app.converge(0);
    let active = crate::operate::release_names(&app).remove(0);
    // By hand, without a restart.
    std::fs::remove_file(app.sandbox.at("/srv/shop/current")).unwrap();
    symlink(&first, app.sandbox.at("/srv/shop/current")).unwrap();
    let process = &ps(&app, 1)["services"][0]["processes"][0];
    assert_eq!(
        (&process["release"], &process["active"]),
        (&active.as_str().into(), &false.into())
    );
    let text = app.sandbox.run(&["ps", "shop"]).out;
    assert!(text.contains(&format!("{active} (not active)")), "{text}");
    assert!(text.contains("which is not active"), "{text}");
}

#[test]
fn commands_for_services_explain_an_unknown_app_and_one_without_services() {
    let app = App::new(&ROLE.replace(
        "running: true, serves: /srv/shop/current, restart_on: [code]",
        "running: false",
    ));
    let ran = app.sandbox.run(&["ps", "shpo"]);
    assert_eq!(ran.code, 64, "{ran}");
    assert!(ran.err.contains("did you mean `shop`?"), "{ran}");
    let ran = app.sandbox.run(&["ps", "shop"]);
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (0, "no service runs from shop\n"),
        "{ran}"
    );
    let nothing_yet = App::new(ROLE).sandbox.run(&["ps", "shop"]);
    assert_eq!(nothing_yet.code, 1, "{nothing_yet}");
    assert!(
        nothing_yet
            .out
            .contains("there is no service `shop` on this host"),
        "{nothing_yet}"
    );
}

/// What the worker prints; and it goes on for as long as there is a file `more`.
const TALKER: &str =
    "seq 1 200; while sleep 0.05; do test ! -e ../../shared/more || echo more; done";

fn logs(app: &App, args: &[&str]) -> Ran {
    let ran = app.sandbox.run(&[&["logs", "shop"], args].concat());
    assert_eq!(ran.code, 0, "{ran}");
    ran
}

/// Waits until the worker has printed its first lines.
fn talking_app() -> App {
    let app = app_with_worker(TALKER);
    assert!(wait_until(|| app
        .sandbox
        .read("/var/log/trueup/worker.log")
        .ends_with("200\n")));
    app
}

#[test]
fn logs_shows_the_last_lines_of_one_service_or_of_all() {
    let app = talking_app();
    let numbers = |from: usize| (from..=200).map(|n| format!("{n}\n")).collect::<String>();
    assert_eq!(logs(&app, &["--process", "worker"]).out, numbers(101));
    let two = logs(&app, &["--process", "service:worker", "-n", "2"]);
    assert_eq!(two.out, numbers(199));
    // The web server prints nothing.
    let all = logs(&app, &["-n", "1"]);
    assert_eq!(all.out, "worker | 200\n");
    let silent = logs(&app, &["--process", "shop"]);
    assert_eq!(
        (silent.out.as_str(), silent.err.as_str()),
        ("", "trueup: shop has printed nothing\n")
    );
    let documents = logs(&app, &["-n", "2", "-o", "json"]).out;
    let lines: Vec<Value> = documents
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2, "{documents}");
    assert_eq!(
        lines[1],
        serde_json::json!({"version": 1, "app": "shop", "service": "worker", "line": "200"})
    );
}

#[test]
fn logs_names_the_services_if_none_has_the_given_name() {
    let app = App::new(&format!("{ROLE}{WORKER}"));
    for (name, hint) in [
        ("wroker", "did you mean `worker`?"),
        ("x", "there are `shop`, `worker`"),
    ] {
        let ran = app.sandbox.run(&["logs", "shop", "--process", name]);
        assert_eq!(ran.code, 64, "{ran}");
        assert!(
            ran.err.contains(&format!("shop has no service `{name}`")),
            "{ran}"
        );
        assert!(ran.err.contains(hint), "{ran}");
    }
    let ran = app.sandbox.run(&["logs", "shpo"]);
    assert_eq!(ran.code, 64, "{ran}");
}

#[test]
fn followed_log_ends_with_a_signal_and_with_the_pipe() {
    let app = talking_app();
    let follow = |out: Stdio| {
        let mut command =
            app.sandbox
                .command(&["logs", "shop", "--process", "worker", "-f", "-n", "1"]);
        command.stdout(out).spawn().unwrap()
    };
    let mut child = follow(Stdio::piped());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert_eq!(next(), "200");
    app.sandbox.write("/srv/shop/shared/more", "");
    assert_eq!(next(), "more");
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    // The reader goes while the service prints, and while it does not.
    for prints in [true, false] {
        if !prints {
            std::fs::remove_file(app.sandbox.at("/srv/shop/shared/more")).unwrap();
        }
        let mut child = follow(Stdio::piped());
        let mut pipe = BufReader::new(child.stdout.take().unwrap());
        pipe.read_line(&mut String::new()).unwrap();
        drop(pipe);
        assert!(
            wait_until(|| child.try_wait().unwrap().is_some()),
            "{prints}"
        );
        assert_eq!(child.wait().unwrap().code(), Some(0), "{prints}");
    }
}

fn restart(app: &App, args: &[&str], code: i32) -> Ran {
    let ran = app.sandbox.run(&[&["restart", "shop"], args].concat());
    assert_eq!(ran.code, code, "{ran}");
    ran
}

/// How often the web server was started.
fn starts(app: &App) -> usize {
    app.sandbox.read("/srv/shop/shared/starts").lines().count()
}

#[test]
fn restart_restarts_the_services_once_and_no_pass_repeats_it() {
    let app = app_with_worker("exec sleep 1000");
    let before = ps(&app, 0);
    let ran = restart(&app, &[], 0);
    let release = crate::operate::release_names(&app).remove(0);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert!(
        lines[0].starts_with("restarted service:shop (because of a request of "),
        "{ran}"
    );
    assert!(
        lines[1].starts_with("restarted service:worker (because of a request of "),
        "{ran}"
    );
    assert_eq!(
        lines[2..],
        [format!("shop serves release {release}")],
        "{ran}"
    );
    let after = ps(&app, 0);
    for service in [0, 1] {
        assert_ne!(pid(&before, service), pid(&after, service));
    }
    assert_eq!(starts(&app), 2);
    app.sandbox.assert_converged(&[]);
    assert_eq!(
        (
            ps(&app, 0)["services"][0]["processes"][0]["pid"].clone(),
            starts(&app)
        ),
        (after["services"][0]["processes"][0]["pid"].clone(), 2)
    );
    let document = restart(&app, &["--process", "worker", "--json"], 0).json();
    assert_eq!(document["release"], release.as_str());
    assert_eq!(
        (&document["serves"], &document["on_trial"]),
        (&true.into(), &false.into())
    );
    let services = serde_json::json!([{"id": "service:worker", "result": "restarted", "why": null, "hint": null}]);
    assert_eq!(document["services"], services);
    let last = ps(&app, 0);
    assert_eq!(pid(&last, 0), pid(&after, 0));
    assert_ne!(pid(&last, 1), pid(&after, 1));
}

#[test]
fn restart_deploys_nothing_and_ignores_a_hold() {
    let app = app_with_worker("exec sleep 1000");
    let first = app.current();
    let second = app.publish_commit(GOOD, "200", "page two");
    restart(&app, &[], 0);
    assert_eq!((app.current(), starts(&app)), (first, 2));
    app.sandbox.manifest(format!(
        "production:\n  shop: {{sha: {second}, hold: {{reason: maintenance, by: ana}}}}\n"
    ));
    app.converge(3);
    restart(&app, &[], 0);
    app.publish(&second);
    app.converge(0);
    assert_eq!((app.running(), starts(&app)), (second, 4));
}

#[test]
fn restarted_app_that_does_not_serve_fails_without_a_rollback() {
    let app = app_with_worker("exec sleep 1000");
    app.publish_commit(GOOD, "200", "page two");
    app.converge(0);
    let active = app.current();
    app.sandbox
        .write(&format!("/srv/shop/{active}/status"), "500");
    let ran = restart(&app, &[], 1);
    assert!(ran.out.contains("shop does not serve: "), "{ran}");
    assert!(ran.out.contains("answered 500 instead of 200"), "{ran}");
    assert_eq!(app.current(), active);
    assert!(!app.sandbox.run(&["releases"]).out.contains("quarantined"));
    // A service that does not start.
    app.sandbox
        .write(&format!("/srv/shop/{active}/status"), "200");
    app.sandbox.write(
        &format!("/srv/shop/{active}/run.sh"),
        "echo no database; exit 1",
    );
    let ran = restart(&app, &["--process", "shop"], 1);
    assert!(
        ran.out
            .contains("failed service:shop: restart of shop failed"),
        "{ran}"
    );
    assert!(ran.out.contains("| no database"), "{ran}");
}

#[test]
fn restart_starts_what_should_run_and_leaves_alone_what_should_not() {
    let app = app_with_worker("exec sleep 1000");
    let unit = app.sandbox.at("/etc/systemd/system/worker.service");
    let before = ps(&app, 0);
    kill(pid(&before, 1), Signal::SIGKILL).unwrap();
    assert!(wait_until(|| app.sandbox.run(&["ps", "shop"]).code == 1));
    restart(&app, &[], 0);
    let started = ps(&app, 0);
    // By an operator.
    let text = std::fs::read_to_string(&unit).unwrap();
    std::fs::remove_file(&unit).unwrap();
    symlink("/dev/null", &unit).unwrap();
    let ran = restart(&app, &[], 3);
    assert!(
        ran.out
            .contains("waiting service:worker: an operator masked it"),
        "{ran}"
    );
    assert!(ran.out.contains("restarted service:shop"), "{ran}");
    let ran = restart(&app, &["--process", "worker"], 3);
    assert!(ran.out.ends_with("shop: nothing was restarted\n"), "{ran}");
    std::fs::remove_file(&unit).unwrap();
    std::fs::write(&unit, text).unwrap();
    assert_eq!(
        pid(&ps(&app, 0), 1),
        pid(&started, 1),
        "the masked one was restarted"
    );
    // By its role.
    app.role(&format!(
        "{ROLE}{}",
        WORKER.replace("running: true", "running: false")
    ));
    app.converge(0);
    let ran = restart(&app, &[], 0);
    assert!(
        ran.out
            .contains("skipped service:worker: its role says that it is stopped"),
        "{ran}"
    );
    assert_eq!(ps(&app, 0)["services"][1]["state"], "stopped");
}

#[test]
fn restart_leaves_a_trial_to_the_next_pass() {
    let app = App::new(ROLE);
    let none = restart(&app, &[], 64);
    assert!(
        none.err.contains("no release of shop is active yet"),
        "{none}"
    );
    app.publish_commit(GOOD, "500", "page one");
    app.converge(1);
    let ran = restart(&app, &[], 1);
    assert!(
        ran.out
            .contains("is on trial: the next pass decides whether it stays"),
        "{ran}"
    );
    let active = app.current();
    app.sandbox
        .write(&format!("/srv/shop/{active}/status"), "200");
    let ran = restart(&app, &["--json"], 0).json();
    assert_eq!(
        (&ran["serves"], &ran["on_trial"]),
        (&true.into(), &true.into())
    );
    app.converge(0);
    assert_eq!(restart(&app, &["--json"], 0).json()["on_trial"], false);
}

#[test]
fn restart_waits_for_a_running_pass() {
    let app = app_with_worker("exec sleep 1000");
    let slow = "  - command: {id: slow, run: \"touch begun; until test -e go; do sleep 0.02; done; touch slow\", cwd: /srv, creates: /srv/slow, timeout: 60s}\n";
    app.role(&format!("{ROLE}{WORKER}{slow}"));
    let mut pass = app.sandbox.command(&["converge"]);
    let mut pass = pass.stdout(Stdio::null()).spawn().unwrap();
    assert!(wait_until(|| app.sandbox.at("/srv/begun").exists()));
    let ran = restart(&app, &["--no-wait"], 75);
    assert!(ran.err.contains("trueup converge"), "{ran}");
    assert_eq!(starts(&app), 1);
    let mut waiting = app.sandbox.command(&["restart", "shop"]);
    let waiting = waiting
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    app.sandbox.write("/srv/go", "");
    assert_eq!(pass.wait().unwrap().code(), Some(0));
    let ran = Ran::of(&waiting.wait_with_output().unwrap(), &app.sandbox);
    assert_eq!((ran.code, starts(&app)), (0, 2), "{ran}");
}

#[test]
fn unprivileged_ps_shows_processes_and_logs_names_the_remedy() {
    if !crate::privilege::is_root("files of root") {
        return;
    }
    let app = app_with_worker("exec sleep 1000");
    let unprivileged = |args: &[&str]| {
        let mut command = app.sandbox.command(args);
        crate::privilege::as_nobody(&mut command);
        app.sandbox.run_command(command)
    };
    let ran = unprivileged(&["ps", "shop"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.out.contains("  sleep 1000\n"), "{ran}");
    let ran = unprivileged(&["logs", "shop"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{ran}");
    assert!(
        ran.err.contains("hint: only root can read it: use `sudo`"),
        "{ran}"
    );
}
