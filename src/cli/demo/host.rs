//! The demo's scratch host: a folder with settings, a role and a store.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::operate::CommandError;
use crate::ports::root::{Attrs, Root, RootError};
use crate::problem::Problem;
use crate::yaml;

/// Marks a folder as created by a demo, so that a demo may remove it.
const MARKER_FILE: &str = ".trueup-demo";

const ROLE: &str = include_str!("files/hello.yml");
const UNIT: &str = include_str!("files/hello.service");
const MOTD: &str = include_str!("files/motd");

/// Creates or takes an empty folder: the given one, or one in the temporary folder.
pub(super) fn create_folder(asked: Option<&Path>) -> Result<PathBuf, CommandError> {
    let root = Root::real()?;
    let folder = match asked {
        Some(folder) => root.create_private_folder(&absolute(folder)),
        None => root.create_temporary_folder("trueup-demo-"),
    };
    let folder = folder.map_err(folder_error)?;
    root.write_atomic(&folder.join(MARKER_FILE), b"", &Attrs::default())?;
    Ok(folder)
}

/// An unusable folder is an error of the command line.
fn folder_error(error: RootError) -> CommandError {
    match (&error, error.hint()) {
        (RootError::NotPrivate { .. }, Some(hint)) => {
            CommandError::Usage(Problem::new(error.to_string()).hint(hint))
        }
        (RootError::UntrustedLink { .. }, _) => {
            CommandError::Usage(Problem::new(error.to_string()))
        }
        _ => error.into(),
    }
}

fn absolute(folder: &Path) -> PathBuf {
    std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned())
}

/// Writes the settings, the role and the other files of the host.
pub(super) fn write_files(folder: &Path, port: u16) -> Result<(), CommandError> {
    let program = std::env::current_exe()
        .map_err(|error| CommandError::failed(format!("cannot find my own program: {error}")))?;
    let root = Root::at(folder)?;
    let folder = folder.display();
    let node = yaml::serialize(json!({
        "environment": "demo",
        "roles": ["hello"],
        "store": {"url": format!("dir:{folder}/store")},
        "attributes": {
            "program": program.display().to_string(),
            "apps": {"hello": {"repo": format!("{folder}/git/hello"), "port": port}},
        },
    }));
    let node = format!("# What this node is. On a real host this is /etc/trueup/node.yml.\n{node}");
    for (path, body) in [
        ("/etc/trueup/node.yml", node.as_str()),
        ("/etc/trueup/roles/hello.yml", ROLE),
        ("/etc/trueup/templates/hello.service", UNIT),
        ("/etc/trueup/templates/motd", MOTD),
    ] {
        let path = Path::new(path);
        root.create_dir_all(
            path.parent().expect("all of them lie in a folder"),
            &Attrs::default(),
        )?;
        root.write_atomic(path, body.as_bytes(), &Attrs::mode(0o644))?;
    }
    root.create_dir_all(Path::new("/store"), &Attrs::default())?;
    Ok(())
}

/// A free port on the loopback address.
#[expect(
    clippy::disallowed_methods,
    reason = "only a bound port is known to be free"
)]
pub(super) fn free_port() -> Result<u16, CommandError> {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| CommandError::failed(format!("no port of 127.0.0.1 can be had: {error}")))
}

/// Changes a file as a person would, to create drift.
pub(super) fn edit_by_hand(path: &Path) -> Result<(), CommandError> {
    Ok(Root::real()?.write_atomic(path, b"this host is mine\n", &Attrs::mode(0o644))?)
}

/// Number of starts of the app, from its log.
pub(super) fn count_starts(folder: &Path) -> Result<usize, CommandError> {
    let log = Root::at(folder)?.read(Path::new("/var/log/trueup/hello.log"), 1 << 20)?;
    let log = log.unwrap_or_default();
    Ok(String::from_utf8_lossy(&log).matches("serving").count())
}

/// Verifies that the folder belongs to a demo. Refuses one without the marker, and one that another user owns
/// or can write to: its contents say which processes to kill.
pub(super) fn require_demo_folder(folder: &Path) -> Result<PathBuf, CommandError> {
    let root = Root::real()?;
    let folder = root
        .resolve_private_folder(&absolute(folder))
        .map_err(folder_error)?;
    match root.meta(&folder.join(MARKER_FILE))? {
        Some(_) => Ok(folder),
        None => Err(CommandError::Usage(Problem::new(format!(
            "{} was not made by `trueup demo`",
            folder.display()
        )))),
    }
}

/// Removes a demo's folder. Ignores errors: it is a scratch folder.
pub(super) fn remove(folder: &Path) {
    if let Ok(root) = Root::real() {
        let _ = root.remove_tree(folder);
    }
}
