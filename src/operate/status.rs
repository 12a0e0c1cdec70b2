//! The status of a host: its drift, its apps and its passes; what `trueup status` prints.

use jiff::Timestamp;
use serde::Serialize;

use crate::balancer::drain::Drain;
use crate::exit::Exit;
use crate::pass::{AppStatus, HostStatus, PassError, Session};
use crate::policy::PolicyStatus;
use crate::ports::Host;
use crate::ports::clock;
use crate::ports::lock::{self, Holder};
use crate::ports::services::{NextTrigger, timer};
use crate::report::{
    AppState, Counts, History, Overdue, PassSummary, Report, ResourceReport, ResourceStatus, TIMER,
    check_overdue,
};
use crate::resource::FieldValue;

/// The document of `status --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Document<'a> {
    version: u32,
    node: &'a str,
    environment: &'a str,
    outcome: Exit,
    /// Why the host is not converged, in one line.
    why: Option<&'a str>,
    /// The resources that failed in the last pass, with what their programs printed last; for root only.
    failures: &'a [ResourceReport],
    /// Since boot; `null`: none yet.
    last_pass: Option<&'a PassSummary>,
    /// The running pass.
    running: Option<&'a Holder>,
    /// `null`: nothing starts one.
    next_pass: Option<NextPass>,
    /// Message that no pass ran for three periods of the timer, or that the timer is off.
    overdue: Option<String>,
    /// The store did not answer the last pass; when it last did.
    stale: Option<StaleStore>,
    generation: Option<u64>,
    apps: Vec<AppDocument<'a>>,
    counts: Counts,
    resources: &'a [ResourceReport],
    /// The policy bundle, if the manifest names one or one is in force.
    policy: Option<&'a PolicyStatus>,
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
    running: Option<&'a crate::release::RunningStep>,
    coordinated: Option<bool>,
    pin: Option<&'a crate::release::Pin>,
    quarantine: &'a [crate::release::QuarantinedSha],
    serving: Option<&'a crate::pass::ServingStatus>,
    cron: &'a [crate::pass::CronStatus],
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
    /// The resources that failed in the last pass, as far as the calling user may read its report.
    pub failures: Vec<ResourceReport>,
    pub now: Timestamp,
}

/// Inspects the host and its last pass.
pub(crate) fn observe(session: &Session) -> Result<StatusReport, PassError> {
    let HostStatus { mut report, apps } = session.status()?;
    let host = &session.host;
    let drain = Drain::describe_host(&host.root);
    let drain = drain.map(|line| format!("this balancer is {line}"));
    report.warnings.extend(drain);
    let last = History::new(host).last();
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
    // The running pass follows one that could not even start, so nothing is known of the host but what is there.
    let current = last
        .as_ref()
        .filter(|last| !(last.could_not_run && running.is_some()));
    let stale = current.and_then(stale_store);
    let unresolved = current.and_then(|last| unresolved_outcome(last, &report));
    let result = merge_last_pass(&report, current, unresolved, now);
    let result = match current {
        None => name_first_pass(result, running.as_ref()),
        Some(_) => result,
    };
    let result = merge_overdue(result, overdue.as_ref());
    let result = match (current, &running) {
        // The pass that runs may be starting it, and the first one has not yet.
        (Some(_), None) => merge_stopped_service(result, &report),
        _ => result,
    };
    let is_late = overdue.as_ref().is_some_and(|overdue| overdue.is_late);
    let is_old = stale.is_some() || is_late;
    merge_app_states(&mut report, &apps, is_old, unresolved);
    let (outcome, why) = merge_unserved_app(result, &report);
    let failures = unresolved.map_or(Vec::new(), |outcome| last_failures(host, outcome));
    Ok(StatusReport {
        running,
        failures,
        next: timer.ok().flatten().map(|timer| NextPass::new(timer.next)),
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

/// An outcome, and why it is not [`Exit::Converged`].
type OutcomeWithReason = (Exit, Option<String>);

/// The outcome of the last pass if it counts until another pass has run.
fn unresolved_outcome(last: &PassSummary, report: &Report) -> Option<Exit> {
    let is_unresolved = match last.outcome {
        Exit::Stale | Exit::RolledBack | Exit::BadInput | Exit::Failed => true,
        // What a pass waits for can be looked at: an operator may have ended it since.
        Exit::Waiting => report.counts.not_inspected > 0,
        _ => false,
    };
    is_unresolved.then_some(last.outcome)
}

/// What failed in the last pass, which ended so.
fn last_failures(host: &Host, outcome: Exit) -> Vec<ResourceReport> {
    // A pass that repeats the one before is not kept.
    let report = History::new(host).newest();
    let report = report.filter(|report| report.outcome == outcome);
    let rows = report.into_iter().flat_map(|report| report.resources);
    let failed = |row: &ResourceReport| {
        matches!(
            row.status,
            ResourceStatus::Failed | ResourceStatus::RolledBack
        )
    };
    rows.filter(failed).collect()
}

/// A pass that could not run may not have asked the store; its reason says more.
fn stale_store(last: &PassSummary) -> Option<StaleStore> {
    let is_stale = !last.could_not_run && !last.store_had_answered();
    is_stale.then_some(StaleStore {
        since: last.store_answered,
    })
}

/// The outcome of the last pass counts as much as the current state: `Converged` never hides `Stale`. Its reason may be
/// gone meanwhile, so it comes with its age.
fn merge_last_pass(
    report: &Report,
    last: Option<&PassSummary>,
    unresolved: Option<Exit>,
    now: Timestamp,
) -> OutcomeWithReason {
    let outcome = report.outcome.merge(unresolved.unwrap_or(Exit::Converged));
    if report.outcome == outcome {
        return (outcome, report.why());
    }
    let why = last.and_then(|last| Some((last, last.why.as_ref()?)));
    let why = why.map(|(last, why)| match last.outcome {
        Exit::Failed if !last.could_not_run => {
            let age = now.duration_since(last.started).as_secs().max(0);
            format!("{why} (found by the pass of {age} s ago)")
        }
        _ => why.clone(),
    });
    (outcome, why)
}

/// What the first pass has not done yet is no finding.
fn name_first_pass(result: OutcomeWithReason, running: Option<&Holder>) -> OutcomeWithReason {
    match (result, running) {
        ((Exit::Pending, _), Some(running)) => {
            let why = format!("the first pass is running: {}", running.describe());
            (Exit::Pending, Some(why))
        }
        (result, _) => result,
    }
}

/// While a pass runs, the drift may be what it is fixing.
fn merge_overdue(result: OutcomeWithReason, overdue: Option<&Overdue>) -> OutcomeWithReason {
    let (outcome, why) = result;
    match overdue {
        Some(overdue)
            if outcome < Exit::Stale
                && (overdue.running.is_none() || outcome == Exit::Converged) =>
        {
            (Exit::Stale, Some(overdue.words()))
        }
        _ => (outcome, why),
    }
}

/// A service that does not run and should is no change to come: what it does for visitors is not done now.
fn merge_stopped_service(result: OutcomeWithReason, report: &Report) -> OutcomeWithReason {
    let stopped = report.resources.iter().find_map(|row| {
        let change = row.change.as_ref().filter(|change| change.sets_running)?;
        let field = change
            .fields
            .iter()
            .find(|field| field.field == "running")?;
        match (&field.from, &field.to) {
            (FieldValue::Value(from), FieldValue::Value(to)) if to == "running" => {
                Some(format!("{} is {from}, and should run", row.id))
            }
            _ => None,
        }
    });
    match stopped {
        Some(why) if result.0 < Exit::Failed => (Exit::Failed, Some(why)),
        _ => result,
    }
}

fn merge_unserved_app(result: OutcomeWithReason, report: &Report) -> OutcomeWithReason {
    let mut apps = report.apps.iter();
    let unserved = apps.find(|app| app.state == AppState::Failed && app.why.is_some());
    match unserved {
        Some(app) if result.0 < Exit::Failed => (Exit::Failed, app.why.clone()),
        _ => result,
    }
}

impl NextPass {
    fn new(trigger: NextTrigger) -> NextPass {
        NextPass {
            at: match trigger {
                NextTrigger::At(at) => Some(at),
                NextTrigger::Underway | NextTrigger::Off => None,
            },
            timer: TIMER,
            underway: trigger == NextTrigger::Underway,
        }
    }
}

/// Adds to each app what is known besides drift: whether it serves, its quarantine, and whether the last pass
/// reached the store.
fn merge_app_states(
    report: &mut Report,
    apps: &[AppStatus],
    is_stale: bool,
    unresolved: Option<Exit>,
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
        if unresolved == Some(Exit::BadInput) {
            add(AppState::Refused, None);
        }
        let status = apps.iter().find(|status| status.app == row.app);
        let quarantine = status.into_iter().flat_map(|status| &status.quarantine);
        let wanted = row.wanted.clone();
        for quarantined in quarantine.filter(|other| wanted.as_deref() == Some(other.sha.as_str()))
        {
            add(AppState::RolledBack, Some(quarantined.describe()));
        }
        let Some(serving) = status.and_then(|status| status.serving.as_ref()) else {
            continue;
        };
        for probe in [&serving.processes, &serving.health] {
            if probe.ok == Some(false) {
                let why = probe.why.as_deref().unwrap_or_default();
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
            failures: &self.failures,
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
            policy: report.policy.as_ref(),
            kept_lists: &report.kept_lists,
            untold: report.publish_error.as_deref(),
            warnings: &report.warnings,
        }
    }

    fn app_document<'a>(&'a self, row: &'a crate::report::AppReport) -> AppDocument<'a> {
        let details = self.app_status(&row.app).map(|status| AppDetails {
            release: status.release.as_deref(),
            running: status.running.as_ref(),
            coordinated: status.coordinated,
            pin: status.pin.as_ref(),
            quarantine: &status.quarantine,
            serving: status.serving.as_ref(),
            cron: &status.cron,
        });
        AppDocument { row, details }
    }

    pub(crate) fn app_status(&self, app: &str) -> Option<&AppStatus> {
        self.apps.iter().find(|status| status.app == app)
    }
}
