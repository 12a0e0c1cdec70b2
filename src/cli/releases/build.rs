//! `trueup releases build`: builds a private release of any commit.

use crate::cli::Output;
use crate::cli::args::BuildArgs;
use crate::cli::format::{current_user, parse_one_line};
use crate::cli::locked::{LockRequest, LockedSession};
use crate::desired::Sha;
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::build::{Build, Commit};
use crate::pass::Paths;
use crate::problem::Problem;

pub(super) fn run(args: &BuildArgs, paths: &Paths, output: &Output) -> Result<Exit, CommandError> {
    let by = parse_one_line("--by", args.by.as_deref()).map_err(CommandError::Usage)?;
    let commit = match (&args.sha, &args.reference) {
        (Some(sha), _) => Commit::Sha(parse_sha(sha)?),
        (None, Some(name)) => Commit::Ref(name.clone()),
        (None, None) => unreachable!("clap demands one of the two"),
    };
    let request = LockRequest {
        command: "`trueup releases build`",
        alternative: "`trueup releases` shows the existing releases",
        wait: &args.wait,
    };
    let locked = LockedSession::acquire(paths, &request, output)?;
    let apps = locked.session.apps()?;
    let build = Build::resolve(&locked.session, apps.find(&args.app)?, commit)?;
    if !output.is_document() {
        output.print_error(&format!("building {} of {}", build.sha.short(), args.app));
    }
    let report = build.run(args.keep_days, Some(by.unwrap_or_else(current_user)))?;
    if output.is_document() {
        output.print_document(&report);
        return Ok(Exit::Converged);
    }
    let until = report.private_until.strftime("%F %T UTC");
    output.print_error(&format!(
        "{} is built and kept until {until}",
        report.release
    ));
    output.print_line(report.path.display().to_string());
    Ok(Exit::Converged)
}

fn parse_sha(text: &str) -> Result<Sha, CommandError> {
    Sha::parse(text).map_err(|invalid| {
        let problem = Problem::new(format!("--sha: {}", invalid.message));
        let hint = invalid.hint;
        CommandError::Usage(problem.hint(format!("{hint}; or name a branch or tag with `--ref`")))
    })
}
