//! Who has the addresses of EC2 that move between instances.

use std::net::Ipv4Addr;

use serde::Serialize;

use crate::balancer::claim::{ClaimRecord, MovingAddress};
use crate::balancer::eip::{Holder, describe, is_here};
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::ports::ec2::{Ec2, Ec2Error};
use crate::ports::root::Root;

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

impl From<Ec2Error> for CommandError {
    fn from(error: Ec2Error) -> CommandError {
        match error {
            Ec2Error::Settings(_) => CommandError::input(error.into()),
            error => CommandError::Failed(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::ec2::fake::{FakeEc2, THIS_INTERFACE};
    use crate::ports::testing::Sandbox;

    #[test]
    fn status_says_who_has_each_address() {
        let sandbox = Sandbox::with_base_system();
        let root = &sandbox.host.root;
        let addresses = ["eipalloc-0a", "10.0.0.5"].map(|text| text.parse().unwrap());
        let ec2 = FakeEc2::new();
        let report = status(root, &ec2, &addresses).unwrap();
        assert_eq!(report.outcome, Exit::Converged);
        assert_eq!(report.addresses[0].here, Some(false));
        assert_eq!(report.addresses[1].holders[0].vpc.as_deref(), Some("vpc-1"));
        ec2.holder.replace(THIS_INTERFACE.parse().ok());
        let report = status(root, &ec2, &addresses).unwrap();
        assert_eq!(report.addresses[0].here, Some(true));
        ec2.holder.replace(None);
        assert_eq!(
            status(root, &ec2, &addresses).unwrap().outcome,
            Exit::Failed
        );
    }
}
