//! Instances without an agent, as operators see them.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use super::source::{Instance, InstanceState};
use super::{addresses_with_agent, to_peer};
use crate::fleet::{NodeRecord, sanitize_line};
use crate::settings::Ec2Group;

/// An instance that publishes no record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct InstanceView {
    pub id: String,
    /// Its tag `Name`.
    pub name: Option<String>,
    pub state: InstanceState,
    pub addresses: Vec<IpAddr>,
    /// The apps that it serves, as the settings say.
    pub apps: Vec<String>,
}

/// The instances among these that publish no record and do not end. `records`: those of all live nodes.
pub(crate) fn without_agent(
    groups: &[Ec2Group],
    instances: &[(Instance, Vec<usize>)],
    records: &[Arc<NodeRecord>],
) -> Vec<InstanceView> {
    let all = instances.iter().map(|(instance, _)| instance);
    let with_agent = addresses_with_agent(all, records.iter().map(|record| &**record));
    let shown = instances.iter().filter(|(instance, _)| {
        let mut addresses = instance.addresses.iter();
        let has_agent = addresses.any(|address| with_agent.contains(address));
        !has_agent && instance.state != InstanceState::Ending
    });
    let view = |(instance, of): &(Instance, Vec<usize>)| InstanceView {
        id: sanitize_line(&instance.id),
        name: instance.tags.get("Name").map(|name| sanitize_line(name)),
        state: instance.state,
        addresses: instance.addresses.clone(),
        apps: to_peer(groups, instance, of).map_or_else(Vec::new, |peer| peer.apps),
    };
    shown.map(view).collect()
}
