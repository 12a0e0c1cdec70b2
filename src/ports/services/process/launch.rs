//! Starting a process so that it is never started twice.
//!
//! The new process first waits at a gate, a pipe: its id is written down, and only then is it let
//! through to become the service. If trueup is killed in between, the pipe closes and the process
//! ends without having been anything.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use super::living::{self, Living, MAIN_MARK, MARK};
use super::unit::{Line, Unit};
use super::{listen, words};
use crate::ports::exec::{Command, Exec, ExecError, Identity, PATH};
use crate::ports::root::{Attrs, Root, RootError};

/// How long a service must stay up to count as started.
const SETTLE: Duration = Duration::from_millis(150);

/// How long the way from the gate to the service's own program may take.
const GATE_LIMIT: Duration = Duration::from_secs(10);

/// How long a process may be between two programs, or on its way out.
const BETWEEN_LIMIT: Duration = Duration::from_secs(1);

/// A log that is longer when its service starts is put aside (one older one is kept), in bytes.
const LOG_LIMIT: u64 = 16 << 20;

/// How much of a log's end is looked at, in bytes.
const LOG_TAIL: u64 = 64 << 10;

pub(super) const LOG_LINES: usize = 10;

/// Everything that a start needs, found and checked before anything is changed.
#[derive(Debug)]
pub(super) struct Launch<'a> {
    pub(super) unit: &'a Unit,
    /// Of the socket unit with the same name, if that is active.
    pub(super) socket: Option<&'a Unit>,
    pub(super) identity: Option<Identity>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) mark: String,
    pub(super) log: PathBuf,
}

/// A process at the gate.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) pid: i32,
    pub(super) start: u64,
    gate: File,
}

impl Launch<'_> {
    /// Runs what is to come before the service.
    pub(super) fn prepare(&self, exec: &Exec) -> Result<(), ExecError> {
        for line in &self.unit.start_pre {
            let ended = exec.must(self.command(line, &self.env));
            if !line.may_fail {
                ended?;
            }
        }
        Ok(())
    }

    /// A command of the unit, run as the service runs.
    pub(super) fn command(&self, line: &Line, env: &BTreeMap<String, String>) -> Command {
        let mut command = Command::new(argv(line, env)).timeout(self.unit.start_limit);
        command.cwd.clone_from(&self.unit.folder);
        command.identity.clone_from(&self.identity);
        command.umask = self.unit.umask;
        command.env = env.iter().map(|(k, v)| (k.into(), v.into())).collect();
        command.env.insert(MARK.into(), (&self.mark).into());
        command
    }

    /// Starts a process that waits at the gate.
    pub(super) fn spawn(&self, exec: &Exec, root: &Root, line: &Line) -> Result<Waiting, String> {
        let mut pass = self.socket.map_or(Ok(Vec::new()), listen::bind)?;
        let sockets = pass.len();
        let (behind, gate) = pipe2(OFlag::O_CLOEXEC).map_err(|error| error.to_string())?;
        pass.push(behind);
        let mut command = self.command(line, &self.env);
        let program = std::mem::take(&mut command.argv);
        command.argv = ["/bin/sh", "-c", &script(sockets), "sh"]
            .map(OsString::from)
            .into();
        command.argv.extend(program);
        command.pass = pass;
        command.log = Some(open_log(root, &self.log).map_err(|error| error.to_string())?);
        let pid = exec.detach(command).map_err(|error| error.to_string())?;
        let pid = i32::try_from(pid).map_err(|error| error.to_string())?;
        let living = Living::find(pid).ok_or("it ended at once")?;
        Ok(Waiting {
            pid,
            start: living.start,
            gate: gate.into(),
        })
    }
}

impl Waiting {
    /// Lets the process through and waits until it is the service, and stays up for a moment.
    pub(super) fn release(mut self) -> Result<(), String> {
        self.gate
            .write_all(b"\n")
            .map_err(|error| format!("it ended at once: {error}"))?;
        let begun = Instant::now();
        let mut through: Option<Instant> = None;
        loop {
            if Living::find(self.pid).is_none() {
                let how = living::reap(self.pid).unwrap_or_else(|| "ended".into());
                return Err(format!("it {how} right after its start"));
            }
            let waits = match stage(self.pid) {
                Stage::AtGate => true,
                Stage::Between => begun.elapsed() < BETWEEN_LIMIT,
                Stage::Through => false,
            };
            match through {
                Some(since) if since.elapsed() >= SETTLE => return Ok(()),
                None if !waits => through = Some(Instant::now()),
                None if begun.elapsed() > GATE_LIMIT => {
                    return Err("its program could not be started in time".into());
                }
                _ => {}
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The process `pid` once it is the service; `None` when it has ended.
///
/// One at the gate is about to be either, and soon: whoever started it lets it through, or was
/// killed and so closed the gate. Taking it for the service would lose a start, taking it for
/// nothing could repeat one.
pub(super) fn past_the_gate(pid: i32) -> Option<Living> {
    let begun = Instant::now();
    loop {
        let living = Living::find(pid)?;
        match stage(pid) {
            Stage::Through => return Some(living),
            // A program may have wiped its own line.
            Stage::Between if begun.elapsed() > BETWEEN_LIMIT => return Some(living),
            Stage::AtGate if begun.elapsed() > GATE_LIMIT => return None,
            _ => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// How far a process is that was started to become a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    AtGate,
    /// It has no command line: the kernel is just giving it another program, or ending it.
    Between,
    Through,
}

fn stage(pid: i32) -> Stage {
    let line = Living::command_line(pid);
    let script = line.split(|byte| *byte == 0).nth(2);
    match script {
        _ if line.is_empty() => Stage::Between,
        Some(script) if script.starts_with(AT_GATE.as_bytes()) => Stage::AtGate,
        _ => Stage::Through,
    }
}

/// How the script at the gate begins.
const AT_GATE: &str = "read -r go <&";

/// What the process does at the gate. Only a process itself knows its id before it is the
/// service, hence the shell.
fn script(sockets: usize) -> String {
    let gate = 3 + sockets;
    let listen = match sockets {
        0 => String::new(),
        n => format!("LISTEN_PID=$$ LISTEN_FDS={n}; export LISTEN_PID LISTEN_FDS; "),
    };
    format!(
        "{AT_GATE}{gate} || exit 1; exec {gate}<&-; {listen}\
         {MAIN_MARK}=$$; export {MAIN_MARK}; exec \"$@\""
    )
}

pub(super) fn argv(line: &Line, env: &BTreeMap<String, String>) -> Vec<String> {
    if !line.expands {
        return line.words.clone();
    }
    // The program itself is never a variable.
    let (program, rest) = line.words.split_at(1);
    [program, &words::expand(rest, env)].concat()
}

/// The unit's variables: its own lines first, then its files, later ones winning. Systemd's order.
pub(super) fn environment(
    unit: &Unit,
    root: &Root,
    identity: Option<&Identity>,
) -> Result<BTreeMap<String, String>, String> {
    let mut env = BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]);
    if let Some(identity) = identity {
        let home = root.outside(&identity.home);
        env.insert("HOME".into(), home.to_string_lossy().into_owned());
        env.insert(
            "SHELL".into(),
            identity.shell.to_string_lossy().into_owned(),
        );
        env.insert("USER".into(), identity.name.clone());
        env.insert("LOGNAME".into(), identity.name.clone());
    }
    let assignments = unit.environment.iter();
    env.extend(assignments.filter_map(|word| {
        let (name, value) = word.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    }));
    for (path, may_miss) in &unit.environment_files {
        match read_outside(root, path)? {
            Some(text) => env.extend(variables(&text)?),
            None if *may_miss => {}
            None => return Err(format!("its EnvironmentFile {} is missing", path.display())),
        }
    }
    Ok(env)
}

/// A file named by its outside path, looked up below the root when it is there.
fn read_outside(root: &Root, path: &Path) -> Result<Option<String>, String> {
    const LIMIT: usize = 1 << 20;
    let body = match path.strip_prefix(root.path()) {
        Ok(inner) => root
            .read(&Path::new("/").join(inner), LIMIT)
            .map_err(|error| error.to_string())?,
        Err(_) => match std::fs::read(path) {
            Ok(body) => Some(body),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
        },
    };
    Ok(body.map(|body| String::from_utf8_lossy(&body).into_owned()))
}

fn variables(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Some((name, value)) = line.split_once('=') else {
            continue;
        };
        let value = value.trim();
        let value = match value.starts_with(['"', '\'']) {
            true => words::split(value)?.concat(),
            false => value.to_owned(),
        };
        found.push((name.trim().to_owned(), value));
    }
    Ok(found)
}

fn open_log(root: &Root, path: &Path) -> Result<File, RootError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    root.make_dirs(folder, &Attrs::mode(0o755))?;
    if root.meta(path)?.is_some_and(|meta| meta.size > LOG_LIMIT) {
        root.rename(path, &path.with_extension("log.1"))?;
    }
    root.append(path, &Attrs::mode(0o600))
}

/// How long a log is, in bytes.
pub(super) fn log_length(root: &Root, path: &Path) -> u64 {
    root.meta(path).ok().flatten().map_or(0, |meta| meta.size)
}

/// The last lines of a log, of what was written behind `from`.
pub(super) fn log_tail(root: &Root, path: &Path, from: u64) -> Vec<String> {
    let read = || -> io::Result<String> {
        let folder = root.open_folder(path.parent().unwrap_or(Path::new("/")));
        let name = path.file_name().unwrap_or_default();
        let file =
            folder.and_then(|folder| folder.map(|folder| folder.open_file(name)).transpose());
        let Some(mut file) = file.map_err(io::Error::other)?.flatten() else {
            return Ok(String::new());
        };
        let end = file.seek(SeekFrom::End(0))?;
        // A log that was put aside in between begins anew.
        let from = if from > end { 0 } else { from };
        file.seek(SeekFrom::Start(from.max(end.saturating_sub(LOG_TAIL))))?;
        let mut body = Vec::new();
        file.take(LOG_TAIL).read_to_end(&mut body)?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.len().saturating_sub(LOG_LINES);
    lines[first..]
        .iter()
        .map(|line| (*line).to_owned())
        .collect()
}
