//! How a host stands, for people.

use super::{Next, Seen};
use crate::cli::Output;
use crate::cli::words::{age, took};
use crate::exit::Exit;
use crate::pass::{Proof, Serving};
use crate::report::{App, AppState, Counts, Paint, Status, change_lines, debt_line, waiting_lines};

pub(super) fn all(seen: &Seen, output: &Output) {
    let (paint, report) = (output.paint, &seen.report);
    output.line(format!(
        "{} in {}: {}",
        paint.strong(&report.node),
        report.environment,
        coloured(paint, seen.outcome)
    ));
    if let Some(why) = &seen.why {
        output.line(format!("why: {why}"));
    }
    let mut rows = vec![
        vec!["last pass".into(), last_pass(seen)],
        vec!["next pass".into(), next_pass(seen)],
    ];
    if let Some(overdue) = &seen.overdue {
        let words = overdue.words();
        // Once is enough.
        if seen.why.as_ref() != Some(&words) {
            rows.push(vec![String::new(), paint.changed(&words)]);
        }
    }
    if let Some(stale) = seen.stale {
        let since = stale.since.map_or("before the last boot".into(), |since| {
            let ago = age(since, seen.now);
            format!("{} ({ago})", since.strftime("%F %T UTC"))
        });
        let word = paint.changed("stale");
        rows.push(vec!["store".into(), format!("{word} since {since}")]);
    }
    for app in &report.apps {
        rows.push(vec![format!("app {}", app.app), standing(app, paint)]);
        let mut more = |word: &str, what: String| {
            rows.push(vec![String::new(), format!("{word}{what}")]);
        };
        let Some(own) = seen.standing_of(&app.app) else {
            continue;
        };
        if let Some(serving) = &own.serving {
            more("serving: ", proof(serving, paint));
        }
        if let Some(held) = &app.held {
            more("", paint.changed(held));
        }
        if let Some(pin) = &own.pin {
            more("", paint.changed(&pin.words()));
        }
        for barred in &own.quarantine {
            more("", paint.bad(&barred.words()));
        }
    }
    let Counts {
        right,
        changed,
        waiting,
        owed,
        ..
    } = report.counts;
    let mut counts = format!("{right} right, {changed} differ");
    for (number, word) in [(waiting, "waiting"), (owed, "owed")] {
        if number > 0 {
            counts += &format!(", {number} {word}");
        }
    }
    rows.push(vec!["resources".into(), counts]);
    output.table(&rows);
    resources(seen, output);
    for kept in report.kept_lists.iter().chain(&report.untold) {
        output.line(format!("{}: {kept}", paint.changed("stale")));
    }
    for warning in &report.warnings {
        output.line(format!("{}: {warning}", paint.changed("warning")));
    }
}

fn resources(seen: &Seen, output: &Output) {
    let paint = output.paint;
    for row in &seen.report.resources {
        if let (Some(change), Some(why), Status::Waiting) = (&row.change, &row.why, row.status) {
            output.line(waiting_lines(paint, &row.id, change, why));
            continue;
        }
        if let Some(change) = &row.change {
            output.line(change_lines(paint, &row.id, change));
        }
        if let Some(why) = &row.why {
            output.line(format!("{} {}: {why}", paint.bad("!"), row.id));
        }
        for debt in &row.owed {
            output.line(debt_line(paint, &row.id, debt, false));
        }
    }
}

fn coloured(paint: Paint, outcome: Exit) -> String {
    match outcome {
        Exit::Converged => paint.good(outcome.word()),
        Exit::Failed | Exit::BadInput | Exit::RolledBack => paint.bad(outcome.word()),
        _ => paint.changed(outcome.word()),
    }
}

fn last_pass(seen: &Seen) -> String {
    let Some(last) = &seen.last else {
        return "none since boot".into();
    };
    format!(
        "{} ({} ago), {} in {}",
        last.started.strftime("%F %T UTC"),
        age(last.started, seen.now),
        last.outcome.word(),
        took(last.took_ms)
    )
}

fn next_pass(seen: &Seen) -> String {
    if let Some(running) = &seen.running {
        return format!("running now: {}", running.words());
    }
    match seen.next {
        None => "not scheduled".into(),
        Some(Next { at: Some(at), .. }) => {
            // Of a time to come, the distance is the age of now.
            let distance = age(seen.now, at);
            format!("{} (in {distance})", at.strftime("%F %T UTC"))
        }
        Some(Next { underway: true, .. }) => "once the one that is running has ended".into(),
        Some(Next { timer, .. }) => {
            format!("not scheduled: {timer} is off (`systemctl enable --now {timer}`)")
        }
    }
}

/// Where an app is and where it should be, in a line.
fn standing(app: &App, paint: Paint) -> String {
    let reference = app.reference.as_ref();
    let reference = reference.map_or(String::new(), |name| format!(" ({name})"));
    let place = match (&app.actual, &app.wanted) {
        (None, None) => "nothing to deploy yet".into(),
        (Some(actual), None) => format!("at {actual}; the manifest does not name it"),
        (None, Some(wanted)) => format!("nothing deployed, wanted {wanted}{reference}"),
        (Some(actual), Some(wanted)) if actual == wanted => {
            format!("at {actual}{reference}, as wanted")
        }
        (Some(actual), Some(wanted)) => format!("at {actual}, wanted {wanted}{reference}"),
    };
    match app.state {
        AppState::Converged => place,
        state @ (AppState::Failed | AppState::RolledBack | AppState::Refused) => {
            format!("{place}: {}", paint.bad(state.word()))
        }
        state => format!("{place}: {}", paint.changed(state.word())),
    }
}

fn proof(serving: &Serving, paint: Paint) -> String {
    let part = |proof: &Proof, good: &str, none: &str| match (proof.ok, &proof.why) {
        (Some(true), _) => paint.good(good),
        (Some(false), why) => paint.bad(why.as_deref().unwrap_or("no")),
        (None, Some(why)) => why.clone(),
        (None, None) => none.to_owned(),
    };
    format!(
        "{}; {}",
        part(
            &serving.processes,
            "its processes run in the active release",
            "no service runs from it"
        ),
        part(
            &serving.health,
            "its health check answers",
            "it has no health check"
        )
    )
}
