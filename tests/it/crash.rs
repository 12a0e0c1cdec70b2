//! A pass that is killed before any one of its changes loses nothing and repeats nothing.
//!
//! strace kills trueup as it enters the N-th call of each sort that changes something, for every N
//! there is, each time on a fresh host. Then one more pass runs as usual, and the host has to be
//! as if nothing had happened.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::processes::wait_until;
use crate::sandbox::{MANIFEST, NODE, OWN, Sandbox, binary, isolated};
use crate::tree;

/// Every call by which a pass changes something or starts or ends something. A file that was only
/// created is not among them: the write into it comes next.
const CHANGES: &str = "rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,symlink,symlinkat,\
link,linkat,fsync,fdatasync,chmod,fchmod,fchmodat,fchmodat2,chown,fchown,fchownat,lchown,write,pwrite64,\
truncate,ftruncate,clone,clone3,fork,vfork,kill";

/// How many hosts are worked on at a time: most of their time is spent waiting for services.
const SIDE_BY_SIDE: usize = 4;

/// A worker that restarts, a web server that reloads after a check of two files that must agree.
const ROLE: &str = r#"
parameters: {word: one, other: one}
checks:
  web: "cmp {{ root }}/srv/site-a {{ root }}/srv/site-b"
resources:
  - directory: {path: /srv}
  - directory: {path: /opt}
  - directory: {path: /etc/systemd/system, parents: true}
  - directory: {path: "/data/{{ word }}/deep", parents: true}
  - file: {path: /opt/worker, source: worker, mode: "0755"}
  - template: {path: /etc/systemd/system/app.service, source: unit, vars: {name: app}}
  - template: {path: /etc/systemd/system/web.service, source: unit, vars: {name: web}}
  - file: {id: conf, path: /srv/app.conf, content: "{{ word }}\n"}
  - file: {id: web-conf, path: /srv/web.conf, content: "{{ word }}\n"}
  - file: {id: a, path: /srv/site-a, content: "{{ word }}\n", check: web}
  - file: {id: b, path: /srv/site-b, content: "{{ other }}\n", check: web}
  - symlink: {path: /srv/current, to: "../data/{{ word }}"}
  - command: {run: "echo {{ word }} >seen", cwd: /srv, creates: "/srv/seen"}
  - service: {name: app, running: true, restart_on: [conf]}
  - service: {name: web, running: true, enabled: true, reload_on: [a, b]}
"#;

#[test]
fn first_pass_killed_anywhere_is_completed_by_the_next() {
    let host = || {
        let sandbox = Sandbox::empty();
        sandbox.write("/etc/trueup/node.yml", NODE);
        sandbox.role(ROLE);
        sandbox.manifest(MANIFEST);
        sandbox
    };
    // Syncing makes no difference to a host that stays up, and there is nothing to
    // remove yet.
    kill_everywhere(60, &["fsync", "fchmod", "unlinkat"], &host, &|host| {
        host.converged();
        assert_service_log(host, "app", "start one\n");
        assert_service_log(host, "web", "start one\n");
        host.assert_converged(&[]);
    });
}

#[test]
fn change_killed_anywhere_is_completed_with_each_restart_once() {
    let host = || changed_host("{word: two, other: two}");
    kill_everywhere(60, &[], &host, &|host| {
        host.converged();
        assert_service_log(host, "app", "start one\nstart two\n");
        assert!(
            wait_until(|| host.read("/srv/web.log").ends_with("reload two\n")),
            "a reload was lost: {}",
            host.read("/srv/web.log")
        );
        // A second reload, sent right before the kill, may not be logged yet.
        let mut log = host.read("/srv/web.log");
        loop {
            std::thread::sleep(Duration::from_millis(300));
            let later = host.read("/srv/web.log");
            if later == std::mem::replace(&mut log, later.clone()) {
                break;
            }
        }
        let (starts, reloads) = (log.matches("start").count(), log.matches("reload").count());
        // The reload may have been sent right before the kill, without a record of it.
        assert!(starts == 1 && (1..=2).contains(&reloads), "{log}");
        host.assert_converged(&[]);
    });
}

#[test]
fn failed_check_restores_its_files_wherever_the_pass_is_killed() {
    let host = || changed_host("{other: two}");
    kill_everywhere(30, &["fsync", "fchmod"], &host, &|host| {
        let ran = host.converge();
        assert_eq!(ran.code, 1, "{ran}");
        assert!(
            ran.out.contains("restored, because the check `web` failed"),
            "{ran}"
        );
        assert_eq!(host.read("/srv/site-a"), "one\n");
        assert_eq!(host.read("/srv/site-b"), "one\n");
        assert_service_log(host, "app", "start one\n");
        assert_service_log(host, "web", "start one\n");
    });
}

/// A converged host, with settings changed afterwards.
fn changed_host(attributes: &str) -> Sandbox {
    let sandbox = Sandbox::empty();
    sandbox.write("/etc/trueup/node.yml", NODE);
    sandbox.role(ROLE);
    sandbox.manifest(MANIFEST);
    sandbox.converged();
    for name in ["app", "web"] {
        assert_service_log(&sandbox, name, "start one\n");
    }
    sandbox.write(
        "/etc/trueup/node.d/word.yml",
        &format!("attributes: {attributes}\n"),
    );
    sandbox
}

fn assert_service_log(host: &Sandbox, name: &str, expected: &str) {
    let path = format!("/srv/{name}.log");
    wait_until(|| host.read(&path).len() >= expected.len());
    assert_eq!(
        host.read(&path),
        expected,
        "{name}: a start was lost or repeated"
    );
}

/// Kills a pass at its changes, on a fresh host each time, and lets `finish` run and check the
/// next one. Then compares every host: its tree is that of an undisturbed
/// pass, without leftovers. At least `least` kills must have hit, of those at every change.
fn kill_everywhere(
    least: usize,
    except: &[&str],
    host: &(dyn Fn() -> Sandbox + Sync),
    finish: &(dyn Fn(&Sandbox) + Sync),
) {
    if !have_strace() {
        return;
    }
    let undisturbed = host();
    let counts = count_calls(&undisturbed, except);
    finish(&undisturbed);
    let expected = tree_without_logs(&undisturbed);
    let points: Vec<(&String, usize)> = counts
        .iter()
        .flat_map(|(call, count)| (1..=*count).step_by(sampled(1)).map(move |n| (call, n)))
        .collect();
    let (next, hits) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                while let Some((call, n)) = points.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let result = std::panic::catch_unwind(AssertUnwindSafe(|| {
                        let sandbox = host();
                        let hit = kill_at(&sandbox, call, *n);
                        finish(&sandbox);
                        let actual = tree_without_logs(&sandbox);
                        assert_eq!(actual, expected, "not the tree of an undisturbed pass");
                        assert_eq!(tree::leftovers(&sandbox.root), [""; 0], "left over");
                        hit
                    }));
                    match result {
                        Ok(hit) => hits.fetch_add(usize::from(hit), Ordering::SeqCst),
                        Err(panic) => {
                            let panic = panic.downcast_ref::<String>().cloned();
                            let panic =
                                format!("killed at {call} {n}: {}", panic.unwrap_or_default());
                            failures.lock().unwrap().push(panic);
                            0
                        }
                    };
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let hits = hits.into_inner();
    eprintln!("{} points, {hits} kills: {counts:?}", points.len());
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(hits * sampled(1) >= least, "only {hits} kills");
}

/// Of so many points to kill at one is tried: the given number in `tests/run long`, twice as many otherwise.
pub(crate) fn sampled(in_long_runs: usize) -> usize {
    match std::env::var_os("TRUEUP_LONG_KILLS") {
        Some(_) => in_long_runs,
        None => 2 * in_long_runs,
    }
}

/// How often an undisturbed pass makes each call.
fn count_calls(host: &Sandbox, except: &[&str]) -> BTreeMap<String, usize> {
    let log = host.sibling("trace");
    let mut command = strace(host);
    command.arg("-o").arg(&log);
    add_pass_args(&mut command, host);
    command.output().unwrap();
    let mut counts = BTreeMap::new();
    for line in std::fs::read_to_string(&log).unwrap().lines() {
        if let Some((call, _)) = line.split_once('(')
            && !except.contains(&call)
            && CHANGES.split(',').any(|change| change == call)
        {
            *counts.entry(call.to_owned()).or_insert(0) += 1;
        }
    }
    counts
}

/// Whether the kill hit: a pass may make fewer calls than the one that was counted.
fn kill_at(host: &Sandbox, call: &str, n: usize) -> bool {
    use std::os::unix::process::ExitStatusExt;
    let mut command = strace(host);
    command.arg("-o").arg("/dev/null");
    command.arg("-e");
    command.arg(format!("inject={call}:signal=SIGKILL:when={n}"));
    add_pass_args(&mut command, host);
    let output = command.output().unwrap();
    output.status.signal() == Some(9) || output.status.code() == Some(128 + 9)
}

/// Only trueup itself is followed, not its children.
fn strace(host: &Sandbox) -> Command {
    let mut command = Command::new("strace");
    isolated(&mut command);
    command.env("TRUEUP_SHARE", host.sibling("share"));
    // `?` ignores a call that this machine or this strace does not have.
    let calls = CHANGES.replace(',', ",?");
    command.arg("-qq").arg("-e").arg(format!("trace=?{calls}"));
    command
}

fn add_pass_args(command: &mut Command, host: &Sandbox) {
    command
        .arg(binary())
        .args(["converge", "--root"])
        .arg(&host.root);
}

fn tree_without_logs(host: &Sandbox) -> String {
    let skip = [OWN, &["/srv/app.log", "/srv/web.log"]].concat();
    host.mask(&tree::listing(&host.root, &skip))
}

/// Whether strace is installed. Prints that tests are skipped without it; in CI that is a failure.
pub fn have_strace() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join("strace").exists()) {
        return true;
    }
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!ci, "no strace here: in CI nothing may be skipped");
    eprintln!("\n!! SKIPPED: crash tests need strace (apt-get install strace)\n");
    false
}
