//! The verbs: one service, moved from what it is to what was asked for.

use std::time::{Duration, Instant};

use dxr::{TryFromValue, Value};

use super::Result;
use super::reading::{self, Name, Process, State};
use super::rpc::{Trouble, Wire, fault};
use crate::ports::services::{ServiceError, Status};

/// How long starting may take: `startsecs` of every process, and what loading takes.
const START_LIMIT: Duration = Duration::from_secs(120);

/// How long stopping may take; `stopwaitsecs` must be below it.
const STOP_LIMIT: Duration = Duration::from_secs(90);

/// How long any answer may take that waits for no process.
const LIMIT: Duration = Duration::from_secs(30);

/// How often a process on its way is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

const LOG_LINES: usize = 10;

/// As much of a log's end as is asked for, in bytes.
const LOG_TAIL: i32 = 4096;

/// Where the configuration on disk and what supervisord runs differ: names of groups.
#[derive(Debug, Default)]
struct Reread {
    added: Vec<String>,
    changed: Vec<String>,
    removed: Vec<String>,
}

/// One verb for one name.
pub(super) struct Move<'a> {
    pub(super) wire: &'a Wire,
    pub(super) verb: &'static str,
    /// As it was asked for.
    pub(super) asked: &'a str,
    pub(super) name: Name,
}

impl Move<'_> {
    fn ask<T: TryFromValue>(
        &self,
        limit: Duration,
        method: &str,
        params: Vec<Value>,
    ) -> std::result::Result<T, Trouble> {
        self.wire.call(limit, method, params)
    }

    fn error(&self, trouble: Trouble, limit: Duration) -> ServiceError {
        match trouble {
            Trouble::Fault { text, .. } => self.failed(text),
            Trouble::Unreachable(why) => ServiceError::Unreachable {
                supervisor: "supervisord",
                why,
            },
            Trouble::TimedOut => self.too_slow(limit),
        }
    }

    pub(super) fn failed(&self, why: impl Into<String>) -> ServiceError {
        ServiceError::failed(self.verb, self.asked, why)
    }

    fn too_slow(&self, limit: Duration) -> ServiceError {
        ServiceError::TimedOut {
            verb: self.verb,
            name: self.asked.to_owned(),
            seconds: limit.as_secs(),
        }
    }

    /// Asks for something that supervisord says no more than "yes" or "no" to; what a fault in
    /// `fine` refuses is as it should be already.
    fn tell(&self, limit: Duration, method: &str, params: Vec<Value>, fine: &[i32]) -> Result {
        match self.ask::<Value>(limit, method, params) {
            Ok(_) => Ok(()),
            Err(Trouble::Fault { code, .. }) if fine.contains(&code) => Ok(()),
            Err(trouble) => Err(self.error(trouble, limit)),
        }
    }

    fn all(&self) -> Result<Vec<Process>> {
        self.ask(LIMIT, "getAllProcessInfo", Vec::new())
            .map_err(|trouble| self.error(trouble, LIMIT))
    }

    fn now(&self) -> Result<Vec<Process>> {
        Ok(self.name.among(&self.all()?))
    }

    /// Has the configuration read again. `Err` inside: it cannot be, for this reason.
    fn reread(&self) -> Result<std::result::Result<Reread, String>> {
        match self.ask::<Vec<Vec<Vec<String>>>>(LIMIT, "reloadConfig", Vec::new()) {
            Ok(answer) => {
                let mut lists = answer.into_iter().flatten();
                let mut next = || lists.next().unwrap_or_default();
                Ok(Ok(Reread {
                    added: next(),
                    changed: next(),
                    removed: next(),
                }))
            }
            Err(Trouble::Fault {
                code: fault::CANT_REREAD,
                text,
            }) => Ok(Err(text)),
            Err(trouble) => Err(self.error(trouble, LIMIT)),
        }
    }

    fn readable(&self) -> Result<Reread> {
        self.reread()?.map_err(|why| {
            self.failed(format!(
                "supervisord cannot read its configuration again: {why}"
            ))
        })
    }

    fn unknown(&self, all: &[Process]) -> ServiceError {
        ServiceError::Unknown {
            name: self.asked.to_owned(),
            hint: self.name.hint(all),
        }
    }

    pub(super) fn status(&self) -> Result<Status> {
        let all = self.all()?;
        let here = self.name.among(&all);
        let group = &self.name.group;
        match self.reread()? {
            Ok(reread) => {
                let comes = reread.added.contains(group) || reread.changed.contains(group);
                let stale = comes || reread.removed.contains(group);
                if here.is_empty() && !comes {
                    return Ok(Status::unknown());
                }
                Ok(reading::status(&here, stale))
            }
            Err(why) if here.is_empty() => Err(self.failed(format!(
                "supervisord does not know it and cannot read its configuration again: {why}"
            ))),
            Err(_) => Ok(reading::status(&here, true)),
        }
    }

    /// Has the group as the configuration on disk has it, before something of it is brought up.
    /// Returns whether it was made anew.
    fn take_up(&self) -> Result<bool> {
        let reread = self.readable()?;
        let group = &self.name.group;
        let named = || vec![Value::String(group.clone())];
        if reread.removed.contains(group) {
            return Err(self.failed(
                "supervisord still has it, but its configuration has no section for it any more",
            ));
        }
        let changed = reread.changed.contains(group);
        if !changed && !reread.added.contains(group) {
            return Ok(false);
        }
        let mut ran = Vec::new();
        if changed {
            let all = self.all()?;
            let ups = all.iter().filter(|p| p.group == *group && p.is_up());
            ran = ups.map(Process::full).collect();
            self.take_down(group)?;
        }
        self.tell(LIMIT, "addProcessGroup", named(), &[fault::ALREADY_ADDED])?;
        // Those with `autostart` come by themselves, those without ran because somebody wanted it.
        for name in ran {
            let params = vec![Value::String(name), Value::Boolean(false)];
            let fine = [fault::ALREADY_STARTED, fault::BAD_NAME];
            // What does not start is told by whoever asks for it.
            let _ = self.tell(LIMIT, "startProcess", params, &fine);
        }
        Ok(true)
    }

    fn take_down(&self, group: &str) -> Result {
        let named = || vec![Value::String(group.to_owned())];
        self.tell(STOP_LIMIT, "stopProcessGroup", named(), &[])?;
        self.wait(STOP_LIMIT, || {
            let all = self.all()?;
            let mut own = all.iter().filter(|p| p.group == group);
            Ok(own.all(|p| !p.is_up() && p.state != State::Stopping))
        })?;
        self.tell(LIMIT, "removeProcessGroup", named(), &[fault::BAD_NAME])
    }

    /// What of it is not up is brought up; ends when all of it has stayed up for its `startsecs`.
    fn bring_up(&self) -> Result {
        let all = self.all()?;
        let processes = self.name.among(&all);
        if processes.is_empty() {
            return Err(self.unknown(&all));
        }
        for process in processes.iter().filter(|process| !process.is_up()) {
            let params = vec![Value::String(process.full()), Value::Boolean(false)];
            // Its own answer says less than how the process is afterwards.
            let fine = [
                fault::ALREADY_STARTED,
                fault::SPAWN_ERROR,
                fault::ABNORMAL_TERMINATION,
            ];
            match self.ask::<Value>(LIMIT, "startProcess", params) {
                Ok(_) => {}
                Err(Trouble::Fault { code, .. }) if fine.contains(&code) => {}
                Err(Trouble::Fault { code, text }) => {
                    return Err(self.failed(match code {
                        fault::NO_FILE => format!("there is no program {text}"),
                        fault::NOT_EXECUTABLE => format!("{text} cannot be executed"),
                        _ => text,
                    }));
                }
                Err(trouble) => return Err(self.error(trouble, LIMIT)),
            }
        }
        let mut last = Vec::new();
        self.wait(START_LIMIT, || {
            last = self.now()?;
            Ok(last.iter().all(|p| p.state != State::Starting))
        })?;
        // A program that ends as its section expects has done its work.
        let done = |p: &Process| p.state == State::Exited && p.end.is_empty();
        match last.iter().find(|p| p.state != State::Running && !done(p)) {
            None => Ok(()),
            Some(process) => {
                let log = self.log(process);
                Err(self.failed(process.why()).with_log(log))
            }
        }
    }

    fn bring_down(&self) -> Result {
        let all = self.all()?;
        for process in self.name.among(&all).iter().filter(|p| p.is_up()) {
            let params = vec![Value::String(process.full()), Value::Boolean(false)];
            self.tell(LIMIT, "stopProcess", params, &[fault::NOT_RUNNING])?;
        }
        self.wait(STOP_LIMIT, || {
            let now = self.now()?;
            Ok(now.iter().all(|p| !p.is_up() && p.state != State::Stopping))
        })
    }

    fn wait(&self, limit: Duration, mut over: impl FnMut() -> Result<bool>) -> Result {
        let begun = Instant::now();
        while !over()? {
            if begun.elapsed() >= limit {
                return Err(self.too_slow(limit));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// The last lines that it printed: what it had to complain about, or else what it said.
    fn log(&self, process: &Process) -> Vec<String> {
        for method in ["tailProcessStderrLog", "tailProcessStdoutLog"] {
            // Supervisord fails at a tail that begins in the middle of a character.
            let tail = (0..4).find_map(|less| {
                let params = vec![
                    Value::String(process.full()),
                    Value::Integer(0),
                    Value::Integer(LOG_TAIL - less),
                ];
                let answer: (String, i32, bool) = self.ask(LIMIT, method, params).ok()?;
                Some(answer.0)
            });
            let tail = tail.unwrap_or_default();
            let lines: Vec<&str> = tail.lines().filter(|line| !line.is_empty()).collect();
            if !lines.is_empty() {
                let skip = lines.len().saturating_sub(LOG_LINES);
                return lines[skip..].iter().map(|&line| line.to_owned()).collect();
            }
        }
        Vec::new()
    }

    /// What the first of its processes that printed anything printed last.
    pub(super) fn last_words(&self) -> Vec<String> {
        let now = self.now().unwrap_or_default();
        let mut said = now.iter().map(|process| self.log(process));
        said.find(|lines| !lines.is_empty()).unwrap_or_default()
    }

    pub(super) fn start(&self) -> Result {
        // What is up as a whole is left alone, whatever its configuration says now.
        let now = self.now()?;
        if now.is_empty() || now.iter().any(|process| !process.is_up()) {
            self.take_up()?;
        }
        self.bring_up()
    }

    pub(super) fn stop(&self) -> Result {
        let all = self.all()?;
        let reread = self.reread()?.unwrap_or_default();
        let group = &self.name.group;
        if self.name.among(&all).is_empty() {
            return if reread.added.contains(group) {
                Ok(())
            } else {
                Err(self.unknown(&all))
            };
        }
        if reread.removed.contains(group) && self.name.is_whole_group(&all) {
            return self.take_down(group);
        }
        self.bring_down()
    }

    pub(super) fn restart(&self) -> Result {
        if !self.take_up()? {
            self.bring_down()?;
        }
        self.bring_up()
    }

    pub(super) fn reload(&self) -> Result {
        let all = self.all()?;
        let processes = self.name.among(&all);
        if processes.is_empty() {
            let comes = self.reread()?.unwrap_or_default().added;
            return Err(if comes.contains(&self.name.group) {
                self.failed("it is not running")
            } else {
                self.unknown(&all)
            });
        }
        if processes.iter().any(|p| p.state != State::Running) {
            return Err(self.failed("it is not running"));
        }
        for process in &processes {
            let params = vec![
                Value::String(process.full()),
                Value::String("HUP".to_owned()),
            ];
            self.tell(LIMIT, "signalProcess", params, &[])?;
        }
        Ok(())
    }

    pub(super) fn is_known(&self) -> Result {
        if self.status()?.known {
            return Ok(());
        }
        Err(self.unknown(&self.all()?))
    }
}
