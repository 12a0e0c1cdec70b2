//! Errors of commands; converts them to text and an exit code, once.

use serde_json::json;

use super::Output;
use crate::exit::Exit;
use crate::pass::PassError;
use crate::problem::{Problem, Problems};
use crate::release::SelectionError;
use crate::resource::Failure;

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error("{0}")]
    Pass(#[from] PassError),
    /// The command line asks for something impossible.
    #[error("{0}")]
    Usage(Problem),
    /// Invalid input from a person.
    #[error("{0}")]
    Input(#[from] Problems),
    /// The requested sha is quarantined.
    #[error("{0}")]
    Quarantined(Problem),
    #[error("{0}")]
    Failed(Problem),
    /// A signal stopped the command before its end.
    #[error("{0}")]
    Stopped(Problem),
}

impl CliError {
    pub(super) fn failed(message: impl Into<String>) -> CliError {
        CliError::Failed(Problem::new(message))
    }

    pub(super) fn exit(&self) -> Exit {
        match self {
            CliError::Usage(_) | CliError::Pass(PassError::Usage(_)) => Exit::Usage,
            CliError::Input(_) | CliError::Pass(PassError::Input(_)) => Exit::BadInput,
            CliError::Pass(PassError::Locked { .. }) => Exit::Locked,
            CliError::Pass(PassError::Store(crate::ports::store::StoreError::Settings(_))) => {
                Exit::BadInput
            }
            CliError::Pass(PassError::PeerList(_)) => Exit::Stale,
            CliError::Quarantined(_) => Exit::RolledBack,
            CliError::Stopped(_) => Exit::Stopped,
            CliError::Failed(_) | CliError::Pass(_) => Exit::Failed,
        }
    }

    /// The first problem, in one line.
    pub(super) fn summary(&self) -> String {
        let first = self.problems().into_iter().next();
        let text = first.map_or(String::new(), |problem| problem.to_string());
        text.lines().next().unwrap_or_default().to_owned()
    }

    fn problems(&self) -> Vec<Problem> {
        match self {
            CliError::Usage(problem)
            | CliError::Quarantined(problem)
            | CliError::Failed(problem)
            | CliError::Stopped(problem) => vec![problem.clone()],
            CliError::Input(problems) | CliError::Pass(PassError::Input(problems)) => {
                problems.0.clone()
            }
            CliError::Pass(PassError::Usage(problem) | PassError::ForeignLock(problem)) => {
                vec![(**problem).clone()]
            }
            CliError::Pass(PassError::Root(error)) => {
                let problem = Problem::new(error.to_string());
                vec![match error.hint() {
                    Some(hint) => problem.hint(hint),
                    None => problem,
                }]
            }
            CliError::Pass(PassError::LiftQuarantine(failure)) => {
                vec![to_problem(failure.clone())]
            }
            CliError::Pass(error) => vec![Problem::new(error.to_string())],
        }
    }
}

impl From<crate::ports::root::RootError> for CliError {
    fn from(error: crate::ports::root::RootError) -> CliError {
        CliError::Pass(error.into())
    }
}

pub(crate) fn print_error(error: &CliError, output: &Output) -> Exit {
    let exit = error.exit();
    if output.is_document() {
        output.print_document(&json!({
            "version": crate::report::VERSION,
            "outcome": exit,
            "errors": error.problems(),
        }));
        return exit;
    }
    for problem in error.problems() {
        output.print_error(&format!("trueup: {problem}"));
    }
    if exit == Exit::BadInput {
        output.print_error("trueup: nothing was changed");
    }
    exit
}

/// Prints clap's message; help and version are no errors.
pub(crate) fn print_clap_message(error: &clap::Error) -> Exit {
    let _ = error.print();
    if error.use_stderr() {
        Exit::Usage
    } else {
        Exit::Converged
    }
}

/// Turns a failure of the pipeline into a command error.
pub(super) fn command_failed(failure: Failure) -> CliError {
    CliError::Failed(to_problem(failure))
}

fn to_problem(failure: Failure) -> Problem {
    let problem = Problem::new(failure.message);
    match failure.hint {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}

/// Turns the refusal to select a release into a command error.
pub(super) fn refusal_error(refused: SelectionError) -> CliError {
    match refused {
        SelectionError::InvalidRequest(failure) => CliError::Usage(to_problem(failure)),
        SelectionError::Quarantined(failure) => CliError::Quarantined(to_problem(failure)),
        SelectionError::Other(failure) => command_failed(failure),
    }
}
