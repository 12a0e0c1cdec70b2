//! The EC2 port: the instances of an account, and the addresses that move between them.
//!
//! trueup needs a handful of calls. Every answer is limited in size and typed before anything uses it: ids are ids, and
//! addresses parse.

#[cfg(feature = "s3")]
mod client;
mod error;
#[cfg(test)]
pub(crate) mod fake;
mod id;
mod open;
mod settings;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::Serialize;

pub(crate) use error::Ec2Error;
pub(crate) use id::{AllocationId, InstanceId, InterfaceId};
pub(crate) use open::open;
pub(crate) use settings::Ec2Settings;

/// A client of EC2 in one region. All of its calls together end within the limit that it was opened with.
pub(crate) trait Ec2 {
    /// The instance that trueup runs on, as its metadata service says.
    fn this_instance(&self) -> Result<ThisInstance, Ec2Error>;

    /// All instances that match every filter.
    fn instances(&self, filters: &[Filter<'_>]) -> Result<Vec<Instance>, Ec2Error>;

    /// An elastic IP.
    fn elastic_ip(&self, id: &AllocationId) -> Result<ElasticIp, Ec2Error>;

    /// Gives an elastic IP to a network interface, also if another one has it.
    fn associate(&self, association: &Association<'_>, mode: Mode) -> Result<(), Ec2Error>;

    /// The network interfaces that have a private address. There may be one in each VPC.
    fn interfaces_with(&self, address: Ipv4Addr) -> Result<Vec<Interface>, Ec2Error>;

    /// Gives a secondary private address to a network interface, also if another one has it.
    fn assign(
        &self,
        interface: &InterfaceId,
        address: Ipv4Addr,
        mode: Mode,
    ) -> Result<(), Ec2Error>;
}

/// Whether a call may change anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Execute,
    /// EC2 only says whether the caller may do it.
    DryRun,
}

/// A filter of EC2, such as `tag:role` with `web`: one of the values must match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Filter<'a> {
    pub name: &'a str,
    pub values: &'a [&'a str],
}

/// The instance that trueup runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ThisInstance {
    pub id: InstanceId,
    /// Its first network interface, which it cannot lose.
    pub interface: InterfaceId,
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Instance {
    pub id: InstanceId,
    pub state: InstanceState,
    /// The primary one; none while it is terminated.
    pub private_address: Option<Ipv4Addr>,
    pub public_address: Option<Ipv4Addr>,
    pub ipv6_address: Option<Ipv6Addr>,
    pub zone: String,
    pub tags: BTreeMap<String, String>,
}

/// The state of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "s3"),
    allow(dead_code, reason = "only the client makes most of them")
)]
pub(crate) enum InstanceState {
    Pending,
    Running,
    ShuttingDown,
    Terminated,
    Stopping,
    Stopped,
    /// One that this trueup does not know.
    Other,
}

/// An elastic IP, and who has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ElasticIp {
    pub allocation: AllocationId,
    pub public_address: Ipv4Addr,
    /// `None`: nobody has it.
    pub interface: Option<InterfaceId>,
    pub instance: Option<InstanceId>,
    /// The private address that its traffic goes to.
    pub private_address: Option<Ipv4Addr>,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Interface {
    pub id: InterfaceId,
    pub instance: Option<InstanceId>,
    pub vpc: String,
}

/// What an elastic IP is to be given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Association<'a> {
    pub allocation: &'a AllocationId,
    pub interface: &'a InterfaceId,
    /// Which of the interface's private addresses; its primary one if absent.
    pub private_address: Option<Ipv4Addr>,
}
