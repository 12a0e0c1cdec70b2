//! Acquires what a changing command needs: root privilege and the run lock, which admits one pass at a time.
//! A second command waits for the lock unless `--no-wait` forbids it.

use std::time::Duration;

use super::Output;
use super::args::WaitArgs;
use super::format::started_by;
use crate::apply::Event;
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::pass::{self, PassError, Paths, Session};
use crate::ports::lock::{self, Holder, Lock, LockAttempt, LockingProcess, try_lock};
use crate::ports::watchdog::Watchdog;
use crate::ports::{backoff, signals};
use crate::problem::Problem;

/// Default wait: longer than any pass should take, but limited.
const DEFAULT_WAIT: Duration = Duration::from_secs(3600);

/// Interval at which the lock is polled: a pass of an idle host ends within a few of these.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Minimum interval between messages about the other pass.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(5);

/// A session with exclusive permission to change the host, until it is dropped.
pub(super) struct LockedSession {
    pub session: Session,
    holder: Holder,
    lock: Lock,
    #[allow(dead_code, reason = "watches until it is dropped")]
    watchdog: Watchdog,
}

/// Request for the privilege and the run lock.
pub(super) struct LockRequest<'a> {
    /// The calling command in backticks, for the error when privilege is missing.
    pub command: &'a str,
    /// Another remedy in that error besides `sudo`.
    pub alternative: &'a str,
    pub wait: &'a WaitArgs,
}

impl LockedSession {
    pub(super) fn acquire(
        paths: &Paths,
        request: &LockRequest<'_>,
        output: &Output,
    ) -> Result<LockedSession, CommandError> {
        let stop = signals::termination();
        // Starts before the settings are read, because their filesystem may hang as well.
        let watchdog = start_watchdog(paths);
        let session = Session::open(paths, stop.clone())?;
        require_root(&session, request.command, request.alternative)?;
        let now = session.host.clock.now();
        let command = request.command.trim_matches('`').to_owned();
        let mut me = Holder::current(started_by(), command, now);
        match try_lock(&session.host.root, &me)? {
            LockAttempt::Acquired(lock) => {
                return Ok(LockedSession {
                    session,
                    holder: me,
                    lock,
                    watchdog,
                });
            }
            LockAttempt::Busy(_) => {}
            LockAttempt::Foreign(locker) => {
                return Err(foreign_lock_error(&session, locker.as_ref()));
            }
        }
        let lock = wait_for_lock(&session, &mut me, request.wait, output)?;
        // The settings may have changed during the wait: read them again.
        let session = Session::open(paths, stop)?;
        Ok(LockedSession {
            session,
            holder: me,
            lock,
            watchdog,
        })
    }

    /// Gives up the lock.
    pub(super) fn into_session(self) -> Session {
        self.session
    }

    /// Writes the current activity into the lock file, for commands that wait and for `status`.
    pub(super) fn announce(&self, event: &Event<'_>) {
        let doing = match event {
            Event::ChangeStarted { id, change } => format!("{} {id}", change.verb),
            Event::DutyStarted { id, obligation } => format!("{} {id}", obligation.duty),
            Event::TrialProgress { id, message: word } => format!("{id} {word}"),
            // Told by the progress of the trial.
            Event::DutyFulfilled { .. }
            | Event::TrialStarted { .. }
            | Event::ReleaseFailed { .. } => return,
        };
        self.lock.update_holder(&self.holder.with_activity(doing));
    }
}

/// Ends this process if it hangs, after announcing that to `status`, monitoring and the log.
fn start_watchdog(paths: &Paths) -> Watchdog {
    let paths = paths.clone();
    Watchdog::start(move |why| pass::announce_no_session(&paths, Exit::Failed, why))
}

/// Polls until it acquires the lock, or until the limit or a signal ends the wait.
fn wait_for_lock(
    session: &Session,
    me: &mut Holder,
    args: &WaitArgs,
    output: &Output,
) -> Result<Lock, CommandError> {
    let host = &session.host;
    let limit = args.limit(DEFAULT_WAIT);
    let started = host.clock.monotonic_now();
    let mut announced: Option<(String, Duration)> = None;
    loop {
        me.since = host.clock.now();
        let holder = match try_lock(&host.root, me)? {
            LockAttempt::Acquired(lock) => {
                let waited = host
                    .clock
                    .monotonic_now()
                    .saturating_duration_since(started)
                    .as_secs();
                if announced.is_some() {
                    output.print_error(&format!(
                        "trueup: the lock is free; starting after {waited} s"
                    ));
                }
                return Ok(lock);
            }
            LockAttempt::Busy(holder) => holder,
            LockAttempt::Foreign(locker) => {
                return Err(foreign_lock_error(session, locker.as_ref()));
            }
        };
        let waited = host
            .clock
            .monotonic_now()
            .saturating_duration_since(started);
        let stopped = host.stop.is_set();
        if stopped || waited >= limit {
            return Err(PassError::Locked {
                holder,
                waited,
                stopped,
            }
            .into());
        }
        let is_new = match &announced {
            None => true,
            Some((before, at)) => *before != holder && waited >= *at + ANNOUNCE_INTERVAL,
        };
        if is_new {
            let hint = match announced {
                None => " (Ctrl-C cancels, --no-wait does not wait)",
                Some(_) => "",
            };
            output.print_error(&format!("trueup: waiting for {holder}{hint}"));
            announced = Some((holder, waited));
        }
        backoff::sleep(POLL_INTERVAL.min(limit.saturating_sub(waited)));
    }
}

/// A process that is no pass holds the lock. Nothing ends it by itself, so waiting could take forever.
/// Announces the failure in the metrics and the motd, since no pass runs.
fn foreign_lock_error(session: &Session, locker: Option<&LockingProcess>) -> CommandError {
    let path = session.host.root.machine_path(&lock::lock_path());
    let path = path.display();
    let problem = match locker {
        Some(locker) => Problem::new(format!(
            "cannot start a pass: {} holds the lock {path} and is not a pass of trueup",
            locker.describe()
        ))
        .hint(format!(
            "inspect it (`ps -fp {pid}`) and stop it (`kill {pid}`); the timer then continues",
            pid = locker.pid
        )),
        None => Problem::new(format!(
            "cannot start a pass: a process that is not visible here holds the lock {path}"
        ))
        .hint(format!(
            "find it on the machine itself, outside of containers: `fuser -v {path}`"
        )),
    };
    let error = CommandError::Pass(PassError::ForeignLock(Box::new(problem)));
    session.announce_failure(error.exit(), &error.summary());
    error
}

/// Refuses a changing command on a real host without root.
pub(super) fn require_root(
    session: &Session,
    command_text: &str,
    alternative: &str,
) -> Result<(), CommandError> {
    if !session.host.root.is_real() || session.host.root.is_privileged() {
        return Ok(());
    }
    let command = command_text.trim_matches('`');
    let subject = if command == "trueup converge" {
        "a pass"
    } else {
        command_text
    };
    let problem = Problem::new(format!("{subject} on this host needs root"));
    Err(CommandError::Usage(problem.hint(format!(
        "`sudo {command}`, or `--root DIR` for a sandbox; {alternative}"
    ))))
}
