//! The answers of EC2's Query API, typed.
//!
//! The parser skips every element that is not named here, at any depth, without keeping it, and resolves no entities
//! but XML's own five: the memory that an answer costs is a multiple of its length, which the HTTP client limits.

use std::net::{Ipv4Addr, Ipv6Addr};

use quick_xml::events::Event;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::super::error::Refusal;
use super::super::{
    AllocationId, ElasticIp, Instance, InstanceId, InstanceState, Interface, InterfaceId,
};

/// Most tags of an instance: EC2 allows fifty, besides those of AWS itself.
const MAX_TAGS: usize = 100;

/// Longest text of an error, in characters.
const MAX_MESSAGE: usize = 500;

/// A list, whose entries are all named `item`.
#[derive(Deserialize)]
struct List<T> {
    #[serde(rename = "item", default = "Vec::new")]
    items: Vec<T>,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        List { items: Vec::new() }
    }
}

/// What an answer has instead of what EC2 documents.
pub(super) type InvalidAnswer = String;

/// Reads the answer to a call. Its outermost element names the call: without it, a page of a proxy would pass for an empty
/// list.
fn parse<T: DeserializeOwned>(action: &str, xml: &str) -> Result<T, InvalidAnswer> {
    let root = root_name(xml);
    if root
        .as_deref()
        .and_then(|root| root.strip_suffix("Response"))
        != Some(action)
    {
        return Err(match root {
            Some(root) => format!("`{}`", truncate(&root, 60)),
            None => "no XML".to_owned(),
        });
    }
    deserialize(xml)
}

fn deserialize<T: DeserializeOwned>(xml: &str) -> Result<T, InvalidAnswer> {
    let invalid = |error: quick_xml::DeError| truncate(&error.to_string(), 200);
    quick_xml::de::from_str(xml).map_err(invalid)
}

/// The name of the outermost element.
fn root_name(xml: &str) -> Option<String> {
    let mut reader = quick_xml::Reader::from_str(xml);
    loop {
        match reader.read_event().ok()? {
            Event::Start(root) | Event::Empty(root) => {
                return Some(root.name().as_ref().to_owned());
            }
            Event::Eof => return None,
            _ => {}
        }
    }
}

/// The beginning of a text, in one line: it becomes a part of a message.
fn truncate(text: &str, chars: usize) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(chars).map(printable).collect()
}

/// A value, if it is neither absent nor empty.
fn optional<T: std::str::FromStr>(
    name: &str,
    value: Option<String>,
) -> Result<Option<T>, InvalidAnswer> {
    value
        .filter(|value| !value.is_empty())
        .map(|value| required(name, Some(value)))
        .transpose()
}

fn required<T: std::str::FromStr>(name: &str, value: Option<String>) -> Result<T, InvalidAnswer> {
    let value = value.unwrap_or_default();
    value
        .parse()
        .map_err(|_| format!("`{}` as {name}", truncate(&value, 60)))
}

/// A page of instances.
pub(super) struct InstancePage {
    pub instances: Vec<Instance>,
    pub next: Option<String>,
}

pub(super) fn parse_instances(xml: &str) -> Result<InstancePage, InvalidAnswer> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Page {
        #[serde(default)]
        reservation_set: List<Reservation>,
        next_token: Option<String>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Reservation {
        #[serde(default)]
        instances_set: List<InstanceItem>,
    }
    let page: Page = parse("DescribeInstances", xml)?;
    let items = page.reservation_set.items.into_iter();
    let instances = items.flat_map(|reservation| reservation.instances_set.items);
    Ok(InstancePage {
        instances: instances
            .map(InstanceItem::read)
            .collect::<Result<_, _>>()?,
        next: page.next_token.filter(|token| !token.is_empty()),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InstanceItem {
    instance_id: Option<String>,
    instance_state: Option<StateItem>,
    private_ip_address: Option<String>,
    ip_address: Option<String>,
    ipv6_address: Option<String>,
    placement: Option<Placement>,
    #[serde(default)]
    tag_set: List<Tag>,
}

#[derive(Deserialize)]
struct StateItem {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Placement {
    #[serde(default)]
    availability_zone: String,
}

#[derive(Deserialize)]
struct Tag {
    #[serde(default)]
    key: String,
    #[serde(default)]
    value: String,
}

impl InstanceItem {
    fn read(self) -> Result<Instance, InvalidAnswer> {
        let state = self.instance_state.map(|state| state.name);
        if self.tag_set.items.len() > MAX_TAGS {
            return Err(format!("more than {MAX_TAGS} tags of an instance"));
        }
        Ok(Instance {
            id: required::<InstanceId>("the id of an instance", self.instance_id)?,
            state: match state.as_deref() {
                Some("pending") => InstanceState::Pending,
                Some("running") => InstanceState::Running,
                Some("shutting-down") => InstanceState::ShuttingDown,
                Some("terminated") => InstanceState::Terminated,
                Some("stopping") => InstanceState::Stopping,
                Some("stopped") => InstanceState::Stopped,
                _ => InstanceState::Other,
            },
            private_address: optional::<Ipv4Addr>("a private address", self.private_ip_address)?,
            public_address: optional::<Ipv4Addr>("a public address", self.ip_address)?,
            ipv6_address: optional::<Ipv6Addr>("an IPv6 address", self.ipv6_address)?,
            zone: self
                .placement
                .unwrap_or(Placement {
                    availability_zone: String::new(),
                })
                .availability_zone,
            tags: self
                .tag_set
                .items
                .into_iter()
                .map(|tag| (tag.key, tag.value))
                .collect(),
        })
    }
}

pub(super) fn parse_addresses(xml: &str) -> Result<Vec<ElasticIp>, InvalidAnswer> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Addresses {
        #[serde(default)]
        addresses_set: List<Address>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Address {
        allocation_id: Option<String>,
        public_ip: Option<String>,
        network_interface_id: Option<String>,
        instance_id: Option<String>,
        private_ip_address: Option<String>,
    }
    let found: Addresses = parse("DescribeAddresses", xml)?;
    let read = |item: Address| {
        Ok(ElasticIp {
            allocation: required::<AllocationId>("the id of an allocation", item.allocation_id)?,
            public_address: required("the public address", item.public_ip)?,
            interface: optional("a network interface", item.network_interface_id)?,
            instance: optional("an instance", item.instance_id)?,
            private_address: optional("a private address", item.private_ip_address)?,
        })
    };
    found.addresses_set.items.into_iter().map(read).collect()
}

pub(super) fn parse_interfaces(xml: &str) -> Result<Vec<Interface>, InvalidAnswer> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Interfaces {
        #[serde(default)]
        network_interface_set: List<InterfaceItem>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct InterfaceItem {
        network_interface_id: Option<String>,
        #[serde(default)]
        vpc_id: String,
        attachment: Option<Attachment>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Attachment {
        instance_id: Option<String>,
    }
    let found: Interfaces = parse("DescribeNetworkInterfaces", xml)?;
    let read = |item: InterfaceItem| {
        let instance = item
            .attachment
            .and_then(|attachment| attachment.instance_id);
        Ok(Interface {
            id: required::<InterfaceId>(
                "the id of a network interface",
                item.network_interface_id,
            )?,
            instance: optional("an instance", instance)?,
            vpc: item.vpc_id,
        })
    };
    found
        .network_interface_set
        .items
        .into_iter()
        .map(read)
        .collect()
}

/// The error in an answer; one without a code if it is none of EC2's.
pub(super) fn parse_refusal(status: u16, xml: &str) -> Refusal {
    #[derive(Default, Deserialize)]
    struct Response {
        #[serde(rename = "Errors", default)]
        errors: Errors,
        #[serde(rename = "RequestID", default)]
        request_id: String,
    }
    #[derive(Default, Deserialize)]
    struct Errors {
        #[serde(rename = "Error", default)]
        errors: Vec<ErrorItem>,
    }
    #[derive(Default, Deserialize)]
    struct ErrorItem {
        #[serde(rename = "Code", default)]
        code: String,
        #[serde(rename = "Message", default)]
        message: String,
    }
    let response: Response = deserialize(xml).unwrap_or_default();
    let error = response
        .errors
        .errors
        .into_iter()
        .next()
        .unwrap_or_default();
    Refusal {
        status,
        code: truncate(&error.code, MAX_MESSAGE),
        message: truncate(&error.message, MAX_MESSAGE),
        request_id: truncate(&response.request_id, MAX_MESSAGE),
    }
}

/// Checks the answer to a change. `return` is not in all of them.
pub(super) fn parse_change(action: &str, xml: &str) -> Result<(), InvalidAnswer> {
    #[derive(Deserialize)]
    struct Change {
        #[serde(rename = "return")]
        value: Option<String>,
    }
    match parse::<Change>(action, xml)?.value.as_deref() {
        None | Some("true") => Ok(()),
        Some(value) => Err(format!("`{}` instead of `true`", truncate(value, 60))),
    }
}
