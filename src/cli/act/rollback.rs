//! `trueup rollback ENV APP`: takes an app back on all hosts of an environment.

use std::time::Duration;

use jiff::Timestamp;

use super::preview::show_before_question;
use super::{Details, Publisher, print_published};
use crate::cli::Output;
use crate::cli::args::RollbackArgs;
use crate::cli::commits::range_lines;
use crate::cli::confirm::require;
use crate::cli::progress::Progress;
use crate::cli::repositories::users_git;
use crate::desired::{
    Action, EditError, HoldRequest, PublishError, PublishRequest, PublishSummary,
};
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::commits::CommitRange;
use crate::operate::rollback_target::{RollbackPlan, RollbackSource, find_target};
use crate::operate::rollout::RolloutTarget;
use crate::pass::Paths;
use crate::ports::clock::{Clock, SystemClock};
use crate::printable;
use crate::problem::Problem;
use crate::report::Paint;

/// How long the hold of a rollback lasts unless an operator says otherwise: until the people who know have seen it.
const HOLD: Duration = Duration::from_secs(24 * 3600);

pub(in crate::cli) fn run(
    (env, app): (&str, &str),
    args: &RollbackArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    if args.unpin || args.force {
        return Err(CommandError::Usage(
            Problem::new("--unpin and --force are for a rollback of one host")
                .hint(format!("`trueup rollback {app}` on the host; `trueup unhold {env} {app}` ends the hold of a rollback")),
        ));
    }
    let publisher = Publisher::open(&args.publisher, paths, "rollback")?;
    let target = RolloutTarget {
        store: publisher.store.as_ref(),
        environment: env,
        app,
        manifest_key: &publisher.target.manifest,
        fleet: &publisher.target.fleet,
    };
    let trust = publisher.trust(env)?;
    let request = publisher.request(env, Action::Rollback, args.reason.as_deref())?;
    loop {
        let plan = find_target(&target, args.to.as_deref(), trust.as_ref())?;
        let range = look_up(&plan, app, args)?;
        let lines = |paint| plan_lines((env, app), &plan, &range, paint);
        // A document has all of it, but comes after the question.
        match output.is_document() && !args.publisher.yes {
            true => show_before_question(lines),
            false if output.is_document() => {}
            false => lines(output.paint)
                .iter()
                .for_each(|line| output.print_paragraph(line)),
        }
        let now = publisher.store.server_time().unwrap_or(SystemClock.now());
        let until = now
            .checked_add(args.time.unwrap_or(HOLD))
            .map_err(|_| CommandError::Usage(Problem::new("--for: it is too long")))?;
        let until = until.round(jiff::Unit::Second).unwrap_or(until);
        let reason = match &request.reason {
            Some(reason) => format!("rolled back: {reason}"),
            None => format!("rolled back from {}", plan.from.short()),
        };
        let hold = (!args.no_hold).then(|| (printable::line(&reason).into_owned(), until));
        if !args.publisher.yes {
            require("Go back?", "--yes")?;
        }
        let request = PublishRequest {
            shas: vec![(app.to_owned(), plan.to.clone())],
            hold: match &hold {
                None => HoldRequest::Lift,
                Some((reason, until)) => HoldRequest::Set {
                    reason: reason.clone(),
                    until: Some(*until),
                },
            },
            // The question above was about this environment as it was then.
            confirmed: true,
            confirmed_at: plan.generation,
            ..request.clone()
        };
        match publisher.write(request, false) {
            Err(PublishError::Edit(error @ EditError::Moved { .. })) => {
                output.print_error(&format!("trueup: {error}"));
            }
            done => {
                print_done((env, app), &plan, &range, hold.as_ref(), &done?, output);
                return Ok(Exit::Converged);
            }
        }
    }
}

fn print_done(
    (env, app): (&str, &str),
    plan: &RollbackPlan,
    range: &CommitRange,
    hold: Option<&(String, Timestamp)>,
    published: &PublishSummary,
    output: &Output,
) {
    let generation = published.generation.unwrap_or_default();
    let mut lines = vec![match published.written {
        true => format!(
            "{env}/{app} goes back to {} (generation {generation})",
            plan.to.short()
        ),
        false => format!("{env}/{app} is at {} already", plan.to.short()),
    }];
    lines.push(match hold {
        None => "not held: the next publish brings hosts forward again".to_owned(),
        Some((reason, until)) => format!("held there until {until}: {reason}"),
    });
    lines.push(format!(
        "hint: `trueup rollout status {env} {app} --wait` waits for its end"
    ));
    if hold.is_some() {
        lines.push(format!(
            "hint: `trueup unhold {env} {app}` lets it go forward again"
        ));
    }
    let details = Details {
        plan: Some(plan),
        range: Some(range),
        hold_reason: hold.map(|(reason, _)| reason.as_str()),
        held_until: hold.map(|(_, until)| *until),
        ..Details::default()
    };
    print_published(output, Action::Rollback, env, published, &lines, &details);
}

/// What the rollback takes away, if the repository says it: a rollback must not wait for a git server that is down.
fn look_up(
    plan: &RollbackPlan,
    app: &str,
    args: &RollbackArgs,
) -> Result<CommitRange, CommandError> {
    let git = users_git();
    let repositories = args.repositories.parse(&git, &[app]);
    let mut repositories = repositories.map_err(CommandError::Usage)?;
    let unknown = |why: String| CommitRange::unknown(&plan.from, &plan.to, why);
    let _progress = Progress::begin(format!("looking up the commits of {app}"));
    Ok(match repositories.open(app, plan.settings.as_ref()) {
        Ok(Some(commits)) => commits
            .commits_between(&plan.from, &plan.to)
            .unwrap_or_else(|error| unknown(error.summary())),
        Ok(None) => {
            unknown("no repository is named (`--repo`, or `_settings.repositories`)".into())
        }
        Err(error) => unknown(error.to_string()),
    })
}

/// From where to where, how that was found, and what it takes away and ends.
fn plan_lines(
    (env, app): (&str, &str),
    plan: &RollbackPlan,
    range: &CommitRange,
    paint: Paint,
) -> Vec<String> {
    let source = match plan.source {
        RollbackSource::Asked => "as asked",
        RollbackSource::Served => "the last one before it that hosts served",
        RollbackSource::Previous => "`previous` of the manifest",
    };
    let mut lines = vec![
        format!("rolling back {app} on all hosts of {env}"),
        format!(
            "from {} to {}, {source}",
            plan.from.short(),
            plan.to.short()
        ),
    ];
    let hold = plan.hold.as_ref();
    lines.extend(hold.map(|hold| format!("this ends a hold: {}", hold.description())));
    lines.extend(range_lines(paint, range));
    if range.migration_count > 0 {
        lines.push("the database is not migrated down".to_owned());
    }
    lines
}
