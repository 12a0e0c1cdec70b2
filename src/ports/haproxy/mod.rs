//! The runtime API of haproxy: text commands over its admin socket.
//!
//! haproxy answers a command that it refuses like one that it obeys, with a line of text, and the worker process that
//! answers runs without privileges. So no reply proves anything: a caller reads the servers back after a change.
//!
//! Each command has a connection of its own, which haproxy closes after its reply: the end of a reply is certain, and a
//! reload between two commands does not matter.

mod listeners;
mod process_status;
mod reply;
mod server_table;
#[cfg(test)]
mod tests;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use self::reply::{info_value, shown};
use super::root::{Root, RootError};
use super::runtime::block_on;
use super::watchdog;

pub(crate) use listeners::HeldListeners;
pub(crate) use process_status::ProcessStatus;
pub(crate) use server_table::{ServerId, ServerTable};

/// Maximum size of a reply, in bytes: enough for some ten thousand servers.
const MAX_REPLY_BYTES: u64 = 4 << 20;

/// How long haproxy may take for one command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// What haproxy replies to `add server` once the server exists.
const REGISTERED: &str = "New server registered";

/// Replies to `del server` after which the server no longer exists.
const GONE: [&str; 2] = ["Server deleted", "No such server"];

/// Why a command has no effect that can be relied on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RuntimeError {
    #[error(transparent)]
    Root(#[from] RootError),
    #[error("nothing listens on {}", .0.display())]
    NotListening(PathBuf),
    #[error("{}: {why}", path.display())]
    Unusable { path: PathBuf, why: String },
    #[error("{0} is no name or option that can be part of a command")]
    UnsafeWord(String),
    #[error("`{command}`: {reply}")]
    Refused { command: String, reply: String },
    #[error("the reply to `{command}` cannot be understood: {why}")]
    Malformed { command: String, why: String },
}

/// The process that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProcessInfo {
    pub pid: u32,
    /// The major and the minor number.
    pub version: (u32, u32),
}

/// The admin socket of a running haproxy.
pub(crate) struct RuntimeSocket {
    root: Rc<Root>,
    path: PathBuf,
    timeout: Duration,
}

impl RuntimeSocket {
    /// Does not connect yet.
    pub(crate) fn new(root: &Rc<Root>, path: &Path) -> RuntimeSocket {
        RuntimeSocket {
            root: root.clone(),
            path: path.to_owned(),
            timeout: COMMAND_TIMEOUT,
        }
    }

    /// Gives haproxy so long for each command.
    pub(crate) fn with_timeout(self, timeout: Duration) -> RuntimeSocket {
        RuntimeSocket { timeout, ..self }
    }

    /// Whether it serves. A socket of `level user` is enough.
    pub(crate) fn process_status(&self) -> Result<ProcessStatus, RuntimeError> {
        let command = "show info";
        let info = self.send(command)?;
        let frontends_command = "show stat -1 1 -1";
        let frontends = self.send(frontends_command)?;
        ProcessStatus::parse(&info, &frontends).map_err(|why| malformed(command, why))
    }

    pub(crate) fn info(&self) -> Result<ProcessInfo, RuntimeError> {
        let command = "show info";
        let reply = self.send(command)?;
        parse_info(&reply).map_err(|why| malformed(command, why))
    }

    /// The servers of all backends.
    pub(crate) fn servers(&self) -> Result<ServerTable, RuntimeError> {
        let command = "show servers state";
        let reply = self.send(command)?;
        ServerTable::parse(&reply).map_err(|why| malformed(command, why))
    }

    /// Adds a server, in maintenance and without health checks.
    pub(crate) fn add_server(
        &self,
        server: &ServerId,
        address: SocketAddr,
        options: &str,
    ) -> Result<(), RuntimeError> {
        let command = format!("add server {server} {} {options}", address_word(address));
        let reply = self.send(&command)?;
        match reply.contains(REGISTERED) {
            true => Ok(()),
            false => Err(RuntimeError::Refused {
                command,
                reply: shown(&reply),
            }),
        }
    }

    pub(crate) fn enable_checks(&self, server: &ServerId) -> Result<(), RuntimeError> {
        self.send(&format!("enable health {server}")).map(|_| ())
    }

    pub(crate) fn set_ready(&self, server: &ServerId) -> Result<(), RuntimeError> {
        self.send(&format!("set server {server} state ready"))
            .map(|_| ())
    }

    /// The server gets no more requests, and those that it has go on.
    pub(crate) fn set_maintenance(&self, server: &ServerId) -> Result<(), RuntimeError> {
        self.send(&format!("set server {server} state maint"))
            .map(|_| ())
    }

    pub(crate) fn set_address(
        &self,
        server: &ServerId,
        address: SocketAddr,
    ) -> Result<(), RuntimeError> {
        let (host, port) = (address.ip(), address.port());
        self.send(&format!("set server {server} addr {host} port {port}"))
            .map(|_| ())
    }

    /// Deletes a server that is in maintenance. `false`: it still has connections.
    pub(crate) fn delete_server(&self, server: &ServerId) -> Result<bool, RuntimeError> {
        let reply = self.send(&format!("del server {server}"))?;
        Ok(GONE.iter().any(|gone| reply.contains(gone)))
    }

    /// Sends one command and returns the reply.
    fn send(&self, command: &str) -> Result<String, RuntimeError> {
        require_safe(command)?;
        let _operation = watchdog::begin(format!("haproxy: {command}"), self.timeout);
        block_on(async {
            match tokio::time::timeout(self.timeout, self.exchange(command)).await {
                Ok(result) => result,
                Err(_) => Err(self.unusable(format!("no reply to `{command}` in time"))),
            }
        })
    }

    async fn exchange(&self, command: &str) -> Result<String, RuntimeError> {
        let mut stream = self.connect().await?;
        let io = |error: std::io::Error| self.unusable(format!("`{command}`: {error}"));
        let line = format!("{command}\n");
        stream.write_all(line.as_bytes()).await.map_err(io)?;
        let mut reply = Vec::new();
        let mut limited = (&mut stream).take(MAX_REPLY_BYTES + 1);
        limited.read_to_end(&mut reply).await.map_err(io)?;
        if reply.len() as u64 > MAX_REPLY_BYTES {
            return Err(malformed(command, "it is too long".to_owned()));
        }
        // A reply is made safe to show where it is shown.
        Ok(String::from_utf8_lossy(&reply).into_owned())
    }

    /// Connects, if root (or the user who runs trueup) listens: haproxy does before it drops its privileges. Debian keeps
    /// the socket in a folder of the user `haproxy`, who could put another one there.
    async fn connect(&self) -> Result<UnixStream, RuntimeError> {
        let not_listening = || RuntimeError::NotListening(self.path.clone());
        let folder = self.path.parent().ok_or_else(not_listening)?;
        let name = self.path.file_name().ok_or_else(not_listening)?;
        let folder = self
            .root
            .open_folder_fd(folder)?
            .ok_or_else(not_listening)?;
        // Through the open folder: no link on the way is followed, and no path is too long for a socket address.
        let path = Path::new("/proc/self/fd")
            .join(folder.as_raw_fd().to_string())
            .join(name);
        let stream = match UnixStream::connect(path).await {
            Ok(stream) => stream,
            Err(error) => match error.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => return Err(not_listening()),
                _ => return Err(self.unusable(error.to_string())),
            },
        };
        let peer = stream.peer_cred();
        let peer = peer.map_err(|error| self.unusable(error.to_string()))?;
        if peer.uid() != 0 && peer.uid() != self.root.current_uid() {
            let why = format!("user {} listens there; expected root", peer.uid());
            return Err(self.unusable(why));
        }
        Ok(stream)
    }

    fn unusable(&self, why: String) -> RuntimeError {
        RuntimeError::Unusable {
            path: self.path.clone(),
            why,
        }
    }
}

fn malformed(command: &str, why: String) -> RuntimeError {
    RuntimeError::Malformed {
        command: command.to_owned(),
        why,
    }
}

/// The address as a word of a command.
fn address_word(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(_) => address.to_string(),
        SocketAddr::V6(_) => format!("ipv6@{}:{}", address.ip(), address.port()),
    }
}

/// Whether a word means the same in haproxy's configuration and in a command: no quoting, no variable, no comment, and
/// nothing that ends the command.
pub(crate) fn is_plain_word(word: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_graphic() && !"\"'\\$;#<>".contains(c);
    !word.is_empty() && word.chars().all(is_plain)
}

fn require_safe(command: &str) -> Result<(), RuntimeError> {
    let mut words = command.split(' ').filter(|word| !word.is_empty());
    match words.find(|word| !is_plain_word(word)) {
        Some(word) => Err(RuntimeError::UnsafeWord(shown(word))),
        None => Ok(()),
    }
}

fn parse_info(reply: &str) -> Result<ProcessInfo, String> {
    let value = |key| info_value(reply, key);
    let pid = value("Pid").and_then(|pid| pid.trim().parse().ok());
    let version = value("Version").and_then(|version| {
        let mut parts = version.split(['.', '-']);
        let (major, minor) = (parts.next()?, parts.next()?);
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    Ok(ProcessInfo {
        pid: pid.ok_or("it has no `Pid`")?,
        version: version.ok_or("it has no `Version`")?,
    })
}
