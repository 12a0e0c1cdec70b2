//! `trueup releases build`: builds a private release of any commit.

use jiff::SignedDuration;
use serde_json::json;

use crate::cli::args::BuildArgs;
use crate::cli::error::command_failed;
use crate::cli::format::{current_user, parse_one_line};
use crate::cli::locked::{LockRequest, LockedSession};
use crate::cli::{Output, error};
use crate::desired::Sha;
use crate::exit::Exit;
use crate::pass::Paths;
use crate::problem::Problem;
use crate::release::{self, PrivateBuild};

pub(super) fn run(
    args: &BuildArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, error::CliError> {
    let by = parse_one_line("--by", args.by.as_deref()).map_err(error::CliError::Usage)?;
    let said = args.sha.as_deref().map(parse_sha).transpose()?;
    let request = LockRequest {
        command: "`trueup releases build`",
        alternative: "`trueup releases` shows the existing releases",
        wait: &args.wait,
    };
    let locked = LockedSession::acquire(paths, &request, output)?;
    let host = &locked.session.host;
    let apps = locked.session.apps()?;
    let spec = apps.find(&args.app)?.spec;
    let sha = match (said, &args.reference) {
        (Some(sha), _) => sha,
        (None, Some(name)) => release::resolve_ref(spec, host, name).map_err(command_failed)?,
        (None, None) => unreachable!("clap demands one of the two"),
    };
    let private = PrivateBuild {
        until: host.clock.now() + SignedDuration::from_hours(24 * i64::from(args.keep_days)),
        by: by.or_else(current_user),
        reference: args.reference.clone(),
    };
    if !output.is_document() {
        output.print_error(&format!("building {} of {}", sha.short(), spec.app));
    }
    let built = release::build_private(spec, &sha, host, private).map_err(command_failed)?;
    if output.is_document() {
        output.print_document(&json!({
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
    output.print_error(&format!("{} is built and kept until {until}", built.name));
    output.print_line(built.path.display().to_string());
    Ok(Exit::Converged)
}

fn parse_sha(text: &str) -> Result<Sha, error::CliError> {
    Sha::parse(text).map_err(|invalid| {
        let problem = Problem::new(format!("--sha: {}", invalid.message));
        let hint = invalid.hint;
        error::CliError::Usage(
            problem.hint(format!("{hint}; or name a branch or tag with `--ref`")),
        )
    })
}
