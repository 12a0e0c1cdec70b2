//! A child to run, and the user that it runs as.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use super::stop_flag::StopFlag;

/// `PATH` of every child whose environment has none.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Timeout of a child that sets none.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

/// Umask of a child that sets none: nginx, another user, serves what a build makes.
pub(crate) const DEFAULT_UMASK: u32 = 0o022;

/// The user that a child runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// All groups, including the primary one.
    pub groups: Vec<u32>,
    /// A path of the host.
    pub home: PathBuf,
    pub shell: PathBuf,
}

/// Follows a child while it runs.
pub(crate) trait OutputObserver: std::fmt::Debug + Send {
    /// The child printed this; secrets are redacted.
    fn on_output(&mut self, bytes: &[u8]);

    /// Called several times a second, `elapsed` after the start.
    fn on_tick(&mut self, elapsed: Duration);
}

/// A child to run. The environment is exactly `env` (with [`PATH`] when it has none).
#[derive(Debug)]
pub(crate) struct Command {
    pub argv: Vec<OsString>,
    /// A path of the machine, not of the sandbox. `None`: `/`. A child of another user than trueup's needs access to it.
    pub cwd: Option<PathBuf>,
    /// The folder itself instead of `cwd`: for a child of root below folders that another user could exchange meanwhile.
    pub cwd_fd: Option<OwnedFd>,
    pub env: BTreeMap<OsString, OsString>,
    /// `None`: trueup's own.
    pub identity: Option<Identity>,
    /// Which permissions what it makes does not get.
    pub umask: u32,
    pub timeout: Duration,
    /// Also receives all output, up to 16 MiB.
    pub log: Option<File>,
    /// Told of all output and of the time, while the child runs.
    pub observer: Option<Box<dyn OutputObserver>>,
    /// Passed to the child as 3, 4, …; at most 16.
    pub extra_fds: Vec<OwnedFd>,
    /// Content of standard input.
    pub input: Vec<u8>,
    /// Once set, trueup kills the group as at a deadline. `None`: a request to stop trueup waits for the
    /// child.
    pub stop: Option<StopFlag>,
}

impl Command {
    pub(crate) fn new<I, S>(argv: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: Into<OsString>,
    {
        Command {
            argv: argv.into_iter().map(Into::into).collect(),
            cwd: None,
            cwd_fd: None,
            env: BTreeMap::new(),
            identity: None,
            umask: DEFAULT_UMASK,
            timeout: DEFAULT_TIMEOUT,
            log: None,
            observer: None,
            extra_fds: Vec::new(),
            input: Vec::new(),
            stop: None,
        }
    }

    /// Runs a step as written by an operator, in a shell.
    pub(crate) fn shell(line: &str) -> Command {
        Command::new(["/bin/sh", "-e", "-c", line])
    }

    pub(crate) fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Command {
        self.env.insert(key.into(), value.into());
        self
    }

    pub(crate) fn timeout(mut self, timeout: Duration) -> Command {
        self.timeout = timeout;
        self
    }

    /// The arguments in shell syntax, for messages.
    pub(crate) fn command_line(&self) -> String {
        let argv: Vec<&std::ffi::OsStr> = self.argv.iter().map(OsString::as_os_str).collect();
        // Show a shell step as the operator wrote it.
        if let [sh, flag, dash_c, line] = argv.as_slice()
            && *sh == "/bin/sh"
            && *flag == "-e"
            && *dash_c == "-c"
        {
            return line.to_string_lossy().into_owned();
        }
        argv.iter()
            .map(|arg| shell_quote(&arg.to_string_lossy()))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// A command in messages: what failed and why has to fit into a line.
pub(crate) fn first_line(command_line: &str) -> Cow<'_, str> {
    const MAX_CHARS: usize = 100;
    let lines = command_line.trim();
    let line = lines.lines().next().unwrap_or_default();
    let end = line.char_indices().nth(MAX_CHARS).map(|(end, _)| end);
    match end {
        Some(end) => Cow::Owned(format!("{}…", &line[..end])),
        None if line.len() < lines.len() => Cow::Owned(format!("{line} …")),
        None => Cow::Borrowed(line),
    }
}

fn shell_quote(arg: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=/.,:@%+".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) {
        arg.to_owned()
    } else {
        format!("'{}'", arg.replace('\'', r"'\''"))
    }
}
