//! Installed packages, from rpm's database: one run of `rpm`, which finds it wherever `%_dbpath` says.
//!
//! The database has had three formats (Berkeley DB, ndb, sqlite), each with locks of its own, so rpm itself
//! reads it. A cache from an earlier pass could not be told from an outdated one: sqlite changes the database's
//! main file only at a checkpoint.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use super::error::PackagesError;
use super::family::PackageFamily;
use super::package::Package;
use crate::ports::exec::{Command, Exec, LOG_LIMIT, MemFile};
use crate::ports::root::Root;

/// A query takes no lock that an installation holds.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Before each line of a package, and of what it provides: warnings are printed among them.
const PACKAGE: &str = "package";
const PROVIDES: &str = "provides";

const FORMAT: &str = "package\t%{NAME}\t%{EPOCHNUM}\t%{VERSION}\t%{RELEASE}\t%{ARCH}\t%{INSTALLTIME}\n\
     [provides\t%{PROVIDENAME}\n]";

/// What packages provide whose versions are installed side by side.
const SIDE_BY_SIDE: &[&str] = &["installonlypkg(", "multiversion(", "kernel-"];

/// Architectures that a name may end in. A list, because names contain dots too: `python3.11`.
const ARCHITECTURES: &[&str] = &[
    "aarch64", "armv7hl", "i386", "i686", "noarch", "ppc64le", "riscv64", "s390x", "x86_64",
];

/// The parts of `name.architecture`.
pub(crate) fn split_architecture(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once('.') {
        Some((name, end)) if ARCHITECTURES.contains(&end) => (name, Some(end)),
        _ => (name, None),
    }
}

/// The packages by name, by `name.architecture`, and by the other names that they provide, which dnf takes for
/// names as well: on Amazon Linux, `ruby3.2` provides `ruby`.
pub(super) fn query(root: &Root, exec: &Exec) -> Result<HashMap<String, Package>, PackagesError> {
    let memory_error = |error: std::io::Error| PackagesError::Rpm(error.to_string());
    let printed = MemFile::new(b"").map_err(memory_error)?;
    let mut command = rpm(root);
    command.argv.extend(["-qa", "--qf", FORMAT].map(Into::into));
    // The captured output is cut to less than the list of a large host.
    command.log = Some(printed.writer().map_err(memory_error)?);
    let done = exec.run_checked(command)?;
    if done.output.total() > LOG_LIMIT {
        return Err(PackagesError::Rpm(format!(
            "`rpm -qa` printed more than {LOG_LIMIT} bytes"
        )));
    }
    let text = printed.read().map_err(memory_error)?;
    Ok(index_by_name(&String::from_utf8_lossy(&text)))
}

/// The package that has this file.
pub(super) fn owner(
    root: &Root,
    exec: &Exec,
    path: &Path,
) -> Result<Option<String>, PackagesError> {
    let mut command = rpm(root);
    let format = format!("{PACKAGE}\t%{{NAME}}\n");
    command
        .argv
        .extend(["-qf", "--qf", &format, "--"].map(Into::into));
    command.argv.push(path.into());
    // It fails for a file of no package.
    let done = exec.run(command)?;
    let text = done.output.text();
    let mut names = text
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .filter(|(mark, _)| *mark == PACKAGE);
    Ok(names.next().map(|(_, name)| name.to_owned()))
}

fn rpm(root: &Root) -> Command {
    let mut command = Command::new(["rpm"]).timeout(TIMEOUT).env("LC_ALL", "C");
    if !root.is_real() {
        command.argv.extend(["--root".into(), root.path().into()]);
    }
    command
}

/// A package, and what decides which one a name means: a name of its own comes before one that it provides. Of
/// several architectures, the host's own counts; of several versions, the one installed last.
struct Candidate {
    rank: (bool, bool, u64),
    /// Its name with the architecture.
    full_name: String,
    package: Package,
}

fn index_by_name(text: &str) -> HashMap<String, Package> {
    let mut candidates: HashMap<String, Candidate> = HashMap::new();
    let mut versions: HashMap<String, u32> = HashMap::new();
    let mut current: Option<(String, u64, Package)> = None;
    let mut insert = |key: &str, is_name: bool, found: &(String, u64, Package)| {
        let (full_name, installed_at, package) = found;
        let own = [std::env::consts::ARCH, "noarch"].contains(&package.architecture.as_str());
        let rank = (is_name, own, *installed_at);
        if candidates.get(key).is_none_or(|other| other.rank <= rank) {
            let full_name = full_name.clone();
            let package = package.clone();
            let candidate = Candidate {
                rank,
                full_name,
                package,
            };
            candidates.insert(key.to_owned(), candidate);
        }
    };
    for line in text.lines() {
        match line.split_once('\t') {
            Some((PACKAGE, rest)) => {
                current = None;
                if let Some((name, found)) = parse_package(rest) {
                    insert(&found.0, true, &found);
                    insert(&name, true, &found);
                    *versions.entry(found.0.clone()).or_default() += 1;
                    current = Some(found);
                }
            }
            Some((PROVIDES, name)) => {
                let Some(found) = &current else {
                    continue;
                };
                if SIDE_BY_SIDE.iter().any(|start| name.starts_with(start)) {
                    versions.remove(&found.0);
                } else if !name.contains(['(', '/']) {
                    // The others are libraries and features, in names that no package can have.
                    insert(name, false, found);
                }
            }
            _ => {}
        }
    }
    let finish = |(name, mut candidate): (String, Candidate)| {
        let count = versions.get(&candidate.full_name);
        candidate.package.duplicated = count.is_some_and(|count| *count > 1);
        (name, candidate.package)
    };
    candidates.into_iter().map(finish).collect()
}

/// The name, and the package with its full name and the time of its installation.
fn parse_package(line: &str) -> Option<(String, (String, u64, Package))> {
    let mut parts = line.split('\t');
    let (name, epoch) = (parts.next()?, parts.next()?);
    let (version, release, architecture) = (parts.next()?, parts.next()?, parts.next()?);
    let epoch = match epoch {
        "0" => String::new(),
        epoch => format!("{epoch}:"),
    };
    let package = Package {
        installed: true,
        duplicated: false,
        held: false,
        version: format!("{epoch}{version}-{release}"),
        architecture: architecture.to_owned(),
        family: PackageFamily::RedHat,
    };
    let installed_at = parts.next()?.parse().unwrap_or(0);
    let full_name = format!("{name}.{architecture}");
    Some((name.to_owned(), (full_name, installed_at, package)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_architecture_last_version_and_provided_names_count() {
        let native = std::env::consts::ARCH;
        let text = format!(
            "warning: Found NDB Packages.db database\n\
             package\tglibc\t0\t2.34\t60.el9\t{native}\t10\n\
             package\tglibc\t0\t2.34\t60.el9\ti686\t99\n\
             package\tkernel\t0\t5.14.0\t2.el9\t{native}\t30\n\
             package\tkernel\t0\t5.14.0\t1.el9\t{native}\t20\n\
             provides\tinstallonlypkg(kernel)\n\
             package\tshop\t0\t1.0\t1\t{native}\t10\n\
             package\tshop\t0\t2.0\t1\t{native}\t11\n\
             package\tnginx\t2\t1.24.0\t1.el9\t{native}\t10\n\
             package\truby3.2\t0\t3.2.2\t1.amzn\t{native}\t10\n\
             provides\truby\n\
             provides\tlibruby.so(64bit)\n\
             provides\tnginx\n\
             package\tbroken\n\
             provides\tmore\n"
        );
        let packages = index_by_name(&text);
        let version = |name: &str| packages.get(name).map(|package| package.version.as_str());
        assert_eq!(packages["glibc"].architecture, native);
        assert_eq!(version("glibc.i686"), Some("2.34-60.el9"));
        assert_eq!(version("kernel"), Some("5.14.0-2.el9"));
        assert_eq!(version("nginx"), Some("2:1.24.0-1.el9"));
        assert_eq!(version("shop"), Some("2.0-1"));
        for (name, duplicated) in [("shop", true), ("kernel", false), ("glibc", false)] {
            assert_eq!(packages[name].duplicated, duplicated, "{name}");
        }
        assert_eq!(version("ruby"), Some("3.2.2-1.amzn"));
        for other in ["broken", "more", "libruby.so(64bit)"] {
            assert_eq!(version(other), None, "{other}");
        }
    }

    #[test]
    fn dots_in_a_name_are_no_architecture() {
        assert_eq!(split_architecture("python3.11"), ("python3.11", None));
        assert_eq!(split_architecture("glibc.i686"), ("glibc", Some("i686")));
    }
}
