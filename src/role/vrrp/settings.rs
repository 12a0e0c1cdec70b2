//! The parameter `keepalived`, as an operator writes it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

use crate::balancer::claim::MovingAddress;
use crate::balancer::state::is_instance_name;

/// The name of the only instance, where the settings name none.
const DEFAULT_NAME: &str = "web";

/// VRRPv2 sends no longer ones.
const MAX_PASSWORD_LENGTH: usize = 8;

/// Longest name of a network interface.
const MAX_INTERFACE_LENGTH: usize = 15;

/// What all instances share; and the only one, unless `instances` names several.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PairSettings {
    #[serde(default)]
    instances: BTreeMap<String, InstanceFields>,
    pub priority_tag: Option<String>,
    password: Option<serde_json::Value>,
    // For the template and the role.
    #[serde(default, rename = "tag")]
    _tag: serde_json::Value,
    #[serde(default)]
    global_lines: Vec<String>,
    #[serde(default, rename = "nonlocal_bind")]
    _nonlocal_bind: bool,
    // A flattened struct would lose `deny_unknown_fields`.
    addresses: Option<Vec<String>>,
    router_id: Option<i64>,
    interface: Option<String>,
    preempt: Option<bool>,
    elastic_ip: Option<String>,
    private_ip: Option<String>,
    #[serde(default)]
    lines: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct InstanceFields {
    addresses: Option<Vec<String>>,
    router_id: Option<i64>,
    interface: Option<String>,
    preempt: Option<bool>,
    elastic_ip: Option<String>,
    private_ip: Option<String>,
    #[serde(default)]
    lines: Vec<String>,
}

/// An instance whose values are valid.
#[derive(Debug)]
pub(super) struct InstanceSettings {
    pub name: String,
    /// As addresses, and with the length of the prefix.
    pub addresses: Vec<(IpAddr, String)>,
    pub router_id: u8,
    pub interface: Option<String>,
    pub preempt: Option<bool>,
    /// What the master claims of EC2.
    pub claim: Option<String>,
    pub lines: Vec<String>,
}

impl PairSettings {
    pub(super) fn parse(value: &serde_json::Value) -> Result<PairSettings, String> {
        PairSettings::deserialize(value).map_err(|error| format!("keepalived: {error}"))
    }

    /// The instances by name.
    pub(super) fn instances(mut self) -> Result<Vec<InstanceSettings>, String> {
        check_lines("keepalived.global_lines", &self.global_lines)?;
        let common = InstanceFields {
            addresses: self.addresses.take().filter(|list| !list.is_empty()),
            router_id: self.router_id,
            interface: self.interface.take(),
            preempt: self.preempt,
            elastic_ip: self.elastic_ip.take(),
            private_ip: self.private_ip.take(),
            lines: std::mem::take(&mut self.lines),
        };
        if self.instances.is_empty() {
            let only = InstanceSettings::check(DEFAULT_NAME, "keepalived", common)?;
            return self.check_all(vec![only]);
        }
        let claims = [&common.elastic_ip, &common.private_ip];
        let is_claimed = claims.iter().any(|claim| claim.is_some());
        if common.addresses.is_some() || common.router_id.is_some() || is_claimed {
            return Err("keepalived: `addresses`, `router_id`, `elastic_ip` and `private_ip` belong to one of `instances`, or to all of this if there are none".to_owned());
        }
        let mut all = Vec::new();
        for (name, mut fields) in std::mem::take(&mut self.instances) {
            fields.interface = fields.interface.or_else(|| common.interface.clone());
            fields.preempt = fields.preempt.or(common.preempt);
            fields.lines = [common.lines.clone(), fields.lines].concat();
            let path = format!("keepalived.instances.{name}");
            all.push(InstanceSettings::check(&name, &path, fields)?);
        }
        self.check_all(all)
    }

    fn check_all(self, all: Vec<InstanceSettings>) -> Result<Vec<InstanceSettings>, String> {
        for (at, one) in all.iter().enumerate() {
            for other in &all[..at] {
                if one.ips().any(|ip| other.ips().any(|taken| taken == ip)) {
                    return Err(format!(
                        "keepalived.instances: {} and {} have the same address",
                        other.name, one.name
                    ));
                }
                if let Some(claim) = one.claim.as_ref().filter(|_| one.claim == other.claim) {
                    return Err(format!(
                        "keepalived.instances: {} and {} both claim {claim}: two masters would take it from each other",
                        other.name, one.name
                    ));
                }
                if (one.family(), one.router_id) == (other.family(), other.router_id) {
                    return Err(format!(
                        "keepalived.instances: {} and {} have the same router id, {}: give one of them another `router_id`",
                        other.name, one.name, one.router_id
                    ));
                }
            }
        }
        check_password(self.password.as_ref(), &all)?;
        Ok(all)
    }
}

impl InstanceSettings {
    fn check(name: &str, path: &str, fields: InstanceFields) -> Result<InstanceSettings, String> {
        if !is_instance_name(name) {
            return Err(format!(
                "keepalived.instances: `{}` is not a name: expected at most 64 letters, digits, `-`, `_` or `.`",
                name.escape_default()
            ));
        }
        let addresses = parse_addresses(path, fields.addresses.unwrap_or_default())?;
        check_lines(&format!("{path}.lines"), &fields.lines)?;
        let is_interface = |name: &String| {
            let is_usable = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            (1..=MAX_INTERFACE_LENGTH).contains(&name.len()) && name.chars().all(is_usable)
        };
        if let Some(interface) = fields.interface.as_ref().filter(|name| !is_interface(name)) {
            return Err(format!(
                "{path}.interface: `{}` is not the name of an interface, such as `eth0`",
                interface.escape_default()
            ));
        }
        let claim = claim(path, fields.elastic_ip, fields.private_ip)?;
        Ok(InstanceSettings {
            name: name.to_owned(),
            router_id: router_id(path, fields.router_id, addresses[0].0)?,
            addresses,
            interface: fields.interface,
            preempt: fields.preempt,
            claim,
            lines: fields.lines,
        })
    }

    pub(super) fn ips(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().map(|(ip, _)| *ip)
    }

    /// 4 or 6.
    pub(super) fn family(&self) -> u8 {
        family(self.addresses[0].0)
    }
}

fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 4 } else { 6 }
}

/// Addresses of one family with the lengths of their prefixes; at least one.
fn parse_addresses(path: &str, list: Vec<String>) -> Result<Vec<(IpAddr, String)>, String> {
    const EXPECTED: &str =
        "expected an address and the length of its prefix, such as `10.0.0.5/24`";
    let mut addresses: Vec<(IpAddr, String)> = Vec::new();
    for text in list {
        let refuse = |why: &str| format!("{path}.addresses: `{}` {why}", text.escape_default());
        let (ip, length) = match text.split_once('/') {
            Some((ip, length)) => (ip.parse::<IpAddr>(), length.parse::<u8>()),
            None if text.parse::<IpAddr>().is_ok() => {
                return Err(refuse(&format!("has no prefix: {EXPECTED}")));
            }
            None => return Err(refuse(&format!("is no address: {EXPECTED}"))),
        };
        let (Ok(ip), Ok(length)) = (ip, length) else {
            return Err(refuse(&format!("is no address: {EXPECTED}")));
        };
        let max = if ip.is_ipv4() { 32 } else { 128 };
        if length == 0 || length > max {
            return Err(refuse(&format!("has a prefix that is not from 1 to {max}")));
        }
        if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() {
            return Err(refuse("cannot be the address of a host"));
        }
        if addresses.iter().any(|(other, _)| *other == ip) {
            return Err(refuse("is there twice"));
        }
        if addresses
            .iter()
            .any(|(other, _)| family(*other) != family(ip))
        {
            return Err(refuse(
                "is of another family than the first one: IPv4 and IPv6 are two `instances`",
            ));
        }
        addresses.push((ip, format!("{ip}/{length}")));
    }
    match addresses.is_empty() {
        true => Err(format!("{path}.addresses: {EXPECTED}, found none")),
        false => Ok(addresses),
    }
}

/// The same on all balancers: as given, or the last number of the first address.
fn router_id(path: &str, given: Option<i64>, first: IpAddr) -> Result<u8, String> {
    let last = match first {
        IpAddr::V4(ip) => i64::from(ip.octets()[3]),
        IpAddr::V6(ip) => i64::from(ip.segments()[7]),
    };
    let number = given.unwrap_or(last);
    match u8::try_from(number) {
        Ok(id) if id > 0 => Ok(id),
        _ if given.is_some() => Err(format!(
            "{path}.router_id: expected a number from 1 to 255, found {number}"
        )),
        _ => Err(format!(
            "{path}.router_id: {first} does not end in a number from 1 to 255, which would be the default: give one that no other pair on this network has"
        )),
    }
}

/// The address of EC2 that the master claims.
fn claim(
    path: &str,
    elastic_ip: Option<String>,
    private_ip: Option<String>,
) -> Result<Option<String>, String> {
    // As the command that keepalived runs reads it.
    let is_allocation = |id: &String| matches!(id.parse(), Ok(MovingAddress::Elastic(_)));
    if let Some(id) = elastic_ip.as_ref().filter(|id| !is_allocation(id)) {
        return Err(format!(
            "{path}.elastic_ip: `{}` is not the id of an allocation, such as `eipalloc-0a1b2c3d`",
            id.escape_default()
        ));
    }
    let is_address = |text: &String| text.parse::<std::net::Ipv4Addr>().is_ok();
    if let Some(text) = private_ip.as_ref().filter(|text| !is_address(text)) {
        return Err(format!(
            "{path}.private_ip: `{}` is not an IPv4 address, such as `10.0.0.5`",
            text.escape_default()
        ));
    }
    match (elastic_ip, private_ip) {
        (Some(_), Some(_)) => Err(format!(
            "{path}: `elastic_ip` and `private_ip` are two addresses: give each an instance of its own (`instances`)"
        )),
        (elastic_ip, private_ip) => Ok(elastic_ip.or(private_ip)),
    }
}

/// Never shows the password.
fn check_password(
    password: Option<&serde_json::Value>,
    all: &[InstanceSettings],
) -> Result<(), String> {
    let refuse = |why: &str| Err(format!("keepalived.password: {why}"));
    let text = match password {
        None => return Ok(()),
        Some(value) => value.as_str().unwrap_or_default(),
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.+=/:,".contains(c);
    if text.is_empty() || !text.chars().all(is_plain) {
        return refuse("expected a text of letters, digits and `-_.+=/:,`");
    }
    if text.len() > MAX_PASSWORD_LENGTH {
        return refuse(&format!(
            "expected at most {MAX_PASSWORD_LENGTH} characters: VRRP sends no more, and others would believe a shorter one"
        ));
    }
    match all.iter().any(|instance| instance.family() == 4) {
        true => Ok(()),
        false => refuse("VRRP has none for IPv6, and there is no instance with IPv4 addresses"),
    }
}

fn check_lines(path: &str, lines: &[String]) -> Result<(), String> {
    if lines.iter().any(|line| line.chars().any(char::is_control)) {
        return Err(format!("{path}: expected one line in each entry"));
    }
    let count = |bracket| lines.concat().matches(bracket).count();
    match count('{') == count('}') {
        true => Ok(()),
        false => Err(format!("{path}: expected a `}}` for each `{{`")),
    }
}
