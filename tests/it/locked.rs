//! A lock held by something else than a pass blocks no pass, or is reported with its holder.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::sandbox::Sandbox;

const ROLE: &str = "  - directory: {path: /srv}\n";
const RUN: &str = "/run/trueup";

/// A process that holds a lock, as root or as another user.
struct LockHolder(Child);

impl LockHolder {
    /// `None`: the user cannot lock it.
    fn lock(path: &Path, user: &str) -> Option<LockHolder> {
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
        let mut line = [0; 6];
        match child.stdout.as_mut().unwrap().read_exact(&mut line) {
            Ok(()) => Some(LockHolder(child)),
            Err(_) => {
                child.wait().unwrap();
                None
            }
        }
    }
}

impl Drop for LockHolder {
    fn drop(&mut self) {
        // The child of `flock` survives it, and keeps the lock.
        let pid = self.0.id();
        let _ = Command::new("pkill")
            .args(["-KILL", "-P", &pid.to_string()])
            .status();
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn collect_paths(folder: &Path, into: &mut Vec<PathBuf>) {
    into.push(folder.to_owned());
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => collect_paths(&entry.path(), into),
            false => into.push(entry.path()),
        }
    }
}

fn is_root() -> bool {
    let is = nix::unistd::geteuid().is_root();
    if !is {
        eprintln!("skipped: only root can act as another user");
    }
    is
}

#[test]
fn locks_held_by_other_users_block_no_pass() {
    if !is_root() {
        return;
    }
    let host = Sandbox::of(ROLE);
    // As on a real host, where every user can reach the folder.
    for folder in host.root.ancestors() {
        if folder.starts_with("/tmp/") {
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    // The lock file of an older version.
    host.write("/run/trueup/lock", "");
    host.converged();
    let mut paths = Vec::new();
    for folder in [RUN, "/var/lib/trueup", "/etc/trueup"] {
        collect_paths(&host.at(folder), &mut paths);
    }
    let holders: Vec<LockHolder> = paths
        .iter()
        .filter_map(|path| LockHolder::lock(path, "65534"))
        .collect();
    assert!(holders.len() > 3, "no lock could be taken");
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
    let _holder = LockHolder::lock(&host.at("/run/trueup/lock"), "0").unwrap();
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
    let holder = LockHolder::lock(&lock, "0").unwrap();
    let pass = host.run(&["converge"]);
    assert_eq!(pass.code, 1, "{pass}");
    let expected = format!(
        "cannot start a pass: process {} (`flock`, run by root) holds the lock @ROOT@/run/trueup/private/lock",
        holder.0.id()
    );
    assert!(pass.err.contains(&expected), "{pass}");
    assert!(
        pass.err.contains(&format!("kill {}", holder.0.id())),
        "{pass}"
    );
    // Nothing reports the host as converged.
    let status = host.run(&["status"]);
    assert_eq!(status.code, 1, "{status}");
    assert!(status.out.contains("cannot start a pass"), "{status}");
    assert!(
        host.read("/run/motd.d/trueup")
            .contains("cannot start a pass")
    );
    drop(holder);
    host.converged();
    assert_eq!(host.run(&["status"]).code, 0);
}
