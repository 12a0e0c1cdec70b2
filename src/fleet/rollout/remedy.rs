//! What a host that may not go on waits for, and the command with which an operator mends it.

use std::fmt;

use super::decide::{HeldSlot, Obstacle};
use super::entry::{HaltCause, HaltRecord};
use crate::desired::Sha;
use crate::fleet::WAITS_FOR_SLOT;

/// How an obstacle goes away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remedy {
    /// For example `waits for the canary web1`.
    pub waits_for: String,
    /// What an operator does if it does not go away by itself; `None`: other hosts say it.
    pub command: Option<Command>,
}

/// A command of an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Publishes another sha.
    Publish,
    /// Publishes the one before.
    Rollback,
    /// Lifts the hold of the manifest, so that this sha goes on.
    LiftHold(Sha),
    LiftQuarantine(Sha),
    Resume,
    SkipCanary,
    SkipAfter,
    BreakSlot(HeldSlot),
    RetryStep {
        step: String,
        sha: Sha,
    },
    Reset,
}

/// A command for an app of an environment.
pub(crate) struct CommandLine<'a> {
    pub command: &'a Command,
    pub environment: &'a str,
    pub app: &'a str,
}

impl fmt::Display for CommandLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (environment, app) = (self.environment, self.app);
        match self.command {
            Command::Publish => write!(f, "trueup publish {environment} {app}=SHA"),
            Command::Rollback => write!(f, "trueup rollback {environment} {app}"),
            Command::LiftHold(sha) => {
                write!(f, "trueup publish {environment} {app}={sha} --lift-hold")
            }
            Command::LiftQuarantine(sha) => {
                write!(
                    f,
                    "trueup rollout quarantine lift {environment} {app} --sha {sha} --reason TEXT"
                )
            }
            Command::Resume => write!(f, "trueup rollout resume {environment} {app} --reason TEXT"),
            Command::SkipCanary => {
                write!(
                    f,
                    "trueup rollout skip-canary {environment} {app} --reason TEXT"
                )
            }
            Command::SkipAfter => {
                write!(
                    f,
                    "trueup rollout skip-after {environment} {app} --reason TEXT"
                )
            }
            Command::BreakSlot(held) => {
                let number = held.number;
                write!(
                    f,
                    "trueup rollout break-slot {environment} {app} {number} --reason TEXT"
                )
            }
            Command::RetryStep { step, .. } => write!(
                f,
                "trueup rollout once {environment} {app} {step} --resolve retry --reason TEXT"
            ),
            Command::Reset => write!(f, "trueup rollout reset {environment} {app} --reason TEXT"),
        }
    }
}

impl Remedy {
    /// Of a host that waits until one of these slots is free.
    pub(super) fn of_slots(held: &[HeldSlot]) -> Remedy {
        let holders = held.iter();
        let holders = holders.map(|held| format!("{} has slot {}", held.node, held.number));
        let mut why = holders.collect::<Vec<_>>().join(", ");
        if held.is_empty() {
            // Between this host's look at a free slot and its write.
            why = "another host has just taken it".into();
        }
        Remedy {
            waits_for: format!("{WAITS_FOR_SLOT}: {why}"),
            command: held.first().cloned().map(Command::BreakSlot),
        }
    }

    /// In one line, for people.
    pub(crate) fn describe(&self, environment: &str, app: &str) -> String {
        let command = self.command.as_ref().map(|command| CommandLine {
            command,
            environment,
            app,
        });
        match command {
            Some(command) => format!("{}; `{command}`", self.waits_for),
            None => self.waits_for.clone(),
        }
    }
}

impl Obstacle {
    /// Whether other hosts usually make it go away, so that an operator has nothing to do yet.
    pub(crate) fn passes_by_itself(&self) -> bool {
        match self {
            Obstacle::OldManifest
            | Obstacle::Counting
            | Obstacle::Canaries(_)
            | Obstacle::After(_)
            | Obstacle::Unproven
            | Obstacle::Slots(_)
            | Obstacle::SlotBroken
            | Obstacle::OtherGroup { .. }
            | Obstacle::Claimed { .. } => true,
            Obstacle::Quarantined { .. }
            | Obstacle::Halted(_)
            | Obstacle::Held(_)
            | Obstacle::FailedHere(_)
            | Obstacle::StepFailed { .. } => false,
        }
    }

    /// How it goes away. `sha`: the wanted one.
    pub(crate) fn remedy(&self, sha: &Sha) -> Remedy {
        let (waits_for, command) = match self {
            Obstacle::OldManifest => (
                "waits for the manifest on which other hosts have acted; is the store an older copy?"
                    .into(),
                Some(Command::Reset),
            ),
            Obstacle::Quarantined { by, reason } => (
                format!("{} is quarantined since it failed on {by}: {reason}", sha.short()),
                Some(Command::Rollback),
            ),
            Obstacle::Halted(halt) => return halt.remedy(sha),
            Obstacle::Held(hold) => (format!("it is {hold}"), Some(Command::LiftHold(sha.clone()))),
            Obstacle::Counting => ("waits until the hosts of the app are counted".into(), None),
            Obstacle::Canaries(nodes) => (
                format!("waits for the {} {}", plural(nodes.len(), "canary", "canaries"), nodes.join(", ")),
                Some(Command::SkipCanary),
            ),
            Obstacle::After(app) => (
                format!("waits for {app}, which is not done"),
                Some(Command::SkipAfter),
            ),
            Obstacle::Unproven => (
                "waits until a host that serves has shown that the sha works".into(),
                None,
            ),
            Obstacle::FailedHere(reason) => (
                format!("failed here: {reason}"),
                Some(Command::LiftQuarantine(sha.clone())),
            ),
            Obstacle::Slots(held) => return Remedy::of_slots(held),
            Obstacle::SlotBroken => ("its slot was broken; it asks for another one".into(), None),
            Obstacle::OtherGroup { group, held } => (
                format!("waits for {}, of the group {group}", held.node),
                Some(Command::BreakSlot(held.clone())),
            ),
            Obstacle::Claimed { node, step, sha } => (
                format!("waits for {node}, which runs the step `{step}` for all"),
                Some(Command::RetryStep {
                    step: step.clone(),
                    sha: sha.clone(),
                }),
            ),
            Obstacle::StepFailed { step, .. } => (
                format!("the step `{step}`, which one host runs for all, failed"),
                Some(Command::RetryStep {
                    step: step.clone(),
                    sha: sha.clone(),
                }),
            ),
        };
        Remedy { waits_for, command }
    }
}

impl HaltRecord {
    fn remedy(&self, sha: &Sha) -> Remedy {
        let (by, reason) = (&self.by, &self.reason);
        let (why, command) = match (self.cause, &self.step) {
            (HaltCause::Quarantined, _) => ("the sha failed on", Command::Rollback),
            (HaltCause::Environment, _) => (
                "the release of before does not work any more either, see",
                Command::Resume,
            ),
            (HaltCause::NoCanary, _) => ("no canary was found by", Command::SkipCanary),
            (HaltCause::OnceStep, Some(step)) => (
                "a step for all failed on",
                Command::RetryStep {
                    step: step.clone(),
                    sha: sha.clone(),
                },
            ),
            (HaltCause::OnceStep | HaltCause::Other, _) => ("halted by", Command::Resume),
        };
        Remedy {
            waits_for: format!("{why} {by}: {reason}"),
            command: Some(command),
        }
    }
}

/// The command with which an operator lets a halted entry go on, if there is one.
pub(crate) fn halt_command(
    halt: &HaltRecord,
    sha: &Sha,
    (environment, app): (&str, &str),
) -> Option<String> {
    let command = halt.remedy(sha).command?;
    let line = CommandLine {
        command: &command,
        environment,
        app,
    };
    Some(line.to_string())
}

fn plural<'a>(count: usize, one: &'a str, many: &'a str) -> &'a str {
    match count {
        1 => one,
        _ => many,
    }
}
