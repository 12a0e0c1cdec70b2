//! Test conditions that only root can set up: another user, a separate filesystem.

use std::process::Command;

use nix::unistd::geteuid;

use crate::sandbox::isolated;

/// A user id that owns nothing on any machine.
pub const NOBODY: u32 = 54_321;

/// Whether this is root. Prints that a test is skipped when it is not; in CI that is a failure.
pub fn is_root(purpose: &str) -> bool {
    if geteuid().is_root() {
        return true;
    }
    report_skipped(purpose, "root");
    false
}

/// Whether a mount in a private namespace can be made.
pub fn can_mount(purpose: &str) -> bool {
    let mut command = Command::new("unshare");
    isolated(&mut command);
    command.args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"]);
    if is_root(purpose) && command.status().is_ok_and(|status| status.success()) {
        return true;
    }
    report_skipped(purpose, "a mount namespace");
    false
}

fn report_skipped(purpose: &str, requirement: &str) {
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(
        !ci,
        "{purpose} needs {requirement}: in CI nothing may be skipped"
    );
    eprintln!("\n!! SKIPPED: {purpose} needs {requirement}\n");
}

/// Runs the command as an unprivileged user: as `NOBODY` if this is root, else as the current user.
pub fn as_nobody(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
}
