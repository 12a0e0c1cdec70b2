//! State on disk that is torn, empty, nonsense, or from a later trueup: never fatal, and right again.

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
        for (how, body) in [
            ("empty", &b""[..]),
            ("truncated", &good[..good.len() / 2]),
            ("garbage", b"\xff\x00garbage\n"),
            ("another JSON", b"[1, 2]"),
            ("newer", newer.as_bytes()),
        ] {
            fs::write(file, body).unwrap();
            let what = format!("{} {how}", file.display());
            for args in [&["plan"][..], &["status"], &["history"], &["converge"]] {
                let ran = host.run(args);
                // Only with these is something lost that nothing else tells: whether a command ran
                // with what is there, and what was started.
                let lost = what.contains("/services/note") || what.contains("/process/");
                let looks = ["plan", "status"].contains(&args[0]);
                let right = ran.code == 0 || (lost && looks && ran.code == 2);
                assert!(right, "{what}: {args:?}: {ran}");
            }
            host.is_right(&[]);
            assert_eq!(host.read("/srv/app.log"), "start one\n", "{what}");
        }
    }
}
