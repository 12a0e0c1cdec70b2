//! A node as templates see it, and how they ask for some.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::record::{STRING_SIZE, map_memory_size};
use super::{AppRecord, AppState, Record};
use crate::settings::StaticNode;

/// A node as templates see it. Nothing in it changes by itself, so a file that shows it does not either.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Peer {
    pub name: String,
    /// The best of its addresses.
    pub address: IpAddr,
    pub addresses: Vec<IpAddr>,
    pub ports: BTreeMap<String, u16>,
    pub tags: BTreeMap<String, String>,
    pub roles: Vec<String>,
    /// The apps that it serves.
    pub apps: Vec<String>,
}

impl Peer {
    /// The node of a record, once it is of use to others: a host that runs apps has to serve one. One
    /// that did before the release that is on trial stays: whether it serves now, a health check tells.
    pub fn from_record(record: &Record) -> Option<Peer> {
        let serves = |app: &AppRecord| match app.state {
            AppState::Serving => true,
            AppState::OnTrial => app.served,
            AppState::Absent | AppState::Bad | AppState::Unknown => false,
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

    /// The same without addresses of the host that asks, which no other host has: visitors that a balancer
    /// sent there would come around without end. And what to say about it, if it named one.
    pub(super) fn without_addresses(mut self, own: &[IpAddr]) -> (Option<Peer>, Option<String>) {
        let Some(mine) = self.addresses.iter().find(|ip| own.contains(ip)).copied() else {
            return (Some(self), None);
        };
        self.addresses.retain(|ip| !own.contains(ip));
        let left = self.addresses.first().copied();
        let then = match left {
            Some(_) => "only its others are taken",
            None => "it is not listed",
        };
        let said = format!(
            "the record of {} names {mine}, which is an address of this host: {then}",
            self.name
        );
        let peer = left.map(|address| Peer { address, ..self });
        (peer, Some(said))
    }

    /// About how many bytes it takes in memory: as a record does, and never less than it takes in a file.
    pub(super) fn memory_size(&self) -> usize {
        const ADDRESS: usize = 48;
        let texts = self.roles.iter().chain(&self.apps).chain([&self.name]);
        size_of::<Peer>()
            + ADDRESS * (1 + self.addresses.len())
            + texts.map(|text| STRING_SIZE + text.len()).sum::<usize>()
            + map_memory_size(&self.tags, String::len)
            + map_memory_size(&self.ports, |_| 0)
    }

    /// A node of the settings.
    pub fn from_settings(name: &str, node: &StaticNode) -> Option<Peer> {
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

/// Which nodes are asked for; what is not said does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    pub role: Option<String>,
    /// `key=value`, or `key` whatever its value; all of them.
    pub tags: Vec<String>,
    /// An app that they serve.
    pub app: Option<String>,
    /// The name of a port that they have.
    pub port: Option<String>,
}

impl Query {
    /// As it may be written in a template; the same for the same question.
    pub fn to_expression(&self) -> String {
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

    pub fn matches(&self, peer: &Peer) -> bool {
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
