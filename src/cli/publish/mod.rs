//! `trueup publish`: sets the wanted sha of apps in the manifest.

mod args;
mod print;
mod request;
#[cfg(test)]
mod tests;

use std::io::IsTerminal;

pub(super) use self::args::PublishArgs;
use self::print::{Published, ResolvedRequest};
use self::request::parse_request;
use super::Output;
use super::act::Publisher;
use super::ci::CiJob;
use super::progress::Progress;
use super::repositories::users_git;
use super::rollout::{is_unreachable, wait_for_end};
use crate::desired::{Manifest, PublishSummary, RolloutMode};
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::publish::{LookupOptions, forecast, prepare, publish_prepared};
use crate::operate::rollout::RolloutTarget;
use crate::pass::Paths;
use crate::ports::store::Store;
use crate::problem::Problem;

pub(super) fn run(
    args: &PublishArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    let job = match args.via_ci {
        true => Some(CiJob::from_environment().map_err(CommandError::Usage)?),
        false => None,
    };
    let (mut request, wanted) = parse_request(args, job.as_ref()).map_err(CommandError::Usage)?;
    let apps: Vec<String> = wanted.iter().map(|one| one.app.clone()).collect();
    let names: Vec<&str> = apps.iter().map(String::as_str).collect();
    let git = users_git();
    let repositories = args.repositories.parse(&git, &names);
    let mut repositories = repositories.map_err(CommandError::Usage)?;
    let publisher = Publisher::open(&args.publisher, paths, "publish")?;
    let (store, target) = (publisher.store.as_ref(), &publisher.target);
    let options = LookupOptions {
        next: args.next,
        unchecked: args.unchecked,
    };
    let trust = publisher.trust(&args.environment)?;
    let progress = Progress::begin(format!("looking up the commits of {}", names.join(", ")));
    let mut prepared = prepare(
        (store, &target.manifest),
        trust.as_ref(),
        &wanted,
        options,
        &mut repositories,
        &mut request,
    )?;
    drop(progress);
    if args.wait {
        check_rollouts(store, prepared.manifest.as_ref(), args, &apps)?;
    }
    let gone_after = target.fleet.gone_after();
    let forecasts = |summary: &PublishSummary| match &summary.texts {
        Some(_) => {
            let environment = &args.environment;
            let _progress = Progress::begin(format!("reading the records of {environment}"));
            forecast(store, environment, summary, &apps, gone_after)
        }
        None => Vec::new(),
    };
    let (looked_up, asked) = (prepared.clone(), request.clone());
    let system = job.as_ref().map(|job| job.system);
    let preview = |summary: &PublishSummary, paint| {
        let resolved = ResolvedRequest {
            args,
            request: &asked,
            system,
            ranges: &looked_up.ranges,
            warnings: &looked_up.warnings,
        };
        let forecasts = forecasts(summary);
        Published::new(&resolved, summary, &forecasts).preview_lines(paint)
    };
    let summary = publish_prepared(
        &mut prepared,
        options,
        &mut repositories,
        &mut request,
        &mut |request| publisher.publish_above(request.clone(), args.above_fleet, &preview),
    )?;
    let resolved = ResolvedRequest {
        args,
        request: &request,
        system,
        ranges: &prepared.ranges,
        warnings: &prepared.warnings,
    };
    let forecasts = forecasts(&summary);
    let published = Published::new(&resolved, &summary, &forecasts);
    if !output.is_document() {
        let is_terminal = std::io::stdout().is_terminal();
        published.print_text(is_terminal && publisher.has_previewed(), output);
    }
    let (mut rollouts, mut outcome) = (Vec::new(), Exit::Converged);
    for app in apps.iter().filter(|_| args.wait) {
        let rollout = RolloutTarget {
            store,
            environment: &args.environment,
            app,
            manifest_key: &target.manifest,
            fleet: &target.fleet,
        };
        match wait_for_end(&rollout, args.timeout, output) {
            Ok((view, exit)) => {
                outcome = outcome.merge(exit);
                rollouts.push(view);
            }
            // What was published is on record nevertheless.
            Err(error) if is_unreachable(&error) => {
                output.print_error(&format!("trueup: {}", error.summary()));
                outcome = outcome.merge(Exit::Stale);
            }
            Err(error) => return Err(error),
        }
    }
    if output.is_document() {
        published.print_document(&rollouts, outcome, output);
    }
    Ok(outcome)
}

/// Refuses to wait for rollouts that there will not be, before anything is written.
fn check_rollouts(
    store: &dyn Store,
    manifest: Option<&Manifest>,
    args: &PublishArgs,
    apps: &[String],
) -> Result<(), CommandError> {
    let environments = manifest.map(|manifest| &manifest.environments);
    let environment = environments.and_then(|known| known.get(&args.environment));
    let is_independent = |app: &&String| {
        let mode = environment.map(|known| known.rollout(app));
        store.address().starts_with("dir:") || mode == Some(RolloutMode::Independent)
    };
    match apps.iter().find(is_independent) {
        None => Ok(()),
        Some(app) => Err(CommandError::Usage(
            Problem::new(format!(
                "--wait: {app} has no rollouts in {}, because each host goes for itself",
                args.environment
            ))
            .hint(format!(
                "publish without --wait; `trueup fleet --env {} --app {app}` shows where its hosts are",
                args.environment
            )),
        )),
    }
}
