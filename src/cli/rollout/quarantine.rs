//! `trueup rollout quarantine`.

use serde::Serialize;

use super::act;
use crate::cli::Output;
use crate::cli::args::{QuarantineArgs, QuarantineCommand, QuarantineListArgs};
use crate::cli::format::format_age;
use crate::cli::target::StoreTarget;
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::manifest::check_names;
use crate::operate::rollout::{Intervention, QuarantinedApp, list_quarantines};
use crate::pass::{PassError, Paths};
use crate::ports::clock::{Clock, SystemClock};
use crate::ports::store;

/// The document of `rollout quarantine list --output`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    version: u32,
    store: &'a str,
    environment: &'a str,
    quarantined: &'a [QuarantinedApp],
    /// Objects that cannot be used.
    problems: &'a [String],
}

pub(super) fn run(
    args: &QuarantineArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    match &args.command {
        QuarantineCommand::List(args) => list(args, paths, output),
        QuarantineCommand::Lift(args) => {
            act::run(args, &Intervention::LiftQuarantine, paths, output)
        }
    }
}

fn list(args: &QuarantineListArgs, paths: &Paths, output: &Output) -> Result<Exit, CommandError> {
    let target = StoreTarget::resolve(&args.at, paths, "rollout quarantine list")?;
    let store = store::open(&target.store).map_err(PassError::Store)?;
    let (found, damaged) = list_quarantines(store.as_ref(), &args.env, args.app.as_deref())?;
    if output.is_document() {
        output.print_document(&Document {
            version: crate::report::VERSION,
            store: store.address(),
            environment: &args.env,
            quarantined: &found,
            problems: &damaged,
        });
    } else if found.is_empty() && damaged.is_empty() {
        let app = args.app.as_deref();
        check_names(store.as_ref(), &target.manifest, &args.env, app)?;
        output.print_line(format!("no sha is quarantined in {}", args.env));
    } else if !found.is_empty() {
        let (paint, now) = (output.paint, SystemClock.now());
        let heads = ["app", "sha", "since", "by", "reason"];
        let mut rows = vec![heads.map(|head| paint.faint(head)).to_vec()];
        rows.extend(found.iter().map(|found| {
            vec![
                paint.strong(&found.app),
                found.sha.short().to_owned(),
                format_age(found.quarantine.at, now),
                found.quarantine.by.clone(),
                found.quarantine.reason.clone(),
            ]
        }));
        output.print_reference(&rows);
    }
    for line in &damaged {
        let warning = output.paint.changed("warning");
        output.print_text(format!("{warning}: {line}"));
    }
    Ok(match damaged.is_empty() {
        true => Exit::Converged,
        false => Exit::Stale,
    })
}
