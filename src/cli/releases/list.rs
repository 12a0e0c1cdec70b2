//! `trueup releases list`: every release of every app, and what was decided about its shas.

use jiff::Timestamp;
use serde_json::json;

use crate::cli::args::ListArgs;
use crate::cli::words::{age, bytes, failed};
use crate::cli::{Output, edge};
use crate::exit::Exit;
use crate::pass::{Places, Session};
use crate::ports::exec::StopFlag;
use crate::release::{self, Inventory, Item, State};
use crate::report::Paint;

const COLUMNS: [&str; 9] = [
    "APP", "RELEASE", "STATE", "SHA", "REF", "AGE", "SIZE", "BY", "WHY",
];

pub(super) fn run(args: &ListArgs, places: &Places, output: &Output) -> Result<Exit, edge::Error> {
    let session = Session::open(places, StopFlag::default())?;
    let apps = session.apps()?;
    let inventories = apps
        .chosen(args.app.as_deref())?
        .into_iter()
        .map(|app| release::inventory(app.spec, &session.host))
        .collect::<Result<Vec<Inventory>, _>>()
        .map_err(failed)?;
    if output.json {
        output.document(&json!({"version": crate::report::VERSION, "apps": inventories}));
    } else {
        print(&inventories, session.host.clock.now(), output);
    }
    Ok(Exit::Converged)
}

fn print(inventories: &[Inventory], now: Timestamp, output: &Output) {
    if inventories.is_empty() {
        output.line("no role of this host deploys an app");
        return;
    }
    let rows = inventories.iter().flat_map(|inventory| {
        let row = move |item| row(inventory, item, now, output.paint);
        inventory.releases.iter().map(row)
    });
    let mut table = vec![COLUMNS.map(String::from).to_vec()];
    table.extend(rows);
    if table.len() > 1 {
        output.table(&table);
    }
    for inventory in inventories {
        let app = &inventory.app;
        if inventory.releases.is_empty() {
            output.line(format!("{app}: there is no release yet"));
        }
        if let Some(pin) = &inventory.pin {
            output.line(format!("{app}: {}", output.paint.changed(&pin.words())));
        }
        for barred in &inventory.quarantine {
            output.line(format!("{app}: {}", output.paint.bad(&barred.words())));
        }
    }
}

fn row(inventory: &Inventory, item: &Item, now: Timestamp, paint: Paint) -> Vec<String> {
    let none = || "-".to_owned();
    let pin = inventory.pin.as_ref();
    let pinned = pin.filter(|pin| pin.release == item.release);
    let (by, why) = match pinned {
        Some(pin) => (Some(pin.by.clone()), pin.reason.clone()),
        None => (item.by.clone(), item.why.clone()),
    };
    let size = match item.size {
        None => "?".into(),
        Some(size) if size.shared > 0 => {
            format!("{} (+{} shared)", bytes(size.own), bytes(size.shared))
        }
        Some(size) => bytes(size.own),
    };
    let barred = inventory.quarantine.iter();
    let mut state = standing(item, now);
    if pinned.is_some() {
        state += ", pinned";
    }
    if item.state != State::Bad && barred.clone().any(|barred| barred.sha == item.sha) {
        state += ", quarantined";
    }
    let state = match item.state {
        State::Active => paint.good(&state),
        State::Failed | State::Bad => paint.bad(&state),
        State::OnTrial | State::Building => paint.changed(&state),
        State::Good | State::Built | State::Private => state,
    };
    vec![
        inventory.app.clone(),
        item.release.clone(),
        state,
        item.sha.short().to_owned(),
        item.reference.clone().unwrap_or_else(none),
        age(item.begun, now),
        size,
        by.unwrap_or_else(none),
        why.unwrap_or_default(),
    ]
}

/// `active`, `failed at build`, `private until 2026-11-28`.
fn standing(item: &Item, now: Timestamp) -> String {
    let at = |word: &str| match item.stage {
        Some(stage) => format!("{word} at {}", stage.word()),
        None => word.to_owned(),
    };
    match (item.state, item.private_until) {
        (State::Active, _) => "active".into(),
        (State::OnTrial, _) => "on trial".into(),
        (State::Good, _) => "good".into(),
        (State::Built, _) => "built".into(),
        (State::Private, Some(until)) if now < until => {
            format!("private until {}", until.strftime("%F"))
        }
        (State::Private, _) => "private, expired".into(),
        (State::Failed, _) => at("failed"),
        (State::Bad, _) if item.active => "bad, active still".into(),
        (State::Bad, _) => "bad".into(),
        (State::Building, _) => at("building"),
    }
}
