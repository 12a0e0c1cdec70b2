//! The record of a node, `nodes/<environment>/<node>.json`: format, limits and validation.
//!
//! Fields may be added without a new version; a reader ignores fields that it does not know. Anyone with
//! write access to the store can write a record, so it is untrusted: every field has a restrictive type or is
//! validated, and one bad field makes the whole record invalid.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::sanitize_line;
use crate::desired::{POLICY_APP, Sha};
use crate::exit::Exit;
use crate::printable::without_numbers;
use crate::settings::{is_name, non_host_reason};

/// Format version.
pub(crate) const VERSION: u32 = 1;

/// Maximum size of a record, in bytes: ten times that of a host with a dozen apps. The cache of ten thousand
/// such records must stay readable ([`super::RecordCache`]).
pub(crate) const MAX_RECORD: usize = 16 << 10;

/// Maximum number of roles, tags, addresses, ports or apps, each.
const MAX_ITEMS: usize = 200;

/// Longest public key, in bytes: an RSA key of 4096 bits has 730.
const MAX_RECIPIENT: usize = 1024;

/// Maximum interval of heartbeats, in seconds: that of the settings. Whoever multiplies a longer one may overflow.
const MAX_HEARTBEAT_S: u64 = 999_999 * 3600;

/// What a node publishes about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeRecord {
    pub version: u32,
    pub node: String,
    pub environment: String,
    /// Distinguishes machines with the same name; derived from `/etc/machine-id`.
    #[serde(default)]
    pub machine_id: Option<String>,
    /// The version of trueup.
    #[serde(default)]
    pub agent: String,
    #[serde(default)]
    pub roles: Vec<String>,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// The preferred one first.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Port numbers by name.
    #[serde(default)]
    pub ports: BTreeMap<String, u16>,
    #[serde(default)]
    pub apps: BTreeMap<String, AppRecord>,
    /// The generation of the manifest that it last acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    pub last_pass: LastPass,
    /// Whether it may write what rollouts need; `None`: its trueup knows no rollouts, or it asks nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollouts: Option<bool>,
    /// The public key that it decrypts secrets with: that of its ssh host key, or an age key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// It has signers, so it follows the policy bundles of its environment.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub takes_policy: bool,
    /// How often it writes this record at least, in seconds, unless that is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_s: Option<u64>,
}

/// The last pass that changed something in the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastPass {
    /// By the node's own clock.
    pub at: Timestamp,
    pub outcome: Exit,
    /// One line, if it did not end well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AppRecord {
    pub wanted: Option<Sha>,
    pub actual: Option<Sha>,
    pub state: ServingState,
    /// It is on trial after a proven release, so it is not new.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub served: bool,
    /// An operator pinned another release there than the wanted one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
    /// The outcome of the last pass, if not as wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Exit>,
    /// When `current` was last switched, by the node's own clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Why it is not as wanted, one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The state of an app on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ServingState {
    /// Nothing is deployed.
    Absent,
    /// Activated and not proven yet.
    OnTrial,
    /// Its processes run from the release and its health check has answered.
    Serving,
    /// It failed its gate and there was no release to roll back to.
    Bad,
    /// A state that a newer trueup added.
    #[serde(other)]
    Unknown,
}

impl NodeRecord {
    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("plain data is always JSON")
    }

    /// Shortens or drops the reasons so that the record fits [`MAX_RECORD`].
    pub(super) fn fit_to_limit(mut self) -> Result<NodeRecord, String> {
        for why in self.reasons() {
            *why = sanitize_line(why);
        }
        if self.to_json().len() > MAX_RECORD {
            self.last_pass.why = None;
            for app in self.apps.values_mut() {
                app.why = None;
            }
        }
        match self.to_json().len() {
            size if size > MAX_RECORD => Err(record_too_large(size as u64)),
            _ => Ok(self),
        }
    }

    /// How often it writes this record at least, if it says so.
    pub(crate) fn heartbeat(&self) -> Option<Duration> {
        self.heartbeat_s.map(Duration::from_secs)
    }

    fn reasons(&mut self) -> impl Iterator<Item = &mut String> {
        let apps = self.apps.values_mut().filter_map(|app| app.why.as_mut());
        apps.chain(self.last_pass.why.as_mut())
    }

    /// Parses and validates the record of this node. The error is one line.
    pub(crate) fn parse(node: &str, environment: &str, body: &[u8]) -> Result<NodeRecord, String> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        if body.len() > MAX_RECORD {
            return Err(record_too_large(body.len() as u64));
        }
        let wrong =
            |error: serde_json::Error| sanitize_line(&format!("it is not a record: {error}"));
        let head: Head = serde_json::from_slice(body).map_err(wrong)?;
        if head.version != VERSION {
            return Err(format!(
                "it has version {}, and this trueup reads version {VERSION}",
                head.version
            ));
        }
        let mut record: NodeRecord = serde_json::from_slice(body).map_err(wrong)?;
        if record.node != node || record.environment != environment {
            return Err(sanitize_line(&format!(
                "it claims to be of `{}` in `{}`",
                record.node, record.environment
            )));
        }
        for address in &mut record.addresses {
            *address = address.to_canonical();
        }
        record.check()?;
        for why in record.reasons() {
            *why = sanitize_line(why);
        }
        Ok(record)
    }

    /// Validates what the types cannot.
    fn check(&self) -> Result<(), String> {
        let names = self.roles.iter().chain(self.tags.keys());
        let apps = self.apps.keys().filter(|app| *app != POLICY_APP);
        let names = names.chain(self.ports.keys()).chain(apps);
        if let Some(bad) = names.into_iter().find(|name| !is_name(name)) {
            return Err(sanitize_line(&format!("`{bad}` is not a name")));
        }
        let values = self.tags.values().chain([&self.agent]);
        let mut values = values.chain(&self.machine_id);
        if let Some(bad) = values.find(|value| !is_plain_value(value)) {
            return Err(sanitize_line(&format!("`{bad}` is not a valid tag")));
        }
        let bad = self
            .addresses
            .iter()
            .find_map(|ip| Some((ip, non_host_reason(*ip)?)));
        if let Some((bad, why)) = bad {
            return Err(format!("{bad} is not a valid host address: {why}"));
        }
        let is_key = |key: &String| {
            let is_allowed = |c: char| c.is_ascii_alphanumeric() || " +/=-".contains(c);
            key.len() <= MAX_RECIPIENT && key.chars().all(is_allowed)
        };
        if self.recipient.as_ref().is_some_and(|key| !is_key(key)) {
            return Err("its public key is none".into());
        }
        if self.ports.values().any(|port| *port == 0) {
            return Err("0 is not a port".into());
        }
        if let Some(seconds) = self.heartbeat_s.filter(|s| *s > MAX_HEARTBEAT_S) {
            return Err(format!("{seconds} s is no interval of heartbeats"));
        }
        let counts = [self.roles.len(), self.tags.len(), self.addresses.len()];
        let counts = counts
            .into_iter()
            .chain([self.ports.len(), self.apps.len()]);
        match counts.max().filter(|count| *count > MAX_ITEMS) {
            Some(count) => Err(format!(
                "{count} of something: no node has more than {MAX_ITEMS}"
            )),
            None => Ok(()),
        }
    }

    /// Approximate memory, in bytes. A string of two characters takes about 40, so the size of the object
    /// says little about many short strings.
    pub(super) fn memory_size(&self) -> usize {
        let reason = |why: &Option<String>| why.as_ref().map_or(0, String::len);
        size_of::<NodeRecord>()
            + self
                .roles
                .iter()
                .map(|role| STRING_SIZE + role.len())
                .sum::<usize>()
            + map_memory_size(&self.tags, String::len)
            + map_memory_size(&self.ports, |_| 0)
            + map_memory_size(&self.apps, |app| 3 * STRING_SIZE + 128 + reason(&app.why))
            + self.addresses.len() * size_of::<IpAddr>()
            + self.recipient.as_ref().map_or(0, String::len)
            + reason(&self.last_pass.why)
    }

    /// Compares everything but the time of the last pass, the numbers in reasons, and who has the slots that a host waits
    /// for: every waiting host would write its record whenever a slot changes hands.
    pub(crate) fn same_content(&self, other: &NodeRecord) -> bool {
        let comparable = |record: &NodeRecord| {
            let mut record = record.clone();
            record.last_pass.at = self.last_pass.at;
            let whys = record.apps.values_mut().map(|app| &mut app.why);
            for why in whys.chain([&mut record.last_pass.why]) {
                *why = why.as_deref().map(without_holders).map(without_numbers);
            }
            record
        };
        *self == *other || comparable(self) == comparable(other)
    }
}

/// How the reason of a host that waits for a slot begins; who has them follows.
pub(crate) const WAITS_FOR_SLOT: &str = "waits for a slot";

fn without_holders(why: &str) -> &str {
    let end = why.find(WAITS_FOR_SLOT);
    end.map_or(why, |at| &why[..at + WAITS_FOR_SLOT.len()])
}

/// Size of a short string, in bytes: the `String` itself and the allocator's minimum.
pub(super) const STRING_SIZE: usize = 48;

/// Size of a map, in bytes: it has room for 11 entries from the first one on, and the nodes of a larger map
/// that was filled in order are half empty.
pub(super) fn map_memory_size<V>(map: &BTreeMap<String, V>, held: impl Fn(&V) -> usize) -> usize {
    let entry = size_of::<String>() + size_of::<V>();
    let room = match map.len() {
        0 => 0,
        few @ 1..=11 => few.max(11) * entry,
        many => 2 * many * entry,
    };
    let texts = map
        .iter()
        .map(|(key, value)| STRING_SIZE + key.len() + STRING_SIZE + held(value));
    room + texts.sum::<usize>()
}

pub(super) fn record_too_large(bytes: u64) -> String {
    format!("it has {bytes} bytes, and no record has more than {MAX_RECORD}")
}

/// Whether a value has no syntactic meaning in any file that it is rendered into: letters, digits and
/// `. _ : / @ + , = -`.
pub(crate) fn is_plain_value(value: &str) -> bool {
    value.chars().count() <= 128
        && value
            .chars()
            .all(|c| c.is_alphanumeric() || "._:/@+,=-".contains(c))
}
