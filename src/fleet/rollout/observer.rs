//! Follows what a host reads and writes of a register, so that whoever moved a rollout knows it, and the others can follow
//! without a request of their own.

use std::cell::RefCell;

use super::register::Register;

/// Writes that are kept; a pass makes fewer.
const MAX_WRITES: usize = 32;

/// The register of an app, as this host saw it last, and the writes with which it changed it.
#[derive(Debug, Default)]
pub(crate) struct RegisterObserver {
    last: RefCell<Option<Register>>,
    writes: RefCell<Vec<RegisterWrite>>,
}

/// A write of this host.
#[derive(Debug, Clone)]
pub(crate) struct RegisterWrite {
    /// `None`: there was none.
    pub before: Option<Register>,
    pub after: Register,
}

impl RegisterObserver {
    pub(super) fn on_read(&self, register: Option<&Register>) {
        self.last.replace(register.cloned());
    }

    pub(super) fn on_write(&self, register: &Register) {
        let before = self.last.replace(Some(register.clone()));
        let mut writes = self.writes.borrow_mut();
        if writes.len() < MAX_WRITES {
            let after = register.clone();
            writes.push(RegisterWrite { before, after });
        }
    }

    /// `None`: this host has not read it, or there is none.
    pub(crate) fn last(&self) -> Option<Register> {
        self.last.borrow().clone()
    }

    pub(crate) fn writes(&self) -> Vec<RegisterWrite> {
        self.writes.borrow().clone()
    }
}
