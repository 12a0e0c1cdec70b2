//! What only root can set up: another user, a filesystem of its own.

use std::process::Command;

use nix::unistd::geteuid;

use crate::sandbox::isolated;

/// A user id that owns nothing on any machine.
pub const NOBODY: u32 = 54_321;

/// Whether this is root. Says so loudly when it is not; in CI that is a failure.
pub fn is_root(what: &str) -> bool {
    if geteuid().is_root() {
        return true;
    }
    skipped(what, "root");
    false
}

/// Whether a mount of our own can be made, seen by nobody else.
pub fn can_mount(what: &str) -> bool {
    let mut command = Command::new("unshare");
    isolated(&mut command);
    command.args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"]);
    if is_root(what) && command.status().is_ok_and(|status| status.success()) {
        return true;
    }
    skipped(what, "a mount namespace");
    false
}

fn skipped(what: &str, lacking: &str) {
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!ci, "{what} needs {lacking}: in CI nothing may be skipped");
    eprintln!("\n!! SKIPPED: {what} needs {lacking}\n");
}

/// The same command as another user, where this is root; else as who we are, which is no root either.
pub fn as_nobody(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
}
