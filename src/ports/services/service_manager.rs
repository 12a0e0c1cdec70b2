//! Selects the supervisor of a host: systemd, supervisord or plain processes.

use std::path::Path;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::{
    LogRange, ProcessServices, ServiceError, ServiceLog, ServiceStatus, Services,
    SupervisorServices, SystemdServices, Timer,
};
use crate::ports::accounts::Accounts;
use crate::ports::exec::Exec;
use crate::ports::root::Root;

/// Which supervisor the settings ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) enum ServiceManager {
    /// Plain processes in a sandbox, systemd on a host that runs it.
    #[default]
    Auto,
    Systemd,
    Supervisor,
    Process,
}

/// What runs one service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) enum ManagedBy {
    /// Whatever runs the host's services.
    #[default]
    Host,
    /// A supervisord beside it.
    Supervisor,
}

/// Exists if systemd runs the host: the test of sd_booted(3).
const SYSTEMD_BOOTED: &str = "/run/systemd/system";

/// The supervisord of the host behind `root`; in a sandbox, one that listens below its root. Makes no call
/// yet, like [`open`].
pub(crate) fn supervisor(root: &Rc<Root>) -> Box<dyn Services> {
    Box::new(SupervisorServices::new(root.clone()))
}

/// The timer `name` of the host's systemd; `None` if there is no such timer, or no systemd.
pub(crate) fn timer(
    root: &Root,
    exec: &Rc<Exec>,
    name: &str,
) -> Result<Option<Timer>, ServiceError> {
    if !root.is_real() || !Path::new(SYSTEMD_BOOTED).is_dir() {
        return Ok(None);
    }
    SystemdServices::new(exec.clone()).timer(name)
}

/// The supervisor of the host behind `root`. Makes no call yet: if the supervisor does not answer, the first
/// call fails.
pub(crate) fn open(
    choice: ServiceManager,
    root: &Rc<Root>,
    exec: &Rc<Exec>,
    accounts: &Rc<Accounts>,
) -> Box<dyn Services> {
    let process = || ProcessServices::new(root.clone(), exec.clone(), accounts.clone());
    let systemd = || SystemdServices::new(exec.clone());
    match choice {
        ServiceManager::Process => Box::new(process()),
        ServiceManager::Systemd => Box::new(systemd()),
        ServiceManager::Supervisor => supervisor(root),
        ServiceManager::Auto if !root.is_real() => Box::new(process()),
        ServiceManager::Auto if Path::new(SYSTEMD_BOOTED).is_dir() => Box::new(systemd()),
        ServiceManager::Auto => Box::new(NoServiceManager),
    }
}

/// Stands in on a host without a supported supervisor.
#[derive(Debug)]
struct NoServiceManager;

impl NoServiceManager {
    fn unreachable<T>(&self) -> Result<T, ServiceError> {
        Err(ServiceError::Unreachable {
            supervisor: "systemd",
            why: "this host was not booted with it (there is no /run/systemd/system); \
                  name another service manager in the settings, or use `--root` for a sandbox"
                .into(),
        })
    }
}

impl Services for NoServiceManager {
    fn status(&self, _: &str) -> Result<ServiceStatus, ServiceError> {
        self.unreachable()
    }
    fn start(&self, _: &str) -> Result<(), ServiceError> {
        self.unreachable()
    }
    fn stop(&self, _: &str) -> Result<(), ServiceError> {
        self.unreachable()
    }
    fn restart(&self, _: &str) -> Result<(), ServiceError> {
        self.unreachable()
    }
    fn reload(&self, _: &str) -> Result<(), ServiceError> {
        self.unreachable()
    }
    fn enable(&self, _: &str) -> Result<(), ServiceError> {
        self.unreachable()
    }
    fn disable(&self, _: &str) -> Result<(), ServiceError> {
        self.unreachable()
    }

    fn process_ids(&self, _: &str) -> Result<Vec<u32>, ServiceError> {
        self.unreachable()
    }

    fn open_logs(&self, _: &str, _: LogRange) -> Result<Vec<ServiceLog>, ServiceError> {
        self.unreachable()
    }

    fn log_tail(&self, _: &str) -> Vec<String> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sandbox_never_touches_host_services() {
        let dir = tempfile::tempdir().unwrap();
        let root = Rc::new(Root::at(dir.path()).unwrap());
        let services = open(
            ServiceManager::Auto,
            &root,
            &Rc::new(Exec),
            &Rc::new(Accounts::default()),
        );
        // Every machine with systemd has this service; the sandbox must not see it.
        assert!(!services.status("dbus").unwrap().known);
    }

    #[test]
    fn a_host_without_a_supervisor_says_what_to_do() {
        let error = NoServiceManager.status("nginx").unwrap_err().to_string();
        assert!(error.contains("settings"), "{error}");
    }
}
