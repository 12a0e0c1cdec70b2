//! `trueup rollback ENV APP`: takes an app back on all hosts of an environment.

use std::time::Duration;

use super::{Publisher, print_published};
use crate::cli::Output;
use crate::cli::args::RollbackArgs;
use crate::cli::commits::range_lines;
use crate::cli::confirm::require;
use crate::cli::repositories::users_git;
use crate::desired::{Action, HoldRequest, PublishRequest};
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::commits::CommitRange;
use crate::operate::publish::Publish;
use crate::operate::rollback_target::{RollbackPlan, RollbackSource, find_target};
use crate::operate::rollout::RolloutTarget;
use crate::pass::Paths;
use crate::ports::clock::{Clock, SystemClock};
use crate::printable;
use crate::problem::Problem;

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
    let plan = find_target(&target, args.to.as_deref(), trust.as_ref())?;
    output.print_text(format!("rolling back {app} on all hosts of {env}"));
    for line in plan_lines(&plan) {
        output.print_text(line);
    }
    let range = look_up(&plan, app, args)?;
    for line in range_lines(output.paint, &range) {
        output.print_text(line);
    }
    if range.migration_count > 0 {
        output.print_text("the database is not migrated down");
    }
    let request = publisher.request(env, Action::Rollback, args.reason.as_deref())?;
    let now = publisher.store.server_time().unwrap_or(SystemClock.now());
    let until = now
        .checked_add(args.time.unwrap_or(HOLD))
        .map_err(|_| CommandError::Usage(Problem::new("--for: it is too long")))?;
    let until = until.round(jiff::Unit::Second).unwrap_or(until);
    let hold_reason = match &request.reason {
        Some(reason) => format!("rolled back: {reason}"),
        None => format!("rolled back from {}", plan.from.short()),
    };
    if !args.publisher.yes {
        require("Go back?", "--yes")?;
    }
    let request = PublishRequest {
        shas: vec![(app.to_owned(), plan.to.clone())],
        hold: match args.no_hold {
            true => HoldRequest::Lift,
            false => HoldRequest::Set {
                reason: printable::line(&hold_reason).into_owned(),
                until: Some(until),
            },
        },
        // The question above was about this environment.
        confirmed: true,
        ..request
    };
    let published = publisher.publish(request)?;
    let generation = published.generation.unwrap_or_default();
    let mut lines = vec![match published.written {
        true => format!(
            "{env}/{app} goes back to {} (generation {generation})",
            plan.to.short()
        ),
        false => format!("{env}/{app} is at {} already", plan.to.short()),
    }];
    match args.no_hold {
        true => lines.push("not held: the next publish brings hosts forward again".to_owned()),
        false => lines.push(format!("held there until {until}: {hold_reason}")),
    }
    lines.push(format!(
        "hint: `trueup rollout status {env} {app} --wait` waits for its end"
    ));
    if !args.no_hold {
        lines.push(format!(
            "hint: `trueup unhold {env} {app}` lets it go forward again"
        ));
    }
    print_published(output, Action::Rollback, env, &published, &lines);
    Ok(Exit::Converged)
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

/// From where to where, how that was found, and what it ends.
fn plan_lines(plan: &RollbackPlan) -> Vec<String> {
    let source = match plan.source {
        RollbackSource::Asked => "as asked",
        RollbackSource::Served => "the last one before it that hosts served",
        RollbackSource::Previous => "`previous` of the manifest",
    };
    let mut lines = vec![format!(
        "from {} to {}, {source}",
        plan.from.short(),
        plan.to.short()
    )];
    lines.extend(
        plan.hold
            .as_ref()
            .map(|hold| format!("this ends a hold: {}", hold.description())),
    );
    lines
}
