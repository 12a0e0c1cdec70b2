//! The processes of a service: what it runs, from which release, and what it prints.

use std::path::Path;

use super::spec::{ServiceSpec, service_manager};
use super::{Service, active_state_text, is_masked_but_wanted, running_release};
use crate::kind::{Kind, ServiceProcesses};
use crate::ports::services::{ActiveState, LogRange, ScheduledJob, ServiceLog, ServiceStatus};
use crate::ports::{Host, processes};
use crate::resource::{ExpectedState, Failure, ServiceSummary, Trial};

/// The end of the name of a unit that starts a cron job.
const TIMER: &str = ".timer";

impl ServiceProcesses for ServiceSpec {
    fn name(&self) -> &str {
        &self.name
    }

    fn slots(&self) -> Option<String> {
        // Names of apps begin with no underscore.
        self.coordinated.then(|| format!("_{}", self.name))
    }

    fn serves(&self) -> Option<&Path> {
        self.serves.as_deref()
    }

    fn note_loaded(&self, fingerprints: &[&str], host: &Host) {
        if let Some(haproxy) = self.haproxy(host) {
            haproxy.note_loaded(fingerprints);
        }
    }

    fn maintain(&self, host: &Host) {
        if let Some(haproxy) = self.haproxy(host) {
            haproxy.maintain();
        }
    }

    fn scheduled_job(&self, host: &Host) -> Result<Option<ScheduledJob>, Failure> {
        match self.name.ends_with(TIMER) {
            true => Ok(service_manager(self, host).scheduled_job(&self.name)?),
            false => Ok(None),
        }
    }

    fn is_after_gate(&self) -> bool {
        self.after_gate
    }

    fn process(&self) -> Option<&str> {
        self.process.as_deref()
    }

    fn summary(&self, host: &Host) -> Result<ServiceSummary, Failure> {
        let status = Service::inspect(self, host)?;
        let expected = match self.running {
            Some(true) if is_masked_but_wanted(self, &status.status) => ExpectedState::Masked,
            Some(true) if status.serves_missing => ExpectedState::AwaitsRelease,
            Some(true) => ExpectedState::Running,
            Some(false) => ExpectedState::Stopped,
            None => ExpectedState::Any,
        };
        Ok(ServiceSummary {
            active: status.status.active,
            expected,
        })
    }

    fn process_ids(&self, host: &Host) -> Result<Vec<u32>, Failure> {
        Ok(service_manager(self, host).process_ids(&self.name)?)
    }

    fn check_runs_from(&self, host: &Host, trial: &Trial) -> Result<(), Failure> {
        let status = service_manager(self, host).status(&self.name)?;
        let name = &self.name;
        match status.active {
            ActiveState::Running => {}
            // The role does not require it to run, so there is nothing to check.
            _ if self.running != Some(true) => return Ok(()),
            other => {
                let masked = match is_masked_but_wanted(self, &status) {
                    true => ", and an operator masked it",
                    false => "",
                };
                let message = format!("{name} {}{masked}", not_running_text(&status));
                return Err(match other {
                    // Nobody starts it again.
                    ActiveState::Failed => Failure::permanent(message),
                    _ => Failure::new(message),
                });
            }
        }
        let serves = self.serves.as_deref() == Some(&trial.current);
        match status.main_pid {
            Some(main) => running_release::check_processes(name, main, serves, trial, host),
            None => Ok(()),
        }
    }

    fn crashes(&self, host: &Host) -> u32 {
        let status = service_manager(self, host).status(&self.name);
        status.map_or(0, |status| status.restarts)
    }

    fn process_uids(&self, host: &Host) -> Vec<u32> {
        let status = service_manager(self, host).status(&self.name).ok();
        let family = status.and_then(|status| processes::process_tree(status.main_pid?));
        let family = family.into_iter().flatten();
        // A socket belongs to the effective uid of the process.
        family.map(|process| process.uids[1]).collect()
    }

    fn open_logs(&self, host: &Host, range: LogRange) -> Result<Vec<ServiceLog>, Failure> {
        Ok(service_manager(self, host).open_logs(&self.name, range)?)
    }

    fn log_tail(&self, host: &Host) -> Vec<String> {
        service_manager(self, host).log_tail(&self.name)
    }
}

/// What a service that should run does instead, and why, as far as its supervisor knows.
fn not_running_text(status: &ServiceStatus) -> String {
    let failure = status.last_failure.as_ref();
    let why = failure.map_or(String::new(), |why| format!(": {why}"));
    match status.active {
        ActiveState::Starting if status.restarts > 0 => {
            format!("ended and waits to be restarted{why}")
        }
        ActiveState::Starting => "is still starting".to_owned(),
        ActiveState::Failed => format!("failed{why}"),
        other => format!("is {}", active_state_text(other)),
    }
}
