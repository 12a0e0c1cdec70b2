//! Plain processes, for sandboxes: no supervisor and no privilege.
//!
//! A service is defined by the systemd unit file of the sandbox ([`unit`] says which part of it
//! counts) and read anew at every start. Nobody watches over it: one that ends by itself stays
//! down until the next pass. What was started is remembered in [`state`], and outlives trueup.
//! A unit of another type (`x.socket`, `x.timer`) has no process: it is merely marked as active,
//! and an active socket is bound when the service of its name starts.

mod launch;
mod listen;
mod living;
mod moves;
mod state;
#[cfg(test)]
mod tests;
mod unit;
#[cfg(test)]
mod unit_tests;
mod words;

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use self::living::Living;
use self::state::State;
use self::unit::Unit;
use super::name::UnitName;
use super::{Active, Enabled, ServiceError, Services, Status, moment};
use crate::ports::accounts::Accounts;
use crate::ports::exec::Exec;
use crate::ports::root::{Root, RootError};

/// Where definitions are, first one found wins.
const FOLDERS: [&str; 4] = [
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/lib/systemd/system",
    "/usr/lib/systemd/system",
];

/// No unit file is larger, in bytes.
const MAX_FILE: usize = 1 << 20;

/// The processes of a sandbox.
#[derive(Debug)]
pub struct ProcessServices {
    root: Rc<Root>,
    exec: Rc<Exec>,
    accounts: Rc<Accounts>,
}

/// What is on disk under a name.
#[derive(Debug)]
enum Definition {
    Absent,
    /// A link to `/dev/null`.
    Masked,
    Unit(Box<Unit>),
}

/// A service as it is: what was remembered, held against what is running.
#[derive(Debug)]
struct Found {
    state: State,
    main: Option<Living>,
}

impl ProcessServices {
    pub fn new(root: Rc<Root>, exec: Rc<Exec>, accounts: Rc<Accounts>) -> ProcessServices {
        ProcessServices {
            root,
            exec,
            accounts,
        }
    }

    fn definition(&self, name: &UnitName) -> Result<Definition, RootError> {
        let template = name.template().map(|(template, _)| template);
        let names = [Some(name.full().to_owned()), template];
        for file in names.into_iter().flatten() {
            for folder in FOLDERS {
                let path = Path::new(folder).join(&file);
                if self.root.read_link(&path)?.as_deref() == Some(Path::new("/dev/null")) {
                    return Ok(Definition::Masked);
                }
                if let Some(body) = self.root.read(&path, MAX_FILE)? {
                    let mut files = vec![String::from_utf8_lossy(&body).into_owned()];
                    files.extend(self.drop_ins(name)?);
                    let unit = Unit::read(name, files.iter().map(String::as_str));
                    return Ok(Definition::Unit(Box::new(unit)));
                }
            }
        }
        Ok(Definition::Absent)
    }

    fn drop_ins(&self, name: &UnitName) -> Result<Vec<String>, RootError> {
        let mut texts = Vec::new();
        for folder in FOLDERS {
            let folder = PathBuf::from(format!("{folder}/{}.d", name.full()));
            for file in self.root.list(&folder)?.unwrap_or_default() {
                if Path::new(&file)
                    .extension()
                    .is_some_and(|end| end == "conf")
                {
                    let body = self.root.read(&folder.join(&file), MAX_FILE)?;
                    texts.extend(body.map(|body| String::from_utf8_lossy(&body).into_owned()));
                }
            }
        }
        Ok(texts)
    }

    fn found(&self, name: &UnitName) -> Result<Found, RootError> {
        let mut state = State::read(&self.root, name)?;
        let boot = living::boot();
        // What ran before a reboot was not ended by itself.
        state.run = state.run.filter(|run| run.boot == boot);
        let main = state.run.as_ref().and_then(|run| {
            let living = launch::past_the_gate(run.pid?)?;
            (living.start == run.start).then_some(living)
        });
        Ok(Found { state, main })
    }

    fn mark(&self, name: &UnitName) -> String {
        format!("{}|{}", self.root.path().display(), name.short())
    }

    fn log(&self, name: &UnitName) -> PathBuf {
        PathBuf::from(format!("/var/log/trueup/{}.log", name.short()))
    }
}

impl Found {
    fn active(&self) -> Active {
        match &self.state.run {
            None => Active::Stopped,
            Some(run) if run.pid.is_none() || self.main.is_some() => Active::Running,
            // Nobody stopped it, and it is not there.
            Some(_) => Active::Failed,
        }
    }

    fn status(&self, unit: Option<&Unit>) -> Status {
        let active = self.active();
        let run = self
            .state
            .run
            .as_ref()
            .filter(|_| active == Active::Running);
        let pid = run.and_then(|run| run.pid);
        let enabled = match unit {
            None => Enabled::Masked,
            Some(unit) if !unit.installable => Enabled::Static,
            Some(_) if self.state.enabled => Enabled::Yes,
            Some(_) => Enabled::No,
        };
        Status {
            known: true,
            active,
            enabled,
            main_pid: pid.and_then(|pid| u32::try_from(pid).ok()),
            run: run.map(|run| {
                let boot: String = run.boot.chars().take(8).collect();
                format!("{}:{}:{boot}", run.pid.unwrap_or(0), run.start)
            }),
            started_at: run.and_then(|run| living::started_at(run.start)),
            reloaded_at: run
                .and_then(|run| run.reloaded)
                .and_then(|nanos| moment::of_boot(Duration::from_nanos(nanos))),
            load: run
                .and_then(|run| run.reloaded)
                .map(|nanos| nanos.to_string()),
            can_reload: unit.is_some_and(|unit| !unit.reload.is_empty()),
            // It is read at every start.
            stale_definition: false,
            definition: None,
            // Read through [`Root`], which follows nothing that others planted.
            environment_files: Vec::new(),
            revived: 0,
        }
    }
}

impl Services for ProcessServices {
    fn status(&self, name: &str) -> Result<Status, ServiceError> {
        let name = UnitName::new(name)?;
        let look = || -> Result<Status, RootError> {
            let unit = match self.definition(&name)? {
                Definition::Absent => return Ok(Status::unknown()),
                Definition::Masked => None,
                Definition::Unit(unit) => Some(unit),
            };
            Ok(self.found(&name)?.status(unit.as_deref()))
        };
        look().map_err(|error| ServiceError::failed("status", name.short(), error.to_string()))
    }

    fn start(&self, name: &str) -> Result<(), ServiceError> {
        self.about("start", name)?.start()
    }

    fn stop(&self, name: &str) -> Result<(), ServiceError> {
        self.about("stop", name)?.stop()
    }

    fn restart(&self, name: &str) -> Result<(), ServiceError> {
        self.about("restart", name)?.restart()
    }

    fn reload(&self, name: &str) -> Result<(), ServiceError> {
        self.about("reload", name)?.reload()
    }

    fn enable(&self, name: &str) -> Result<(), ServiceError> {
        self.about("enable", name)?.enable(true)
    }

    fn disable(&self, name: &str) -> Result<(), ServiceError> {
        self.about("disable", name)?.enable(false)
    }

    fn last_words(&self, name: &str) -> Vec<String> {
        let log = UnitName::new(name).map(|name| self.log(&name));
        log.map_or(Vec::new(), |log| launch::log_tail(&self.root, &log, 0))
    }
}
