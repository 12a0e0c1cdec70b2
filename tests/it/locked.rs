//! A lock that no pass has: it stops nobody, or says who has it.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::sandbox::Sandbox;

const ROLE: &str = "  - directory: {path: /srv}\n";
const RUN: &str = "/run/trueup";

/// A process that has something locked, as root or as somebody else.
struct Thief(Child);

impl Thief {
    /// `None`: he could not.
    fn at(path: &Path, user: &str) -> Option<Thief> {
        let mut child = Command::new("setpriv")
            .args([
                "--reuid",
                user,
                "--regid",
                user,
                "--clear-groups",
                "flock",
                "--nonblock",
            ])
            .arg(path)
            .args(["sh", "-c", "echo locked; exec sleep 600"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut word = [0; 6];
        match child.stdout.as_mut().unwrap().read_exact(&mut word) {
            Ok(()) => Some(Thief(child)),
            Err(_) => {
                child.wait().unwrap();
                None
            }
        }
    }
}

impl Drop for Thief {
    fn drop(&mut self) {
        // `flock` waits for its child, which lives on without it: with the lock.
        let pid = self.0.id();
        let _ = Command::new("pkill")
            .args(["-KILL", "-P", &pid.to_string()])
            .status();
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn all_below(folder: &Path, into: &mut Vec<PathBuf>) {
    into.push(folder.to_owned());
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => all_below(&entry.path(), into),
            false => into.push(entry.path()),
        }
    }
}

fn is_root() -> bool {
    let is = nix::unistd::geteuid().is_root();
    if !is {
        eprintln!("skipped: only root can act as somebody else");
    }
    is
}

#[test]
fn locks_held_by_other_users_block_no_pass() {
    if !is_root() {
        return;
    }
    let host = Sandbox::of(ROLE);
    // As on a real host, where everybody can come as far as that.
    for folder in host.root.ancestors() {
        if folder.starts_with("/tmp/") {
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    // What a version of before has left.
    host.write("/run/trueup/lock", "");
    host.converged();
    let mut places = Vec::new();
    for folder in [RUN, "/var/lib/trueup", "/etc/trueup"] {
        all_below(&host.at(folder), &mut places);
    }
    let thieves: Vec<Thief> = places
        .iter()
        .filter_map(|place| Thief::at(place, "65534"))
        .collect();
    assert!(thieves.len() > 3, "nobody could lock anything at all");
    let pass = host.run(&["converge", "--no-wait"]);
    assert_eq!(pass.code, 0, "{pass}");
}

#[test]
fn foreign_lock_on_an_old_lock_file_blocks_no_pass() {
    if !is_root() {
        return;
    }
    let host = Sandbox::of(ROLE);
    host.write("/run/trueup/lock", "");
    let _thief = Thief::at(&host.at("/run/trueup/lock"), "0").unwrap();
    let pass = host.run(&["converge", "--no-wait"]);
    assert_eq!(pass.code, 0, "{pass}");
}

#[test]
fn lock_held_without_a_pass_is_a_failure_naming_its_process() {
    if !is_root() {
        return;
    }
    let host = Sandbox::of(ROLE);
    host.converged();
    let lock = host.at("/run/trueup/private/lock");
    let thief = Thief::at(&lock, "0").unwrap();
    let pass = host.run(&["converge"]);
    assert_eq!(pass.code, 1, "{pass}");
    let who = format!(
        "cannot start a pass: process {} (`flock`, run by root) holds the lock @ROOT@/run/trueup/private/lock",
        thief.0.id()
    );
    assert!(pass.err.contains(&who), "{pass}");
    assert!(
        pass.err.contains(&format!("kill {}", thief.0.id())),
        "{pass}"
    );
    // Nobody is told that all is well.
    let status = host.run(&["status"]);
    assert_eq!(status.code, 1, "{status}");
    assert!(status.out.contains("cannot start a pass"), "{status}");
    assert!(
        host.read("/run/motd.d/trueup")
            .contains("cannot start a pass")
    );
    drop(thief);
    host.converged();
    assert_eq!(host.run(&["status"]).code, 0);
}
