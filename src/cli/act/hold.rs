//! `trueup hold` and `trueup unhold`: freeze apps of an environment, or end that.

use super::{Details, Publisher, print_published};
use crate::cli::Output;
use crate::cli::args::{HoldArgs, UnholdArgs};
use crate::desired::{Action, HoldRequest, PublishRequest, ShaChange};
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::publish::Publish;
use crate::pass::Paths;
use crate::ports::clock::{Clock, SystemClock};
use crate::printable;
use crate::problem::Problem;
use crate::yaml::parse_end;

pub(in crate::cli) fn hold(
    args: &HoldArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    let publisher = Publisher::open(&args.publisher, paths, "hold")?;
    let request = publisher.request(&args.env, Action::Hold, Some(&args.reason))?;
    let Some(reason) = request.reason.clone() else {
        return Err(CommandError::Usage(Problem::new(
            "--reason: expected a text",
        )));
    };
    let until = match (&args.until, args.time) {
        (Some(until), _) => parse_end(until.trim()).map_err(|invalid| {
            let problem = Problem::new(format!("--until: {}", invalid.message));
            CommandError::Usage(problem.hint(invalid.hint))
        })?,
        (None, time) => {
            let time = time.unwrap_or_default();
            let now = publisher.store.server_time().unwrap_or(SystemClock.now());
            now.checked_add(time)
                .map_err(|_| CommandError::Usage(Problem::new("--for: it is too long")))?
        }
    };
    // To the second, as the manifest has it.
    let until = until.round(jiff::Unit::Second).unwrap_or(until);
    let request = PublishRequest {
        held_apps: args.apps.clone(),
        hold: HoldRequest::Set {
            reason: printable::line(&reason).into_owned(),
            until: Some(until),
        },
        ..request
    };
    let published = publisher.publish(request)?;
    let line = |one: &ShaChange| {
        format!(
            "{}/{} held at {} until {until}: {reason}",
            args.env,
            one.app,
            one.to.short()
        )
    };
    let lines: Vec<String> = published.changes.iter().map(line).collect();
    let details = Details {
        hold_reason: Some(&reason),
        held_until: Some(until),
        ..Details::default()
    };
    print_published(
        output,
        Action::Hold,
        &args.env,
        &published,
        &lines,
        &details,
    );
    Ok(Exit::Converged)
}

pub(in crate::cli) fn unhold(
    args: &UnholdArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    let publisher = Publisher::open(&args.act.publisher, paths, "unhold")?;
    let request = PublishRequest {
        held_apps: args.apps.clone(),
        hold: HoldRequest::Lift,
        ..publisher.request(&args.env, Action::Unhold, args.act.reason.as_deref())?
    };
    let published = publisher.publish(request)?;
    let line = |one: &ShaChange| {
        let name = format!("{}/{}", args.env, one.app);
        match published.written {
            true => format!("{name} follows the manifest again: {}", one.to.short()),
            false => format!("{name} is not held"),
        }
    };
    let lines: Vec<String> = published.changes.iter().map(line).collect();
    let details = Details::default();
    print_published(
        output,
        Action::Unhold,
        &args.env,
        &published,
        &lines,
        &details,
    );
    Ok(Exit::Converged)
}
