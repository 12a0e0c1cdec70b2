//! The exit codes, and how two outcomes become one.

use std::process::ExitCode;

use serde::{Deserialize, Serialize};

/// How a command ended. The order is the merge rule: of two outcomes the later in this list wins,
/// so that failure always beats success and green never hides stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// The host is as described.
    Converged,
    /// `plan` and `status`: there are changes that a pass would make.
    Pending,
    /// Something waits for a slot, a canary, a hold or the end of a pin.
    Waiting,
    /// As described by a manifest or a list of peers that may be old: what would end the waiting may be
    /// in the one that was not seen. Or peers do not learn of the host, or no pass is made any more.
    Stale,
    /// A release was rolled back or is quarantined.
    RolledBack,
    /// Settings, a role, a template or the manifest cannot be taken.
    BadInput,
    /// Trueup was told to stop, and goes on in the next pass.
    Stopped,
    /// Something failed.
    Failed,
    /// Another pass is running.
    Locked,
    /// The command line cannot be taken.
    Usage,
}

impl Exit {
    /// Every outcome with its meaning, for the reference.
    pub const ALL: &[(Exit, &str)] = &[
        (Exit::Converged, "converged: the host is as described"),
        (Exit::Failed, "something failed; the report says what"),
        (Exit::Pending, "`plan` and `status`: changes are pending"),
        (
            Exit::Waiting,
            "waiting: for a slot, a canary, a hold or the end of a pin",
        ),
        (
            Exit::RolledBack,
            "a release was rolled back or is quarantined",
        ),
        (
            Exit::Stale,
            "converged from what was last good: the store did not answer, its list of peers is not taken, or peers do not learn of this host; `status`: no pass was made for three periods of the timer",
        ),
        (Exit::Usage, "the command line cannot be taken"),
        (Exit::Locked, "another pass is running on this host"),
        (
            Exit::BadInput,
            "bad settings, role, template or manifest; what was last good stays in force",
        ),
        (
            Exit::Stopped,
            "told to stop before the end; the next pass goes on from there",
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
            // What a shell reports of a process that SIGTERM ended.
            Exit::Stopped => 143,
        }
    }

    /// The one outcome of two.
    pub fn merge(self, other: Exit) -> Exit {
        self.max(other)
    }

    /// The word that reports and status use.
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
