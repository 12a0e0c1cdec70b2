//! Prints the status of a host as text.

use jiff::Timestamp;

use crate::cli::Output;
use crate::cli::format::{cron_text, format_age, format_duration};
use crate::exit::Exit;
use crate::operate::status::{NextPass, StatusReport};
use crate::pass::{ProbeResult, ServingStatus};
use crate::release::RunningStep;
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
    print_failures(status, output);
    let mut rows = pass_rows(status, paint);
    for app in &report.apps {
        rows.extend(app_rows(status, app, paint));
    }
    rows.push(vec!["resources".into(), counts_text(report.counts)]);
    output.print_list(&rows);
    print_resources(status, output);
    if let Some(policy) = &report.policy {
        output.print_line(format!(
            "{}: {}",
            paint.strong("policy"),
            policy.description()
        ));
    }
    for kept in report.kept_lists.iter().chain(&report.publish_error) {
        output.print_line(format!("{}: {kept}", paint.changed("stale")));
    }
    for warning in &report.warnings {
        output.print_line(format!("{}: {warning}", paint.changed("warning")));
    }
}

/// What programs printed last where the last pass failed, and what to do. The line before says what failed.
fn print_failures(status: &StatusReport, output: &Output) {
    for row in &status.failures {
        let why = row.why.as_deref().unwrap_or_default();
        let mut details: Vec<String> = why.lines().skip(1).map(str::to_owned).collect();
        let hint = row.hint.as_ref();
        details.extend(hint.map(|hint| format!("  hint: {hint}")));
        let is_told = status.failures.len() == 1;
        if !details.is_empty() && !is_told {
            output.print_line(format!("{}:", row.id));
        }
        for line in details {
            output.print_line(line);
        }
    }
}

/// The last and the next pass, and what is wrong with them.
fn pass_rows(status: &StatusReport, paint: Paint) -> Vec<Vec<String>> {
    let mut rows = vec![
        vec!["last pass".into(), last_pass_text(status)],
        vec!["next pass".into(), next_pass_text(status)],
    ];
    if let Some(overdue) = &status.overdue {
        let message = overdue.words();
        // Avoids printing the same sentence twice.
        if status.why.as_ref() != Some(&message) {
            rows.push(vec![String::new(), paint.changed(&message)]);
        }
    }
    if let Some(stale) = status.stale {
        let since = stale.since.map_or("no answer since boot".into(), |since| {
            let age = format_age(since, status.now);
            format!("since {} ({age})", since.strftime("%F %T UTC"))
        });
        let word = paint.changed("stale");
        rows.push(vec!["store".into(), format!("{word} {since}")]);
    }
    rows
}

/// An app, whether it serves, and what keeps it from the wanted release.
fn app_rows(status: &StatusReport, app: &AppReport, paint: Paint) -> Vec<Vec<String>> {
    let mut rows = vec![vec![format!("app {}", app.app), app_text(app, paint)]];
    let Some(details) = status.app_status(&app.app) else {
        return rows;
    };
    let mut add = |text: String| rows.push(vec![String::new(), text]);
    if let Some(running) = &details.running {
        add(running_text(running, status.now));
    }
    if let Some(drained) = &details.drained {
        add(paint.changed(drained));
    }
    if let Some(serving) = &details.serving {
        add(format!("serving: {}", serving_text(serving, paint)));
    }
    for job in &details.cron {
        let text = cron_text(job, status.now, paint);
        add(format!("cron {}: {text}", job.name));
    }
    if details.coordinated == Some(false) {
        add("rollout: none: each host takes a new sha by itself".to_owned());
    }
    if let Some(held) = &app.held {
        add(paint.changed(held));
    }
    if let Some(maintenance) = &app.maintenance {
        add(paint.changed(maintenance));
    }
    if let Some(pin) = &details.pin {
        add(paint.changed(&pin.describe()));
    }
    let (wanted, others): (Vec<_>, Vec<_>) = details
        .quarantine
        .iter()
        .partition(|quarantined| app.wanted.as_deref() == Some(quarantined.sha.as_str()));
    for quarantined in wanted {
        let is_above = status.why.as_ref().is_some_and(|why| {
            !quarantined.why.is_empty() && why.contains(quarantined.why.as_str())
        });
        let text = match is_above {
            true => quarantined.describe_shortly(),
            false => quarantined.describe(),
        };
        add(paint.bad(&text));
    }
    // They keep nobody from anything, and their reasons may be pages.
    if !others.is_empty() {
        let shas: Vec<&str> = others.iter().map(|other| other.sha.short()).collect();
        add(format!(
            "in quarantine here: {} (`trueup releases` shows why)",
            shas.join(", ")
        ));
    }
    rows
}

fn counts_text(counts: Counts) -> String {
    let Counts {
        right,
        changed,
        waiting,
        owed,
        not_inspected,
        ..
    } = counts;
    let mut text = format!("{right} right, {changed} differ");
    for (number, word) in [
        (waiting, "waiting"),
        (owed, "owed"),
        (not_inspected, "not inspected"),
    ] {
        if number > 0 {
            text += &format!(", {number} {word}");
        }
    }
    text
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
        if let Some(mut change) = row.change.clone() {
            // The app's own lines say why.
            change.fields.retain(|field| field.field != "quarantine");
            output.print_line(change_line(paint, &row.id, &change));
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
    let text = match (&app.actual, &app.wanted) {
        (None, None) => "nothing to deploy yet".into(),
        (Some(actual), None) => format!("at {actual}; not in the manifest"),
        (None, Some(wanted)) => format!("nothing deployed, wanted {wanted}{reference}"),
        (Some(actual), Some(wanted)) if actual == wanted => {
            format!("at {actual}{reference}, as wanted")
        }
        (Some(actual), Some(wanted)) => format!("at {actual}, wanted {wanted}{reference}"),
    };
    match app.state {
        AppState::Converged => text,
        state @ (AppState::Failed | AppState::RolledBack | AppState::Refused) => {
            format!("{text}: {}", paint.bad(state.word()))
        }
        state => format!("{text}: {}", paint.changed(state.word())),
    }
}

/// `running: build install of 20261121050000-4f2c9d0, for 3m: Fetching gem metadata`.
fn running_text(running: &RunningStep, now: Timestamp) -> String {
    let step = running.step.as_ref();
    let step = step.map_or(String::new(), |step| format!(" {step}"));
    let output = running.last_output.as_ref();
    let output = output.map_or(String::new(), |line| format!(": {line}"));
    format!(
        "running: {}{step} of {}, for {}{output}",
        running.stage.as_str(),
        running.release,
        format_age(running.since, now)
    )
}

fn serving_text(serving: &ServingStatus, paint: Paint) -> String {
    let part = |probe: &ProbeResult, good: &str, none: &str| match (probe.ok, &probe.why) {
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
