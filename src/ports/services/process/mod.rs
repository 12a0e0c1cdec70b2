//! Services as plain processes, for sandboxes: without a supervisor and without privilege.
//!
//! The systemd unit file in the sandbox defines a service ([`mod@unit`] lists the directives that count) and
//! is read at every start. No supervisor watches the process: if it ends by itself, it stays down until the
//! next pass. [`state`] records what was started and outlives trueup. A unit of another type (`x.socket`,
//! `x.timer`) has no process: it is only marked as active, and an active socket is bound when the service
//! of its name starts.

mod actions;
mod command_line;
mod launch;
mod launch_stage;
mod listen;
mod processes;
mod state;
#[cfg(test)]
mod tests;
mod unit;
#[cfg(test)]
mod unit_tests;

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use self::processes::LiveProcess;
use self::state::SavedState;
use self::unit::Unit;
use super::log_file::FileLog;
use super::name::UnitName;
use super::{
    ActiveState, EnabledState, LogRange, ServiceError, ServiceLog, ServiceStatus, Services,
    kernel_clock,
};
use crate::ports::accounts::Accounts;
use crate::ports::exec::Exec;
use crate::ports::root::{Root, RootError};

/// Folders of unit files; the first match wins.
const UNIT_FOLDERS: [&str; 4] = [
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/lib/systemd/system",
    "/usr/lib/systemd/system",
];

/// Maximum size of a unit file, in bytes.
const MAX_UNIT_FILE: usize = 1 << 20;

/// The services of a sandbox.
#[derive(Debug)]
pub(crate) struct ProcessServices {
    root: Rc<Root>,
    exec: Rc<Exec>,
    accounts: Rc<Accounts>,
}

/// The definition on disk of a name.
#[derive(Debug)]
enum Definition {
    Absent,
    /// A link to `/dev/null`.
    Masked,
    Unit(Box<Unit>),
}

/// The saved state of a service, compared with the running processes.
#[derive(Debug)]
struct ObservedService {
    state: SavedState,
    main: Option<LiveProcess>,
}

impl ProcessServices {
    pub(crate) fn new(root: Rc<Root>, exec: Rc<Exec>, accounts: Rc<Accounts>) -> ProcessServices {
        ProcessServices {
            root,
            exec,
            accounts,
        }
    }

    fn read_definition(&self, name: &UnitName) -> Result<Definition, RootError> {
        let template = name.template().map(|(template, _)| template);
        let names = [Some(name.full().to_owned()), template];
        for file in names.into_iter().flatten() {
            for folder in UNIT_FOLDERS {
                let path = Path::new(folder).join(&file);
                if self.root.read_link(&path)?.as_deref() == Some(Path::new("/dev/null")) {
                    return Ok(Definition::Masked);
                }
                if let Some(body) = self.root.read(&path, MAX_UNIT_FILE)? {
                    let mut files = vec![String::from_utf8_lossy(&body).into_owned()];
                    files.extend(self.read_drop_ins(name)?);
                    let unit = Unit::parse(name, files.iter().map(String::as_str));
                    return Ok(Definition::Unit(Box::new(unit)));
                }
            }
        }
        Ok(Definition::Absent)
    }

    fn read_drop_ins(&self, name: &UnitName) -> Result<Vec<String>, RootError> {
        let mut texts = Vec::new();
        for folder in UNIT_FOLDERS {
            let folder = PathBuf::from(format!("{folder}/{}.d", name.full()));
            for file in self.root.list(&folder)?.unwrap_or_default() {
                if Path::new(&file)
                    .extension()
                    .is_some_and(|end| end == "conf")
                {
                    let body = self.root.read(&folder.join(&file), MAX_UNIT_FILE)?;
                    texts.extend(body.map(|body| String::from_utf8_lossy(&body).into_owned()));
                }
            }
        }
        Ok(texts)
    }

    fn observe(&self, name: &UnitName) -> Result<ObservedService, RootError> {
        let mut state = SavedState::load(&self.root, name)?;
        let boot = processes::boot_id();
        // A process from before a reboot did not end by itself.
        state.run = state.run.filter(|run| run.boot == boot);
        let main = state.run.as_ref().and_then(|run| {
            let living = launch_stage::wait_for_exec(run.pid?)?;
            (living.start_time == run.start).then_some(living)
        });
        Ok(ObservedService { state, main })
    }

    fn service_id(&self, name: &UnitName) -> String {
        format!("{}|{}", self.root.path().display(), name.short())
    }

    fn log_path(&self, name: &UnitName) -> PathBuf {
        PathBuf::from(format!("/var/log/trueup/{}.log", name.short()))
    }
}

impl ObservedService {
    fn active_state(&self) -> ActiveState {
        match &self.state.run {
            None => ActiveState::Stopped,
            Some(run) if run.pid.is_none() || self.main.is_some() => ActiveState::Running,
            // No operation stopped it, but it no longer runs.
            Some(_) => ActiveState::Failed,
        }
    }

    fn status(&self, unit: Option<&Unit>) -> ServiceStatus {
        let active = self.active_state();
        let run = self
            .state
            .run
            .as_ref()
            .filter(|_| active == ActiveState::Running);
        let pid = run.and_then(|run| run.pid);
        let enabled = match unit {
            None => EnabledState::Masked,
            Some(unit) if !unit.installable => EnabledState::Static,
            Some(_) if self.state.enabled => EnabledState::Yes,
            Some(_) => EnabledState::No,
        };
        ServiceStatus {
            known: true,
            active,
            enabled,
            // Each program has to stay in the foreground here.
            ends_by_itself: false,
            main_pid: pid.and_then(|pid| u32::try_from(pid).ok()),
            run_id: run.map(|run| {
                let boot: String = run.boot.chars().take(8).collect();
                format!("{}:{}:{boot}", run.pid.unwrap_or(0), run.start)
            }),
            started_at: run.and_then(|run| processes::started_at(run.start)),
            reloaded_at: run
                .and_then(|run| run.reloaded)
                .and_then(|nanos| kernel_clock::from_boottime(Duration::from_nanos(nanos))),
            reload_id: run
                .and_then(|run| run.reloaded)
                .map(|nanos| nanos.to_string()),
            can_reload: unit.is_some_and(|unit| !unit.exec_reload.is_empty()),
            reloading: None,
            // Read at every start.
            stale_definition: false,
            definition_file: None,
            // trueup reads them through [`Root`], which follows no link planted by other users.
            environment_files: Vec::new(),
            last_failure: None,
            restarts: 0,
        }
    }
}

impl Services for ProcessServices {
    fn status(&self, name: &str) -> Result<ServiceStatus, ServiceError> {
        let name = UnitName::new(name)?;
        let read_status = || -> Result<ServiceStatus, RootError> {
            let unit = match self.read_definition(&name)? {
                Definition::Absent => return Ok(ServiceStatus::unknown()),
                Definition::Masked => None,
                Definition::Unit(unit) => Some(unit),
            };
            Ok(self.observe(&name)?.status(unit.as_deref()))
        };
        read_status()
            .map_err(|error| ServiceError::failed("status", name.short(), error.to_string()))
    }

    fn start(&self, name: &str) -> Result<(), ServiceError> {
        self.action("start", name)?.start()
    }

    fn stop(&self, name: &str) -> Result<(), ServiceError> {
        self.action("stop", name)?.stop()
    }

    fn restart(&self, name: &str) -> Result<(), ServiceError> {
        self.action("restart", name)?.restart()
    }

    fn reload(&self, name: &str) -> Result<(), ServiceError> {
        self.action("reload", name)?.reload()
    }

    fn enable(&self, name: &str) -> Result<(), ServiceError> {
        self.action("enable", name)?.enable(true)
    }

    fn disable(&self, name: &str) -> Result<(), ServiceError> {
        self.action("disable", name)?.enable(false)
    }

    fn process_ids(&self, name: &str) -> Result<Vec<u32>, ServiceError> {
        let name = UnitName::new(name)?;
        let observed = self
            .observe(&name)
            .map_err(|error| ServiceError::failed("status", name.short(), error.to_string()))?;
        let Some(leader) = observed.state.run.as_ref().and_then(|run| run.pid) else {
            return Ok(Vec::new());
        };
        let processes = match observed.main {
            Some(_) => processes::list_session(leader),
            None => {
                let log = self.root.machine_path(&self.log_path(&name));
                processes::list_orphaned_session(leader, &self.service_id(&name), &log)
            }
        };
        let ids = processes.iter().map(|process| process.pid.cast_unsigned());
        Ok(ids.collect())
    }

    fn open_logs(&self, name: &str, range: LogRange) -> Result<Vec<ServiceLog>, ServiceError> {
        let name = UnitName::new(name)?;
        let reader = FileLog::open(&self.root, &self.log_path(&name), name.short(), range)?;
        Ok(vec![ServiceLog {
            name: name.short().to_owned(),
            reader: Box::new(reader),
        }])
    }

    fn log_tail(&self, name: &str) -> Vec<String> {
        let log = UnitName::new(name).map(|name| self.log_path(&name));
        log.map_or(Vec::new(), |log| launch::log_tail(&self.root, &log, 0))
    }
}
