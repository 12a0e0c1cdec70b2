//! A release that becomes unhealthy shortly after it passed its gate is taken back.

use crate::app::{App, GOOD};
use crate::gate::ROLE;
use crate::processes::wait_until;

/// The gate passes at the first answer, and wrong answers end a trial soon.
fn app(fields: &str) -> App {
    let health = format!("gate_timeout: 5s\n      bake: {fields}");
    let role = ROLE
        .replace("gate_timeout: 3s", &health)
        .replace("times: 2, interval: 1s", "times: 1, fail_after: 1s");
    App::new(&role)
}

fn set_status(app: &App, status: &str) {
    std::fs::write(app.sandbox.at("/srv/shop/current/status"), status).unwrap();
}

#[test]
fn new_release_that_becomes_unhealthy_is_rolled_back_and_quarantined() {
    let app = app("5m");
    let good = app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let first = app.current();
    let bad = app.publish_commit(GOOD, "200", "page two");
    app.converge(0);
    assert_eq!(app.running(), bad);
    app.sandbox.assert_converged(&[]);
    set_status(&app, "500");
    let ran = app.converge(4);
    assert!(ran.out.contains("answered 500"), "{ran}");
    assert_eq!((app.current(), app.running()), (first, good));
    let again = app.converge(4);
    assert!(again.out.contains("is quarantined on this host"), "{again}");
    // It never counts as good: a rollback does not go there.
    let releases = app.sandbox.run(&["releases"]);
    let line = releases.out.lines().find(|line| line.contains(&bad[..7]));
    assert!(line.unwrap().contains("bad"), "{releases}");
}

#[test]
fn release_that_is_not_new_any_more_is_not_rolled_back() {
    let app = app("1s");
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let sha = app.publish_commit(GOOD, "200", "page two");
    app.converge(0);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    set_status(&app, "500");
    app.converge(0);
    assert_eq!(app.running(), sha);
}

#[test]
fn release_that_answered_wrongly_for_a_moment_passes_again() {
    let app = app("5m");
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    // Wrong once the folder has the file, then right again.
    let once = "(while [ ! -e fail ]; do sleep .1; done; printf 500 > status; touch failed; sleep 1; printf 200 > status) & ";
    let sha = app.publish_commit(&format!("{once}{GOOD}"), "200", "page two");
    app.converge(0);
    std::fs::write(app.sandbox.at("/srv/shop/current/fail"), "").unwrap();
    let failed = app.sandbox.at("/srv/shop/current/failed");
    assert!(wait_until(|| failed.exists()));
    let role = app.sandbox.read("/etc/trueup/roles/app.yml");
    app.sandbox
        .role(&role.replace("fail_after: 1s", "fail_after: 20s"));
    let ran = app.converge(0);
    assert!(ran.out.contains("is proven"), "{ran}");
    assert_eq!(app.running(), sha);
}

#[test]
fn new_release_stays_if_the_one_before_is_unhealthy_as_well() {
    let app = app("5m");
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let old = app.current();
    let sha = app.publish_commit(GOOD, "200", "page two");
    app.converge(0);
    let new = app.current();
    // What both need is down.
    set_status(&app, "500");
    let old_status = app.sandbox.at("/srv/shop").join(&old).join("status");
    std::fs::write(old_status, "500").unwrap();
    let ran = app.converge(1);
    assert!(ran.out.contains("goes forward to"), "{ran}");
    for _ in 0..2 {
        assert_eq!(app.current(), new);
        let ran = app.converge(1);
        assert!(ran.out.contains("the next pass asks it again"), "{ran}");
        assert!(!ran.out.contains("restarted"), "{ran}");
    }
    assert!(!app.sandbox.at("/var/lib/trueup/orders/shop.json").exists());
    set_status(&app, "200");
    app.converge(0);
    assert_eq!(app.running(), sha);
    app.sandbox.assert_converged(&[]);
}
