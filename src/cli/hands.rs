//! What a command needs that changes something: the privilege, and the lock that one pass at a time has.

use super::edge;
use crate::pass::{PassError, Places, Session};
use crate::ports::exec::StopFlag;
use crate::ports::lock::{Attempt, Lock, try_lock};
use crate::ports::signals;
use crate::problem::Problem;

/// A host that may be changed, by nobody else for as long as this lives.
pub(super) struct Hands {
    pub session: Session,
    _lock: Lock,
}

impl Hands {
    /// `what` is done is refused without privilege, with another way out besides `sudo`.
    pub fn on(places: &Places, what: &str, or: &str) -> Result<Hands, edge::Error> {
        let stop = StopFlag::default();
        signals::stop_on_termination(&stop);
        let session = Session::open(places, stop)?;
        needs_root(&session, what, or)?;
        match try_lock(&session.host.root)? {
            Attempt::Taken(lock) => Ok(Hands {
                session,
                _lock: lock,
            }),
            Attempt::Busy(holder) => Err(PassError::Locked { holder }.into()),
        }
    }
}

fn needs_root(session: &Session, what: &str, or: &str) -> Result<(), edge::Error> {
    if !session.host.root.is_real() || session.host.root.privileged() {
        return Ok(());
    }
    let command = match what.strip_prefix("`trueup ") {
        Some(rest) => rest.trim_end_matches('`'),
        None => "converge",
    };
    let problem = Problem::new(format!("{what} on this host needs root"));
    Err(edge::Error::Usage(problem.hint(format!(
        "`sudo trueup {command}`, or `--root DIR` for a sandbox; {or}"
    ))))
}
