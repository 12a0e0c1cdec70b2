//! An operator's decision that this host must not have the virtual address: it holds until the operator ends it, also
//! over a reboot.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ports::STATE_DIR;
use crate::ports::root::{Attrs, Root, RootError};
use crate::ports::state::{Document, StateError};

const VERSION: u32 = 1;

/// The user of the check reads it.
const DOCUMENT: Document = Document::new(VERSION, 64 << 10);

/// This balancer is drained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Drain {
    pub by: String,
    pub since: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct DrainFile {
    version: u32,
    #[serde(flatten)]
    drain: Drain,
}

impl Drain {
    /// A file that cannot be read is an error and not "not drained": the check fails for any file.
    pub(crate) fn load(root: &Root) -> Result<Option<Drain>, StateError> {
        let file: Option<DrainFile> = DOCUMENT.load(root, &path())?;
        Ok(file.map(|file| file.drain))
    }

    /// Takes effect at once: keepalived follows the mark without waiting for the next check.
    pub(crate) fn save(&self, root: &Root) -> Result<(), RootError> {
        let file = DrainFile {
            version: VERSION,
            drain: self.clone(),
        };
        DOCUMENT.save(root, &path(), &file)?;
        root.write_atomic(&mark(), b"1\n", &Attrs::mode(0o644))
    }

    /// Ends it. Returns whether there was one. The mark first: without the record, nothing would show that it still holds.
    pub(crate) fn remove(root: &Root) -> Result<bool, RootError> {
        let is_drained = root.meta(&path())?.is_some();
        for path in [mark(), path()] {
            if root.meta(&path)?.is_some() {
                root.remove_file(&path)?;
            }
        }
        Ok(is_drained)
    }

    /// One line about this host, also if the record cannot be read; `None`: it is not drained.
    pub(crate) fn describe_host(root: &Root) -> Option<String> {
        match Drain::load(root) {
            Ok(drain) => drain.map(|drain| drain.describe()),
            Err(error) => Some(format!("drained, with a damaged record: {}", error.why())),
        }
    }

    pub(crate) fn describe(&self) -> String {
        let reason = self.reason.as_deref().unwrap_or("no reason given");
        format!("drained by {} since {:.0}: {reason}", self.by, self.since)
    }
}

fn path() -> PathBuf {
    Path::new(STATE_DIR).join("balancer/drain.json")
}

/// What the `track_file` of the role `keepalived` reads: not 0 is drained.
fn mark() -> PathBuf {
    Path::new(STATE_DIR).join("balancer/drained")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::state::testing::assert_round_trip;
    use crate::ports::testing::Sandbox;

    #[test]
    fn example_of_a_drain_survives_a_round_trip() {
        assert_round_trip::<DrainFile>(&DOCUMENT, "balancer-drain.json");
    }

    #[test]
    fn drain_holds_until_it_is_removed_and_a_corrupt_one_as_well() {
        let sandbox = Sandbox::with_base_system();
        let root = &sandbox.host.root;
        assert_eq!(Drain::load(root).unwrap(), None);
        let drain = Drain {
            by: "ana".into(),
            since: sandbox.host.clock.now(),
            reason: None,
        };
        drain.save(root).unwrap();
        assert_eq!(Drain::load(root).unwrap(), Some(drain));
        assert_eq!(sandbox.read("/var/lib/trueup/balancer/drained"), "1\n");
        sandbox.write("/var/lib/trueup/balancer/drain.json", "{");
        assert!(Drain::load(root).is_err());
        let line = Drain::describe_host(root).unwrap();
        assert!(
            line.starts_with("drained, with a damaged record: "),
            "{line}"
        );
        // The mark goes first: a drain that ends halfway still shows itself.
        sandbox.remove("/var/lib/trueup/balancer/drained");
        sandbox.make_dir("/var/lib/trueup/balancer/drained");
        assert!(Drain::remove(root).is_err());
        assert!(sandbox.exists("/var/lib/trueup/balancer/drain.json"));
        sandbox.remove("/var/lib/trueup/balancer/drained");
        assert!(Drain::remove(root).unwrap());
        assert!(!sandbox.exists("/var/lib/trueup/balancer/drained"));
        assert!(!Drain::remove(root).unwrap());
        assert_eq!(Drain::load(root).unwrap(), None);
    }
}
