//! A release that fails its preflight is never activated.

use crate::app::{App, GOOD};
use crate::gate::ROLE;

/// The role with a preflight of the app's own start command.
fn app() -> App {
    App::new(&role("timeout: 3s"))
}

fn role(fields: &str) -> String {
    let preflight = format!(
        "gate_timeout: 30s\n      preflight: {{command: 'exec sh run.sh $PORT', {fields}}}"
    );
    ROLE.replace("gate_timeout: 3s", &preflight)
}

#[test]
fn bad_release_is_never_activated_and_its_sha_quarantined() {
    let app = app();
    let good = app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let first = app.current();
    for (run, status, page, expected) in [
        (GOOD, "500", "page two", "answered 500 instead of 200"),
        (GOOD, "200", "oops", "answered without `page`"),
        (
            "echo no database; exit 1",
            "200",
            "page three",
            "exited with 1 before it answered",
        ),
        (
            "exec sleep 600",
            "200",
            "page four",
            "did not listen on port",
        ),
        (
            "sleep 1; kill -SEGV $$",
            "200",
            "page five",
            "was killed by SIGSEGV",
        ),
    ] {
        let sha = app.publish_commit(run, status, page);
        let plan = app.sandbox.run(&["plan"]);
        assert!(
            plan.out.contains("preflight: exec sh run.sh $PORT"),
            "{plan}"
        );
        let ran = app.converge(4);
        assert!(
            ran.out
                .contains("was not activated, because it failed its preflight"),
            "{ran}"
        );
        assert!(ran.out.contains(expected), "{ran}");
        assert!(ran.out.contains("--lift-quarantine"), "{ran}");
        assert!(
            !ran.out.contains("restarted") && !ran.out.contains("rolls back"),
            "{ran}"
        );
        assert_eq!(app.current(), first);
        assert_eq!(app.running(), good);
        let again = app.converge(4);
        assert!(again.out.contains("is quarantined on this host"), "{again}");
        let history = app.sandbox.run(&["releases"]);
        assert!(history.out.contains(&sha[..7]), "{history}");
        // The good one and the last bad one: a row of bad shas must not fill the disk.
        let releases = std::fs::read_dir(app.sandbox.at("/srv/shop/releases")).unwrap();
        let names = releases.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(names.filter(|name| !name.starts_with('.')).count(), 2);
    }
    let next = app.publish_commit(GOOD, "200", "page six");
    app.converge(0);
    assert_eq!(app.running(), next);
    app.sandbox.assert_converged(&[]);
}

#[test]
fn nothing_of_a_preflight_is_left_running() {
    let app = app();
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let child = "cat REVISION >> ../../shared/starts; sleep 987 & exec python3 web.py $1";
    for (status, code) in [("200", 0), ("500", 4)] {
        app.publish_commit(child, status, &format!("page {status}"));
        let ran = app.converge(code);
        let starts = app.sandbox.read("/srv/shop/shared/starts");
        let starts = starts.lines().count();
        let left = app.processes("sleep 987");
        // The service has a child of its own.
        assert_eq!(left, 1, "after {starts} starts: {ran}");
    }
}

#[test]
fn app_that_ignores_its_port_is_deployed_with_a_warning() {
    for run in [
        "exec python3 web.py @PORT@",
        "[ -z \"$TRUEUP_PREFLIGHT\" ] || exec sleep 600; exec python3 web.py $1",
    ] {
        let app = app();
        let run = app.with_port(run);
        app.publish_commit(&run, "200", "page one");
        app.converge(0);
        let sha = app.publish_commit(&run, "200", "page two");
        let ran = app.converge(0);
        assert!(ran.err.contains("ignores the port in `PORT`"), "{ran}");
        assert_eq!(app.running(), sha);
    }
}

#[test]
fn app_that_the_kernel_may_have_killed_is_neither_activated_nor_quarantined() {
    let app = app();
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let first = app.current();
    app.publish_commit("sleep 1; kill -KILL $$", "200", "page two");
    let ran = app.converge(1);
    assert!(ran.out.contains("was killed by SIGKILL"), "{ran}");
    assert!(ran.out.contains("short of memory"), "{ran}");
    assert_eq!(app.current(), first);
    assert!(!app.sandbox.at("/var/lib/trueup/orders/shop.json").exists());
}

#[test]
fn app_that_never_passed_a_preflight_here_is_left_to_the_gate() {
    let once = "[ -z \"$TRUEUP_PREFLIGHT\" ] || { echo already running; exit 1; }; ";
    let app = App::new(ROLE);
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    app.role(&role("timeout: 3s"));
    let sha = app.publish_commit(&format!("{once}{GOOD}"), "200", "page two");
    let ran = app.converge(0);
    assert!(
        ran.err.contains("exited with 1 before it answered"),
        "{ran}"
    );
    assert!(ran.err.contains("`preflight: null`"), "{ran}");
    assert_eq!(app.running(), sha);
    let first = app.current();
    app.publish_commit(&format!("{once}{GOOD}"), "500", "page three");
    let ran = app.converge(4);
    assert!(ran.out.contains("rolls back to"), "{ran}");
    assert_eq!(app.current(), first);
}

#[test]
fn first_release_and_a_host_in_trouble_quarantine_no_sha() {
    let app = app();
    let bad = app.publish_commit(GOOD, "500", "page one");
    let ran = app.converge(1);
    assert!(ran.out.contains("answered 500"), "{ran}");
    assert!(!ran.out.contains("running release"), "none runs: {ran}");
    let good = app.publish_commit(GOOD, "200", "page two");
    app.converge(0);
    // The running release fails as well, as without its database.
    std::fs::write(app.sandbox.at("/srv/shop/current/status"), "500").unwrap();
    app.publish(&bad);
    let ran = app.converge(1);
    assert!(
        ran.out
            .contains("the running release fails its health check too"),
        "{ran}"
    );
    assert_eq!(app.running(), good);
    assert!(!ran.out.contains("quarantine"), "{ran}");
}

#[test]
fn first_release_with_a_health_check_of_the_preflight_alone_quarantines_no_sha() {
    let role = ROLE
        .replace(
            "      health: {",
            "      preflight: {command: 'exec sh run.sh $PORT', timeout: 3s, health: {",
        )
        .replace("interval: 1s}", "interval: 1s}}");
    let app = App::new(&role);
    app.publish_commit("echo no database; exit 1", "200", "page one");
    for _ in 0..2 {
        let ran = app.converge(1);
        assert!(
            ran.out.contains("exited with 1 before it answered"),
            "{ran}"
        );
    }
    assert!(!app.sandbox.at("/var/lib/trueup/orders/shop.json").exists());
    app.publish_commit(GOOD, "200", "page two");
    app.converge(0);
}

#[test]
fn migration_waits_for_a_preflight_before_it() {
    let migrate = "\n      migrate: {run: 'echo ran >> ../../shared/migrated', when_changed: null}";
    let role = role("timeout: 3s, when: before_migrate");
    let app = App::new(&role.replace("\n      health:", &format!("{migrate}\n      health:")));
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    app.publish_commit("exit 1", "200", "page two");
    app.converge(4);
    assert_eq!(app.sandbox.read("/srv/shop/shared/migrated"), "ran\n");
}

#[test]
fn preflight_without_enough_memory_is_skipped_or_fails() {
    let app = App::new(&role("timeout: 3s, memory: 900000G"));
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    app.publish_commit(GOOD, "200", "page two");
    let ran = app.converge(0);
    assert!(ran.err.contains("no preflight: the host has"), "{ran}");
    app.role(&role("timeout: 3s, memory: 900000G, when_short: fail"));
    app.publish_commit(GOOD, "200", "page three");
    let ran = app.converge(1);
    assert!(ran.out.contains("MB of memory available"), "{ran}");
}
