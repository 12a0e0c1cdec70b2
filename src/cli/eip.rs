//! `trueup eip`: addresses of EC2 that move between instances.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Output;
use super::args::{EipArgs, EipClaimArgs, EipCommand, EipStatusArgs};
use super::error::print_error;
use super::format::{format_age, format_duration};
use crate::apply::RESOURCE_TARGET;
use crate::balancer::claim::{ClaimRecord, ClaimResult, configured_addresses};
use crate::balancer::eip::{self, Claim, ClaimError, ClaimOutcome};
use crate::balancer::state::{self, RecordedState, State};
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::eip::{AddressRow, EipReport, status};
use crate::pass::Paths;
use crate::ports::clock::{Clock, SystemClock};
use crate::ports::ec2::{self, Ec2, Ec2Error};
use crate::ports::root::Root;
use crate::ports::signals;
use crate::problem::Problem;
use crate::report::metrics;
use crate::settings::{self, Settings};

/// The document of `eip claim --output`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    version: u32,
    outcome: Exit,
    #[serde(flatten)]
    claim: &'a ClaimOutcome,
}

/// How long `status` may take.
const STATUS_TIMEOUT: Duration = Duration::from_secs(20);

pub(super) fn run(args: &EipArgs, paths: &Paths, output: &Output) -> Result<Exit, CommandError> {
    let root = Root::at(&paths.root)?;
    match &args.command {
        EipCommand::Claim(args) => claim(args, &root, paths, output),
        EipCommand::Status(args) => show_status(args, &root, paths, output),
    }
}

fn claim(
    args: &EipClaimArgs,
    root: &Root,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    if root.is_ordinary_user() {
        let problem = Problem::new("`trueup eip claim` needs root");
        return Err(CommandError::Usage(problem.hint(
            "`sudo trueup eip claim`; `trueup eip status` shows who has the address",
        )));
    }
    let started = SystemClock.monotonic_now();
    let mastership = args.instance.as_deref();
    let mastership = mastership.map(|name| record_master(root, name).map(|master| (name, master)));
    let settings = load_settings(paths);
    let result = mastership
        .transpose()
        .and_then(|mastership| try_claim(args, root, settings.as_ref(), started, mastership));
    let took = SystemClock
        .monotonic_now()
        .saturating_duration_since(started);
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    log_claim(args, &result, took_ms);
    keep_record(args, root, settings.as_ref(), &result, took_ms);
    let error = match result {
        Ok(outcome) => {
            if output.is_document() {
                output.print_document(&Document {
                    version: crate::report::VERSION,
                    outcome: Exit::Converged,
                    claim: &outcome,
                });
            } else {
                output.print_logged(outcome_line(&outcome));
            }
            return Ok(Exit::Converged);
        }
        Err(ClaimError::TimedOut(problem)) => CommandError::TimedOut(problem),
        Err(ClaimError::Stopped(problem)) => CommandError::Stopped(problem),
        Err(ClaimError::GivenUp(problem) | ClaimError::Failed(problem)) => {
            CommandError::Failed(problem)
        }
    };
    // Else it is an event already.
    if !output.to_journal {
        print_error(&error, output);
    }
    Ok(error.exit())
}

fn try_claim(
    args: &EipClaimArgs,
    root: &Root,
    settings: Option<&Settings>,
    started: Instant,
    mastership: Option<(&str, RecordedState)>,
) -> Result<ClaimOutcome, ClaimError> {
    let elapsed = || {
        SystemClock
            .monotonic_now()
            .saturating_duration_since(started)
    };
    let open = || open_ec2(settings, args.timeout.saturating_sub(elapsed()));
    let stop = signals::termination();
    let limit = mastership.as_ref().map_or(Duration::ZERO, |_| args.timeout);
    let (ec2, this) = eip::connect(&open, &SystemClock, &stop, limit)?;
    let wish = Claim {
        address: &args.address,
        private_address: args.private_address,
        mastership,
        started,
        timeout: args.timeout,
    };
    eip::claim(root, &SystemClock, &stop, &*ec2, &this, &wish)
}

/// Before anything that takes time: other commands rely on it, whatever EC2 answers, and it must not come after what
/// keepalived reports next.
fn record_master(root: &Root, instance: &str) -> Result<RecordedState, ClaimError> {
    let failed = |why: String| {
        let message = format!("cannot record that `{instance}` is the master: {why}");
        ClaimError::Failed(Problem::new(message))
    };
    state::record(root, instance, State::Master, SystemClock.now())
        .map_err(|error| failed(error.to_string()))?;
    let recorded = state::read(root, instance).map_err(|error| failed(error.why()))?;
    recorded.ok_or_else(|| failed("the record is gone".to_owned()))
}

/// The settings; `None` if they have a mistake, which must not keep the address from moving.
pub(super) fn load_settings(paths: &Paths) -> Option<Settings> {
    let loaded = settings::load(Path::new(&paths.config), &paths.share);
    loaded
        .inspect_err(|error| tracing::warn!("goes on without the settings: {error}"))
        .ok()
}

pub(super) fn open_ec2(
    settings: Option<&Settings>,
    limit: Duration,
) -> Result<Box<dyn Ec2>, Ec2Error> {
    let settings = settings.map(|settings| settings.ec2.clone());
    ec2::open(&settings.unwrap_or_default(), limit)
}

/// For the journal, with fields.
fn log_claim(args: &EipClaimArgs, result: &Result<ClaimOutcome, ClaimError>, took_ms: u64) {
    let address = args.address.to_string();
    let instance = args.instance.as_deref().unwrap_or_default();
    match result {
        Ok(outcome) => tracing::info!(
            target: RESOURCE_TARGET,
            address, instance, took_ms, attempts = outcome.attempts,
            "{}", outcome_line(outcome)
        ),
        Err(error @ ClaimError::GivenUp(_)) => tracing::warn!(
            target: RESOURCE_TARGET,
            address, instance, took_ms, "{}", error.problem()
        ),
        Err(error) => tracing::error!(
            target: RESOURCE_TARGET,
            address, instance, took_ms, "{}", error.problem()
        ),
    }
}

/// Counts the claim, for `status` and for monitoring. A failure to do so must not fail a claim that went well.
fn keep_record(
    args: &EipClaimArgs,
    root: &Root,
    settings: Option<&Settings>,
    result: &Result<ClaimOutcome, ClaimError>,
    took_ms: u64,
) {
    let kind = match result {
        Ok(_) => ClaimResult::Claimed,
        Err(error) => error.result(),
    };
    let folder = settings.and_then(|settings| settings.metrics.textfile.as_deref());
    let kept = ClaimRecord::add(root, &args.address, kind, SystemClock.now(), took_ms);
    let written = kept.and_then(|()| match folder {
        Some(folder) => metrics::claims::write(root, folder, &ClaimRecord::load_all(root)?),
        None => Ok(()),
    });
    if let Err(error) = written {
        tracing::warn!("cannot record the claim: {error}");
    }
}

fn outcome_line(outcome: &ClaimOutcome) -> String {
    let address = name(&outcome.address, outcome.public_address);
    let instance = &outcome.instance;
    match (outcome.attempts, &outcome.before) {
        (0, _) => format!("{address} is at this instance already ({instance})"),
        (_, before) => format!(
            "{address} is now at this instance ({instance}); before, {} had it ({})",
            before.as_deref().unwrap_or("an unknown instance"),
            format_duration(outcome.took_ms),
        ),
    }
}

/// How people know an address: an elastic IP by the address itself.
fn name(address: &str, public: Option<std::net::Ipv4Addr>) -> String {
    match public {
        Some(public) => format!("{public} ({address})"),
        None => address.to_owned(),
    }
}

fn show_status(
    args: &EipStatusArgs,
    root: &Root,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    let addresses = match &args.address {
        Some(address) => vec![address.clone()],
        None => configured_addresses(root)?,
    };
    if addresses.is_empty() {
        let problem = Problem::new("keepalived of this host claims no address");
        return Err(CommandError::Usage(problem.hint(
            "name one, such as `trueup eip status eipalloc-0a1b2c3d4e5f67890`",
        )));
    }
    let ec2 = open_ec2(load_settings(paths).as_ref(), STATUS_TIMEOUT);
    let report = status(root, &*ec2?, &addresses)?;
    if output.is_document() {
        output.print_document(&report);
    } else {
        print_report(&report, output);
    }
    Ok(report.outcome)
}

fn print_report(report: &EipReport, output: &Output) {
    let paint = output.paint;
    for row in &report.addresses {
        let address = name(&row.address, row.public_address);
        match row.holders.is_empty() {
            true => output.print_line(paint.bad(&format!("{address}: nobody has it"))),
            false => output.print_line(format!("{address}: {}", holders_text(row))),
        }
        if let Some(last) = &row.last_claim {
            let result = match last.result {
                ClaimResult::Claimed => "succeeded",
                ClaimResult::GivenUp => "was given up",
                ClaimResult::Failed => "failed",
            };
            output.print_line(format!(
                "  the last claim by this host {result} {} ago",
                format_age(last.at, SystemClock.now())
            ));
        }
    }
}

fn holders_text(row: &AddressRow) -> String {
    let has_several = row.holders.len() > 1;
    let holders = row.holders.iter().map(|holder| {
        let mut words = holder.describe();
        if let Some(private) = holder.private_address {
            words = format!("{words} at {private}");
        }
        match &holder.vpc {
            Some(vpc) if has_several => format!("{words} in {vpc}"),
            _ => words,
        }
    });
    let holders: Vec<String> = holders.collect();
    let holders = holders.join(" and ");
    match row.here {
        Some(true) => format!("this instance has it: {holders}"),
        Some(false) | None => format!("{holders} has it"),
    }
}
