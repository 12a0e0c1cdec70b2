//! From the options of `trueup publish` to a request.

use super::args::PublishArgs;
use crate::cli::ci::CiJob;
use crate::cli::format::{current_user, parse_one_line};
use crate::desired::{HoldRequest, MAX_REASON_CHARS, PublishRequest};
use crate::operate::commits::Revision;
use crate::operate::publish::WantedCommit;
use crate::ports::clock::{Clock, SystemClock};
use crate::printable;
use crate::problem::Problem;
use crate::yaml::parse_end;

/// The request without its shas, and the commits that it names.
pub(super) fn parse_request(
    args: &PublishArgs,
    job: Option<&CiJob>,
) -> Result<(PublishRequest, Vec<WantedCommit>), Problem> {
    let given = parse_one_line("--ref", args.reference.as_deref())?;
    let mut wanted: Vec<WantedCommit> = Vec::new();
    for word in &args.apps {
        let one = parse_app(word, job)?;
        if wanted.iter().any(|known| known.app == one.app) {
            return Err(Problem::new(format!("`{}` is given twice", one.app)));
        }
        wanted.push(one);
    }
    if given.is_some() && wanted.len() > 1 {
        return Err(
            Problem::new("--ref goes with one app only").hint("publish the apps one by one")
        );
    }
    if let (Some(given), [only]) = (given, wanted.as_mut_slice()) {
        only.reference = Some(given);
    }
    let by = parse_one_line("--by", args.publisher.by.as_deref())?;
    let by = by.or_else(|| job.and_then(|job| job.by.clone()));
    let hold = parse_hold(args)?;
    let request = PublishRequest {
        by: Some(by.unwrap_or_else(current_user)),
        reason: parse_reason("--reason", args.reason.as_deref())?,
        // A person looks at the warning. CI would publish behind the hold, again and again.
        refuses_holds: job.is_some() && !args.next && hold == HoldRequest::Keep,
        // A person decides by the warning.
        refuses_overtaken: job.is_some(),
        hold,
        confirmed: args.publisher.yes,
        create: args.create,
        dry_run: args.dry_run,
        ..PublishRequest::new(&args.environment, SystemClock.now())
    };
    Ok((request, wanted))
}

fn parse_app(word: &str, job: Option<&CiJob>) -> Result<WantedCommit, Problem> {
    match (word.split_once('='), job) {
        (Some((app, text)), _) if !app.is_empty() => Ok(WantedCommit {
            app: app.to_owned(),
            revision: Revision::parse(text).map_err(|problem| Problem {
                message: format!("{app}: {}", problem.message),
                ..problem
            })?,
            reference: None,
        }),
        (None, Some(job)) if !word.is_empty() => Ok(WantedCommit {
            app: word.to_owned(),
            revision: Revision::Full(job.sha.clone()),
            reference: job.reference.clone(),
        }),
        _ => Err(
            Problem::new(format!("`{word}` is not `APP=SHA` or `APP=REF`")).hint(
                "as in `trueup publish production shop=main`; with --via-ci the app is enough",
            ),
        ),
    }
}

fn parse_hold(args: &PublishArgs) -> Result<HoldRequest, Problem> {
    let until = args.until.as_deref().map(|until| {
        parse_end(until.trim()).map_err(|invalid| {
            Problem::new(format!("--until: {}", invalid.message)).hint(invalid.hint)
        })
    });
    let until = until.transpose()?;
    Ok(match (&args.hold, args.lift_hold) {
        (Some(reason), _) => HoldRequest::Set {
            reason: parse_reason("--hold", Some(reason))?
                .ok_or_else(|| Problem::new("--hold: expected a reason"))?,
            until,
        },
        (None, true) => HoldRequest::Lift,
        (None, false) => HoldRequest::Keep,
    })
}

fn parse_reason(option: &str, text: Option<&str>) -> Result<Option<String>, Problem> {
    let Some(reason) = parse_one_line(option, text)? else {
        return Ok(None);
    };
    let length = reason.chars().count();
    if length > MAX_REASON_CHARS {
        return Err(Problem::new(format!(
            "{option}: it is {length} characters long; at most {MAX_REASON_CHARS} are allowed"
        )));
    }
    Ok(Some(printable::line(&reason).into_owned()))
}
