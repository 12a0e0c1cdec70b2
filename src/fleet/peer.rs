//! A node as templates see it, and the queries that select nodes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::record::{STRING_SIZE, map_memory_size};
use super::{AppRecord, NodeRecord, ServingState};
use crate::settings::StaticNode;

/// A node as templates see it. No field changes by itself, so a file rendered from it stays the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Peer {
    pub name: String,
    /// The preferred address.
    pub address: IpAddr,
    pub addresses: Vec<IpAddr>,
    pub ports: BTreeMap<String, u16>,
    pub tags: BTreeMap<String, String>,
    pub roles: Vec<String>,
    /// The apps that it serves.
    pub apps: Vec<String>,
}

impl Peer {
    /// The peer of a record, if it is usable: a host with apps must serve at least one. A host that served
    /// before the release now on trial stays listed; a health check decides whether it serves now.
    pub(crate) fn from_record(record: &NodeRecord) -> Option<Peer> {
        let serves = |app: &AppRecord| match app.state {
            ServingState::Serving => true,
            ServingState::OnTrial => app.served,
            ServingState::Absent | ServingState::Bad | ServingState::Unknown => false,
        };
        let serving = record.apps.iter().filter(|(_, app)| serves(app));
        let apps: Vec<String> = serving.map(|(name, _)| name.clone()).collect();
        if apps.is_empty() && !record.apps.is_empty() {
            return None;
        }
        Some(Peer {
            name: record.node.clone(),
            address: *record.addresses.first()?,
            addresses: record.addresses.clone(),
            ports: record.ports.clone(),
            tags: record.tags.clone(),
            roles: record.roles.clone(),
            apps,
        })
    }

    /// Removes the addresses of this host, which no other host has: a load balancer that used one would proxy
    /// requests back to itself in a loop. Also returns a message if the record named such an address.
    pub(super) fn without_addresses(mut self, own: &[IpAddr]) -> (Option<Peer>, Option<String>) {
        let Some(own_address) = self.addresses.iter().find(|ip| own.contains(ip)).copied() else {
            return (Some(self), None);
        };
        self.addresses.retain(|ip| !own.contains(ip));
        let remaining = self.addresses.first().copied();
        let consequence = match remaining {
            Some(_) => "only its other addresses are used",
            None => "it is not listed",
        };
        let problem = format!(
            "the record of {} names {own_address}, which is an address of this host: {consequence}",
            self.name
        );
        let peer = remaining.map(|address| Peer { address, ..self });
        (peer, Some(problem))
    }

    /// Approximate memory, in bytes, counted as for a record; never less than the size in a file.
    pub(super) fn memory_size(&self) -> usize {
        const ADDRESS: usize = 48;
        let texts = self.roles.iter().chain(&self.apps).chain([&self.name]);
        size_of::<Peer>()
            + ADDRESS * (1 + self.addresses.len())
            + texts.map(|text| STRING_SIZE + text.len()).sum::<usize>()
            + map_memory_size(&self.tags, String::len)
            + map_memory_size(&self.ports, |_| 0)
    }

    /// A node that the settings define.
    pub(crate) fn from_settings(name: &str, node: &StaticNode) -> Option<Peer> {
        Some(Peer {
            name: name.to_owned(),
            address: *node.addresses.first()?,
            addresses: node.addresses.clone(),
            ports: node.ports.clone(),
            tags: node.tags.clone(),
            roles: node.roles.clone(),
            apps: node.apps.clone(),
        })
    }
}

/// The criteria of `nodes(…)`; an absent one matches every node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query {
    pub role: Option<String>,
    /// `key=value`, or `key` for any value; a node must match all.
    pub tags: Vec<String>,
    /// An app that the node serves.
    pub app: Option<String>,
    /// The name of a port that the node has.
    pub port: Option<String>,
}

impl Query {
    /// The query in template syntax; equal queries give equal text.
    pub(crate) fn to_expression(&self) -> String {
        let quoted = |name: &str, value: &Option<String>| {
            let value = value.as_ref()?;
            Some(format!("{name}=\"{value}\""))
        };
        let mut tags = self.tags.clone();
        tags.sort();
        tags.dedup();
        let parts = [
            quoted("role", &self.role),
            (!tags.is_empty()).then(|| format!("tag=\"{}\"", tags.join("\", tag=\""))),
            quoted("app", &self.app),
            quoted("port", &self.port),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        format!("nodes({})", parts.join(", "))
    }

    pub(crate) fn matches(&self, peer: &Peer) -> bool {
        let among = |wanted: &Option<String>, all: &[String]| {
            wanted.as_ref().is_none_or(|wanted| all.contains(wanted))
        };
        let tagged = |tag: &String| match tag.split_once('=') {
            Some((key, value)) => peer.tags.get(key).is_some_and(|known| known == value),
            None => peer.tags.contains_key(tag),
        };
        let port = self.port.as_ref();
        among(&self.role, &peer.roles)
            && among(&self.app, &peer.apps)
            && self.tags.iter().all(tagged)
            && port.is_none_or(|port| peer.ports.contains_key(port))
    }
}
