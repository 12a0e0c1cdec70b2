//! Settings of the fleet: what a node publishes to its peers, and when it accepts a peer list.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;

use super::ec2::{self, Ec2Group};
use super::name::{invalid_name, is_name};
use super::non_host_reason;
use crate::ports::ec2::Ec2Settings;
use crate::problem::Problem;
use crate::yaml::{Node, Seconds};

/// As written.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct FleetSettings {
    /// `false`: this host writes no record of itself; for read-only credentials.
    #[serde(default = "default_publish")]
    pub publish: bool,
    /// Interval at which an unchanged record is written again; `5m` when not given.
    pub heartbeat: Option<Seconds>,
    /// A node that has not written its record for so long counts as gone; `1h` when not given.
    pub gone_after: Option<Seconds>,
    /// Refuse a list of `nodes(…)` that is smaller than the last good one by more than so many percent.
    #[serde(default = "default_max_shrink")]
    pub max_shrink: u8,
    /// Addresses for peers, the best first; those found on the host when not given.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub addresses: Vec<IpAddr>,
    /// Ports for peers, by name, over those of its roles, such as `{http: 8080}`.
    #[serde(default)]
    pub ports: BTreeMap<String, u16>,
    /// Nodes without an agent, which `nodes(…)` lists as well, by name.
    #[serde(default, rename = "static")]
    pub static_nodes: BTreeMap<String, StaticNode>,
    /// Instances of EC2, found by their tags, which `nodes(…)` lists as well: one group, or a list of groups.
    #[serde(default, deserialize_with = "ec2::deserialize_groups")]
    #[cfg_attr(test, schemars(with = "Vec<Ec2Group>"))]
    pub ec2: Vec<Ec2Group>,
}

/// A node that does not run the agent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct StaticNode {
    /// Its addresses, the best first.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub addresses: Vec<IpAddr>,
    /// Its ports, by name.
    #[serde(default)]
    pub ports: BTreeMap<String, u16>,
    /// Its tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Its roles.
    #[serde(default)]
    pub roles: Vec<String>,
    /// The apps that it serves.
    #[serde(default)]
    pub apps: Vec<String>,
}

fn default_publish() -> bool {
    true
}

fn default_max_shrink() -> u8 {
    50
}

impl Default for FleetSettings {
    fn default() -> FleetSettings {
        FleetSettings {
            publish: true,
            heartbeat: None,
            gone_after: None,
            max_shrink: default_max_shrink(),
            addresses: Vec::new(),
            ports: BTreeMap::new(),
            static_nodes: BTreeMap::new(),
            ec2: Vec::new(),
        }
    }
}

impl FleetSettings {
    /// Groups of instances that name no region or endpoint have those of `ec2`.
    pub(super) fn with_ec2(mut self, ec2: &Ec2Settings) -> FleetSettings {
        for group in &mut self.ec2 {
            group.region = group.region.take().or_else(|| ec2.region.clone());
            group.endpoint = group.endpoint.take().or_else(|| ec2.endpoint.clone());
        }
        self
    }

    pub(crate) fn heartbeat(&self) -> Duration {
        self.heartbeat.map_or(Duration::from_secs(300), |s| s.0)
    }

    pub(crate) fn gone_after(&self) -> Duration {
        self.gone_after.map_or(Duration::from_secs(3600), |s| s.0)
    }

    /// Validates what the types cannot. `tree` is all settings.
    pub(super) fn validate(&self, tree: &Node) -> Vec<Problem> {
        let mut problems = FleetProblems {
            tree,
            found: Vec::new(),
        };
        self.validate_intervals(&mut problems);
        self.validate_published(&mut problems);
        self.validate_static_nodes(&mut problems);
        for (field, message) in ec2::validate(&self.ec2) {
            problems.add(&["ec2", field], message);
        }
        problems.found
    }

    fn validate_intervals(&self, problems: &mut FleetProblems<'_>) {
        if self.max_shrink > 100 {
            let message = format!(
                "`{}` is not a percentage: expected 0 to 100",
                self.max_shrink
            );
            problems.add(&["max_shrink"], message);
        }
        if self.gone_after() < 2 * self.heartbeat() {
            let message =
                "expected at least twice the `heartbeat`, or a live host would count as gone";
            problems.add(&["gone_after"], message.into());
        }
    }

    fn validate_published(&self, problems: &mut FleetProblems<'_>) {
        let invalid = self
            .addresses
            .iter()
            .find_map(|ip| Some((ip, non_host_reason(*ip)?)));
        if let Some((ip, why)) = invalid {
            let message = format!(
                "{ip} is not an address at which another host finds this one: {why}; expected none that is loopback, link-local, multicast or unspecified"
            );
            problems.add(&["addresses"], message);
        }
        if let Some(message) = name_error(self.ports.keys()) {
            problems.add(&["ports"], message);
        }
        if self.ports.values().any(|port| *port == 0) {
            problems.add(&["ports"], "0 is not a port".into());
        }
    }

    fn validate_static_nodes(&self, problems: &mut FleetProblems<'_>) {
        if let Some(message) = name_error(self.static_nodes.keys()) {
            problems.add(&["static"], message);
        }
        for (name, node) in &self.static_nodes {
            let names = node.ports.keys().chain(&node.roles).chain(&node.apps);
            if let Some(message) = name_error(names) {
                problems.add(&["static", name], message);
            }
            if node.addresses.is_empty() {
                problems.add(
                    &["static", name, "addresses"],
                    "expected at least one address".into(),
                );
            }
        }
    }
}

/// Problems found in the settings of the fleet, at their locations.
struct FleetProblems<'t> {
    /// All settings.
    tree: &'t Node,
    found: Vec<Problem>,
}

impl FleetProblems<'_> {
    /// `path` is below `fleet`.
    fn add(&mut self, path: &[&str], message: String) {
        let mut field = vec!["fleet"];
        field.extend(path);
        let mut node = self.tree;
        for part in &field {
            node = node.get(part).unwrap_or(node);
        }
        let problem = Problem::new(message).at(&node.at);
        self.found.push(problem.field(field.join(".")));
    }
}

fn name_error<'a>(mut names: impl Iterator<Item = &'a String>) -> Option<String> {
    names
        .find(|name| !is_name(name))
        .map(|name| invalid_name(name))
}
