//! Services of supervisord, over its own socket.
//!
//! No call goes through `supervisorctl`: a status is two requests, and an operation returns when supervisord
//! reports that the process is up (it has run for its `startsecs`) or has ended. Supervisord reads its
//! configuration only on request. Every status requests it, which by itself starts and stops nothing; a start
//! or restart applies the changes of its own group, as `supervisorctl update GROUP` would, and touches no
//! other group.
//!
//! A sandbox also has a real supervisord: one that listens below the sandbox's root, as the configuration
//! there says. There is no emulation.

mod actions;
mod endpoint;
mod logs;
mod rpc;
mod state;
#[cfg(test)]
pub(super) mod tests;

use std::rc::Rc;

use self::actions::{Action, Result};
use self::rpc::RpcClient;
use self::state::Namespec;
use super::{LogRange, ServiceLog, ServiceStatus, Services};
use crate::ports::root::Root;

/// The supervisord of a host.
#[derive(Debug)]
pub(crate) struct SupervisorServices {
    client: RpcClient,
    root: Rc<Root>,
}

impl SupervisorServices {
    pub(crate) fn new(root: Rc<Root>) -> SupervisorServices {
        SupervisorServices {
            client: RpcClient::new(root.clone()),
            root,
        }
    }

    fn action<'a>(&'a self, verb: &'static str, asked: &'a str) -> Result<Action<'a>> {
        Ok(Action {
            client: &self.client,
            verb,
            requested_name: asked,
            name: Namespec::new(asked)?,
        })
    }
}

impl Services for SupervisorServices {
    fn status(&self, name: &str) -> Result<ServiceStatus> {
        self.action("status", name)?.status()
    }

    fn start(&self, name: &str) -> Result {
        self.action("start", name)?.start()
    }

    fn stop(&self, name: &str) -> Result {
        self.action("stop", name)?.stop()
    }

    fn restart(&self, name: &str) -> Result {
        self.action("restart", name)?.restart()
    }

    fn reload(&self, name: &str) -> Result {
        self.action("reload", name)?.reload()
    }

    fn enable(&self, name: &str) -> Result {
        let about = self.action("enable", name)?;
        about.require_known()?;
        Err(about.failed("its section (autostart=) decides whether it starts with supervisord"))
    }

    /// Like a unit that cannot be enabled: there is nothing to undo.
    fn disable(&self, name: &str) -> Result {
        self.action("disable", name)?.require_known()
    }

    fn process_ids(&self, name: &str) -> Result<Vec<u32>> {
        self.action("status", name)?.process_ids()
    }

    fn open_logs(&self, name: &str, range: LogRange) -> Result<Vec<ServiceLog>> {
        logs::open(&self.action("logs", name)?, &self.root, range)
    }

    fn log_tail(&self, name: &str) -> Vec<String> {
        let about = self.action("status", name);
        about.map_or(Vec::new(), |about| about.log_tail())
    }
}
