//! The addresses of EC2 that a master claims, and how its last claim of each ended.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ports::RUN_DIR;
use crate::ports::ec2::AllocationId;
use crate::ports::root::{Root, RootError};
use crate::ports::state::Document;

const VERSION: u32 = 1;

const DOCUMENT: Document = Document::new(VERSION, 4 << 10).compact();

/// keepalived's configuration, whose scripts claim addresses.
const CONFIG: &str = "/etc/keepalived/keepalived.conf";
const MAX_CONFIG: usize = 1 << 20;

/// Most addresses that a host claims.
const MAX_ADDRESSES: usize = 20;

/// An address of EC2 that moves between instances.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MovingAddress {
    /// An elastic IP.
    Elastic(AllocationId),
    /// A secondary private address.
    Private(Ipv4Addr),
}

impl FromStr for MovingAddress {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<MovingAddress, InvalidAddress> {
        let elastic = text.parse().map(MovingAddress::Elastic);
        let private = text.parse().map(MovingAddress::Private);
        elastic.ok().or(private.ok()).ok_or(InvalidAddress)
    }
}

impl fmt::Display for MovingAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MovingAddress::Elastic(id) => id.fmt(f),
            MovingAddress::Private(address) => address.fmt(f),
        }
    }
}

/// A text that names no address that can move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected the allocation of an elastic IP, such as `eipalloc-0a1b2c3d4e5f67890`, or a private IPv4 address"
)]
pub(crate) struct InvalidAddress;

/// How a claim ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ClaimResult {
    /// EC2 confirms that this instance has the address.
    Claimed,
    /// This host stopped being the master first.
    GivenUp,
    Failed,
}

/// The claims of one address by this host since its boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClaimRecord {
    pub address: String,
    /// The last one.
    pub result: ClaimResult,
    pub at: Timestamp,
    pub took_ms: u64,
    pub claimed: u32,
    pub given_up: u32,
    pub failed: u32,
    /// When EC2 last confirmed, after the claim, that this instance has the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<Timestamp>,
    /// How often it was found elsewhere since keepalived last made this host the master.
    #[serde(default)]
    pub lost: u32,
}

#[derive(Serialize, Deserialize)]
struct RecordFile {
    version: u32,
    #[serde(flatten)]
    record: ClaimRecord,
}

impl ClaimRecord {
    /// The record about an address; `None`: this host has not claimed it since its boot.
    pub(crate) fn load(root: &Root, address: &MovingAddress) -> Option<ClaimRecord> {
        let file: Option<RecordFile> = DOCUMENT.load_cache(root, &file_of(address));
        file.map(|file| file.record)
    }

    /// Counts a claim.
    pub(crate) fn add(
        root: &Root,
        address: &MovingAddress,
        result: ClaimResult,
        at: Timestamp,
        took_ms: u64,
    ) -> Result<(), RootError> {
        let before = ClaimRecord::load(root, address);
        let count = |kind: ClaimResult, count: fn(&ClaimRecord) -> u32| {
            let before = before.as_ref().map_or(0, count);
            before.saturating_add(u32::from(result == kind))
        };
        let record = ClaimRecord {
            address: address.to_string(),
            result,
            at,
            took_ms,
            claimed: count(ClaimResult::Claimed, |before| before.claimed),
            given_up: count(ClaimResult::GivenUp, |before| before.given_up),
            failed: count(ClaimResult::Failed, |before| before.failed),
            checked_at: None,
            lost: 0,
        };
        record.save(root, address)
    }

    pub(crate) fn save(self, root: &Root, address: &MovingAddress) -> Result<(), RootError> {
        let file = RecordFile {
            version: VERSION,
            record: self,
        };
        DOCUMENT.save(root, &file_of(address), &file)
    }

    /// When a pass has to ask EC2 whether the address is still here.
    pub(crate) fn is_check_due(&self, now: Timestamp) -> bool {
        let last = self.checked_at.unwrap_or(self.at);
        let age = Duration::try_from(now.duration_since(last));
        // A last check in the future is none: the clock was set.
        age.map_or(true, |age| age >= check_interval(self.lost))
    }

    /// All records of this host.
    pub(crate) fn load_all(root: &Root) -> Result<Vec<ClaimRecord>, RootError> {
        let names = root.list(&folder())?.unwrap_or_default();
        let records = names.iter().take(MAX_ADDRESSES).filter_map(|name| {
            let address = name.to_str()?.strip_suffix(".json")?.parse().ok()?;
            ClaimRecord::load(root, &address)
        });
        Ok(records.collect())
    }
}

/// How long EC2 is not asked after an address was found here. Two hosts that both believe for hours to be the master, and
/// both reach EC2, take it from each other less and less often.
fn check_interval(lost: u32) -> Duration {
    const SHORTEST: Duration = Duration::from_secs(60);
    const LONGEST: Duration = Duration::from_secs(3600);
    SHORTEST.saturating_mul(1 << lost.min(10)).min(LONGEST)
}

fn folder() -> PathBuf {
    Path::new(RUN_DIR).join("claims")
}

/// The text of an address cannot lead to another folder.
fn file_of(address: &MovingAddress) -> PathBuf {
    folder().join(format!("{address}.json"))
}

/// A claim that keepalived of this host makes as the master.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConfiguredClaim {
    pub address: MovingAddress,
    /// The instance of keepalived that has to be the master.
    pub instance: Option<String>,
}

/// The claims that keepalived of this host makes: what its scripts pass to `trueup eip claim`.
pub(crate) fn configured_claims(root: &Root) -> Result<Vec<ConfiguredClaim>, RootError> {
    let body = root
        .read(Path::new(CONFIG), MAX_CONFIG)?
        .unwrap_or_default();
    Ok(claims_in(&String::from_utf8_lossy(&body)))
}

/// The addresses that keepalived of this host claims.
pub(crate) fn configured_addresses(root: &Root) -> Result<Vec<MovingAddress>, RootError> {
    let claims = configured_claims(root)?.into_iter();
    let mut addresses: Vec<MovingAddress> = claims.map(|claim| claim.address).collect();
    addresses.dedup();
    Ok(addresses)
}

fn claims_in(config: &str) -> Vec<ConfiguredClaim> {
    let mut claims = Vec::new();
    for line in config.lines() {
        let code = line.split(['#', '!']).next().unwrap_or_default();
        let mut rest = code;
        while let Some((_, arguments)) = rest.split_once("eip claim ") {
            rest = arguments;
            let arguments = arguments
                .split(['"', '\'', ';', '&'])
                .next()
                .unwrap_or_default();
            let words: Vec<&str> = arguments.split_whitespace().collect();
            let instance = words.windows(2).find(|pair| pair[0] == "--instance");
            let address = words.iter().find_map(|word| word.parse().ok());
            claims.extend(address.map(|address| ConfiguredClaim {
                address,
                instance: instance.map(|pair| pair[1].to_owned()),
            }));
        }
    }
    claims.sort();
    claims.dedup();
    claims.truncate(MAX_ADDRESSES);
    claims
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::state::testing::assert_round_trip;
    use crate::ports::testing::Sandbox;

    #[test]
    fn example_of_a_claim_survives_a_round_trip() {
        assert_round_trip::<RecordFile>(&DOCUMENT, "address-claim.json");
    }

    #[test]
    fn claims_are_counted_by_address_and_result() {
        let sandbox = Sandbox::with_base_system();
        let root = &sandbox.host.root;
        let now = sandbox.host.clock.now();
        let [elastic, private] = ["eipalloc-0a", "10.0.0.5"].map(|text| text.parse().unwrap());
        assert_eq!(ClaimRecord::load_all(root).unwrap(), []);
        for result in [
            ClaimResult::Failed,
            ClaimResult::Claimed,
            ClaimResult::Claimed,
        ] {
            ClaimRecord::add(root, &elastic, result, now, 1500).unwrap();
        }
        ClaimRecord::add(root, &private, ClaimResult::GivenUp, now, 1).unwrap();
        let record = ClaimRecord::load(root, &elastic).unwrap();
        assert_eq!((record.claimed, record.given_up, record.failed), (2, 0, 1));
        assert_eq!(record.result, ClaimResult::Claimed);
        assert_eq!(ClaimRecord::load_all(root).unwrap().len(), 2);
    }

    #[test]
    fn address_is_an_allocation_or_a_private_address() {
        for text in ["eipalloc-0a1b2c3d", "10.0.0.5"] {
            assert_eq!(text.parse::<MovingAddress>().unwrap().to_string(), text);
        }
        for text in ["", "i-0a", "eipalloc-", "10.0.0.5/24", "::1", "../x"] {
            let error = text.parse::<MovingAddress>().unwrap_err().to_string();
            assert!(error.starts_with("expected the allocation"), "{text}");
        }
    }

    #[test]
    fn claims_of_keepalived_are_those_in_its_scripts() {
        let config = "vrrp_instance web {\n    notify_master \"/usr/bin/trueup eip claim eipalloc-0b --instance web\" root root\n}\n\
            # notify_master \"trueup eip claim eipalloc-0c\"\n\
            notify_master \"/bin/sh -c 'trueup eip claim --timeout 30s 10.0.0.5; trueup eip claim eipalloc-0b'\"\n\
            notify_master \"trueup eip claim\"\nnotify_backup \"trueup eip claim x\" eipalloc-0d\n";
        let claims = claims_in(config).into_iter();
        let claims: Vec<(String, Option<String>)> = claims
            .map(|claim| (claim.address.to_string(), claim.instance))
            .collect();
        let elastic = "eipalloc-0b".to_owned();
        assert_eq!(
            claims,
            [
                (elastic.clone(), None),
                (elastic, Some("web".into())),
                ("10.0.0.5".into(), None)
            ]
        );
        let sandbox = Sandbox::with_base_system();
        assert_eq!(configured_claims(&sandbox.host.root).unwrap(), []);
    }
}
