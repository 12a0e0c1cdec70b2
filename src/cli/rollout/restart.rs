//! `trueup rollout restart`.

use serde::Serialize;

use crate::cli::Output;
use crate::cli::act::Publisher;
use crate::cli::args::RolloutRestartArgs;
use crate::cli::format::current_user;
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::rollout::{RolloutTarget, request_restart};
use crate::pass::Paths;
use crate::ports::clock::{Clock, SystemClock};
use crate::problem::Problem;

/// The document of `rollout restart --output`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    version: u32,
    outcome: Exit,
    environment: &'a str,
    app: &'a str,
    /// The generation of the manifest that asks for it.
    generation: Option<u64>,
    warnings: &'a [Problem],
}

pub(super) fn run(
    args: &RolloutRestartArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    let publisher = Publisher::open(&args.publisher, paths, "rollout restart")?;
    let (store, target) = (publisher.store.as_ref(), &publisher.target);
    let (env, app) = (&args.env, &args.app);
    let target = RolloutTarget {
        store,
        environment: env,
        app,
        manifest_key: &target.manifest,
        fleet: &target.fleet,
    };
    let reason = args.reason.as_deref().unwrap_or_default();
    let operator = (&*current_user(), reason, SystemClock.now());
    let requested = request_restart(&target, operator, &publisher)?;
    if let Some(error) = &requested.unrecorded {
        output.print_error(&format!(
            "trueup: the history of the rollouts does not have it: {error}"
        ));
    }
    if output.is_document() {
        output.print_document(&Document {
            version: crate::report::VERSION,
            outcome: Exit::Converged,
            environment: env,
            app,
            generation: requested.generation,
            warnings: &requested.warnings,
        });
        return Ok(Exit::Converged);
    }
    let generation = requested.generation.unwrap_or_default();
    output.print_line(format!(
        "the hosts of {app} in {env} restart its services, by slots (generation {generation})"
    ));
    for warning in &requested.warnings {
        output.print_line(format!("{}: {warning}", output.paint.changed("warning")));
    }
    output.print_line(format!(
        "hint: `trueup rollout status {env} {app} --wait` ends when all have"
    ));
    Ok(Exit::Converged)
}
