//! Network addresses of the host.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use super::known::known;
use crate::balancer;
use crate::ports::interfaces::InterfaceAddress;
use crate::ports::machine;
use crate::ports::root::Root;

/// Name prefixes of interfaces whose addresses are meaningful on this host only.
const LOCAL_INTERFACES: &[&str] = &[
    "br-", "cali", "cni", "docker", "flannel", "lxc", "lxd", "podman", "veth", "virbr",
];

/// Addresses without loopback and link-local ones. Those that keepalived moves between hosts are only in `interfaces`: a
/// record with them would name another host after the next move.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Network {
    /// The best address; empty if there is none.
    pub address: String,
    /// The addresses at which peers can presumably reach this host, the best first: IPv4 before IPv6, the
    /// interface of the default route before others, its own before additional ones.
    pub addresses: Vec<IpAddr>,
    /// The interface of the default route, or without one that of the best address; empty if there is none.
    pub interface: String,
    /// All addresses by interface.
    pub interfaces: BTreeMap<String, Vec<IpAddr>>,
    /// Whether the kernel knows IPv6.
    pub ipv6: bool,
}

pub(super) fn probe(root: &Root) -> Network {
    let all = known(machine::interface_addresses()).unwrap_or_default();
    Network {
        ipv6: machine::has_ipv6(),
        ..arrange(all, &balancer::config::virtual_addresses(root))
    }
}

/// Expects the kernel's order, in which an address that was configured first comes before others.
fn arrange(mut all: Vec<InterfaceAddress>, moving: &[IpAddr]) -> Network {
    all.sort_by_key(rank);
    let mut interfaces = BTreeMap::<String, Vec<IpAddr>>::new();
    for address in &all {
        let of_interface = interfaces.entry(address.interface.clone()).or_default();
        of_interface.push(address.ip);
    }
    all.retain(|address| !moving.contains(&address.ip));
    let pick = |accept: &dyn Fn(&InterfaceAddress) -> bool| -> Vec<IpAddr> {
        let accepted = all.iter().filter(|address| accept(address));
        accepted.map(|address| address.ip).collect()
    };
    // Temporary addresses change within hours.
    let lasting = pick(&|address| !is_local(address) && !address.temporary && !address.deprecated);
    let addresses = match lasting.is_empty() {
        true => pick(&|address| !is_local(address)),
        false => lasting,
    };
    let best = addresses.first().or(all.first().map(|first| &first.ip));
    let mut with_route = all.iter().filter(|address| address.default_route.is_some());
    let best_entry = all.iter().find(|address| Some(&address.ip) == best);
    let interface = with_route.next().or(best_entry);
    Network {
        interface: interface.map_or_else(String::new, |address| address.interface.clone()),
        address: best.map(IpAddr::to_string).unwrap_or_default(),
        addresses,
        interfaces,
        ipv6: false,
    }
}

/// On an interface of containers or virtual machines. One with the default route is the host's own, whatever
/// its name.
fn is_local(address: &InterfaceAddress) -> bool {
    let mut starts = LOCAL_INTERFACES.iter();
    address.default_route.is_none() && starts.any(|start| address.interface.starts_with(start))
}

/// Sorts better addresses before worse ones. An address for the whole interface (`/32`) is a virtual one that may
/// move to another host, unless it is the only one, as in some clouds.
fn rank(address: &InterfaceAddress) -> impl Ord + use<> {
    let is_inner = address.bridge && address.default_route.is_none();
    let is_virtual = address.secondary || (address.ip.is_ipv4() && address.prefix_length == 32);
    (
        is_local(address),
        address.ip.is_ipv6(),
        is_inner,
        address.default_route.unwrap_or(u32::MAX),
        address.deprecated,
        address.temporary,
        is_virtual,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An address such as `10.0.0.2/24 on eth0`, with properties such as `default` after it.
    fn parse(text: &str) -> InterfaceAddress {
        let mut words = text.split(' ');
        let (ip, length) = words.next().unwrap().split_once('/').unwrap();
        assert_eq!(words.next(), Some("on"));
        let interface = words.next().unwrap().to_owned();
        let has = |property: &str| text.split(' ').any(|word| word == property);
        InterfaceAddress {
            interface,
            ip: ip.parse().unwrap(),
            prefix_length: length.parse().unwrap(),
            secondary: has("secondary"),
            temporary: has("temporary"),
            deprecated: has("deprecated"),
            bridge: has("bridge"),
            default_route: has("default").then_some(100),
        }
    }

    fn best(addresses: &[&str]) -> String {
        arrange(addresses.iter().map(|text| parse(text)).collect(), &[]).address
    }

    #[test]
    fn own_address_of_the_default_routes_interface_comes_first() {
        for (addresses, expected) in [
            // In the kernel's order, not by number.
            (
                &[
                    "10.0.0.9/24 on b default",
                    "10.0.0.1/24 on b secondary default",
                ][..],
                "10.0.0.9",
            ),
            (
                &["192.168.0.1/24 on a", "10.0.0.2/24 on b default"],
                "10.0.0.2",
            ),
            (
                &["172.17.0.1/16 on docker0 bridge", "10.0.0.2/24 on eth0"],
                "10.0.0.2",
            ),
            (
                &["172.17.0.1/16 on docker0 bridge", "2001:db8::1/64 on eth0"],
                "2001:db8::1",
            ),
            (
                &["192.168.122.1/24 on lan bridge", "10.0.0.2/24 on eth0"],
                "10.0.0.2",
            ),
            (
                &["10.0.0.2/24 on eth0", "10.9.0.2/24 on br0 bridge default"],
                "10.9.0.2",
            ),
            (
                &[
                    "10.0.0.100/32 on eth0 default",
                    "10.0.0.2/24 on eth0 default",
                ],
                "10.0.0.2",
            ),
            (
                &["10.0.0.5/32 on eth0 default", "172.17.0.1/16 on docker0"],
                "10.0.0.5",
            ),
            (
                &["2001:db8::1/64 on eth0 default", "10.0.0.2/24 on eth1"],
                "10.0.0.2",
            ),
            (
                &[
                    "2001:db8::aa/64 on eth0 default temporary",
                    "2001:db8::bb/128 on eth0 default deprecated",
                    "2001:db8::1/128 on eth0 default",
                ],
                "2001:db8::1",
            ),
            (&["172.17.0.1/16 on docker0 bridge"], "172.17.0.1"),
            (&[], ""),
        ] {
            assert_eq!(best(addresses), expected, "{addresses:?}");
        }
    }

    #[test]
    fn peers_get_no_address_of_containers_and_none_that_expires() {
        let all = [
            "172.17.0.1/16 on docker0 bridge",
            "2001:db8::aa/64 on eth0 default temporary",
            "2001:db8::1/64 on eth0 default",
            "10.0.0.100/32 on eth0 default",
            "10.0.0.2/24 on eth0 default",
        ];
        let network = arrange(all.iter().map(|text| parse(text)).collect(), &[]);
        let shown: Vec<String> = network.addresses.iter().map(IpAddr::to_string).collect();
        assert_eq!(shown, ["10.0.0.2", "10.0.0.100", "2001:db8::1"]);
        assert_eq!(network.interfaces["docker0"].len(), 1);
        assert_eq!(network.interfaces["eth0"].len(), 4);
        let expiring = arrange(vec![parse(all[0]), parse(all[1])], &[]);
        assert_eq!(expiring.address, "2001:db8::aa");
    }

    #[test]
    fn address_that_keepalived_moves_is_not_one_of_the_host() {
        let all = ["10.0.0.5/24 on eth1 default", "10.0.0.2/24 on eth1 default"];
        let moving = ["10.0.0.5".parse().unwrap()];
        let network = arrange(all.iter().map(|text| parse(text)).collect(), &moving);
        assert_eq!(network.address, "10.0.0.2");
        assert_eq!(network.addresses.len(), 1);
        assert_eq!(network.interfaces["eth1"].len(), 2);
    }

    #[test]
    fn interface_is_that_of_the_default_route() {
        for (addresses, expected) in [
            (
                &["10.0.0.2/24 on a", "192.168.0.2/24 on b default"][..],
                "b",
            ),
            (&["10.0.0.2/24 on a", "2001:db8::2/64 on b default"], "b"),
            (&["2001:db8::2/64 on b", "10.0.0.2/24 on a"], "a"),
            (&[], ""),
        ] {
            let all = addresses.iter().map(|text| parse(text)).collect();
            assert_eq!(arrange(all, &[]).interface, expected, "{addresses:?}");
        }
    }
}
