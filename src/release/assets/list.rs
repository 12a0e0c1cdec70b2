//! Which compiled files belong to a release: what it made, or would have made had they not been there.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ports::Host;
use crate::ports::root::Attrs;
use crate::release::Layout;
use crate::resource::Failure;

const VERSION: u32 = 1;

/// No list that trueup reads is larger, in bytes.
const MAX_LIST: usize = 64 << 20;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct List {
    /// Ways below `assets.path`, and below `shared/assets`.
    pub files: BTreeSet<String>,
    /// Ways below `assets.path` of what is the release's alone: its manifests.
    pub own: BTreeSet<String>,
    /// Since when the release is gone.
    pub gone: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gone: Option<Timestamp>,
    files: BTreeSet<String>,
    own: BTreeSet<String>,
}

impl List {
    /// `None`: there is none, or none that can be read.
    pub fn load(host: &Host, layout: &Layout, name: &str) -> Result<Option<List>, Failure> {
        let Some(text) = host.root.read(&layout.asset_list(name), MAX_LIST)? else {
            return Ok(None);
        };
        let written = serde_json::from_slice::<Written>(&text).ok();
        let written = written.filter(|written| written.version == VERSION);
        Ok(written.map(|written| List {
            files: written.files,
            own: written.own,
            gone: written.gone,
        }))
    }

    pub fn save(&self, host: &Host, layout: &Layout, name: &str) -> Result<(), Failure> {
        let written = Written {
            version: VERSION,
            gone: self.gone,
            files: self.files.clone(),
            own: self.own.clone(),
        };
        let body = serde_json::to_vec(&written).expect("plain data is always JSON");
        host.root
            .make_dirs(&layout.asset_lists(), &Attrs::mode(0o755))?;
        let path = layout.asset_list(name);
        Ok(host.root.replace(&path, &body, &Attrs::mode(0o644))?)
    }
}
