//! Ports: the interfaces to the host, and the only modules that call the operating system.
//!
//! Each port contains its real backends and its test backend. Code outside a port's own folder names no
//! backend; it uses [`Host`] and the ports' types.
#![allow(clippy::disallowed_methods)]
#![cfg_attr(test, allow(clippy::disallowed_types))]

pub(crate) mod accounts;
pub(crate) mod address;
#[cfg(feature = "s3")]
mod aws;
mod aws_region;
pub(crate) mod backoff;
pub(crate) mod clock;
pub(crate) mod deadline;
pub(crate) mod ec2;
mod error_sources;
pub(crate) mod exec;
pub(crate) mod git;
pub(crate) mod git_memory;
pub(crate) mod haproxy;
pub(crate) mod http;
pub(crate) mod interfaces;
pub(crate) mod journal;
pub(crate) mod line_splitter;
pub(crate) mod listeners;
pub(crate) mod lock;
pub(crate) mod machine;
pub(crate) mod os_release;
pub(crate) mod packages;
pub(crate) mod permission;
pub(crate) mod pipe;
pub(crate) mod process_usage;
pub(crate) mod processes;
pub(crate) mod prompt;
pub(crate) mod random;
pub(crate) mod root;
pub(crate) mod runtime;
pub(crate) mod secrets;
pub(crate) mod selinux;
pub(crate) mod services;
pub(crate) mod signals;
pub(crate) mod state;
pub(crate) mod store;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod watchdog;
pub(crate) mod worker_pool;

use std::path::PathBuf;
use std::rc::Rc;

use accounts::Accounts;
use clock::Clock;
use exec::{Exec, StopFlag};
use packages::Packages;
use permission::Permissions;
use root::Root;
use services::{ManagedBy, Services};

/// Persistent state of trueup on the host.
pub(crate) const STATE_DIR: &str = "/var/lib/trueup";

/// State that is worthless after a reboot: the lock, the last pass.
pub(crate) const RUN_DIR: &str = "/run/trueup";

/// One host, as seen by everything above the ports.
pub(crate) struct Host {
    pub root: Rc<Root>,
    pub accounts: Rc<Accounts>,
    pub exec: Rc<Exec>,
    pub packages: Rc<Packages>,
    /// The manager of the host's services.
    pub services: Box<dyn Services>,
    /// The supervisord beside it, if any.
    pub supervisor: Box<dyn Services>,
    pub clock: Rc<dyn Clock>,
    /// Of the apps that share a fleet.
    pub permissions: Permissions,
    /// Set when trueup was asked to stop: nothing new is started.
    pub stop: StopFlag,
}

impl Host {
    /// The backend for a service that names its manager.
    pub(crate) fn service_manager(&self, manager: ManagedBy) -> &dyn Services {
        match manager {
            ManagedBy::Host => &*self.services,
            ManagedBy::Supervisor => &*self.supervisor,
        }
    }

    /// Gives what trueup created since the last call its SELinux labels, where there is SELinux.
    pub(crate) fn label_new_paths(&self) {
        // A pass writes its own state again and again, and only trueup reads it.
        let state = [STATE_DIR, RUN_DIR];
        selinux::label_new_paths(&self.root, &self.exec, &self.accounts, &state);
    }

    /// A path in the state folder.
    pub(crate) fn state_path(&self, name: &str) -> PathBuf {
        PathBuf::from(STATE_DIR).join(name)
    }
}
