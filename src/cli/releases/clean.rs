//! `trueup releases clean`: removes what is needed no more.

use serde_json::json;

use crate::cli::args::CleanArgs;
use crate::cli::hands::{Asks, Hands};
use crate::cli::words::{bytes, failed};
use crate::cli::{Output, edge};
use crate::exit::Exit;
use crate::pass::Places;
use crate::release::{self, Cleaned, Failed};

pub(super) fn run(args: &CleanArgs, places: &Places, output: &Output) -> Result<Exit, edge::Error> {
    // Also to look only: who else runs in a release is not told to everybody.
    let asks = Asks {
        what: "`trueup releases clean`",
        or: "what is there is shown by `trueup releases`",
        wait: &args.wait,
    };
    let hands = Hands::on(places, &asks, output)?;
    let which = if args.all_failed {
        Failed::None
    } else {
        Failed::Latest
    };
    let apps = hands.session.apps()?;
    let mut all = Vec::new();
    for app in apps.chosen(args.app.as_deref())? {
        let cleaned = release::clean(app.spec, &hands.session.host, which, args.dry_run);
        all.push(cleaned.map_err(failed)?);
    }
    let freed = all.iter().flat_map(|cleaned| &cleaned.removed);
    let freed: u64 = freed.filter_map(|release| Some(release.size?.own)).sum();
    if output.json {
        output.document(&json!({
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

fn print(all: &[Cleaned], freed: u64, dry: bool, output: &Output) {
    let (removed, free) = if dry {
        ("would be removed", "would be free")
    } else {
        ("removed", "free again")
    };
    for cleaned in all {
        for release in &cleaned.removed {
            let size = release.size.map_or("?".into(), |size| bytes(size.own));
            output.line(format!(
                "{} {} ({}, {size}): {removed}",
                cleaned.app,
                release.release,
                release.state.word()
            ));
        }
        for name in &cleaned.in_use {
            output.line(format!(
                "{} {name}: kept, a process runs in it",
                cleaned.app
            ));
        }
    }
    for cleaned in all {
        for left in &cleaned.unremoved {
            output.line(format!(
                "{} {}: not removed: {}",
                cleaned.app, left.name, left.why
            ));
        }
    }
    let nothing = |cleaned: &Cleaned| cleaned.removed.is_empty() && cleaned.unremoved.is_empty();
    if all.iter().all(nothing) {
        output.line("nothing to remove: everything that is there is needed");
    } else {
        output.line(format!("{} {free}", bytes(freed)));
    }
}
