//! Checks whether this host may claim the addresses of EC2 that it claims as the master of a pair.

use std::time::Duration;

use super::{Check, note_for_root};
use crate::balancer::claim::{MovingAddress, configured_addresses};
use crate::pass::Session;
use crate::ports::ec2::{self, Association, Ec2, Ec2Error, Mode};
use crate::problem::Problem;

/// How long all of it may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Checks each address that keepalived of this host claims.
pub(super) fn check_claims(session: &Session, announce: &mut dyn FnMut(Check)) {
    let root = &session.host.root;
    let is_ordinary_user = root.is_ordinary_user();
    let addresses = match configured_addresses(root) {
        Ok(addresses) => addresses,
        // It may hold a password.
        Err(error) if is_ordinary_user => {
            return announce(note_for_root("addresses of EC2", error.to_string()));
        }
        Err(error) => {
            let problem = Problem::new(error.to_string()).optional_hint(error.hint());
            return announce(Check::bad("addresses of EC2", problem));
        }
    };
    if addresses.is_empty() {
        return;
    }
    let ec2 = ec2::open(&session.settings.ec2, TIMEOUT);
    for address in addresses.iter().take_while(|_| !session.host.stop.is_set()) {
        announce(match &ec2 {
            Ok(ec2) => check_claim(&**ec2, address, is_ordinary_user),
            Err(error) => Check::bad(about(address), problem(error)),
        });
    }
}

/// Asks EC2 whether this instance may claim the address, with a dry run. A refusal of an ordinary user, who has other
/// credentials than keepalived, is a note.
fn check_claim(ec2: &dyn Ec2, address: &MovingAddress, is_ordinary_user: bool) -> Check {
    match try_claim(ec2, address) {
        Ok(()) => Check::good(about(address), "this instance may claim it"),
        Err(error @ (Ec2Error::Refused { .. } | Ec2Error::NoCredentials { .. }))
            if is_ordinary_user =>
        {
            note_for_root(about(address), format!("this user: {error}"))
        }
        Err(error) => Check::bad(about(address), problem(&error)),
    }
}

/// Makes the calls of a claim, and changes nothing.
fn try_claim(ec2: &dyn Ec2, address: &MovingAddress) -> Result<(), Ec2Error> {
    let this = ec2.this_instance()?;
    match address {
        MovingAddress::Elastic(allocation) => {
            ec2.elastic_ip(allocation)?;
            let association = Association {
                allocation,
                interface: &this.interface,
                private_address: None,
            };
            ec2.associate(&association, Mode::DryRun)
        }
        MovingAddress::Private(private) => {
            ec2.interfaces_with(*private)?;
            ec2.assign(&this.interface, *private, Mode::DryRun)
        }
    }
}

fn about(address: &MovingAddress) -> String {
    format!("claim {address}")
}

fn problem(error: &Ec2Error) -> Problem {
    Problem::new(error.to_string()).optional_hint(error.hint())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Verdict;
    use crate::ports::ec2::fake::{FakeEc2, Fault, OTHER_INTERFACE};

    #[test]
    fn permission_is_checked_without_a_change() {
        for address in ["eipalloc-0a", "10.0.0.5"] {
            let ec2 = FakeEc2::new();
            let check = check_claim(&ec2, &address.parse().unwrap(), false);
            assert!(!check.is_bad(), "{check:?}");
            let holder = ec2.holder.borrow().clone().unwrap();
            assert_eq!(holder.to_string(), OTHER_INTERFACE);
            assert_eq!(ec2.calls.borrow().len(), 2);
        }
    }

    #[test]
    fn missing_permission_is_bad_and_named() {
        for (address, permission) in [
            ("eipalloc-0a", "`ec2:AssociateAddress`"),
            ("10.0.0.5", "`ec2:AssignPrivateIpAddresses`"),
        ] {
            let address = address.parse().unwrap();
            let faults = [Fault::None, Fault::Unauthorized];
            let check = check_claim(&FakeEc2::with_faults(faults), &address, false);
            let Verdict::Bad(problem) = check.verdict else {
                panic!("{check:?}");
            };
            assert!(problem.hint.unwrap().contains(permission));
            let check = check_claim(&FakeEc2::with_faults(faults), &address, true);
            assert!(matches!(check.verdict, Verdict::Note(_)), "{check:?}");
        }
    }
}
