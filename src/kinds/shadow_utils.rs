//! Calls of the shadow-utils for the `group` and `user` kinds.
//!
//! In a sandbox they run with `--prefix`. An unprivileged run cannot change accounts, just as it cannot
//! change owners, and leaves them alone ([`can_manage_accounts`]).

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use crate::kind::Condition;
use crate::ports::exec::{Command, ExecError, ExitReason};
use crate::ports::root::Attrs;
use crate::ports::{Host, lock};
use crate::problem::Problem;
use crate::resource::Failure;

/// They wait for each other's locks, but never long.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The accounts that trueup manages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(super) enum Manage {
    Local,
}

/// Says why an account is left alone.
pub(super) fn name_service_note(name: &str) -> Condition {
    Condition::Noted(vec![format!(
        "`{name}` is in no file of this host, but known to a name service (LDAP, SSSD: /etc/nsswitch.conf), and is left as it is; `manage: local` gives the host one of its own"
    )])
}

/// Whether this run can change accounts; if not, they count as converged.
pub(super) fn can_manage_accounts(host: &Host) -> bool {
    host.root.is_privileged()
}

/// Rejects names that some tool would not handle.
pub(super) fn validate_name(field: &str, name: &str) -> Result<(), Problem> {
    let mut bytes = name.bytes();
    let first = bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let rest = bytes
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte));
    if first && rest && name.len() <= 32 {
        return Ok(());
    }
    Err(Problem::new(format!(
        "`{}` is not a valid name: expected at most 32 of a-z, 0-9, `_` and `-`, starting with a letter or `_`",
        name.escape_default()
    ))
    .field(field))
}

/// With these arguments a tool that creates an account looks only into the host's files: it refuses a name that
/// a name service knows. It ignores the prefix `/`.
pub(super) const FILES_ONLY: [&str; 2] = ["--prefix", "/."];

/// Runs one of the tools and invalidates the cached accounts.
pub(super) fn run(host: &Host, program: &str, args: &[&str]) -> Result<(), Failure> {
    if !host.root.is_real() {
        create_account_files(host)?;
    }
    let error = match run_once(host, program, args) {
        Ok(()) => return Ok(()),
        Err(error) if is_lock_error(&error) => error,
        Err(error) => return Err(tool_failure(program, error)),
    };
    let root = &host.root;
    let locker = lock::account_locking_process(root);
    // Otherwise a user could keep his account from being locked for as long as he likes.
    let ended = locker
        .as_ref()
        .filter(|locker| lock::kill_account_locking_process(root, locker));
    if let Some(locker) = ended {
        tracing::warn!(
            "{} held the account lock; trueup killed it to change accounts",
            locker.describe()
        );
    }
    if lock::remove_stale_account_locks(root) || ended.is_some() {
        return run_once(host, program, args).map_err(|error| tool_failure(program, error));
    }
    let Some(locker) = locker else {
        return Err(tool_failure(program, error));
    };
    let pid = locker.pid;
    Err(Failure::from(error)
        .with_detail(&format!("\n{} holds the account lock", locker.describe()))
        .hint(format!(
            "the next pass tries again; if this persists, kill the process: `kill -KILL {pid}`"
        )))
}

/// Whether another program holds the account lock. Matches the output, because the exit code is less
/// specific.
fn is_lock_error(error: &ExecError) -> bool {
    matches!(error, ExecError::Failed { ended, output, .. }
        if matches!(ended, ExitReason::TimedOut(_)) || output.contains("cannot lock"))
}

fn run_once(host: &Host, program: &str, args: &[&str]) -> Result<(), ExecError> {
    let root = &host.root;
    let mut command = Command::new([program]).timeout(TIMEOUT).env("LC_ALL", "C");
    if !root.is_real() {
        command.argv.push("--prefix".into());
        command.argv.push(root.path().into());
    }
    command.argv.extend(args.iter().map(Into::into));
    let done = host.exec.run_checked(command);
    host.accounts.invalidate();
    done.map(|_| ())
}

/// Creates the account files of a sandbox that has none yet: without them `groupadd` works only halfway.
fn create_account_files(host: &Host) -> Result<(), Failure> {
    let root = &host.root;
    root.create_dir_all(Path::new("/etc"), &Attrs::mode(0o755))?;
    for (path, mode) in [
        ("/etc/passwd", 0o644),
        ("/etc/group", 0o644),
        ("/etc/shadow", 0o600),
        ("/etc/gshadow", 0o600),
    ] {
        let path = Path::new(path);
        if root.meta(path)?.is_none() {
            root.write_atomic(path, b"", &Attrs::mode(mode))?;
        }
    }
    Ok(())
}

/// Adds a hint that depends on the exit code (see `man usermod`, EXIT VALUES).
fn tool_failure(program: &str, error: ExecError) -> Failure {
    let code = match &error {
        ExecError::Failed {
            ended: ExitReason::Exited(code),
            ..
        } => *code,
        _ => 0,
    };
    let failure = Failure::from(error);
    match (program, code) {
        (_, 1 | 10) => failure.hint(
            "another process may be changing accounts; the next pass tries again",
        ),
        ("groupdel", 8) => failure.hint(
            "before it, describe the users with this primary group as absent or give them another group",
        ),
        ("userdel" | "usermod", 8) => failure.hint(
            "first stop the processes of this user (`loginctl terminate-user`, or its service); the next pass tries again",
        ),
        _ => failure,
    }
}
