//! An operator puts an app behind a maintenance page, and passes keep it there. That nginx shows the page is in the lab.

use std::process::Stdio;

use crate::app::{App, GOOD};
use crate::gate::ROLE;
use crate::processes::wait_until;
use crate::sandbox::Ran;

const FLAG: &str = "/var/lib/trueup/maintenance/shop.json";

/// A site that looks for the flag, as the shipped one does.
const SITE: &str = "  - file: {path: /etc/site.conf, content: 'if (-f {{ root }}/var/lib/trueup/maintenance/shop.json) {'}\n";

fn served_app() -> App {
    let app = App::new(&format!("{ROLE}{SITE}"));
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    app
}

fn maintenance(app: &App, args: &[&str], code: i32) -> Ran {
    let mut command = app.sandbox.command(&[&["maintenance"], args].concat());
    command.env("SUDO_USER", "ana");
    let ran = app.sandbox.run_command(command);
    assert_eq!(ran.code, code, "{args:?}: {ran}");
    ran
}

#[test]
fn every_pass_keeps_and_reports_maintenance_until_it_is_ended() {
    let app = served_app();
    let none = maintenance(&app, &[], 0);
    assert_eq!(none.out, "shop: not in maintenance\n");
    let on = maintenance(&app, &["shop", "on", "--reason", "new disks"], 0);
    let starts = on.out.starts_with("shop is in maintenance by ana since ");
    assert!(starts && on.out.contains(": new disks\n"), "{on}");
    assert!(on.out.contains("/up, still reaches it"), "{on}");
    let line = "in maintenance by ana since";
    for args in [&["converge"][..], &["converge"], &["plan"], &["status"]] {
        let ran = app.sandbox.run(args);
        assert_eq!(ran.code, 3, "{args:?}: {ran}");
        assert!(ran.out.contains(line), "{args:?}: {ran}");
    }
    assert!(app.sandbox.at(FLAG).exists());
    let kept = app.sandbox.run(&["history"]).out;
    assert_eq!(kept.matches("maintenance of shop").count(), 1, "{kept}");
    assert!(app.sandbox.read("/run/motd.d/trueup").contains(line));
    let fleet = app.sandbox.run(&["fleet"]);
    assert_eq!(fleet.code, 3, "{fleet}");
    assert!(fleet.out.contains(line), "{fleet}");
    let status = app.sandbox.run(&["status", "--json"]).json();
    let row = &status["apps"][0];
    assert_eq!(
        (&row["state"], &status["outcome"]),
        (&"waiting".into(), &"waiting".into())
    );
    // A deploy goes on, and its health check asks the app itself.
    let two = app.publish_commit(GOOD, "200", "page two");
    app.converge(3);
    assert_eq!(app.running(), two);
    let off = maintenance(&app, &["shop", "off"], 0);
    assert_eq!(off.out, "shop is no longer in maintenance\n");
    assert!(!app.sandbox.at(FLAG).exists());
    app.converge(0);
    let log = app.sandbox.read("/srv/shop/revisions.log");
    assert!(log.contains("trueup in maintenance by ana since"), "{log}");
    assert!(log.contains("trueup maintenance ended by ana"), "{log}");
    let again = maintenance(&app, &["shop", "off"], 0);
    assert_eq!(again.out, "shop was not in maintenance\n");
}

#[test]
fn maintenance_with_a_time_ends_in_the_pass_after_it() {
    let app = served_app();
    maintenance(&app, &["shop", "on", "--for", "1h"], 0);
    app.converge(3);
    let since = |ran: &Ran| ran.json()["apps"][0]["maintenance"]["since"].clone();
    let before = since(&maintenance(&app, &["shop", "--json"], 0));
    let shorter = maintenance(&app, &["shop", "on", "--for", "1s", "--drain", "--json"], 0);
    assert_eq!(since(&shorter), before, "it began then");
    assert_eq!(shorter.json()["apps"][0]["maintenance"]["drain"], true);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    // Also if the pass fails, because of a mistake in a role.
    let role = app.sandbox.read("/etc/trueup/roles/app.yml");
    app.sandbox.role("resources: 5\n");
    let ran = app.converge(78);
    assert!(ran.err.contains("shop: its maintenance is over"), "{ran}");
    assert!(!app.sandbox.at(FLAG).exists());
    app.sandbox.role(&role);
    app.converge(0);
}

#[test]
fn mistakes_in_roles_do_not_keep_an_app_in_maintenance() {
    let app = served_app();
    maintenance(&app, &["shop", "on"], 0);
    app.sandbox.role("resources: 5\n");
    maintenance(&app, &["shpo", "off"], 78);
    maintenance(&app, &["shop", "off"], 0);
    assert!(!app.sandbox.at(FLAG).exists());
}

#[test]
fn app_whose_visitors_would_see_no_page_is_refused() {
    let app = App::new(ROLE);
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let refused = maintenance(&app, &["shop", "on"], 64);
    assert!(
        refused.err.contains("no web server of this host can show"),
        "{refused}"
    );
    assert!(refused.err.contains("nginx: false"), "{refused}");
    let unknown = maintenance(&app, &["shpo", "on"], 64);
    assert!(unknown.err.contains("did you mean `shop`?"), "{unknown}");
    maintenance(&app, &["shpo", "off"], 64);
    app.sandbox.write("/var/lib/trueup/x.json", "kept");
    maintenance(&app, &["../x", "off"], 64);
    assert_eq!(app.sandbox.read("/var/lib/trueup/x.json"), "kept");
    for args in [
        &["shop", "off", "--drain"][..],
        &["--for", "3m"],
        &["shop", "on", "--for", "0"],
    ] {
        maintenance(&app, args, 64);
    }
    assert!(!app.sandbox.at("/var/lib/trueup/maintenance").exists());
}

#[test]
fn maintenance_does_not_wait_for_a_running_pass() {
    let slow = "  - command: {id: slow, run: \"touch begun; until test -e go; do sleep 0.02; done; touch slow\", cwd: /srv, creates: /srv/slow, timeout: 60s}\n";
    let app = served_app();
    app.role(&format!("{ROLE}{SITE}{slow}"));
    let mut pass = app.sandbox.command(&["converge"]);
    let pass = pass
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(
        wait_until(|| app.sandbox.at("/srv/begun").exists()),
        "it did not begin"
    );
    maintenance(&app, &["shop", "on"], 0);
    assert!(app.sandbox.at(FLAG).exists());
    app.sandbox.write("/srv/go", "");
    let pass = Ran::of(&pass.wait_with_output().unwrap(), &app.sandbox);
    assert_eq!(pass.code, 3, "{pass}");
}

#[test]
fn file_that_cannot_be_read_is_reported_and_can_be_removed() {
    let app = served_app();
    app.sandbox.write(FLAG, "{");
    let ran = app.converge(3);
    assert!(
        ran.out.contains("shop is in maintenance, but /var/lib"),
        "{ran}"
    );
    maintenance(&app, &["shop", "off"], 0);
    app.converge(0);
}
