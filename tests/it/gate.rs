//! A release that fails its gate is rolled back, and its sha quarantined.

use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::app::{App, GOOD};
use crate::processes::wait_until;
use crate::sandbox::Ran;

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
fn unhealthy_release_is_rolled_back_and_its_sha_quarantined() {
    let app = App::new(ROLE);
    let one = app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let first = app.current();
    for (status, page, expected) in [
        (
            "500",
            "page two",
            "answered 500 instead of 200; it said: page two",
        ),
        ("200", "oops", "answered without `page`"),
    ] {
        let bad = app.publish_commit(GOOD, status, page);
        let ran = app.converge(4);
        assert!(ran.out.contains(expected), "{ran}");
        assert_eq!((app.current(), app.running()), (first.clone(), one.clone()));
        let hooks = app.sandbox.read("/srv/shop/shared/hooks");
        assert!(hooks.ends_with(&format!("back to {first}\n")), "{hooks}");
        // It is quarantined: nothing is built, activated or restarted for it.
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
    let good = app.publish_commit(GOOD, "200", "page three");
    app.converge(0);
    assert_eq!(app.running(), good);
    app.sandbox.assert_converged(&[]);
}

#[test]
fn app_that_answers_wrongly_ends_its_trial_before_the_deadline() {
    let app = App::new(&ROLE.replace("gate_timeout: 3s", "gate_timeout: 120s"));
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let first = app.current();
    for (status, page, expected) in [
        ("500", "page two", "answered 500"),
        ("200", "oops", "without `page`"),
    ] {
        app.publish_commit(GOOD, status, page);
        let ran = app.converge(4);
        assert!(ran.out.contains(expected), "{ran}");
        assert!(!ran.out.contains("gate not passed within"), "{ran}");
        assert_eq!(app.current(), first);
    }
}

#[test]
fn app_that_is_not_up_yet_has_until_the_deadline() {
    let app = App::new(&ROLE.replace("gate_timeout: 3s", "gate_timeout: 60s"));
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    // Longer than `fail_after`, like an app that loads its caches behind a running listener; and shorter, like one
    // whose first answers fail.
    for (status, seconds) in [("503", 7), ("500", 3)] {
        let boots = format!("(sleep {seconds}; printf 200 > status) & {GOOD}");
        let sha = app.publish_commit(&boots, status, &format!("page {status}"));
        let ran = app.converge(0);
        assert_eq!(app.running(), sha, "{ran}");
    }
}

#[test]
fn strict_app_is_checked_with_the_headers_of_its_visitors() {
    let headers = |lines: &str| {
        ROLE.replace(
            "gate_timeout: 3s",
            &format!("gate_timeout: 60s\n      health_headers: {{{lines}}}"),
        )
    };
    let app = App::new(&headers(""));
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    std::fs::write(app.repo.join("host"), "shop.example.com").unwrap();
    app.publish_commit(GOOD, "200", "page two");
    let ran = app.converge(4);
    assert!(ran.out.contains("answered 403 instead of 200"), "{ran}");
    assert!(ran.out.contains("`Host: shop.example.com`"), "{ran}");

    app.role(&headers("Host: shop.example.com, X-Unused: null"));
    app.publish_commit(GOOD, "200", "page three");
    let ran = app.converge(4);
    let moved = "answered 301 (to https://shop.example.com/up) instead of 200";
    assert!(ran.out.contains(moved), "{ran}");
    assert!(ran.out.contains("`X-Forwarded-Proto: https`"), "{ran}");

    app.role(&headers("Host: shop.example.com, X-Forwarded-Proto: https"));
    app.publish_commit(GOOD, "200", "page four");
    app.converge(0);
}

#[test]
fn masked_service_fails_the_pass_and_quarantines_no_sha() {
    // Leaves `/etc/systemd/system` free for the link of `systemctl mask`.
    let app = App::new(&ROLE.replace("/etc/systemd/system", "/usr/local/lib/systemd/system"));
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let starts = || app.sandbox.read("/srv/shop/shared/starts");
    let once = starts();
    let mask = app.sandbox.at("/etc/systemd/system/shop.service");
    std::fs::create_dir_all(mask.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/dev/null", &mask).unwrap();
    for ran in [
        app.converge(3),
        app.sandbox.run(&["plan"]),
        app.sandbox.run(&["status"]),
    ] {
        assert!(ran.out.contains("an operator masked it"), "{ran}");
    }
    let fleet = app.sandbox.run(&["fleet"]);
    assert_eq!(fleet.code, 3, "{fleet}");
    assert!(
        fleet.out.contains("waiting: ") && !fleet.out.contains("serving"),
        "{fleet}"
    );

    app.publish_commit(GOOD, "500", "page two");
    for _ in 0..2 {
        let ran = app.converge(3);
        assert!(!ran.out.contains("rolls back"), "{ran}");
        assert_eq!(starts(), once, "it was restarted: {ran}");
    }
    std::fs::remove_file(&mask).unwrap();
    let ran = app.converge(4);
    assert!(ran.out.contains("answered 500"), "only now: {ran}");
    assert_eq!(app.sandbox.read("/srv/shop/current/page"), "page one");
}

#[test]
fn rollback_leaves_masked_services_alone_and_blames_no_good_sha() {
    let unit = |name: &str, run: &str| {
        format!(
            "  - file:\n      path: /usr/local/lib/systemd/system/{name}.service\n      content: |\n        [Service]\n        WorkingDirectory={{{{ root }}}}/srv/shop/current\n        ExecStart={run}\n        TimeoutStopSec=2\n"
        )
    };
    let service = "  - service: {name: NAME, running: WANTED, restart_on: [code]}\n";
    let more = unit("worker", "/bin/sleep 987")
        + &service.replace("NAME", "worker").replace("WANTED", "true")
        + &unit("spare", "/bin/sleep 986")
        + &service.replace("NAME", "spare").replace("WANTED", "false");
    let role = ROLE.replace("/etc/systemd/system", "/usr/local/lib/systemd/system") + &more;
    let app = App::new(&role);
    let one = app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let mask = app.sandbox.at("/etc/systemd/system/worker.service");
    std::fs::create_dir_all(mask.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/dev/null", &mask).unwrap();

    app.publish_commit("exit 1", "200", "page two");
    let ran = app.converge(4);
    assert_eq!(app.running(), one, "{ran}");
    assert_eq!(app.processes("/bin/sleep 986"), 0, "{ran}");
    let overrides = app.sandbox.read("/var/lib/trueup/orders/shop.json");
    assert!(!overrides.contains(&one), "{overrides}");
    assert!(ran.out.contains("is back, but not proven yet"), "{ran}");

    std::fs::remove_file(&mask).unwrap();
    let ran = app.converge(4);
    assert!(
        ran.out.contains(&format!("release {one} is proven")) || ran.out.contains("is proven"),
        "{ran}"
    );
}

#[test]
fn rollback_records_the_duties_that_it_fulfilled_and_no_others() {
    let more = "  - command: {id: note, run: 'echo ran >> {{ root }}/srv/shop/shared/notes', when_changed: [code]}
  - file:
      path: /etc/systemd/system/side.service
      content: |
        [Service]
        WorkingDirectory={{ root }}/srv/shop/shared
        ExecStart=/bin/sleep 985
        ExecReload=/bin/sh -c 'test ! -e refuse'
        TimeoutStopSec=2
  - service: {name: side, running: true, reload_on: [code]}
";
    let hooks = "      hooks:\n        before_rollback: [{run: 'touch $SHARED_PATH/refuse'}]\n";
    let role = ROLE.replace("      hooks:\n", hooks) + more;
    let app = App::new(&role);
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    app.publish_commit(GOOD, "500", "page two");
    let ran = app.converge(1);
    assert!(ran.out.contains("reload of side failed"), "{ran}");
    let notes = app.sandbox.read("/srv/shop/shared/notes");
    assert_eq!(
        notes, "ran\nran\nran\n",
        "for each of both, and for the way back"
    );

    std::fs::remove_file(app.sandbox.at("/srv/shop/shared/refuse")).unwrap();
    let ran = app.sandbox.converge();
    assert!(ran.out.contains("reloaded service:side"), "{ran}");
    assert_eq!(app.sandbox.read("/srv/shop/shared/notes"), notes, "{ran}");
}

#[test]
fn release_that_does_not_start_is_rolled_back() {
    let app = App::new(ROLE);
    let one = app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    for run in ["echo no database >&2; exit 1", "sleep 1; exit 1"] {
        app.publish_commit(run, "200", "page two");
        let ran = app.converge(4);
        assert_eq!(app.running(), one, "{ran}");
        assert!(ran.out.contains("rolls back to"), "{ran}");
        let printed = ran.out.matches("\n  | no database\n").count();
        assert!(printed == 1 || !run.contains("database"), "{ran}");
        for line in ran
            .out
            .lines()
            .chain(app.sandbox.run(&["status"]).out.lines())
        {
            let ends_in_output = line.starts_with("rolled back code");
            assert!(ends_in_output || !line.ends_with("lines:"), "{line}");
        }
    }
    app.publish_commit(GOOD, "200", "page three");
    app.converge(0);
}

#[test]
fn stop_during_the_gate_of_the_restored_release_is_no_proof() {
    let app = App::new(ROLE);
    let one = app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    app.publish_commit(GOOD, "500", "page two");
    let mut pass = app.sandbox.command(&["converge"]);
    let pass = pass.stdout(Stdio::piped()).stderr(Stdio::piped());
    let pass = pass.spawn().unwrap();
    let is_rolled_back = || app.sandbox.at("/srv/shop/shared/hooks").exists();
    assert!(wait_until(is_rolled_back));
    kill(Pid::from_raw(pass.id() as i32), Signal::SIGTERM).unwrap();
    let ran = Ran::of(&pass.wait_with_output().unwrap(), &app.sandbox);
    assert!(ran.out.contains("is back, but not proven yet"), "{ran}");
    let next = app.converge(4);
    assert!(next.out.contains("is proven"), "{next}");
    assert_eq!(app.running(), one);
}

#[test]
fn service_still_running_the_old_release_fails_the_gate() {
    // The reload succeeds, but the processes still run in the old release.
    let app = App::new(
        &ROLE
            .replace("restart_on: [code]", "reload_on: [code]")
            .replace("sha_header: X-Revision, ", ""),
    );
    let one = app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    app.publish_commit(GOOD, "200", "page two");
    let ran = app.converge(4);
    assert!(ran.out.contains("of shop still runs in release"), "{ran}");
    assert_eq!(app.running(), one);
}

#[test]
fn unhealthy_first_release_stays_on_trial_and_its_sha_is_not_quarantined() {
    let app = App::new(ROLE);
    let sha = app.publish_commit(GOOD, "500", "page one");
    let ran = app.converge(1);
    assert!(ran.out.contains("no good release to go back to"), "{ran}");
    let first = app.current();
    let again = app.converge(1);
    assert!(!again.out.contains("restarted"), "{again}");
    assert_eq!(app.current(), first);
    assert!(!app.sandbox.at("/var/lib/trueup/orders/shop.json").exists());
    // The host was the cause, and is repaired.
    std::fs::write(app.sandbox.at("/srv/shop/current/status"), "200").unwrap();
    app.converge(0);
    assert_eq!(app.running(), sha);
    std::fs::write(app.sandbox.at("/srv/shop/current/status"), "500").unwrap();
    let good = app.publish_commit(GOOD, "200", "page two");
    app.converge(0);
    assert_eq!(app.running(), good);
}

/// Another user's server on the app's port, which answers like a healthy release. It binds the
/// port as soon as it is free.
struct ForeignServer(std::process::Child);

impl ForeignServer {
    fn wait_for_port(port: &str, sha: &str) -> ForeignServer {
        let server = format!(
            r#"
import http.server, socketserver, time
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("X-Revision", "{sha}")
        self.end_headers()
        self.wfile.write(b"page of a stranger")
    def log_message(self, *args):
        pass
while True:
    try:
        server = http.server.HTTPServer(("127.0.0.1", {port}), Page)
        break
    except OSError:
        print("waits", flush=True)
        time.sleep(0.001)
server.serve_forever()
"#
        );
        let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
        let mut command = std::process::Command::new("setpriv");
        command
            .args(nobody)
            .args(["/usr/bin/python3", "-c", &server]);
        command.stdout(std::process::Stdio::piped());
        let mut child = command.current_dir("/").spawn().unwrap();
        // Drains its output, or it would block on a full pipe.
        let stdout = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut lines = std::io::BufRead::lines(stdout);
        lines.next().unwrap().unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        ForeignServer(child)
    }
}

impl Drop for ForeignServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Keeps running without its port.
const PORTLESS: &str = "cat REVISION >> ../../shared/starts; python3 web.py $1; exec sleep 600";

fn port(app: &App) -> String {
    let unit = app.sandbox.read("/etc/systemd/system/shop.service");
    let after = unit.split("run.sh ").nth(1).unwrap();
    after.split_whitespace().next().unwrap().to_owned()
}

/// The health check requests the app's port; or another one, as through a proxy, and the role declares
/// the port of the app.
fn roles() -> [String; 2] {
    let health = "      health: {";
    let fields = format!("      port: @PORT@\n{health}listener: any, ");
    [ROLE.to_owned(), ROLE.replace(health, &fields)]
}

#[test]
fn foreign_listener_on_the_app_port_neither_proves_nor_quarantines() {
    if !crate::privilege::is_root("a server of another user") {
        return;
    }
    for role in roles() {
        let app = App::new(&role);
        app.publish_commit(GOOD, "200", "page one");
        app.converge(0);
        let port = port(&app);
        for (run, page) in [(PORTLESS, "page two"), (GOOD, "page three")] {
            let sha = app.publish_commit(run, "200", page);
            let foreign = ForeignServer::wait_for_port(&port, &sha);
            for _ in 0..2 {
                let ran = app.converge(1);
                let pid = foreign.0.id();
                let expected = format!(
                    "port {port} is held by the user nobody (process {pid} (`python3`)), not by shop"
                );
                assert!(ran.out.contains(&expected), "{ran}");
                assert!(!ran.out.contains("rolls back"), "{ran}");
                let status = app.sandbox.run(&["status"]);
                assert!(
                    status.code != 0 && status.out.contains(&expected),
                    "{status}"
                );
                let doctor = app.sandbox.run(&["doctor"]);
                assert!(
                    doctor.code != 0 && doctor.out.contains(&expected),
                    "{doctor}"
                );
            }
            drop(foreign);
            app.converge(0);
            let now = (app.running(), app.sandbox.read("/srv/shop/current/page"));
            assert_eq!(now, (sha, page.to_owned()));
            app.sandbox.assert_converged(&[]);
        }
    }
}

#[test]
fn listener_of_another_user_is_accepted_with_listener_any() {
    if !crate::privilege::is_root("a server of another user") {
        return;
    }
    let role = ROLE.replace("times: 2", "times: 2, listener: \"65534\"");
    let app = App::new(&role);
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let sha = app.publish_commit(PORTLESS, "200", "page two");
    let _foreign = ForeignServer::wait_for_port(&port(&app), &sha);
    app.converge(0);
}

#[test]
fn check_of_watched_files_that_fails_quarantines_no_sha() {
    let role = ROLE
        .replace(
            "\nresources:\n",
            "\nchecks: {certs: [sh, -c, '! grep -q broken {{ root }}/etc/certs/a.pem']}\n\nresources:\n  \
             - watch: {id: certs, paths: [/etc/certs/a.pem], check: certs}\n",
        )
        .replace("restart_on: [code]", "restart_on: [code, certs]");
    let app = App::new(&role);
    app.sandbox.write("/etc/certs/a.pem", "one");
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    app.sandbox.write("/etc/certs/a.pem", "broken");
    let sha = app.publish_commit(GOOD, "200", "page two");
    let ran = app.converge(1);
    assert!(ran.out.contains("the check `certs` failed"), "{ran}");
    assert!(ran.out.contains("has not passed its gate"), "{ran}");
    assert!(!app.sandbox.at("/var/lib/trueup/orders/shop.json").exists());
    app.sandbox.write("/etc/certs/a.pem", "two");
    app.converge(0);
    assert_eq!(app.running(), sha);
}

#[test]
fn restored_release_that_fails_as_well_is_asked_again_and_not_quarantined() {
    let role = ROLE.replace("body: page,", "body: page, fail_after: 1s,");
    let app = App::new(&role);
    app.publish_commit(GOOD, "200", "page zero");
    app.converge(0);
    let one = app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let first = app.current();
    // What both need is down.
    std::fs::write(app.sandbox.at("/srv/shop/current/status"), "500").unwrap();
    let bad = app.publish_commit(GOOD, "500", "page two");
    let ran = app.converge(1);
    assert!(ran.out.contains("is unhealthy too"), "{ran}");
    for _ in 0..2 {
        let ran = app.converge(1);
        assert!(ran.out.contains("the next pass asks it again"), "{ran}");
        assert!(!ran.out.contains("restarted"), "{ran}");
        assert_eq!(app.current(), first);
    }
    let orders = app.sandbox.read("/var/lib/trueup/orders/shop.json");
    assert!(orders.contains(&bad) && !orders.contains(&one), "{orders}");
    std::fs::write(app.sandbox.at("/srv/shop/current/status"), "200").unwrap();
    let ran = app.converge(4);
    assert!(ran.out.contains("is quarantined on this host"), "{ran}");
    assert_eq!(app.running(), one);
}

#[test]
fn first_release_on_trial_gets_the_settings_that_it_lacked() {
    let files = |word: &str| {
        let line = format!("      files: [{{path: settings, content: '{word}'}}]\n      hooks:");
        ROLE.replace("      hooks:", &line)
    };
    let app = App::new(&files("wrong"));
    let run = format!("grep -q right settings || printf 500 > status; {GOOD}");
    let sha = app.publish_commit(&run, "200", "page one");
    let ran = app.converge(1);
    assert!(ran.out.contains("answered 500"), "{ran}");
    std::fs::write(app.sandbox.at("/srv/shop/current/status"), "200").unwrap();
    app.role(&files("right"));
    let ran = app.converge(0);
    assert!(
        ran.out.contains("restarted") && ran.out.contains("is proven"),
        "{ran}"
    );
    assert_eq!(app.running(), sha);
    app.sandbox.assert_converged(&[]);
}
