//! Which followers of a release wait for its gate in this pass.

use std::collections::BTreeSet;

use crate::role::Resource;

/// Which followers wait for a gate in this pass.
#[derive(Default)]
pub(super) struct Followers<'a> {
    /// Those whose start or restart waits.
    deferred: BTreeSet<&'a str>,
    /// Releases whose services and health check passed, which their followers may use now.
    open_gates: BTreeSet<&'a str>,
}

impl<'a> Followers<'a> {
    /// The start or the restart of this one waits.
    pub(super) fn defer(&mut self, follower: &'a Resource) {
        self.deferred.insert(&follower.id);
    }

    /// Whether it waited; it does not any more.
    pub(super) fn end_wait(&mut self, follower: &Resource) -> bool {
        self.deferred.remove(follower.id.as_str())
    }

    /// A release came to the second part of its trial.
    pub(super) fn open_gate(&mut self, release: &'a Resource) {
        self.open_gates.insert(&release.id);
    }

    pub(super) fn is_deferred(&self, resource: &Resource) -> bool {
        self.deferred.contains(resource.id.as_str())
    }

    /// Whether a trial has come to its second part.
    pub(super) fn is_gate_open(&self, release: &Resource) -> bool {
        self.open_gates.contains(release.id.as_str())
    }

    /// The release is another one from now on.
    pub(super) fn close_gate(&mut self, release: &Resource) {
        self.open_gates.remove(release.id.as_str());
    }
}
