//! Which agents of others run on the host, for roles that set them up where they are and nowhere else.

use std::path::Path;

use serde::Serialize;

use crate::ports::root::{FileKind, Root};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Agents {
    /// The Datadog agent is installed: its program, and not only its settings, which outlive it.
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
