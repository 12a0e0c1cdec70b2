//! Supervisord, over its own socket.
//!
//! Nothing is asked through `supervisorctl`: a status is two questions, and a verb returns when
//! supervisord says that the process is up (it has run for its `startsecs`) or gone. Supervisord
//! reads its configuration only when it is told to. Every look here tells it to, which by itself
//! starts and stops nothing; what changed is taken up by a start or a restart of the group that
//! it is about, as `supervisorctl update GROUP` would, and no other group is touched.
//!
//! In a sandbox this is a real supervisord too: one that listens below the sandbox's root, as the
//! configuration there says. There is no stand-in for it.

mod moves;
mod place;
mod reading;
mod rpc;
#[cfg(test)]
pub(super) mod tests;

use std::rc::Rc;

use self::moves::Move;
use self::reading::Name;
use self::rpc::Wire;
use super::{ServiceError, Services, Status};
use crate::ports::root::Root;

/// The supervisord of a host.
#[derive(Debug)]
pub struct SupervisorServices {
    wire: Wire,
}

type Result<T = ()> = std::result::Result<T, ServiceError>;

impl SupervisorServices {
    pub fn new(root: Rc<Root>) -> SupervisorServices {
        SupervisorServices {
            wire: Wire::new(root),
        }
    }

    fn about<'a>(&'a self, verb: &'static str, asked: &'a str) -> Result<Move<'a>> {
        Ok(Move {
            wire: &self.wire,
            verb,
            asked,
            name: Name::new(asked)?,
        })
    }
}

impl Services for SupervisorServices {
    fn status(&self, name: &str) -> Result<Status> {
        self.about("status", name)?.status()
    }

    fn start(&self, name: &str) -> Result {
        self.about("start", name)?.start()
    }

    fn stop(&self, name: &str) -> Result {
        self.about("stop", name)?.stop()
    }

    fn restart(&self, name: &str) -> Result {
        self.about("restart", name)?.restart()
    }

    fn reload(&self, name: &str) -> Result {
        self.about("reload", name)?.reload()
    }

    fn enable(&self, name: &str) -> Result {
        let about = self.about("enable", name)?;
        about.is_known()?;
        Err(about.failed(
            "whether it starts with supervisord is written in its section (autostart=), not switched",
        ))
    }

    /// As with a unit that cannot be enabled: there is nothing to undo.
    fn disable(&self, name: &str) -> Result {
        self.about("disable", name)?.is_known()
    }

    fn last_words(&self, name: &str) -> Vec<String> {
        let about = self.about("status", name);
        about.map_or(Vec::new(), |about| about.last_words())
    }
}
