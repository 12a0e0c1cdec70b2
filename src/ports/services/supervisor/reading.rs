//! What supervisord says about processes, in the port's words.

use std::collections::HashMap;

use dxr::{Error, TryFromValue, Value};

use super::super::living::{self, Living};
use super::super::{Active, Enabled, ServiceError, Status};

/// What a name means: `web` is the process `web` of the group `web`, or else that whole group;
/// `shop:web` is one process, `shop:*` a whole group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) group: String,
    process: Member,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Member {
    All,
    One(String),
    /// The one that is called as its group, if there is one; else all.
    Namesake,
}

impl Name {
    pub(super) fn new(name: &str) -> Result<Name, ServiceError> {
        let bad = |hint: &str| {
            Err(ServiceError::Unknown {
                name: name.to_owned(),
                hint: hint.to_owned(),
            })
        };
        let odd = |c: char| c.is_whitespace() || c.is_control() || "/[]".contains(c);
        if let Some(odd) = name.chars().find(|c| odd(*c)) {
            return bad(&format!("a name cannot hold {odd:?}"));
        }
        let (group, process) = match name.split_once(':') {
            Some((group, "*")) => (group, Member::All),
            Some((group, process)) => (group, Member::One(process.to_owned())),
            None => (name, Member::Namesake),
        };
        let empty = matches!(&process, Member::One(one) if one.is_empty() || one.contains(':'));
        if group.is_empty() || empty {
            return bad("expected `NAME`, `GROUP:NAME` or `GROUP:*`");
        }
        Ok(Name {
            group: group.to_owned(),
            process,
        })
    }

    /// The processes that it means.
    pub(super) fn among(&self, all: &[Process]) -> Vec<Process> {
        let mut group = all.iter().filter(|process| process.group == self.group);
        let one = match &self.process {
            Member::All => None,
            Member::One(one) => Some(one),
            Member::Namesake => group
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

    /// Where else there is something of that name.
    pub(super) fn hint(&self, all: &[Process]) -> String {
        match all.iter().find(|process| process.name == self.group) {
            Some(process) => format!("supervisord knows a `{}`", process.full()),
            None => "supervisord's configuration has no section for it".to_owned(),
        }
    }

    pub(super) fn is_whole_group(&self, all: &[Process]) -> bool {
        let size = all.iter().filter(|p| p.group == self.group).count();
        self.among(all).len() == size
    }
}

/// One process as supervisord has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) group: String,
    pub(super) name: String,
    pub(super) state: State,
    pub(super) pid: Option<i32>,
    /// Why it is not up, in supervisord's words; may be empty.
    pub(super) end: String,
}

/// As in supervisord's documentation, "Process States".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Stopped,
    Starting,
    Running,
    /// It ended before it counted as started, and is tried again.
    Backoff,
    Stopping,
    Exited,
    /// It is not tried again.
    Fatal,
    Unknown,
}

impl Process {
    pub(super) fn full(&self) -> String {
        format!("{}:{}", self.group, self.name)
    }

    /// Not down, and not on its way there.
    pub(super) fn is_up(&self) -> bool {
        use State::{Backoff, Running, Starting};
        matches!(self.state, Running | Starting | Backoff)
    }

    fn active(&self) -> Active {
        match self.state {
            State::Running => Active::Running,
            State::Starting | State::Backoff => Active::Starting,
            State::Stopping => Active::Stopping,
            State::Stopped => Active::Stopped,
            // With one of the codes that its section expects, or without.
            State::Exited if self.end.is_empty() => Active::Stopped,
            State::Exited | State::Fatal | State::Unknown => Active::Failed,
        }
    }

    /// Why it is not up, for people.
    pub(super) fn why(&self) -> String {
        let state = match self.state {
            State::Exited => "it ended",
            State::Fatal => "it did not stay up and is not tried again",
            State::Backoff => "it did not stay up and is tried again",
            _ => "it is down",
        };
        match self.end.as_str() {
            "" => state.to_owned(),
            end => format!("{state}: {end}"),
        }
    }
}

impl TryFromValue for Process {
    fn try_from_value(value: &Value) -> Result<Process, Error> {
        let fields: HashMap<String, Value> = HashMap::try_from_value(value)?;
        let field = |name: &'static str| {
            fields
                .get(name)
                .ok_or_else(|| Error::missing_field("process", name))
        };
        let state: String = String::try_from_value(field("statename")?)?;
        let pid = i32::try_from_value(field("pid")?)?;
        Ok(Process {
            group: String::try_from_value(field("group")?)?,
            name: String::try_from_value(field("name")?)?,
            state: match state.as_str() {
                "STOPPED" => State::Stopped,
                "STARTING" => State::Starting,
                "RUNNING" => State::Running,
                "BACKOFF" => State::Backoff,
                "STOPPING" => State::Stopping,
                "EXITED" => State::Exited,
                "FATAL" => State::Fatal,
                _ => State::Unknown,
            },
            pid: (pid > 0).then_some(pid),
            end: String::try_from_value(field("spawnerr")?)?,
        })
    }
}

/// Several processes as one service. It runs when all of them do; it began when the oldest did,
/// and any of them that is started anew makes another run.
pub(super) fn status(processes: &[Process], stale_definition: bool) -> Status {
    let active = processes
        .iter()
        .map(Process::active)
        .max_by_key(|active| match active {
            Active::Running => 0,
            Active::Starting => 1,
            Active::Stopping => 2,
            Active::Stopped => 3,
            Active::Failed => 4,
        })
        .unwrap_or(Active::Stopped);
    let living: Vec<Living> = processes
        .iter()
        .filter(|process| process.is_up())
        .filter_map(|process| Living::find(process.pid?))
        .collect();
    let runs = active == Active::Running && living.len() == processes.len();
    let oldest = living.iter().map(|living| living.start).min();
    Status {
        known: true,
        active: match active {
            // Gone since supervisord last looked, which is a moment ago.
            Active::Running if !runs => Active::Starting,
            active => active,
        },
        // Whether it starts with supervisord is written in its section: nobody can switch it.
        enabled: Enabled::Static,
        main_pid: living
            .first()
            .filter(|_| runs)
            .and_then(|first| u32::try_from(first.pid).ok()),
        run: runs.then(|| {
            let runs: Vec<String> = living
                .iter()
                .map(|living| format!("{}:{}", living.pid, living.start))
                .collect();
            let boot: String = living::boot().chars().take(8).collect();
            format!("{}:{boot}", runs.join("+"))
        }),
        started_at: oldest.filter(|_| runs).and_then(living::started_at),
        // Supervisord takes no note of the signals that it passes on.
        reloaded_at: None,
        load: None,
        can_reload: true,
        stale_definition,
        definition: None,
        environment_files: Vec::new(),
        revived: 0,
    }
}
