//! Systemd, over D-Bus.
//!
//! Nothing is asked through `systemctl`: a status is three calls on one connection, made at the
//! first use, and a verb returns with the result of its own job. Before a verb that depends on a
//! unit's definition, a definition that changed on disk is read again.

mod bus;
mod reading;
mod refusal;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::future::Future;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use self::bus::Bus;
use self::reading::Reading;
use super::name::UnitName;
use super::{Active, Enabled, ServiceError, Services, Status, Timer};
use crate::ports::exec::{Command, Exec};
use crate::ports::runtime::block_on;
use crate::ports::watchdog;

/// How long starting and restarting may take: services may load much before they are ready.
const START_LIMIT: Duration = Duration::from_secs(120);

/// How long anything else may take.
const LIMIT: Duration = Duration::from_secs(90);

/// How long a look may take that is only for people.
const GLANCE: Duration = Duration::from_secs(5);

/// How long a service that nobody waits for must stay up to count as started.
const SETTLE: Duration = Duration::from_millis(150);

/// Where journalctl is.
const JOURNALCTL: &str = "/usr/bin/journalctl";

const LOG_LINES: usize = 10;

/// The system's systemd.
#[derive(Debug)]
pub struct SystemdServices {
    exec: Rc<Exec>,
    bus: RefCell<Option<Rc<Bus>>>,
}

impl SystemdServices {
    pub fn new(exec: Rc<Exec>) -> SystemdServices {
        SystemdServices {
            exec,
            bus: RefCell::new(None),
        }
    }

    /// A unit as it is now. A bus that went away since the last question is looked for again, once.
    fn look(&self, verb: &'static str, name: &UnitName) -> Result<Reading, ServiceError> {
        let first = self.look_once(verb, name);
        match first {
            Err(ServiceError::Unreachable { .. }) if self.bus.take().is_some() => {
                self.look_once(verb, name)
            }
            _ => first,
        }
    }

    fn look_once(&self, verb: &'static str, name: &UnitName) -> Result<Reading, ServiceError> {
        self.ask(verb, name, LIMIT, async |bus| {
            let path = bus.unit(name.full()).await?;
            let unit = bus.properties(&path, bus::UNIT).await?;
            let service = if name.is_service() {
                bus.properties(&path, bus::UNIT_OF_TYPE_SERVICE).await?
            } else {
                bus::Properties::new()
            };
            Ok(Reading { unit, service })
        })
    }

    /// A timer as it is now; `None`: there is none of this name.
    pub fn timer(&self, name: &str) -> Result<Option<Timer>, ServiceError> {
        let name = UnitName::new(name)?;
        self.ask("status", &name, GLANCE, async |bus| {
            let path = bus.unit(name.full()).await?;
            let unit = bus.properties(&path, bus::UNIT).await?;
            let timer = bus.properties(&path, bus::UNIT_OF_TYPE_TIMER).await;
            Ok(reading::timer(&unit, &timer.unwrap_or_default()))
        })
    }

    /// A unit that is about to be moved: its definition is there and up to date.
    fn ready(&self, verb: &'static str, name: &UnitName) -> Result<Reading, ServiceError> {
        let mut reading = self.look(verb, name)?;
        // A file that appeared just now may be missing only from what systemd remembers.
        if !reading.known() || reading.status().stale_definition {
            self.reread(verb, name)?;
            reading = self.look(verb, name)?;
        }
        if !reading.known() {
            return Err(ServiceError::Unknown {
                name: name.short().to_owned(),
                hint: format!("systemd has no unit {}", name.full()),
            });
        }
        Ok(reading)
    }

    /// Like [`SystemdServices::ready`], for a verb that brings the unit up.
    fn startable(&self, verb: &'static str, name: &UnitName) -> Result<Reading, ServiceError> {
        let reading = self.ready(verb, name)?;
        let failed = |why: String| Err(ServiceError::failed(verb, name.short(), why));
        if reading.masked() {
            return failed(format!(
                "it is masked: somebody forbade it on purpose (`systemctl unmask {}` allows it)",
                name.full()
            ));
        }
        match reading.objection() {
            Some(objection) => failed(format!("systemd rejects its definition: {objection}")),
            None => Ok(reading),
        }
    }

    fn reread(&self, verb: &'static str, name: &UnitName) -> Result<(), ServiceError> {
        self.ask(verb, name, LIMIT, async |bus| {
            bus.manager("Reload", &()).await.map(drop)
        })
    }

    fn job(
        &self,
        verb: &'static str,
        method: &str,
        name: &UnitName,
        limit: Duration,
    ) -> Result<(), ServiceError> {
        let result = self.ask(verb, name, limit, async |bus| {
            bus.job(method, name.full()).await
        })?;
        if result == "done" {
            return Ok(());
        }
        let why = match result.as_str() {
            "failed" => self.look(verb, name)?.end(),
            _ => None,
        };
        Err(self.explained(
            verb,
            name,
            why.unwrap_or_else(|| refusal::of_job(&result, name)),
        ))
    }

    fn up(&self, verb: &'static str, method: &str, name: &UnitName) -> Result<(), ServiceError> {
        // What systemd has nothing to do for any more it forgets at once, and with it why.
        let held = |method: &'static str| {
            self.ask(verb, name, LIMIT, async |bus| {
                bus.manager(method, &name.full()).await.map(drop)
            })
        };
        held("RefUnit")?;
        let outcome = self
            .job(verb, method, name, START_LIMIT)
            .and_then(|()| self.stays_up(verb, name));
        // Its deaths are counted from a start on purpose; systemd itself goes on counting after one that
        // comes while it is about to start the unit again.
        if outcome.is_ok() && self.look(verb, name)?.status().revived > 0 {
            held("ResetFailedUnit")?;
        }
        // At the latest the end of the connection lets go of it.
        let _ = held("UnrefUnit");
        outcome
    }

    fn stays_up(&self, verb: &'static str, name: &UnitName) -> Result<(), ServiceError> {
        let first = self.look(verb, name)?;
        let waits = first.starts_blindly() && first.active() == Active::Running;
        let run = first.status().run;
        let now = if waits {
            std::thread::sleep(SETTLE);
            self.look(verb, name)?
        } else {
            first
        };
        let ended = || now.end().unwrap_or_else(|| "it ended".into());
        let why = match now.active() {
            Active::Failed => format!("{} right after its start", ended()),
            Active::Starting if now.waits_for_restart() => {
                format!(
                    "{} right after its start and waits to be restarted",
                    ended()
                )
            }
            Active::Running if now.status().run != run => {
                "it ended right after its start and was started again".into()
            }
            Active::Stopped if !now.conditions_met() => "a condition of its unit is not met".into(),
            Active::Stopped if now.starts_blindly() => "it ended right after its start".into(),
            _ => return Ok(()),
        };
        Err(self.explained(verb, name, why))
    }

    fn files(
        &self,
        verb: &'static str,
        name: &UnitName,
        reading: &Reading,
    ) -> Result<(), ServiceError> {
        // Links are made for the unit itself; systemd refuses to make them for an alias of it.
        let files = [reading.id()];
        self.ask(verb, name, LIMIT, async |bus| match verb {
            "enable" => {
                bus.manager("EnableUnitFiles", &(&files[..], false, false))
                    .await
            }
            _ => bus.manager("DisableUnitFiles", &(&files[..], false)).await,
        })?;
        // What systemd remembers about links is as old as its last reading of them.
        self.reread(verb, name)
    }

    /// Enters the runtime with an open connection and maps what can go wrong there.
    fn ask<T>(
        &self,
        verb: &'static str,
        name: &UnitName,
        limit: Duration,
        question: impl AsyncFnOnce(&Bus) -> zbus::Result<T>,
    ) -> Result<T, ServiceError> {
        let what = format!("systemd: {verb} {}", name.full());
        let _operation = watchdog::begin(what, limit);
        let bus = self.bus.borrow().clone();
        let answer = block_on(within(limit, async {
            let bus = match bus {
                Some(bus) => bus,
                None => Rc::new(Bus::open().await?),
            };
            self.bus.replace(Some(bus.clone()));
            question(&bus).await
        }));
        match answer {
            Some(Ok(value)) => Ok(value),
            Some(Err(error)) => Err(refusal::of_call(verb, name, &error)),
            None => Err(ServiceError::TimedOut {
                verb,
                name: name.short().to_owned(),
                seconds: limit.as_secs(),
            }),
        }
    }

    /// A failure with the last lines of the unit's log.
    fn explained(&self, verb: &'static str, name: &UnitName, mut why: String) -> ServiceError {
        let log = self.log(name);
        // A refusal that leaves the properties as the failure before it set them.
        if log
            .iter()
            .any(|line| line.contains("Start request repeated too quickly"))
        {
            why = refusal::too_often(name);
        }
        ServiceError::failed(verb, name.short(), why).with_log(log)
    }

    fn log(&self, name: &UnitName) -> Vec<String> {
        if !Path::new(JOURNALCTL).exists() {
            return Vec::new();
        }
        let journalctl = |args: &[&str]| {
            let argv = std::iter::once(&JOURNALCTL).chain(args).copied();
            let command = Command::new(argv).timeout(Duration::from_secs(10));
            self.exec.run(command).ok().filter(|done| done.ok())
        };
        // What a process printed just before it ended may still be on its way into the journal.
        journalctl(&["--sync"]);
        let lines = LOG_LINES.to_string();
        let args = [
            "-u",
            name.full(),
            "-n",
            &lines,
            "-o",
            "cat",
            "-q",
            "--no-pager",
        ];
        journalctl(&args)
            .map(|done| done.output.text().lines().map(str::to_owned).collect())
            .unwrap_or_default()
    }
}

impl Services for SystemdServices {
    fn status(&self, name: &str) -> Result<Status, ServiceError> {
        let name = UnitName::new(name)?;
        let reading = self.look("status", &name)?;
        Ok(if reading.known() {
            reading.status()
        } else {
            Status::unknown()
        })
    }

    fn start(&self, name: &str) -> Result<(), ServiceError> {
        let name = UnitName::new(name)?;
        self.startable("start", &name)?;
        self.up("start", "StartUnit", &name)
    }

    fn stop(&self, name: &str) -> Result<(), ServiceError> {
        let name = UnitName::new(name)?;
        self.ready("stop", &name)?;
        self.job("stop", "StopUnit", &name, LIMIT)
    }

    fn restart(&self, name: &str) -> Result<(), ServiceError> {
        let name = UnitName::new(name)?;
        self.startable("restart", &name)?;
        self.up("restart", "RestartUnit", &name)
    }

    fn reload(&self, name: &str) -> Result<(), ServiceError> {
        let name = UnitName::new(name)?;
        let reading = self.startable("reload", &name)?;
        let failed = |why: &str| Err(ServiceError::failed("reload", name.short(), why));
        if reading.active() != Active::Running {
            return failed("it is not running");
        }
        if !reading.status().can_reload {
            return failed("its unit does not say how (it has no ExecReload=)");
        }
        self.job("reload", "ReloadUnit", &name, LIMIT)
    }

    fn enable(&self, name: &str) -> Result<(), ServiceError> {
        let name = UnitName::new(name)?;
        let reading = self.startable("enable", &name)?;
        match reading.status().enabled {
            Enabled::Yes => Ok(()),
            Enabled::Static => Err(ServiceError::failed(
                "enable",
                name.short(),
                "its unit has no [Install] section, so nothing can start it at boot",
            )),
            _ => self.files("enable", &name, &reading),
        }
    }

    fn disable(&self, name: &str) -> Result<(), ServiceError> {
        let name = UnitName::new(name)?;
        let reading = self.ready("disable", &name)?;
        match reading.status().enabled {
            Enabled::Static | Enabled::Masked => Ok(()),
            _ => self.files("disable", &name, &reading),
        }
    }

    fn last_words(&self, name: &str) -> Vec<String> {
        UnitName::new(name).map_or(Vec::new(), |name| self.log(&name))
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, work).await.ok()
}
