//! Why a command ended early: as an exit code and as problems, for every caller.

use crate::desired::{EditError, PublishError, ShaChange};
use crate::exit::Exit;
use crate::fleet::rollout::RolloutError;
use crate::pass::PassError;
use crate::ports::root::RootError;
use crate::problem::{Problem, Problems};
use crate::release::SelectionError;
use crate::resource::{Failure, FailureKind};

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error(transparent)]
    Pass(#[from] PassError),
    /// The request asks for something impossible.
    #[error(transparent)]
    Usage(Problem),
    /// Invalid input from a person.
    #[error(transparent)]
    Input(#[from] Problems),
    /// The requested sha is quarantined.
    #[error(transparent)]
    Quarantined(Problem),
    /// A hold in force is in the way.
    #[error(transparent)]
    Held(Problem),
    /// Somebody else moved these apps since the decision to publish; nothing was written.
    #[error("{}", overtaken_problem(.0))]
    Overtaken(Vec<ShaChange>),
    #[error(transparent)]
    Failed(Problem),
    /// What the command waited for did not happen in time.
    #[error(transparent)]
    TimedOut(Problem),
    /// A signal stopped the command before its end.
    #[error(transparent)]
    Stopped(Problem),
}

impl CommandError {
    pub(crate) fn failed(message: impl Into<String>) -> CommandError {
        CommandError::Failed(Problem::new(message))
    }

    pub(crate) fn input(problem: Problem) -> CommandError {
        CommandError::Input(problem.into())
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            CommandError::Pass(error) => error.exit(),
            CommandError::Usage(_) => Exit::Usage,
            CommandError::Input(_) => Exit::BadInput,
            CommandError::Quarantined(_) => Exit::RolledBack,
            CommandError::Held(_) | CommandError::Overtaken(_) => Exit::Waiting,
            CommandError::Stopped(_) => Exit::Stopped,
            CommandError::Failed(_) => Exit::Failed,
            CommandError::TimedOut(_) => Exit::TimedOut,
        }
    }

    /// The first problem, in one line.
    pub(crate) fn summary(&self) -> String {
        let first = self.problems().into_iter().next();
        let text = first.map_or(String::new(), |problem| problem.to_string());
        text.lines().next().unwrap_or_default().to_owned()
    }

    pub(crate) fn problems(&self) -> Vec<Problem> {
        match self {
            CommandError::Usage(problem)
            | CommandError::Quarantined(problem)
            | CommandError::Held(problem)
            | CommandError::Failed(problem)
            | CommandError::TimedOut(problem)
            | CommandError::Stopped(problem) => vec![problem.clone()],
            CommandError::Overtaken(changes) => vec![overtaken_problem(changes)],
            CommandError::Input(problems) => problems.0.clone(),
            CommandError::Pass(error) => pass_problems(error),
        }
    }
}

fn overtaken_problem(changes: &[ShaChange]) -> Problem {
    let message = EditError::Overtaken(changes.to_vec()).to_string();
    Problem::new(message).hint("nothing was written; run it again")
}

fn pass_problems(error: &PassError) -> Vec<Problem> {
    match error {
        PassError::Input(problems) => problems.0.clone(),
        PassError::Usage(problem) | PassError::ForeignLock(problem) => vec![(**problem).clone()],
        PassError::Root(error) => {
            vec![Problem::new(error.to_string()).optional_hint(error.hint())]
        }
        PassError::LiftQuarantine(failure) => vec![failure.clone().into()],
        PassError::Store(store) | PassError::NoPeerList(store) | PassError::NoManifest(store) => {
            vec![Problem::new(error.to_string()).optional_hint(store.hint())]
        }
        PassError::PeerList(_) | PassError::NoPolicy(_) | PassError::Locked { .. } => {
            vec![Problem::new(error.to_string())]
        }
    }
}

impl From<RootError> for CommandError {
    fn from(error: RootError) -> CommandError {
        CommandError::Pass(error.into())
    }
}

impl From<Failure> for CommandError {
    fn from(failure: Failure) -> CommandError {
        match failure.kind {
            FailureKind::Stopped => CommandError::Stopped(failure.into()),
            _ => CommandError::Failed(failure.into()),
        }
    }
}

impl From<SelectionError> for CommandError {
    fn from(refused: SelectionError) -> CommandError {
        let error = match refused {
            SelectionError::Quarantined(_) => CommandError::Quarantined,
            SelectionError::Failed(_) => CommandError::Failed,
            _ => CommandError::Usage,
        };
        error(Failure::from(refused).into())
    }
}

impl From<RolloutError> for CommandError {
    fn from(error: RolloutError) -> CommandError {
        let hint = error.hint();
        match error {
            RolloutError::Store(error) => PassError::Store(error).into(),
            RolloutError::Object { .. }
            | RolloutError::Newer { .. }
            | RolloutError::Manifest { .. } => {
                CommandError::input(Problem::new(error.to_string()).optional_hint(hint))
            }
            RolloutError::Unconditional { .. }
            | RolloutError::Busy { .. }
            | RolloutError::JournalStore(_) => {
                CommandError::Failed(Problem::new(error.to_string()).optional_hint(hint))
            }
        }
    }
}

impl From<PublishError> for CommandError {
    fn from(error: PublishError) -> CommandError {
        let message = error.to_string();
        match error {
            PublishError::Edit(EditError::Manifest(problem)) => CommandError::input(*problem),
            PublishError::Edit(EditError::Request(problem) | EditError::Protected(problem)) => {
                CommandError::Usage(*problem)
            }
            PublishError::Edit(EditError::Held(problem)) => CommandError::Held(*problem),
            PublishError::Edit(EditError::Overtaken(changes)) => CommandError::Overtaken(changes),
            PublishError::Edit(EditError::Outdated(_) | EditError::Moved { .. }) => {
                CommandError::Failed(
                    Problem::new(message).hint("nothing was published; run the command again"),
                )
            }
            PublishError::Store(error) => PassError::Store(error).into(),
            PublishError::Unconfirmed(_) => CommandError::Failed(
                Problem::new(message)
                    .hint("publish again: a sha that is already set is not written twice"),
            ),
            PublishError::Busy { .. } => CommandError::Failed(
                Problem::new(message).hint("nothing was written; publish again"),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_that_a_signal_stopped_does_not_end_as_failed() {
        let exit = |failure: Failure| CommandError::from(failure).exit();
        assert_eq!(exit(Failure::stopped()), Exit::Stopped);
        assert_eq!(exit(Failure::new("no space")), Exit::Failed);
    }
}
