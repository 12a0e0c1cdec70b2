//! The scratch host: a folder with settings, a role and a store.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use super::{edge, failed};
use crate::ports::root::{Attrs, Root};
use crate::problem::Problem;

/// Says that a folder was made by a demo and may be removed by one.
const MARK: &str = ".trueup-demo";

const NODE: &str = include_str!("files/node.yml");
const ROLE: &str = include_str!("files/hello.yml");
const UNIT: &str = include_str!("files/hello.service");
const MOTD: &str = include_str!("files/motd");

/// A new, empty folder: the one asked for, or one of our own in the temporary folder.
pub(super) fn folder(asked: Option<&Path>) -> Result<PathBuf, edge::Error> {
    let folder = match asked {
        Some(folder) => std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()),
        None => std::env::temp_dir().join(format!("trueup-demo-{}", std::process::id())),
    };
    let root = Root::real()?;
    if root.list(&folder)?.is_some_and(|names| !names.is_empty()) {
        return Err(edge::Error::Usage(
            Problem::new(format!("{} is there and not empty", folder.display()))
                .hint("name a new folder with --dir"),
        ));
    }
    root.make_dirs(&folder, &Attrs::mode(0o755))?;
    root.replace(&folder.join(MARK), b"", &Attrs::default())?;
    Ok(folder)
}

/// Writes what makes a folder a host.
pub(super) fn furnish(folder: &Path, port: u16) -> Result<(), edge::Error> {
    let program = std::env::current_exe()
        .map_err(|error| failed(format!("cannot find my own program: {error}")))?;
    let root = Root::at(folder)?;
    let node = NODE
        .replace("FOLDER", &folder.display().to_string())
        .replace("PROGRAM", &program.display().to_string())
        .replace("PORT", &port.to_string());
    for (path, body) in [
        ("/etc/trueup/node.yml", node.as_str()),
        ("/etc/trueup/roles/hello.yml", ROLE),
        ("/etc/trueup/templates/hello.service", UNIT),
        ("/etc/trueup/templates/motd", MOTD),
    ] {
        let path = Path::new(path);
        root.make_dirs(
            path.parent().expect("all of them lie in a folder"),
            &Attrs::default(),
        )?;
        root.replace(path, body.as_bytes(), &Attrs::mode(0o644))?;
    }
    root.make_dirs(Path::new("/store"), &Attrs::default())?;
    Ok(())
}

/// A port of the loopback address that nobody listens on now.
pub(super) fn free_port() -> Result<u16, edge::Error> {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| failed(format!("no port of 127.0.0.1 can be had: {error}")))
}

/// What somebody does by hand.
pub(super) fn scribble(path: &Path) -> Result<(), edge::Error> {
    Ok(Root::real()?.replace(path, b"this host is mine\n", &Attrs::mode(0o644))?)
}

/// How often the app was started, by its own log.
pub(super) fn starts(folder: &Path) -> Result<usize, edge::Error> {
    let log = Root::at(folder)?.read(Path::new("/var/log/trueup/hello.log"), 1 << 20)?;
    let log = log.unwrap_or_default();
    Ok(String::from_utf8_lossy(&log).matches("serving").count())
}

/// Refuses to touch a folder that no demo made.
pub(super) fn must_be_ours(folder: &Path) -> Result<(), edge::Error> {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    match Root::real()?.meta(&folder.join(MARK))? {
        Some(_) => Ok(()),
        None => Err(edge::Error::Usage(Problem::new(format!(
            "{} was not made by `trueup demo`",
            folder.display()
        )))),
    }
}

/// Removes a demo's folder. What cannot be removed is left: it is a scratch folder.
pub(super) fn remove(folder: &Path) {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    if let Ok(root) = Root::real() {
        let _ = root.remove_tree(&folder);
    }
}
