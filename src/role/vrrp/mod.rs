//! The VRRP instances of a balancer, from what an operator says about them and from the balancers that there are.
//!
//! Every balancer computes this alone and has to come to the same ids and to priorities that fit those of the others:
//! both depend only on the settings, which are the same on all of them, and on the list of balancers.

mod settings;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use serde::Serialize;

use self::settings::{InstanceSettings, PairSettings};
use crate::fleet::Peer;

/// More balancers than there are priorities for.
const MAX_BALANCERS: usize = 20;

/// The priority of the first balancer, and how much less each next one has. High ones: after a balancer has given its
/// address up, the next one waits for (256 - priority) / 256 seconds.
const FIRST_PRIORITY: usize = 250;
const PRIORITY_STEP: usize = 10;

/// What a template knows of this host.
pub(super) struct ThisHost<'a> {
    pub name: &'a str,
    pub addresses: Vec<IpAddr>,
    pub interface: &'a str,
}

/// An instance for keepalived.conf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Instance {
    pub name: String,
    /// 4 or 6.
    pub family: u8,
    pub interface: String,
    pub router_id: u8,
    pub priority: usize,
    pub preempt: bool,
    /// The other balancers may know this host. Until then it must not take the address.
    pub is_known: bool,
    /// The address that adverts come from.
    pub source: IpAddr,
    /// Never empty if the host is known: keepalived would take to multicast.
    pub peers: Vec<String>,
    pub addresses: Vec<String>,
    /// What the master claims of EC2.
    pub claim: Option<String>,
    pub lines: Vec<String>,
}

/// The instances of this host. An error names the value and what is expected.
pub(super) fn instances(
    settings: &serde_json::Value,
    balancers: &[Peer],
    this: &ThisHost<'_>,
) -> Result<Vec<Instance>, String> {
    let mut settings = PairSettings::parse(settings)?;
    let priority_tag = settings.priority_tag.take();
    let all = settings.instances()?;
    let balancers = sort_balancers(balancers, priority_tag.as_deref(), this.name)?;
    let moving: Vec<IpAddr> = all.iter().flat_map(InstanceSettings::ips).collect();
    let mut instances: Vec<Instance> = Vec::new();
    for settings in &all {
        let of_family: Vec<&InstanceSettings> = all
            .iter()
            .filter(|other| other.family() == settings.family())
            .collect();
        let position = of_family
            .iter()
            .position(|other| other.name == settings.name);
        let turn = Turn {
            position: position.unwrap_or(0),
            is_shared: of_family.len() > 1,
        };
        instances.push(instance(settings, &balancers, this, &moving, &turn)?);
    }
    Ok(instances)
}

/// Where an instance stands among those of its family: each begins with another balancer, so that all have work.
struct Turn {
    position: usize,
    /// There are several.
    is_shared: bool,
}

fn instance(
    settings: &InstanceSettings,
    balancers: &[&Peer],
    this: &ThisHost<'_>,
    moving: &[IpAddr],
    turn: &Turn,
) -> Result<Instance, String> {
    let usable = |addresses: &[IpAddr]| {
        let mut addresses = addresses.iter().copied();
        addresses.find(|ip| ip.is_ipv4() == (settings.family() == 4) && !moving.contains(ip))
    };
    // A balancer without an address of the family takes no part: its own role says so.
    let members: Vec<(&str, IpAddr)> = balancers
        .iter()
        .filter_map(|peer| Some((peer.name.as_str(), usable(&peer.addresses)?)))
        .collect();
    let own = members.iter().position(|(name, _)| *name == this.name);
    let source = match own {
        Some(own) => Some(members[own].1),
        None => usable(&this.addresses),
    };
    let source = source.ok_or_else(|| {
        format!(
            "keepalived: {} has addresses of IPv{}, and this host has none of its own to speak from: \
             give it one, or name it in `fleet: {{addresses: […]}}`",
            settings.name,
            settings.family()
        )
    })?;
    let interface = settings.interface.as_deref().unwrap_or(this.interface);
    if interface.is_empty() {
        return Err(format!(
            "keepalived: this host has no default route, so {} needs the name of an `interface`, such as `eth0`",
            settings.name
        ));
    }
    // Of a host that has a new name, there is another record with its address for a while.
    let mut peers: Vec<String> = Vec::new();
    for ip in members.iter().map(|(_, ip)| *ip).filter(|ip| *ip != source) {
        let peer = ip.to_string();
        if !peers.contains(&peer) {
            peers.push(peer);
        }
    }
    // Alone, it speaks to the address itself: that reaches nobody, and keepalived does not take to multicast.
    if peers.is_empty() || own.is_none() {
        peers = settings.ips().take(1).map(|ip| ip.to_string()).collect();
    }
    let rank = own.map_or(MAX_BALANCERS, |own| {
        (own + members.len() - turn.position % members.len()) % members.len()
    });
    Ok(Instance {
        name: settings.name.clone(),
        family: settings.family(),
        interface: interface.to_owned(),
        router_id: settings.router_id,
        priority: FIRST_PRIORITY - PRIORITY_STEP * rank,
        preempt: settings.preempt.unwrap_or(turn.is_shared),
        is_known: own.is_some(),
        source,
        peers,
        addresses: settings
            .addresses
            .iter()
            .map(|(_, text)| text.clone())
            .collect(),
        claim: settings.claim.clone(),
        lines: settings.lines.clone(),
    })
}

/// By the number in a tag, the highest first, and then by name. What another host says instead of a number in its own record
/// must not stop the passes of this one: it comes last.
fn sort_balancers<'p>(
    balancers: &'p [Peer],
    tag: Option<&str>,
    this: &str,
) -> Result<Vec<&'p Peer>, String> {
    if balancers.len() > MAX_BALANCERS {
        return Err(format!(
            "keepalived: {} hosts have the role, and {MAX_BALANCERS} can share addresses: `tag` selects those of this group",
            balancers.len()
        ));
    }
    let mut ranked = Vec::new();
    for peer in balancers {
        let value = tag.and_then(|tag| peer.tags.get(tag));
        let number = value.and_then(|value| value.parse::<i64>().ok());
        if let Some(value) = value.filter(|_| number.is_none() && peer.name == this) {
            return Err(format!(
                "keepalived.priority_tag: {this} has the tag {}={}, expected a number",
                tag.unwrap_or_default(),
                value.escape_default()
            ));
        }
        ranked.push((number, peer));
    }
    ranked.sort_by(|(one, a), (other, b)| other.cmp(one).then_with(|| a.name.cmp(&b.name)));
    Ok(ranked.into_iter().map(|(_, peer)| peer).collect())
}
