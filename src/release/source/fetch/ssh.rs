//! Runs OpenSSH's `ssh` as the transport to a git server, with its host keys and deploy key, and interprets
//! its errors.
//!
//! The host's own ssh configuration has no effect, and `ssh` sees neither the key file nor the `known_hosts`
//! files: trueup reads them through its root, following no planted link, and passes copies in memory.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::desired::SshServer;
use crate::ports::Host;
use crate::ports::deadline::Deadline;
use crate::ports::exec::{Command, Exec, MemFile};
use crate::release::deployment::Deployment;
use crate::release::source::deploy_key;
use crate::resource::Failure;

/// Maximum size of a `known_hosts` file, in bytes.
const MAX_KNOWN_HOSTS: usize = 4 << 20;

/// Name in messages for the lines that come from the settings instead of a file.
const GIVEN_KNOWN_HOSTS: &str = "known_hosts";

/// The keys and options that `ssh` runs with.
#[derive(Debug)]
pub(super) struct SshClient {
    deploy_key: Option<MemFile>,
    /// Each possible `known_hosts` file, with a copy of it if it exists.
    known_hosts: Vec<(PathBuf, Option<MemFile>)>,
    connect_timeout: Duration,
}

/// The cause of an `ssh` failure.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SshFailure {
    UnknownHostKey,
    /// The host's key differs from the one in this file and line.
    ChangedHostKey(PathBuf, usize),
    RevokedHostKey,
    UnusableDeployKey(String),
    PermissionDenied,
    UnresolvedHost,
    Unreachable,
    TimedOut,
    /// Another error, or a message of the server's git.
    Other(String),
}

impl SshClient {
    /// `given_known_hosts` are lines to trust in addition to the host's own files.
    pub(super) fn new(
        deployment: &Deployment<'_>,
        connect_timeout: Duration,
        given_known_hosts: &[String],
    ) -> Result<SshClient, Failure> {
        let key = deployment.spec.deploy_key.as_deref();
        let key = key.map(|path| deploy_key::read(path, deployment.owner.uid, deployment.host));
        let key = key.transpose()?;
        let key = key.map(|key| to_memory_file(key.as_bytes())).transpose()?;
        let files = match &deployment.spec.known_hosts {
            Some(path) => vec![path.clone()],
            None => default_known_hosts_files(deployment)?,
        };
        let known = files.into_iter().map(|file| {
            let text = deployment.host.root.read(&file, MAX_KNOWN_HOSTS)?;
            let copy = text.map(|text| to_memory_file(&text)).transpose()?;
            Ok((file, copy))
        });
        let mut known: Vec<_> = known.collect::<Result<_, Failure>>()?;
        if !given_known_hosts.is_empty() {
            let copy = to_memory_file(format!("{}\n", given_known_hosts.join("\n")).as_bytes())?;
            known.insert(0, (GIVEN_KNOWN_HOSTS.into(), Some(copy)));
        }
        Ok(SshClient {
            deploy_key: key,
            known_hosts: known,
            connect_timeout,
        })
    }

    /// Whether one of the files contains the key of this `known_hosts` line, whatever the server's name.
    pub(super) fn knows_key(&self, line: &str) -> bool {
        let key = line.split_once(' ').map_or(line, |(_, key)| key);
        let mut copies = self
            .known_hosts
            .iter()
            .filter_map(|(_, copy)| copy.as_ref());
        copies.any(|copy| {
            let text = copy.read().unwrap_or_default();
            String::from_utf8_lossy(&text).contains(key)
        })
    }

    /// The files that may contain known host keys.
    pub(super) fn known_hosts_files(&self) -> String {
        let files = self
            .known_hosts
            .iter()
            .map(|(file, _)| file.display().to_string());
        files.collect::<Vec<_>>().join(" or ")
    }

    /// The command that serves the repository of `server`.
    pub(super) fn upload_pack_command(&self, server: &SshServer) -> Command {
        self.authenticated_command(
            server,
            &format!("git-upload-pack {}", shell_quote(&server.path)),
        )
    }

    /// The command that returns the address of the repository's LFS files and grants access to them.
    pub(super) fn lfs_authenticate_command(&self, server: &SshServer) -> Command {
        // git-lfs does not quote the path, and not every server removes quotes.
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-~".contains(c);
        let path = match server.path.chars().all(plain) {
            true => server.path.clone(),
            false => shell_quote(&server.path),
        };
        self.authenticated_command(server, &format!("git-lfs-authenticate {path} download"))
    }

    /// Runs a command on a server that has a known host key, with our deploy key.
    fn authenticated_command(&self, server: &SshServer, remote: &str) -> Command {
        let known = self
            .known_hosts
            .iter()
            .filter_map(|(_, copy)| copy.as_ref());
        let known: Vec<String> = known.map(display_path).collect();
        let mut options = vec![
            "StrictHostKeyChecking=yes".to_owned(),
            "PreferredAuthentications=publickey".to_owned(),
            "IdentityFile=none".to_owned(),
            match known.as_slice() {
                [] => "UserKnownHostsFile=/dev/null".to_owned(),
                known => format!("UserKnownHostsFile={}", known.join(" ")),
            },
        ];
        if let Some(key) = &self.deploy_key {
            options[2] = format!("IdentityFile={}", display_path(key));
        }
        self.ssh_command(server, &options, remote)
    }

    /// The `known_hosts` line for the key that the server shows, as `ssh` itself writes it. Reveals nothing
    /// about us to the server.
    pub(super) fn known_hosts_line(
        &self,
        server: &SshServer,
        deadline: Deadline,
    ) -> io::Result<String> {
        let file = MemFile::new(b"")?;
        let options = [
            "StrictHostKeyChecking=accept-new".to_owned(),
            "PreferredAuthentications=none".to_owned(),
            "IdentityFile=none".to_owned(),
            "HashKnownHosts=no".to_owned(),
            format!("UserKnownHostsFile={}", display_path(&file)),
        ];
        let command = self.ssh_command(server, &options, "true");
        let mut talk = Exec
            .spawn_piped(&command, deadline)
            .map_err(io::Error::other)?;
        io::copy(&mut talk, &mut io::sink())?;
        talk.finish();
        Ok(String::from_utf8_lossy(&file.read()?).trim().to_owned())
    }

    fn ssh_command(&self, server: &SshServer, options: &[String], remote: &str) -> Command {
        let connect = format!("ConnectTimeout={}", self.connect_timeout.as_secs().max(1));
        let always = [
            "BatchMode=yes",
            "GlobalKnownHostsFile=/dev/null",
            "UpdateHostKeys=no",
            "CheckHostIP=no",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "ServerAliveInterval=15",
            "ServerAliveCountMax=4",
            &connect,
        ];
        let mut argv: Vec<String> = ["ssh", "-F", "/dev/null", "-T"].map(String::from).into();
        let options = always.into_iter().chain(options.iter().map(String::as_str));
        for option in options {
            argv.extend(["-o".to_owned(), option.to_owned()]);
        }
        let port = server.port.to_string();
        // No part of the address begins with a dash, and nothing after `--` is parsed as an option.
        let rest = ["-p", &port, "-l", &server.user, "--", &server.host, remote];
        argv.extend(rest.map(String::from));
        Command::new(argv)
    }

    /// The cause of an `ssh` failure, from its error output. `ssh` does not translate its messages.
    pub(super) fn classify_stderr(&self, stderr: &str) -> SshFailure {
        let says = |words: &[&str]| words.iter().any(|words| stderr.contains(words));
        if says(&["REVOKED HOST KEY DETECTED"]) {
            return SshFailure::RevokedHostKey;
        }
        if let Some(key) = self.offending_key(stderr) {
            return SshFailure::ChangedHostKey(key.0, key.1);
        }
        if says(&["host key is known for"]) {
            return SshFailure::UnknownHostKey;
        }
        if let Some(line) = stderr.lines().find(|line| line.starts_with("Load key ")) {
            let why = line.rsplit_once(": ").map_or(line, |(_, why)| why);
            return SshFailure::UnusableDeployKey(why.to_owned());
        }
        if says(&["Permission denied (", "Too many authentication failures"]) {
            return SshFailure::PermissionDenied;
        }
        if says(&["Could not resolve hostname"]) {
            return SshFailure::UnresolvedHost;
        }
        if says(&[
            "Connection timed out",
            "Operation timed out",
            "not responding",
        ]) {
            return SshFailure::TimedOut;
        }
        if says(&["ssh: connect to host"]) {
            return SshFailure::Unreachable;
        }
        let lines = stderr.lines().map(str::trim).filter(|line| {
            // Newer versions print advice about the server's ciphers.
            !line.is_empty() && !line.starts_with("**") && !line.starts_with("Warning:")
        });
        let lines: Vec<&str> = lines.take(4).collect();
        SshFailure::Other(lines.join(" "))
    }

    /// The file and line of the offending key, which `ssh` names by our copies.
    fn offending_key(&self, stderr: &str) -> Option<(PathBuf, usize)> {
        let line = stderr.lines().find(|line| line.starts_with("Offending "))?;
        let (_, position) = line.split_once(" key in ")?;
        let (copy, number) = position.trim().rsplit_once(':')?;
        let of = |(_, handed): &&(PathBuf, Option<MemFile>)| {
            handed
                .as_ref()
                .is_some_and(|handed| display_path(handed) == copy)
        };
        let (file, _) = self.known_hosts.iter().find(of)?;
        Some((file.clone(), number.parse().ok()?))
    }
}

fn default_known_hosts_files(deployment: &Deployment<'_>) -> Result<Vec<PathBuf>, Failure> {
    let host: &Host = deployment.host;
    let user = deployment.spec.user.as_deref().unwrap_or("root");
    let home = match host.accounts.user(&host.root, user)? {
        Some(user) => Some(user.home),
        // A sandbox need not list root; other users that do not exist yet have no files either.
        None => (user == "root").then(|| "/root".into()),
    };
    let own = home.map(|home: PathBuf| home.join(".ssh/known_hosts"));
    let everybodys = PathBuf::from("/etc/ssh/ssh_known_hosts");
    Ok(own.into_iter().chain([everybodys]).collect())
}

fn to_memory_file(bytes: &[u8]) -> Result<MemFile, Failure> {
    MemFile::new(bytes)
        .map_err(|error| Failure::new(format!("cannot make a file in memory: {error}")))
}

fn display_path(handed: &MemFile) -> String {
    handed.path().display().to_string()
}

/// Quotes for the remote shell as git does, including shells that expand `!`.
fn shell_quote(path: &str) -> String {
    let path = path.replace('\'', r"'\''").replace('!', r"'\!'");
    format!("'{path}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_path_cannot_escape_remote_shell_quotes() {
        for (path, expected) in [
            ("/srv/a b", "'/srv/a b'"),
            ("x'; id #", r"'x'\''; id #'"),
            ("a!b", r"'a'\!'b'"),
            ("$(id)`id`", "'$(id)`id`'"),
        ] {
            assert_eq!(shell_quote(path), expected);
        }
    }
}
