//! `trueup converge`: one pass.

use super::args::ConvergeArgs;
use super::hands::Hands;
use super::logging::RESOURCE;
use super::{Output, edge};
use crate::apply::Event;
use crate::exit::Exit;
use crate::pass::{Options, Places, Session};
use crate::report::{Report, Status, change_lines, debt_line, totals};

pub(super) fn run(
    args: &ConvergeArgs,
    places: &Places,
    output: &Output,
) -> Result<Exit, edge::Error> {
    let Hands { session, .. } = &Hands::on(places, "a pass", "`trueup plan` needs less")?;
    let options = Options {
        force: args.force,
        fresh: args.fresh,
        only: args.only.clone(),
    };
    let report = session.converge(&options, &mut |event| tell(&event, output))?;
    finish(session, &report, output);
    Ok(report.outcome)
}

/// What is being done, as it is done.
fn tell(event: &Event<'_>, output: &Output) {
    match event {
        // What is withheld is told with the reason, once, at the end.
        Event::Begin { change, .. } if change.is_withheld() => {}
        Event::Begin { id, change } => {
            tracing::info!(target: RESOURCE, resource = id, verb = %change.verb, "{} {id}", change.verb);
            output.text(change_lines(output.paint, id, change));
        }
        Event::Trial { id, word } => {
            tracing::info!(target: RESOURCE, resource = id, verb = "prove", "{id}: {word}");
            output.text(format!("{} {id} {word}", output.paint.changed("?")));
        }
        Event::Pay { id, debt } => {
            let causes = debt.causes.join(" ");
            tracing::info!(target: RESOURCE, resource = id, verb = %debt.duty, causes, "{} {id}", debt.duty);
            output.text(debt_line(output.paint, id, debt, true));
        }
    }
}

/// What is left to say after a pass.
fn finish(session: &Session, report: &Report, output: &Output) {
    for row in &report.resources {
        if matches!(row.status, Status::Failed | Status::RolledBack) {
            let why = row.why.as_deref().unwrap_or_default();
            tracing::error!(target: RESOURCE, resource = row.id, verb = "failed", "{}: {why}", row.id);
        }
    }
    if output.json {
        output.document(report);
        return;
    }
    let paint = output.paint;
    for row in &report.resources {
        let word = match row.status {
            Status::Failed => paint.bad("failed"),
            Status::RolledBack => paint.bad("rolled back"),
            Status::Waiting => paint.changed("waiting"),
            Status::Skipped => paint.changed("skipped"),
            _ if !row.owed.is_empty() => paint.changed("owed"),
            _ => continue,
        };
        output.line(format!(
            "{word} {}: {}",
            row.id,
            row.why.as_deref().unwrap_or("see above")
        ));
        if let Some(hint) = &row.hint {
            output.line(format!("  hint: {hint}"));
        }
        for debt in &row.owed {
            output.line(format!("  still owed: {} of {}", debt.duty, row.id));
        }
    }
    super::plan::print_state(report, output);
    if !session.host.root.privileged() {
        output.line(paint.faint("owners and accounts were left alone: this is not root"));
    }
    output.line(totals(paint, report));
}
