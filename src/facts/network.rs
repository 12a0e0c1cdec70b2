//! Network addresses of the host.

use std::collections::BTreeMap;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use serde::Serialize;

/// Addresses without loopback and link-local ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Network {
    /// The first IPv4 address, else the first IPv6 one; empty if there is none.
    pub address: String,
    /// All addresses by interface.
    pub interfaces: BTreeMap<String, Vec<IpAddr>>,
}

pub(super) fn probe() -> Network {
    let mut network = Network::default();
    let Ok(found) = getifaddrs() else {
        return network;
    };
    for entry in found {
        if entry.flags.contains(InterfaceFlags::IFF_LOOPBACK) {
            continue;
        }
        let Some(address) = entry.address else {
            continue;
        };
        let ip = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
            (Some(v4), _) => IpAddr::V4(v4.ip()),
            (None, Some(v6)) if !v6.ip().is_unicast_link_local() => IpAddr::V6(v6.ip()),
            _ => continue,
        };
        network
            .interfaces
            .entry(entry.interface_name)
            .or_default()
            .push(ip);
    }
    for addresses in network.interfaces.values_mut() {
        addresses.sort();
    }
    let all = || network.interfaces.values().flatten();
    let first = all().find(|ip| ip.is_ipv4()).or_else(|| all().next());
    network.address = first.map(IpAddr::to_string).unwrap_or_default();
    network
}
