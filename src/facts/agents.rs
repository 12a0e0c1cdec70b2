//! Monitoring agents installed on the host, for roles that configure them only where they exist.

use std::path::Path;

use serde::Serialize;

use crate::ports::root::{FileKind, Root};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Agents {
    /// Whether the Datadog agent's program is installed. Its settings alone do not count: they outlive it.
    pub datadog: bool,
}

pub(super) fn probe(root: &Root) -> Agents {
    let is_there = |path: &str| {
        let meta = root.meta(Path::new(path)).ok().flatten();
        meta.is_some_and(|meta| meta.kind != FileKind::Directory)
    };
    Agents {
        datadog: is_there("/opt/datadog-agent/bin/agent/agent"),
    }
}
