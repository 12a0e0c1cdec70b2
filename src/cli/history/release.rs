//! Prints the stages of one release.

use serde::Serialize;
use serde_json::json;

use crate::cli::Output;
use crate::cli::format::format_duration;
use crate::exit::Exit;
use crate::operate::{CommandError, release_history};
use crate::pass::Session;
use crate::release::{ReleaseHistory, StageEntry, StageStatus};

/// Number of output lines shown for a stage that succeeded.
const TAIL_LINES: usize = 3;
/// Number of output lines shown for a stage that failed.
const FAILED_TAIL_LINES: usize = 20;

/// A stage in the document of `--output`.
#[derive(Serialize)]
struct Stage<'a> {
    #[serde(flatten)]
    note: &'a StageEntry,
    output: &'a [String],
}

pub(super) fn run(
    name: &str,
    app: Option<&str>,
    session: &Session,
    output: &Output,
) -> Result<Exit, CommandError> {
    let lines = |note: &StageEntry| match note.status {
        StageStatus::Done | StageStatus::Skipped => TAIL_LINES,
        StageStatus::Failed | StageStatus::Running => FAILED_TAIL_LINES,
    };
    let (app, past) = release_history::find(session, name, app, lines)?;
    let stages = || past.entry.stages.iter().zip(&past.output);
    if output.is_document() {
        let stages: Vec<Stage<'_>> = stages()
            .map(|(note, output)| Stage { note, output })
            .collect();
        let entry = &past.entry;
        output.print_document(&json!({
            "version": crate::report::VERSION,
            "app": app,
            "release": entry.name,
            "sha": entry.sha,
            "ref": entry.reference,
            "by": entry.by,
            "state": entry.state,
            "at": entry.at,
            "why": entry.why,
            "log": past.log,
            "stages": stages,
        }));
        return Ok(Exit::Converged);
    }
    print_release(&app, &past, output);
    Ok(Exit::Converged)
}

fn print_release(app: &str, past: &ReleaseHistory, output: &Output) {
    let (paint, entry) = (output.paint, &past.entry);
    let reference = entry.reference.as_ref();
    let by = entry.by.as_ref();
    output.print_line(format!(
        "{} of {app}: {} since {}, sha {}{}{}",
        paint.strong(&entry.name),
        entry.state.as_str(),
        entry.at.strftime("%F %T UTC"),
        entry.sha,
        reference.map_or(String::new(), |reference| format!(" ({reference})")),
        by.map_or(String::new(), |by| format!(", asked for by {by}")),
    ));
    if let Some(why) = &entry.why {
        output.print_line(format!("why: {why}"));
    }
    if entry.stages.is_empty() {
        output.print_line("there is no record of its build");
    }
    for (note, printed) in entry.stages.iter().zip(&past.output) {
        let name = match &note.step {
            Some(step) => format!("  {} {step}", note.stage.as_str()),
            None => note.stage.as_str().to_owned(),
        };
        let duration = || format!("in {}", format_duration(note.took_ms));
        let (word, lasted) = match note.status {
            StageStatus::Done => (paint.good("done"), duration()),
            StageStatus::Skipped => ("skipped".to_owned(), duration()),
            StageStatus::Failed => (paint.bad("failed"), duration()),
            StageStatus::Running => (paint.changed("not finished"), String::new()),
        };
        let why = note.why.as_ref();
        let why = why.map_or(String::new(), |why| format!("  {why}"));
        let began = note.began.strftime("%F %T UTC");
        let line = format!("{name:<24} {began}  {word} {lasted}{why}");
        output.print_line(line.trim_end());
        for line in printed {
            output.print_line(format!("    {} {line}", paint.faint("|")));
        }
    }
    match &past.output_error {
        Some(why) => output.print_line(format!("cannot show its output: {why}")),
        None => output.print_line(format!("all of its output: {}", past.log.display())),
    }
}
