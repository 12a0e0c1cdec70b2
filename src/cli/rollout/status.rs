//! `trueup rollout status`.

use std::time::Duration;

use serde::Serialize;

use super::wait::Waiting;
use crate::cli::Output;
use crate::cli::args::RolloutStatusArgs;
use crate::cli::error::print_error;
use crate::cli::format::{format_age, format_duration};
use crate::cli::target::StoreTarget;
use crate::desired::POLICY_APP;
use crate::exit::Exit;
use crate::fleet::rollout::{self, EntryState, RestartProgress, RolloutView};
use crate::operate::CommandError;
use crate::operate::rollout::{RolloutTarget, observe_rollout};
use crate::pass::{PassError, Paths};
use crate::ports::clock::{Clock, SystemClock};
use crate::ports::store::StoreError;
use crate::ports::{backoff, store};
use crate::settings::Signers;

/// How often `--wait` looks.
const WAIT_INTERVAL: Duration = Duration::from_secs(2);

/// More hosts are not named.
const MAX_LISTED: usize = 10;

/// How often in a row the store may not answer until `--wait` gives up.
const MAX_FAILED_READS: u32 = 15;

/// The document of `rollout status --output`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    version: u32,
    store: &'a str,
    #[serde(flatten)]
    view: &'a RolloutView,
}

pub(super) fn run(
    args: &RolloutStatusArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    let target = StoreTarget::resolve(&args.at, paths, "rollout status")?;
    let store = store::open(&target.store).map_err(PassError::Store)?;
    let signers = target.signers;
    let target = RolloutTarget {
        store: store.as_ref(),
        environment: &args.env,
        app: &args.app,
        manifest_key: &target.manifest,
        fleet: &target.fleet,
    };
    if args.wait {
        return match wait_for_end(&target, args.timeout, output) {
            Ok((view, exit)) => {
                print_view(&view, store.address(), signers.as_ref(), output);
                Ok(exit)
            }
            Err(error) if is_unreachable(&error) => {
                print_error(&error, output);
                Ok(Exit::Stale)
            }
            Err(error) => Err(error),
        };
    }
    loop {
        if args.watch.is_some() {
            output.clear_screen();
        }
        match observe_rollout(&target, SystemClock.now()) {
            Ok(view) => {
                print_view(&view, store.address(), signers.as_ref(), output);
                if args.watch.is_none() {
                    return Ok(view.outcome);
                }
            }
            Err(error) if !is_unreachable(&error) => return Err(error),
            Err(error) if args.watch.is_none() => {
                print_error(&error, output);
                return Ok(Exit::Stale);
            }
            Err(error) => output.print_error(&format!("trueup: {}", error.summary())),
        }
        let seconds = args.watch.unwrap_or_default();
        backoff::sleep(Duration::from_secs(seconds.into()));
    }
}

/// Whether the store did not answer.
pub(in crate::cli) fn is_unreachable(error: &CommandError) -> bool {
    matches!(
        error,
        CommandError::Pass(PassError::Store(StoreError::Unreachable { .. }))
    )
}

/// Waits until a rollout is done or cannot go on, for `timeout` at most, and prints a line for each step. Returns how it
/// stands then, and its outcome. Fails if the store has not answered for half a minute.
pub(in crate::cli) fn wait_for_end(
    target: &RolloutTarget<'_>,
    timeout: Option<Duration>,
    output: &Output,
) -> Result<(RolloutView, Exit), CommandError> {
    let started = SystemClock.monotonic_now();
    let (mut last_line, mut failed_reads) = (String::new(), 0);
    let mut waiting = Waiting::default();
    loop {
        let view = match observe_rollout(target, SystemClock.now()) {
            Ok(view) => view,
            Err(error) if is_unreachable(&error) => {
                failed_reads += 1;
                if failed_reads >= MAX_FAILED_READS {
                    return Err(error);
                }
                output.print_error(&format!("trueup: {}", error.summary()));
                backoff::sleep(WAIT_INTERVAL);
                continue;
            }
            Err(error) => return Err(error),
        };
        failed_reads = 0;
        let line = progress_line(&view);
        if line != last_line {
            output.print_text(&line);
            last_line = line;
        }
        let now = SystemClock.monotonic_now();
        if !waiting.goes_on(&view, &last_line, now) {
            let outcome = view.outcome;
            return Ok((view, outcome));
        }
        let waited = now.saturating_duration_since(started);
        if timeout.is_some_and(|limit| waited >= limit) {
            return Ok((view, Exit::TimedOut));
        }
        backoff::sleep(WAIT_INTERVAL);
    }
}

/// `shop 4f2c9d0: rolling, 2 of 5 hosts; app3 is out`.
fn progress_line(view: &RolloutView) -> String {
    let mut line = format!("{} {}", view.app, headline(view));
    let out: Vec<&str> = view
        .holders
        .iter()
        // The last one to prove itself has not given its slot back yet.
        .filter(|_| view.state != Some(EntryState::Done))
        .map(|held| held.holder.member.node.as_str())
        .collect();
    if let Some(restart) = pending_restart(view) {
        let (done, all) = progress(restart);
        line.push_str(&format!("; restart of {done} of {all} hosts"));
    }
    if !out.is_empty() {
        let verb = if out.len() == 1 { "is" } else { "are" };
        line.push_str(&format!("; {} {verb} out", out.join(", ")));
    }
    for failure in &view.local_failures {
        line.push_str(&format!("; {}: {}", failure.node, failure.describe()));
    }
    line
}

/// The last rolling restart, if it is under way.
fn pending_restart(view: &RolloutView) -> Option<&RestartProgress> {
    let restart = view.restart.as_ref();
    restart.filter(|restart| !restart.pending.is_empty())
}

/// The hosts that have restarted, and all.
fn progress(restart: &RestartProgress) -> (usize, usize) {
    let done = restart.restarted.len();
    (done, done + restart.pending.len())
}

fn headline(view: &RolloutView) -> String {
    if let Some(service) = view
        .app
        .strip_prefix('_')
        .filter(|_| view.app != POLICY_APP)
    {
        let holder = view.holders.first();
        let holder = holder.map(|held| &*held.holder.member.node);
        return match holder {
            Some(node) => format!("{node} restarts or reloads {service}"),
            None => format!("no host restarts or reloads {service}"),
        };
    }
    let proven = view.proven.len();
    rollout::headline(view.wanted.as_ref(), view.state, proven, view.hosts)
}

fn print_view(view: &RolloutView, store: &str, signers: Option<&Signers>, output: &Output) {
    if output.is_document() {
        return output.print_document(&Document {
            version: crate::report::VERSION,
            store,
            view,
        });
    }
    let (paint, now) = (output.paint, SystemClock.now());
    let headline = headline(view);
    let painted = match view.outcome {
        Exit::Converged => paint.good(&headline),
        Exit::Pending => paint.changed(&headline),
        _ => paint.bad(&headline),
    };
    output.print_paragraph(&format!(
        "{} in {}: {painted}",
        paint.strong(&view.app),
        view.environment
    ));
    let row = |name: &str, value: String| vec![paint.faint(name), value];
    let mut rows = Vec::new();
    if let (Some(opened), Some(by)) = (view.opened, &view.opened_by) {
        rows.push(row(
            "opened",
            format!("{} ago by {by}", format_age(opened, now)),
        ));
    }
    rows.push(row(
        "slots",
        format!("{} of {} held", view.holders.len(), view.slots),
    ));
    for held in &view.holders {
        let age = format_age(held.holder.since, now);
        rows.push(row(
            "out",
            format!(
                "{} since {age} (slot {})",
                held.holder.member.node, held.number
            ),
        ));
    }
    for canary in &view.canaries {
        let mut bakes = view.bakes.iter();
        let bake = bakes.find(|bake| bake.node == canary.node);
        let state = match (canary.passed, bake) {
            (true, _) => "passed".to_owned(),
            (false, None) => "not proven yet".to_owned(),
            (false, Some(bake)) => {
                let left = format_duration(bake.at_least_s.saturating_mul(1000));
                format!("bakes for another {left} at least")
            }
        };
        rows.push(row("canary", format!("{}: {state}", canary.node)));
    }
    if let Some(claim) = &view.claim {
        let age = format_age(claim.since, now);
        rows.push(row(
            "step",
            format!(
                "{} runs `{}` for all since {age}",
                claim.member.node, claim.step
            ),
        ));
    }
    for failure in &view.failures {
        rows.push(row(
            "failed",
            format!("{}: {}", failure.member.node, failure.reason),
        ));
    }
    if let Some(restart) = pending_restart(view) {
        let (done, all) = progress(restart);
        let age = format_age(restart.requested_at, now);
        let pending: Vec<&str> = restart.pending.iter().map(String::as_str).collect();
        let more = pending.len().saturating_sub(MAX_LISTED);
        let mut names = pending[..pending.len() - more].join(", ");
        if more > 0 {
            names.push_str(&format!(", and {more} more"));
        }
        let text = format!("{done} of {all} hosts, asked for {age} ago; not yet {names}");
        rows.push(row("restart", text));
    }
    for failure in &view.local_failures {
        let line = format!("{}: {}", failure.node, failure.describe());
        rows.push(row("failed", line));
    }
    if !view.at_work.is_empty() {
        rows.push(row("at work", view.at_work.join(", ")));
    }
    if let Some(overdue) = &view.overdue {
        rows.push(row("overdue", overdue.clone()));
    }
    if let Some(hold) = &view.hold {
        let text = hold.strip_prefix("held ").unwrap_or(hold);
        rows.push(row("held", text.to_owned()));
    }
    for note in &view.notes {
        let done = format!(
            "trueup note {} {} --done {}",
            view.environment, view.app, note.number
        );
        rows.push(row("to do", format!("{} (done? `{done}`)", note.text)));
    }
    for notice in &view.unsent {
        rows.push(row("unsent", notice.clone()));
    }
    if let Some(waits_for) = &view.waits_for {
        // The failures above say it already.
        let reasons = view.failures.iter().map(|failure| &failure.reason);
        let text = reasons.fold(waits_for.clone(), |text, reason| {
            text.replace(&format!(": {reason}"), "")
        });
        rows.push(row("waits", text));
    }
    for act in view.acts.iter().rev().take(5).rev() {
        let age = format_age(act.at, now);
        let reason = match act.reason.as_str() {
            "" => String::new(),
            reason => format!(": {reason}"),
        };
        let signed = signers.and_then(|signers| {
            let why = act.unsigned_reason(&view.environment, &view.app, signers)?;
            Some(output.paint.changed(&format!(" ({why})")))
        });
        let signed = signed.unwrap_or_default();
        rows.push(row(
            "act",
            format!("{age} ago, {} by {}{reason}{signed}", act.what, act.by),
        ));
    }
    output.print_reference(&rows);
}
