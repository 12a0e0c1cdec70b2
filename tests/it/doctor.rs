//! `trueup doctor` names each fault with a remedy, and changes nothing.

use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::app::{App, GOOD};
use crate::gate::ROLE;
use crate::processes::wait_until;
use crate::sandbox::{Ran, Sandbox};

/// The bad checks: subject, details and remedy.
fn bad_checks(host: &Sandbox, code: i32) -> Vec<(String, String, String)> {
    let ran = host.run(&["doctor", "--json"]);
    assert_eq!(ran.code, code, "{ran}");
    let checks = ran.json()["checks"].as_array().unwrap().clone();
    let text = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
    let bad = checks.iter().filter(|check| check["verdict"] == "bad");
    // The whole document: the place is a field of its own.
    bad.map(|check| (text(check, "about"), check.to_string(), text(check, "hint")))
        .collect()
}

/// This check alone is bad, for this reason, and has a remedy.
fn assert_only_bad(host: &Sandbox, about: &str, part: &str) {
    let found = bad_checks(host, 1);
    let [(name, check, remedy)] = found.as_slice() else {
        panic!("expected {about} alone: {found:?}");
    };
    assert_eq!(name, about, "{found:?}");
    assert!(check.contains(part) && !remedy.is_empty(), "{found:?}");
}

#[test]
fn healthy_host_has_no_problems_and_stays_unchanged() {
    let app = App::new(ROLE);
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let host = &app.sandbox;
    let everything = || {
        [
            crate::tree::fingerprints(&host.root, &[]),
            crate::tree::fingerprints(&host.store, &[]),
        ]
    };
    let before = everything();
    let ran = host.run(&["doctor"]);
    assert_eq!(ran.code, 0, "{ran}");
    for line in [
        "ok    store writes",
        "ok    git shop",
        "ok    service shop",
        "no problems found",
    ] {
        assert!(ran.out.contains(line), "{line}: {ran}");
    }
    let [root, store] = everything();
    assert!(crate::tree::changed_paths(&before[0], &root).is_empty());
    let left = crate::tree::changed_paths(&before[1], &store);
    let is_own_object = |path: &String| path.contains("sha_number") || path.contains("doctor");
    assert!(!left.iter().any(is_own_object), "{left:?}");
}

#[test]
fn each_fault_is_the_only_bad_check_and_has_a_remedy() {
    let app = App::new(ROLE);
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let host = &app.sandbox;
    let (role, node) = (
        host.read("/etc/trueup/roles/app.yml"),
        host.read("/etc/trueup/node.yml"),
    );
    let manifest = std::fs::read_to_string(host.store.join("sha_number.yml")).unwrap();

    std::fs::rename(&app.repo, host.sibling("away")).unwrap();
    assert_only_bad(host, "git shop", "cannot fetch");
    std::fs::rename(host.sibling("away"), &app.repo).unwrap();

    host.manifest("production: {shop: [}\n");
    assert_only_bad(host, "manifest", "sha_number.yml");
    host.manifest(manifest.replace("production", "staging"));
    let ran = host.run(&["doctor"]);
    assert_eq!(ran.code, 0, "{ran}");
    let note = "note  manifest                  sha_number.yml does not name shop in production";
    assert!(ran.out.contains(note), "{ran}");
    host.manifest(&manifest);

    std::fs::rename(
        host.at("/etc/systemd/system/shop.service"),
        host.sibling("unit"),
    )
    .unwrap();
    let found = bad_checks(host, 1);
    assert!(
        found.iter().any(|(name, ..)| name == "service shop"),
        "{found:?}"
    );
    std::fs::rename(
        host.sibling("unit"),
        host.at("/etc/systemd/system/shop.service"),
    )
    .unwrap();

    host.role(&format!(
        "checks: {{site: [sh, -c, 'echo no such upstream; exit 1'], gone: [/no/such/program]}}\n{}  - file: {{path: /etc/site, content: x, check: site}}\n  - file: {{path: /etc/other, content: x, check: gone}}\n",
        role.trim_start()
    ));
    assert_only_bad(host, "check site", "no such upstream");
    let ran = host.run(&["doctor"]);
    assert!(ran.out.contains("note  check gone"), "{ran}");

    host.role(&role.replace("[code]", "[code, other]"));
    assert_only_bad(host, "roles", "app.yml");
    host.role(&role);

    host.write(
        "/etc/trueup/node.yml",
        &node.replace("production", "[production"),
    );
    assert_only_bad(host, "settings", "node.yml");
    host.write(
        "/etc/trueup/node.yml",
        &node
            .replace("dir:@STORE@", "dri:/x")
            .replace(&host.store.display().to_string(), ""),
    );
    let found = bad_checks(host, 1);
    assert_eq!(found[0].0, "store", "{found:?}");
    host.write(
        "/etc/trueup/node.yml",
        &format!("{node}metrics: {{textfile: /var/lib/none}}\n"),
    );
    assert_only_bad(host, "metrics", "/var/lib/none is not there");
    host.write("/etc/trueup/node.yml", &node);

    app.publish_commit(GOOD, "500", "page two");
    app.converge(4);
    assert_only_bad(host, "last pass", "outcome rolled back: ");
}

#[test]
fn doctor_does_not_try_store_writes_when_publishing_is_off() {
    let host = Sandbox::of("  - directory: {path: /srv}\n");
    host.write("/etc/trueup/node.d/reader.yml", "fleet: {publish: false}\n");
    let before = crate::tree::fingerprints(&host.store, &[]);
    let ran = host.run(&["doctor"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(
        ran.out.contains("note  store writes              not tried: this host does not write there (`fleet: {publish: false}`)"),
        "{ran}"
    );
    let after = crate::tree::fingerprints(&host.store, &[]);
    assert!(crate::tree::changed_paths(&before, &after).is_empty());
}

#[test]
fn probe_object_of_a_killed_doctor_is_removed_by_the_next() {
    let host = Sandbox::of("  - directory: {path: /srv}\n");
    host.write("/etc/trueup/node.d/name.yml", "node: web1\n");
    let left = host.store.join("doctor/production/web1");
    std::fs::create_dir_all(left.parent().unwrap()).unwrap();
    std::fs::write(&left, "four\n").unwrap();
    let ran = host.run(&["doctor"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.out.contains("ok    store writes"), "{ran}");
    assert!(!left.exists());
}

#[test]
fn doctor_stops_after_the_current_check_on_a_signal() {
    let host = Sandbox::empty();
    host.write("/etc/trueup/node.yml", crate::sandbox::NODE);
    host.manifest(crate::sandbox::MANIFEST);
    let slow =
        host.fill("touch @ROOT@/begun; until test -e @ROOT@/go; do sleep 0.02; done; exit 1");
    host.role(&format!(
        "checks: {{slow: [sh, -c, '{slow}']}}\nresources:\n  - file: {{path: /etc/site, content: x, check: slow}}\n"
    ));
    let mut doctor = host.command(&["doctor"]);
    let doctor = doctor
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(wait_until(|| host.at("/begun").exists()));
    kill(Pid::from_raw(doctor.id() as i32), Signal::SIGINT).unwrap();
    host.write("/go", "");
    let ran = Ran::of(&doctor.wait_with_output().unwrap(), &host);
    assert_eq!(ran.code, 143, "{ran}");
    assert!(ran.out.contains("ok    store writes"), "{ran}");
    assert!(
        ran.out.ends_with(
            "note  stopped                   by a signal: the remaining checks did not run\n"
        ),
        "{ran}"
    );
    // The stop is not reported as a finding of the check.
    for line in ["check slow", "disk", "no problems found"] {
        assert!(!ran.out.contains(line), "{line}: {ran}");
    }
}

#[test]
fn drain_of_a_host_that_is_no_balancer_any_more_can_be_ended() {
    let host = Sandbox::of("  - file: {path: /etc/motd, content: x}\n");
    let path = "/var/lib/trueup/balancer/drain.json";
    let drain = r#"{"version":1,"by":"ana","since":"2026-11-30T13:04:11Z"}"#;
    host.write(path, drain);
    let doctor = host.run(&["doctor"]);
    assert!(
        doctor.out.contains("`trueup balancer undrain` ends it"),
        "{doctor}"
    );
    let ended = host.run(&["balancer", "undrain"]);
    assert_eq!(ended.code, 0, "{ended}");
    assert!(ended.out.contains("the drain is over; "), "{ended}");
    assert!(!host.at(path).exists());
    let again = host.run(&["balancer", "undrain"]);
    assert_eq!(again.code, 64, "{again}");
}

#[test]
fn keepalived_of_another_hand_fails_no_pass() {
    let host = Sandbox::of("  - file: {path: /etc/motd, content: x}\n");
    host.write("/etc/keepalived/keepalived.conf", &"#\n".repeat(600 << 10));
    let ran = host.converge();
    assert_eq!(ran.code, 0, "{ran}");
    assert!(format!("{ran}").contains("keepalived.conf"), "{ran}");
}
