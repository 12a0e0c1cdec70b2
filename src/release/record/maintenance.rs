//! Maintenance of an app: an operator's decision that visitors get a page of nginx instead of the app.
//!
//! One file per app is both the record and the flag: nginx's workers look for it in each request. So it takes effect
//! at once, without a reload, and from the first request after a reboot, and no pass has to derive one from the other.
//! It is not one of the [overrides](super::overrides), whose file only a pass may change: an operator does not wait for
//! a running pass. The file of a drained app is executable, because nginx can test that (`-x`): one rename changes all
//! that nginx and trueup know.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ports::root::{Attrs, Root, RootError};
use crate::ports::state::{Document, StateError};
use crate::release::app::layout::Layout;
use crate::release::record::app_files::{app_file, list_apps};
use crate::resource::Failure;

const VERSION: u32 = 1;

const DOCUMENT: Document = Document::new(VERSION, 64 << 10);

/// An app is in maintenance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Maintenance {
    pub by: String,
    pub since: Timestamp,
    /// When it ends by itself, in the first pass after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The health check gets the page as well, so that load balancers take the host out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drain: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct MaintenanceFile {
    version: u32,
    #[serde(flatten)]
    maintenance: Maintenance,
}

/// The file of an app in maintenance.
pub(crate) fn maintenance_file(app: &str) -> PathBuf {
    app_file(&Layout::maintenance_dir(), app)
}

/// The names of all apps in maintenance, also of those that no role describes any more.
pub(crate) fn apps_in_maintenance(root: &Root) -> Result<Vec<String>, RootError> {
    list_apps(root, &Layout::maintenance_dir())
}

impl Maintenance {
    pub(crate) fn new(by: String, since: Timestamp) -> Maintenance {
        Maintenance {
            by,
            since,
            until: None,
            drain: false,
            reason: None,
        }
    }

    /// Loads what is on record of an app. An unreadable file is an error and not "no maintenance": nginx shows the
    /// page for any file.
    pub(crate) fn load(root: &Root, app: &str) -> Result<Option<Maintenance>, Failure> {
        let path = maintenance_file(app);
        let found: Result<Option<MaintenanceFile>, StateError> = DOCUMENT.load(root, &path);
        let found = found.map(|file| file.map(|file| file.maintenance));
        found.map_err(|error| match error {
            StateError::Root(error) => error.into(),
            error => Failure::new(format!(
                "{app} is in maintenance, but {} cannot be used: {}",
                path.display(),
                error.why()
            ))
            .hint(format!(
                "`trueup maintenance {app} off` removes it, `trueup maintenance {app} on` replaces it"
            )),
        })
    }

    /// One line about an app in maintenance, also if its file cannot be used; `None`: it is not.
    pub(crate) fn describe_app(root: &Root, app: &str) -> Option<String> {
        match Maintenance::load(root, app) {
            Ok(found) => found.map(|found| found.describe()),
            Err(failure) => Some(failure.summary()),
        }
    }

    pub(in crate::release) fn save(&self, root: &Root, app: &str) -> Result<(), RootError> {
        let path = maintenance_file(app);
        let folder = path.parent().unwrap_or(Path::new("/"));
        root.create_dir_all(folder, &Attrs::mode(0o755))?;
        let file = MaintenanceFile {
            version: VERSION,
            maintenance: self.clone(),
        };
        root.write_atomic(&path, &DOCUMENT.encode(&file), &Attrs::mode(self.mode()))
    }

    pub(in crate::release) fn remove(root: &Root, app: &str) -> Result<(), RootError> {
        root.remove_file(&maintenance_file(app))
    }

    /// The mode of the file: nginx reads it from there whether the app is drained.
    pub(in crate::release) fn mode(&self) -> u32 {
        match self.drain {
            true => 0o755,
            false => 0o644,
        }
    }

    /// Whether it has ended by itself.
    pub(in crate::release) fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    pub(crate) fn describe(&self) -> String {
        let until = self
            .until
            .map_or(String::new(), |until| format!(" until {until:.0}"));
        let drained = if self.drain { ", drained" } else { "" };
        let reason = self.reason.as_deref().unwrap_or("no reason given");
        format!(
            "in maintenance by {} since {:.0}{until}{drained}: {reason}",
            self.by, self.since
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::state::testing::assert_round_trip;
    use crate::ports::testing::Sandbox;

    #[test]
    fn example_maintenance_survives_a_round_trip() {
        assert_round_trip::<MaintenanceFile>(&DOCUMENT, "maintenance.json");
    }

    #[test]
    fn file_of_a_drained_app_is_executable_and_readable_by_nginx() {
        let sandbox = Sandbox::empty();
        let root = &sandbox.host.root;
        let mut wanted = Maintenance::new("ana".into(), Timestamp::UNIX_EPOCH);
        let mode = || sandbox.mode(maintenance_file("shop").to_str().unwrap());
        for (drain, expected) in [(false, 0o644), (true, 0o755), (false, 0o644)] {
            wanted.drain = drain;
            wanted.save(root, "shop").unwrap();
            assert_eq!(mode(), expected);
            assert_eq!(
                Maintenance::load(root, "shop").unwrap(),
                Some(wanted.clone())
            );
        }
        assert_eq!(sandbox.mode("/var/lib/trueup/maintenance"), 0o755);
        assert_eq!(apps_in_maintenance(root).unwrap(), ["shop"]);
    }

    #[test]
    fn damaged_file_still_counts_as_maintenance() {
        let sandbox = Sandbox::empty();
        let root = &sandbox.host.root;
        sandbox.write(maintenance_file("shop").to_str().unwrap(), "");
        let failure = Maintenance::load(root, "shop").unwrap_err();
        assert!(failure.message.starts_with("shop is in maintenance, but"));
        assert!(Maintenance::describe_app(root, "shop").is_some());
        assert_eq!(Maintenance::describe_app(root, "cart"), None);
    }
}
