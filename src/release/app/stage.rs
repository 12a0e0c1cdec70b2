//! The stages of the pipeline.

use serde::{Deserialize, Serialize};

/// The stages that a release goes through, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stage {
    Fetch,
    Materialise,
    Link,
    Build,
    Assets,
    Migrate,
    Preflight,
    Activate,
    Gate,
    Keep,
}

impl Stage {
    pub(crate) const ALL: [Stage; 10] = [
        Stage::Fetch,
        Stage::Materialise,
        Stage::Link,
        Stage::Build,
        Stage::Assets,
        Stage::Migrate,
        Stage::Preflight,
        Stage::Activate,
        Stage::Gate,
        Stage::Keep,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Stage::Fetch => "fetch",
            Stage::Materialise => "materialise",
            Stage::Link => "link",
            Stage::Build => "build",
            Stage::Assets => "assets",
            Stage::Migrate => "migrate",
            Stage::Preflight => "preflight",
            Stage::Activate => "activate",
            Stage::Gate => "gate",
            Stage::Keep => "keep",
        }
    }
}
