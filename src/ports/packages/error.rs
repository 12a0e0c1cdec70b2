//! Why the installed packages are unknown.

use crate::ports::exec::ExecError;
use crate::ports::root::RootError;

/// Reason why the installed packages are unknown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackagesError {
    #[error(transparent)]
    Root(#[from] RootError),
    #[error(transparent)]
    Exec(#[from] ExecError),
    #[error("cannot read rpm's database: {0}")]
    Rpm(String),
}
