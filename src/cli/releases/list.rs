//! `trueup releases list`: every release of every app, with quarantined and pinned shas.

use jiff::Timestamp;

use crate::cli::Output;
use crate::cli::args::ListArgs;
use crate::cli::format::{format_age, format_bytes};
use crate::exit::Exit;
use crate::operate::{CommandError, inventory};
use crate::pass::{Paths, Session};
use crate::ports::exec::StopFlag;
use crate::release::{Inventory, ReleaseInfo, ReleasePhase};
use crate::report::Paint;

const COLUMNS: [&str; 9] = [
    "APP", "RELEASE", "STATE", "SHA", "REF", "AGE", "SIZE", "BY", "WHY",
];

pub(super) fn run(args: &ListArgs, paths: &Paths, output: &Output) -> Result<Exit, CommandError> {
    let session = Session::open(paths, StopFlag::default())?;
    let report = inventory::list(&session, args.app.as_deref())?;
    if output.is_document() {
        output.print_document(&report);
    } else {
        print_inventories(&report.apps, session.host.clock.now(), output);
    }
    Ok(Exit::Converged)
}

fn print_inventories(inventories: &[Inventory], now: Timestamp, output: &Output) {
    if inventories.is_empty() {
        output.print_line("no role of this host deploys an app");
        return;
    }
    let rows = inventories.iter().flat_map(|inventory| {
        let row = move |item| row(inventory, item, now, output.paint);
        inventory.releases.iter().map(row)
    });
    let mut table = vec![COLUMNS.map(String::from).to_vec()];
    table.extend(rows);
    if table.len() > 1 {
        output.print_table(&table);
    }
    for inventory in inventories {
        let app = &inventory.app;
        if inventory.releases.is_empty() {
            output.print_line(format!("{app}: no release yet"));
        }
        if let Some(pin) = &inventory.pin {
            output.print_line(format!("{app}: {}", output.paint.changed(&pin.describe())));
        }
        for quarantined in &inventory.quarantine {
            let text = output.paint.bad(&quarantined.describe());
            output.print_line(format!("{app}: {text}"));
        }
    }
}

fn row(inventory: &Inventory, item: &ReleaseInfo, now: Timestamp, paint: Paint) -> Vec<String> {
    let none = || "-".to_owned();
    let pin = inventory.pin.as_ref();
    let pinned = pin.filter(|pin| pin.release == item.release);
    let (by, why) = match pinned {
        Some(pin) => (Some(pin.by.clone()), pin.reason.clone()),
        None => (item.by.clone(), item.why.clone()),
    };
    let wanted = inventory.wanted.as_ref();
    let equal = wanted.filter(|wanted| item.equal_shas.contains(wanted));
    let why = why.or_else(|| Some(format!("{} changes nothing in it", equal?.short())));
    let size = match item.size {
        None => "?".into(),
        Some(size) if size.shared > 0 => {
            format!(
                "{} (+{} shared)",
                format_bytes(size.own),
                format_bytes(size.shared)
            )
        }
        Some(size) => format_bytes(size.own),
    };
    let mut state = state_text(item, now);
    if pinned.is_some() {
        state += ", pinned";
    }
    let is_quarantined = || {
        inventory
            .quarantine
            .iter()
            .any(|other| other.sha == item.sha)
    };
    if item.state != ReleasePhase::Bad && is_quarantined() {
        state += ", quarantined";
    }
    let state = match item.state {
        ReleasePhase::Active => paint.good(&state),
        ReleasePhase::Failed | ReleasePhase::Bad => paint.bad(&state),
        ReleasePhase::OnTrial | ReleasePhase::Building => paint.changed(&state),
        ReleasePhase::Good | ReleasePhase::Built | ReleasePhase::Private => state,
    };
    vec![
        inventory.app.clone(),
        item.release.clone(),
        state,
        item.sha.short().to_owned(),
        item.reference.clone().unwrap_or_else(none),
        format_age(item.started, now),
        size,
        by.unwrap_or_else(none),
        why.unwrap_or_default(),
    ]
}

/// `active`, `failed at build`, `private until 2026-11-28`.
fn state_text(item: &ReleaseInfo, now: Timestamp) -> String {
    let at = |word: &str| match item.stage {
        Some(stage) => format!("{word} at {}", stage.as_str()),
        None => word.to_owned(),
    };
    match (item.state, item.private_until) {
        (ReleasePhase::Active, _) => "active".into(),
        (ReleasePhase::OnTrial, _) => "on trial".into(),
        (ReleasePhase::Good, _) => "good".into(),
        (ReleasePhase::Built, _) => "built".into(),
        (ReleasePhase::Private, Some(until)) if now < until => {
            format!("private until {}", until.strftime("%F"))
        }
        (ReleasePhase::Private, _) => "private, expired".into(),
        (ReleasePhase::Failed, _) => at("failed"),
        (ReleasePhase::Bad, _) if item.active => "bad, still active".into(),
        (ReleasePhase::Bad, _) => "bad".into(),
        (ReleasePhase::Building, _) => at("building"),
    }
}
