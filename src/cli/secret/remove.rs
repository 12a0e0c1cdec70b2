//! `trueup secret remove`.

use super::opened::{Changed, OpenedTarget, confirm_protected};
use crate::cli::Output;
use crate::cli::args::SecretRemoveArgs;
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::secret;
use crate::pass::Paths;

pub(super) fn run(
    args: &SecretRemoveArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    let opened = OpenedTarget::open(&args.target, paths)?;
    let current = opened.target().read()?;
    confirm_protected(&args.target, &current, &format!("remove `{}`", args.name))?;
    let published = secret::remove(&opened.target(), &current, &args.name)?;
    let line = format!("removed the secret {}/{}", args.target.env, args.name);
    let changed = Changed {
        name: Some(&args.name),
        ..Changed::default()
    };
    opened.print(&line, &published, changed, output);
    Ok(Exit::Converged)
}
