//! How long a rollout through a large fleet takes beside the ideal, and what its requests cost: hosts run the code of
//! the protocol in virtual time, against a bucket in memory that is as slow as S3 and refuses as much.
//!
//!     cargo bench --no-default-features --features simulation --bench fleet
//!     cargo bench --no-default-features --features simulation --bench fleet -- 1000 25%     one fleet
#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and lays out its own folder"
)]

use std::time::{Duration, Instant};

use trueup::simulation::{Outcome, Scenario, Usage, simulate};

/// Days of a month, and rollouts: one an hour, or as many as there is time for.
const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);
const BETWEEN: Duration = Duration::from_secs(3600);

/// A rollout that takes longer is watched for so long, and a larger fleet for less; the rest would be the same.
const LONGEST: Duration = Duration::from_secs(3600);
const SHORTEST: Duration = Duration::from_secs(900);

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    println!(
        "  hosts   out slots |  waves   ideal    done ratio |  reads writes  lists   lost retried    KiB | idle/h $/month | reads/s writes/s of a key"
    );
    if let [hosts, max_unavailable] = args.as_slice() {
        return measure(hosts.parse().unwrap(), max_unavailable);
    }
    for hosts in [100, 1000, 10_000] {
        for max_unavailable in ["1", "5%", "25%"] {
            measure(hosts, max_unavailable);
        }
    }
}

fn measure(hosts: u32, max_unavailable: &str) {
    let folder = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let outcome = simulate(&Scenario {
        hosts,
        max_unavailable,
        limit: (LONGEST * 2500 / hosts).clamp(SHORTEST, LONGEST),
        folder: folder.path(),
    });
    assert!(outcome.most_out <= outcome.slots, "{outcome:?}");
    let each = |count: u64| count as f64 / f64::from(hosts);
    let Usage {
        gets,
        puts,
        lists,
        conflicts,
        throttled,
        bytes,
        ..
    } = outcome.rolling;
    let (mark, took) = took(&outcome, hosts);
    // Not simulated after a rollout that takes longer than the limit.
    let idle_hours = outcome.idle_time.as_secs_f64() / 3600.0;
    let idle = match outcome.took {
        Some(_) => format!("{:.1}", each(outcome.idle.requests()) / idle_hours),
        None => "-".to_owned(),
    };
    let ratio = took.as_secs_f64() / outcome.ideal.as_secs_f64();
    println!(
        "{hosts:>7} {max_unavailable:>5} {:>5} | {:>6} {:>7} {mark}{:>6} {ratio:>5.2} | {:>6.1} {:>6.2} {:>6.2} {:>6.2} {:>7.2} {:>6.0} | {idle:>6} {:>7.3} | {:>7} {:>8} {}",
        outcome.slots,
        outcome.waves.as_secs(),
        outcome.ideal.as_secs(),
        took.as_secs(),
        each(gets),
        each(puts),
        each(lists),
        each(conflicts),
        each(throttled),
        each(bytes) / 1024.0,
        price(&outcome, hosts, took),
        outcome.peak_reads,
        outcome.peak_writes.0,
        outcome.peak_writes.1,
    );
    let (errors, seconds) = (outcome.errors, started.elapsed().as_secs_f64());
    let switched = outcome.switched_after.as_secs();
    eprintln!(
        "        the last host after {switched} s; {errors} passes without an answer; simulated in {seconds:.0} s"
    );
}

/// How long the rollout took, or would take (`~`): a host after the other, as until the limit.
fn took(outcome: &Outcome, hosts: u32) -> (&'static str, Duration) {
    match outcome.took {
        Some(took) => (" ", took),
        None => {
            let left = f64::from(hosts) / f64::from(outcome.switched.max(1));
            ("~", outcome.watched.mul_f64(left))
        }
    }
}

/// What a node costs a month.
fn price(outcome: &Outcome, hosts: u32, took: Duration) -> f64 {
    let rolling = outcome.rolling.price() / outcome.watched.as_secs_f64();
    let idle = outcome.idle.price() / outcome.idle_time.as_secs_f64().max(1.0);
    let rolls = outcome.watched.max(took).min(BETWEEN);
    let an_hour = rolling * rolls.as_secs_f64() + idle * (BETWEEN - rolls).as_secs_f64();
    an_hour * (MONTH.as_secs_f64() / BETWEEN.as_secs_f64()) / f64::from(hosts)
}
