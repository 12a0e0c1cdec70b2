//! The answers of EC2's Query API, typed.
//!
//! The parser skips every element that is not named here, at any depth, without keeping it, and resolves no entities
//! but XML's own five: the memory that an answer costs is a multiple of its length, which the HTTP client limits.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::super::error::Refusal;
use super::super::{
    AllocationId, ElasticIp, Instance, InstanceId, InstanceState, Interface, InterfaceId,
};

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

/// Reads XML of the expected form.
fn parse<T: DeserializeOwned>(xml: &str) -> Result<T, InvalidAnswer> {
    quick_xml::de::from_str(xml).map_err(|error| error.to_string().chars().take(200).collect())
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
    value.parse().map_err(|_| {
        let start: String = value.chars().take(60).collect();
        format!("`{start}` as {name}")
    })
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
    let page: Page = parse(xml)?;
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
    let found: Addresses = parse(xml)?;
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
    let found: Interfaces = parse(xml)?;
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
    let response: Response = parse(xml).unwrap_or_default();
    let error = response
        .errors
        .errors
        .into_iter()
        .next()
        .unwrap_or_default();
    let truncate = |text: String| text.chars().take(MAX_MESSAGE).collect();
    Refusal {
        status,
        code: truncate(error.code),
        message: truncate(error.message),
        request_id: truncate(response.request_id),
    }
}

/// Whether the answer to a change says that it was made.
pub(super) fn parse_return(xml: &str) -> Result<(), InvalidAnswer> {
    #[derive(Deserialize)]
    struct Change {
        #[serde(rename = "return", default)]
        value: String,
    }
    match parse::<Change>(xml)?.value.as_str() {
        "true" => Ok(()),
        value => Err(format!(
            "`{}` instead of `true`",
            value.chars().take(60).collect::<String>()
        )),
    }
}
