//! Calls of dnf for the `package` kind.

use std::path::Path;
use std::time::Duration;

use crate::ports::Host;
use crate::ports::backoff;
use crate::ports::exec::{Command, CompletedCommand, ExecError};
use crate::ports::packages::split_architecture;
use crate::ports::root::Attrs;
use crate::resource::Failure;

/// Covers downloads and scriptlets. Long, because an rpm that is killed halfway leaves two versions behind.
const DNF_TIMEOUT: Duration = Duration::from_secs(1800);

/// How long another dnf is waited for, in attempts and in the pause between them. dnf's own wait has no end.
const LOCK_ATTEMPTS: u32 = 60;
const LOCK_PAUSE: Duration = Duration::from_secs(2);

const CONFIG_FILE: &str = "/etc/dnf/dnf.conf";
const REPOSITORIES_DIR: &str = "/etc/yum.repos.d";

pub(super) struct Dnf<'a> {
    host: &'a Host,
}

impl<'a> Dnf<'a> {
    /// In a sandbox, dnf reads only the sandbox's configuration and repositories.
    pub(super) fn new(host: &'a Host) -> Result<Dnf<'a>, Failure> {
        let root = &host.root;
        if !root.is_privileged() {
            return Err(Failure::new("only root can change packages")
                .hint("run trueup as root, or use `plan`"));
        }
        if !root.is_real() {
            let folder = Path::new(REPOSITORIES_DIR);
            if root.list(folder)?.is_none_or(|files| files.is_empty()) {
                return Err(Failure::new(format!(
                    "packages cannot be installed below --root {}: there are no package sources",
                    root.path().display()
                ))
                .hint("add a file to etc/yum.repos.d there, or exclude packages with `when`"));
            }
            let config = Path::new(CONFIG_FILE);
            if root.meta(config)?.is_none() {
                root.create_dir_all(Path::new("/etc/dnf"), &Attrs::default())?;
                root.write_atomic(config, b"[main]\n", &Attrs::default())?;
            }
        }
        Ok(Dnf { host })
    }

    /// Installs packages; with a version, which only one name has, up- or downgrades to it. After a failure for
    /// which the lists of packages may be the cause, updates them once and tries again.
    pub(super) fn install(&self, names: &[String], version: Option<&str>) -> Result<(), Failure> {
        let wanted: Vec<String> = names
            .iter()
            .map(|name| package_spec(name, version))
            .collect();
        let first = self.run(self.dnf(&["-q", "install"], &wanted));
        match first {
            Err(failure) if may_be_outdated(&failure.message) => {
                // One unreachable source of several must not stop the others: only whether the package becomes
                // available counts.
                // Not quiet: quietly, dnf leaves out sources that it cannot reach without a word.
                let fresh = ["--refresh", "--setopt=*.skip_if_unavailable=1", "install"];
                self.run(self.dnf(&fresh, &wanted))
            }
            first => first,
        }
    }

    /// Removes the older ones of packages that a killed upgrade left twice, and installs the newer ones again, whose
    /// scriptlets may not have run.
    pub(super) fn remove_duplicates(&self, names: &[String]) -> Result<(), Failure> {
        if names.is_empty() {
            return Ok(());
        }
        self.run(self.dnf(&["-q", "--noautoremove", "remove", "--duplicates"], names))
    }

    /// Removes packages, and not what they alone needed: that may have been installed for something else.
    pub(super) fn remove(&self, names: &[String]) -> Result<(), Failure> {
        self.run(self.dnf(&["-q", "--noautoremove", "remove"], names))
    }

    /// `dnf` for changes: it asks no questions, installs no weak dependencies, and does not wait for a lock.
    fn dnf(&self, args: &[&str], names: &[String]) -> impl Fn() -> Command {
        let mut argv: Vec<std::ffi::OsString> = [
            "dnf",
            "-y",
            "--color=never",
            "--setopt=install_weak_deps=False",
            "--setopt=exit_on_lock=True",
        ]
        .map(Into::into)
        .into();
        let root = &self.host.root;
        if !root.is_real() {
            let below = |path: &str| root.machine_path(Path::new(path));
            argv.push("--installroot".into());
            argv.push(root.path().into());
            argv.push("--config".into());
            argv.push(below(CONFIG_FILE).into());
            let folder = below(REPOSITORIES_DIR);
            argv.push(format!("--setopt=reposdir={}", folder.display()).into());
        }
        argv.extend(args.iter().map(Into::into));
        argv.extend(names.iter().map(Into::into));
        move || {
            Command::new(argv.clone())
                .timeout(DNF_TIMEOUT)
                .env("LC_ALL", "C.UTF-8")
        }
    }

    fn run(&self, command: impl Fn() -> Command) -> Result<(), Failure> {
        let mut attempt = 1;
        loop {
            let command = command();
            let line = command.command_line();
            let done = match self.host.exec.run(command) {
                Err(error) if error.is_program_missing() => {
                    return Err(Failure::from(error).hint(
                        "install it (`microdnf install dnf`), or exclude packages with `when`",
                    ));
                }
                done => done?,
            };
            if done.success() {
                return Ok(());
            }
            let is_retried = attempt < LOCK_ATTEMPTS && is_locked(&done.output.text());
            if !is_retried || self.host.stop.is_set() {
                return Err(dnf_failure(line, done));
            }
            if attempt == 1 {
                tracing::info!("waits for another process that changes packages");
            }
            attempt += 1;
            backoff::sleep(LOCK_PAUSE);
        }
    }
}

/// The package in dnf's notation. With a version it has every part that dnf knows, because dnf would take
/// `python3-3*` for packages whose names begin so.
fn package_spec(name: &str, version: Option<&str>) -> String {
    let Some(version) = version else {
        return name.to_owned();
    };
    let (name, architecture) = split_architecture(name);
    if !version.ends_with('*') {
        let architecture = architecture.map(|end| format!(".{end}"));
        // A version without a release and with an architecture is in none of dnf's notations.
        let release = match (version.contains('-'), &architecture) {
            (false, Some(_)) => "-*",
            _ => "",
        };
        return format!(
            "{name}-{version}{release}{}",
            architecture.unwrap_or_default()
        );
    }
    let release = if version.contains('-') { "" } else { "-*" };
    format!("{name}-{version}{release}.{}", architecture.unwrap_or("*"))
}

fn is_locked(output: &str) -> bool {
    ["already locked by", "Failed to obtain"]
        .iter()
        .any(|sign| output.contains(sign))
}

/// Whether newer lists of packages, or leaving out an unreachable source, may help.
fn may_be_outdated(output: &str) -> bool {
    [
        "Unable to find a match",
        "No match for argument",
        "Failed to download",
        "Error downloading packages",
        "Cannot download",
        "incorrect checksum",
        "Status code: 404",
        "nothing provides",
    ]
    .iter()
    .any(|sign| output.contains(sign))
}

fn dnf_failure(line: String, done: CompletedCommand) -> Failure {
    let output = done.output.text();
    let failure = Failure::from(ExecError::Failed {
        line,
        ended: done.exit_reason,
        output: done.output.tail(20),
    });
    if is_locked(&output) {
        return failure.hint("another process is changing packages; the next pass tries again");
    }
    let hints = [
        (
            "no enabled repositories",
            "add a source to /etc/yum.repos.d: `dnf repolist` shows those that are enabled",
        ),
        (
            "Failed to download metadata",
            "a source is unreachable or wrong: `dnf repolist -v` shows its address, /etc/yum.repos.d has its file",
        ),
        (
            "Unable to find a match",
            "the lists were just updated: `dnf list --showduplicates NAME` shows the name and the available versions",
        ),
        (
            "No match for argument",
            "the lists were just updated: `dnf list --showduplicates NAME` shows the name and the available versions",
        ),
        (
            "GPG check FAILED",
            "the source's key is missing or wrong: see `gpgkey` in its file in /etc/yum.repos.d",
        ),
        (
            "conflicting requests",
            "`dnf install NAME` on the host shows the conflict",
        ),
        (
            "No space left on device",
            "free space on that filesystem; the next pass tries again",
        ),
        (
            "more space needed",
            "free space on that filesystem; the next pass tries again",
        ),
    ];
    super::hints::hint_for_output(failure, &output, &hints)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::exec::Output;

    #[test]
    fn version_prefix_matches_no_other_packages_name() {
        for (name, version, spec) in [
            ("nginx", None, "nginx"),
            ("nginx", Some("1.24.0"), "nginx-1.24.0"),
            ("nginx", Some("1:1.24.0-3.el9"), "nginx-1:1.24.0-3.el9"),
            ("nginx", Some("1.2*"), "nginx-1.2*-*.*"),
            ("nginx", Some("1.24.0-3*"), "nginx-1.24.0-3*.*"),
            ("glibc.i686", Some("2.34"), "glibc-2.34-*.i686"),
            ("glibc.i686", Some("2.34-60.el9"), "glibc-2.34-60.el9.i686"),
            ("glibc.i686", Some("2*"), "glibc-2*-*.i686"),
            ("python3.11", Some("3*"), "python3.11-3*-*.*"),
        ] {
            assert_eq!(package_spec(name, version), spec);
        }
    }

    #[test]
    fn locked_database_is_named_as_the_reason() {
        assert!(is_locked(
            "Failed to obtain the transaction lock (logged in as: root)."
        ));
        assert!(!may_be_outdated("RPMDB already locked by 12"));
        assert!(may_be_outdated("Error: Unable to find a match: nosuch"));
        let locked = CompletedCommand {
            exit_reason: crate::ports::exec::ExitReason::Exited(200),
            output: Output::default(),
        };
        assert!(dnf_failure("dnf install one".into(), locked).hint.is_none());
    }
}
