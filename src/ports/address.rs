//! Validates addresses that other hosts connect to.
//!
//! A node record tells peers the address of a host, and a load balancer sends visitors there. The author of a
//! record could name an address that means something else on each host: loopback, or the metadata service
//! from which a cloud gives a machine's credentials to every process on it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Networks that contain no reachable host, with prefix length.
const NON_HOST_NETWORKS_V4: &[(Ipv4Addr, u32, &str)] = &[
    (
        Ipv4Addr::new(0, 0, 0, 0),
        8,
        "it is the unspecified address",
    ),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "it is loopback"),
    (
        Ipv4Addr::new(169, 254, 0, 0),
        16,
        "it is link-local, where most clouds have their metadata service",
    ),
    (
        Ipv4Addr::new(192, 0, 0, 0),
        24,
        "it is reserved for protocols, and Oracle's metadata service",
    ),
    (
        Ipv4Addr::new(100, 100, 100, 200),
        32,
        "it is Alibaba's metadata service",
    ),
    (
        Ipv4Addr::new(168, 63, 129, 16),
        32,
        "it is Azure's wire server",
    ),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "it is a 6to4 relay"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "it is multicast"),
    (
        Ipv4Addr::new(240, 0, 0, 0),
        4,
        "it is reserved, or broadcast",
    ),
];

const NON_HOST_NETWORKS_V6: &[(Ipv6Addr, u32, &str)] = &[
    (
        Ipv6Addr::UNSPECIFIED,
        96,
        "it is unspecified, loopback, or an IPv4 address in an older spelling",
    ),
    (
        Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0),
        96,
        "it is an IPv4-translated address",
    ),
    (
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0),
        96,
        "it is an IPv4-translated address (NAT64)",
    ),
    (
        Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0),
        48,
        "it is an IPv4-translated address (NAT64)",
    ),
    (
        Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0),
        64,
        "it is the discard-only prefix",
    ),
    (
        Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0),
        32,
        "it is a tunnel to an IPv4 address (Teredo)",
    ),
    (
        Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0),
        32,
        "it is AWS's metadata service",
    ),
    (
        Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0),
        32,
        "it is Google's metadata service",
    ),
    (
        Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0, 0),
        32,
        "it is Oracle's metadata service",
    ),
    (
        Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0),
        32,
        "it is Scaleway's metadata service",
    ),
    (
        Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 0),
        48,
        "it is Akamai's metadata service",
    ),
    (
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0),
        10,
        "it is link-local",
    ),
    (
        Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0),
        10,
        "it is site-local",
    ),
    (
        Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0),
        8,
        "it is multicast",
    ),
];

/// The reason why other hosts cannot reach a host at this address. `None`: they can.
pub(crate) fn non_host_reason(ip: IpAddr) -> Option<&'static str> {
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            let bits = v4.to_bits();
            let inside = |net: &Ipv4Addr, prefix: u32| (net.to_bits() ^ bits) >> (32 - prefix) == 0;
            let found = NON_HOST_NETWORKS_V4
                .iter()
                .find(|(net, at, _)| inside(net, *at));
            found.map(|(_, _, why)| *why)
        }
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            let inside =
                |net: &Ipv6Addr, prefix: u32| (net.to_bits() ^ bits) >> (128 - prefix) == 0;
            let found = NON_HOST_NETWORKS_V6
                .iter()
                .find(|(net, at, _)| inside(net, *at));
            let found = found.map(|(_, _, why)| *why);
            found.or_else(|| embedded_ipv4(v6).and_then(|v4| non_host_reason(v4.into())))
        }
    }
}

/// The reason why an address is one of a private network. `None`: it is public, or [`non_host_reason`] says what it is.
pub(crate) fn private_reason(ip: IpAddr) -> Option<&'static str> {
    let is_private = match ip.to_canonical() {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            // RFC 6598, for carriers' own networks.
            v4.is_private() || first == 100 && second & 0xc0 == 64
        }
        IpAddr::V6(v6) => {
            let embedded = embedded_ipv4(v6).and_then(|v4| private_reason(v4.into()));
            v6.is_unique_local() || embedded.is_some()
        }
    };
    is_private.then_some("it is of a private network")
}

/// The IPv4 address to which a host sends packets for this one without a translator on the path: 6to4 embeds
/// it after 2002, ISATAP at the end.
fn embedded_ipv4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = v6.to_bits();
    match v6.segments() {
        [0x2002, ..] => Some(Ipv4Addr::from_bits((bits >> 80) as u32)),
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => Some(Ipv4Addr::from_bits(bits as u32)),
        _ => None,
    }
}

/// Whether other hosts can reach a host at this address.
pub(crate) fn is_host_address(ip: IpAddr) -> bool {
    non_host_reason(ip).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_service_addresses_are_rejected() {
        for (ip, why) in [
            ("169.254.169.254", "link-local"),
            ("100.100.100.200", "Alibaba"),
            ("168.63.129.16", "Azure"),
            ("192.0.0.192", "Oracle"),
            ("fd00:ec2::254", "AWS"),
            ("fd20:ce::254", "Google"),
            ("fd00:c1::a9fe:a9fe", "Oracle"),
            ("fd00:42::42", "Scaleway"),
            ("fd00:a9fe:a9fe::1", "Akamai"),
            ("fe80::a9fe:a9fe", "link-local"),
            ("64:ff9b::169.254.169.254", "NAT64"),
            ("64:ff9b::a9fe:a9fe", "NAT64"),
            ("64:ff9b:1::a9fe:a9fe", "NAT64"),
            ("2002:a9fe:a9fe::1", "link-local"),
            ("2002:6464:64c8::", "Alibaba"),
            ("2001:db8::5efe:169.254.169.254", "link-local"),
            ("2001:db8::200:5efe:169.254.169.254", "link-local"),
            ("::ffff:169.254.169.254", "link-local"),
            ("::ffff:0:169.254.169.254", "translated"),
            ("::169.254.169.254", "older spelling"),
        ] {
            let found =
                non_host_reason(ip.parse().unwrap()).unwrap_or_else(|| panic!("{ip} is taken"));
            assert!(found.contains(why), "{ip}: {found}");
        }
    }

    #[test]
    fn loopback_multicast_and_reserved_addresses_are_rejected() {
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.255.255.254",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "2002:7f00::",
            "2002:7f00:1::1",
            "2002:0:1::",
            "2002:e000:1::",
            "2001::1",
            "100::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "::7f00:1",
        ] {
            assert!(!is_host_address(ip.parse().unwrap()), "{ip} is taken");
        }
    }

    #[test]
    fn host_addresses_are_accepted() {
        for ip in [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "100.100.100.201",
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.9",
            "8.8.8.8",
            "223.255.255.254",
            "168.63.129.17",
            "2001:db8::7",
            "2a01:4f8::1",
            "fd00::1",
            "fd12:3456::1",
            "fd00:ec3::254",
            "2002:a00:1::1",
            "::ffff:10.0.0.7",
        ] {
            assert_eq!(non_host_reason(ip.parse().unwrap()), None, "{ip}");
        }
    }
}
