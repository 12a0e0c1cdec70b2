//! `trueup diff`: what lies between what hosts serve and what the manifest wants.

use clap::Args;
use serde::Serialize;

use super::Output;
use super::commits::range_lines;
use super::progress::Progress;
use super::repositories::{RepositoryArgs, users_git};
use super::target::{StoreArgs, StoreTarget};
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::app_differences::{
    AppDifference, AppDifferences, DifferenceTarget, app_differences,
};
use crate::pass::{PassError, Paths};
use crate::ports::store;

/// Hosts that are named.
const MAX_LISTED: usize = 10;

#[derive(Debug, Args)]
#[command(
    after_help = "Shows for each app which sha its hosts serve, as they last reported it, which one the manifest wants of them, the commits \
                  between the two and the migrations that differ. The commits come from the repository of the app, which \
                  `_settings: {repositories: {APP: URL}}` of the environment names, or --repo (see `trueup publish -h`); without one, \
                  only the shas are shown.\n\n\
                  The exit code: 0 nothing differs, 2 something does, 5 a record cannot be read."
)]
pub struct DiffArgs {
    /// Which environment of the manifest
    #[arg(value_name = "ENV")]
    pub environment: String,
    /// Only this app [default: all of the environment]
    #[arg(value_name = "APP")]
    pub app: Option<String>,
    #[command(flatten)]
    pub repositories: RepositoryArgs,
    #[command(flatten)]
    pub at: StoreArgs,
}

/// The document of `diff --output`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    version: u32,
    store: &'a str,
    #[serde(flatten)]
    differences: &'a AppDifferences,
}

pub(super) fn run(args: &DiffArgs, paths: &Paths, output: &Output) -> Result<Exit, CommandError> {
    let git = users_git();
    let apps: Vec<&str> = args.app.as_deref().into_iter().collect();
    let mut repositories = args
        .repositories
        .parse(&git, &apps)
        .map_err(CommandError::Usage)?;
    let target = StoreTarget::resolve(&args.at, paths, "diff")?;
    let store = store::open(&target.store).map_err(PassError::Store)?;
    let target = DifferenceTarget {
        store: store.as_ref(),
        manifest_key: &target.manifest,
        environment: &args.environment,
        fleet: &target.fleet,
        app: args.app.as_deref(),
    };
    let progress = Progress::begin(format!(
        "comparing what hosts of {} serve with the manifest",
        args.environment
    ));
    let differences = app_differences(&target, &mut repositories)?;
    drop(progress);
    if output.is_document() {
        output.print_document(&Document {
            version: crate::report::VERSION,
            store: store.address(),
            differences: &differences,
        });
        return Ok(differences.outcome);
    }
    for app in &differences.apps {
        output.print_paragraph(&headline(app));
        for line in app
            .range
            .iter()
            .flat_map(|range| range_lines(output.paint, range))
        {
            output.print_paragraph(&format!("  {line}"));
        }
    }
    for problem in &differences.problems {
        output.print_paragraph(&format!("{}: {problem}", output.paint.changed("note")));
    }
    Ok(differences.outcome)
}

/// `shop 4f2c9d0 -> 9b1c44e on web1, web2`.
fn headline(app: &AppDifference) -> String {
    let name = &app.app;
    let shown = &app.nodes[..app.nodes.len().min(MAX_LISTED)];
    let nodes = match app.nodes.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    };
    match (&app.served, &app.wanted) {
        (Some(served), Some(wanted)) if served == wanted => {
            format!("{name} is at {} as wanted on {nodes}", wanted.short())
        }
        (Some(served), Some(wanted)) => {
            format!("{name} {} -> {} on {nodes}", served.short(), wanted.short())
        }
        (None, Some(wanted)) => format!("{name} nothing -> {} on {nodes}", wanted.short()),
        (Some(served), None) => {
            format!(
                "{name} is at {}, and none is wanted, on {nodes}",
                served.short()
            )
        }
        (None, None) => format!("{name} has nothing, and none is wanted, on {nodes}"),
    }
}
