//! `trueup promote`: publishes in one environment what another one serves.

use super::{Details, Publisher, note_lines, print_published};
use crate::cli::Output;
use crate::cli::args::PromoteArgs;
use crate::cli::ci::job_author;
use crate::cli::progress::Progress;
use crate::desired::{Action, PublishRequest, ShaChange};
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::promote::{ServedApp, served_apps};
use crate::operate::publish::Publish;
use crate::pass::Paths;

pub(in crate::cli) fn run(
    args: &PromoteArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    let PromoteArgs { from, to, .. } = args;
    let author = match args.via_ci {
        true => job_author().map_err(CommandError::Usage)?,
        false => None,
    };
    let publisher = Publisher::open(&args.act.publisher, paths, "promote")?;
    let trust = publisher.trust(from)?;
    let target = &publisher.target;
    let store = publisher.store.as_ref();
    let route = (from.as_str(), to.as_str());
    let progress = Progress::begin(format!("reading the records of {from}"));
    let served = served_apps(
        store,
        &target.manifest,
        &target.fleet,
        route,
        &args.apps,
        trust.as_ref(),
    )?;
    drop(progress);
    for one in &served {
        if !output.is_document() {
            output.print_paragraph(&served_line(from, one));
        }
    }
    let references = served.iter();
    let references = references.filter_map(|one| Some((one.app.clone(), one.reference.clone()?)));
    let request = publisher.request(to, Action::Promote, args.act.reason.as_deref())?;
    let author = author.filter(|_| args.act.publisher.by.is_none());
    let request = PublishRequest {
        by: author.or_else(|| request.by.clone()),
        // A person looks at the warning. CI would publish behind the hold, again and again.
        refuses_holds: args.via_ci,
        refuses_overtaken: args.via_ci,
        relied_on: served
            .iter()
            .map(|one| (one.app.clone(), one.replaced.clone()))
            .collect(),
        shas: served
            .iter()
            .map(|one| (one.app.clone(), one.sha.clone()))
            .collect(),
        references: references.collect(),
        create: args.create,
        dry_run: args.dry_run,
        ..request
    };
    let published = publisher.publish(request)?;
    let generation = published.generation.unwrap_or_default();
    let line = |one: &ShaChange| match &one.from {
        Some(before) if *before == one.to => {
            format!("{to}/{} is already at {}", one.app, one.to.short())
        }
        before => {
            let before = before.as_ref().map_or("new", |sha| sha.short());
            let verb = if args.dry_run { "would go" } else { "goes" };
            format!(
                "{to}/{} {verb} {before} -> {} (generation {generation})",
                one.app,
                one.to.short()
            )
        }
    };
    let lines = published.changes.iter().flat_map(|one| {
        let notes = note_lines(&published, to, &one.app);
        [line(one)].into_iter().chain(notes)
    });
    let mut lines: Vec<String> = lines.collect();
    if let (true, Some(one)) = (published.written, published.changes.first()) {
        lines.push(format!(
            "hint: `trueup rollout status {to} {} --wait` waits for its end",
            one.app
        ));
    }
    let details = Details {
        served: Some(&served),
        ..Details::default()
    };
    print_published(output, Action::Promote, to, &published, &lines, &details);
    Ok(Exit::Converged)
}

/// `staging/shop 4f2c9d0 (master) served by 3 hosts; it wants 9b1c44e meanwhile`.
fn served_line(from: &str, one: &ServedApp) -> String {
    let reference = one.reference.as_ref();
    let reference = reference.map_or(String::new(), |name| format!(" ({name})"));
    let hosts = match one.hosts {
        1 => "its host".to_owned(),
        count => format!("all {count} hosts"),
    };
    let wanted = one.wanted.as_ref();
    let wanted = wanted.map_or(String::new(), |sha| {
        format!("; it wants {} meanwhile", sha.short())
    });
    format!(
        "{from}/{} {}{reference} is served by {hosts}{wanted}",
        one.app,
        one.sha.short()
    )
}
