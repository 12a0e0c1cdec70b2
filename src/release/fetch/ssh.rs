//! OpenSSH's `ssh` as the way to a git server: which host keys it may believe, which key it shows,
//! and what it means by what it says.
//!
//! Nothing of the host's own ssh configuration counts, and `ssh` sees neither the key's file nor
//! the known hosts' ones: trueup reads them, through its root and following no planted link, and
//! hands copies over in memory.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::ports::Host;
use crate::ports::deadline::Deadline;
use crate::ports::exec::{Command, Exec, MemFile};
use crate::release::repo::SshServer;
use crate::release::{Deployment, deploy_key};
use crate::resource::Failure;

/// No `known_hosts` is larger, in bytes.
const MAX_KNOWN_HOSTS: usize = 4 << 20;

/// What people call the lines that are no file.
const GIVEN_KNOWN_HOSTS: &str = "known_hosts";

/// What `ssh` is run with.
#[derive(Debug)]
pub(super) struct SshClient {
    deploy_key: Option<MemFile>,
    /// Each file that may say which host keys are known, and the copy of one that is there.
    known_hosts: Vec<(PathBuf, Option<MemFile>)>,
    connect_timeout: Duration,
}

/// What `ssh` meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SshFailure {
    UnknownHostKey,
    /// The key of the host is not the one in this file and line.
    ChangedHostKey(PathBuf, usize),
    RevokedHostKey,
    UnusableDeployKey(String),
    PermissionDenied,
    UnresolvedHost,
    Unreachable,
    TimedOut,
    /// Something else, or what the server's git says.
    Other(String),
}

impl SshClient {
    /// `given`: lines to believe besides the host's own.
    pub(super) fn new(
        d: &Deployment<'_>,
        connect_timeout: Duration,
        given_known_hosts: &[String],
    ) -> Result<SshClient, Failure> {
        let key = d.spec.deploy_key.as_deref();
        let key = key.map(|path| deploy_key::read(path, d.owner.uid, d.host));
        let key = key.transpose()?;
        let key = key.map(|key| to_memory_file(key.as_bytes())).transpose()?;
        let files = match &d.spec.known_hosts {
            Some(path) => vec![path.clone()],
            None => default_known_hosts_files(d)?,
        };
        let known = files.into_iter().map(|file| {
            let text = d.host.root.read(&file, MAX_KNOWN_HOSTS)?;
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

    /// Whether the key of this line of `known_hosts`, without the server's name, is in one of them.
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

    /// The files that may say which host keys are known.
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

    /// The command that says where its files of LFS are, and gives us leave to fetch them.
    pub(super) fn lfs_authenticate_command(&self, server: &SshServer) -> Command {
        // git-lfs puts no quotes around it, and not every server takes them away.
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-~".contains(c);
        let path = match server.path.chars().all(plain) {
            true => server.path.clone(),
            false => shell_quote(&server.path),
        };
        self.authenticated_command(server, &format!("git-lfs-authenticate {path} download"))
    }

    /// Runs something on a server that shows a known key, with our own.
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

    /// The line of `known_hosts` for the key that the server shows, as `ssh` itself writes it. Tells
    /// the server nothing about us.
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
        // The address holds no word that begins with a dash; what follows it is no option.
        let rest = ["-p", &port, "-l", &server.user, "--", &server.host, remote];
        argv.extend(rest.map(String::from));
        Command::new(argv)
    }

    /// What `ssh` meant by what it said. Its own words are the same in all languages.
    pub(super) fn classify_stderr(&self, stderr: &str) -> SshFailure {
        let says = |words: &[&str]| words.iter().any(|words| stderr.contains(words));
        if says(&["REVOKED HOST KEY DETECTED"]) {
            return SshFailure::RevokedHostKey;
        }
        if let Some(place) = self.offending_key(stderr) {
            return SshFailure::ChangedHostKey(place.0, place.1);
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
            // Advice of newer ones about the server's ciphers.
            !line.is_empty() && !line.starts_with("**") && !line.starts_with("Warning:")
        });
        let lines: Vec<&str> = lines.take(4).collect();
        SshFailure::Other(lines.join(" "))
    }

    /// The place that `ssh` says to hold another key, which it names by our copies.
    fn offending_key(&self, stderr: &str) -> Option<(PathBuf, usize)> {
        let line = stderr.lines().find(|line| line.starts_with("Offending "))?;
        let (_, place) = line.split_once(" key in ")?;
        let (copy, number) = place.trim().rsplit_once(':')?;
        let of = |(_, handed): &&(PathBuf, Option<MemFile>)| {
            handed
                .as_ref()
                .is_some_and(|handed| display_path(handed) == copy)
        };
        let (file, _) = self.known_hosts.iter().find(of)?;
        Some((file.clone(), number.parse().ok()?))
    }
}

fn default_known_hosts_files(d: &Deployment<'_>) -> Result<Vec<PathBuf>, Failure> {
    let host: &Host = d.host;
    let user = d.spec.user.as_deref().unwrap_or("root");
    let home = match host.accounts.user(&host.root, user)? {
        Some(user) => Some(user.home),
        // A sandbox need not list root; whoever else is not there yet has no files either.
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

/// For the remote shell, as git itself does it: also for one that expands `!`.
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
