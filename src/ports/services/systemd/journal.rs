//! What a unit prints: its lines in the journal.

use std::path::Path;
use std::time::Duration;

use super::{SystemdServices, error};
use crate::ports::exec::{Command, ExitReason, PipedChild};
use crate::ports::services::name::UnitName;
use crate::ports::services::{LogRange, LogRead, LogReader, ServiceError, ServiceLog};

const JOURNALCTL: &str = "/usr/bin/journalctl";

const LOG_TAIL_LINES: usize = 10;

/// Lines that did not come through syslog.
const PRINTED: [&str; 2] = ["_TRANSPORT=stdout", "_TRANSPORT=journal"];

/// Maximum time of the start of a journalctl that prints for as long as it is read.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The lines of a unit, as journalctl prints them.
struct JournalLog {
    /// Killed when dropped.
    journalctl: PipedChild,
    unit: String,
}

impl LogReader for JournalLog {
    fn read(&mut self) -> Result<LogRead, ServiceError> {
        let failed = |why: String| ServiceError::failed("logs", &self.unit, why);
        match self.journalctl.read_available() {
            Ok(Some(bytes)) if bytes.is_empty() => Ok(LogRead::Pending),
            Ok(Some(bytes)) => Ok(LogRead::Bytes(bytes)),
            Ok(None) => match self.journalctl.finish() {
                (ExitReason::Exited(0), _) => Ok(LogRead::End),
                (ended, message) => Err(failed(format!("journalctl {ended}: {}", message.trim()))),
            },
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

impl SystemdServices {
    /// Opens the journal of the unit: the lines of its processes, and those of systemd about it.
    pub(super) fn open_journal(
        &self,
        name: &UnitName,
        range: LogRange,
    ) -> Result<ServiceLog, ServiceError> {
        let lines = range.lines.to_string();
        // A timer prints nothing, the job that it starts does.
        let job = name.triggered_service();
        let mut argv = vec![
            JOURNALCTL,
            "-u",
            job.as_ref().unwrap_or(name).full(),
            "-n",
            &lines,
            "-o",
            "short-iso",
        ];
        // With all characters: trueup escapes them, and journalctl would leave out the line.
        argv.extend(["--no-hostname", "--all", "--quiet", "--no-pager"]);
        argv.extend(range.follow.then_some("--follow"));
        let command = Command::new(argv).env("LANG", "C.UTF-8");
        let started = self.exec.spawn_piped(&command, START_TIMEOUT.into());
        let journalctl = started
            .map_err(|error| ServiceError::failed("logs", name.short(), error.to_string()))?;
        Ok(ServiceLog {
            name: name.short().to_owned(),
            reader: Box::new(JournalLog {
                journalctl,
                unit: name.short().to_owned(),
            }),
        })
    }

    /// A failure with the last lines of the unit's log.
    pub(super) fn failure_with_log(
        &self,
        verb: &'static str,
        name: &UnitName,
        mut why: String,
    ) -> ServiceError {
        let log = self.journal_tail(name);
        // A refusal by the start limit, which leaves the properties as the failure before it set them.
        if log
            .iter()
            .any(|line| line.contains("Start request repeated too quickly"))
        {
            why = error::start_limit_reason(name);
        }
        ServiceError::failed(verb, name.short(), why).with_log(log)
    }

    /// The last lines of the unit, newest last.
    pub(super) fn journal_tail(&self, name: &UnitName) -> Vec<String> {
        if !Path::new(JOURNALCTL).exists() {
            return Vec::new();
        }
        let journalctl = |args: &[&str]| {
            let argv = std::iter::once(&JOURNALCTL).chain(args).copied();
            let command = Command::new(argv).timeout(Duration::from_secs(10));
            self.exec.run(command).ok().filter(|done| done.success())
        };
        // The last output of a process may still be on its way into the journal.
        journalctl(&["--sync"]);
        let count = LOG_TAIL_LINES.to_string();
        let tail = |only: &[&str]| -> Vec<String> {
            let mut args = vec!["-u", name.full(), "-n", &count];
            args.extend(["-o", "cat", "-q", "--no-pager"]);
            args.extend(only);
            let done = journalctl(&args);
            done.map(|done| done.output.text().lines().map(str::to_owned).collect())
                .unwrap_or_default()
        };
        // What a process prints, and systemd about it, before what goes through syslog: there haproxy has a line for each
        // request, and a busy one would hide why it failed.
        let printed = tail(&PRINTED);
        match printed.is_empty() {
            true => tail(&[]),
            false => printed,
        }
    }
}
