//! `trueup releases build`: a private release of any commit.

use jiff::SignedDuration;
use serde_json::json;

use crate::cli::args::BuildArgs;
use crate::cli::hands::{Asks, Hands};
use crate::cli::words::{failed, one_line, user};
use crate::cli::{Output, edge};
use crate::desired::Sha;
use crate::exit::Exit;
use crate::pass::Places;
use crate::problem::Problem;
use crate::release::{self, Private};

pub(super) fn run(args: &BuildArgs, places: &Places, output: &Output) -> Result<Exit, edge::Error> {
    let by = one_line("--by", args.by.as_deref()).map_err(edge::Error::Usage)?;
    let said = args.sha.as_deref().map(sha).transpose()?;
    let asks = Asks {
        what: "`trueup releases build`",
        or: "what is there is shown by `trueup releases`",
        wait: &args.wait,
    };
    let hands = Hands::on(places, &asks, output)?;
    let host = &hands.session.host;
    let apps = hands.session.apps()?;
    let spec = apps.find(&args.app)?.spec;
    let sha = match (said, &args.reference) {
        (Some(sha), _) => sha,
        (None, Some(name)) => release::resolve(spec, host, name).map_err(failed)?,
        (None, None) => unreachable!("clap demands one of the two"),
    };
    let private = Private {
        until: host.clock.now() + SignedDuration::from_hours(24 * i64::from(args.keep_days)),
        by: by.or_else(user),
        reference: args.reference.clone(),
    };
    if !output.json {
        output.error(&format!("building {} of {}", sha.short(), spec.app));
    }
    let built = release::build_private(spec, &sha, host, private).map_err(failed)?;
    if output.json {
        output.document(&json!({
            "version": crate::report::VERSION,
            "app": spec.app,
            "release": built.name,
            "sha": sha,
            "path": built.path,
            "private_until": built.until,
        }));
        return Ok(Exit::Converged);
    }
    let until = built.until.strftime("%F %T UTC");
    output.error(&format!("{} is built and kept until {until}", built.name));
    output.line(built.path.display().to_string());
    Ok(Exit::Converged)
}

fn sha(text: &str) -> Result<Sha, edge::Error> {
    Sha::parse(text).map_err(|why| {
        let (why, hint) = why.split_once(" | ").unwrap_or((&why, ""));
        let problem = Problem::new(format!("--sha: {why}"));
        edge::Error::Usage(match hint {
            "" => problem,
            hint => problem.hint(format!("{hint}; or name a branch or tag with `--ref`")),
        })
    })
}
