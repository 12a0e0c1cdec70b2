//! The operations on one service: start, stop, restart, reload, enable, disable.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::launch::{self, Launch};
use super::processes::{self, LiveProcess};
use super::state::{SavedRun, SavedState};
use super::unit::{self, KillMode, Unit, UnitCommand};
use super::{Definition, ObservedService, ProcessServices};
use crate::ports::exec::Identity;
use crate::ports::services::name::UnitName;
use crate::ports::services::{ServiceError, kernel_clock};

/// Maximum time for the kernel to end killed processes.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// An operation on one service.
#[derive(Debug)]
pub(super) struct Action<'a> {
    services: &'a ProcessServices,
    verb: &'static str,
    name: UnitName,
    /// `None` if masked.
    unit: Option<Unit>,
    observed: ObservedService,
    service_id: String,
}

type Result<T = ()> = std::result::Result<T, ServiceError>;

impl ProcessServices {
    pub(super) fn action(&self, verb: &'static str, name: &str) -> Result<Action<'_>> {
        let name = UnitName::new(name)?;
        let failed = |why: String| ServiceError::failed(verb, name.short(), why);
        let unit = match self
            .read_definition(&name)
            .map_err(|e| failed(e.to_string()))?
        {
            Definition::Absent => {
                let hint = format!(
                    "there is no {}",
                    self.root
                        .machine_path("/etc/systemd/system".as_ref())
                        .join(name.full())
                        .display()
                );
                return Err(ServiceError::Unknown {
                    name: name.short().to_owned(),
                    hint,
                });
            }
            Definition::Masked => None,
            Definition::Unit(unit) => Some(*unit),
        };
        let mut found = self.observe(&name).map_err(|e| failed(e.to_string()))?;
        let mark = self.service_id(&name);
        // The saved state names no live process, but the service may have been started anyway (see
        // `find_orphan`).
        if name.is_service() && found.main.is_none() {
            let log = self.root.machine_path(&self.log_path(&name));
            if let Some(orphan) = processes::find_orphan(&mark, &log) {
                found.state.run = Some(SavedRun {
                    pid: Some(orphan.pid),
                    start: orphan.start_time,
                    boot: processes::boot_id(),
                    reloaded: None,
                });
                found.main = Some(orphan);
                let kept = found.state.save(&self.root, &name);
                kept.map_err(|e| failed(e.to_string()))?;
            }
        }
        Ok(Action {
            services: self,
            verb,
            name,
            unit,
            observed: found,
            service_id: mark,
        })
    }
}

impl Action<'_> {
    pub(super) fn start(mut self) -> Result {
        let unit = self.startable_unit()?;
        if !self.name.is_service() {
            return self.mark_active();
        }
        if self.observed.main.is_some() {
            return Ok(());
        }
        self.start_process(&unit)
    }

    pub(super) fn restart(mut self) -> Result {
        let unit = self.startable_unit()?;
        if !self.name.is_service() {
            self.observed.state.run = None;
            return self.mark_active();
        }
        self.start_process(&unit)
    }

    pub(super) fn stop(mut self) -> Result {
        let unit = self.unit.clone();
        self.stop_processes(unit.as_ref())?;
        if self.observed.state.run.take().is_some() {
            self.save_state()?;
        }
        Ok(())
    }

    pub(super) fn reload(mut self) -> Result {
        let unit = self.startable_unit()?;
        let Some(main) = self.observed.main else {
            return Err(self.failed("it is not running"));
        };
        if unit.exec_reload.is_empty() {
            return Err(self.failed("its unit has no ExecReload="));
        }
        let reloaded_at = kernel_clock::uptime();
        let mut launch = self.prepare_launch(&unit, None)?;
        launch.env.insert("MAINPID".into(), main.pid.to_string());
        for line in &unit.exec_reload {
            self.run_reload_command(&launch, line, main)?;
        }
        if let Some(run) = &mut self.observed.state.run {
            run.reloaded = u64::try_from(reloaded_at.as_nanos()).ok();
        }
        self.save_state()
    }

    pub(super) fn enable(mut self, enabled: bool) -> Result {
        let installable = match &self.unit {
            Some(unit) => unit.installable,
            None if enabled => return self.startable_unit().map(drop),
            None => false,
        };
        if !installable && enabled {
            let why = "its unit has no [Install] section, so nothing can start it at boot";
            return Err(self.failed(why));
        }
        if self.observed.state.enabled != enabled {
            self.observed.state.enabled = enabled;
            self.save_state()?;
        }
        Ok(())
    }

    /// Replaces the running process, if there is one, by a new one. Checks everything that can be checked
    /// before it stops the old process.
    fn start_process(&mut self, unit: &Unit) -> Result {
        let [line] = unit.exec_start.as_slice() else {
            let count = unit.exec_start.len();
            return Err(self.failed(format!("its unit has {count} ExecStart= lines, not one")));
        };
        let socket = self.active_socket_unit()?;
        let launch = self.prepare_launch(unit, socket.as_ref())?;
        self.stop_processes(Some(unit))?;
        launch
            .run_start_pre(&self.services.exec)
            .map_err(|error| self.failed(error.to_string()))?;
        let log_before = launch::log_length(&self.services.root, &launch.log);
        let waiting = launch
            .spawn_blocked(&self.services.exec, &self.services.root, line)
            .map_err(|why| self.failed(why))?;
        self.observed.state.run = Some(SavedRun {
            pid: Some(waiting.pid),
            start: waiting.start_time,
            boot: processes::boot_id(),
            reloaded: None,
        });
        self.save_state()?;
        waiting.unblock().map_err(|why| {
            let log = launch::log_tail(&self.services.root, &launch.log, log_before);
            self.failed(why).with_log(log)
        })
    }

    /// Ends the main process and everything in its session: with the unit's kill signal, then with SIGKILL.
    fn stop_processes(&mut self, unit: Option<&Unit>) -> Result {
        let Some(leader) = self.observed.state.run.as_ref().and_then(|run| run.pid) else {
            return Ok(());
        };
        let log = self
            .services
            .root
            .machine_path(&self.services.log_path(&self.name));
        // While the leader lives, its session certainly belongs to this service; after that, the kernel may
        // have reused the id.
        let leader_lives = self.observed.main.is_some();
        let mark = self.service_id.clone();
        let remaining = || {
            processes::reap(leader);
            if leader_lives {
                processes::list_session(leader)
            } else {
                processes::list_orphaned_session(leader, &mark, &log)
            }
        };
        let stop_signal = unit.map_or(Signal::SIGTERM, |unit| unit.kill_signal);
        let limit = unit.map_or(Duration::from_secs(10), |unit| unit.stop_timeout);
        let main_alone = leader_lives && unit.is_some_and(|unit| unit.kill_mode == KillMode::Main);
        let present = remaining();
        for process in &present {
            if !main_alone || process.pid == leader {
                send_signal(process, stop_signal);
            }
        }
        // If only the main process got the signal, its end also ends the grace period.
        let waits_for = |process: &LiveProcess| !main_alone || process.pid == leader;
        let started = Instant::now();
        while started.elapsed() < limit && remaining().iter().any(waits_for) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let started = Instant::now();
        loop {
            let rest = remaining();
            if rest.is_empty() {
                return Ok(());
            }
            if started.elapsed() > KILL_TIMEOUT {
                return Err(ServiceError::TimedOut {
                    verb: self.verb,
                    name: self.name.short().to_owned(),
                    seconds: (limit + KILL_TIMEOUT).as_secs(),
                });
            }
            for process in &rest {
                send_signal(process, Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Runs one line of `ExecReload=`. The usual line only sends a signal and needs no child process.
    fn run_reload_command(
        &self,
        launch: &Launch<'_>,
        line: &UnitCommand,
        main: LiveProcess,
    ) -> Result {
        if let [program, wanted, target] = line.argv.as_slice()
            && program.ends_with("/kill")
            && target == "$MAINPID"
            && let Some(wanted) = wanted.strip_prefix('-')
        {
            let wanted = unit::parse_signal(wanted).map_err(|why| self.failed(why))?;
            send_signal(&main, wanted);
            return Ok(());
        }
        let ended = self
            .services
            .exec
            .run_checked(launch.command(line, &launch.env));
        match ended {
            Err(error) if !line.ignore_failure => Err(self.failed(error.to_string())),
            _ => Ok(()),
        }
    }

    fn prepare_launch<'u>(&self, unit: &'u Unit, socket: Option<&'u Unit>) -> Result<Launch<'u>> {
        let identity = self.resolve_identity(unit)?;
        let env = launch::environment(unit, &self.services.root, identity.as_ref())
            .map_err(|why| self.failed(why))?;
        Ok(Launch {
            unit,
            socket,
            identity,
            env,
            service_id: self.service_id.clone(),
            log: self.services.log_path(&self.name),
        })
    }

    /// The user that the service runs as. Without privilege it runs as the current user.
    fn resolve_identity(&self, unit: &Unit) -> Result<Option<Identity>> {
        let (root, accounts) = (&self.services.root, &self.services.accounts);
        let (Some(user), true) = (&unit.user, root.is_privileged()) else {
            return Ok(None);
        };
        let failed = |error: crate::ports::accounts::AccountsError| self.failed(error.to_string());
        let found = accounts.identity(root, user).map_err(failed)?;
        let mut identity =
            found.ok_or_else(|| self.failed(format!("its User={user} does not exist")))?;
        if let Some(group) = &unit.group {
            let gid = accounts.gid(root, group).map_err(failed)?;
            identity.gid =
                gid.ok_or_else(|| self.failed(format!("its Group={group} does not exist")))?;
        }
        Ok(Some(identity))
    }

    /// The socket unit of the same name, if it exists and is active.
    fn active_socket_unit(&self) -> Result<Option<Unit>> {
        let name = UnitName::new(&format!("{}.socket", self.name.stem()))?;
        let failed = |error: crate::ports::root::RootError| self.failed(error.to_string());
        let active = self
            .services
            .observe(&name)
            .map_err(failed)?
            .state
            .run
            .is_some();
        match self.services.read_definition(&name).map_err(failed)? {
            Definition::Unit(unit) if active => match unit.errors.first() {
                Some(fault) => Err(self.failed(format!("{}: {fault}", name.full()))),
                None => Ok(Some(*unit)),
            },
            _ => Ok(None),
        }
    }

    fn mark_active(&mut self) -> Result {
        if self.observed.state.run.is_some() {
            return Ok(());
        }
        self.observed.state.run = Some(SavedRun {
            pid: None,
            start: processes::ticks_since_boot(),
            boot: processes::boot_id(),
            reloaded: None,
        });
        self.save_state()
    }

    fn startable_unit(&self) -> Result<Unit> {
        let Some(unit) = &self.unit else {
            return Err(self.failed("the unit is masked"));
        };
        if unit.errors.is_empty() {
            Ok(unit.clone())
        } else {
            Err(self.failed(unit.errors.join("; ")))
        }
    }

    fn save_state(&mut self) -> Result {
        let state: &mut SavedState = &mut self.observed.state;
        let kept = state.save(&self.services.root, &self.name);
        kept.map_err(|error| self.failed(error.to_string()))
    }

    fn failed(&self, why: impl Into<String>) -> ServiceError {
        ServiceError::failed(self.verb, self.name.short(), why)
    }
}

/// Sends a signal to a process that was just seen; if it has ended by now, it needs none.
fn send_signal(process: &LiveProcess, signal: Signal) {
    let _ = kill(Pid::from_raw(process.pid), signal);
}
