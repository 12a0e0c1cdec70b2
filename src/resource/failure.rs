//! Why a resource could not be inspected or changed. A failure is report data and never ends a pass.

use crate::ports::exec::{ExecError, block_quote};
use crate::ports::root::RootError;
use crate::ports::secrets;
use crate::ports::services::ServiceError;
use crate::printable;

/// A problem with one resource, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub message: String,
    pub hint: Option<String>,
    /// An earlier planned change may make it work: a plan shows this as "unknown until …"; an apply treats it
    /// like any other failure.
    pub not_ready: bool,
    /// The user who runs trueup lacks the permission to look there. Never set for root.
    pub permission_denied: bool,
    /// Not an error: trueup was asked to stop, and the next pass continues.
    pub stopped: bool,
    /// Another program on the host is in the way, so it says nothing about the release on trial.
    pub conflict: bool,
}

impl Failure {
    pub fn new(message: impl Into<String>) -> Failure {
        Failure {
            // The message may hold a program's output, with secrets or control characters in it.
            message: printable::text(&secrets::redact(message)).into_owned(),
            hint: None,
            not_ready: false,
            permission_denied: false,
            stopped: false,
            conflict: false,
        }
    }

    /// Another program on the host is in the way of the release on trial.
    pub fn conflict(message: impl Into<String>) -> Failure {
        Failure {
            conflict: true,
            ..Failure::new(message)
        }
    }

    /// trueup was asked to stop.
    pub fn stopped() -> Failure {
        Failure {
            stopped: true,
            ..Failure::new("stopped on request; the next pass continues")
        }
    }

    /// Something that an earlier resource should provide is missing.
    pub fn not_ready(message: impl Into<String>) -> Failure {
        Failure {
            not_ready: true,
            ..Failure::new(message)
        }
    }

    /// The user who runs trueup lacks the permission to look there.
    pub fn permission_denied(message: impl Into<String>) -> Failure {
        Failure {
            permission_denied: true,
            ..Failure::new(message)
        }
    }

    /// Appends detail to the message.
    pub fn with_detail(self, more: &str) -> Failure {
        Failure {
            message: Failure::new(self.message + more).message,
            hint: self.hint,
            ..self
        }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(printable::text(&hint.into()).into_owned());
        self
    }
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

impl From<RootError> for Failure {
    fn from(error: RootError) -> Failure {
        let failure = Failure {
            permission_denied: error.is_permission_denied(),
            ..Failure::new(error.to_string())
        };
        match &error {
            RootError::UntrustedLink { link, .. } => failure.hint(format!(
                "if the link is intended, create it as root in a folder that only root can write to, or describe the path behind it; otherwise find out who created {}",
                link.display()
            )),
            error if error.is_disk_full() => {
                failure.hint("free space on that filesystem; nothing was changed, and the next pass continues from here")
            }
            RootError::Io { source: nix::errno::Errno::ENOENT, .. } => failure.hint(
                "its folder does not exist: describe it in a `directory` before this, or set `parents: true` there",
            ),
            RootError::Io { source: nix::errno::Errno::EPERM, .. }
            | RootError::Mounted { .. }
            | RootError::ForeignOwner { .. }
            | RootError::NotRegularFile { .. }
            | RootError::RemoveTimedOut { .. }
            | RootError::Leased { .. } => Failure {
                hint: error.hint(),
                ..failure
            },
            _ => failure,
        }
    }
}

impl From<ExecError> for Failure {
    fn from(error: ExecError) -> Failure {
        match error {
            ExecError::Stopped { .. } => Failure::stopped(),
            error => Failure::new(error.to_string()),
        }
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Failure {
        let failure = Failure::new(error.to_string());
        match error {
            // A package planned earlier may bring the supervisor.
            ServiceError::Unknown { .. } | ServiceError::Unreachable { .. } => Failure {
                not_ready: true,
                ..failure
            },
            ServiceError::Failed { log, .. } if !log.is_empty() => Failure::new(format!(
                "{}; its last lines:\n{}",
                failure.message,
                block_quote(&log.join("\n"))
            )),
            _ => failure,
        }
    }
}
