//! Network addresses of the host.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use super::known::known;
use crate::ports::machine;

/// Addresses without loopback and link-local ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Network {
    /// The first IPv4 address, else the first IPv6 one; empty if there is none.
    pub address: String,
    /// All addresses by interface.
    pub interfaces: BTreeMap<String, Vec<IpAddr>>,
    /// Whether the kernel knows IPv6.
    pub ipv6: bool,
}

pub(super) fn probe() -> Network {
    Network {
        ipv6: machine::has_ipv6(),
        ..arrange(known(machine::interface_addresses()).unwrap_or_default())
    }
}

fn arrange(mut interfaces: BTreeMap<String, Vec<IpAddr>>) -> Network {
    for addresses in interfaces.values_mut() {
        addresses.sort();
    }
    let all = || interfaces.values().flatten();
    let first = all().find(|ip| ip.is_ipv4()).or_else(|| all().next());
    Network {
        address: first.map(IpAddr::to_string).unwrap_or_default(),
        interfaces,
        ipv6: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_ipv4_address_is_the_hosts_own() {
        let interfaces = |addresses: &[(&str, &str)]| {
            let mut interfaces = BTreeMap::<String, Vec<IpAddr>>::new();
            for (name, address) in addresses {
                let of_interface = interfaces.entry((*name).to_owned()).or_default();
                of_interface.push(address.parse().unwrap());
            }
            arrange(interfaces)
        };
        let mixed = interfaces(&[("a", "2001:db8::1"), ("b", "10.0.0.2"), ("b", "10.0.0.1")]);
        assert_eq!(mixed.address, "10.0.0.1");
        assert_eq!(interfaces(&[("a", "2001:db8::1")]).address, "2001:db8::1");
        assert_eq!(interfaces(&[]).address, "");
    }
}
