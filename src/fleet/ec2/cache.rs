//! EC2's last answer, between the passes of a minute (`/run/trueup/ec2.json`: in memory, and asked for again after a boot).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::source::{Instance, InstanceState};
use crate::digest::digest;
use crate::ports::root::RootError;
use crate::ports::state::Document;
use crate::ports::{Host, RUN_DIR};
use crate::settings::Ec2Group;

const VERSION: u32 = 1;

/// As many instances as are allowed, with the tags that EC2 allows.
const MAX_FILE: usize = 64 << 20;

const DOCUMENT: Document = Document::new(VERSION, MAX_FILE).compact();

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InstanceCache {
    version: u32,
    /// Digest of the groups that were asked for.
    scope: String,
    /// When EC2 was last asked, and when it last answered; by this host's clock.
    asked_at: Option<Timestamp>,
    answered_at: Option<Timestamp>,
    /// Why the last request had no answer.
    pub failure: Option<String>,
    /// By id.
    pub instances: BTreeMap<String, KnownInstance>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KnownInstance {
    /// With the addresses that it had before it ended.
    pub instance: Instance,
    /// The groups that it belongs to, by their position in the settings.
    pub groups: Vec<usize>,
    /// When this host first heard that it ends, by its own clock.
    ended_at: Option<Timestamp>,
}

impl InstanceCache {
    /// The last answer about these groups.
    pub(super) fn load(host: &Host, groups: &[Ec2Group]) -> InstanceCache {
        let scope = digest(format!("{groups:?}").as_bytes());
        let known: Option<InstanceCache> = DOCUMENT.load_cache(&host.root, &path());
        let known = known.filter(|known| known.scope == scope);
        known.unwrap_or_else(|| InstanceCache {
            version: VERSION,
            scope,
            asked_at: None,
            answered_at: None,
            failure: None,
            instances: BTreeMap::new(),
        })
    }

    pub(super) fn save(&self, host: &Host) -> Result<(), RootError> {
        DOCUMENT.save(&host.root, &path(), self)
    }

    pub(super) fn was_asked_within(&self, limit: Duration, now: Timestamp) -> bool {
        is_within(self.asked_at, limit, now).is_some()
    }

    /// When EC2 last answered, if that is no longer ago.
    pub(super) fn answered_within(&self, limit: Duration, now: Timestamp) -> Option<Timestamp> {
        is_within(self.answered_at, limit, now)
    }

    /// Takes over an answer. An instance that has ended has no addresses any more: it keeps those that it had.
    pub(super) fn replace(&mut self, answer: Vec<(Instance, Vec<usize>)>, now: Timestamp) {
        let mut before = std::mem::take(&mut self.instances);
        for (mut instance, groups) in answer {
            let known = before.remove(&instance.id);
            let ended_before = known.as_ref().and_then(|known| known.ended_at);
            let ended_at = ended_before.filter(|at| *at <= now).unwrap_or(now);
            if instance.addresses.is_empty()
                && let Some(known) = known
            {
                instance.addresses = known.instance.addresses;
            }
            let known = KnownInstance {
                ended_at: (instance.state == InstanceState::Ending).then_some(ended_at),
                instance,
                groups,
            };
            self.instances.insert(known.instance.id.clone(), known);
        }
        (self.asked_at, self.answered_at, self.failure) = (Some(now), Some(now), None);
    }

    pub(super) fn note_failure(&mut self, why: String, now: Timestamp) {
        (self.asked_at, self.failure) = (Some(now), Some(why));
    }

    /// The addresses of instances that end, unless another one has them by now, and how long ago this host heard of it.
    pub(super) fn ended_addresses(&self, now: Timestamp) -> BTreeMap<IpAddr, Duration> {
        let (ending, others): (Vec<_>, Vec<_>) = self
            .instances
            .values()
            .partition(|known| known.instance.state == InstanceState::Ending);
        let used = others.iter().flat_map(|known| &known.instance.addresses);
        let used: BTreeSet<&IpAddr> = used.collect();
        let mut ended = BTreeMap::new();
        for known in ending {
            let passed = known.ended_at.map(|at| now.duration_since(at));
            let passed = passed.and_then(|passed| Duration::try_from(passed).ok());
            let addresses = known.instance.addresses.iter();
            for address in addresses.filter(|address| !used.contains(address)) {
                let since = passed.unwrap_or_default();
                let known: &mut Duration = ended.entry(*address).or_insert(since);
                *known = since.min(*known);
            }
        }
        ended
    }
}

/// A moment in the future is none: the clock was set.
fn is_within(at: Option<Timestamp>, limit: Duration, now: Timestamp) -> Option<Timestamp> {
    at.filter(|at| Duration::try_from(now.duration_since(*at)).is_ok_and(|age| age < limit))
}

fn path() -> PathBuf {
    Path::new(RUN_DIR).join("ec2.json")
}
