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
fn unhealthy_release_is_rolled_back_and_its_sha_quarantined() {
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
fn masked_service_fails_the_pass_and_quarantines_no_sha() {
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
        assert!(told.out.contains("an operator masked it"), "{told}");
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
        assert!(!ran.out.contains("rolls back"), "{ran}");
        assert_eq!(starts(), once, "it was restarted: {ran}");
    }
    std::fs::remove_file(&mask).unwrap();
    let ran = app.converge(4);
    assert!(ran.out.contains("answered 500"), "judged only now: {ran}");
    assert_eq!(app.sandbox.read("/srv/shop/current/page"), "page one");
}

#[test]
fn release_that_does_not_start_is_rolled_back() {
    let app = App::new(ROLE);
    let one = app.want(GOOD, "200", "page one");
    app.converge(0);
    for run in ["echo no database >&2; exit 1", "sleep 1; exit 1"] {
        app.want(run, "200", "page two");
        let ran = app.converge(4);
        assert_eq!(app.running(), one, "{ran}");
        assert!(ran.out.contains("rolls back to"), "{ran}");
    }
    app.want(GOOD, "200", "page three");
    app.converge(0);
}

#[test]
fn service_still_running_the_old_release_fails_the_gate() {
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
fn unhealthy_first_release_stays_active_and_fails_the_pass() {
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

/// Another user's server on the app's port, which says of itself what a good release would. It takes the
/// port as soon as it is free.
struct Stranger(std::process::Child);

impl Stranger {
    fn waits_for(port: &str, sha: &str) -> Stranger {
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
        // Its output is read to the end, or it would wait for us.
        let said = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut lines = std::io::BufRead::lines(said);
        lines.next().unwrap().unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        Stranger(child)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// It goes on without its port.
const PORTLESS: &str = "cat REVISION >> ../../shared/starts; python3 web.py $1; exec sleep 600";

fn port(app: &App) -> String {
    let unit = app.sandbox.read("/etc/systemd/system/shop.service");
    let after = unit.split("run.sh ").nth(1).unwrap();
    after.split_whitespace().next().unwrap().to_owned()
}

/// The health check asks on the app's port; or elsewhere, as through a proxy, and the role says which port
/// the app has.
fn roles() -> [String; 2] {
    let health = "      health: {";
    let said = format!("      port: @PORT@\n{health}listener: any, ");
    [ROLE.to_owned(), ROLE.replace(health, &said)]
}

#[test]
fn foreign_listener_on_the_app_port_neither_proves_nor_quarantines() {
    if !crate::privilege::is_root("a server of another user") {
        return;
    }
    for role in roles() {
        let app = App::new(&role);
        app.want(GOOD, "200", "page one");
        app.converge(0);
        let port = port(&app);
        for (run, page) in [(PORTLESS, "page two"), (GOOD, "page three")] {
            let sha = app.want(run, "200", page);
            let stranger = Stranger::waits_for(&port, &sha);
            for _ in 0..2 {
                let ran = app.converge(1);
                let pid = stranger.0.id();
                let said = format!(
                    "port {port} is held by the user nobody (process {pid} (`python3`)), not by shop"
                );
                assert!(ran.out.contains(&said), "{ran}");
                assert!(!ran.out.contains("rolls back"), "{ran}");
                let status = app.sandbox.run(&["status"]);
                assert!(status.code != 0 && status.out.contains(&said), "{status}");
                let doctor = app.sandbox.run(&["doctor"]);
                assert!(doctor.code != 0 && doctor.out.contains(&said), "{doctor}");
            }
            drop(stranger);
            app.converge(0);
            let now = (app.running(), app.sandbox.read("/srv/shop/current/page"));
            assert_eq!(now, (sha, page.to_owned()));
            app.sandbox.is_right(&[]);
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
    app.want(GOOD, "200", "page one");
    app.converge(0);
    let sha = app.want(PORTLESS, "200", "page two");
    let _stranger = Stranger::waits_for(&port(&app), &sha);
    app.converge(0);
}
