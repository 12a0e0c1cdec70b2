//! What keeps an account from logging in although its keys are right: PAM refuses an aged password even if it is
//! locked, and an expired account; sshd refuses one without its shell.

use std::path::Path;

use crate::kinds::shadow_utils;
use crate::ports::Host;
use crate::ports::accounts::PasswordState;
use crate::resource::Failure;

/// Passwords that may be older than this count as not ageing: 99999 days is the usual value.
const MAX_DAYS: i64 = 10_000;

const SECONDS_PER_DAY: i64 = 86_400;

/// The ageing of a password that nobody can use: nobody could change it either, so at its end nobody logs in any
/// more, not even with a key. `None`: it does not age, or it is one that a person uses.
pub(super) fn ageing(password: &PasswordState) -> Option<String> {
    if !password.is_unusable() {
        return None;
    }
    if password.last_change == Some(0) {
        return Some("has to be changed at the next login".into());
    }
    let days = password.max_age.filter(|days| *days < MAX_DAYS)?;
    password.last_change?;
    Some(format!("has to be changed every {days} days"))
}

/// Since when the account has expired, as a date; `None`: it has not.
pub(super) fn expired_since(password: &PasswordState, host: &Host) -> Option<String> {
    let today = host.clock.now().as_second().div_euclid(SECONDS_PER_DAY);
    let end = password.expires.filter(|end| *end <= today)?;
    let date = jiff::Timestamp::from_second(end.checked_mul(SECONDS_PER_DAY)?).ok()?;
    Some(date.strftime("%F").to_string())
}

/// Arguments of `useradd` for a password that does not age, whatever the host's defaults are. Such defaults are
/// for people; this account has no password.
pub(super) const NO_AGEING: [&str; 4] = ["-K", "PASS_MAX_DAYS=-1", "-f", "-1"];

/// Ends the ageing of the password of an existing account.
pub(super) fn end_ageing(name: &str, password: &PasswordState, host: &Host) -> Result<(), Failure> {
    let mut args = vec!["-M", "-1", "-I", "-1"];
    if password.last_change == Some(0) {
        args.extend(["-d", "-1"]);
    }
    args.push(name);
    shadow_utils::run(host, "chage", &args)
}

/// Refuses a shell that the host does not have. In a sandbox nobody logs in.
pub(super) fn check_shell(shell: &Path, host: &Host) -> Result<(), Failure> {
    if !host.root.is_real() {
        return Ok(());
    }
    let real = host.root.canonicalize(shell)?;
    let meta = match &real {
        Some(real) => host.root.meta(real)?,
        None => None,
    };
    let shown = shell.display();
    match meta {
        Some(meta) if meta.mode & 0o111 != 0 => Ok(()),
        Some(_) => Err(Failure::new(format!(
            "the shell {shown} is not executable, so sshd would let nobody log in"
        ))
        .hint(format!("name another, or `chmod +x {shown}`"))),
        None => Err(Failure::not_ready(format!(
            "there is no shell {shown} on this host, so sshd would let nobody log in"
        ))
        .hint(format!(
            "describe the package that brings {shown} in a `package` resource before this one, or name a shell of this host: /etc/shells lists them"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::testing::Sandbox;

    fn password(line: &str) -> PasswordState {
        PasswordState::parse(line).unwrap()
    }

    #[test]
    fn only_passwords_that_nobody_can_use_must_not_age() {
        for (line, expected) in [
            ("deploy:!:20000:0:90:7:30::", Some("every 90 days")),
            ("deploy:*:20000:0:365:7:::", Some("every 365 days")),
            ("deploy:!$6$salt$hash:0:0:99999:7:::", Some("next login")),
            ("deploy:!:20000:0:99999:7:::", None),
            ("deploy:!:20000::::::", None),
            ("deploy:!::0:90:7:::", None),
            ("ana:$6$salt$hash:20000:0:90:7:::", None),
        ] {
            let found = ageing(&password(line));
            match expected {
                Some(part) => assert!(found.unwrap().contains(part), "{line}"),
                None => assert_eq!(found, None, "{line}"),
            }
        }
    }

    #[test]
    fn account_counts_as_expired_from_its_last_day_on() {
        let sandbox = Sandbox::empty();
        // The clock of a sandbox shows 21 November 2026: day 20778.
        let since = |line: &str| expired_since(&password(line), &sandbox.host);
        assert_eq!(since("a:!:1:0::7::20779:"), None);
        assert_eq!(since("a:!:1:0::7::20778:").as_deref(), Some("2026-11-21"));
        assert_eq!(since("a:!:1:0::7::1:").as_deref(), Some("1970-01-02"));
        assert_eq!(since("a:!:1:0::7:::"), None);
    }
}
