//! Calls of apt and dpkg for the `package` kind.

use std::path::Path;
use std::time::Duration;

use crate::ports::Host;
use crate::ports::exec::{Command, CompletedCommand, ExecError};
use crate::ports::root::Attrs;
use crate::resource::Failure;

/// Covers downloads and maintainer scripts. Long, because a dpkg that is killed halfway needs a repair.
const APT_TIMEOUT: Duration = Duration::from_secs(1800);

/// Timeout of `apt-get update`.
const UPDATE_TIMEOUT: Duration = Duration::from_secs(300);

/// File name of a sandbox's apt configuration, for `APT_CONFIG`.
const CONFIG_FILE: &str = "apt.conf";

pub(super) struct Apt<'a> {
    host: &'a Host,
    config: Option<std::path::PathBuf>,
}

/// A repair to try before a failed installation is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repair {
    /// The package lists are missing or out of date.
    Update,
    /// An earlier dpkg was killed halfway.
    Configure,
}

impl Repair {
    fn from_output(output: &str) -> Option<Repair> {
        let says = |signs: &[&str]| signs.iter().any(|sign| output.contains(sign));
        if says(&["dpkg was interrupted"]) {
            return Some(Repair::Configure);
        }
        says(&[
            "Unable to locate package",
            "Couldn't find any package",
            "has no installation candidate",
            "was not found",
            "404  Not Found",
            "Unable to fetch some archives",
            "Failed to fetch",
        ])
        .then_some(Repair::Update)
    }
}

impl<'a> Apt<'a> {
    /// In a sandbox, apt gets a configuration of its own, so that it neither reads nor writes the machine's
    /// files.
    pub(super) fn new(host: &'a Host) -> Result<Apt<'a>, Failure> {
        let root = &host.root;
        if !root.is_privileged() {
            return Err(Failure::new("only root can change packages")
                .hint("run trueup as root, or use `plan`"));
        }
        if root.is_real() {
            return Ok(Apt { host, config: None });
        }
        let sources = root.meta(Path::new("/etc/apt/sources.list"))?.is_some()
            || root
                .list(Path::new("/etc/apt/sources.list.d"))?
                .is_some_and(|files| !files.is_empty());
        if !sources {
            return Err(Failure::new(format!(
                "packages cannot be installed below --root {}: there are no package sources",
                root.path().display()
            ))
            .hint("add an etc/apt/sources.list there, or exclude packages with `when`"));
        }
        let config = create_sandbox_config(host)?;
        Ok(Apt {
            host,
            config: Some(config),
        })
    }

    /// Installs packages, each a name or `name=version`. After a failure tries each applicable repair once.
    pub(super) fn install(&self, wanted: &[String], downgrade: bool) -> Result<(), Failure> {
        let mut tried = Vec::new();
        loop {
            let mut command = self.apt_get(&["--no-install-recommends", "install"]);
            if downgrade {
                command.argv.push("--allow-downgrades".into());
            }
            command.argv.extend(wanted.iter().map(Into::into));
            let line = command.command_line();
            let done = self.host.exec.run(command)?;
            if done.success() {
                return Ok(());
            }
            match Repair::from_output(&done.output.text()).filter(|remedy| !tried.contains(remedy))
            {
                Some(remedy) => {
                    self.repair(remedy)?;
                    tried.push(remedy);
                }
                None => return Err(apt_failure(line, done)),
            }
        }
    }

    pub(super) fn remove(&self, names: &[String]) -> Result<(), Failure> {
        let mut command = self.apt_get(&["remove"]);
        command.argv.extend(names.iter().map(Into::into));
        self.run(command)
    }

    /// Sets or removes the hold that keeps packages at their version.
    pub(super) fn set_hold(&self, names: &[String], hold: bool) -> Result<(), Failure> {
        if names.is_empty() {
            return Ok(());
        }
        let mut command = self.command("apt-mark");
        command
            .argv
            .push(if hold { "hold" } else { "unhold" }.into());
        command.argv.extend(names.iter().map(Into::into));
        self.run(command)
    }

    fn repair(&self, remedy: Repair) -> Result<(), Failure> {
        match remedy {
            // One unreachable source of several must not stop the others: only whether the package becomes
            // available counts.
            Repair::Update => {
                let update = self.command("apt-get").timeout(UPDATE_TIMEOUT);
                self.host
                    .exec
                    .run(with_args(update, &["-y", "-q", "update"]))?;
                Ok(())
            }
            Repair::Configure => {
                let mut command = self.command("dpkg");
                if self.config.is_some() {
                    let root = self.host.root.path().display();
                    command.argv.push(format!("--root={root}").into());
                    command
                        .argv
                        .push(format!("--log={root}/var/log/dpkg.log").into());
                }
                self.run(with_args(
                    command,
                    &["--force-confold", "--configure", "-a"],
                ))
            }
        }
    }

    /// `apt-get` for changes: it asks no questions, keeps configuration files that were changed on the host,
    /// and waits for dpkg's lock.
    fn apt_get(&self, args: &[&str]) -> Command {
        let command = with_args(self.command("apt-get"), &["-y", "-q"]);
        let command = with_args(
            command,
            &[
                "-o",
                "DPkg::Options::=--force-confold",
                "-o",
                "DPkg::Lock::Timeout=120",
            ],
        );
        with_args(command, args)
    }

    fn command(&self, program: &str) -> Command {
        let command = Command::new([program])
            .timeout(APT_TIMEOUT)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C");
        match &self.config {
            Some(config) => command.env("APT_CONFIG", config),
            None => command,
        }
    }

    fn run(&self, command: Command) -> Result<(), Failure> {
        let line = command.command_line();
        let done = self.host.exec.run(command)?;
        if done.success() {
            Ok(())
        } else {
            Err(apt_failure(line, done))
        }
    }
}

fn with_args(mut command: Command, args: &[&str]) -> Command {
    command.argv.extend(args.iter().map(Into::into));
    command
}

/// Creates the folders and the status file that apt expects in a sandbox; returns the path of its
/// configuration as a process outside sees it.
fn create_sandbox_config(host: &Host) -> Result<std::path::PathBuf, Failure> {
    let root = &host.root;
    let plain = Attrs::default();
    for folder in [
        "/etc/apt/apt.conf.d",
        "/etc/apt/preferences.d",
        "/var/lib/apt/lists/partial",
        "/var/cache/apt/archives/partial",
        "/var/lib/dpkg/info",
        "/var/lib/dpkg/updates",
        "/var/log/apt",
        crate::ports::STATE_DIR,
    ] {
        root.create_dir_all(Path::new(folder), &plain)?;
    }
    let status = Path::new("/var/lib/dpkg/status");
    if root.meta(status)?.is_none() {
        root.write_atomic(status, b"", &plain)?;
    }
    let path = root.path().display().to_string();
    if path.contains(['"', '\n']) {
        return Err(Failure::new(format!("apt cannot work below {path}"))
            .hint("use a folder without quotes in its name"));
    }
    // The sandbox belongs to the user who runs this; apt's own unprivileged user (`_apt`) need not see it.
    let text = format!(
        "Dir \"{path}\";\n\
         Dir::State::status \"{path}/var/lib/dpkg/status\";\n\
         DPkg::Options {{ \"--root={path}\"; \"--log={path}/var/log/dpkg.log\"; }};\n\
         APT::Sandbox::User \"root\";\n"
    );
    let config = host.state_path(CONFIG_FILE);
    root.write_atomic(&config, text.as_bytes(), &plain)?;
    Ok(root.machine_path(&config))
}

fn apt_failure(line: String, done: CompletedCommand) -> Failure {
    let output = done.output.text();
    let failure = Failure::from(ExecError::Failed {
        line,
        ended: done.exit_reason,
        output: done.output.tail(20),
    });
    let hints = [
        (
            "Could not get lock",
            "another process is changing packages; the next pass tries again",
        ),
        (
            "Unable to locate package",
            "the lists were just updated: is it spelt as in `apt-cache search`, and its source in /etc/apt/sources.list.d?",
        ),
        (
            "was not found",
            "the lists were just updated: `apt-cache policy NAME` shows the available versions",
        ),
        (
            "unmet dependencies",
            "`apt-get -f install` on the host shows the conflict",
        ),
        (
            "No space left on device",
            "free space on that filesystem; the next pass continues from here",
        ),
    ];
    super::hints::hint_for_output(failure, &output, &hints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_stale_lists_and_interrupted_dpkg_are_repaired() {
        assert_eq!(
            Repair::from_output("E: Version '2.0' for 'nginx' was not found"),
            Some(Repair::Update)
        );
        assert_eq!(
            Repair::from_output(
                "E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the problem."
            ),
            Some(Repair::Configure)
        );
        assert_eq!(
            Repair::from_output("E: Could not get lock /var/lib/dpkg/lock"),
            None
        );
    }
}
