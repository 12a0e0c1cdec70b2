//! What one release went through, stage by stage.

use serde::Serialize;
use serde_json::json;

use crate::cli::words::{failed, took};
use crate::cli::{Output, edge};
use crate::exit::Exit;
use crate::pass::Session;
use crate::problem::{Problem, nearest};
use crate::release::{self, Ended, Note, Past};

/// How many of the last lines are shown of what went well.
const LINES: usize = 3;
/// The same of what did not.
const LINES_FAILED: usize = 20;

/// A stage in the document of `--json`.
#[derive(Serialize)]
struct Stage<'a> {
    #[serde(flatten)]
    note: &'a Note,
    output: &'a [String],
}

pub(super) fn run(
    name: &str,
    app: Option<&str>,
    session: &Session,
    output: &Output,
) -> Result<Exit, edge::Error> {
    let (app, past) = find(name, app, session)?;
    let stages = || past.entry.stages.iter().zip(&past.output);
    if output.json {
        let stages: Vec<Stage<'_>> = stages()
            .map(|(note, output)| Stage { note, output })
            .collect();
        let entry = &past.entry;
        output.document(&json!({
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
    print(&app, &past, output);
    Ok(Exit::Converged)
}

/// The release of this name, of the app that has it.
fn find(name: &str, app: Option<&str>, session: &Session) -> Result<(String, Past), edge::Error> {
    let lines = |note: &Note| match note.ended {
        Ended::Done | Ended::Skipped => LINES,
        Ended::Failed | Ended::Running => LINES_FAILED,
    };
    let apps = session.apps()?;
    let (mut found, mut known) = (Vec::new(), Vec::new());
    for app in apps.chosen(app)? {
        let past = release::past(app.spec, &session.host, name, lines).map_err(failed)?;
        match past {
            Some(past) => found.push((app.spec.app.clone(), past)),
            None => known.extend(release::names(app.spec, &session.host).map_err(failed)?),
        }
    }
    if found.len() > 1 {
        let names: Vec<String> = found.iter().map(|(app, _)| format!("`{app}`")).collect();
        return Err(edge::Error::Usage(
            Problem::new(format!("{} have a release `{name}`", names.join(" and ")))
                .hint("say which with `--app APP`"),
        ));
    }
    found.pop().ok_or_else(|| {
        let problem = Problem::new(format!("there is no release `{name}`"));
        edge::Error::Usage(match nearest(name, known.iter().map(String::as_str)) {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None => problem.hint("`trueup releases` shows what there is"),
        })
    })
}

fn print(app: &str, past: &Past, output: &Output) {
    let (paint, entry) = (output.paint, &past.entry);
    let reference = entry.reference.as_ref();
    let by = entry.by.as_ref();
    output.line(format!(
        "{} of {app}: {} since {}, sha {}{}{}",
        paint.strong(&entry.name),
        entry.state.word(),
        entry.at.strftime("%F %T UTC"),
        entry.sha,
        reference.map_or(String::new(), |reference| format!(" ({reference})")),
        by.map_or(String::new(), |by| format!(", asked for by {by}")),
    ));
    if let Some(why) = &entry.why {
        output.line(format!("why: {why}"));
    }
    if entry.stages.is_empty() {
        output.line("nothing is on record about how it was built");
    }
    for (note, printed) in entry.stages.iter().zip(&past.output) {
        let name = match &note.step {
            Some(step) => format!("  {} {step}", note.stage.word()),
            None => note.stage.word().to_owned(),
        };
        let (word, lasted) = match note.ended {
            Ended::Done => (paint.good("done"), took(note.took_ms)),
            Ended::Skipped => ("skipped".to_owned(), took(note.took_ms)),
            Ended::Failed => (paint.bad("failed"), took(note.took_ms)),
            Ended::Running => (paint.changed("not finished"), String::new()),
        };
        let why = note.why.as_ref();
        let why = why.map_or(String::new(), |why| format!("  {why}"));
        let began = note.began.strftime("%F %T UTC");
        let line = format!("{name:<24} {began}  {word} {lasted}{why}");
        output.line(line.trim_end());
        for line in printed {
            output.line(format!("    {} {line}", paint.faint("|")));
        }
    }
    match &past.silent {
        Some(why) => output.line(format!("what it printed cannot be shown: {why}")),
        None => output.line(format!("all that it printed: {}", past.log.display())),
    }
}
