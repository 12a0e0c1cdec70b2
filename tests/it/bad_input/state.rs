//! State files that are truncated, empty, garbage or of a newer version are never fatal, and are repaired.

use std::fs;
use std::path::PathBuf;

use crate::processes::wait_until;
use crate::sandbox::Sandbox;

const RESOURCES: &str = r#"
  - directory: {path: /srv}
  - directory: {path: /opt}
  - directory: {path: /etc/systemd/system, parents: true}
  - file: {path: /opt/worker, source: worker, mode: "0755"}
  - template: {path: /etc/systemd/system/app.service, source: unit, vars: {name: app}}
  - file: {id: conf, path: /srv/app.conf, content: "one\n"}
  - file: {id: more, path: /srv/more, content: "one\n"}
  - command: {id: note, run: "echo noted >>note", cwd: /srv, when_changed: [more]}
  - service: {name: app, running: true, enabled: true, restart_on: [conf], reload_on: [more]}
"#;

/// Every state file that a pass leaves.
fn state_files(host: &Sandbox) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut todo = vec![host.at("/var/lib/trueup"), host.at("/run/trueup")];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path
                .extension()
                .is_some_and(|end| end == "json" || end == "yml")
            {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

#[test]
fn corrupt_state_file_is_not_fatal_and_causes_no_restart() {
    let host = Sandbox::of(RESOURCES.trim_start_matches('\n'));
    host.converged();
    assert!(wait_until(|| host.read("/srv/app.log") == "start one\n"));
    let files = state_files(&host);
    let names: Vec<String> = files
        .iter()
        .map(|path| path.strip_prefix(&host.root).unwrap().display().to_string())
        .collect();
    for kind in [
        "manifest.json",
        "manifest.yml",
        "process/",
        "services/",
        "runs/",
        "last.json",
    ] {
        assert!(
            names.iter().any(|name| name.contains(kind)),
            "no {kind}: {names:?}"
        );
    }
    for file in &files {
        let good = fs::read(file).unwrap();
        let newer = String::from_utf8_lossy(&good)
            .replace("\"version\": 1", "\"version\": 999")
            .replace("\"version\":1", "\"version\":999");
        for (damage, body) in [
            ("empty", &b""[..]),
            ("truncated", &good[..good.len() / 2]),
            ("garbage", b"\xff\x00garbage\n"),
            ("another JSON", b"[1, 2]"),
            ("newer", newer.as_bytes()),
        ] {
            fs::write(file, body).unwrap();
            let case = format!("{} {damage}", file.display());
            for args in [&["plan"][..], &["status"], &["history"], &["converge"]] {
                let ran = host.run(args);
                // Only these files hold facts that nothing else records: which inputs a command ran
                // with, and what a process was started with.
                let lost = case.contains("/services/note") || case.contains("/process/");
                let read_only = ["plan", "status"].contains(&args[0]);
                // A service that is not known to run any more counts as stopped.
                let right = ran.code == 0 || (lost && read_only && [1, 2].contains(&ran.code));
                assert!(right, "{case}: {args:?}: {ran}");
            }
            host.assert_converged(&[]);
            assert_eq!(host.read("/srv/app.log"), "start one\n", "{case}");
        }
    }
}

#[test]
fn state_folder_may_be_a_link_of_the_owner_to_another_disk() {
    let host = super::host();
    fs::create_dir_all(host.at("/data/state")).unwrap();
    fs::create_dir_all(host.at("/var/lib")).unwrap();
    std::os::unix::fs::symlink("../../data/state", host.at("/var/lib/trueup")).unwrap();
    for _ in 0..2 {
        let ran = host.converge();
        assert_eq!(ran.code, 0, "{ran}");
        assert_eq!(ran.err, "");
    }
    assert!(host.at("/data/state/manifest.yml").exists());
}
