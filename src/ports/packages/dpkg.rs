//! Installed packages, from dpkg's status file.
//!
//! Reads the file directly, once a pass: `dpkg-query` would cost a process for every resource. Entries that
//! dpkg has not merged yet (its `updates/` journal, left by a crash) count as well.

use std::collections::HashMap;
use std::path::Path;

use super::family::{DPKG_STATUS, PackageFamily};
use super::package::Package;
use crate::ports::root::{Root, RootError};

/// Largest status file that is read, in bytes.
const MAX_FILE_BYTES: usize = 64 << 20;

const UPDATES_DIR: &str = "/var/lib/dpkg/updates";
const INFO_DIR: &str = "/var/lib/dpkg/info";

/// The packages by name, and by `name:architecture`.
pub(super) fn read(root: &Root) -> Result<HashMap<String, Package>, RootError> {
    let text = |path: &Path| -> Result<String, RootError> {
        let body = root.read(path, MAX_FILE_BYTES)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&body).into_owned())
    };
    let mut read = PackageDatabase::default();
    read.merge(&text(Path::new(DPKG_STATUS))?);
    for name in root.list(Path::new(UPDATES_DIR))?.unwrap_or_default() {
        // `tmp.i` is a file that dpkg had not finished writing.
        if name.as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            read.merge(&text(&Path::new(UPDATES_DIR).join(name))?);
        }
    }
    Ok(read.index_by_name())
}

/// The package that has this file, by dpkg's lists of files: some 10 MB on a large host.
pub(super) fn owner(root: &Root, path: &Path) -> Result<Option<String>, RootError> {
    let Some(path) = path.to_str() else {
        return Ok(None);
    };
    for name in root.list(Path::new(INFO_DIR))?.unwrap_or_default() {
        let Some(package) = name.to_str().and_then(|name| name.strip_suffix(".list")) else {
            continue;
        };
        let list = root.read(&Path::new(INFO_DIR).join(&name), MAX_FILE_BYTES)?;
        let list = list.unwrap_or_default();
        let mut lines = list.split(|byte| *byte == b'\n');
        if lines.any(|line| line == path.as_bytes()) {
            let package = package.split(':').next().unwrap_or(package);
            return Ok(Some(package.to_owned()));
        }
    }
    Ok(None)
}

/// Packages by name and architecture.
#[derive(Default)]
struct PackageDatabase(HashMap<(String, String), Package>);

impl PackageDatabase {
    fn merge(&mut self, text: &str) {
        for stanza in text.split("\n\n") {
            if let Some((name, package)) = parse_package(stanza) {
                self.0.insert((name, package.architecture.clone()), package);
            }
        }
    }

    fn index_by_name(self) -> HashMap<String, Package> {
        // dpkg itself always has the host's own architecture.
        let native = self
            .0
            .keys()
            .find(|(name, _)| name == "dpkg")
            .map(|(_, architecture)| architecture.clone());
        let rank = |package: &Package| {
            let own = native.as_ref() == Some(&package.architecture);
            (own || package.architecture == "all", package.installed)
        };
        let mut known: HashMap<String, Package> = HashMap::with_capacity(2 * self.0.len());
        for ((name, architecture), package) in self.0 {
            known.insert(format!("{name}:{architecture}"), package.clone());
            match known.get(&name) {
                Some(better) if rank(better) >= rank(&package) => {}
                _ => {
                    known.insert(name, package);
                }
            }
        }
        known
    }
}

/// The name and state of one stanza. Skips long fields (dependencies, descriptions).
fn parse_package(stanza: &str) -> Option<(String, Package)> {
    let (mut name, mut status, mut version, mut architecture) = (None, "", "", "");
    for line in stanza.lines() {
        match line.split_once(": ") {
            Some(("Package", value)) => name = Some(value.trim()),
            Some(("Status", value)) => status = value.trim(),
            Some(("Version", value)) => version = value.trim(),
            Some(("Architecture", value)) => architecture = value.trim(),
            _ => {}
        }
    }
    let mut words = status.split(' ');
    let (want, flag, state) = (words.next()?, words.next()?, words.next()?);
    Some((
        name?.to_owned(),
        Package {
            // Waiting for another package's trigger: it works, and apt counts it as installed.
            installed: flag == "ok"
                && matches!(state, "installed" | "triggers-pending" | "triggers-awaited"),
            duplicated: false,
            held: want == "hold",
            version: version.to_owned(),
            architecture: architecture.to_owned(),
            family: PackageFamily::Debian,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::testing::Sandbox;

    fn package_state(sandbox: &Sandbox, name: &str) -> Option<(bool, bool, String)> {
        let package = sandbox
            .host
            .packages
            .get(&sandbox.host.root, &sandbox.host.exec, name)
            .unwrap()?;
        Some((package.installed, package.held, package.version))
    }

    #[test]
    fn only_a_configured_package_counts_as_installed() {
        let sandbox = Sandbox::empty();
        sandbox.write(
            DPKG_STATUS,
            "Package: a\nStatus: install ok installed\nVersion: 1.0-1\nDescription: x\n Status: install ok half-configured\n\n\
             Package: b\nStatus: install ok half-configured\nVersion: 2\n\n\
             Package: c\nStatus: hold ok installed\nVersion: 3\n\n\
             Package: d\nStatus: deinstall ok config-files\nVersion: 4\n\n\
             Package: e\nStatus: install reinstreq installed\nVersion: 5\n",
        );
        assert_eq!(
            package_state(&sandbox, "a"),
            Some((true, false, "1.0-1".into()))
        );
        assert_eq!(
            package_state(&sandbox, "b").map(|state| state.0),
            Some(false)
        );
        assert_eq!(package_state(&sandbox, "c"), Some((true, true, "3".into())));
        assert_eq!(
            package_state(&sandbox, "d").map(|state| state.0),
            Some(false)
        );
        assert_eq!(
            package_state(&sandbox, "e").map(|state| state.0),
            Some(false)
        );
        assert_eq!(package_state(&sandbox, "f"), None);
    }

    #[test]
    fn foreign_architecture_does_not_replace_the_native_package() {
        let sandbox = Sandbox::empty();
        sandbox.write(
            DPKG_STATUS,
            "Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n\
             Package: libc6\nStatus: install ok unpacked\nArchitecture: amd64\nVersion: 2\n\n\
             Package: libc6\nStatus: install ok installed\nArchitecture: i386\nVersion: 3\n",
        );
        assert_eq!(
            package_state(&sandbox, "libc6"),
            Some((false, false, "2".into()))
        );
        assert_eq!(
            package_state(&sandbox, "libc6:i386"),
            Some((true, false, "3".into()))
        );
    }

    #[test]
    fn owner_of_a_file_is_found_by_its_whole_path() {
        let sandbox = Sandbox::empty();
        let list = "/.\n/etc\n/etc/logrotate.d\n/etc/logrotate.d/nginx\n";
        sandbox.write("/var/lib/dpkg/info/nginx-common.list", list);
        sandbox.write(
            "/var/lib/dpkg/info/libc6:amd64.list",
            "/usr/lib/libc.so.6\n",
        );
        let owner = |path: &str| owner(&sandbox.host.root, Path::new(path)).unwrap();
        assert_eq!(
            owner("/etc/logrotate.d/nginx").as_deref(),
            Some("nginx-common")
        );
        assert_eq!(owner("/usr/lib/libc.so.6").as_deref(), Some("libc6"));
        assert_eq!(owner("/etc/logrotate.d/ngin"), None);
    }

    #[test]
    fn updates_journal_of_a_crashed_dpkg_counts() {
        let sandbox = Sandbox::empty();
        sandbox.write(
            DPKG_STATUS,
            "Package: a\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n",
        );
        sandbox.write(
            "/var/lib/dpkg/updates/0001",
            "Package: a\nStatus: install ok half-configured\nArchitecture: all\nVersion: 2\n",
        );
        sandbox.write("/var/lib/dpkg/updates/tmp.i", "Package: a\nStatus: inst");
        assert_eq!(
            package_state(&sandbox, "a"),
            Some((false, false, "2".into()))
        );
    }
}
