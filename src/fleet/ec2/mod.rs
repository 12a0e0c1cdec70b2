//! Instances of EC2 as nodes, beside the records of hosts: found by their tags, with an agent or without.
//!
//! EC2 is asked at most once a minute, and only by a host whose templates ask for nodes. An instance that has an agent is
//! what its record says; but once EC2 says that it ends, it is no node any more, however young its record is.

mod cache;
mod source;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::record::is_plain_value;
use super::{NodeRecord, NodeRow, Peer, Snapshot};
use crate::ports::Host;
use crate::ports::root::RootError;
use crate::printable;
use crate::settings::{Ec2Group, is_host_address, is_name};
use cache::InstanceCache;

pub(crate) use source::{Ec2Api, Instance, InstanceState, Instances};
pub(crate) use view::{InstanceView, without_agent};

/// How long an answer is used before EC2 is asked again.
pub(crate) const ASK_INTERVAL: Duration = Duration::from_secs(60);

/// How long the last answer stands in for one that EC2 does not give: throttling ends by itself.
const GRACE: Duration = Duration::from_secs(600);

/// The most instances of all groups together; more are refused whole.
const MAX_INSTANCES: usize = 30_000;

/// Maximum length of the tags of all instances together, in bytes: the file of the last answer has to hold them.
pub(super) const MAX_TAGS: usize = 48 << 20;

/// How long a host may still write its record after this one heard that its instance ends.
const LAST_WRITES: Duration = Duration::from_secs(600);

/// What EC2 says of the instances of this host's settings.
pub(super) struct InstanceList {
    groups: Vec<Ec2Group>,
    cache: InstanceCache,
    /// By this host's clock.
    now: Timestamp,
    /// The cache differs from the file.
    is_changed: bool,
    /// Why the list is not what EC2 would say now, and too old to stand in for it.
    pub error: Option<String>,
    /// Why the last answer stands in for a new one.
    pub problem: Option<String>,
}

impl InstanceList {
    /// The instances now: as EC2 said within the last minute, or as it says. `None`: the settings name none.
    pub(super) fn load(
        groups: &[Ec2Group],
        host: &Host,
        source: &dyn Instances,
    ) -> Option<InstanceList> {
        if groups.is_empty() {
            return None;
        }
        let now = host.clock.now();
        let mut list = InstanceList {
            groups: groups.to_vec(),
            cache: InstanceCache::load(host, groups),
            now,
            is_changed: false,
            error: None,
            problem: None,
        };
        if !list.cache.was_asked_within(ASK_INTERVAL, now) {
            list.ask(source);
        }
        list.explain();
        Some(list)
    }

    fn ask(&mut self, source: &dyn Instances) {
        let now = self.now;
        self.is_changed = true;
        match list_instances(&self.groups, source) {
            Ok(instances) => self.cache.replace(instances, now),
            Err(why) => self.cache.note_failure(why, now),
        }
    }

    fn explain(&mut self) {
        let Some(why) = &self.cache.failure else {
            return;
        };
        match self.cache.answered_within(GRACE, self.now) {
            Some(at) => {
                let at = at.strftime("%T UTC");
                self.problem = Some(format!("{why}; EC2's answer of {at} stays in force"));
            }
            None => self.error = Some(why.clone()),
        }
    }

    /// Saves the answer for the passes of the next minute.
    pub(super) fn save(&self, host: &Host) -> Result<(), RootError> {
        match self.is_changed {
            true => self.cache.save(host),
            false => Ok(()),
        }
    }

    /// Adds the instances without an agent to the peers, and removes the peers whose instances end.
    pub(super) fn merge(
        &self,
        snapshot: &mut Snapshot,
        peers: &mut Vec<Arc<Peer>>,
        hosts: &KnownHosts<'_>,
    ) {
        snapshot.problems.extend(self.problem.clone());
        self.remove_ended(snapshot, peers, hosts);
        let instances = self.cache.instances.values().map(|known| &known.instance);
        let records = hosts.alive.iter().map(|row| &*row.record);
        let mut known_addresses = addresses_with_agent(instances, records);
        known_addresses.extend(&hosts.named);
        let names: BTreeSet<String> = peers.iter().map(|peer| peer.name.clone()).collect();
        for known in self.cache.instances.values() {
            let instance = &known.instance;
            let mut addresses = instance.addresses.iter();
            let is_known = addresses.any(|address| known_addresses.contains(address));
            // A record may claim the id of an instance as its name.
            let is_taken = names.contains(&instance.id);
            if instance.state != InstanceState::Running || is_known || is_taken {
                continue;
            }
            let peer = to_peer(&self.groups, instance, &known.groups);
            let peer = peer.and_then(|peer| peer.without_addresses(hosts.own).0);
            peers.extend(peer.map(Arc::new));
        }
    }

    /// Removes the peers at the addresses of instances that end. A record that was written later is one of another host,
    /// which has the address now, or the same one in another network.
    fn remove_ended(
        &self,
        snapshot: &Snapshot,
        peers: &mut Vec<Arc<Peer>>,
        hosts: &KnownHosts<'_>,
    ) {
        let ended = self.cache.ended_addresses(self.now);
        if ended.is_empty() {
            return;
        }
        let rows = hosts.alive.iter();
        let silence: BTreeMap<&str, Duration> = rows
            .map(|row| (row.node.as_str(), row.silent_for(snapshot.now)))
            .collect();
        peers.retain(|peer| {
            let silent = silence.get(peer.name.as_str()).copied().unwrap_or_default();
            let mut ends = peer.addresses.iter().filter_map(|at| ended.get(at));
            !ends.any(|since| silent.saturating_add(LAST_WRITES) >= *since)
        });
    }
}

/// The hosts that are known otherwise.
pub(super) struct KnownHosts<'a> {
    /// The addresses of this host.
    pub own: &'a [IpAddr],
    /// The addresses of the nodes in the settings.
    pub named: BTreeSet<IpAddr>,
    /// Those that publish a record and count as alive, whether they serve or not.
    pub alive: Vec<NodeRow>,
}

/// The records of all nodes that are alive, whether they serve or not.
pub(crate) fn live_records(snapshot: &Snapshot, gone_after: Duration) -> Vec<Arc<NodeRecord>> {
    let rows = snapshot.rows.iter();
    let alive = rows.filter(|row| row.silent_for(snapshot.now) <= gone_after);
    alive.map(|row| row.record.clone()).collect()
}

/// The addresses of instances that have an agent: of each record the first that is one of an instance. A record may claim any
/// address, but is one host, so it hides one instance.
fn addresses_with_agent<'a>(
    instances: impl Iterator<Item = &'a Instance>,
    records: impl Iterator<Item = &'a NodeRecord>,
) -> BTreeSet<IpAddr> {
    let instances = instances.filter(|instance| instance.state != InstanceState::Ending);
    let known: BTreeSet<&IpAddr> = instances.flat_map(|known| &known.addresses).collect();
    let of_record = |record: &NodeRecord| {
        let mut addresses = record.addresses.iter();
        addresses.find(|address| known.contains(address)).copied()
    };
    records.filter_map(of_record).collect()
}

/// Lists the instances of all groups, each with the groups that it belongs to.
pub(crate) fn list_instances(
    groups: &[Ec2Group],
    source: &dyn Instances,
) -> Result<Vec<(Instance, Vec<usize>)>, String> {
    let mut all: BTreeMap<String, (Instance, Vec<usize>)> = BTreeMap::new();
    let mut tags = 0;
    for (number, group) in groups.iter().enumerate() {
        let found = source.list(group);
        for instance in found.map_err(|why| printable::line(&why).into_owned())? {
            let texts = instance.tags.iter();
            tags += texts
                .map(|(name, value)| name.len() + value.len())
                .sum::<usize>();
            let known = all.entry(instance.id.clone());
            known.or_insert((instance, Vec::new())).1.push(number);
        }
        if all.len() > MAX_INSTANCES {
            return Err(format!(
                "EC2: more than {MAX_INSTANCES} instances match the filters"
            ));
        }
        if tags > MAX_TAGS {
            let most = MAX_TAGS >> 20;
            return Err(format!(
                "EC2: the instances that match the filters have more than {most} MiB of tags"
            ));
        }
    }
    Ok(all.into_values().collect())
}

/// An instance without an agent, as templates see it: what its groups say, and its tags. Named by its id, which never
/// changes, and which no other instance has.
pub(crate) fn to_peer(groups: &[Ec2Group], instance: &Instance, of: &[usize]) -> Option<Peer> {
    let is_usable = |address: &&IpAddr| is_host_address(**address);
    let addresses: Vec<IpAddr> = instance
        .addresses
        .iter()
        .filter(is_usable)
        .copied()
        .collect();
    let mut peer = Peer {
        name: Some(&instance.id).filter(|id| is_name(id))?.clone(),
        address: *addresses.first()?,
        addresses,
        ports: BTreeMap::new(),
        tags: BTreeMap::new(),
        roles: Vec::new(),
        apps: Vec::new(),
    };
    for group in of.iter().filter_map(|number| groups.get(*number)) {
        peer.ports.extend(group.nodes.ports.clone());
        peer.roles.extend(group.nodes.roles.iter().cloned());
        peer.apps.extend(group.nodes.apps.iter().cloned());
    }
    for names in [&mut peer.roles, &mut peer.apps] {
        names.sort();
        names.dedup();
    }
    // A tag with other characters could become a line of a configuration.
    let plain = instance
        .tags
        .iter()
        .filter(|(name, value)| is_name(name) && is_plain_value(value));
    peer.tags
        .extend(plain.map(|(name, value)| (name.clone(), value.clone())));
    Some(peer)
}
