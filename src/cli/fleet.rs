//! `trueup fleet`: the state of each app on each node.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::Output;
use super::args::StepResult;
use super::format::{current_user, format_age};
use super::progress::Progress;
use super::rollout::step_outcome;
use super::target::{StoreArgs, StoreTarget};
use crate::desired::Sha;
use crate::exit::Exit;
use crate::fleet::{AppView, FleetView, InstanceView, NodeView, ServingState};
use crate::operate::CommandError;
use crate::operate::fleet::FleetWatch;
use crate::operate::forget::{RETURN_NOTE, forget};
use crate::operate::rollout::NodeRelease;
use crate::pass::{PassError, Paths};
use crate::ports::backoff;
use crate::ports::clock::{Clock, SystemClock};
use crate::ports::store;
use crate::problem::Problem;
use crate::report::Paint;
use crate::settings::is_name;

#[derive(Debug, Args)]
#[command(
    after_help = "The exit code is that of the worst node: 0 all as wanted, 2 in progress, 3 held or waiting, 4 rolled back or \
                  quarantined, 5 a node is gone or silent, a record cannot be read, or EC2 does not list its instances, 1 or 78 a pass failed, or `--env` or `--app` \
                  matches nothing. Use `--forget` for a node whose machine is gone for good. A live node returns with its next \
                  heartbeat and is missing from all peer lists until then: forgetting it needs `--yes`."
)]
pub struct FleetArgs {
    /// Which environment [default: the settings' own]
    #[arg(long, value_name = "ENV")]
    pub env: Option<String>,
    /// Only this app
    #[arg(long, value_name = "APP")]
    pub app: Option<String>,
    /// Repeat every so many seconds, until interrupted
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "5", value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub watch: Option<u16>,
    /// Remove the record of this node from the store instead, and free its slots in rollouts
    #[arg(long, value_name = "NODE", conflicts_with_all = ["watch", "app"])]
    pub forget: Option<String>,
    /// Forget the node even if it sent a heartbeat recently
    #[arg(long, requires = "forget")]
    pub yes: bool,
    /// How the step ended that the forgotten node runs for all hosts, if it runs one
    #[arg(long, value_enum, value_name = "RESULT", requires = "forget")]
    pub step: Option<StepResult>,
    #[command(flatten)]
    pub at: StoreArgs,
}

/// The document of `fleet --output`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    version: u32,
    store: &'a str,
    /// The store's time.
    now: Timestamp,
    #[serde(flatten)]
    view: &'a FleetView,
}

pub(super) fn run(args: &FleetArgs, paths: &Paths, output: &Output) -> Result<Exit, CommandError> {
    let target = StoreTarget::resolve(&args.at, paths, "fleet")?;
    let environment = args.env.clone().or(target.environment.clone());
    let environment = environment.filter(|name| is_name(name)).ok_or_else(|| {
        let problem = Problem::new("no environment given: expected `--env ENV`");
        CommandError::Usage(problem.hint("as in `trueup fleet --env production`"))
    })?;
    let store = store::open(&target.store).map_err(PassError::Store)?;
    if let Some(node) = &args.forget {
        let release = NodeRelease {
            store: store.as_ref(),
            environment: &environment,
            manifest_key: &target.manifest,
            fleet: &target.fleet,
            node,
            step: args.step.map(step_outcome),
            by: &current_user(),
            now: SystemClock.now(),
        };
        return print_forgotten(&release, args.yes, output);
    }
    let mut watch = FleetWatch::new(
        store.as_ref(),
        &environment,
        &target.manifest,
        &target.fleet,
    );
    watch.app = args.app.as_deref();
    watch.is_environment_given = args.env.is_some();
    watch.is_own_environment = target.environment.as_ref() == Some(&environment);
    let Some(seconds) = args.watch else {
        let progress = Progress::begin(format!("reading the records of {environment}"));
        let (view, now) = watch.observe()?;
        drop(progress);
        print_view(&view, now, store.address(), output);
        return Ok(view.outcome);
    };
    loop {
        match watch.observe() {
            Ok((view, now)) => {
                output.clear_screen();
                print_view(&view, now, store.address(), output);
            }
            // Keep watching: an operator wants to see the store come back.
            Err(error) => output.print_error(&format!("trueup: {error}")),
        }
        backoff::sleep(Duration::from_secs(seconds.into()));
    }
}

fn print_forgotten(
    release: &NodeRelease<'_>,
    even_if_alive: bool,
    output: &Output,
) -> Result<Exit, CommandError> {
    let forgotten = forget(release, even_if_alive)?;
    let (node, environment) = (release.node, release.environment);
    forgotten
        .released
        .iter()
        .for_each(|line| output.print_text(line));
    output.print_text(format!("removed the record of {node} in {environment}"));
    let mut warnings = forgotten.warnings;
    warnings.extend(forgotten.was_alive.then(|| RETURN_NOTE.to_owned()));
    for line in &warnings {
        let warning = output.paint.changed("warning");
        output.print_text(format!("{warning}: {line}"));
    }
    if output.is_document() {
        output.print_document(&serde_json::json!({
            "version": crate::report::VERSION, "outcome": Exit::Converged, "forgotten": node,
            "released": forgotten.released, "warnings": warnings,
        }));
    }
    Ok(Exit::Converged)
}

fn print_view(view: &FleetView, now: Timestamp, store: &str, output: &Output) {
    if output.is_document() {
        return output.print_document(&Document {
            version: crate::report::VERSION,
            store,
            now,
            view,
        });
    }
    let paint = output.paint;
    let is_empty = view.nodes.is_empty() && view.instances.is_empty();
    if is_empty && view.outcome == Exit::Converged {
        output.print_line(format!(
            "no node of {} has reported to {store}",
            view.environment
        ));
    } else if !is_empty {
        let heads = ["node", "app", "wanted", "actual", "since", "seen", "state"];
        let mut rows = vec![heads.map(|head| paint.faint(head)).to_vec()];
        rows.extend(
            view.nodes
                .iter()
                .flat_map(|node| node_rows(node, now, paint)),
        );
        let instances = view.instances.iter();
        rows.extend(instances.map(|instance| instance_row(instance, paint)));
        output.print_table(&rows);
    }
    for rollout in view.rollouts.iter().filter(|rollout| !rollout.is_done()) {
        let (app, headline) = (paint.strong(&rollout.app), rollout.headline());
        let why = rollout.waits_for.as_ref();
        let why = why.map_or(String::new(), |why| format!("; {why}"));
        output.print_paragraph(&format!("rollout of {app}: {headline}{why}"));
        for failure in &rollout.local_failures {
            let why = paint.bad(&failure.describe());
            output.print_paragraph(&format!("  {}: {why}", failure.node));
        }
    }
    for problem in &view.problems {
        output.print_paragraph(&format!("{}: {problem}", paint.changed("warning")));
    }
}

/// A row for each app of a node, or one for a node without apps.
fn node_rows(node: &NodeView, now: Timestamp, paint: Paint) -> Vec<Vec<String>> {
    let last_seen = || match node.gone || node.silent {
        true => paint.bad(&format_age(node.last_seen, now)),
        false => format_age(node.last_seen, now),
    };
    let mut rows: Vec<Vec<String>> = Vec::new();
    for app in &node.apps {
        rows.push(vec![
            paint.strong(&node.node),
            app.app.clone(),
            short_sha(app.wanted.as_ref()),
            short_sha(app.actual.as_ref()),
            app.since.map_or("-".into(), |since| format_age(since, now)),
            last_seen(),
            state_text(app, node.gone, paint),
        ]);
    }
    if node.apps.is_empty() || node.why.is_some() {
        let state = match (&node.why, node.outcome) {
            (None, outcome) => paint_outcome(outcome, outcome_word(outcome, node.gone), paint),
            (Some(why), outcome) => {
                let word = outcome_word(outcome, node.gone);
                format!("{}: {why}", paint_outcome(outcome, word, paint))
            }
        };
        let none = || "-".to_owned();
        let name = paint.strong(&node.node);
        rows.push(vec![
            name,
            none(),
            none(),
            none(),
            none(),
            last_seen(),
            state,
        ]);
    }
    rows
}

/// A row for an instance without an agent.
fn instance_row(instance: &InstanceView, paint: Paint) -> Vec<String> {
    let apps = match instance.apps.is_empty() {
        true => "-".to_owned(),
        false => instance.apps.join(" "),
    };
    let name = instance.name.as_ref();
    let name = name.map_or(String::new(), |name| format!(" ({name})"));
    let addresses: Vec<String> = instance.addresses.iter().map(ToString::to_string).collect();
    let state = format!("{} at {}{name}", instance.state, addresses.join(", "));
    let none = || "-".to_owned();
    let word = paint.changed("no agent");
    vec![
        paint.strong(&instance.id),
        apps,
        none(),
        none(),
        none(),
        none(),
        format!("{word}: {state}"),
    ]
}

fn short_sha(sha: Option<&Sha>) -> String {
    sha.map_or("-".into(), |sha| sha.short().to_owned())
}

/// A node is stale if it is gone, or only silent as yet.
fn outcome_word(outcome: Exit, is_gone: bool) -> &'static str {
    match outcome {
        Exit::Stale if is_gone => "gone",
        outcome => outcome.word(),
    }
}

fn state_text(app: &AppView, is_gone: bool, paint: Paint) -> String {
    let plain = match (app.outcome, app.state) {
        (Exit::Converged, ServingState::Absent) => "absent",
        (Exit::Converged, _) => "serving",
        (outcome, _) => outcome_word(outcome, is_gone),
    };
    let state = paint_outcome(app.outcome, plain, paint);
    match &app.why {
        Some(why) => format!("{state}: {why}"),
        None => state,
    }
}

fn paint_outcome(outcome: Exit, word: &str, paint: Paint) -> String {
    match outcome {
        Exit::Converged => paint.good(word),
        Exit::Failed | Exit::BadInput | Exit::RolledBack | Exit::Stale => paint.bad(word),
        _ => paint.changed(word),
    }
}
