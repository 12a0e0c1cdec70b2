//! What the fleet reports, asked at most once.

use super::reports::{FleetReports, ReportedHosts, ServedBefore};
use crate::desired::Sha;
use crate::ports::store::StoreError;

/// Reports of a fleet that remember the hosts.
pub(super) struct Remembered<'a> {
    fleet: &'a mut dyn FleetReports,
    hosts: Option<ReportedHosts>,
}

impl<'a> Remembered<'a> {
    pub(super) fn new(fleet: &'a mut dyn FleetReports) -> Remembered<'a> {
        Remembered { fleet, hosts: None }
    }

    /// The hosts, if somebody has asked for them.
    pub(super) fn known_hosts(&self) -> Option<&ReportedHosts> {
        self.hosts.as_ref()
    }
}

impl FleetReports for Remembered<'_> {
    fn hosts(&mut self) -> Result<ReportedHosts, StoreError> {
        if let Some(known) = &self.hosts {
            return Ok(known.clone());
        }
        let hosts = self.fleet.hosts()?;
        Ok(self.hosts.insert(hosts).clone())
    }

    fn has_rollouts(&mut self, app: &str) -> Result<bool, StoreError> {
        self.fleet.has_rollouts(app)
    }

    fn was_served(&mut self, app: &str, sha: &Sha) -> Result<ServedBefore, String> {
        self.fleet.was_served(app, sha)
    }
}
