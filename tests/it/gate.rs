//! A release that does not work in service is taken back, and its sha stays refused.

use crate::app::{App, GOOD};

pub const ROLE: &str = r#"
resources:
  - directory: {path: /srv/shop, parents: true}
  - release:
      id: code
      app: shop
      repo: "@REPO@"
      deploy_to: /srv/shop
      gate_timeout: 3s
      health: {url: "http://127.0.0.1:@PORT@/up", body: page, sha_header: X-Revision, times: 2, interval: 1s}
      hooks:
        after_rollback: [{run: 'echo back to $(readlink $CURRENT_PATH) >> $SHARED_PATH/hooks'}]
  - directory: {path: /etc/systemd/system, parents: true}
  - file:
      path: /etc/systemd/system/shop.service
      content: |
        [Service]
        WorkingDirectory={{ root }}/srv/shop/current
        ExecStart=/bin/sh run.sh @PORT@
        ExecReload=/bin/true
        TimeoutStopSec=2
  - service: {name: shop, running: true, serves: /srv/shop/current, restart_on: [code]}
"#;

#[test]
fn a_release_that_answers_wrongly_is_rolled_back_and_its_sha_stays_refused() {
    let app = App::new(ROLE);
    let one = app.want(GOOD, "200", "page one");
    app.converge(0);
    let first = app.current();
    for (status, page, said) in [
        (
            "500",
            "page two",
            "answered 500 instead of 200; it said: page two",
        ),
        ("200", "oops", "answered without `page`"),
    ] {
        let bad = app.want(GOOD, status, page);
        let ran = app.converge(4);
        assert!(ran.out.contains(said), "{ran}");
        assert_eq!((app.current(), app.running()), (first.clone(), one.clone()));
        let hooks = app.sandbox.read("/srv/shop/shared/hooks");
        assert!(hooks.ends_with(&format!("back to {first}\n")), "{hooks}");
        // It is refused from now on: nothing is built, switched or restarted for it.
        let again = app.converge(4);
        assert!(again.out.contains("is quarantined on this host"), "{again}");
        assert!(!again.out.contains("restarted"), "{again}");
        assert_eq!(app.sandbox.run(&["status"]).code, 4);
        let plan = app.sandbox.run(&["plan"]);
        assert!(
            plan.out.contains("quarantine") && plan.out.contains(&bad[..7]),
            "{plan}"
        );
    }
    let good = app.want(GOOD, "200", "page three");
    app.converge(0);
    assert_eq!(app.running(), good);
    app.sandbox.is_right(&[]);
}

#[test]
fn a_masked_service_waits_for_its_operator_and_no_sha_suffers_for_it() {
    // Where `systemctl mask` has room for its link.
    let app = App::new(&ROLE.replace("/etc/systemd/system", "/usr/local/lib/systemd/system"));
    app.want(GOOD, "200", "page one");
    app.converge(0);
    let starts = || app.sandbox.read("/srv/shop/shared/starts");
    let once = starts();
    let mask = app.sandbox.at("/etc/systemd/system/shop.service");
    std::fs::create_dir_all(mask.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/dev/null", &mask).unwrap();
    for told in [
        app.converge(3),
        app.sandbox.run(&["plan"]),
        app.sandbox.run(&["status"]),
    ] {
        assert!(told.out.contains("masked it on purpose"), "{told}");
    }
    let fleet = app.sandbox.run(&["fleet"]);
    assert_eq!(fleet.code, 3, "{fleet}");
    assert!(
        fleet.out.contains("waiting: ") && !fleet.out.contains("serving"),
        "{fleet}"
    );

    app.want(GOOD, "500", "page two");
    for _ in 0..2 {
        let ran = app.converge(3);
        assert!(!ran.out.contains("goes back"), "{ran}");
        assert_eq!(starts(), once, "it was restarted: {ran}");
    }
    std::fs::remove_file(&mask).unwrap();
    let ran = app.converge(4);
    assert!(ran.out.contains("answered 500"), "judged only now: {ran}");
    assert_eq!(app.sandbox.read("/srv/shop/current/page"), "page one");
}

#[test]
fn a_release_that_does_not_start_is_rolled_back() {
    let app = App::new(ROLE);
    let one = app.want(GOOD, "200", "page one");
    app.converge(0);
    for run in ["echo no database >&2; exit 1", "sleep 1; exit 1"] {
        app.want(run, "200", "page two");
        let ran = app.converge(4);
        assert_eq!(app.running(), one, "{ran}");
        assert!(ran.out.contains("goes back to"), "{ran}");
    }
    app.want(GOOD, "200", "page three");
    app.converge(0);
}

#[test]
fn a_service_that_goes_on_in_the_old_release_is_not_taken_for_the_new_one() {
    // It reloads, says that it has, and its processes are where they were.
    let app = App::new(
        &ROLE
            .replace("restart_on: [code]", "reload_on: [code]")
            .replace("sha_header: X-Revision, ", ""),
    );
    let one = app.want(GOOD, "200", "page one");
    app.converge(0);
    app.want(GOOD, "200", "page two");
    let ran = app.converge(4);
    assert!(ran.out.contains("of shop still runs in release"), "{ran}");
    assert_eq!(app.running(), one);
}

#[test]
fn a_first_release_that_is_bad_is_left_as_it_is_and_told() {
    let app = App::new(ROLE);
    app.want(GOOD, "500", "page one");
    let ran = app.converge(4);
    assert!(ran.out.contains("no good release to go back to"), "{ran}");
    let there = app.current();
    let again = app.converge(4);
    assert!(!again.out.contains("restarted"), "{again}");
    assert_eq!(app.current(), there);
    let good = app.want(GOOD, "200", "page two");
    app.converge(0);
    assert_eq!(app.running(), good);
}
