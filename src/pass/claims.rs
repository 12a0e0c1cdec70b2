//! Addresses of EC2 that this host failed to claim when it became the master. Each pass tries again while it is: the
//! permission that was missing may be there now.

use std::time::{Duration, Instant};

use crate::balancer::claim::{ClaimRecord, ClaimResult, ConfiguredClaim, configured_claims};
use crate::balancer::eip::{self, Claim, ClaimError};
use crate::balancer::state::{self, RecordedState, State};
use crate::ports::Host;
use crate::ports::ec2::{Ec2, Ec2Error, ThisInstance};
use crate::ports::root::RootError;
use crate::problem::Problem;

/// How long all claims of a pass may take together.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(20);

/// Claims what an earlier claim failed to. Returns the addresses that are still not here, and why.
pub(super) fn repeat_failed_claims(
    host: &Host,
    open: impl FnOnce(Duration) -> Result<Box<dyn Ec2>, Ec2Error>,
) -> Result<Vec<(String, Problem)>, RootError> {
    let root = &host.root;
    let mut failed = ClaimRecord::load_all(root)?;
    failed.retain(|record| record.result == ClaimResult::Failed);
    if failed.is_empty() {
        return Ok(Vec::new());
    }
    let is_failed = |claim: &ConfiguredClaim| {
        let address = claim.address.to_string();
        failed.iter().any(|record| record.address == address)
    };
    let claims = configured_claims(root)?.into_iter().filter(is_failed);
    let claims: Vec<(ConfiguredClaim, RecordedState)> = claims
        .filter_map(|claim| {
            let master = state::read(root, claim.instance.as_deref()?).ok()??;
            (master.state == State::Master).then_some((claim, master))
        })
        .collect();
    if claims.is_empty() {
        return Ok(Vec::new());
    }
    let connected = open(CLAIM_TIMEOUT);
    let connected = connected.and_then(|client| client.this_instance().map(|this| (client, this)));
    let started = host.clock.monotonic_now();
    let mut problems = Vec::new();
    for (claim, master) in claims {
        let claimed = match &connected {
            Ok((client, this)) => repeat(host, (&**client, this), &claim, master, started),
            Err(error) => Err(error.clone().into()),
        };
        if let Err(problem) = claimed {
            problems.push((claim.address.to_string(), problem));
        }
    }
    Ok(problems)
}

fn repeat(
    host: &Host,
    (client, this): (&dyn Ec2, &ThisInstance),
    claim: &ConfiguredClaim,
    master: RecordedState,
    started: Instant,
) -> Result<(), Problem> {
    let instance = claim.instance.as_deref().unwrap_or_default();
    let wish = Claim {
        address: &claim.address,
        private_address: None,
        mastership: Some((instance, master)),
        started,
        timeout: CLAIM_TIMEOUT,
    };
    let result = eip::claim(&host.root, &*host.clock, &host.stop, client, this, &wish);
    let (kind, took_ms) = match &result {
        Ok(outcome) => (ClaimResult::Claimed, outcome.took_ms),
        Err(error) => (error.result(), 0),
    };
    let (address, now) = (&claim.address, host.clock.now());
    if let Err(error) = ClaimRecord::add(&host.root, address, kind, now, took_ms) {
        tracing::warn!("cannot record the claim: {error}");
    }
    match result {
        Ok(_) => {
            tracing::info!(target: "progress", "{address} is now at this instance");
            Ok(())
        }
        // Another host is the master by now, and claims it.
        Err(ClaimError::GivenUp(_)) => Ok(()),
        Err(error) => Err(error.problem().clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::claim::MovingAddress;
    use crate::ports::ec2::fake::{FakeEc2, Fault};
    use crate::ports::testing::Sandbox;

    /// A master of keepalived whose last claim of its elastic IP ended so.
    fn master(result: ClaimResult) -> Sandbox {
        let sandbox = Sandbox::with_base_system();
        let config = "vrrp_instance web {\n notify_master \"/usr/bin/trueup eip claim eipalloc-0a --instance web\" root root\n}\n";
        sandbox.write("etc/keepalived/keepalived.conf", config);
        let host = &sandbox.host;
        state::record(&host.root, "web", State::Master, host.clock.now()).unwrap();
        ClaimRecord::add(&host.root, &address(), result, host.clock.now(), 1).unwrap();
        sandbox
    }

    fn address() -> MovingAddress {
        "eipalloc-0a".parse().unwrap()
    }

    fn last_result(sandbox: &Sandbox) -> ClaimResult {
        ClaimRecord::load(&sandbox.host.root, &address())
            .unwrap()
            .result
    }

    fn pass(sandbox: &Sandbox, ec2: FakeEc2) -> Vec<(String, Problem)> {
        repeat_failed_claims(&sandbox.host, |_| Ok(Box::new(ec2))).unwrap()
    }

    #[test]
    fn failed_claim_is_repeated_until_the_address_is_here() {
        let sandbox = master(ClaimResult::Failed);
        let refusing = FakeEc2::with_faults([Fault::Unauthorized; 9]);
        let problems = pass(&sandbox, refusing);
        assert_eq!(problems[0].0, "eipalloc-0a");
        assert!(problems[0].1.hint.is_some(), "{problems:?}");
        assert_eq!(pass(&sandbox, FakeEc2::new()), []);
        assert_eq!(last_result(&sandbox), ClaimResult::Claimed);
    }

    #[test]
    fn pass_asks_ec2_nothing_after_a_claim_that_did_not_fail() {
        for result in [ClaimResult::Claimed, ClaimResult::GivenUp] {
            let sandbox = master(result);
            let asked = repeat_failed_claims(&sandbox.host, |_| panic!("it asks"));
            assert_eq!(asked.unwrap(), []);
        }
    }

    #[test]
    fn host_that_is_no_longer_the_master_claims_nothing() {
        let sandbox = master(ClaimResult::Failed);
        let host = &sandbox.host;
        state::record(&host.root, "web", State::Backup, host.clock.now()).unwrap();
        let asked = repeat_failed_claims(host, |_| panic!("it asks"));
        assert_eq!(asked.unwrap(), []);
    }
}
