//! Starts a process so that it is never started twice.
//!
//! The new process first blocks on a pipe: trueup saves its id, and only then unblocks it to exec the
//! service. If trueup is killed in between, the pipe closes and the process ends without having run the
//! service.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use super::launch_stage::{
    BLOCKED_SCRIPT_PREFIX, EXEC_TIMEOUT, LaunchStage, NO_COMMAND_LINE_TIMEOUT, launch_stage,
};
use super::processes::{self, LiveProcess, MAIN_PID_VARIABLE, SERVICE_VARIABLE};
use super::unit::{Unit, UnitCommand};
use super::{command_line, listen};
use crate::ports::exec::{Command, Exec, ExecError, Identity, PATH};
use crate::ports::root::{Attrs, Root, RootError};

/// How long a service must stay up to count as started.
const MIN_UPTIME: Duration = Duration::from_millis(150);

/// A log longer than this at the start of its service is rotated (one old log is kept), in bytes.
const MAX_LOG_SIZE: u64 = 16 << 20;

/// How much of the end of a log is read, in bytes.
const LOG_TAIL_BYTES: u64 = 64 << 10;

pub(super) const LOG_TAIL_LINES: usize = 10;

/// Everything that a start needs, found and checked before anything changes.
#[derive(Debug)]
pub(super) struct Launch<'a> {
    pub(super) unit: &'a Unit,
    /// The socket unit of the same name, if active.
    pub(super) socket: Option<&'a Unit>,
    pub(super) identity: Option<Identity>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) service_id: String,
    pub(super) log: PathBuf,
}

/// A new process that waits on its pipe.
#[derive(Debug)]
pub(super) struct BlockedProcess {
    pub(super) pid: i32,
    pub(super) start_time: u64,
    start_pipe: File,
}

impl Launch<'_> {
    /// Runs the `ExecStartPre=` commands.
    pub(super) fn run_start_pre(&self, exec: &Exec) -> Result<(), ExecError> {
        for line in &self.unit.exec_start_pre {
            let ended = exec.run_checked(self.command(line, &self.env));
            if !line.ignore_failure {
                ended?;
            }
        }
        Ok(())
    }

    /// A command of the unit, with the environment and identity of the service.
    pub(super) fn command(&self, line: &UnitCommand, env: &BTreeMap<String, String>) -> Command {
        let mut command = Command::new(expanded_argv(line, env)).timeout(self.unit.start_timeout);
        command.cwd.clone_from(&self.unit.working_directory);
        command.identity.clone_from(&self.identity);
        command.umask = self.unit.umask;
        command.env = env.iter().map(|(k, v)| (k.into(), v.into())).collect();
        command
            .env
            .insert(SERVICE_VARIABLE.into(), (&self.service_id).into());
        command
    }

    /// Starts a process that waits on its pipe.
    pub(super) fn spawn_blocked(
        &self,
        exec: &Exec,
        root: &Root,
        line: &UnitCommand,
    ) -> Result<BlockedProcess, String> {
        let mut pass = self.socket.map_or(Ok(Vec::new()), listen::bind)?;
        let sockets = pass.len();
        let (behind, gate) = pipe2(OFlag::O_CLOEXEC).map_err(|error| error.to_string())?;
        pass.push(behind);
        let mut command = self.command(line, &self.env);
        let program = std::mem::take(&mut command.argv);
        command.argv = ["/bin/sh", "-c", &start_script(sockets), "sh"]
            .map(OsString::from)
            .into();
        command.argv.extend(program);
        command.extra_fds = pass;
        command.log = Some(open_log(root, &self.log).map_err(|error| error.to_string())?);
        let pid = exec
            .spawn_detached(command)
            .map_err(|error| error.to_string())?;
        let pid = i32::try_from(pid).map_err(|error| error.to_string())?;
        let living = LiveProcess::find(pid).ok_or("it ended at once")?;
        Ok(BlockedProcess {
            pid,
            start_time: living.start_time,
            start_pipe: gate.into(),
        })
    }
}

impl BlockedProcess {
    /// Unblocks the process and waits until it has executed the service and stayed up for [`MIN_UPTIME`].
    pub(super) fn unblock(mut self) -> Result<(), String> {
        self.start_pipe
            .write_all(b"\n")
            .map_err(|error| format!("it ended at once: {error}"))?;
        let started = Instant::now();
        let mut executed_at: Option<Instant> = None;
        loop {
            if LiveProcess::find(self.pid).is_none() {
                let ending = processes::reap(self.pid).unwrap_or_else(|| "ended".into());
                return Err(format!("it {ending} right after its start"));
            }
            let is_starting = match launch_stage(self.pid) {
                LaunchStage::Blocked => true,
                LaunchStage::NoCommandLine => started.elapsed() < NO_COMMAND_LINE_TIMEOUT,
                LaunchStage::Executed => false,
            };
            match executed_at {
                Some(since) if since.elapsed() >= MIN_UPTIME => return Ok(()),
                None if !is_starting => executed_at = Some(Instant::now()),
                None if started.elapsed() > EXEC_TIMEOUT => {
                    return Err("its program could not be started in time".into());
                }
                _ => {}
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The script that blocks on the pipe and then executes the service. A shell, because the process needs its
/// own id (for `LISTEN_PID` and [`MAIN_PID_VARIABLE`]) before it executes the service.
fn start_script(sockets: usize) -> String {
    let gate = 3 + sockets;
    let listen = match sockets {
        0 => String::new(),
        n => format!("LISTEN_PID=$$ LISTEN_FDS={n}; export LISTEN_PID LISTEN_FDS; "),
    };
    format!(
        "{BLOCKED_SCRIPT_PREFIX}{gate} || exit 1; exec {gate}<&-; {listen}\
         {MAIN_PID_VARIABLE}=$$; export {MAIN_PID_VARIABLE}; exec \"$@\""
    )
}

pub(super) fn expanded_argv(line: &UnitCommand, env: &BTreeMap<String, String>) -> Vec<String> {
    if !line.expand_variables {
        return line.argv.clone();
    }
    // The program itself is never a variable.
    let (program, rest) = line.argv.split_at(1);
    [program, &command_line::expand_variables(rest, env)].concat()
}

/// The unit's environment: `Environment=` lines first, then the files; later ones win. As in systemd.
pub(super) fn environment(
    unit: &Unit,
    root: &Root,
    identity: Option<&Identity>,
) -> Result<BTreeMap<String, String>, String> {
    let mut env = BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]);
    if let Some(identity) = identity {
        let home = root.machine_path(&identity.home);
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
        match read_host_file(root, path)? {
            Some(text) => env.extend(parse_environment_file(&text)?),
            None if *may_miss => {}
            None => return Err(format!("its EnvironmentFile {} is missing", path.display())),
        }
    }
    Ok(env)
}

/// Reads a file by its path outside the sandbox; below the root, the read goes through [`Root`].
fn read_host_file(root: &Root, path: &Path) -> Result<Option<String>, String> {
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

fn parse_environment_file(text: &str) -> Result<Vec<(String, String)>, String> {
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
            true => command_line::split_words(value)?.concat(),
            false => value.to_owned(),
        };
        found.push((name.trim().to_owned(), value));
    }
    Ok(found)
}

fn open_log(root: &Root, path: &Path) -> Result<File, RootError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    root.create_dir_all(folder, &Attrs::mode(0o755))?;
    if root
        .meta(path)?
        .is_some_and(|meta| meta.size > MAX_LOG_SIZE)
    {
        root.rename(path, &path.with_extension("log.1"))?;
    }
    root.open_append(path, &Attrs::mode(0o600))
}

/// Length of a log, in bytes.
pub(super) fn log_length(root: &Root, path: &Path) -> u64 {
    root.meta(path).ok().flatten().map_or(0, |meta| meta.size)
}

/// The last lines of a log after offset `from`.
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
        // A log that was rotated in between starts at 0 again.
        let from = if from > end { 0 } else { from };
        file.seek(SeekFrom::Start(
            from.max(end.saturating_sub(LOG_TAIL_BYTES)),
        ))?;
        let mut body = Vec::new();
        file.take(LOG_TAIL_BYTES).read_to_end(&mut body)?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.len().saturating_sub(LOG_TAIL_LINES);
    lines[first..]
        .iter()
        .map(|line| (*line).to_owned())
        .collect()
}
