//! `trueup releases clean`: removes releases that are no longer needed.

use crate::cli::Output;
use crate::cli::args::CleanArgs;
use crate::cli::format::format_bytes;
use crate::cli::locked::{LockRequest, LockedSession};
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::{self, clean::CleanReport};
use crate::pass::Paths;
use crate::release::{CleanResult, KeepFailed};

pub(super) fn run(args: &CleanArgs, paths: &Paths, output: &Output) -> Result<Exit, CommandError> {
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
    let selected = apps.select(args.app.as_deref())?;
    let report = operate::clean::clean(&locked.session, &selected, which, args.dry_run)?;
    if output.is_document() {
        output.print_document(&report);
    } else {
        print(&report, output);
    }
    Ok(report.outcome())
}

fn print(report: &CleanReport, output: &Output) {
    let (removed, free) = if report.dry_run {
        ("would be removed", "would be free")
    } else {
        ("removed", "free again")
    };
    let all = &report.apps;
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
        output.print_line(format!("{} {free}", format_bytes(report.freed)));
    }
}
