//! Checks that sshd reads the files in which trueup keeps the keys of users.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Check, bad, note};
use crate::ports::Host;
use crate::ports::accounts::User;
use crate::ports::exec::Command;
use crate::role::Catalog;

/// It looks up names at most.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Where trueup keeps the keys of a user, below its home.
const KEY_FILE: &str = ".ssh/authorized_keys";

/// Asks sshd for its settings for each user whose keys the roles describe. Prints nothing where there is no sshd.
pub(super) fn check_key_files(catalog: &Catalog, host: &Host, announce: &mut dyn FnMut(Check)) {
    if !host.root.is_real() {
        return;
    }
    let resources = catalog.resources.iter();
    let users = resources.filter(|resource| resource.body.kind() == "authorized_keys");
    for name in users.map(|resource| resource.body.subject()) {
        if host.stop.is_set() {
            return;
        }
        let Ok(Some(user)) = host.accounts.user(&host.root, &name) else {
            continue;
        };
        // Those of `state: absent` have none.
        let file = user.home.join(KEY_FILE);
        if matches!(host.root.meta(&file), Ok(Some(_)))
            && let Some(check) = check_user(&user, &file, host)
        {
            announce(check);
        }
    }
}

fn check_user(user: &User, file: &Path, host: &Host) -> Option<Check> {
    let about = format!("keys {}", user.name);
    if !host.root.is_privileged() {
        return Some(note(about, "not asked: only root can ask sshd"));
    }
    // Needed for the address and the name in `Match` blocks, which most hosts have none of.
    let connection = format!("user={},host=localhost,addr=127.0.0.1", user.name);
    let command = Command::new(["sshd", "-T", "-C", &connection]).timeout(TIMEOUT);
    let done = match host.exec.run(command) {
        Err(error) if error.is_program_missing() => return None,
        Err(error) => return Some(note(about, error.to_string())),
        Ok(done) => done,
    };
    if !done.success() {
        let message = format!("`sshd -T` failed: {}", done.output.tail(3));
        return Some(note(about, message));
    }
    let locked = host.accounts.is_locked(&host.root, &user.name) == Some(true);
    Some(judge(&about, user, locked, file, &done.output.text()))
}

fn judge(about: &str, user: &User, locked: bool, file: &Path, settings: &str) -> Check {
    let values = |key: &str| {
        let mut lines = settings.lines();
        let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        value.unwrap_or_default()
    };
    if values("pubkeyauthentication") == "no" {
        return bad(
            about,
            "sshd accepts no keys (`PubkeyAuthentication no`)",
            "set `PubkeyAuthentication yes` in /etc/ssh/sshd_config, and run `systemctl reload ssh`",
        );
    }
    if locked && values("usepam") == "no" {
        return bad(
            about,
            format!(
                "the password of {} is locked, and sshd does not use PAM: then it lets no such account log in, not even with a key",
                user.name
            ),
            "set `UsePAM yes` in /etc/ssh/sshd_config, and run `systemctl reload ssh`; or set `locked: false` on the user, which gives it a password that nothing matches",
        );
    }
    let files = values("authorizedkeysfile").split_whitespace();
    let files = files.filter(|pattern| *pattern != "none");
    let files: Vec<PathBuf> = files.map(|pattern| expand(pattern, user)).collect();
    if files.iter().any(|read| read == file) {
        let shown = file.display();
        return Check::good(about, format!("sshd reads {shown}"));
    }
    let read: Vec<String> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    bad(
        about,
        format!(
            "sshd does not read {}, where trueup keeps the keys of {}, but {}",
            file.display(),
            user.name,
            match read.as_slice() {
                [] => "no such file".to_owned(),
                read => read.join(", "),
            }
        ),
        format!(
            "add `{KEY_FILE}` to `AuthorizedKeysFile` in /etc/ssh/sshd_config (or in a `Match User {}` there), and run `systemctl reload ssh`; or write the file that sshd reads with a `file` resource",
            user.name
        ),
    )
}

/// The file that a pattern of `AuthorizedKeysFile` means for a user.
fn expand(pattern: &str, user: &User) -> PathBuf {
    let mut path = String::new();
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            path.push(letter);
            continue;
        }
        match letters.next() {
            Some('h') => path.push_str(&user.home.display().to_string()),
            Some('u') => path.push_str(&user.name),
            Some('U') => path.push_str(&user.uid.to_string()),
            Some('%') => path.push('%'),
            other => path.extend(['%'].into_iter().chain(other)),
        }
    }
    user.home.join(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(settings: &str) -> (bool, String) {
        let user = User {
            name: "deploy".into(),
            uid: 7001,
            gid: 7001,
            comment: String::new(),
            home: "/home/deploy".into(),
            shell: "/bin/sh".into(),
        };
        let file = user.home.join(KEY_FILE);
        let check = judge("keys deploy", &user, true, &file, settings);
        (check.is_bad(), check.message().to_owned())
    }

    #[test]
    fn key_files_that_sshd_reads_are_found_in_every_spelling() {
        for files in [
            ".ssh/authorized_keys .ssh/authorized_keys2",
            "/etc/ssh/keys/%u %h/.ssh/authorized_keys",
            "/home/%u/.ssh/authorized_keys",
        ] {
            let settings =
                format!("port 22\npubkeyauthentication yes\nauthorizedkeysfile {files}\n");
            let (is_bad, message) = message(&settings);
            assert!(!is_bad, "{files}: {message}");
        }
    }

    #[test]
    fn keys_that_sshd_does_not_read_are_bad() {
        for (settings, part) in [
            (
                "authorizedkeysfile /etc/ssh/keys/%u",
                "but /etc/ssh/keys/deploy",
            ),
            ("authorizedkeysfile /k/%U%%%x", "but /k/7001%%x"),
            ("authorizedkeysfile none", "but no such file"),
            ("authorizedkeysfile ", "but no such file"),
            (
                "usepam no\nauthorizedkeysfile .ssh/authorized_keys",
                "does not use PAM",
            ),
            (
                "pubkeyauthentication no\nauthorizedkeysfile .ssh/authorized_keys",
                "accepts no keys",
            ),
        ] {
            let (is_bad, message) = message(settings);
            assert!(is_bad && message.contains(part), "{settings}: {message}");
        }
    }
}
