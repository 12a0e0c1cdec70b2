//! Publishes wanted shas, counted from what the hosts report where the request asks for it.

mod forecast;
mod overtaken;
mod prepare;
#[cfg(test)]
pub(crate) mod testing;

use std::time::Duration;

pub(crate) use self::forecast::{Forecast, forecast};
pub(crate) use self::overtaken::publish_prepared;
pub(crate) use self::prepare::{LookupOptions, WantedCommit, prepare};
use crate::desired::{
    self, FleetReports, PublishError, PublishRequest, PublishSummary, ReportedHost, ReportedHosts,
    ServedBefore, Sha, Signing,
};
use crate::fleet::rollout::{
    RolloutContext, RolloutError, RolloutStore, StoreObjects, register_key,
};
use crate::fleet::{self, RecordCache};
use crate::operate::CommandError;
use crate::ports::backoff;
use crate::ports::clock::{Clock, SystemClock};
use crate::ports::store::{GetOutcome, Store, StoreError};
use crate::problem::Problem;
use crate::settings::FleetSettings;

/// How long a publisher tries again while others come first. By time and not by attempts: each round one of them
/// gets through, so the attempts that it takes grow with their number.
const RETRY_FOR: Duration = Duration::from_secs(600);

/// After so many attempts, about two seconds, a person wants to know what takes so long.
const SILENT_ATTEMPTS: u32 = 6;

/// How long to wait after so many attempts, but for the jitter. Whoever loses often has many others beside it, and leaves
/// them room, as on a shared wire: an attempt succeeds if nobody else writes while it lasts, and fifty that hardly pause let
/// one with a signature, which takes longer, lose for five minutes.
fn retry_delay(attempts: u32) -> Duration {
    const LONGEST: Duration = Duration::from_secs(10);
    let doubled = Duration::from_millis(20).saturating_mul(2_u32.saturating_pow(attempts));
    doubled.min(LONGEST)
}

/// Writes requests into the manifest: asks what has to be asked, and signs.
pub(crate) trait Publish {
    fn publish(&self, request: PublishRequest) -> Result<PublishSummary, CommandError>;
}

/// Where a request is published, and how.
#[derive(Clone, Copy)]
pub(crate) struct PublishTarget<'a> {
    pub store: &'a dyn Store,
    /// The manifest's key in the store.
    pub manifest_key: &'a str,
    /// A host whose record is older does not count.
    pub gone_after: Duration,
    /// `None`: the environment is not signed.
    pub signing: Option<&'a Signing<'a>>,
}

impl Publish for PublishTarget<'_> {
    /// Asks nothing.
    fn publish(&self, request: PublishRequest) -> Result<PublishSummary, CommandError> {
        Ok(publish(self, request, false)?)
    }
}

/// Applies the request to the manifest. With `above_fleet`, the generation exceeds those that hosts report; a
/// warning names the hosts whose record is unreadable.
pub(crate) fn publish(
    target: &PublishTarget<'_>,
    mut request: PublishRequest,
    above_fleet: bool,
) -> Result<PublishSummary, PublishError> {
    let PublishTarget {
        store,
        manifest_key: key,
        gone_after,
        signing,
    } = *target;
    let mut unread = None;
    if above_fleet {
        let (generations, unread_records) =
            fleet::node_generations(store, &request.environment, gone_after)?;
        request.above_fleet = Some(generations);
        unread = unread_records;
    }
    let give_up_at = SystemClock.monotonic_now() + RETRY_FOR;
    let mut published = desired::publish(
        store,
        key,
        &request,
        signing,
        &mut StoreReports {
            store,
            manifest_key: key,
            environment: &request.environment,
            gone_after,
        },
        &mut |attempts| {
            let is_in_time = SystemClock.monotonic_now() < give_up_at;
            if attempts == SILENT_ATTEMPTS {
                tracing::info!(
                    target: "progress",
                    "{key}: others are publishing at the same time; trying again for up to {} minutes",
                    RETRY_FOR.as_secs() / 60
                );
            }
            if is_in_time {
                backoff::sleep_jittered(retry_delay(attempts));
            }
            is_in_time
        },
    )?;
    published.warnings.extend(unread.map(|unread| {
        Problem::new(format!(
            "{unread}: the generations of these hosts do not count"
        ))
    }));
    Ok(published)
}

/// What the store holds of the fleet.
struct StoreReports<'a> {
    store: &'a dyn Store,
    manifest_key: &'a str,
    environment: &'a str,
    gone_after: Duration,
}

impl FleetReports for StoreReports<'_> {
    fn hosts(&mut self) -> Result<ReportedHosts, StoreError> {
        reported_hosts(self.store, self.environment, self.gone_after)
    }

    fn has_rollouts(&mut self, app: &str) -> Result<bool, StoreError> {
        // Hosts on one machine ask nobody.
        if self.store.address().starts_with("dir:") {
            return Ok(true);
        }
        let key = register_key(self.environment, app);
        Ok(self.store.get(&key, None)? != GetOutcome::Missing)
    }

    fn was_served(&mut self, app: &str, sha: &Sha) -> Result<ServedBefore, String> {
        // Hosts on one machine ask nobody.
        if self.store.address().starts_with("dir:") {
            return Ok(ServedBefore::Yes);
        }
        let fleet = FleetSettings::default();
        let objects = StoreObjects {
            store: self.store,
            context: RolloutContext {
                root: None,
                environment: self.environment,
                store_name: self.store.address(),
                manifest_key: self.manifest_key,
                fleet: &fleet,
                signers: None,
            },
            app,
            canary: None,
            ignores_hold: false,
            observer: None,
        };
        was_served(&objects, sha).map_err(|error| error.to_string())
    }
}

fn was_served(objects: &impl RolloutStore, sha: &Sha) -> Result<ServedBefore, RolloutError> {
    let Some(register) = objects.register()?.map(|found| found.object) else {
        // Nobody has asked for permission yet, so what hosts served is not on record.
        return Ok(ServedBefore::Yes);
    };
    let quarantine = objects.quarantine(sha)?;
    if quarantine.is_some_and(|found| found.object.in_force) {
        return Ok(ServedBefore::Quarantined);
    }
    let mut entries = register.entries.iter().filter(|entry| entry.id.sha == *sha);
    let was_proven = entries.any(|entry| entry.proven || entry.was_done);
    // The entry of a sha may be gone; the marks of its hosts are not.
    Ok(match was_proven || !objects.marks(sha)?.is_empty() {
        true => ServedBefore::Yes,
        false => ServedBefore::Never,
    })
}

/// The hosts of an environment that are not gone, from their records.
fn reported_hosts(
    store: &dyn Store,
    environment: &str,
    gone_after: Duration,
) -> Result<ReportedHosts, StoreError> {
    let mut cache = RecordCache::empty(store.address(), environment);
    let snapshot = fleet::take_snapshot(store, environment, gone_after, &mut cache)?;
    let live = snapshot.rows.iter();
    let live = live.filter(|row| row.silent_for(snapshot.now) <= gone_after);
    let host = |row: &fleet::NodeRow| ReportedHost {
        node: row.node.clone(),
        tags: row.record.tags.clone(),
        may_take_part: row.record.rollouts,
        agent: row.record.agent.clone(),
        apps: row.record.apps.keys().cloned().collect(),
    };
    Ok(ReportedHosts {
        hosts: live.map(host).collect(),
        is_incomplete: snapshot.unread.is_some() || snapshot.invalid > 0,
    })
}

#[cfg(test)]
mod forecast_tests;
#[cfg(test)]
mod tests;
