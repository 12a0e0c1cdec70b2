//! The status of a host: its drift, its apps and its passes; what `trueup status` prints.

use jiff::Timestamp;
use serde::Serialize;

use crate::exit::Exit;
use crate::pass::{AppStatus, HostStatus, PassError, Session};
use crate::ports::clock;
use crate::ports::lock::{self, Holder};
use crate::ports::services::{NextTrigger, timer};
use crate::report::{
    AppState, Counts, History, Overdue, PassSummary, Report, ResourceReport, TIMER, check_overdue,
};

/// The document of `status --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Document<'a> {
    version: u32,
    node: &'a str,
    environment: &'a str,
    outcome: Exit,
    /// Why the host is not converged, in one line.
    why: Option<&'a str>,
    /// Since boot; `null`: none yet.
    last_pass: Option<&'a PassSummary>,
    /// The running pass.
    running: Option<&'a Holder>,
    /// `null`: nothing starts one.
    next_pass: Option<NextPass>,
    /// Message that no pass ran for three periods of the timer.
    overdue: Option<String>,
    /// The store did not answer the last pass; when it last did.
    stale: Option<StaleStore>,
    generation: Option<u64>,
    apps: Vec<AppDocument<'a>>,
    counts: Counts,
    resources: &'a [ResourceReport],
    /// Peer lists that differ in the store: the last good ones are in force.
    kept_lists: &'a [String],
    /// Why the last pass failed to publish this host's record.
    untold: Option<&'a str>,
    warnings: &'a [String],
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct NextPass {
    /// `null`: the timer is loaded, but has no next trigger.
    pub at: Option<Timestamp>,
    pub timer: &'static str,
    /// Its pass is running.
    pub underway: bool,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct StaleStore {
    pub since: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
struct AppDocument<'a> {
    #[serde(flatten)]
    row: &'a crate::report::AppReport,
    #[serde(flatten)]
    details: Option<AppDetails<'a>>,
}

/// [`AppStatus`] without the name, which is in the row.
#[derive(Debug, Serialize)]
struct AppDetails<'a> {
    release: Option<&'a str>,
    pin: Option<&'a crate::release::Pin>,
    quarantine: &'a [crate::release::QuarantinedSha],
    serving: Option<&'a crate::pass::ServingStatus>,
}

/// Drift, health and passes of a host.
pub(crate) struct StatusReport {
    pub report: Report,
    pub apps: Vec<AppStatus>,
    pub last: Option<PassSummary>,
    pub running: Option<Holder>,
    pub next: Option<NextPass>,
    pub overdue: Option<Overdue>,
    pub stale: Option<StaleStore>,
    pub outcome: Exit,
    pub why: Option<String>,
    pub now: Timestamp,
}

/// Inspects the host and its last pass.
pub(crate) fn observe(session: &Session) -> Result<StatusReport, PassError> {
    let HostStatus { mut report, apps } = session.status()?;
    let host = &session.host;
    let history = History::new(host);
    let last = history.last();
    // The outcome of the last pass counts as much as the current state: `Converged` never hides `Stale`.
    let remembered = last.as_ref().map(|last| last.outcome).filter(|outcome| {
        matches!(
            outcome,
            Exit::Stale | Exit::Waiting | Exit::RolledBack | Exit::BadInput | Exit::Failed
        )
    });
    let outcome = report.outcome.merge(remembered.unwrap_or(Exit::Converged));
    let why = match report.outcome == outcome {
        true => report.why(),
        false => last.as_ref().and_then(|last| last.why.clone()),
    };
    let stale = last
        .as_ref()
        .filter(|last| last.store_answered < Some(last.started))
        .map(|last| StaleStore {
            since: last.store_answered,
        });
    // An unreachable D-Bus leaves the rest to be shown.
    let timer = timer(&host.root, &host.exec, TIMER);
    let running = lock::read_holder(&host.root);
    let now = host.clock.now();
    let overdue = check_overdue(
        &timer,
        last.as_ref(),
        running.as_ref(),
        now,
        clock::monotonic_time(),
    );
    // While a pass runs, the drift may be what it is fixing.
    let (outcome, why) = match &overdue {
        Some(overdue)
            if outcome < Exit::Stale
                && (overdue.running.is_none() || outcome == Exit::Converged) =>
        {
            (Exit::Stale, Some(overdue.words()))
        }
        _ => (outcome, why),
    };
    let is_old = stale.is_some() || overdue.is_some();
    merge_app_states(&mut report, &apps, is_old, remembered);
    let unserved = report
        .apps
        .iter()
        .find(|app| app.state == AppState::Failed && app.why.is_some());
    let (outcome, why) = match unserved {
        Some(app) if outcome < Exit::Failed => (Exit::Failed, app.why.clone()),
        _ => (outcome, why),
    };
    let next = timer.ok().flatten();
    Ok(StatusReport {
        running,
        next: next.map(|timer| NextPass {
            at: match timer.next {
                NextTrigger::At(at) => Some(at),
                NextTrigger::Underway | NextTrigger::Off => None,
            },
            timer: TIMER,
            underway: timer.next == NextTrigger::Underway,
        }),
        now,
        report,
        apps,
        last,
        overdue,
        stale,
        outcome,
        why,
    })
}

/// Adds to each app what is known besides drift: whether it serves, its quarantine, and whether the last pass
/// reached the store.
fn merge_app_states(
    report: &mut Report,
    apps: &[AppStatus],
    is_stale: bool,
    remembered: Option<Exit>,
) {
    for row in &mut report.apps {
        let mut add = |state: AppState, why: Option<String>| {
            if state > row.state {
                (row.state, row.why) = (state, why);
            }
        };
        if is_stale {
            add(AppState::Stale, None);
        }
        if remembered == Some(Exit::BadInput) {
            add(AppState::Refused, None);
        }
        let own = apps.iter().find(|standing| standing.app == row.app);
        let barred = own.into_iter().flat_map(|own| &own.quarantine);
        let wanted = row.wanted.clone();
        for barred in barred.filter(|barred| wanted.as_deref() == Some(barred.sha.as_str())) {
            add(AppState::RolledBack, Some(barred.describe()));
        }
        let Some(serving) = own.and_then(|own| own.serving.as_ref()) else {
            continue;
        };
        for proof in [&serving.processes, &serving.health] {
            if proof.ok == Some(false) {
                let why = proof.why.as_deref().unwrap_or_default();
                add(
                    AppState::Failed,
                    Some(format!("{} is not serving: {why}", row.app)),
                );
            }
        }
    }
}

impl StatusReport {
    /// The document of `status --json`.
    pub(crate) fn document(&self) -> Document<'_> {
        let report = &self.report;
        Document {
            version: crate::report::VERSION,
            node: &report.node,
            environment: &report.environment,
            outcome: self.outcome,
            why: self.why.as_deref(),
            last_pass: self.last.as_ref(),
            running: self.running.as_ref(),
            next_pass: self.next,
            overdue: self.overdue.as_ref().map(Overdue::words),
            stale: self.stale,
            generation: report.generation,
            apps: report
                .apps
                .iter()
                .map(|row| self.app_document(row))
                .collect(),
            counts: report.counts,
            resources: &report.resources,
            kept_lists: &report.kept_lists,
            untold: report.untold.as_deref(),
            warnings: &report.warnings,
        }
    }

    fn app_document<'a>(&'a self, row: &'a crate::report::AppReport) -> AppDocument<'a> {
        let standing = self.app_status(&row.app).map(|standing| AppDetails {
            release: standing.release.as_deref(),
            pin: standing.pin.as_ref(),
            quarantine: &standing.quarantine,
            serving: standing.serving.as_ref(),
        });
        AppDocument {
            row,
            details: standing,
        }
    }

    pub(crate) fn app_status(&self, app: &str) -> Option<&AppStatus> {
        self.apps.iter().find(|standing| standing.app == app)
    }
}
