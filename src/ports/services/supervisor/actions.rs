//! The operations on one service: start, stop, restart, reload, enable, disable.

use std::time::{Duration, Instant};

use dxr::{TryFromValue, Value};

use super::rpc::{RpcClient, RpcError, fault};
use super::state::{self, Namespec, ProcessInfo, ProcessState};
use crate::ports::services::{ServiceError, ServiceStatus};

pub(super) type Result<T = ()> = std::result::Result<T, ServiceError>;

/// Maximum time of a start: `startsecs` of every process plus the time to load.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// Maximum time of a stop; `stopwaitsecs` must be shorter.
const STOP_TIMEOUT: Duration = Duration::from_secs(90);

/// Maximum time of a call that waits for no process.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Interval at which a starting or stopping process is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

const LOG_TAIL_LINES: usize = 10;

/// How much of the end of a log is requested, in bytes.
const LOG_TAIL_BYTES: i32 = 4096;

/// Differences between the configuration on disk and the one that supervisord runs, as group names.
#[derive(Debug, Default)]
struct ConfigChanges {
    added: Vec<String>,
    changed: Vec<String>,
    removed: Vec<String>,
}

/// One operation on one name.
pub(super) struct Action<'a> {
    pub(super) client: &'a RpcClient,
    pub(super) verb: &'static str,
    /// As the caller wrote it.
    pub(super) requested_name: &'a str,
    pub(super) name: Namespec,
}

impl Action<'_> {
    fn call<T: TryFromValue>(
        &self,
        limit: Duration,
        method: &str,
        params: Vec<Value>,
    ) -> std::result::Result<T, RpcError> {
        self.client.call(limit, method, params)
    }

    fn service_error(&self, error: RpcError, limit: Duration) -> ServiceError {
        match error {
            RpcError::Fault { text, .. } => self.failed(text),
            RpcError::Unreachable(why) => ServiceError::Unreachable {
                supervisor: "supervisord",
                why,
            },
            RpcError::PermissionDenied(why) => ServiceError::PermissionDenied {
                supervisor: "supervisord",
                why,
            },
            RpcError::TimedOut => self.timed_out(limit),
        }
    }

    pub(super) fn failed(&self, why: impl Into<String>) -> ServiceError {
        ServiceError::failed(self.verb, self.requested_name, why)
    }

    fn timed_out(&self, limit: Duration) -> ServiceError {
        ServiceError::TimedOut {
            verb: self.verb,
            name: self.requested_name.to_owned(),
            seconds: limit.as_secs(),
        }
    }

    /// Calls a method that answers only "yes" or "no". A fault in `accepted` means that the state is already as
    /// wanted.
    fn call_allowing(
        &self,
        limit: Duration,
        method: &str,
        params: Vec<Value>,
        accepted: &[i32],
    ) -> Result {
        match self.call::<Value>(limit, method, params) {
            Ok(_) => Ok(()),
            Err(RpcError::Fault { code, .. }) if accepted.contains(&code) => Ok(()),
            Err(error) => Err(self.service_error(error, limit)),
        }
    }

    fn all_processes(&self) -> Result<Vec<ProcessInfo>> {
        self.call(CALL_TIMEOUT, "getAllProcessInfo", Vec::new())
            .map_err(|error| self.service_error(error, CALL_TIMEOUT))
    }

    pub(super) fn own_processes(&self) -> Result<Vec<ProcessInfo>> {
        Ok(self.name.select(&self.all_processes()?))
    }

    /// Makes supervisord read its configuration again. Inner `Err`: why it cannot.
    fn reread(&self) -> Result<std::result::Result<ConfigChanges, String>> {
        match self.call::<Vec<Vec<Vec<String>>>>(CALL_TIMEOUT, "reloadConfig", Vec::new()) {
            Ok(answer) => {
                let mut lists = answer.into_iter().flatten();
                let mut next = || lists.next().unwrap_or_default();
                Ok(Ok(ConfigChanges {
                    added: next(),
                    changed: next(),
                    removed: next(),
                }))
            }
            Err(RpcError::Fault {
                code: fault::CANT_REREAD,
                text,
            }) => Ok(Err(text)),
            Err(error) => Err(self.service_error(error, CALL_TIMEOUT)),
        }
    }

    fn require_reread(&self) -> Result<ConfigChanges> {
        self.reread()?.map_err(|why| {
            self.failed(format!(
                "supervisord cannot reload its configuration: {why}"
            ))
        })
    }

    fn unknown(&self, all: &[ProcessInfo]) -> ServiceError {
        ServiceError::Unknown {
            name: self.requested_name.to_owned(),
            hint: self.name.hint(all),
        }
    }

    pub(super) fn status(&self) -> Result<ServiceStatus> {
        let all = self.all_processes()?;
        let own = self.name.select(&all);
        let group = &self.name.group;
        match self.reread()? {
            Ok(reread) => {
                let comes = reread.added.contains(group) || reread.changed.contains(group);
                let stale = comes || reread.removed.contains(group);
                if own.is_empty() && !comes {
                    return Ok(ServiceStatus::unknown());
                }
                Ok(state::status(&own, stale))
            }
            Err(why) if own.is_empty() => Err(self.failed(format!(
                "supervisord does not know it and cannot reload its configuration: {why}"
            ))),
            Err(_) => Ok(state::status(&own, true)),
        }
    }

    /// Applies the configuration on disk to the group before one of its processes starts. Returns whether the
    /// group was added or replaced.
    fn update_group(&self) -> Result<bool> {
        let reread = self.require_reread()?;
        let group = &self.name.group;
        let named = || vec![Value::String(group.clone())];
        if reread.removed.contains(group) {
            return Err(self.failed(
                "supervisord still runs it, but its configuration no longer has a section for it",
            ));
        }
        let changed = reread.changed.contains(group);
        if !changed && !reread.added.contains(group) {
            return Ok(false);
        }
        let mut ran = Vec::new();
        if changed {
            let all = self.all_processes()?;
            let ups = all.iter().filter(|p| p.group == *group && p.is_up());
            ran = ups.map(ProcessInfo::namespec).collect();
            self.remove_group(group)?;
        }
        self.call_allowing(
            CALL_TIMEOUT,
            "addProcessGroup",
            named(),
            &[fault::ALREADY_ADDED],
        )?;
        // Processes with `autostart` start by themselves; the others ran because an operator had started
        // them.
        for name in ran {
            let params = vec![Value::String(name), Value::Boolean(false)];
            let accepted = [fault::ALREADY_STARTED, fault::BAD_NAME];
            // The caller's own check reports a process that does not start.
            let _ = self.call_allowing(CALL_TIMEOUT, "startProcess", params, &accepted);
        }
        Ok(true)
    }

    fn remove_group(&self, group: &str) -> Result {
        let named = || vec![Value::String(group.to_owned())];
        self.call_allowing(STOP_TIMEOUT, "stopProcessGroup", named(), &[])?;
        self.wait_until(STOP_TIMEOUT, || {
            let all = self.all_processes()?;
            let mut own = all.iter().filter(|p| p.group == group);
            Ok(own.all(|p| !p.is_up() && p.state != ProcessState::Stopping))
        })?;
        self.call_allowing(
            CALL_TIMEOUT,
            "removeProcessGroup",
            named(),
            &[fault::BAD_NAME],
        )
    }

    /// Starts the processes that are down; returns when all have stayed up for their `startsecs`.
    fn start_processes(&self) -> Result {
        let all = self.all_processes()?;
        let processes = self.name.select(&all);
        if processes.is_empty() {
            return Err(self.unknown(&all));
        }
        for process in processes.iter().filter(|process| !process.is_up()) {
            let params = vec![Value::String(process.namespec()), Value::Boolean(false)];
            // The state of the process afterwards says more than this answer.
            let accepted = [
                fault::ALREADY_STARTED,
                fault::SPAWN_ERROR,
                fault::ABNORMAL_TERMINATION,
            ];
            match self.call::<Value>(CALL_TIMEOUT, "startProcess", params) {
                Ok(_) => {}
                Err(RpcError::Fault { code, .. }) if accepted.contains(&code) => {}
                Err(RpcError::Fault { code, text }) => {
                    return Err(self.failed(match code {
                        fault::NO_FILE => format!("there is no program {text}"),
                        fault::NOT_EXECUTABLE => format!("{text} cannot be executed"),
                        _ => text,
                    }));
                }
                Err(error) => return Err(self.service_error(error, CALL_TIMEOUT)),
            }
        }
        let mut last = Vec::new();
        self.wait_until(START_TIMEOUT, || {
            last = self.own_processes()?;
            Ok(last.iter().all(|p| p.state != ProcessState::Starting))
        })?;
        // A program that exits as its section expects has succeeded.
        let done = |p: &ProcessInfo| p.state == ProcessState::Exited && p.spawn_error.is_empty();
        match last
            .iter()
            .find(|p| p.state != ProcessState::Running && !done(p))
        {
            None => Ok(()),
            Some(process) => {
                let log = self.process_log_tail(process);
                Err(self.failed(process.down_reason()).with_log(log))
            }
        }
    }

    fn stop_processes(&self) -> Result {
        let all = self.all_processes()?;
        for process in self.name.select(&all).iter().filter(|p| p.is_up()) {
            let params = vec![Value::String(process.namespec()), Value::Boolean(false)];
            self.call_allowing(CALL_TIMEOUT, "stopProcess", params, &[fault::NOT_RUNNING])?;
        }
        self.wait_until(STOP_TIMEOUT, || {
            let now = self.own_processes()?;
            Ok(now
                .iter()
                .all(|p| !p.is_up() && p.state != ProcessState::Stopping))
        })
    }

    fn wait_until(&self, limit: Duration, mut over: impl FnMut() -> Result<bool>) -> Result {
        let started = Instant::now();
        while !over()? {
            if started.elapsed() >= limit {
                return Err(self.timed_out(limit));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// The last lines that a process printed to stderr, or else to stdout.
    fn process_log_tail(&self, process: &ProcessInfo) -> Vec<String> {
        for method in ["tailProcessStderrLog", "tailProcessStdoutLog"] {
            // Supervisord fails on a tail that begins in the middle of a character.
            let tail = (0..4).find_map(|less| {
                let params = vec![
                    Value::String(process.namespec()),
                    Value::Integer(0),
                    Value::Integer(LOG_TAIL_BYTES - less),
                ];
                let answer: (String, i32, bool) = self.call(CALL_TIMEOUT, method, params).ok()?;
                Some(answer.0)
            });
            let tail = tail.unwrap_or_default();
            let lines: Vec<&str> = tail.lines().filter(|line| !line.is_empty()).collect();
            if !lines.is_empty() {
                let skip = lines.len().saturating_sub(LOG_TAIL_LINES);
                return lines[skip..].iter().map(|&line| line.to_owned()).collect();
            }
        }
        Vec::new()
    }

    /// The ids of its processes; supervisord knows none below them.
    pub(super) fn process_ids(&self) -> Result<Vec<u32>> {
        let processes = self.own_processes()?;
        let ids = processes.iter().filter_map(|process| process.pid);
        Ok(ids.map(i32::cast_unsigned).collect())
    }

    /// The last lines of its first process that printed anything.
    pub(super) fn log_tail(&self) -> Vec<String> {
        let processes = self.own_processes().unwrap_or_default();
        let mut logs = processes
            .iter()
            .map(|process| self.process_log_tail(process));
        logs.find(|lines| !lines.is_empty()).unwrap_or_default()
    }

    pub(super) fn start(&self) -> Result {
        // If all processes are up, nothing changes, whatever the configuration says now.
        let now = self.own_processes()?;
        if now.is_empty() || now.iter().any(|process| !process.is_up()) {
            self.update_group()?;
        }
        self.start_processes()
    }

    pub(super) fn stop(&self) -> Result {
        let all = self.all_processes()?;
        let reread = self.reread()?.unwrap_or_default();
        let group = &self.name.group;
        if self.name.select(&all).is_empty() {
            return if reread.added.contains(group) {
                Ok(())
            } else {
                Err(self.unknown(&all))
            };
        }
        if reread.removed.contains(group) && self.name.is_whole_group(&all) {
            return self.remove_group(group);
        }
        self.stop_processes()
    }

    pub(super) fn restart(&self) -> Result {
        if !self.update_group()? {
            self.stop_processes()?;
        }
        self.start_processes()
    }

    pub(super) fn reload(&self) -> Result {
        let all = self.all_processes()?;
        let processes = self.name.select(&all);
        if processes.is_empty() {
            let comes = self.reread()?.unwrap_or_default().added;
            return Err(if comes.contains(&self.name.group) {
                self.failed("it is not running")
            } else {
                self.unknown(&all)
            });
        }
        if processes.iter().any(|p| p.state != ProcessState::Running) {
            return Err(self.failed("it is not running"));
        }
        for process in &processes {
            let params = vec![
                Value::String(process.namespec()),
                Value::String("HUP".to_owned()),
            ];
            self.call_allowing(CALL_TIMEOUT, "signalProcess", params, &[])?;
        }
        Ok(())
    }

    pub(super) fn require_known(&self) -> Result {
        if self.status()?.known {
            return Ok(());
        }
        Err(self.unknown(&self.all_processes()?))
    }
}
