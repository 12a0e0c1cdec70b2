//! A reload, and the proof that it succeeded.
//!
//! A signal that was sent proves nothing. nginx and haproxy load a new configuration into new worker processes; if they
//! cannot, for want of a port for example, they say so in a log, keep the old workers, and the service manager still
//! reports success.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::time::Duration;

use crate::ports::services::Services;
use crate::ports::{Host, processes};
use crate::resource::Failure;

/// Programs whose processes show how a reload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    /// The main process loads it, and starts workers only if it can.
    Nginx,
    /// Since 3.1 the new worker loads it, and ends if it cannot.
    Haproxy,
    /// Its processes load it themselves, and go on. One that crashes over it is started again.
    Keepalived,
}

impl Program {
    /// By the name of the main process.
    fn of(main: u32) -> Option<Program> {
        match processes::program_name(main)?.as_str() {
            "nginx" => Some(Program::Nginx),
            "haproxy" => Some(Program::Haproxy),
            "keepalived" => Some(Program::Keepalived),
            _ => None,
        }
    }

    /// How long a new worker has to live to count. `reloading`: the service manager's signal, which comes a moment after
    /// that of a worker.
    fn worker_trial(self, reloading: Option<bool>) -> Duration {
        match (self, reloading) {
            (Program::Nginx, _) => Duration::ZERO,
            (Program::Haproxy, Some(_)) => Duration::from_millis(500),
            (Program::Haproxy, None) => GRACE,
            (Program::Keepalived, _) => Duration::from_secs(1),
        }
    }
}

/// How long a program may take to load its configuration: thousands of certificates, or a slow name server.
const LOAD_TIMEOUT: Duration = Duration::from_secs(90);

/// How long after the end of a load that was signalled, or after an error in its log, new workers may still come. nginx
/// tries for 2.5 s to bind a port.
const GRACE: Duration = Duration::from_secs(4);

const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Most bytes of a log that are read, and most lines that are shown.
const MAX_LOG_BYTES: u64 = 64 << 10;
const MAX_LOG_LINES: usize = 10;

/// Reloads the service. `Err`: it is not known to use its new configuration.
pub(super) fn reload(services: &dyn Services, name: &str, host: &Host) -> Result<(), Failure> {
    let main = services.status(name)?.main_pid;
    let workers = main.and_then(Workers::of);
    services.reload(name)?;
    match workers {
        Some(workers) if workers.program == Program::Keepalived => {
            workers.outlive_reload(services, name)
        }
        Some(workers) => workers.wait_for_successors(services, name, host),
        None => Ok(()),
    }
}

/// The worker processes before a reload.
struct Workers {
    main: u32,
    program: Program,
    runs: Vec<(u32, u64)>,
    /// What the program prints of errors, if that is a file, and its size before the reload.
    log: Option<(File, u64)>,
}

impl Workers {
    /// `None`: the program is not known to have workers.
    fn of(main: u32) -> Option<Workers> {
        let program = Program::of(main)?;
        let runs = processes::child_runs(main);
        let log = processes::open_stderr_file(main)
            .and_then(|file| Some((file.metadata().ok()?.len(), file)))
            .map(|(size, file)| (file, size));
        // A main process without workers does the work itself.
        (!runs.is_empty()).then_some(Workers {
            main,
            program,
            runs,
            log,
        })
    }

    /// Checks that the same processes still run after a moment.
    fn outlive_reload(self, services: &dyn Services, name: &str) -> Result<(), Failure> {
        std::thread::sleep(self.program.worker_trial(None));
        let is_same = services.status(name)?.main_pid == Some(self.main);
        match is_same && processes::child_runs(self.main) == self.runs {
            true => Ok(()),
            false => {
                let message = format!(
                    "reload of {name} failed: a process of it ended over its new configuration"
                );
                let failure =
                    Failure::new(message).hint("mend what it says; the next pass reloads it again");
                Err(failure.with_log_tail(&services.log_tail(name).join("\n")))
            }
        }
    }

    fn wait_for_successors(
        mut self,
        services: &dyn Services,
        name: &str,
        host: &Host,
    ) -> Result<(), Failure> {
        let started = host.clock.monotonic_now();
        let (mut idle_since, mut new_since) = (None, None);
        loop {
            // Before the state: a new worker that cannot load its configuration ends before the end of the reload is
            // signalled.
            let runs = processes::child_runs(self.main);
            let is_new = |run: &&(u32, u64)| !self.runs.contains(run);
            let newest = runs.iter().filter(is_new).max_by_key(|run| run.1).copied();
            let status = services.status(name)?;
            let now = host.clock.monotonic_now();
            if status.main_pid.is_some_and(|main| main != self.main) {
                return Ok(());
            }
            new_since = match (newest, new_since) {
                (Some(run), Some((known, since))) if run == known => Some((run, since)),
                (Some(run), _) => Some((run, now)),
                (None, _) => None,
            };
            let is_loading = status.reloading == Some(true);
            let trial = self.program.worker_trial(status.reloading);
            if !is_loading && new_since.is_some_and(|(_, since)| now - since >= trial) {
                return Ok(());
            }
            let errors = self.errors();
            // A program that gives no signal still loads until it says what is wrong.
            let is_idle = newest.is_none()
                && match status.reloading {
                    Some(reloading) => !reloading,
                    None => !errors.is_empty(),
                };
            idle_since = match is_idle {
                true => idle_since.or(Some(now)),
                false => None,
            };
            if host.stop.is_set() {
                return Err(Failure::stopped());
            }
            let gave_up = idle_since.is_some_and(|since| now - since >= GRACE);
            if gave_up || now - started >= LOAD_TIMEOUT {
                let errors = match errors.is_empty() {
                    true => services.log_tail(name),
                    false => errors,
                };
                return Err(not_reloaded(name, &errors));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// What the main process wrote to its log since the reload. Workers write there too, and quote requests.
    fn errors(&mut self) -> Vec<String> {
        let Some((file, before)) = &mut self.log else {
            return Vec::new();
        };
        let mut text = Vec::new();
        if file.seek(SeekFrom::Start(*before)).is_err()
            || file.take(MAX_LOG_BYTES).read_to_end(&mut text).is_err()
        {
            return Vec::new();
        }
        let text = String::from_utf8_lossy(&text);
        // DATE TIME [LEVEL] PROCESS#THREAD: TEXT
        let mark = format!("{}#", self.main);
        let is_error = |line: &&str| {
            let mut words = line.split_whitespace().skip(2);
            let is_severe = matches!(words.next(), Some("[emerg]" | "[alert]" | "[crit]"));
            is_severe
                && words
                    .next()
                    .is_some_and(|process| process.starts_with(&mark))
        };
        // Without the time: a failure that says the same as before is no news.
        let without_time = |line: &str| line.splitn(3, ' ').last().unwrap_or(line).to_owned();
        let lines = text.lines().filter(is_error).map(without_time);
        let mut lines: Vec<String> = lines.collect();
        lines.dedup();
        lines.drain(..lines.len().saturating_sub(MAX_LOG_LINES));
        lines
    }
}

fn not_reloaded(name: &str, log: &[String]) -> Failure {
    let failure = Failure::new(format!(
        "reload of {name} failed: it started no new worker process, and runs on with its old configuration"
    ))
    .hint("mend what it says; the next pass reloads it again");
    match log.is_empty() {
        true => failure,
        false => failure.with_log_tail(&log.join("\n")),
    }
}
