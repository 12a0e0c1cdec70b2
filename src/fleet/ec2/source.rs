//! Where instances are listed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ports::ec2::{self, Ec2Error, Filter};
use crate::settings::Ec2Group;

/// How long one list may take: a pass goes on without it.
const LIST_TIMEOUT: Duration = Duration::from_secs(15);

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Instance {
    /// For example `i-0abc1234def567890`.
    pub id: String,
    pub state: InstanceState,
    /// Its private addresses. None once it is terminated.
    pub addresses: Vec<IpAddr>,
    pub tags: BTreeMap<String, String>,
}

/// What an instance is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum InstanceState {
    Pending,
    Running,
    /// It is stopped or terminated, or about to be.
    Ending,
}

impl std::fmt::Display for InstanceState {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            InstanceState::Pending => "pending",
            InstanceState::Running => "running",
            InstanceState::Ending => "ending",
        })
    }
}

/// Lists instances.
pub(crate) trait Instances {
    /// All of a group, whatever their state. `Err`: why there is no list, in one line.
    fn list(&self, group: &Ec2Group) -> Result<Vec<Instance>, String>;
}

/// The API of EC2.
pub(crate) struct Ec2Api;

impl Instances for Ec2Api {
    fn list(&self, group: &Ec2Group) -> Result<Vec<Instance>, String> {
        list(group).map_err(|error| match error.hint() {
            Some(hint) => format!("{error}; {hint}"),
            None => error.to_string(),
        })
    }
}

fn list(group: &Ec2Group) -> Result<Vec<Instance>, Ec2Error> {
    let client = ec2::open(&group.api(), LIST_TIMEOUT)?;
    let filters = group.filters.iter();
    let filters: Vec<(&str, Vec<&str>)> = filters
        .map(|(name, values)| (name.as_str(), values.iter().map(String::as_str).collect()))
        .collect();
    let filters: Vec<Filter<'_>> = filters
        .iter()
        .map(|(name, values)| Filter { name, values })
        .collect();
    let instances = client.instances(&filters)?.into_iter();
    Ok(instances.map(Instance::from).collect())
}

impl From<ec2::Instance> for Instance {
    fn from(instance: ec2::Instance) -> Instance {
        let private = instance.private_address.map(IpAddr::from);
        let ipv6 = instance.ipv6_address.map(IpAddr::from);
        Instance {
            id: instance.id.to_string(),
            state: match instance.state {
                ec2::InstanceState::Running => InstanceState::Running,
                // It begins, or does something that nobody knows: no node, but its address is still its own.
                ec2::InstanceState::Pending | ec2::InstanceState::Other => InstanceState::Pending,
                ec2::InstanceState::ShuttingDown
                | ec2::InstanceState::Terminated
                | ec2::InstanceState::Stopping
                | ec2::InstanceState::Stopped => InstanceState::Ending,
            },
            addresses: private.into_iter().chain(ipv6).collect(),
            tags: instance.tags,
        }
    }
}
