//! `trueup now`: passes of all hosts of an environment.

use serde::Serialize;
use serde_json::Value;

use super::publisher::inherited_environment;
use super::{Details, Publisher, print_published};
use crate::cli::Output;
use crate::cli::args::NowArgs;
use crate::cli::progress::Progress;
use crate::desired::{Action, PublishRequest, SettingEdit};
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::fleet::FleetWatch;
use crate::operate::now::{HostPass, converge_over_ssh, live_nodes};
use crate::operate::publish::Publish;
use crate::pass::Paths;
use crate::ports::clock::{Clock, SystemClock};

/// The document of `now --via ssh --output`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    version: u32,
    outcome: Exit,
    environment: &'a str,
    nodes: &'a [HostPass],
}

pub(in crate::cli) fn run(
    args: &NowArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    let publisher = Publisher::open(&args.act.publisher, paths, "now")?;
    if args.via.is_some() {
        return over_ssh(args, &publisher, output);
    }
    let now = publisher.store.server_time().unwrap_or(SystemClock.now());
    let request = PublishRequest {
        settings: vec![SettingEdit {
            path: vec!["passes_requested_at".to_owned()],
            value: Some(Value::from(
                now.round(jiff::Unit::Millisecond)
                    .unwrap_or(now)
                    .to_string(),
            )),
        }],
        ..publisher.request(&args.env, Action::Now, args.act.reason.as_deref())?
    };
    let published = publisher.publish(request)?;
    let generation = published.generation.unwrap_or_default();
    let env = &args.env;
    let lines = [
        format!(
            "all hosts of {env} make a pass at their next tick, past retry delays (generation {generation})"
        ),
        format!("hint: `trueup fleet --env {env} --watch` shows them"),
    ];
    print_published(
        output,
        Action::Now,
        env,
        &published,
        &lines,
        &Details::default(),
    );
    Ok(Exit::Converged)
}

fn over_ssh(
    args: &NowArgs,
    publisher: &Publisher<'_>,
    output: &Output,
) -> Result<Exit, CommandError> {
    let target = &publisher.target;
    let store = publisher.store.as_ref();
    let mut watch = FleetWatch::new(store, &args.env, &target.manifest, &target.fleet);
    let progress = Progress::begin(format!("reading the records of {}", args.env));
    let nodes = live_nodes(&mut watch, args.app.as_deref())?;
    drop(progress);
    let count = nodes.len();
    output.print_text(format!("a pass on {count} hosts of {}", args.env));
    let mut ended = Vec::new();
    let progress = Progress::begin(format!("a pass on the hosts of {}", args.env));
    let detail = |ended: usize| progress.set_detail(format!("{ended} of {count} ended"));
    detail(0);
    converge_over_ssh(nodes, &inherited_environment(), &mut |pass| {
        let how = match pass.exit {
            Some(0) => output.paint.good("converged"),
            Some(255) | None => output.paint.bad("ssh failed"),
            Some(code) => output.paint.changed(&format!("exit {code}")),
        };
        output.print_text(format!("== {} {how}", pass.node));
        for line in pass.output.lines() {
            output.print_text(format!("   {line}"));
        }
        ended.push(pass);
        detail(ended.len());
    });
    drop(progress);
    let failed = ended.iter().filter(|pass| pass.exit != Some(0)).count();
    let outcome = match failed {
        0 => Exit::Converged,
        _ => Exit::Failed,
    };
    output.print_text(format!("{} of {count} hosts converged", count - failed));
    if output.is_document() {
        output.print_document(&Document {
            version: crate::report::VERSION,
            outcome,
            environment: &args.env,
            nodes: &ended,
        });
    }
    Ok(outcome)
}
