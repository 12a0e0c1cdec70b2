//! `trueup note`: tasks for people that belong to the next deployment of an app.

use serde::Serialize;

use super::{Details, Publisher, print_published};
use crate::cli::Output;
use crate::cli::args::NoteArgs;
use crate::cli::format::{format_age, parse_one_line};
use crate::desired::{Action, DeployNote, MAX_REASON_CHARS, NoteChange, NoteEdit, PublishRequest};
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::notes::{AppNotes, open_notes};
use crate::operate::publish::Publish;
use crate::pass::Paths;
use crate::ports::clock::{Clock, SystemClock};
use crate::problem::Problem;

/// The document of `note --output` that only shows notes.
#[derive(Debug, Serialize)]
struct Document<'a> {
    version: u32,
    environment: &'a str,
    apps: &'a [AppNotes],
}

pub(in crate::cli) fn run(
    args: &NoteArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    let publisher = Publisher::open(&args.publisher, paths, "note")?;
    let text = parse_one_line("TEXT", args.text.as_deref()).map_err(CommandError::Usage)?;
    let change = match (text, args.done) {
        (Some(text), _) => NoteChange::Add(text),
        (None, Some(number)) => NoteChange::Done(number),
        (None, None) if args.text.is_some() => {
            return Err(CommandError::Usage(Problem::new("TEXT: expected a task")));
        }
        (None, None) => return show(args, &publisher, output),
    };
    let app = args.app.clone().unwrap_or_default();
    // For people and the history; what the number means when the note is removed is the edit's own business.
    let (line, reason) = match &change {
        NoteChange::Add(text) => (format!("to do: {text}"), format!("to do: {text}")),
        NoteChange::Done(number) => {
            let store = publisher.store.as_ref();
            let apps = open_notes(store, &publisher.target.manifest, &args.env, Some(&app))?;
            let notes = apps.first().map_or(&[][..], |known| &known.notes);
            let note = notes.iter().find(|note| note.number == *number);
            let text = note.map_or(String::new(), |note| format!(": {}", note.text));
            (
                format!("note {number} is done{text}"),
                format!("done{text}"),
            )
        }
    };
    let line = format!("{}/{app}: {line}", args.env);
    let request = PublishRequest {
        notes: vec![NoteEdit { app, change }],
        // A note may be as long as a reason.
        reason: Some(reason.chars().take(MAX_REASON_CHARS).collect()),
        ..publisher.request(&args.env, Action::Note, None)?
    };
    let published = publisher.publish(request)?;
    let details = Details::default();
    print_published(
        output,
        Action::Note,
        &args.env,
        &published,
        &[line],
        &details,
    );
    Ok(Exit::Converged)
}

fn show(args: &NoteArgs, publisher: &Publisher<'_>, output: &Output) -> Result<Exit, CommandError> {
    let store = publisher.store.as_ref();
    let key = &publisher.target.manifest;
    let apps = open_notes(store, key, &args.env, args.app.as_deref())?;
    if output.is_document() {
        output.print_document(&Document {
            version: crate::report::VERSION,
            environment: &args.env,
            apps: &apps,
        });
        return Ok(Exit::Converged);
    }
    if apps.is_empty() {
        output.print_line(format!("there is nothing to do in {}", args.env));
        return Ok(Exit::Converged);
    }
    let mut rows = vec![
        ["APP", "N", "AGE", "BY", "TO DO"]
            .map(String::from)
            .to_vec(),
    ];
    for one in &apps {
        rows.extend(one.notes.iter().map(|note| row(&one.app, note)));
    }
    output.print_reference(&rows);
    Ok(Exit::Converged)
}

fn row(app: &str, note: &DeployNote) -> Vec<String> {
    let age = note.at.map(|at| format_age(at, SystemClock.now()));
    vec![
        app.to_owned(),
        note.number.to_string(),
        age.unwrap_or_default(),
        note.by.clone().unwrap_or_default(),
        note.text.clone(),
    ]
}
