//! `trueup policy list`.

use serde::Serialize;

use super::opened::OpenedStore;
use crate::cli::Output;
use crate::cli::args::PolicyListArgs;
use crate::cli::format::{format_age, format_bytes};
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::policy::{BundleRole, ListedBundle};
use crate::pass::Paths;
use crate::ports::clock::{Clock, SystemClock};

/// The document of `policy list --output`.
#[derive(Debug, Serialize)]
struct ListDocument<'a> {
    version: u32,
    store: &'a str,
    environment: &'a str,
    bundles: &'a [ListedBundle],
}

pub(super) fn run(
    args: &PolicyListArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    let opened = OpenedStore::open(&args.at, paths, "policy list")?;
    let bundles = opened.with(&args.env, |target| target.list())?;
    if output.is_document() {
        output.print_document(&ListDocument {
            version: crate::report::VERSION,
            store: opened.store.address(),
            environment: &args.env,
            bundles: &bundles,
        });
        return Ok(Exit::Converged);
    }
    if bundles.is_empty() {
        output.print_line(format!(
            "there are no policy bundles in {}",
            opened.store.address()
        ));
        return Ok(Exit::Converged);
    }
    let (paint, now) = (output.paint, SystemClock.now());
    let heads = ["bundle", "pushed", "size", ""];
    let mut rows = vec![heads.map(|head| paint.faint(head)).to_vec()];
    rows.extend(bundles.iter().map(|bundle| {
        let since = bundle.since.map(|since| format_age(since, now));
        let role = match bundle.role {
            Some(BundleRole::Wanted) => paint.good(&format!("{} has it", args.env)),
            Some(BundleRole::Previous) => "the one before".to_owned(),
            None => String::new(),
        };
        vec![
            paint.strong(bundle.digest.short()),
            since.unwrap_or_else(|| paint.bad("missing")),
            bundle.size.map(format_bytes).unwrap_or_default(),
            role,
        ]
    }));
    output.print_table(&rows);
    Ok(Exit::Converged)
}
