//! Addresses of EC2 that move between instances: who has one, and claiming one.

mod claim;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;

use serde::Serialize;

use super::claim::MovingAddress;
use crate::ports::ec2::{Ec2, Ec2Error, InstanceId, InterfaceId, ThisInstance};
use crate::problem::Problem;

pub(crate) use claim::{Claim, ClaimError, ClaimOutcome, claim, connect};

/// Who has an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Holder {
    pub interface: InterfaceId,
    /// `null`: the interface is attached to none, or is that of a service such as a load balancer.
    pub instance: Option<InstanceId>,
    /// The private address that the traffic of an elastic IP goes to.
    pub private_address: Option<Ipv4Addr>,
    /// `null` for an elastic IP.
    pub vpc: Option<String>,
}

impl Holder {
    pub(crate) fn describe(&self) -> String {
        match &self.instance {
            Some(instance) => format!("{instance} ({})", self.interface),
            None => format!("{} (of no instance)", self.interface),
        }
    }
}

/// An address as EC2 describes it.
pub(crate) struct Description {
    pub public_address: Option<Ipv4Addr>,
    /// A private address may be in use in several VPCs.
    pub holders: Vec<Holder>,
}

/// Asks EC2 who has an address.
pub(crate) fn describe(ec2: &dyn Ec2, address: &MovingAddress) -> Result<Description, Ec2Error> {
    match address {
        MovingAddress::Elastic(id) => {
            let found = ec2.elastic_ip(id)?;
            let holder = found.interface.map(|interface| Holder {
                interface,
                instance: found.instance,
                private_address: found.private_address,
                vpc: None,
            });
            Ok(Description {
                public_address: Some(found.public_address),
                holders: holder.into_iter().collect(),
            })
        }
        MovingAddress::Private(address) => {
            let interfaces = ec2.interfaces_with(*address)?.into_iter();
            let holders = interfaces.map(|interface| Holder {
                interface: interface.id,
                instance: interface.instance,
                private_address: None,
                vpc: Some(interface.vpc),
            });
            Ok(Description {
                public_address: None,
                holders: holders.collect(),
            })
        }
    }
}

/// Whether this instance has the address, at this private address if one is given.
pub(crate) fn is_here(found: &Description, this: &ThisInstance, private: Option<Ipv4Addr>) -> bool {
    found.holders.iter().any(|holder| {
        holder.interface == this.interface
            && (private.is_none() || holder.private_address == private)
    })
}

impl From<Ec2Error> for Problem {
    fn from(error: Ec2Error) -> Problem {
        Problem::new(error.to_string()).optional_hint(error.hint())
    }
}
