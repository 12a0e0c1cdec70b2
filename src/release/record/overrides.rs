//! A host's overrides of the manifest for an app: the shas that the gate quarantined, and the one that an
//! operator pinned. They outlive releases and their record.

use serde::{Deserialize, Serialize};

use super::pin::Pin;
use super::quarantine::QuarantinedSha;
use crate::desired::Sha;
use crate::ports::Host;
use crate::ports::root::Attrs;
use crate::release::app::layout::Layout;
use crate::resource::Failure;

const VERSION: u32 = 1;

/// Largest file of overrides, in bytes.
const MAX_OVERRIDES: usize = 4 << 20;

/// The overrides of one app.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    pub quarantine: Vec<QuarantinedSha>,
    pub pin: Option<Pin>,
}

#[derive(Serialize, Deserialize)]
struct OverridesFile {
    version: u32,
    #[serde(default)]
    quarantine: Vec<QuarantinedSha>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pin: Option<Pin>,
}

impl Overrides {
    /// Loads the overrides of this host. An unreadable file is an error and not "no overrides": a bad sha
    /// must not come back because a file was damaged.
    pub fn load(host: &Host, layout: &Layout) -> Result<Overrides, Failure> {
        let path = layout.overrides();
        let Some(text) = host.root.read(&path, MAX_OVERRIDES)? else {
            return Ok(Overrides::default());
        };
        let refused = |why: String| {
            Failure::new(format!("{} cannot be taken: {why}", path.display())).hint(
                "it holds which shas are quarantined or pinned here; if that may be forgotten, remove the file",
            )
        };
        let file: OverridesFile =
            serde_json::from_slice(&text).map_err(|error| refused(error.to_string()))?;
        if file.version != VERSION {
            return Err(refused(format!(
                "it is of version {}, and this trueup knows {VERSION}",
                file.version
            )));
        }
        Ok(Overrides {
            quarantine: file.quarantine,
            pin: file.pin,
        })
    }

    pub fn save(&self, host: &Host, layout: &Layout) -> Result<(), Failure> {
        let path = layout.overrides();
        if *self == Overrides::default() {
            return Ok(host.root.remove_file(&path)?);
        }
        let mut quarantine = self.quarantine.clone();
        quarantine
            .iter_mut()
            .for_each(QuarantinedSha::truncate_reason);
        let file = OverridesFile {
            version: VERSION,
            quarantine,
            pin: self.pin.clone(),
        };
        let body = serde_json::to_vec_pretty(&file).expect("plain data is always JSON");
        if let Some(folder) = path.parent() {
            host.root.create_dir_all(folder, &Attrs::mode(0o755))?;
        }
        Ok(host.root.write_atomic(&path, &body, &Attrs::mode(0o644))?)
    }

    /// Whether the file is from an older trueup, which stored service output there, readable by everybody.
    pub fn has_multiline_reason(&self) -> bool {
        self.quarantine
            .iter()
            .any(|quarantined| quarantined.why.contains('\n'))
    }

    /// The quarantine of a sha, which prevents its activation here.
    pub fn find_quarantined(&self, sha: &Sha) -> Option<&QuarantinedSha> {
        self.quarantine
            .iter()
            .find(|quarantined| quarantined.sha == *sha)
    }

    pub fn quarantine(&mut self, entry: QuarantinedSha) {
        self.quarantine.retain(|old| old.sha != entry.sha);
        self.quarantine.push(entry);
    }

    /// The pin, as long as the manifest wants what it wanted when the pin was set.
    pub fn effective_pin(&self, wanted: Option<&Sha>) -> Option<&Pin> {
        self.pin
            .as_ref()
            .filter(|pin| pin.instead_of.as_ref() == wanted)
    }
}
