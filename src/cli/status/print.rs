//! Prints the status of a host as text.

use crate::cli::Output;
use crate::cli::format::{format_age, format_duration};
use crate::exit::Exit;
use crate::operate::status::{NextPass, StatusReport};
use crate::pass::{ProbeResult, ServingStatus};
use crate::report::{
    AppReport, AppState, Counts, Paint, ResourceStatus, change_line, obligation_line, waiting_lines,
};

pub(super) fn print_status(status: &StatusReport, output: &Output) {
    let (paint, report) = (output.paint, &status.report);
    output.print_line(format!(
        "{} in {}: {}",
        paint.strong(&report.node),
        report.environment,
        paint_outcome(paint, status.outcome)
    ));
    if let Some(why) = &status.why {
        output.print_line(format!("why: {why}"));
    }
    let mut rows = vec![
        vec!["last pass".into(), last_pass_text(status)],
        vec!["next pass".into(), next_pass_text(status)],
    ];
    if let Some(overdue) = &status.overdue {
        let words = overdue.words();
        // Avoids printing the same sentence twice.
        if status.why.as_ref() != Some(&words) {
            rows.push(vec![String::new(), paint.changed(&words)]);
        }
    }
    if let Some(stale) = status.stale {
        let since = stale.since.map_or("before the last boot".into(), |since| {
            let ago = format_age(since, status.now);
            format!("{} ({ago})", since.strftime("%F %T UTC"))
        });
        let word = paint.changed("stale");
        rows.push(vec!["store".into(), format!("{word} since {since}")]);
    }
    for app in &report.apps {
        rows.push(vec![format!("app {}", app.app), app_text(app, paint)]);
        let mut more = |word: &str, what: String| {
            rows.push(vec![String::new(), format!("{word}{what}")]);
        };
        let Some(own) = status.app_status(&app.app) else {
            continue;
        };
        if let Some(serving) = &own.serving {
            more("serving: ", serving_text(serving, paint));
        }
        if let Some(held) = &app.held {
            more("", paint.changed(held));
        }
        if let Some(pin) = &own.pin {
            more("", paint.changed(&pin.describe()));
        }
        for barred in &own.quarantine {
            more("", paint.bad(&barred.describe()));
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
    output.print_table(&rows);
    print_resources(status, output);
    for kept in report.kept_lists.iter().chain(&report.untold) {
        output.print_line(format!("{}: {kept}", paint.changed("stale")));
    }
    for warning in &report.warnings {
        output.print_line(format!("{}: {warning}", paint.changed("warning")));
    }
}

fn print_resources(status: &StatusReport, output: &Output) {
    let paint = output.paint;
    for row in &status.report.resources {
        if let (Some(change), Some(why), ResourceStatus::Waiting) =
            (&row.change, &row.why, row.status)
        {
            output.print_line(waiting_lines(paint, &row.id, change, why));
            continue;
        }
        if let Some(change) = &row.change {
            output.print_line(change_line(paint, &row.id, change));
        }
        if let Some(why) = &row.why {
            output.print_line(format!("{} {}: {why}", paint.bad("!"), row.id));
        }
        for obligation in &row.owed {
            output.print_line(obligation_line(paint, &row.id, obligation, false));
        }
    }
}

fn paint_outcome(paint: Paint, outcome: Exit) -> String {
    match outcome {
        Exit::Converged => paint.good(outcome.word()),
        Exit::Failed | Exit::BadInput | Exit::RolledBack => paint.bad(outcome.word()),
        _ => paint.changed(outcome.word()),
    }
}

fn last_pass_text(status: &StatusReport) -> String {
    let Some(last) = &status.last else {
        return "none since boot".into();
    };
    format!(
        "{} ({} ago), {} in {}",
        last.started.strftime("%F %T UTC"),
        format_age(last.started, status.now),
        last.outcome.word(),
        format_duration(last.took_ms)
    )
}

fn next_pass_text(status: &StatusReport) -> String {
    if let Some(running) = &status.running {
        return format!("running now: {}", running.describe());
    }
    match status.next {
        None => "not scheduled".into(),
        Some(NextPass { at: Some(at), .. }) => {
            // For a future time, the distance is the age of now as seen from it.
            let distance = format_age(status.now, at);
            format!("{} (in {distance})", at.strftime("%F %T UTC"))
        }
        Some(NextPass { underway: true, .. }) => "when the running one has ended".into(),
        Some(NextPass { timer, .. }) => {
            format!("not scheduled: {timer} is off (`systemctl enable --now {timer}`)")
        }
    }
}

/// One line with the active and the wanted release of an app.
fn app_text(app: &AppReport, paint: Paint) -> String {
    let reference = app.reference.as_ref();
    let reference = reference.map_or(String::new(), |name| format!(" ({name})"));
    let place = match (&app.actual, &app.wanted) {
        (None, None) => "nothing to deploy yet".into(),
        (Some(actual), None) => format!("at {actual}; not in the manifest"),
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

fn serving_text(serving: &ServingStatus, paint: Paint) -> String {
    let part = |proof: &ProbeResult, good: &str, none: &str| match (proof.ok, &proof.why) {
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
            "its health check passes",
            "no health check"
        )
    )
}
