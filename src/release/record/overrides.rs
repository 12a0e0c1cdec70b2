//! A host's overrides of the manifest for an app: the shas that the gate quarantined, and the one that an
//! operator pinned. They outlive releases and their record.

use serde::{Deserialize, Serialize};

use super::pin::Pin;
use super::quarantine::QuarantinedSha;
use crate::desired::Sha;
use crate::ports::Host;
use crate::ports::state::{Document, StateError};
use crate::release::app::layout::Layout;
use crate::resource::Failure;

const VERSION: u32 = 1;

const DOCUMENT: Document = Document::new(VERSION, 4 << 20);

/// The overrides of one app.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Overrides {
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
    pub(crate) fn load(host: &Host, layout: &Layout) -> Result<Overrides, Failure> {
        let path = layout.overrides();
        let file: Option<OverridesFile> =
            DOCUMENT
                .load(&host.root, &path)
                .map_err(|error| match error {
                    StateError::Root(error) => error.into(),
                    error => Failure::new(format!(
                        "cannot use {}: {}",
                        path.display(),
                        error.why()
                    ))
                    .hint(
                        "it lists the shas that are quarantined or pinned here; remove the file to forget them",
                    ),
                })?;
        Ok(file.map_or_else(Overrides::default, |file| Overrides {
            quarantine: file.quarantine,
            pin: file.pin,
        }))
    }

    pub(crate) fn save(&self, host: &Host, layout: &Layout) -> Result<(), Failure> {
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
        Ok(DOCUMENT.save(&host.root, &path, &file)?)
    }

    /// Takes a sha out of the quarantine of an app. Writes only if it is there.
    pub(in crate::release) fn lift_quarantine(
        host: &Host,
        layout: &Layout,
        sha: &Sha,
    ) -> Result<(), Failure> {
        let mut overrides = Overrides::load(host, layout)?;
        if overrides.find_quarantined(sha).is_none() {
            return Ok(());
        }
        overrides
            .quarantine
            .retain(|quarantined| quarantined.sha != *sha);
        overrides.save(host, layout)
    }

    /// Whether the file is from an older trueup, which stored service output there, readable by everybody.
    pub(crate) fn has_multiline_reason(&self) -> bool {
        self.quarantine
            .iter()
            .any(|quarantined| quarantined.why.contains('\n'))
    }

    /// The quarantine of a sha, which prevents its activation here.
    pub(crate) fn find_quarantined(&self, sha: &Sha) -> Option<&QuarantinedSha> {
        self.quarantine
            .iter()
            .find(|quarantined| quarantined.sha == *sha)
    }

    pub(crate) fn quarantine(&mut self, entry: QuarantinedSha) {
        // Of those that only have its files one is enough: each commit of a monorepo may bring another one.
        let is_replaced = |old: &QuarantinedSha| {
            let both_same = old.same_files_as.is_some() && old.same_files_as == entry.same_files_as;
            old.sha == entry.sha || both_same
        };
        self.quarantine.retain(|old| !is_replaced(old));
        self.quarantine.push(entry);
    }

    /// The pin, as long as the manifest wants what it wanted when the pin was set.
    pub(crate) fn effective_pin(&self, wanted: Option<&Sha>) -> Option<&Pin> {
        self.pin
            .as_ref()
            .filter(|pin| pin.instead_of.as_ref() == wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::state::testing::assert_round_trip;

    #[test]
    fn example_overrides_survive_a_round_trip() {
        assert_round_trip::<OverridesFile>(&DOCUMENT, "overrides.json");
    }
}
