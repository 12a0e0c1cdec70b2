//! `trueup balancer`: who has the address of a pair, and moving it away before work on a host.

use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;

use super::Output;
use super::args::{
    BalancerArgs, BalancerCheckArgs, BalancerCommand, BalancerDrainArgs, BalancerStateArgs,
    BalancerUndrainArgs, StateArgument,
};
use super::eip::{load_settings, open_ec2};
use super::format::{current_user, format_age, parse_one_line};
use crate::balancer::check::{self, HaproxyTarget};
use crate::balancer::drain::Drain;
use crate::balancer::state::{self, State};
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::balancer::{Balancer, BalancerReport, InstanceRow, MoveOutcome, OpenEc2, Wait};
use crate::pass::Paths;
use crate::ports::clock::{Clock, SystemClock};
use crate::ports::root::Root;
use crate::ports::signals;
use crate::problem::Problem;
use crate::report::Paint;

/// How long EC2 may take to say who has an address.
const EC2_TIMEOUT: Duration = Duration::from_secs(5);

const COLUMNS: [&str; 5] = ["INSTANCE", "STATE", "SINCE", "ADDRESS", "HERE"];

pub(super) fn run(
    args: &BalancerArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    // None of these needs the settings: keepalived runs two of them, and an operator may have to move the address
    // although the settings have a mistake.
    let root = Rc::new(Root::at(&paths.root)?);
    let open_ec2 = || open_ec2(load_settings(paths).as_ref(), EC2_TIMEOUT);
    match &args.command {
        BalancerCommand::Status => show_status(&root, &open_ec2, output),
        BalancerCommand::Drain(args) => drain(args, &root, &open_ec2, output),
        BalancerCommand::Undrain(args) => undrain(args, &root, &open_ec2, output),
        BalancerCommand::Check(args) => run_check(args, &root, output),
        BalancerCommand::State(args) => record_state(args, &root),
    }
}

fn run_check(
    args: &BalancerCheckArgs,
    root: &Rc<Root>,
    output: &Output,
) -> Result<Exit, CommandError> {
    let target = HaproxyTarget {
        socket: args.socket.clone(),
        url: args.url.clone(),
    };
    match check::failure(root, &target) {
        None => {
            output.print_text("haproxy serves");
            Ok(Exit::Converged)
        }
        Some(why) => Err(CommandError::failed(why)),
    }
}

fn record_state(args: &BalancerStateArgs, root: &Root) -> Result<Exit, CommandError> {
    require_root(root, "balancer state")?;
    let state = match args.state {
        StateArgument::Master => State::Master,
        StateArgument::Backup => State::Backup,
        StateArgument::Fault => State::Fault,
        StateArgument::Stop => State::Stop,
    };
    state::record(root, &args.instance, state, SystemClock.now())?;
    Ok(Exit::Converged)
}

fn show_status(
    root: &Rc<Root>,
    open_ec2: OpenEc2<'_>,
    output: &Output,
) -> Result<Exit, CommandError> {
    require_root(root, "balancer status")?;
    let report = Balancer::open(root, &SystemClock, open_ec2)?.status()?;
    if output.is_document() {
        output.print_document(&report);
    } else {
        print_report(&report, SystemClock.now(), output);
    }
    Ok(report.outcome)
}

fn drain(
    args: &BalancerDrainArgs,
    root: &Rc<Root>,
    open_ec2: OpenEc2<'_>,
    output: &Output,
) -> Result<Exit, CommandError> {
    let reason = parse_one_line("--reason", args.reason.as_deref()).map_err(CommandError::Usage)?;
    let by = parse_one_line("--by", args.by.as_deref()).map_err(CommandError::Usage)?;
    require_root(root, "balancer drain")?;
    let wanted = Drain {
        by: by.unwrap_or_else(current_user),
        since: SystemClock.now(),
        reason,
    };
    let balancer = Balancer::open(root, &SystemClock, open_ec2)?;
    let wait = Wait {
        timeout: args.timeout,
        stop: &signals::termination(),
        announce: &mut |line| output.print_text(line),
    };
    let (drain, outcome) = balancer.drain(wanted, args.force, wait)?;
    let seconds = args.timeout.as_secs();
    let problem = match outcome {
        MoveOutcome::Done => None,
        MoveOutcome::TimedOut(why) => Some(
            Problem::new(format!("this balancer is drained, but after {seconds} s {why}"))
                .hint("`trueup balancer undrain` lets it have the address again"),
        ),
        MoveOutcome::Undone(why) => Some(
            Problem::new(format!(
                "this balancer is not drained, because after {seconds} s {why}"
            ))
            .hint("it may have the address again; `trueup balancer status` on the others shows why they did not take it: one may be drained itself"),
        ),
    };
    if let Some(problem) = problem {
        return Err(CommandError::TimedOut(problem));
    }
    let report = balancer.status()?;
    if output.is_document() {
        output.print_document(&report);
    } else {
        output.print_line(format!("this balancer is {}", drain.describe()));
        let addresses = report.instances.iter().flat_map(|row| &row.addresses);
        let addresses: Vec<String> = addresses.map(|row| row.address.to_string()).collect();
        output.print_line(format!(
            "another one has {}: work on this host, then `trueup balancer undrain`",
            addresses.join(", ")
        ));
    }
    Ok(Exit::Converged)
}

fn undrain(
    args: &BalancerUndrainArgs,
    root: &Rc<Root>,
    open_ec2: OpenEc2<'_>,
    output: &Output,
) -> Result<Exit, CommandError> {
    require_root(root, "balancer undrain")?;
    let balancer = match Balancer::open(root, &SystemClock, open_ec2) {
        Ok(balancer) => balancer,
        // Without its role there is nothing to wait for, and the drain must not hold until the host has it again.
        Err(error) if Drain::remove(root)? => {
            output.print_text(format!("the drain is over; {}", error.summary()));
            if output.is_document() {
                output.print_document(&serde_json::json!({
                    "version": crate::report::VERSION, "outcome": Exit::Converged, "instances": [],
                    "drain": null, "drain_error": null, "haproxy_failure": null,
                }));
            }
            return Ok(Exit::Converged);
        }
        Err(error) => return Err(error),
    };
    let wait = Wait {
        timeout: args.timeout,
        stop: &signals::termination(),
        announce: &mut |line| output.print_text(line),
    };
    let (was_drained, outcome) = balancer.undrain(wait)?;
    if let MoveOutcome::TimedOut(why) | MoveOutcome::Undone(why) = outcome {
        let problem = Problem::new(format!(
            "this balancer is no longer drained, but {} s later it still cannot have the address: {why}",
            args.timeout.as_secs()
        ));
        return Err(CommandError::TimedOut(problem.hint(
            "`systemctl status haproxy keepalived` shows whether both run",
        )));
    }
    if output.is_document() {
        output.print_document(&balancer.status()?);
    } else {
        output.print_line(match was_drained {
            true => "this balancer is no longer drained, and may have the address",
            false => "this balancer was not drained, and may have the address",
        });
    }
    Ok(Exit::Converged)
}

fn require_root(root: &Root, command: &str) -> Result<(), CommandError> {
    match root.is_ordinary_user() {
        false => Ok(()),
        true => Err(CommandError::Usage(
            Problem::new(format!("`trueup {command}` needs root"))
                .hint(format!("`sudo trueup {command}`")),
        )),
    }
}

fn print_report(report: &BalancerReport, now: Timestamp, output: &Output) {
    let paint = output.paint;
    let mut table = vec![COLUMNS.map(String::from).to_vec()];
    for row in &report.instances {
        table.extend(instance_rows(row, now, paint));
    }
    output.print_table(&table);
    output.print_line(match &report.haproxy_failure {
        None => "haproxy serves".to_owned(),
        Some(why) => paint.bad(why),
    });
    match (&report.drain, &report.drain_error) {
        (Some(drain), _) => output.print_line(paint.changed(&drain.describe())),
        (None, Some(why)) => output.print_line(paint.bad(&format!(
            "drained, with a damaged record ({why}): `trueup balancer undrain` removes it"
        ))),
        (None, None) => {}
    }
}

/// One row for each address.
fn instance_rows(row: &InstanceRow, now: Timestamp, paint: Paint) -> Vec<Vec<String>> {
    let state = match row.state {
        None => paint.changed("unknown"),
        Some(state @ State::Master) => paint.good(state.word()),
        Some(state @ State::Backup) => state.word().to_owned(),
        Some(state) => paint.bad(state.word()),
    };
    let since = row
        .since
        .map_or("-".to_owned(), |since| format_age(since, now));
    let rows = row.addresses.iter().enumerate();
    rows.map(|(n, address)| {
        let here = if address.here { "yes" } else { "no" };
        let mut head = [row.name.clone(), state.clone(), since.clone()];
        if n > 0 {
            head.iter_mut().for_each(String::clear);
        }
        let rest = [address.address.to_string(), here.to_owned()];
        head.into_iter().chain(rest).collect()
    })
    .collect()
}
