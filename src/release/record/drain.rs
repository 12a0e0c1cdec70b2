//! Drained apps: while a pass restarts the services of an app, the web server answers its health check with 503, so that
//! load balancers take the host out.
//!
//! One file per app is both the record and the flag, as of [maintenance](super::maintenance). Only a process that holds
//! the lock of the passes drains an app, so at the start of a pass every file is a leftover of one that was killed. The
//! folder is in memory: a reboot ends every drain.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ports::root::{Attrs, Root, RootError};
use crate::ports::state::Document;
use crate::release::app::layout::Layout;
use crate::release::record::app_files::{app_file, list_apps};

const VERSION: u32 = 1;

const DOCUMENT: Document = Document::new(VERSION, 4 << 10);

#[derive(Serialize, Deserialize)]
struct DrainFile {
    version: u32,
    since: Timestamp,
}

fn drain_file(app: &str) -> PathBuf {
    app_file(&Layout::drain_dir(), app)
}

/// The names of all drained apps.
pub(crate) fn drained_apps(root: &Root) -> Result<Vec<String>, RootError> {
    list_apps(root, &Layout::drain_dir())
}

/// One line about a drained app, also if its file cannot be read: the web server looks for any file. `None`: it is not
/// drained.
pub(crate) fn describe_drain(root: &Root, app: &str) -> Option<String> {
    let path = drain_file(app);
    match DOCUMENT.load(root, &path) {
        Ok(found) => found.map(|file: DrainFile| format!("drained since {:.0}", file.since)),
        Err(_) => is_drained(root, app).then(|| "drained".to_owned()),
    }
}

pub(in crate::release) fn is_drained(root: &Root, app: &str) -> bool {
    matches!(root.meta(&drain_file(app)), Ok(Some(_)))
}

pub(in crate::release) fn begin(root: &Root, app: &str, since: Timestamp) -> Result<(), RootError> {
    let path = drain_file(app);
    let folder = path.parent().unwrap_or(Path::new("/"));
    // The web server's own user looks into it.
    root.create_dir_all(folder, &Attrs::mode(0o755))?;
    let file = DrainFile {
        version: VERSION,
        since,
    };
    root.write_atomic(&path, &DOCUMENT.encode(&file), &Attrs::mode(0o644))
}

pub(in crate::release) fn end(root: &Root, app: &str) -> Result<(), RootError> {
    root.remove_file(&drain_file(app))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::state::testing::assert_round_trip;
    use crate::ports::testing::Sandbox;

    #[test]
    fn example_drain_survives_a_round_trip() {
        assert_round_trip::<DrainFile>(&DOCUMENT, "drain.json");
    }

    #[test]
    fn drained_apps_are_in_files_that_the_web_server_may_look_for() {
        let sandbox = Sandbox::empty();
        let root = &sandbox.host.root;
        assert!(drained_apps(root).unwrap().is_empty());
        for app in ["shop", "cart.v2"] {
            begin(root, app, Timestamp::UNIX_EPOCH).unwrap();
        }
        assert_eq!(sandbox.mode("/run/trueup/drain"), 0o755);
        assert_eq!(sandbox.mode("/run/trueup/drain/shop.json"), 0o644);
        assert_eq!(drained_apps(root).unwrap(), ["cart.v2", "shop"]);
        let line = "drained since 1970-01-01T00:00:00Z";
        assert_eq!(describe_drain(root, "shop").as_deref(), Some(line));
        end(root, "shop").unwrap();
        assert!(is_drained(root, "cart.v2") && !is_drained(root, "shop"));
        assert_eq!(describe_drain(root, "shop"), None);
        sandbox.write("/run/trueup/drain/cart.v2.json", "");
        assert_eq!(describe_drain(root, "cart.v2").as_deref(), Some("drained"));
    }
}
