//! Addresses of EC2 that belong to the master of a pair. keepalived claims them once, when it makes this host the master;
//! each pass of the master claims those that are not here: a permission that was missing may be there now, or the other
//! balancer claimed it while the network between them was cut.

use std::time::{Duration, Instant};

use super::Session;
use crate::balancer::claim::{ClaimRecord, ClaimResult, ConfiguredClaim, configured_claims};
use crate::balancer::config::PairConfig;
use crate::balancer::eip::{self, Claim, ClaimError};
use crate::balancer::state::{self, RecordedState, State};
use crate::ports::ec2::{self, Ec2, Ec2Error, ThisInstance};
use crate::ports::root::{Root, RootError};
use crate::ports::{Host, machine};
use crate::problem::Problem;
use crate::report::{Report, metrics};

/// How long all claims of a pass may take together.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(20);

impl Session {
    /// Claims the addresses of the master that are not here, adds those that stay elsewhere to the report, and updates
    /// the metrics.
    pub(super) fn converge_claims(&self, at_once: bool, report: &mut Report) {
        let open = |limit| ec2::open(&self.settings.ec2, limit);
        match converge_claims(&self.host, at_once, open) {
            Ok(problems) => problems.into_iter().for_each(|(address, problem)| {
                report.add_failure(&address, problem.message, problem.hint);
            }),
            Err(error) => report.warnings.push(error.to_string()),
        }
        let root = &self.host.root;
        if let Some(folder) = &self.settings.metrics.textfile {
            let claims = ClaimRecord::load_all(root);
            warn_of(claims.and_then(|claims| metrics::claims::update(root, folder, &claims)));
        }
    }
}

/// Claims the addresses that are not here although keepalived has made this host the master. `at_once`: also asks about
/// those that were here a moment ago. Returns the addresses that are still not here, and why.
fn converge_claims(
    host: &Host,
    at_once: bool,
    open: impl FnOnce(Duration) -> Result<Box<dyn Ec2>, Ec2Error>,
) -> Result<Vec<(String, Problem)>, RootError> {
    let (root, now) = (&host.root, host.clock.now());
    let due = configured_claims(root)?.into_iter().filter_map(|claim| {
        let master = state::read(root, claim.instance.as_deref()?).ok()??;
        let record = ClaimRecord::load(root, &claim.address);
        let is_due = record.as_ref().is_none_or(|record| match record.result {
            ClaimResult::Claimed => at_once || record.is_check_due(now),
            ClaimResult::Failed | ClaimResult::GivenUp => true,
        });
        let is_master = master.state == State::Master;
        (is_master && is_due && has_addresses(root, claim.instance.as_deref()?))
            .then_some((claim, master, record))
    });
    let due: Vec<DueClaim> = due.collect();
    if due.is_empty() {
        return Ok(Vec::new());
    }
    let connected = open(CLAIM_TIMEOUT);
    let connected = connected.and_then(|client| client.this_instance().map(|this| (client, this)));
    let started = host.clock.monotonic_now();
    let mut problems = Vec::new();
    for due in due {
        let address = due.0.address.to_string();
        let claimed = match &connected {
            Ok((client, this)) => converge_claim(host, (&**client, this), due, started),
            Err(error) => Err(error.clone().into()),
        };
        if let Err(problem) = claimed {
            problems.push((address, problem));
        }
    }
    Ok(problems)
}

/// Whether this host has an address of the instance, which is what makes it the master. keepalived runs its scripts at the
/// same time, so the record of an earlier state may be written last.
fn has_addresses(root: &Root, instance: &str) -> bool {
    let config = PairConfig::load(root).ok().flatten().unwrap_or_default();
    let mut instances = config.instances.into_iter();
    let addresses = instances.find(|each| each.name == instance);
    let addresses = addresses.map_or(Vec::new(), |each| each.addresses);
    let Ok(own) = machine::interface_addresses() else {
        return true;
    };
    addresses.is_empty() || own.iter().any(|own| addresses.contains(&own.ip))
}

/// A claim, since when this host is the master, and how the last claim ended.
type DueClaim = (ConfiguredClaim, RecordedState, Option<ClaimRecord>);

fn converge_claim(
    host: &Host,
    (client, this): (&dyn Ec2, &ThisInstance),
    (claim, master, before): DueClaim,
    started: Instant,
) -> Result<(), Problem> {
    let (root, address) = (&host.root, &claim.address);
    let mut lost = 0;
    if let Some(record) = before.filter(|record| record.result == ClaimResult::Claimed) {
        let found = eip::describe(client, address)?;
        if eip::is_here(&found, this, None) {
            let record = ClaimRecord {
                checked_at: Some(host.clock.now()),
                lost: 0,
                ..record
            };
            warn_of(record.save(root, address));
            return Ok(());
        }
        lost = record.lost + 1;
    }
    let instance = claim.instance.as_deref().unwrap_or_default();
    let wish = Claim {
        address,
        private_address: None,
        mastership: Some((instance, master)),
        started,
        timeout: CLAIM_TIMEOUT,
    };
    let result = eip::claim(root, &*host.clock, &host.stop, client, this, &wish);
    let (kind, took_ms) = match &result {
        Ok(outcome) => (ClaimResult::Claimed, outcome.took_ms),
        Err(error) => (error.result(), 0),
    };
    let added = ClaimRecord::add(root, address, kind, host.clock.now(), took_ms);
    warn_of(added.and_then(|()| match ClaimRecord::load(root, address) {
        Some(record) => ClaimRecord { lost, ..record }.save(root, address),
        None => Ok(()),
    }));
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

/// A claim that went well does not fail for want of its record.
fn warn_of(saved: Result<(), RootError>) {
    if let Err(error) = saved {
        tracing::warn!("cannot record the claim: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::claim::MovingAddress;
    use crate::ports::ec2::fake::{FakeEc2, Fault, THIS_INTERFACE};
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
        converge_claims(&sandbox.host, false, |_| Ok(Box::new(ec2))).unwrap()
    }

    fn asks_nothing(sandbox: &Sandbox) {
        let asked = converge_claims(&sandbox.host, false, |_| panic!("it asks"));
        assert_eq!(asked.unwrap(), []);
    }

    fn here() -> FakeEc2 {
        let ec2 = FakeEc2::new();
        ec2.holder.replace(THIS_INTERFACE.parse().ok());
        ec2
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
        asks_nothing(&sandbox);
    }

    #[test]
    fn master_asks_once_a_minute_whether_the_address_is_still_here() {
        let sandbox = master(ClaimResult::Claimed);
        asks_nothing(&sandbox);
        sandbox.clock.advance(60);
        assert_eq!(pass(&sandbox, here()), []);
        asks_nothing(&sandbox);
        sandbox.clock.advance(60);
        // The other balancer has claimed it.
        assert_eq!(pass(&sandbox, FakeEc2::new()), []);
        let record = ClaimRecord::load(&sandbox.host.root, &address()).unwrap();
        assert_eq!((record.claimed, record.lost), (2, 1));
    }

    #[test]
    fn two_masters_take_the_address_from_each_other_less_and_less_often() {
        let sandbox = master(ClaimResult::Claimed);
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            sandbox.clock.advance(minutes * 60 - 1);
            asks_nothing(&sandbox);
            sandbox.clock.advance(1);
            assert_eq!(pass(&sandbox, FakeEc2::new()), []);
        }
        // It is over.
        sandbox.clock.advance(3600);
        assert_eq!(pass(&sandbox, here()), []);
        sandbox.clock.advance(60);
        assert_eq!(pass(&sandbox, here()), []);
    }

    #[test]
    fn address_that_the_role_names_later_is_claimed_by_a_pass() {
        let sandbox = master(ClaimResult::Claimed);
        let root = &sandbox.host.root;
        root.remove_file(std::path::Path::new("/run/trueup/claims/eipalloc-0a.json"))
            .unwrap();
        assert_eq!(pass(&sandbox, FakeEc2::new()), []);
        assert_eq!(last_result(&sandbox), ClaimResult::Claimed);
    }

    #[test]
    fn host_that_is_no_longer_the_master_claims_nothing() {
        let sandbox = master(ClaimResult::Failed);
        let host = &sandbox.host;
        state::record(&host.root, "web", State::Backup, host.clock.now()).unwrap();
        asks_nothing(&sandbox);
    }

    #[test]
    fn record_of_a_master_without_the_address_claims_nothing() {
        let sandbox = master(ClaimResult::Failed);
        let path = "/etc/keepalived/keepalived.conf";
        let virtual_ip = |address: String| {
            let block = format!("web {{\n virtual_ipaddress {{\n {address}\n }}\n");
            sandbox.read(path).replacen("web {\n", &block, 1)
        };
        // One that no machine has.
        let elsewhere = virtual_ip("203.0.113.77/24".to_owned());
        let own = machine::interface_addresses().unwrap();
        let here = own.first().map(|own| virtual_ip(format!("{}/24", own.ip)));
        sandbox.write(path, elsewhere);
        asks_nothing(&sandbox);
        let Some(here) = here else {
            return;
        };
        sandbox.write(path, here);
        assert_eq!(pass(&sandbox, FakeEc2::new()), []);
        assert_eq!(last_result(&sandbox), ClaimResult::Claimed);
    }
}
