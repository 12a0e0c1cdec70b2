//! The network addresses of this machine, with what the kernel knows about them.
//!
//! `getifaddrs` has no flags of addresses and no routes; `/proc/net` has them, without another dependency.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use nix::ifaddrs::{self, getifaddrs};
use nix::net::if_::InterfaceFlags;

/// Largest part of a file in `/proc/net` that is read, in bytes: a router has many routes. The default route is
/// the first one.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Flags of IPv6 addresses (`linux/if_addr.h`).
const TEMPORARY: u32 = 0x01;
const DAD_FAILED: u32 = 0x08;
const DEPRECATED: u32 = 0x20;
const TENTATIVE: u32 = 0x40;

/// Flags of routes (`linux/route.h`).
const ROUTE_UP: u32 = 0x1;
const ROUTE_REJECT: u32 = 0x200;

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InterfaceAddress {
    pub interface: String,
    pub ip: IpAddr,
    /// Bits of the network; a virtual address usually has all.
    pub prefix_length: u32,
    /// Another address of the same network comes before it.
    pub secondary: bool,
    /// For outgoing connections of some hours (RFC 8981).
    pub temporary: bool,
    /// Not to be used any more, or not yet.
    pub deprecated: bool,
    /// The interface is a bridge.
    pub bridge: bool,
    /// The metric of the default route over the interface; `None`: there is no such route.
    pub default_route: Option<u32>,
}

/// The addresses in the kernel's order, without those of loopback interfaces and link-local ones.
pub(crate) fn addresses() -> nix::Result<Vec<InterfaceAddress>> {
    let flags = parse_inet6(&read_proc("if_inet6"));
    let routes = [
        default_routes(&read_proc("route"), parse_route),
        default_routes(&read_proc("ipv6_route"), parse_route6),
    ];
    let mut addresses: Vec<InterfaceAddress> = Vec::new();
    for entry in getifaddrs()? {
        let Some((ip, prefix_length)) = usable_address(&entry) else {
            continue;
        };
        // An IPv4 address with a label has that in place of the interface's name.
        let name = entry.interface_name.split(':').next().unwrap_or_default();
        let routes = &routes[usize::from(ip.is_ipv6())];
        let flags = flags.get(&ip).copied().unwrap_or(0);
        addresses.push(InterfaceAddress {
            secondary: addresses.iter().any(|other| {
                other.interface == name
                    && other.prefix_length == prefix_length
                    && ip.is_ipv4()
                    && network(other.ip, prefix_length) == network(ip, prefix_length)
            }),
            temporary: flags & TEMPORARY != 0,
            deprecated: flags & (DEPRECATED | DAD_FAILED | TENTATIVE) != 0,
            bridge: Path::new("/sys/class/net")
                .join(name)
                .join("bridge")
                .is_dir(),
            default_route: routes.get(name).copied(),
            interface: name.to_owned(),
            ip,
            prefix_length,
        });
    }
    Ok(addresses)
}

fn usable_address(entry: &ifaddrs::InterfaceAddress) -> Option<(IpAddr, u32)> {
    if entry.flags.contains(InterfaceFlags::IFF_LOOPBACK) {
        return None;
    }
    let (address, mask) = (entry.address?, entry.netmask);
    if let Some(v4) = address.as_sockaddr_in() {
        let mask = mask.and_then(|mask| mask.as_sockaddr_in().map(|mask| mask.ip()));
        let bits = mask.unwrap_or(Ipv4Addr::BROADCAST).to_bits().count_ones();
        return (!v4.ip().is_link_local()).then_some((v4.ip().into(), bits));
    }
    let ip = address.as_sockaddr_in6()?.ip();
    let mask = mask.and_then(|mask| mask.as_sockaddr_in6().map(|mask| mask.ip()));
    let bits = mask.map_or(128, |mask| mask.to_bits().count_ones());
    (!ip.is_unicast_link_local()).then_some((ip.into(), bits))
}

/// The first bits of an address.
fn network(ip: IpAddr, prefix_length: u32) -> Option<u128> {
    let (bits, length) = match ip {
        IpAddr::V4(ip) => (u128::from(ip.to_bits()), 32),
        IpAddr::V6(ip) => (ip.to_bits(), 128),
    };
    bits.checked_shr(length - prefix_length.min(length))
}

/// A file of `/proc/net`; empty if there is none, as without IPv6.
fn read_proc(name: &str) -> String {
    let mut text = Vec::new();
    if let Ok(file) = File::open(Path::new("/proc/net").join(name)) {
        // What is cut off or unreadable only makes the order of the addresses worse.
        let _ = file.take(MAX_FILE_BYTES).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The flags of the addresses in `if_inet6`: address, index, prefix length, scope, flags, name.
fn parse_inet6(text: &str) -> BTreeMap<IpAddr, u32> {
    let parse = |line: &str| {
        let parts: Vec<&str> = line.split_whitespace().collect();
        let ip = u128::from_str_radix(parts.first()?, 16).ok()?;
        let flags = u32::from_str_radix(parts.get(4)?, 16).ok()?;
        Some((Ipv6Addr::from_bits(ip).into(), flags))
    };
    text.lines().filter_map(parse).collect()
}

/// The best metric of each interface that has a default route.
fn default_routes(
    text: &str,
    parse: impl Fn(&[&str]) -> Option<(String, u32)>,
) -> BTreeMap<String, u32> {
    let mut routes = BTreeMap::new();
    for line in text.lines() {
        let parts: Vec<&str> = line.split_whitespace().collect();
        if let Some((interface, metric)) = parse(&parts) {
            let best = routes.entry(interface).or_insert(metric);
            *best = metric.min(*best);
        }
    }
    routes
}

/// A default route in `route`: interface, destination, gateway, flags, …, metric (6), mask.
fn parse_route(parts: &[&str]) -> Option<(String, u32)> {
    let flags = u32::from_str_radix(parts.get(3)?, 16).ok()?;
    let is_default = *parts.get(1)? == "00000000" && *parts.get(7)? == "00000000";
    let metric = parts.get(6)?.parse().ok()?;
    (is_default && is_usable(flags)).then(|| (parts[0].to_owned(), metric))
}

/// A default route in `ipv6_route`: destination, its prefix length, …, metric (5), …, flags (8), interface.
fn parse_route6(parts: &[&str]) -> Option<(String, u32)> {
    let flags = u32::from_str_radix(parts.get(8)?, 16).ok()?;
    let is_any = parts.first()?.bytes().all(|byte| byte == b'0') && parts.get(1) == Some(&"00");
    let metric = u32::from_str_radix(parts.get(5)?, 16).ok()?;
    (is_any && is_usable(flags)).then(|| Some((parts.get(9)?.to_string(), metric)))?
}

fn is_usable(flags: u32) -> bool {
    flags & ROUTE_UP != 0 && flags & ROUTE_REJECT == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_routes_are_read_with_their_metrics() {
        let routes = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth1\t00000000\t0101A8C0\t0003\t0\t0\t200\t00000000\t0\t0\t0\n\
            eth0\t00000000\t0101000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
            eth0\t00000000\t0201000A\t0003\t0\t0\t50\t00000000\t0\t0\t0\n\
            docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        let found = default_routes(routes, parse_route);
        let expected = [("eth0".to_owned(), 50), ("eth1".to_owned(), 200)];
        assert_eq!(found, expected.into());
        let zero = "0".repeat(32);
        let routes = format!(
            "{zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00450003     eth0\n\
             {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n\
             fe80000000000000 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001     eth1\n"
        );
        let found = default_routes(&routes, parse_route6);
        assert_eq!(found, [("eth0".to_owned(), 0x400)].into());
    }

    #[test]
    fn flags_of_ipv6_addresses_are_read() {
        let flags = parse_inet6(
            "20010db8000000000000000000000007 02 40 00 80     eth0\n\
             20010db80000000000000000000000aa 02 40 00 21     eth0\nbroken\n",
        );
        assert_eq!(flags[&"2001:db8::7".parse().unwrap()], 0x80);
        let gone = flags[&"2001:db8::aa".parse().unwrap()];
        assert!(gone & TEMPORARY != 0 && gone & DEPRECATED != 0);
        assert_eq!(flags.len(), 2);
    }
}
