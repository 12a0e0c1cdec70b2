//! `trueup status`: what an operator reads first.

use std::process::Stdio;

use crate::app::{App, GOOD};
use crate::gate::ROLE;
use crate::sandbox::Sandbox;

fn json(app: &App, code: i32) -> serde_json::Value {
    let ran = app.sandbox.run(&["status", "--json"]);
    assert_eq!(ran.code, code, "{ran}");
    ran.json()
}

#[test]
fn status_reports_an_unhealthy_app_without_drift_on_disk() {
    let app = App::new(ROLE);
    let one = app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let good = json(&app, 0);
    let shop = &good["apps"][0];
    assert_eq!(shop["state"], "converged");
    assert_eq!(
        (&shop["actual"], &shop["wanted"]),
        (&one.as_str().into(), &one.as_str().into())
    );
    assert_eq!(shop["serving"]["processes"]["ok"], true);
    assert_eq!(shop["serving"]["health"]["ok"], true);
    assert_eq!(
        (&good["why"], &good["running"], &good["next_pass"]),
        (&().into(), &().into(), &().into())
    );
    let text = app.sandbox.run(&["status"]);
    assert!(text.out.contains("its health check passes"), "{text}");
    assert!(text.out.contains("not scheduled"), "{text}");
    // Breaks it in place: no resource manages the files of a release.
    app.sandbox.write("/srv/shop/current/status", "500");
    let bad = json(&app, 1);
    assert_eq!(bad["apps"][0]["state"], "failed");
    assert_eq!(bad["apps"][0]["serving"]["health"]["ok"], false);
    assert_eq!(bad["apps"][0]["serving"]["processes"]["ok"], true);
    let why = bad["why"].as_str().unwrap();
    assert!(
        why.starts_with("shop is not serving: the health check at"),
        "{why}"
    );
    assert!(why.contains("answered 500"), "{why}");
}

#[test]
fn status_shows_pin_and_quarantine_of_an_app() {
    let app = App::new(ROLE);
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let bad = app.publish_commit(GOOD, "500", "page two");
    app.converge(4);
    let status = json(&app, 4);
    let shop = &status["apps"][0];
    assert_eq!(shop["state"], "rolled-back");
    assert_eq!(shop["quarantine"][0]["sha"], bad.as_str());
    assert!(
        status["why"].as_str().unwrap().contains("answered 500"),
        "{status}"
    );
    app.publish_commit(GOOD, "200", "page three");
    app.converge(0);
    let ran = app
        .sandbox
        .run(&["rollback", "shop", "--reason", "orders fail", "--by", "ana"]);
    assert_eq!(ran.code, 0, "{ran}");
    app.converge(3);
    let status = json(&app, 3);
    let shop = &status["apps"][0];
    assert_eq!(
        (&shop["state"], &shop["pin"]["by"]),
        (&"waiting".into(), &"ana".into())
    );
    let why = status["why"].as_str().unwrap();
    assert!(
        why.contains("pinned to") && why.contains("orders fail"),
        "{why}"
    );
    assert_eq!(shop["serving"]["health"]["ok"], true);
    // What was quarantined stays so; its reason is no concern of a host that is well.
    let text = app.sandbox.run(&["status"]).out;
    assert!(
        text.contains(&format!("in quarantine here: {} (", &bad[..7])),
        "{text}"
    );
    assert!(!text.contains("answered 500"), "{text}");
    assert!(app.sandbox.read("/run/motd.d/trueup").contains("pinned to"));
    let ran = app.sandbox.run(&["rollback", "shop", "--unpin"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(!app.sandbox.at("/run/motd.d/trueup").exists());
    let status = json(&app, 0);
    assert!(!status.to_string().contains("pinned to page"), "{status}");
    assert_eq!(
        (&status["why"], &status["outcome"]),
        (&().into(), &"converged".into())
    );
}

#[test]
fn service_that_died_is_a_failure_before_the_next_pass() {
    let host = Sandbox::of(
        "  - directory: {path: /etc/systemd/system, parents: true}\n  - file: {path: /etc/systemd/system/balance.service, content: \"[Service]\\nExecStart=/bin/sleep 600\\n\"}\n  - service: {name: balance, running: true}\n",
    );
    assert_eq!(host.converge().code, 0);
    assert_eq!(host.run(&["status"]).code, 0);
    for process in crate::processes::of_sandbox(&host.root) {
        let _ = nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGKILL);
    }
    let is_down = || host.run(&["status"]).code == 1;
    assert!(crate::processes::wait_until(is_down));
    let status = host.run(&["status", "--json"]).json();
    let why = status["why"].as_str().unwrap();
    assert!(
        why.starts_with("service:balance is ") && why.ends_with(", and should run"),
        "{why}"
    );
    // To a plan it is a change.
    assert_eq!(host.run(&["plan"]).code, 2);
    assert_eq!(host.converge().code, 0);
    assert_eq!(host.run(&["status"]).code, 0);
}

#[test]
fn first_pass_is_shown_as_running_and_not_as_a_failure() {
    let host = Sandbox::of(
        "  - directory: {path: /srv}\n  - command: {id: slow, run: \"touch begun; until test -e go; do sleep 0.02; done; touch slow\", cwd: /srv, creates: /srv/slow, timeout: 60s}\n",
    );
    let settings = host.read("/etc/trueup/node.yml");
    host.write("/etc/trueup/node.yml", "# not yet\n");
    assert_eq!(host.run(&["converge"]).code, 78);
    host.write("/etc/trueup/node.yml", &settings);
    let mut command = host.command(&["converge"]);
    command.stdout(Stdio::null());
    let mut pass = command.spawn().unwrap();
    assert!(crate::processes::wait_until(|| host
        .at("/srv/begun")
        .exists()));
    let text = host.run(&["status"]);
    let status = host.run(&["status", "--json"]).json();
    host.write("/srv/go", "");
    assert!(pass.wait().unwrap().success());
    assert_eq!(text.code, 2, "{text}");
    assert!(
        text.out.contains("why: the first pass is running"),
        "{text}"
    );
    for stale in ["not configured yet", "store  "] {
        assert!(!text.out.contains(stale), "{text}");
    }
    assert!(status["stale"].is_null(), "{status}");
}

#[test]
fn status_reports_an_unreachable_store_and_a_running_pass() {
    let host = Sandbox::of(
        "  - directory: {path: /srv}\n  - command: {id: slow, run: \"touch begun; until test -e go; do sleep 0.02; done; touch slow\", cwd: /srv, creates: /srv/slow, timeout: 60s}\n",
    );
    let mut command = host.command(&["converge"]);
    command.env("SUDO_USER", "ana").stdout(Stdio::null());
    let mut pass = command.spawn().unwrap();
    let started = || host.at("/srv/begun").exists();
    assert!(crate::processes::wait_until(started));
    let ran = host.run(&["status"]);
    assert!(ran.out.contains("(trueup converge by ana, since "), "{ran}");
    let status = host.run(&["status", "--json"]).json();
    assert_eq!(status["running"]["doing"], "run slow");
    assert_eq!(status["running"]["pid"], pass.id());
    host.write("/srv/go", "");
    assert!(pass.wait().unwrap().success());
    let fresh = host.run(&["status", "--json"]).json();
    assert_eq!(
        (&fresh["running"], &fresh["stale"]),
        (&().into(), &().into())
    );
    let answered = fresh["last_pass"]["store_answered"].clone();
    std::fs::rename(&host.store, host.sibling("gone")).unwrap();
    assert_eq!(host.run(&["converge"]).code, 5);
    let stale = host.run(&["status", "--json"]);
    assert_eq!(stale.code, 5, "{stale}");
    assert_eq!(stale.json()["stale"]["since"], answered);
    let why = stale.json()["why"].as_str().unwrap().to_owned();
    assert!(why.starts_with("no manifest since "), "{why}");
    let text = host.run(&["status"]);
    assert!(
        text.out.contains("store") && text.out.contains("stale since"),
        "{text}"
    );
}

#[test]
fn status_says_that_hosts_take_a_sha_each_for_itself() {
    let app = App::new(ROLE);
    let sha = app.publish_commit(GOOD, "200", "page one");
    app.sandbox.manifest(format!(
        "production: {{shop: {{sha: {sha}, rollout: none}}}}\n"
    ));
    app.converge(0);
    assert_eq!(
        json(&app, 0)["apps"][0]["coordinated"],
        serde_json::Value::Null
    );
    // Only the last good manifest is read.
    let settings = crate::sandbox::NODE.replace("dir:@STORE@", "s3://bucket");
    app.sandbox.write("/etc/trueup/node.yml", &settings);
    assert_eq!(json(&app, 0)["apps"][0]["coordinated"], false);
    let text = app.sandbox.run(&["status"]);
    assert!(text.out.contains("rollout: none: each host"), "{text}");
}

#[test]
fn motd_shows_problems_only() {
    let host = Sandbox::of("  - file: {path: /srv/missing/a, content: x}\n");
    let motd = || host.read("/run/motd.d/trueup");
    assert_eq!(host.converge().code, 1);
    let text = motd();
    assert!(
        text.starts_with("trueup: failed: file:/srv/missing/a: "),
        "{text}"
    );
    let before = crate::tree::fingerprints(&host.root, &[]);
    assert_eq!(host.converge().code, 1);
    let touched = crate::tree::changed_paths(&before, &crate::tree::fingerprints(&host.root, &[]));
    assert!(
        !touched.iter().any(|path| path.contains("motd")),
        "{touched:?}"
    );
    // Read-only commands write no motd.
    host.role("resources:\n  - file: {path: /srv/a, content: [x]}\n");
    assert_eq!(host.run(&["plan"]).code, 78);
    assert_eq!(motd(), text);
    assert_eq!(host.converge().code, 78);
    assert!(
        motd().starts_with(
            "trueup: bad input: @ROOT@/etc/trueup/roles/app.yml:2:"
                .replace("@ROOT@", &host.root.display().to_string())
                .as_str()
        ),
        "{}",
        motd()
    );
    host.write("/etc/trueup/node.yml", "nonsense: [\n");
    assert_eq!(host.converge().code, 78);
    assert!(motd().contains("node.yml"), "{}", motd());
    host.write("/etc/trueup/node.yml", crate::sandbox::NODE);
    host.role("resources:\n  - directory: {path: /srv}\n");
    host.converged();
    assert!(!host.at("/run/motd.d/trueup").exists());
}

#[test]
fn metrics_are_written_and_a_missing_folder_fails_no_pass() {
    let host = Sandbox::of("  - directory: {path: /srv}\n");
    let node = format!(
        "{}metrics: {{textfile: /var/lib/collector}}\n",
        crate::sandbox::NODE
    );
    host.write("/etc/trueup/node.yml", &node);
    let ran = host.converge();
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.err.contains("cannot write the metrics"), "{ran}");
    std::fs::create_dir_all(host.at("/var/lib/collector")).unwrap();
    host.converged();
    let file = || host.read("/var/lib/collector/trueup.prom");
    let converged = "\ntrueup_last_pass_outcome{outcome=\"converged\"} 1\n";
    assert!(file().contains(converged), "{}", file());
    assert!(file().contains("\ntrueup_last_good_pass_timestamp_seconds "));
    // Only the metrics file is written.
    let before = crate::tree::fingerprints(&host.root, &["/run"]);
    host.converged();
    let touched =
        crate::tree::changed_paths(&before, &crate::tree::fingerprints(&host.root, &["/run"]));
    assert!(
        touched.iter().all(|path| path.contains("collector")),
        "{touched:?}"
    );
    host.role("resources:\n  - nonsense: {}\n");
    assert_eq!(host.converge().code, 78);
    assert!(file().contains("\ntrueup_last_pass_outcome{outcome=\"bad_input\"} 1\n"));
    assert!(!file().contains(converged));
    host.role("resources:\n  - directory: {path: /srv}\n");
    host.converged();
    assert!(file().contains(converged));
    host.write("/etc/trueup/node.yml", &node.replace("/var/lib", "var/lib"));
    let ran = host.converge();
    assert_eq!(ran.code, 78, "{ran}");
    assert!(file().contains("\ntrueup_last_pass_outcome{outcome=\"bad_input\"} 1\n"));
    assert!(file().contains("\ntrueup_last_good_pass_timestamp_seconds "));
    assert!(ran.err.contains("node.yml:4:10: metrics.textfile"), "{ran}");
}

#[test]
fn pass_that_cannot_start_is_not_reported_as_converged() {
    let host = Sandbox::of("  - directory: {path: /srv}\n");
    host.converged();
    assert_eq!(host.run(&["status"]).code, 0);
    // A new manifest cannot be stored.
    let kept = host.at("/var/lib/trueup/manifest.yml");
    std::fs::remove_file(&kept).unwrap();
    std::fs::create_dir_all(kept.join("in the way")).unwrap();
    host.manifest("production: {}\ngeneration: 7\n");
    let ran = host.converge();
    assert_eq!(ran.code, 1, "{ran}");
    let status = host.run(&["status"]);
    assert_eq!(status.code, 1, "{status}");
    assert!(status.out.contains("manifest.yml"), "{status}");
    std::fs::remove_dir_all(&kept).unwrap();
    host.converged();
    assert_eq!(host.run(&["status"]).code, 0);
    // The recovery is in the history.
    let history = host.run(&["history"]);
    let first = history.out.lines().nth(1).unwrap_or_default();
    assert!(first.contains("converged"), "{history}");
}

#[test]
fn pass_limited_to_one_resource_does_not_update_the_host_status() {
    let host = Sandbox::of(
        "  - directory: {path: /srv}\n  - command: {id: never, run: \"false\", creates: /srv/never}\n",
    );
    assert_eq!(host.converge().code, 1);
    let only = host.run(&["converge", "--only", "directory:/srv"]);
    assert_eq!(only.code, 0, "{only}");
    let status = host.run(&["status", "--json"]);
    assert_eq!(status.code, 1, "{status}");
    assert_eq!(status.json()["last_pass"]["outcome"], "failed");
    assert_eq!(status.json()["last_pass"]["good"], serde_json::Value::Null);
}
