//! `trueup converge`: one pass.

use super::args::ConvergeArgs;
use super::hands::{Asks, Hands};
use super::words::{one_line, user};
use super::{Output, edge};
use crate::apply::{Event, RESOURCE};
use crate::exit::Exit;
use crate::pass::{self, Lift, Options, PassError, Places, Session};
use crate::problem::Problem;
use crate::report::{Report, Status, change_lines, debt_line, totals};

pub(super) fn run(
    args: &ConvergeArgs,
    places: &Places,
    output: &Output,
) -> Result<Exit, edge::Error> {
    let options = Options {
        force: args.force,
        over_holds: args.force,
        fresh: args.fresh,
        only: args.only.clone(),
        accept_shrink: args.accept_shrink,
        lift: lift(args.lift_quarantine.as_deref())?,
    };
    let asks = Asks {
        what: "`trueup converge`",
        or: "`trueup plan` needs less",
        wait: &args.wait,
    };
    let hands = Hands::on(places, &asks, output).inspect_err(|error| {
        if matches!(error, edge::Error::Pass(PassError::Input(_))) {
            pass::no_session(places, error.exit(), &error.line());
        }
    })?;
    let session = &hands.session;
    let done = session.converge(&options, &mut |event| {
        hands.tell(&event);
        tell(&event, output);
    });
    let report = done.map_err(edge::Error::from).inspect_err(|error| {
        if error.exit() != Exit::Usage {
            session.could_not(error.exit(), &error.line());
        }
    })?;
    finish(session, &report, output);
    Ok(report.outcome)
}

/// Who lifts a quarantine, with a reason that is one.
fn lift(reason: Option<&str>) -> Result<Option<Lift>, edge::Error> {
    if reason.is_none() {
        return Ok(None);
    }
    let said = one_line("--lift-quarantine", reason).map_err(edge::Error::Usage)?;
    let said = said.ok_or_else(|| {
        let problem = Problem::new("--lift-quarantine: expected a reason");
        edge::Error::Usage(problem.hint("what has changed, so that it works now?"))
    })?;
    Ok(Some(Lift {
        by: user().unwrap_or_else(|| "somebody".into()),
        reason: said,
    }))
}

/// What is being done, as it is done. The resource itself is in the span of the event.
pub(super) fn tell(event: &Event<'_>, output: &Output) {
    match event {
        // What is withheld is told with the reason, once, at the end.
        Event::Begin { change, .. } if change.is_withheld() => {}
        Event::Begin { id, change } => {
            tracing::info!(target: RESOURCE, verb = %change.verb, "{} {id}", change.verb);
            output.event(change_lines(output.paint, id, change));
        }
        Event::Trial { id, word } => {
            tracing::info!(target: RESOURCE, verb = "prove", "{id}: {word}");
            output.event(format!("{} {id} {word}", output.paint.changed("?")));
        }
        Event::Pay { id, debt } => {
            let causes = debt.causes.join(" ");
            tracing::info!(target: RESOURCE, verb = %debt.duty, causes, "{} {id}", debt.duty);
            output.event(debt_line(output.paint, id, debt, true));
        }
    }
}

/// What is left to say after a pass.
fn finish(session: &Session, report: &Report, output: &Output) {
    if output.json {
        output.document(report);
    } else if !output.journalled {
        print(session, report, output);
    }
}

/// The end of a pass, for people.
pub(super) fn print(session: &Session, report: &Report, output: &Output) {
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
