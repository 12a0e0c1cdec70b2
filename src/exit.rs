//! Exit codes, and the rule that merges two outcomes into one.

use std::process::ExitCode;

use serde::{Deserialize, Serialize};

/// Outcome of a command. The order is the merge rule: of two outcomes the later variant wins, so that failure
/// beats success and `Converged` never hides `Stale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// The host matches its description.
    Converged,
    /// `plan`, `status` and `diff`: a pass would make changes.
    Pending,
    /// A change waits for the end of a hold or of a pin, or an app is in maintenance.
    Waiting,
    /// Converged on a manifest or a peer list that may be outdated: the version that the host did not read
    /// may end the waiting. Also: publishing the host's record fails, or passes are overdue.
    Stale,
    /// A release was rolled back or is quarantined.
    RolledBack,
    /// Settings, a role, a template or the manifest is invalid or refused.
    BadInput,
    /// A signal stopped the pass; the next pass resumes.
    Stopped,
    /// A resource or a stage of the pass failed.
    Failed,
    /// Another pass holds the lock.
    Locked,
    /// Invalid command line.
    Usage,
    /// The command waited, and what it waited for did not happen in time.
    TimedOut,
}

impl Exit {
    /// Every outcome with its meaning, for the reference in `docs/`.
    pub const ALL: &[(Exit, &str)] = &[
        (Exit::Converged, "converged: the host is as described"),
        (Exit::Failed, "something failed; the report says what"),
        (
            Exit::Pending,
            "`plan`, `status` and `diff`: changes are pending",
        ),
        (
            Exit::Waiting,
            "waiting: for the end of a hold, of a pin or of maintenance",
        ),
        (
            Exit::RolledBack,
            "a release was rolled back or is quarantined",
        ),
        (
            Exit::Stale,
            "converged to the last good state: the store did not answer, its peer list was refused, or this host's record could not be published; `status`: no pass for three periods of the timer, or the timer is off",
        ),
        (Exit::Usage, "invalid command line"),
        (
            Exit::TimedOut,
            "timed out: `rollout status --wait`, `publish --wait`, `balancer drain`, `undrain` and `eip claim` waited for as long as `--timeout` says",
        ),
        (Exit::Locked, "another pass is running on this host"),
        (
            Exit::BadInput,
            "bad settings, role, template or manifest; the last good ones stay in force",
        ),
        (
            Exit::Stopped,
            "stopped by a signal; the next pass continues from there",
        ),
    ];

    pub fn code(self) -> u8 {
        match self {
            Exit::Converged => 0,
            Exit::Failed => 1,
            Exit::Pending => 2,
            Exit::Waiting => 3,
            Exit::RolledBack => 4,
            Exit::Stale => 5,
            Exit::Usage => 64,
            Exit::Locked => 75,
            Exit::BadInput => 78,
            // The code of timeout(1).
            Exit::TimedOut => 124,
            // The code that a shell reports for a process that SIGTERM ended (128 + 15).
            Exit::Stopped => 143,
        }
    }

    /// Merges two outcomes; the later variant wins.
    pub fn merge(self, other: Exit) -> Exit {
        self.max(other)
    }

    /// Name in reports and in `status`.
    pub fn word(self) -> &'static str {
        match self {
            Exit::Converged => "converged",
            Exit::Failed => "failed",
            Exit::Pending => "pending",
            Exit::Waiting => "waiting",
            Exit::RolledBack => "rolled back",
            Exit::Stale => "stale",
            Exit::Usage => "usage",
            Exit::Locked => "locked",
            Exit::BadInput => "bad input",
            Exit::TimedOut => "timed out",
            Exit::Stopped => "stopped",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_wins_every_merge_and_converged_hides_nothing() {
        for (exit, _) in Exit::ALL {
            if *exit < Exit::Failed {
                assert_eq!(exit.merge(Exit::Failed), Exit::Failed);
            }
            assert_eq!(exit.merge(Exit::Converged), *exit);
        }
        assert_eq!(Exit::Stale.merge(Exit::Waiting), Exit::Stale);
    }

    #[test]
    fn every_code_is_different() {
        let mut codes: Vec<u8> = Exit::ALL.iter().map(|(exit, _)| exit.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Exit::ALL.len());
    }
}
