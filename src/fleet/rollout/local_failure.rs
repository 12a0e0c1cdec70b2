//! A failure that is a host's own: of a build, a preflight, a disk, a package. It comes before a permission, or is not the
//! sha's, so it counts against nobody and decides nothing.

use serde::{Deserialize, Serialize};

use crate::fleet::sanitize_line;
use crate::printable;

/// Maximum size of a log tail, in bytes.
const MAX_LOG_TAIL: usize = 1 << 10;

/// Why a host does not take the sha.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct LocalFailure {
    pub node: String,
    /// The stage that failed; `None`: none had begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// One line.
    pub reason: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub log_tail: String,
}

impl LocalFailure {
    pub(crate) fn new(
        node: &str,
        stage: Option<&str>,
        reason: &str,
        log_tail: &str,
    ) -> LocalFailure {
        let start = log_tail.len().saturating_sub(MAX_LOG_TAIL);
        let end = &log_tail[log_tail.ceil_char_boundary(start)..];
        LocalFailure {
            node: node.to_owned(),
            stage: stage.map(sanitize_line),
            reason: sanitize_line(reason),
            log_tail: printable::text(end).into_owned(),
        }
    }

    /// `build failed: no space left`.
    pub(crate) fn describe(&self) -> String {
        match &self.stage {
            Some(stage) => format!("{stage} failed: {}", self.reason),
            None => format!("it failed: {}", self.reason),
        }
    }
}
