//! Services of systemd, over D-Bus.
//!
//! No call goes through `systemctl`: a status is three calls on one connection, which the first use opens,
//! and an operation returns with the result of its own job. Before an operation that depends on a unit's
//! definition, systemd reloads a definition that changed on disk.

mod bus;
mod error;
mod journal;
mod state;
#[cfg(test)]
mod tests;
mod timers;
mod transient;

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use self::bus::Bus;
use self::state::UnitState;
use super::name::UnitName;
use super::{
    ActiveState, EnabledState, LogRange, ScheduledJob, ServiceError, ServiceLog, ServiceStatus,
    Services, TransientEnd, TransientUnit,
};
use crate::ports::exec::{Command, Exec};
use crate::ports::runtime::block_on;
use crate::ports::watchdog;

/// Maximum time of a start or restart: services may load much before they are ready.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// Maximum time of any other call.
const CALL_TIMEOUT: Duration = Duration::from_secs(90);

/// Time for the end of a stop, after systemd killed what was left.
const STOP_MARGIN: Duration = Duration::from_secs(10);

/// How long a service without a readiness signal must stay up to count as started.
const MIN_UPTIME: Duration = Duration::from_millis(150);

/// The systemd of the host.
#[derive(Debug)]
pub(crate) struct SystemdServices {
    exec: Rc<Exec>,
    bus: RefCell<Option<Rc<Bus>>>,
}

impl SystemdServices {
    pub(crate) fn new(exec: Rc<Exec>) -> SystemdServices {
        SystemdServices {
            exec,
            bus: RefCell::new(None),
        }
    }

    /// The current state of a unit. Reconnects once if the bus connection was lost since the last call.
    fn unit_state(&self, verb: &'static str, name: &UnitName) -> Result<UnitState, ServiceError> {
        let first = self.unit_state_once(verb, name);
        match first {
            Err(ServiceError::Unreachable { .. }) if self.bus.take().is_some() => {
                self.unit_state_once(verb, name)
            }
            _ => first,
        }
    }

    fn unit_state_once(
        &self,
        verb: &'static str,
        name: &UnitName,
    ) -> Result<UnitState, ServiceError> {
        self.call(verb, name, CALL_TIMEOUT, async |bus| {
            let path = bus.load_unit(name.full()).await?;
            let unit = bus.get_properties(&path, bus::UNIT_INTERFACE).await?;
            let service = if name.is_service() {
                bus.get_properties(&path, bus::SERVICE_INTERFACE).await?
            } else {
                bus::Properties::new()
            };
            Ok(UnitState { unit, service })
        })
    }

    /// Loads a unit for an operation: makes sure that its definition exists and is up to date.
    fn load_unit(&self, verb: &'static str, name: &UnitName) -> Result<UnitState, ServiceError> {
        let mut reading = self.unit_state(verb, name)?;
        // systemd may not know yet about a file that just appeared.
        if !reading.is_known()
            || reading.status().stale_definition
            || self.is_job_stale(verb, name)?
        {
            self.daemon_reload(verb, name)?;
            reading = self.unit_state(verb, name)?;
        }
        if !reading.is_known() {
            return Err(ServiceError::Unknown {
                name: name.short().to_owned(),
                hint: format!("systemd has no unit {}", name.full()),
            });
        }
        Ok(reading)
    }

    /// Like [`SystemdServices::load_unit`], for an operation that starts the unit.
    fn load_startable_unit(
        &self,
        verb: &'static str,
        name: &UnitName,
    ) -> Result<UnitState, ServiceError> {
        let reading = self.load_unit(verb, name)?;
        let failed = |why: String| Err(ServiceError::failed(verb, name.short(), why));
        if reading.is_masked() {
            return failed(format!(
                "it is masked: an operator forbade it (`systemctl unmask {}` allows it)",
                name.full()
            ));
        }
        match reading.load_error() {
            Some(objection) => failed(format!("systemd rejects its definition: {objection}")),
            None => Ok(reading),
        }
    }

    fn daemon_reload(&self, verb: &'static str, name: &UnitName) -> Result<(), ServiceError> {
        self.call(verb, name, CALL_TIMEOUT, async |bus| {
            bus.call_manager("Reload", &()).await.map(drop)
        })
    }

    fn run_job(
        &self,
        verb: &'static str,
        method: &str,
        name: &UnitName,
        limit: Duration,
    ) -> Result<(), ServiceError> {
        let result = self.call(verb, name, limit, async |bus| {
            bus.run_job(method, name.full()).await
        })?;
        if result == "done" {
            return Ok(());
        }
        let why = match result.as_str() {
            "failed" => self.unit_state(verb, name)?.failure_reason(),
            _ => None,
        };
        Err(self.failure_with_log(
            verb,
            name,
            why.unwrap_or_else(|| error::job_failure_reason(&result, name)),
        ))
    }

    fn start_unit(
        &self,
        verb: &'static str,
        method: &str,
        name: &UnitName,
        limit: Duration,
    ) -> Result<(), ServiceError> {
        // systemd unloads an idle unit at once, and with it the reason of a failure; a reference keeps it
        // loaded.
        let held = |method: &'static str| {
            self.call(verb, name, CALL_TIMEOUT, async |bus| {
                bus.call_manager(method, &name.full()).await.map(drop)
            })
        };
        held("RefUnit")?;
        let outcome = self
            .run_job(verb, method, name, limit)
            .and_then(|()| self.check_stays_up(verb, name));
        // An explicit start resets the counter of automatic restarts, except one that comes while systemd is
        // about to restart the unit.
        if outcome.is_ok() && self.unit_state(verb, name)?.status().restarts > 0 {
            held("ResetFailedUnit")?;
        }
        // If this fails, the end of the connection releases the reference.
        let _ = held("UnrefUnit");
        outcome
    }

    fn check_stays_up(&self, verb: &'static str, name: &UnitName) -> Result<(), ServiceError> {
        let first = self.unit_state(verb, name)?;
        let needs_wait =
            first.has_no_readiness_signal() && first.active_state() == ActiveState::Running;
        let run = first.status().run_id;
        let now = if needs_wait {
            std::thread::sleep(MIN_UPTIME);
            self.unit_state(verb, name)?
        } else {
            first
        };
        let ended = || now.failure_reason().unwrap_or_else(|| "it ended".into());
        let why = match now.active_state() {
            ActiveState::Failed => format!("{} right after its start", ended()),
            ActiveState::Starting if now.waits_for_restart() => {
                format!(
                    "{} right after its start and waits to be restarted",
                    ended()
                )
            }
            ActiveState::Running if now.status().run_id != run => {
                "it ended right after its start and was started again".into()
            }
            ActiveState::Stopped if !now.conditions_met() => {
                "a condition of its unit is not met".into()
            }
            ActiveState::Stopped if now.has_no_readiness_signal() => {
                "it ended right after its start".into()
            }
            _ => return Ok(()),
        };
        Err(self.failure_with_log(verb, name, why))
    }

    fn change_unit_files(
        &self,
        verb: &'static str,
        name: &UnitName,
        reading: &UnitState,
    ) -> Result<(), ServiceError> {
        // systemd creates links for the unit itself and refuses to do so for an alias of it.
        let files = [reading.id()];
        self.call(verb, name, CALL_TIMEOUT, async |bus| match verb {
            "enable" => {
                bus.call_manager("EnableUnitFiles", &(&files[..], false, false))
                    .await
            }
            _ => {
                bus.call_manager("DisableUnitFiles", &(&files[..], false))
                    .await
            }
        })?;
        // systemd's knowledge of the links is as old as its last reload.
        self.daemon_reload(verb, name)
    }

    /// Enters the runtime with an open connection and maps the errors.
    fn call<T>(
        &self,
        verb: &'static str,
        name: &UnitName,
        limit: Duration,
        question: impl AsyncFnOnce(&Bus) -> zbus::Result<T>,
    ) -> Result<T, ServiceError> {
        let operation = format!("systemd: {verb} {}", name.full());
        let _operation = watchdog::begin(operation, limit);
        let bus = self.bus.borrow().clone();
        let answer = block_on(with_timeout(limit, async {
            let bus = match bus {
                Some(bus) => bus,
                None => Rc::new(Bus::open().await?),
            };
            self.bus.replace(Some(bus.clone()));
            question(&bus).await
        }));
        match answer {
            Some(Ok(value)) => Ok(value),
            Some(Err(error)) => Err(error::from_call_error(verb, name, &error)),
            None => Err(ServiceError::TimedOut {
                verb,
                name: name.short().to_owned(),
                seconds: limit.as_secs(),
            }),
        }
    }
}

impl Services for SystemdServices {
    fn status(&self, name: &str) -> Result<ServiceStatus, ServiceError> {
        let name = UnitName::new(name)?;
        let reading = self.unit_state("status", &name)?;
        Ok(if reading.is_known() {
            reading.status()
        } else {
            ServiceStatus::unknown()
        })
    }

    fn start(&self, name: &str) -> Result<(), ServiceError> {
        let name = UnitName::new(name)?;
        self.load_startable_unit("start", &name)?;
        self.start_unit("start", "StartUnit", &name, START_TIMEOUT)
    }

    fn stop(&self, name: &str) -> Result<(), ServiceError> {
        let name = UnitName::new(name)?;
        let reading = self.load_unit("stop", &name)?;
        // A unit may allow itself more time than a call has: a worker that ends its jobs first.
        let limit = CALL_TIMEOUT.max(reading.stop_timeout() + STOP_MARGIN);
        self.run_job("stop", "StopUnit", &name, limit)
    }

    fn restart(&self, name: &str) -> Result<(), ServiceError> {
        let name = UnitName::new(name)?;
        let reading = self.load_startable_unit("restart", &name)?;
        let longer = reading.stop_timeout().saturating_sub(CALL_TIMEOUT);
        let limit = START_TIMEOUT + longer;
        self.start_unit("restart", "RestartUnit", &name, limit)
    }

    fn reload(&self, name: &str) -> Result<(), ServiceError> {
        let name = UnitName::new(name)?;
        let reading = self.load_startable_unit("reload", &name)?;
        let failed = |why: &str| Err(ServiceError::failed("reload", name.short(), why));
        if reading.active_state() != ActiveState::Running {
            return failed("it is not running");
        }
        if !reading.status().can_reload {
            return failed("its unit does not say how (it has no ExecReload=)");
        }
        self.run_job("reload", "ReloadUnit", &name, CALL_TIMEOUT)
    }

    fn enable(&self, name: &str) -> Result<(), ServiceError> {
        let name = UnitName::new(name)?;
        let reading = self.load_startable_unit("enable", &name)?;
        match reading.status().enabled {
            EnabledState::Yes => Ok(()),
            EnabledState::Static => Err(ServiceError::failed(
                "enable",
                name.short(),
                "its unit has no [Install] section, so nothing can start it at boot",
            )),
            _ => self.change_unit_files("enable", &name, &reading),
        }
    }

    fn disable(&self, name: &str) -> Result<(), ServiceError> {
        let name = UnitName::new(name)?;
        let reading = self.load_unit("disable", &name)?;
        match reading.status().enabled {
            EnabledState::Static | EnabledState::Masked => Ok(()),
            _ => self.change_unit_files("disable", &name, &reading),
        }
    }

    fn process_ids(&self, name: &str) -> Result<Vec<u32>, ServiceError> {
        let name = UnitName::new(name)?;
        let status = self.unit_state("status", &name)?.status();
        // Also finds processes that outlived the main one. systemd answers with an error for a unit that it
        // unloaded, which has none.
        let listed = self.call("status", &name, CALL_TIMEOUT, async |bus| {
            bus.list_processes(name.full()).await
        });
        let mut ids = listed.unwrap_or_default();
        ids.extend(status.main_pid.filter(|main| !ids.contains(main)));
        Ok(ids)
    }

    fn open_logs(&self, name: &str, range: LogRange) -> Result<Vec<ServiceLog>, ServiceError> {
        let name = UnitName::new(name)?;
        Ok(vec![self.open_journal(&name, range)?])
    }

    fn log_tail(&self, name: &str) -> Vec<String> {
        UnitName::new(name).map_or(Vec::new(), |name| self.journal_tail(&name))
    }

    fn forget(&self, name: &str) -> Result<(), ServiceError> {
        let name = UnitName::new(name)?;
        // Fails for a unit that systemd has unloaded, as it should be.
        let _ = self.call("forget", &name, CALL_TIMEOUT, async |bus| {
            bus.call_manager("ResetFailedUnit", &name.full())
                .await
                .map(drop)
        });
        self.daemon_reload("forget", &name)
    }

    fn scheduled_job(&self, timer: &str) -> Result<Option<ScheduledJob>, ServiceError> {
        self.job_of_timer(&UnitName::new(timer)?)
    }

    fn in_transient_unit(&self, command: Command, unit: &TransientUnit) -> Command {
        Self::systemd_run(command, unit)
    }

    fn stop_transient(&self, name: &str) -> Result<TransientEnd, ServiceError> {
        self.stop_transient_unit(&UnitName::new(name)?)
    }
}

async fn with_timeout<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, work).await.ok()
}
