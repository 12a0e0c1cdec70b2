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

/// Programs that load a configuration into new worker processes, by the name of their main process.
const PROGRAMS_WITH_WORKERS: [&str; 2] = ["nginx", "haproxy"];

/// How long a program may take to load its configuration.
const LOAD_TIMEOUT: Duration = Duration::from_secs(30);

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
        Some(workers) => workers.wait_for_successors(services, name, host),
        None => Ok(()),
    }
}

/// The worker processes before a reload.
struct Workers {
    main: u32,
    runs: Vec<(u32, u64)>,
    /// What the program prints of errors, if that is a file, and its size before the reload.
    log: Option<(File, u64)>,
}

impl Workers {
    /// `None`: the program is not known to have workers.
    fn of(main: u32) -> Option<Workers> {
        let name = processes::program_name(main)?;
        if !PROGRAMS_WITH_WORKERS.contains(&name.as_str()) {
            return None;
        }
        let runs = processes::child_runs(main);
        let log = processes::open_stderr_file(main)
            .and_then(|file| Some((file.metadata().ok()?.len(), file)))
            .map(|(size, file)| (file, size));
        // A main process without workers does the work itself.
        (!runs.is_empty()).then_some(Workers { main, runs, log })
    }

    fn wait_for_successors(
        mut self,
        services: &dyn Services,
        name: &str,
        host: &Host,
    ) -> Result<(), Failure> {
        let started = host.clock.monotonic_now();
        let mut idle_since = None;
        loop {
            let status = services.status(name)?;
            let main = status.main_pid.unwrap_or(self.main);
            let runs = processes::child_runs(main);
            if main != self.main || runs.iter().any(|run| !self.runs.contains(run)) {
                return Ok(());
            }
            let errors = self.errors();
            // A program that gives no signal still loads until it says what is wrong.
            let is_idle = match status.reloading {
                Some(reloading) => !reloading,
                None => !errors.is_empty(),
            };
            let now = host.clock.monotonic_now();
            idle_since = match is_idle {
                true => idle_since.or(Some(now)),
                false => None,
            };
            let gave_up = idle_since.is_some_and(|since| now - since >= GRACE);
            if gave_up || now - started >= LOAD_TIMEOUT || host.stop.is_set() {
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
        let mark = format!(" {main}#", main = self.main);
        let is_error = |line: &&str| {
            let level = line.split_whitespace().nth(2);
            line.contains(&mark) && matches!(level, Some("[emerg]" | "[alert]" | "[crit]"))
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
