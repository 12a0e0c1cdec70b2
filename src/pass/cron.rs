//! The cron jobs of an app: when each runs, and how its last run ended.

use jiff::Timestamp;
use serde::Serialize;

use crate::ports::Host;
use crate::ports::services::NextTrigger;
use crate::release::ReleaseSpec;
use crate::role::{Catalog, Resource};

/// A cron job on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct CronStatus {
    pub name: String,
    /// The unit that starts it.
    pub timer: String,
    /// The next run; `null`: none is planned.
    pub next: Option<Timestamp>,
    /// The last run; `null`: none yet.
    pub last: Option<Timestamp>,
    pub running: bool,
    /// Why the last run failed. It is no failure of a pass: what ran then is over.
    pub failure: Option<String>,
    /// Why nothing is known of it.
    pub why: Option<String>,
}

/// The cron jobs of an app.
pub(crate) fn cron_jobs(catalog: &Catalog, app: &ReleaseSpec, host: &Host) -> Vec<CronStatus> {
    let timers = catalog.cron_timers(app);
    timers
        .filter_map(|timer| CronStatus::observe(timer, host))
        .collect()
}

impl CronStatus {
    fn observe(timer: &Resource, host: &Host) -> Option<CronStatus> {
        let service = timer.body.service()?;
        let unit = service.name().to_owned();
        let mut status = CronStatus {
            name: service.process().unwrap_or(&unit).to_owned(),
            timer: unit,
            next: None,
            last: None,
            running: false,
            failure: None,
            why: None,
        };
        match service.scheduled_job(host) {
            Ok(Some(job)) => {
                status.next = match job.next {
                    NextTrigger::At(at) => Some(at),
                    NextTrigger::Underway | NextTrigger::Off => None,
                };
                status.last = job.last_started;
                status.running = job.is_running;
                status.failure = job.failure;
            }
            Ok(None) => status.why = Some("its timer is not on this host".into()),
            Err(failure) => status.why = Some(failure.summary()),
        }
        Some(status)
    }
}
