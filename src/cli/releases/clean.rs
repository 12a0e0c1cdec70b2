//! `trueup releases clean`: removes releases that are no longer needed.

use serde_json::json;

use crate::cli::args::CleanArgs;
use crate::cli::error::command_failed;
use crate::cli::format::format_bytes;
use crate::cli::locked::{LockRequest, LockedSession};
use crate::cli::{Output, error};
use crate::exit::Exit;
use crate::pass::Paths;
use crate::release::{self, CleanResult, KeepFailed};

pub(super) fn run(
    args: &CleanArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, error::CliError> {
    // Listing needs root as well: which processes run in a release is not public.
    let request = LockRequest {
        command: "`trueup releases clean`",
        alternative: "`trueup releases` shows the existing releases",
        wait: &args.wait,
    };
    let locked = LockedSession::acquire(paths, &request, output)?;
    let which = if args.all_failed {
        KeepFailed::None
    } else {
        KeepFailed::Latest
    };
    let apps = locked.session.apps()?;
    let mut all = Vec::new();
    for app in apps.select(args.app.as_deref())? {
        let cleaned = release::clean(app.spec, &locked.session.host, which, args.dry_run);
        all.push(cleaned.map_err(command_failed)?);
    }
    let freed = all.iter().flat_map(|cleaned| &cleaned.removed);
    let freed: u64 = freed.filter_map(|release| Some(release.size?.own)).sum();
    if output.is_document() {
        output.print_document(&json!({
            "version": crate::report::VERSION,
            "dry_run": args.dry_run,
            "freed": freed,
            "apps": all,
        }));
    } else {
        print(&all, freed, args.dry_run, output);
    }
    match args.dry_run || all.iter().all(|cleaned| cleaned.unremoved.is_empty()) {
        true => Ok(Exit::Converged),
        false => Ok(Exit::Failed),
    }
}

fn print(all: &[CleanResult], freed: u64, dry: bool, output: &Output) {
    let (removed, free) = if dry {
        ("would be removed", "would be free")
    } else {
        ("removed", "free again")
    };
    for cleaned in all {
        for release in &cleaned.removed {
            let size = release
                .size
                .map_or("?".into(), |size| format_bytes(size.own));
            output.print_line(format!(
                "{} {} ({}, {size}): {removed}",
                cleaned.app,
                release.release,
                release.state.as_str()
            ));
        }
        for name in &cleaned.in_use {
            output.print_line(format!(
                "{} {name}: kept, a process runs in it",
                cleaned.app
            ));
        }
    }
    for cleaned in all {
        for left in &cleaned.unremoved {
            output.print_line(format!(
                "{} {}: not removed: {}",
                cleaned.app, left.name, left.why
            ));
        }
    }
    let nothing =
        |cleaned: &CleanResult| cleaned.removed.is_empty() && cleaned.unremoved.is_empty();
    if all.iter().all(nothing) {
        output.print_line("nothing to remove: all releases are needed");
    } else {
        output.print_line(format!("{} {free}", format_bytes(freed)));
    }
}
