//! Why a resource could not be inspected or changed. A failure of a resource is report data and ends no pass, so it
//! holds text, redacted and escaped, instead of the error that caused it.

use super::one_line;
use crate::ports::accounts::AccountsError;
use crate::ports::exec::{ExecError, block_quote};
use crate::ports::packages::PackagesError;
use crate::ports::root::RootError;
use crate::ports::secrets;
use crate::ports::services::ServiceError;
use crate::printable;
use crate::problem::Problem;

/// A problem with one resource, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub kind: FailureKind,
    pub message: String,
    /// Whether the message ends with what a program printed.
    pub quotes_output: bool,
    pub hint: Option<String>,
}

/// What a failure means to the stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// It went wrong, and will go wrong again until an operator sees to it.
    Error,
    /// An earlier planned change may make it work: a plan shows this as "unknown until …"; an apply treats it
    /// like an error.
    NotReady,
    /// The user who runs trueup lacks the permission to look there. Never so for root.
    PermissionDenied,
    /// Not an error: trueup was asked to stop, and the next pass continues.
    Stopped,
    /// A poll of a trial found what does not pass by waiting: the app is up and answers wrongly, or its processes
    /// ended for good.
    Permanent,
    /// The resource is not as described, but what depends on it may go on.
    Degraded,
    /// Another program on the host is in the way, so it says nothing about the release on trial.
    Conflict,
    /// Not an error: other hosts go first. A duty stays owed, and a later pass asks again.
    Deferred,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Failure {
        Failure {
            kind: FailureKind::Error,
            message: safe_text(message),
            quotes_output: false,
            hint: None,
        }
    }

    pub(crate) fn of_kind(kind: FailureKind, message: impl Into<String>) -> Failure {
        Failure {
            kind,
            ..Failure::new(message)
        }
    }

    pub(crate) fn is(&self, kind: FailureKind) -> bool {
        self.kind == kind
    }

    /// Another program on the host is in the way of the release on trial.
    pub(crate) fn conflict(message: impl Into<String>) -> Failure {
        Failure::of_kind(FailureKind::Conflict, message)
    }

    /// What a poll found does not pass by waiting.
    pub(crate) fn permanent(message: impl Into<String>) -> Failure {
        Failure::of_kind(FailureKind::Permanent, message)
    }

    /// Other hosts go first.
    pub(crate) fn deferred(why: impl Into<String>) -> Failure {
        Failure::of_kind(FailureKind::Deferred, why)
    }

    /// trueup was asked to stop.
    pub(crate) fn stopped() -> Failure {
        let message = "stopped on request; the next pass continues";
        Failure::of_kind(FailureKind::Stopped, message)
    }

    /// Something that an earlier resource should provide is missing.
    pub(crate) fn not_ready(message: impl Into<String>) -> Failure {
        Failure::of_kind(FailureKind::NotReady, message)
    }

    /// The user who runs trueup lacks the permission to look there.
    pub(crate) fn permission_denied(message: impl Into<String>) -> Failure {
        Failure::of_kind(FailureKind::PermissionDenied, message)
    }

    /// Puts words in front of the message.
    pub(crate) fn with_context(self, context: &str) -> Failure {
        let message = Failure::new(format!("{context}: {}", self.message)).message;
        Failure { message, ..self }
    }

    /// Appends detail to the message.
    pub(crate) fn with_detail(self, more: &str) -> Failure {
        let message = Failure::new(format!("{}{more}", self.message)).message;
        Failure { message, ..self }
    }

    /// Appends the last lines that a program printed.
    pub(crate) fn with_log_tail(self, lines: &str) -> Failure {
        let detail = format!("\n{}", block_quote(lines));
        Failure {
            quotes_output: true,
            ..self.with_detail(&detail)
        }
    }

    /// The message in one line: of what a program printed, the line that tells most.
    pub(crate) fn summary(&self) -> String {
        one_line(&self.message)
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(safe_text(hint));
        self
    }
}

/// Without secrets and control characters: the text may quote a program, a URL or a file.
fn safe_text(text: impl Into<String>) -> String {
    printable::text(&secrets::redact(text)).into_owned()
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Problem {
        Problem::new(failure.message).optional_hint(failure.hint)
    }
}

impl From<RootError> for Failure {
    fn from(error: RootError) -> Failure {
        let kind = match error.is_permission_denied() {
            true => FailureKind::PermissionDenied,
            false => FailureKind::Error,
        };
        let failure = Failure::of_kind(kind, error.to_string());
        // A resource has remedies of its own.
        let hint = match &error {
            RootError::UntrustedLink { link, in_exposed_folder: false, .. } => Some(format!(
                "if the link is intended, `chown -h root {0}`; otherwise find out who created {0}",
                link.display()
            )),
            RootError::UntrustedLink { link, .. } => Some(format!(
                "if the link is intended, create it as root in a folder that only root can write to, or describe the path behind it; otherwise find out who created {}",
                link.display()
            )),
            RootError::Io { errno: nix::errno::Errno::ENOENT, .. } => Some(
                "its folder does not exist: describe it in a `directory` before this, or set `parents: true` there".into(),
            ),
            error => error.hint(),
        };
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<ExecError> for Failure {
    fn from(error: ExecError) -> Failure {
        match error {
            ExecError::Stopped { .. } => Failure::stopped(),
            error => Failure {
                quotes_output: error.has_output(),
                hint: error.is_program_missing().then(|| {
                    "is the program installed (`package`), spelled so, and in a folder of PATH?"
                        .to_owned()
                }),
                ..Failure::new(error.to_string())
            },
        }
    }
}

impl From<AccountsError> for Failure {
    fn from(error: AccountsError) -> Failure {
        match error {
            AccountsError::Root(error) => error.into(),
            AccountsError::Exec(error) => error.into(),
            error @ AccountsError::TimedOut { .. } => Failure::new(error.to_string()).hint(
                "see whether the LDAP server and sssd work (`sssctl domain-list`, `systemctl status sssd`); the next pass asks again",
            ),
        }
    }
}

impl From<PackagesError> for Failure {
    fn from(error: PackagesError) -> Failure {
        match error {
            PackagesError::Root(error) => error.into(),
            PackagesError::Exec(error) if error.is_program_missing() => Failure::from(error)
                .hint("/etc/os-release names a distribution with rpm: install `rpm`"),
            PackagesError::Exec(error) => Failure::from(error)
                .hint("if rpm's database is damaged, `rpm --rebuilddb` may repair it"),
            error @ PackagesError::Rpm(_) => Failure::new(error.to_string()),
        }
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Failure {
        let failure = Failure::new(error.to_string());
        match error {
            // A package planned earlier may bring the supervisor.
            ServiceError::Unknown { .. } | ServiceError::Unreachable { .. } => Failure {
                kind: FailureKind::NotReady,
                ..failure
            },
            ServiceError::PermissionDenied { .. } => Failure {
                kind: FailureKind::PermissionDenied,
                ..failure
            },
            ServiceError::Failed { log, .. } if !log.is_empty() => {
                failure.with_log_tail(&log.join("\n"))
            }
            _ => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_manager_that_only_root_may_ask_is_no_error() {
        let denied = ServiceError::PermissionDenied {
            supervisor: "supervisord",
            why: "/run/supervisor.sock: Permission denied".into(),
        };
        let failure = Failure::from(denied);
        assert!(failure.is(FailureKind::PermissionDenied), "{failure:?}");
        assert_eq!(
            failure.message,
            "only root can ask supervisord: /run/supervisor.sock: Permission denied"
        );
    }

    #[test]
    fn neither_message_nor_hint_shows_a_registered_secret() {
        secrets::add_secret("hint-hunter2-hint");
        let failure = Failure::new("cannot reach ana:hint-hunter2-hint@git")
            .hint("try `curl https://ana:hint-hunter2-hint@git`")
            .with_context("with hint-hunter2-hint")
            .with_detail(" and hint-hunter2-hint")
            .with_log_tail("hint-hunter2-hint");
        let shown = failure.to_string();
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(shown.matches("(secret)").count(), 5, "{shown}");
    }
}
