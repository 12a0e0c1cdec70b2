//! The edge: where errors become text and an exit code, once.

use serde_json::json;

use super::Output;
use crate::exit::Exit;
use crate::pass::PassError;
use crate::problem::{Problem, Problems};

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Pass(#[from] PassError),
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Usage(Problem),
    /// What a person gave cannot be taken.
    #[error("{0}")]
    Input(#[from] Problems),
    /// What is asked for was found to be bad before.
    #[error("{0}")]
    Quarantined(Problem),
    #[error("{0}")]
    Failed(Problem),
    /// Told to, before the end.
    #[error("{0}")]
    Stopped(Problem),
}

impl Error {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Error::Usage(_) | Error::Pass(PassError::Asked(_)) => Exit::Usage,
            Error::Input(_) | Error::Pass(PassError::Input(_)) => Exit::BadInput,
            Error::Pass(PassError::Locked { .. }) => Exit::Locked,
            Error::Pass(PassError::Store(crate::ports::store::StoreError::Settings(_))) => {
                Exit::BadInput
            }
            Error::Pass(PassError::Lists(_)) => Exit::Stale,
            Error::Quarantined(_) => Exit::RolledBack,
            Error::Stopped(_) => Exit::Stopped,
            Error::Failed(_) | Error::Pass(_) => Exit::Failed,
        }
    }

    /// What went wrong, in one line.
    pub(super) fn line(&self) -> String {
        let first = self.problems().into_iter().next();
        let text = first.map_or(String::new(), |problem| problem.to_string());
        text.lines().next().unwrap_or_default().to_owned()
    }

    fn problems(&self) -> Vec<Problem> {
        match self {
            Error::Usage(problem)
            | Error::Quarantined(problem)
            | Error::Failed(problem)
            | Error::Stopped(problem) => vec![problem.clone()],
            Error::Input(problems) | Error::Pass(PassError::Input(problems)) => problems.0.clone(),
            Error::Pass(PassError::Asked(problem) | PassError::Foreign(problem)) => {
                vec![(**problem).clone()]
            }
            Error::Pass(PassError::Root(error)) => {
                let problem = Problem::new(error.to_string());
                vec![match error.hint() {
                    Some(hint) => problem.hint(hint),
                    None => problem,
                }]
            }
            Error::Pass(PassError::Ordered(failure)) => {
                vec![super::words::problem(failure.clone())]
            }
            Error::Pass(error) => vec![Problem::new(error.to_string())],
        }
    }
}

impl From<crate::ports::root::RootError> for Error {
    fn from(error: crate::ports::root::RootError) -> Error {
        Error::Pass(error.into())
    }
}

pub(crate) fn print(error: &Error, output: &Output) -> Exit {
    let exit = error.exit();
    if output.json {
        output.document(&json!({
            "version": crate::report::VERSION,
            "outcome": exit,
            "errors": error.problems(),
        }));
        return exit;
    }
    for problem in error.problems() {
        output.error(&format!("trueup: {problem}"));
    }
    if exit == Exit::BadInput {
        output.error("trueup: nothing was changed");
    }
    exit
}

/// What clap has to say: help and version are no errors.
pub(crate) fn usage(error: &clap::Error) -> Exit {
    let _ = error.print();
    if error.use_stderr() {
        Exit::Usage
    } else {
        Exit::Converged
    }
}
