//! Addresses of EC2 that move between instances: who has one, and claiming one.

mod claim;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;

use serde::Serialize;

use crate::balancer::claim::{ClaimRecord, MovingAddress};
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::ports::ec2::{Ec2, Ec2Error, InstanceId, InterfaceId, ThisInstance};
use crate::ports::root::Root;
use crate::problem::Problem;

pub(crate) use claim::{Claim, ClaimError, ClaimOutcome, claim, connect};

/// The document of `eip status --output`.
#[derive(Debug, Serialize)]
pub(crate) struct EipReport {
    version: u32,
    pub outcome: Exit,
    pub addresses: Vec<AddressRow>,
}

/// One address.
#[derive(Debug, Serialize)]
pub(crate) struct AddressRow {
    pub address: String,
    /// Of an elastic IP.
    pub public_address: Option<Ipv4Addr>,
    /// `null`: this host is no instance of EC2.
    pub here: Option<bool>,
    pub holders: Vec<Holder>,
    /// The last claim by this host since its boot.
    pub last_claim: Option<ClaimRecord>,
}

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

/// Who has each of these addresses.
pub(crate) fn status(
    root: &Root,
    ec2: &dyn Ec2,
    addresses: &[MovingAddress],
) -> Result<EipReport, CommandError> {
    // Also useful elsewhere, such as on an operator's machine.
    let this = ec2.this_instance().ok();
    let mut rows = Vec::new();
    for address in addresses {
        let found = describe(ec2, address)?;
        rows.push(AddressRow {
            address: address.to_string(),
            public_address: found.public_address,
            here: this.as_ref().map(|this| is_here(&found, this, None)),
            holders: found.holders,
            last_claim: ClaimRecord::load(root, address),
        });
    }
    Ok(EipReport {
        version: crate::report::VERSION,
        outcome: match rows.iter().all(|row| !row.holders.is_empty()) {
            true => Exit::Converged,
            false => Exit::Failed,
        },
        addresses: rows,
    })
}

/// Whether this instance has the address, at this private address if one is given.
fn is_here(found: &Description, this: &ThisInstance, private: Option<Ipv4Addr>) -> bool {
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

impl From<Ec2Error> for CommandError {
    fn from(error: Ec2Error) -> CommandError {
        match error {
            Ec2Error::Settings(_) => CommandError::input(error.into()),
            error => CommandError::Failed(error.into()),
        }
    }
}
