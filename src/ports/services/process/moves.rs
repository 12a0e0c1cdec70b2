//! The verbs: one service, moved from what it is to what was asked for.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::launch::{self, Launch};
use super::living::{self, Living};
use super::state::{Run, State};
use super::unit::{self, KillMode, Line, Unit};
use super::{Definition, Found, ProcessServices};
use crate::ports::exec::Identity;
use crate::ports::services::name::UnitName;
use crate::ports::services::{ServiceError, moment};

/// How long the kernel may take to end what was killed.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// A service about to be moved.
#[derive(Debug)]
pub(super) struct Move<'a> {
    here: &'a ProcessServices,
    verb: &'static str,
    name: UnitName,
    /// `None`: masked.
    unit: Option<Unit>,
    found: Found,
    mark: String,
}

type Result<T = ()> = std::result::Result<T, ServiceError>;

impl ProcessServices {
    pub(super) fn about(&self, verb: &'static str, name: &str) -> Result<Move<'_>> {
        let name = UnitName::new(name)?;
        let failed = |why: String| ServiceError::failed(verb, name.short(), why);
        let unit = match self.definition(&name).map_err(|e| failed(e.to_string()))? {
            Definition::Absent => {
                let hint = format!(
                    "there is no {}",
                    self.root
                        .outside("/etc/systemd/system".as_ref())
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
        let mut found = self.found(&name).map_err(|e| failed(e.to_string()))?;
        let mark = self.mark(&name);
        // Nothing that lives is remembered: it may have been started all the same.
        if name.is_service() && found.main.is_none() {
            let log = self.root.outside(&self.log(&name));
            if let Some(orphan) = living::orphan(&mark, &log) {
                found.state.run = Some(Run {
                    pid: Some(orphan.pid),
                    start: orphan.start,
                    boot: living::boot(),
                    reloaded: None,
                });
                found.main = Some(orphan);
                let kept = found.state.write(&self.root, &name);
                kept.map_err(|e| failed(e.to_string()))?;
            }
        }
        Ok(Move {
            here: self,
            verb,
            name,
            unit,
            found,
            mark,
        })
    }
}

impl Move<'_> {
    pub(super) fn start(mut self) -> Result {
        let unit = self.startable()?;
        if !self.name.is_service() {
            return self.mark_active();
        }
        if self.found.main.is_some() {
            return Ok(());
        }
        self.bring_up(&unit)
    }

    pub(super) fn restart(mut self) -> Result {
        let unit = self.startable()?;
        if !self.name.is_service() {
            self.found.state.run = None;
            return self.mark_active();
        }
        self.bring_up(&unit)
    }

    pub(super) fn stop(mut self) -> Result {
        let unit = self.unit.clone();
        self.bring_down(unit.as_ref())?;
        if self.found.state.run.take().is_some() {
            self.remember()?;
        }
        Ok(())
    }

    pub(super) fn reload(mut self) -> Result {
        let unit = self.startable()?;
        let Some(main) = self.found.main else {
            return Err(self.failed("it is not running"));
        };
        if unit.reload.is_empty() {
            return Err(self.failed("its unit does not say how (it has no ExecReload=)"));
        }
        let told = moment::since_boot();
        let mut launch = self.launch(&unit, None)?;
        launch.env.insert("MAINPID".into(), main.pid.to_string());
        for line in &unit.reload {
            self.tell(&launch, line, main)?;
        }
        if let Some(run) = &mut self.found.state.run {
            run.reloaded = u64::try_from(told.as_nanos()).ok();
        }
        self.remember()
    }

    pub(super) fn enable(mut self, enabled: bool) -> Result {
        let installable = match &self.unit {
            Some(unit) => unit.installable,
            None if enabled => return self.startable().map(drop),
            None => false,
        };
        if !installable && enabled {
            let why = "its unit has no [Install] section, so nothing can start it at boot";
            return Err(self.failed(why));
        }
        if self.found.state.enabled != enabled {
            self.found.state.enabled = enabled;
            self.remember()?;
        }
        Ok(())
    }

    /// Replaces what runs, if anything does, by a new process. Everything that can be found wrong
    /// is found before the old one is stopped.
    fn bring_up(&mut self, unit: &Unit) -> Result {
        let [line] = unit.start.as_slice() else {
            let count = unit.start.len();
            return Err(self.failed(format!("its unit has {count} ExecStart= lines, not one")));
        };
        let socket = self.socket()?;
        let launch = self.launch(unit, socket.as_ref())?;
        self.bring_down(Some(unit))?;
        launch
            .prepare(&self.here.exec)
            .map_err(|error| self.failed(error.to_string()))?;
        let log_before = launch::log_length(&self.here.root, &launch.log);
        let waiting = launch
            .spawn(&self.here.exec, &self.here.root, line)
            .map_err(|why| self.failed(why))?;
        self.found.state.run = Some(Run {
            pid: Some(waiting.pid),
            start: waiting.start,
            boot: living::boot(),
            reloaded: None,
        });
        self.remember()?;
        waiting.release().map_err(|why| {
            let log = launch::log_tail(&self.here.root, &launch.log, log_before);
            self.failed(why).with_log(log)
        })
    }

    /// Ends the main process and everything in its session: politely, then not.
    fn bring_down(&mut self, unit: Option<&Unit>) -> Result {
        let Some(leader) = self.found.state.run.as_ref().and_then(|run| run.pid) else {
            return Ok(());
        };
        let log = self.here.root.outside(&self.here.log(&self.name));
        // While the leader lives its session is ours beyond doubt; without it, the id may have
        // gone to somebody else.
        let ours = self.found.main.is_some();
        let mark = self.mark.clone();
        let left = || {
            living::reap(leader);
            if ours {
                living::session(leader)
            } else {
                living::leftovers(leader, &mark, &log)
            }
        };
        let polite = unit.map_or(Signal::SIGTERM, |unit| unit.kill_signal);
        let limit = unit.map_or(Duration::from_secs(10), |unit| unit.stop_limit);
        let main_alone = ours && unit.is_some_and(|unit| unit.kill_mode == KillMode::Main);
        let present = left();
        for process in &present {
            if !main_alone || process.pid == leader {
                signal(process, polite);
            }
        }
        // With the main process alone addressed, its end is the end of politeness.
        let waits_for = |process: &Living| !main_alone || process.pid == leader;
        let begun = Instant::now();
        while begun.elapsed() < limit && left().iter().any(waits_for) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let begun = Instant::now();
        loop {
            let rest = left();
            if rest.is_empty() {
                return Ok(());
            }
            if begun.elapsed() > KILL_LIMIT {
                return Err(ServiceError::TimedOut {
                    verb: self.verb,
                    name: self.name.short().to_owned(),
                    seconds: (limit + KILL_LIMIT).as_secs(),
                });
            }
            for process in &rest {
                signal(process, Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// One line of `ExecReload=`. The usual one, a signal, needs no child.
    fn tell(&self, launch: &Launch<'_>, line: &Line, main: Living) -> Result {
        if let [program, wanted, target] = line.words.as_slice()
            && program.ends_with("/kill")
            && target == "$MAINPID"
            && let Some(wanted) = wanted.strip_prefix('-')
        {
            let wanted = unit::signal(wanted).map_err(|why| self.failed(why))?;
            signal(&main, wanted);
            return Ok(());
        }
        let ended = self.here.exec.must(launch.command(line, &launch.env));
        match ended {
            Err(error) if !line.may_fail => Err(self.failed(error.to_string())),
            _ => Ok(()),
        }
    }

    fn launch<'u>(&self, unit: &'u Unit, socket: Option<&'u Unit>) -> Result<Launch<'u>> {
        let identity = self.identity(unit)?;
        let env = launch::environment(unit, &self.here.root, identity.as_ref())
            .map_err(|why| self.failed(why))?;
        Ok(Launch {
            unit,
            socket,
            identity,
            env,
            mark: self.mark.clone(),
            log: self.here.log(&self.name),
        })
    }

    /// As whom the service runs. Without privilege there is no choice.
    fn identity(&self, unit: &Unit) -> Result<Option<Identity>> {
        let (root, accounts) = (&self.here.root, &self.here.accounts);
        let (Some(user), true) = (&unit.user, root.privileged()) else {
            return Ok(None);
        };
        let failed = |error: crate::ports::root::RootError| self.failed(error.to_string());
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

    /// The socket unit of the same name, if there is one and it is active.
    fn socket(&self) -> Result<Option<Unit>> {
        let name = UnitName::new(&format!("{}.socket", self.name.stem()))?;
        let failed = |error: crate::ports::root::RootError| self.failed(error.to_string());
        let active = self.here.found(&name).map_err(failed)?.state.run.is_some();
        match self.here.definition(&name).map_err(failed)? {
            Definition::Unit(unit) if active => match unit.faults.first() {
                Some(fault) => Err(self.failed(format!("{}: {fault}", name.full()))),
                None => Ok(Some(*unit)),
            },
            _ => Ok(None),
        }
    }

    fn mark_active(&mut self) -> Result {
        if self.found.state.run.is_some() {
            return Ok(());
        }
        self.found.state.run = Some(Run {
            pid: None,
            start: living::ticks(),
            boot: living::boot(),
            reloaded: None,
        });
        self.remember()
    }

    fn startable(&self) -> Result<Unit> {
        let Some(unit) = &self.unit else {
            return Err(self.failed("it is masked: somebody forbade it on purpose"));
        };
        if unit.faults.is_empty() {
            Ok(unit.clone())
        } else {
            Err(self.failed(unit.faults.join("; ")))
        }
    }

    fn remember(&mut self) -> Result {
        let state: &mut State = &mut self.found.state;
        let kept = state.write(&self.here.root, &self.name);
        kept.map_err(|error| self.failed(error.to_string()))
    }

    fn failed(&self, why: impl Into<String>) -> ServiceError {
        ServiceError::failed(self.verb, self.name.short(), why)
    }
}

/// To a process that was just seen; one that is gone by now needs no signal.
fn signal(process: &Living, signal: Signal) {
    let _ = kill(Pid::from_raw(process.pid), signal);
}
