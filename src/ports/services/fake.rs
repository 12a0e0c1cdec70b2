//! The test backend: a supervisor in memory, with services that succeed unless a test injects a fault.
//!
//! Clones share their state: the test keeps one handle, the host gets the other.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use jiff::Timestamp;

use super::{
    ActiveState, EnabledState, LogRange, LogRead, LogReader, ServiceError, ServiceLog,
    ServiceStatus, Services,
};
use crate::ports::clock::Clock;

/// A supervisor whose services exist only in memory.
#[derive(Clone)]
pub(crate) struct FakeServices {
    state: Rc<RefCell<FakeState>>,
    clock: Rc<dyn Clock>,
}

#[derive(Default)]
struct FakeState {
    services: BTreeMap<String, FakeService>,
    /// Source of process and run ids, which are therefore unique.
    start_count: u32,
    calls: Vec<String>,
}

struct FakeService {
    active: ActiveState,
    enabled: EnabledState,
    ends_by_itself: bool,
    can_reload: bool,
    stale_definition: bool,
    definition: Option<PathBuf>,
    environment_files: Vec<PathBuf>,
    restarts: u32,
    run: Option<FakeRun>,
    log: Vec<String>,
    /// The fault for the next call of each verb.
    injected_faults: BTreeMap<String, InjectedFault>,
}

struct FakeRun {
    number: u32,
    started_at: Timestamp,
    reloaded_at: Option<Timestamp>,
}

/// What a service does instead of the requested action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum InjectedFault {
    /// It fails, for this reason.
    Fail(String),
    /// It has not finished at the supervisor's deadline, after this many seconds.
    Hang(u64),
}

impl FakeServices {
    pub(crate) fn new(clock: Rc<dyn Clock>) -> FakeServices {
        FakeServices {
            state: Rc::default(),
            clock,
        }
    }

    /// Defines a service: stopped, not enabled, able to reload. A known one keeps its run, and its definition
    /// becomes stale.
    pub(crate) fn define(&self, name: &str) {
        let mut state = self.state.borrow_mut();
        match state.services.get_mut(name) {
            Some(service) => service.stale_definition = true,
            None => {
                let service = FakeService {
                    active: ActiveState::Stopped,
                    enabled: EnabledState::No,
                    ends_by_itself: false,
                    can_reload: true,
                    stale_definition: false,
                    definition: None,
                    environment_files: Vec::new(),
                    restarts: 0,
                    run: None,
                    log: Vec::new(),
                    injected_faults: BTreeMap::new(),
                };
                state.services.insert(name.to_owned(), service);
            }
        }
    }

    /// Makes it a oneshot service.
    pub(crate) fn set_ends_by_itself(&self, name: &str) {
        self.update(name, |service| service.ends_by_itself = true);
    }

    /// Sets whether it starts at boot, as an operator would (masked is one of the states).
    pub(crate) fn set_enabled(&self, name: &str, enabled: EnabledState) {
        self.update(name, |service| service.enabled = enabled);
    }

    pub(crate) fn set_can_reload(&self, name: &str, can_reload: bool) {
        self.update(name, |service| service.can_reload = can_reload);
    }

    /// Makes it end by itself, with this log.
    pub(crate) fn crash(&self, name: &str, log: &[&str]) {
        self.update(name, |service| {
            service.active = ActiveState::Failed;
            service.run = None;
            service.log = log.iter().map(|line| (*line).to_owned()).collect();
        });
    }

    /// Makes it crash, and wait to be started again by its supervisor.
    pub(crate) fn crash_loop(&self, name: &str) {
        self.update(name, |service| {
            service.active = ActiveState::Starting;
            service.run = None;
            service.restarts += 1;
        });
    }

    /// Sets the file of its definition.
    pub(crate) fn set_definition_file(&self, name: &str, path: &str) {
        self.update(name, |service| service.definition = Some(path.into()));
    }

    /// Adds a file that its supervisor opens to start it.
    pub(crate) fn add_environment_file(&self, name: &str, path: &str) {
        self.update(name, |service| service.environment_files.push(path.into()));
    }

    /// Makes it crash and its supervisor restart it.
    pub(crate) fn crash_and_restart(&self, name: &str) {
        let now = self.clock.now();
        let mut state = self.state.borrow_mut();
        state.start_count += 1;
        let number = state.start_count;
        if let Some(service) = state.services.get_mut(name) {
            let revived = service.restarts + 1;
            service.start_run(number, now);
            service.restarts = revived;
        }
    }

    /// Makes the next call of `verb` (`start`, `stop`, `restart`, `reload`, `enable`, `disable`) on it fail
    /// with this fault.
    pub(crate) fn inject_fault(&self, name: &str, verb: &str, fault: InjectedFault) {
        self.update(name, |service| {
            service
                .injected_faults
                .insert(verb.to_owned(), fault.clone());
        });
    }

    /// Every call that changes something, with its service, in order: `restart nginx`.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.state.borrow().calls.clone()
    }

    fn update(&self, name: &str, change: impl Fn(&mut FakeService)) {
        if let Some(service) = self.state.borrow_mut().services.get_mut(name) {
            change(service);
        }
    }

    /// Records the call, applies the injected fault if there is one, then runs `work`. The number passed to
    /// `work` is for a run that it may start.
    fn perform(
        &self,
        verb: &'static str,
        name: &str,
        work: impl FnOnce(&mut FakeService, u32, Timestamp) -> Result<(), String>,
    ) -> Result<(), ServiceError> {
        let now = self.clock.now();
        let mut state = self.state.borrow_mut();
        state.calls.push(format!("{verb} {name}"));
        state.start_count += 1;
        let number = state.start_count;
        let Some(service) = state.services.get_mut(name) else {
            return Err(ServiceError::Unknown {
                name: name.to_owned(),
                hint: "nobody defined it".to_owned(),
            });
        };
        let moves = matches!(verb, "start" | "restart" | "reload");
        let done = match service.injected_faults.remove(verb) {
            Some(InjectedFault::Hang(seconds)) => {
                return Err(ServiceError::TimedOut {
                    verb,
                    name: name.to_owned(),
                    seconds,
                });
            }
            Some(InjectedFault::Fail(why)) => {
                if matches!(verb, "start" | "restart") {
                    service.active = ActiveState::Failed;
                    service.run = None;
                }
                Err(why)
            }
            None if moves && service.enabled == EnabledState::Masked => {
                Err("it is masked".to_owned())
            }
            None => work(service, number, now),
        };
        done.map_err(|why| ServiceError::Failed {
            verb,
            name: name.to_owned(),
            why,
            log: service.log.clone(),
        })
    }
}

impl FakeService {
    fn start_run(&mut self, number: u32, now: Timestamp) {
        self.active = ActiveState::Running;
        self.stale_definition = false;
        self.restarts = 0;
        self.run = Some(FakeRun {
            number,
            started_at: now,
            reloaded_at: None,
        });
    }
}

/// The rest of a log.
struct FakeLog(Vec<u8>);

impl LogReader for FakeLog {
    fn read(&mut self) -> Result<LogRead, ServiceError> {
        Ok(match std::mem::take(&mut self.0) {
            bytes if bytes.is_empty() => LogRead::End,
            bytes => LogRead::Bytes(bytes),
        })
    }
}

impl Services for FakeServices {
    fn status(&self, name: &str) -> Result<ServiceStatus, ServiceError> {
        let state = self.state.borrow();
        let Some(service) = state.services.get(name) else {
            return Ok(ServiceStatus::unknown());
        };
        let run = service.run.as_ref();
        Ok(ServiceStatus {
            known: true,
            active: service.active,
            enabled: service.enabled,
            ends_by_itself: service.ends_by_itself,
            main_pid: run.map(|run| 1000 + run.number),
            run_id: run.map(|run| format!("run-{}", run.number)),
            started_at: run.map(|run| run.started_at),
            reloaded_at: run.and_then(|run| run.reloaded_at),
            reload_id: run.and_then(|run| run.reloaded_at).map(|at| at.to_string()),
            can_reload: service.can_reload,
            reloading: None,
            stale_definition: service.stale_definition,
            definition_file: service.definition.clone(),
            environment_files: service.environment_files.clone(),
            last_failure: None,
            restarts: service.restarts,
        })
    }

    fn start(&self, name: &str) -> Result<(), ServiceError> {
        self.perform("start", name, |service, number, now| {
            if service.active != ActiveState::Running {
                service.start_run(number, now);
            }
            Ok(())
        })
    }

    fn stop(&self, name: &str) -> Result<(), ServiceError> {
        self.perform("stop", name, |service, _, _| {
            service.active = ActiveState::Stopped;
            service.run = None;
            Ok(())
        })
    }

    fn restart(&self, name: &str) -> Result<(), ServiceError> {
        self.perform("restart", name, |service, number, now| {
            service.start_run(number, now);
            Ok(())
        })
    }

    fn reload(&self, name: &str) -> Result<(), ServiceError> {
        self.perform("reload", name, |service, _, now| match &mut service.run {
            _ if !service.can_reload => Err("it has no way to reload".to_owned()),
            None => Err("it does not run".to_owned()),
            Some(run) => {
                run.reloaded_at = Some(now);
                Ok(())
            }
        })
    }

    fn enable(&self, name: &str) -> Result<(), ServiceError> {
        self.perform("enable", name, |service, _, _| match service.enabled {
            EnabledState::Masked => Err("it is masked".to_owned()),
            EnabledState::Static => Ok(()),
            EnabledState::Yes | EnabledState::No => {
                service.enabled = EnabledState::Yes;
                Ok(())
            }
        })
    }

    fn disable(&self, name: &str) -> Result<(), ServiceError> {
        self.perform("disable", name, |service, _, _| {
            if service.enabled == EnabledState::Yes {
                service.enabled = EnabledState::No;
            }
            Ok(())
        })
    }

    fn process_ids(&self, name: &str) -> Result<Vec<u32>, ServiceError> {
        Ok(self.status(name)?.main_pid.into_iter().collect())
    }

    fn open_logs(&self, name: &str, _: LogRange) -> Result<Vec<ServiceLog>, ServiceError> {
        let lines = self.log_tail(name).into_iter();
        let text: String = lines.map(|line| line + "\n").collect();
        Ok(vec![ServiceLog {
            name: name.to_owned(),
            reader: Box::new(FakeLog(text.into_bytes())),
        }])
    }

    fn log_tail(&self, name: &str) -> Vec<String> {
        let state = self.state.borrow();
        state
            .services
            .get(name)
            .map_or(Vec::new(), |service| service.log.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::testing::FakeClock;

    fn supervisor() -> (FakeServices, FakeClock) {
        let clock = FakeClock::default();
        (FakeServices::new(Rc::new(clock.clone())), clock)
    }

    #[test]
    fn start_begins_a_new_run_unless_already_running() {
        let (services, clock) = supervisor();
        services.define("web");
        services.start("web").unwrap();
        let first = services.status("web").unwrap();
        services.start("web").unwrap();
        assert_eq!(services.status("web").unwrap(), first);
        clock.advance(60);
        services.restart("web").unwrap();
        let second = services.status("web").unwrap();
        assert!(second.run_id != first.run_id && second.started_at > first.started_at);
        services.stop("web").unwrap();
        assert_eq!(services.status("web").unwrap().run_id, None);
        assert_eq!(
            services.calls(),
            ["start web", "start web", "restart web", "stop web"]
        );
    }

    #[test]
    fn reload_keeps_the_run_and_records_its_time() {
        let (services, clock) = supervisor();
        services.define("web");
        assert!(services.reload("web").is_err(), "it does not run yet");
        services.start("web").unwrap();
        let before = services.status("web").unwrap();
        clock.advance(5);
        services.reload("web").unwrap();
        let after = services.status("web").unwrap();
        assert_eq!(after.run_id, before.run_id);
        assert_eq!(after.reloaded_at, Some(clock.now()));
        services.set_can_reload("web", false);
        assert!(services.reload("web").is_err());
    }

    #[test]
    fn injected_fault_applies_once_and_carries_the_log() {
        let (services, _) = supervisor();
        services.define("web");
        services.crash("web", &["no such port"]);
        services.inject_fault("web", "start", InjectedFault::Fail("exited with 1".into()));
        let error = services.start("web").unwrap_err();
        let ServiceError::Failed { why, log, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(
            (why.as_str(), log),
            ("exited with 1", vec!["no such port".into()])
        );
        assert_eq!(services.status("web").unwrap().active, ActiveState::Failed);
        services.inject_fault("web", "start", InjectedFault::Hang(90));
        assert!(matches!(
            services.start("web"),
            Err(ServiceError::TimedOut { seconds: 90, .. })
        ));
        services.start("web").unwrap();
        assert_eq!(services.status("web").unwrap().active, ActiveState::Running);
    }

    #[test]
    fn undefined_service_is_unknown_and_masked_one_stays_masked() {
        let (services, _) = supervisor();
        assert!(!services.status("web").unwrap().known);
        assert!(matches!(
            services.enable("web"),
            Err(ServiceError::Unknown { .. })
        ));
        services.define("web");
        services.set_enabled("web", EnabledState::Masked);
        assert!(services.start("web").is_err() && services.enable("web").is_err());
        services.disable("web").unwrap();
        assert_eq!(
            services.status("web").unwrap().enabled,
            EnabledState::Masked
        );
    }

    #[test]
    fn a_new_definition_is_stale_until_a_restart_reads_it() {
        let (services, _) = supervisor();
        services.define("web");
        services.start("web").unwrap();
        services.define("web");
        assert!(services.status("web").unwrap().stale_definition);
        services.restart("web").unwrap();
        assert!(!services.status("web").unwrap().stale_definition);
    }
}
