//! What a command needs that changes something: the privilege, and the lock that one pass at a time
//! has. Whoever comes second waits for it, unless told otherwise.

use std::time::Duration;

use super::args::WaitArgs;
use super::words::started_by;
use super::{Output, edge};
use crate::apply::Event;
use crate::exit::Exit;
use crate::pass::{self, PassError, Places, Session};
use crate::ports::exec::StopFlag;
use crate::ports::lock::{self, Attempt, Holder, Lock, Locker, try_lock};
use crate::ports::watchdog::Watchdog;
use crate::ports::{pause, signals};
use crate::problem::Problem;

/// How long is waited when nothing else is said: longer than any pass should take, and not for ever.
const USUAL: Duration = Duration::from_secs(3600);

/// How often is looked whether the lock is free: a pass of an idle host ends within some of these.
const LOOK: Duration = Duration::from_millis(100);

/// How often at most is told what the other pass is at.
const TELL: Duration = Duration::from_secs(5);

/// A host that may be changed, by nobody else for as long as this lives.
pub(super) struct Hands {
    pub session: Session,
    me: Holder,
    lock: Lock,
    #[allow(dead_code, reason = "looks on until it is dropped")]
    watchdog: Watchdog,
}

/// Who asks for the hands, and for what.
pub(super) struct Asks<'a> {
    /// What is done, for the refusal where there is no privilege: a command in backticks.
    pub what: &'a str,
    /// Another way out of that besides `sudo`.
    pub or: &'a str,
    pub wait: &'a WaitArgs,
}

impl Hands {
    pub fn on(places: &Places, asks: &Asks<'_>, output: &Output) -> Result<Hands, edge::Error> {
        let stop = StopFlag::default();
        signals::stop_on_termination(&stop);
        // Before the settings are read: what they are on may hang as well.
        let watchdog = watchdog(places);
        let session = Session::open(places, stop.clone())?;
        needs_root(&session, asks.what, asks.or)?;
        let now = session.host.clock.now();
        let command = asks.what.trim_matches('`').to_owned();
        let mut me = Holder::me(started_by(), command, now);
        match try_lock(&session.host.root, &me)? {
            Attempt::Taken(lock) => {
                return Ok(Hands {
                    session,
                    me,
                    lock,
                    watchdog,
                });
            }
            Attempt::Busy(_) => {}
            Attempt::Foreign(locker) => return Err(foreign(&session, locker.as_ref())),
        }
        let lock = wait(&session, &mut me, asks.wait, output)?;
        // What the settings were when the wait began means nothing any more.
        let session = Session::open(places, stop)?;
        Ok(Hands {
            session,
            me,
            lock,
            watchdog,
        })
    }

    /// Lets others know what this pass is at.
    pub fn tell(&self, event: &Event<'_>) {
        let doing = match event {
            Event::Begin { change, .. } if change.is_withheld() => return,
            Event::Begin { id, change } => format!("{} {id}", change.verb),
            Event::Pay { id, debt } => format!("{} {id}", debt.duty),
            Event::Trial { id, word } => format!("{id} {word}"),
        };
        self.lock.tell(&self.me.at(doing));
    }
}

/// Ends this process should it hang, which `status`, monitoring and the log are told of.
fn watchdog(places: &Places) -> Watchdog {
    let places = places.clone();
    Watchdog::start(move |why| pass::no_session(&places, Exit::Failed, why))
}

/// Takes the lock as soon as it is free.
fn wait(
    session: &Session,
    me: &mut Holder,
    args: &WaitArgs,
    output: &Output,
) -> Result<Lock, edge::Error> {
    let host = &session.host;
    let limit = args.limit(USUAL);
    let begun = host.clock.tick();
    let mut told: Option<(String, Duration)> = None;
    loop {
        me.since = host.clock.now();
        let holder = match try_lock(&host.root, me)? {
            Attempt::Taken(lock) => {
                let waited = host.clock.tick().saturating_duration_since(begun).as_secs();
                if told.is_some() {
                    output.error(&format!(
                        "trueup: it is done; this one begins after {waited} s"
                    ));
                }
                return Ok(lock);
            }
            Attempt::Busy(holder) => holder,
            Attempt::Foreign(locker) => return Err(foreign(session, locker.as_ref())),
        };
        let waited = host.clock.tick().saturating_duration_since(begun);
        let stopped = host.stop.is_set();
        if stopped || waited >= limit {
            return Err(PassError::Locked {
                holder,
                waited,
                stopped,
            }
            .into());
        }
        let news = match &told {
            None => true,
            Some((before, at)) => *before != holder && waited >= *at + TELL,
        };
        if news {
            let how = match told {
                None => " (Ctrl-C ends the wait, --no-wait does without)",
                Some(_) => "",
            };
            output.error(&format!("trueup: waiting for {holder}{how}"));
            told = Some((holder, waited));
        }
        pause::of(LOOK.min(limit.saturating_sub(waited)));
    }
}

/// Something has the lock that is no pass: that does not end by itself, and whoever waits for it waits
/// for ever. Monitoring and whoever logs in are told, since no pass is made.
fn foreign(session: &Session, locker: Option<&Locker>) -> edge::Error {
    let path = session.host.root.outside(&lock::path());
    let path = path.display();
    let problem = match locker {
        Some(locker) => Problem::new(format!(
            "no pass can be made: {} has {path} locked, and is no pass of trueup",
            locker.words()
        ))
        .hint(format!(
            "look what it is (`ps -fp {pid}`) and end it (`kill {pid}`); passes go on by themselves then",
            pid = locker.pid
        )),
        None => Problem::new(format!(
            "no pass can be made: a process that cannot be seen from here has {path} locked"
        ))
        .hint(format!(
            "look for it on the machine itself, outside of containers: `fuser -v {path}`"
        )),
    };
    let error = edge::Error::Pass(PassError::Foreign(Box::new(problem)));
    session.could_not(error.exit(), &error.line());
    error
}

fn needs_root(session: &Session, what: &str, or: &str) -> Result<(), edge::Error> {
    if !session.host.root.is_real() || session.host.root.privileged() {
        return Ok(());
    }
    let command = what.trim_matches('`');
    let subject = if command == "trueup converge" {
        "a pass"
    } else {
        what
    };
    let problem = Problem::new(format!("{subject} on this host needs root"));
    Err(edge::Error::Usage(problem.hint(format!(
        "`sudo {command}`, or `--root DIR` for a sandbox; {or}"
    ))))
}
