//! SELinux labels of new files.
//!
//! A replaced file keeps its label (`root/xattr.rs`). A new one gets that of its folder, because trueup creates
//! it under a temporary name: the policy's own label for a path, such as that of `~/.ssh`, without which sshd
//! may not read the keys, takes `restorecon`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::accounts::Accounts;
use super::exec::{Command, Exec};
use super::root::Root;

/// Exists where SELinux is on, permissive or not.
const SWITCH: &str = "/sys/fs/selinux/enforce";

const TIMEOUT: Duration = Duration::from_secs(60);

/// Paths per run of `restorecon`: far below the kernel's limit for arguments.
const BATCH: usize = 200;

/// Lets the root note what it creates, on a host with SELinux.
pub(crate) fn start(root: &Root) {
    if root.is_real() && root.is_privileged() && matches!(root.meta(Path::new(SWITCH)), Ok(Some(_)))
    {
        root.record_new_paths();
    }
}

/// Gives what was created since the last call the labels of the policy. Folders have to be labelled before
/// anything is created in them, because that inherits their label. A failure is no failure of the pass: the
/// program that may not read a file reports it better. Leaves out what is below the folders `except`.
pub(crate) fn label_new_paths(root: &Root, exec: &Exec, accounts: &Accounts, except: &[&str]) {
    let paths = root.take_new_paths();
    if paths.is_empty() {
        return;
    }
    for (uid, paths) in group_by_user(root, paths, except) {
        for batch in paths.chunks(BATCH) {
            if let Err(reason) = restore(root, exec, accounts, uid, batch) {
                tracing::warn!("cannot restore SELinux labels: {reason}");
            }
        }
    }
}

/// By the user who runs `restorecon`: root follows no path that another user can change, so that user does.
fn group_by_user(root: &Root, paths: Vec<PathBuf>, except: &[&str]) -> BTreeMap<u32, Vec<PathBuf>> {
    let mut grouped = BTreeMap::<u32, Vec<PathBuf>>::new();
    for path in paths {
        let is_excepted = except.iter().any(|folder| path.starts_with(folder));
        let Ok(Some(meta)) = root.meta(&path) else {
            continue;
        };
        let is_trusted = root.is_in_trusted_folder(&path).unwrap_or(false);
        let uid = if is_trusted { 0 } else { meta.uid };
        if (is_trusted || uid != 0) && !is_excepted {
            grouped.entry(uid).or_default().push(path);
        }
    }
    grouped
}

fn restore(
    root: &Root,
    exec: &Exec,
    accounts: &Accounts,
    uid: u32,
    paths: &[PathBuf],
) -> Result<(), String> {
    let mut command = Command::new(["restorecon"]).timeout(TIMEOUT);
    if uid != 0 {
        let name = accounts.user_name(root, uid).map_err(|e| e.to_string())?;
        let identity = accounts.identity(root, &name).map_err(|e| e.to_string())?;
        command.identity = Some(identity.ok_or("its owner has no name")?);
    }
    command.argv.push("--".into());
    command
        .argv
        .extend(paths.iter().map(|path| root.machine_path(path).into()));
    match exec.run_checked(command) {
        Err(error) if error.is_program_missing() => Ok(()),
        done => done.map(drop).map_err(|error| error.to_string()),
    }
}
