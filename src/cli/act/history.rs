//! `trueup history ENV [APP]`: what was published in an environment, by whom, when and why.

use serde::Serialize;

use crate::cli::Output;
use crate::cli::args::HistoryArgs;
use crate::cli::progress::Progress;
use crate::cli::target::StoreTarget;
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::environment_history::{AppMove, Generation, read_history};
use crate::pass::{PassError, Paths};
use crate::ports::store;
use crate::report::Paint;
use crate::settings;

/// The document of `history ENV --output`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    version: u32,
    environment: &'a str,
    /// Newest first.
    generations: &'a [Generation],
}

pub(in crate::cli) fn run(
    environment: &str,
    args: &HistoryArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    let target = StoreTarget::resolve(&args.at, paths, "history")?;
    let store = store::open(&target.store).map_err(PassError::Store)?;
    let signers = match &args.signers {
        Some(file) => Some(settings::read_signers(file)?),
        None => target.signers,
    };
    let app = args.of_app.as_deref();
    let scope = (environment, app);
    let progress = Progress::begin(format!("reading the history of {environment}"));
    let found = read_history(
        store.as_ref(),
        &target.manifest,
        scope,
        args.limit,
        signers.as_ref(),
    )?;
    drop(progress);
    if output.is_document() {
        output.print_document(&Document {
            version: crate::report::VERSION,
            environment,
            generations: &found,
        });
        return Ok(Exit::Converged);
    }
    let of = app.map_or(String::new(), |app| format!(" of {app}"));
    if found.is_empty() {
        output.print_line(format!("no act{of} in {environment} is on record yet"));
        return Ok(Exit::Converged);
    }
    output.print_paragraph(&format!("acts{of} in {environment}, newest first:"));
    let head = ["N", "WHEN", "ACT", "BY", "WHAT", "WHY"];
    let mut rows = vec![head.map(String::from).to_vec()];
    rows.extend(found.iter().map(|one| row(one, output.paint)));
    output.print_reference(&rows);
    Ok(Exit::Converged)
}

fn row(one: &Generation, paint: Paint) -> Vec<String> {
    let when = one.at.map(|at| at.strftime("%F %H:%M UTC").to_string());
    let moves = one.apps.iter().map(move_text);
    let settings = one.settings.iter().map(|key| format!("_settings.{key}"));
    let mut what: Vec<String> = moves.chain(settings).collect();
    if one.action.is_none() {
        what.push("no copy in the store".to_owned());
    }
    if let Some(Err(why)) = &one.signature {
        what.push(paint.bad(&format!("not signed by a signer: {why}")));
    }
    vec![
        one.generation.to_string(),
        when.unwrap_or_default(),
        one.action.map_or("", |action| action.name()).to_owned(),
        one.by.clone().unwrap_or_default(),
        what.join(", "),
        one.reason.clone().unwrap_or_default(),
    ]
}

/// `shop 4f2c9d0 -> 9b1c44e (master)`.
fn move_text(one: &AppMove) -> String {
    let reference = one.reference.as_ref();
    let reference = reference.map_or(String::new(), |name| format!(" ({name})"));
    let app = &one.app;
    match (&one.from, &one.to, &one.next) {
        (Some(from), Some(to), _) => format!("{app} {} -> {}{reference}", from.short(), to.short()),
        (None, Some(to), _) => format!("{app} new -> {}{reference}", to.short()),
        (_, None, Some(next)) => format!("{app} next {}{reference}", next.short()),
        (_, None, None) => app.clone(),
    }
}
