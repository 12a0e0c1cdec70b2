//! `trueup status`: what an operator reads first.

mod print;

use jiff::Timestamp;
use serde::Serialize;

use super::{Output, edge};
use crate::exit::Exit;
use crate::pass::{AppStanding, Places, Session, Standing};
use crate::ports::clock;
use crate::ports::exec::StopFlag;
use crate::ports::lock::{self, Holder};
use crate::ports::services::{Tick, timer};
use crate::report::{AppState, Counts, History, Last, Overdue, Report, Row, TIMER, overdue};

/// The document of `status --json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    version: u32,
    node: &'a str,
    environment: &'a str,
    outcome: Exit,
    /// Why the host is not converged, in one line.
    why: Option<&'a str>,
    /// Since boot; `null`: none yet.
    last_pass: Option<&'a Last>,
    /// The pass that is running.
    running: Option<&'a Holder>,
    /// `null`: nothing starts one by itself.
    next_pass: Option<Next>,
    /// No pass was made for three periods of the timer, in words.
    overdue: Option<String>,
    /// The store did not answer the last pass; when it did last.
    stale: Option<Stale>,
    generation: Option<u64>,
    apps: Vec<App<'a>>,
    counts: Counts,
    resources: &'a [Row],
    /// Lists of peers that the store has otherwise: the last good ones are in force.
    kept_lists: &'a [String],
    /// Why peers do not learn of this host, as the last pass found it.
    untold: Option<&'a str>,
    warnings: &'a [String],
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Next {
    /// `null`: the timer is there, and no time is planned.
    at: Option<Timestamp>,
    timer: &'static str,
    /// Its pass is running.
    underway: bool,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Stale {
    since: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
struct App<'a> {
    #[serde(flatten)]
    row: &'a crate::report::App,
    #[serde(flatten)]
    standing: Option<Extra<'a>>,
}

/// [`AppStanding`] without the name, which the row has.
#[derive(Debug, Serialize)]
struct Extra<'a> {
    release: Option<&'a str>,
    pin: Option<&'a crate::release::Pin>,
    quarantine: &'a [crate::release::Barred],
    serving: Option<&'a crate::pass::Serving>,
}

/// All that there is to say.
struct Seen {
    report: Report,
    apps: Vec<AppStanding>,
    last: Option<Last>,
    running: Option<Holder>,
    next: Option<Next>,
    overdue: Option<Overdue>,
    stale: Option<Stale>,
    outcome: Exit,
    why: Option<String>,
    now: Timestamp,
}

pub(super) fn run(places: &Places, output: &Output) -> Result<Exit, edge::Error> {
    let session = Session::open(places, StopFlag::default())?;
    let seen = look(&session)?;
    if output.json {
        output.document(&seen.document());
    } else {
        print::all(&seen, output);
    }
    Ok(seen.outcome)
}

fn look(session: &Session) -> Result<Seen, edge::Error> {
    let Standing { mut report, apps } = session.standing()?;
    let host = &session.host;
    let history = History::new(host);
    let last = history.last();
    // How the last pass ended counts as much as what is seen now: green never hides stale.
    let remembered = last.as_ref().map(|last| last.outcome).filter(|outcome| {
        matches!(
            outcome,
            Exit::Stale | Exit::Waiting | Exit::RolledBack | Exit::BadInput | Exit::Failed
        )
    });
    let outcome = report.outcome.and(remembered.unwrap_or(Exit::Converged));
    let why = match report.outcome == outcome {
        true => report.why(),
        false => last.as_ref().and_then(|last| last.why.clone()),
    };
    let stale = last
        .as_ref()
        .filter(|last| last.store_answered < Some(last.started))
        .map(|last| Stale {
            since: last.store_answered,
        });
    // A bus that does not answer leaves the rest to be shown.
    let timer = timer(&host.root, &host.exec, TIMER);
    let running = lock::holder(&host.root);
    let now = host.clock.now();
    let overdue = overdue(&timer, last.as_ref(), running.as_ref(), now, clock::awake());
    // While a pass runs, what differs may be just what it is at.
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
    settle(&mut report, &apps, is_old, remembered);
    let unserved = report
        .apps
        .iter()
        .find(|app| app.state == AppState::Failed && app.why.is_some());
    let (outcome, why) = match unserved {
        Some(app) if outcome < Exit::Failed => (Exit::Failed, app.why.clone()),
        _ => (outcome, why),
    };
    let next = timer.ok().flatten();
    Ok(Seen {
        running,
        next: next.map(|timer| Next {
            at: match timer.tick {
                Tick::At(at) => Some(at),
                Tick::Underway | Tick::Off => None,
            },
            timer: TIMER,
            underway: timer.tick == Tick::Underway,
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

/// Gives each app what is known of it besides drift: whether it serves, what is quarantined, and what
/// the last pass heard from the store.
fn settle(report: &mut Report, apps: &[AppStanding], stale: bool, remembered: Option<Exit>) {
    for row in &mut report.apps {
        let mut add = |state: AppState, why: Option<String>| {
            if state > row.state {
                (row.state, row.why) = (state, why);
            }
        };
        if stale {
            add(AppState::Stale, None);
        }
        if remembered == Some(Exit::BadInput) {
            add(AppState::Refused, None);
        }
        let own = apps.iter().find(|standing| standing.app == row.app);
        let barred = own.into_iter().flat_map(|own| &own.quarantine);
        let wanted = row.wanted.clone();
        for barred in barred.filter(|barred| wanted.as_deref() == Some(barred.sha.as_str())) {
            add(AppState::RolledBack, Some(barred.words()));
        }
        let Some(serving) = own.and_then(|own| own.serving.as_ref()) else {
            continue;
        };
        for proof in [&serving.processes, &serving.health] {
            if proof.ok == Some(false) {
                let why = proof.why.as_deref().unwrap_or_default();
                add(
                    AppState::Failed,
                    Some(format!("{} does not serve: {why}", row.app)),
                );
            }
        }
    }
}

impl Seen {
    fn document(&self) -> Document<'_> {
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
            apps: report.apps.iter().map(|row| self.app(row)).collect(),
            counts: report.counts,
            resources: &report.resources,
            kept_lists: &report.kept_lists,
            untold: report.untold.as_deref(),
            warnings: &report.warnings,
        }
    }

    fn app<'a>(&'a self, row: &'a crate::report::App) -> App<'a> {
        let standing = self.standing_of(&row.app).map(|standing| Extra {
            release: standing.release.as_deref(),
            pin: standing.pin.as_ref(),
            quarantine: &standing.quarantine,
            serving: standing.serving.as_ref(),
        });
        App { row, standing }
    }

    fn standing_of(&self, app: &str) -> Option<&AppStanding> {
        self.apps.iter().find(|standing| standing.app == app)
    }
}
