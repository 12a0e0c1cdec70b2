//! What the fleet reports, asked at most once for each request. An attempt that another publisher beats is repeated
//! without these questions: the shorter it is, the sooner it comes first.

use std::collections::BTreeMap;

use super::reports::{FleetReports, ReportedHosts, ServedBefore};
use crate::desired::Sha;
use crate::ports::store::StoreError;

/// Reports of a fleet that remember what they have said.
pub(super) struct Remembered<'a> {
    fleet: &'a mut dyn FleetReports,
    hosts: Option<ReportedHosts>,
    /// By app.
    rollouts: BTreeMap<String, bool>,
    /// By app and sha.
    served: BTreeMap<(String, String), ServedBefore>,
}

impl<'a> Remembered<'a> {
    pub(super) fn new(fleet: &'a mut dyn FleetReports) -> Remembered<'a> {
        Remembered {
            fleet,
            hosts: None,
            rollouts: BTreeMap::new(),
            served: BTreeMap::new(),
        }
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
        if let Some(known) = self.rollouts.get(app) {
            return Ok(*known);
        }
        let answer = self.fleet.has_rollouts(app)?;
        self.rollouts.insert(app.to_owned(), answer);
        Ok(answer)
    }

    fn was_served(&mut self, app: &str, sha: &Sha) -> Result<ServedBefore, String> {
        let key = (app.to_owned(), sha.as_str().to_owned());
        if let Some(known) = self.served.get(&key) {
            return Ok(*known);
        }
        let answer = self.fleet.was_served(app, sha)?;
        self.served.insert(key, answer);
        Ok(answer)
    }
}
