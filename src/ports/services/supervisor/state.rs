//! Maps supervisord's process states to the port's types.

use std::collections::HashMap;
use std::path::PathBuf;

use dxr::{Error, TryFromValue, Value};

use super::super::live_process::{self, LiveProcess};
use super::super::{ActiveState, EnabledState, ServiceError, ServiceStatus};

/// A parsed name: `web` is the process `web` of the group `web`, or else that whole group; `shop:web` is one
/// process, `shop:*` a whole group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Namespec {
    pub(super) group: String,
    process: ProcessSelector,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ProcessSelector {
    All,
    Named(String),
    /// The process named like its group, if it exists; else all.
    SameAsGroup,
}

impl Namespec {
    pub(super) fn new(name: &str) -> Result<Namespec, ServiceError> {
        let bad = |hint: &str| {
            Err(ServiceError::Unknown {
                name: name.to_owned(),
                hint: hint.to_owned(),
            })
        };
        let odd = |c: char| c.is_whitespace() || c.is_control() || "/[]".contains(c);
        if let Some(odd) = name.chars().find(|c| odd(*c)) {
            return bad(&format!("a name cannot contain {odd:?}"));
        }
        let (group, process) = match name.split_once(':') {
            Some((group, "*")) => (group, ProcessSelector::All),
            Some((group, process)) => (group, ProcessSelector::Named(process.to_owned())),
            None => (name, ProcessSelector::SameAsGroup),
        };
        let empty =
            matches!(&process, ProcessSelector::Named(one) if one.is_empty() || one.contains(':'));
        if group.is_empty() || empty {
            return bad("expected `NAME`, `GROUP:NAME` or `GROUP:*`");
        }
        Ok(Namespec {
            group: group.to_owned(),
            process,
        })
    }

    /// The processes that the name selects.
    pub(super) fn select(&self, all: &[ProcessInfo]) -> Vec<ProcessInfo> {
        let mut group = all.iter().filter(|process| process.group == self.group);
        let one = match &self.process {
            ProcessSelector::All => None,
            ProcessSelector::Named(one) => Some(one),
            ProcessSelector::SameAsGroup => group
                .clone()
                .any(|process| process.name == self.group)
                .then_some(&self.group),
        };
        match one {
            Some(one) => group
                .find(|p| p.name == *one)
                .cloned()
                .into_iter()
                .collect(),
            None => group.cloned().collect(),
        }
    }

    /// Where else supervisord has something of that name.
    pub(super) fn hint(&self, all: &[ProcessInfo]) -> String {
        match all.iter().find(|process| process.name == self.group) {
            Some(process) => format!("supervisord knows a `{}`", process.namespec()),
            None => "supervisord's configuration has no section for it".to_owned(),
        }
    }

    pub(super) fn is_whole_group(&self, all: &[ProcessInfo]) -> bool {
        let size = all.iter().filter(|p| p.group == self.group).count();
        self.select(all).len() == size
    }
}

/// One process as supervisord reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProcessInfo {
    pub(super) group: String,
    pub(super) name: String,
    pub(super) state: ProcessState,
    pub(super) pid: Option<i32>,
    /// Why it is not up, in supervisord's words; may be empty.
    pub(super) spawn_error: String,
    /// The files that supervisord writes its output to, by the machine's paths; empty where it writes to none.
    pub(super) log_files: Vec<PathBuf>,
}

/// As in supervisord's documentation, "Process States".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProcessState {
    Stopped,
    Starting,
    Running,
    /// It ended before it counted as started; supervisord tries again.
    Backoff,
    Stopping,
    Exited,
    /// Supervisord no longer tries.
    Fatal,
    Unknown,
}

impl ProcessInfo {
    pub(super) fn namespec(&self) -> String {
        format!("{}:{}", self.group, self.name)
    }

    /// Neither down nor stopping.
    pub(super) fn is_up(&self) -> bool {
        use ProcessState::{Backoff, Running, Starting};
        matches!(self.state, Running | Starting | Backoff)
    }

    fn active_state(&self) -> ActiveState {
        match self.state {
            ProcessState::Running => ActiveState::Running,
            ProcessState::Starting | ProcessState::Backoff => ActiveState::Starting,
            ProcessState::Stopping => ActiveState::Stopping,
            ProcessState::Stopped => ActiveState::Stopped,
            // With an exit code that its section expects, or without a process.
            ProcessState::Exited if self.spawn_error.is_empty() => ActiveState::Stopped,
            ProcessState::Exited | ProcessState::Fatal | ProcessState::Unknown => {
                ActiveState::Failed
            }
        }
    }

    /// How it ended, if it is down and should not be.
    fn failure(&self) -> Option<String> {
        let is_down = matches!(
            self.state,
            ProcessState::Backoff | ProcessState::Exited | ProcessState::Fatal
        );
        let why = Some(&self.spawn_error).filter(|why| is_down && !why.is_empty());
        why.cloned()
    }

    /// Why it is not up, for messages.
    pub(super) fn down_reason(&self) -> String {
        let state = match self.state {
            ProcessState::Exited => "it ended",
            ProcessState::Fatal => "it did not stay up and is not restarted",
            ProcessState::Backoff => "it did not stay up and is being restarted",
            _ => "it is down",
        };
        match self.spawn_error.as_str() {
            "" => state.to_owned(),
            end => format!("{state}: {end}"),
        }
    }
}

impl TryFromValue for ProcessInfo {
    fn try_from_value(value: &Value) -> Result<ProcessInfo, Error> {
        let fields: HashMap<String, Value> = HashMap::try_from_value(value)?;
        let field = |name: &'static str| {
            fields
                .get(name)
                .ok_or_else(|| Error::missing_field("process", name))
        };
        let state: String = String::try_from_value(field("statename")?)?;
        let pid = i32::try_from_value(field("pid")?)?;
        Ok(ProcessInfo {
            group: String::try_from_value(field("group")?)?,
            name: String::try_from_value(field("name")?)?,
            state: match state.as_str() {
                "STOPPED" => ProcessState::Stopped,
                "STARTING" => ProcessState::Starting,
                "RUNNING" => ProcessState::Running,
                "BACKOFF" => ProcessState::Backoff,
                "STOPPING" => ProcessState::Stopping,
                "EXITED" => ProcessState::Exited,
                "FATAL" => ProcessState::Fatal,
                _ => ProcessState::Unknown,
            },
            pid: (pid > 0).then_some(pid),
            spawn_error: String::try_from_value(field("spawnerr")?)?,
            log_files: log_files(&fields),
        })
    }
}

/// The log of standard output, and that of standard error if it is another file.
fn log_files(fields: &HashMap<String, Value>) -> Vec<PathBuf> {
    let files = ["stdout_logfile", "stderr_logfile"].into_iter();
    let files = files.filter_map(|field| String::try_from_value(fields.get(field)?).ok());
    let mut found: Vec<PathBuf> = Vec::new();
    for file in files.map(PathBuf::from) {
        // Not `syslog`, and not what may be read only once.
        if file.is_absolute() && !file.starts_with("/dev") && !found.contains(&file) {
            found.push(file);
        }
    }
    found
}

/// The status of several processes as one service. It runs when all of them do; its start is that of the
/// oldest, and a restart of any of them changes `run_id`.
pub(super) fn status(processes: &[ProcessInfo], stale_definition: bool) -> ServiceStatus {
    let active = processes
        .iter()
        .map(ProcessInfo::active_state)
        .max_by_key(|active| match active {
            ActiveState::Running => 0,
            ActiveState::Starting => 1,
            ActiveState::Stopping => 2,
            ActiveState::Stopped => 3,
            ActiveState::Failed => 4,
        })
        .unwrap_or(ActiveState::Stopped);
    let living: Vec<LiveProcess> = processes
        .iter()
        .filter(|process| process.is_up())
        .filter_map(|process| LiveProcess::find(process.pid?))
        .collect();
    let runs = active == ActiveState::Running && living.len() == processes.len();
    let oldest = living.iter().map(|living| living.start_time).min();
    ServiceStatus {
        known: true,
        active: match active {
            // The process ended after supervisord last checked, a moment ago.
            ActiveState::Running if !runs => ActiveState::Starting,
            active => active,
        },
        // Its section sets `autostart`; no call can change that.
        enabled: EnabledState::Static,
        ends_by_itself: false,
        main_pid: living
            .first()
            .filter(|_| runs)
            .and_then(|first| u32::try_from(first.pid).ok()),
        run_id: runs.then(|| {
            let runs: Vec<String> = living
                .iter()
                .map(|living| format!("{}:{}", living.pid, living.start_time))
                .collect();
            let boot: String = live_process::boot_id().chars().take(8).collect();
            format!("{}:{boot}", runs.join("+"))
        }),
        started_at: oldest.filter(|_| runs).and_then(live_process::started_at),
        // Supervisord does not record the signals that it forwards.
        reloaded_at: None,
        reload_id: None,
        can_reload: true,
        reloading: None,
        stale_definition,
        definition_file: None,
        environment_files: Vec::new(),
        last_failure: processes.iter().find_map(ProcessInfo::failure),
        restarts: 0,
    }
}
