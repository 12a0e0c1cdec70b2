//! `trueup policy push`.

use serde::Serialize;

use super::show::print_files;
use crate::cli::Output;
use crate::cli::act::Publisher;
use crate::cli::args::PolicyPushArgs;
use crate::desired::{Action, ContentDigest, POLICY_APP};
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::policy::{PackedBundle, PolicyTarget, PushOutcome, push};
use crate::pass::Paths;
use crate::problem::Problem;

/// The document of `policy push --output`.
#[derive(Debug, Serialize)]
struct PushDocument<'a> {
    version: u32,
    outcome: Exit,
    environment: &'a str,
    /// What the manifest names now.
    digest: &'a ContentDigest,
    previous: Option<&'a ContentDigest>,
    /// `false`: it named a bundle with these files already, or it was a dry run.
    written: bool,
    generation: Option<u64>,
    files: Vec<&'a str>,
    warnings: Vec<Problem>,
}

pub(super) fn run(
    args: &PolicyPushArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    let bundle = PackedBundle::read(&args.folder, &paths.share)?;
    if args.dry_run {
        print(args, &bundle, None, output);
        return Ok(Exit::Converged);
    }
    let publisher = Publisher::open(&args.act.publisher, paths, "policy push")?;
    let target = PolicyTarget {
        store: publisher.store.as_ref(),
        environment: &args.env,
        manifest_key: &publisher.target.manifest,
        fleet: &publisher.target.fleet,
        signers: publisher.signers(),
        publisher: &publisher,
        request: publisher.request(&args.env, Action::Policy, args.act.reason.as_deref())?,
    };
    let outcome = push(&target, &bundle)?;
    print(args, &bundle, Some(&outcome), output);
    Ok(Exit::Converged)
}

fn print(
    args: &PolicyPushArgs,
    bundle: &PackedBundle,
    outcome: Option<&PushOutcome>,
    output: &Output,
) {
    let published = outcome.and_then(|outcome| outcome.published.as_ref());
    let digest = outcome.map_or(&bundle.digest, |outcome| &outcome.digest);
    let mut warnings = bundle.warnings.clone();
    warnings.extend(
        published
            .into_iter()
            .flat_map(|published| published.warnings.clone()),
    );
    if args.act.publisher.sign.is_none() {
        let problem = Problem::new(
            "it is not signed, so no host with `signers` takes it, and no other either",
        );
        warnings.push(problem.hint("push it with --sign KEY"));
    }
    if output.is_document() {
        output.print_document(&PushDocument {
            version: crate::report::VERSION,
            outcome: Exit::Converged,
            environment: &args.env,
            digest,
            previous: outcome.and_then(|outcome| outcome.previous.as_ref()),
            written: published.is_some_and(|published| published.written),
            generation: published.and_then(|published| published.generation),
            files: bundle.files.files.keys().map(String::as_str).collect(),
            warnings,
        });
        return;
    }
    let env = &args.env;
    match (outcome, published) {
        (None, _) => {
            print_files(digest, &bundle.files.files, output);
            output.print_line(format!(
                "nothing was written: without --dry-run, {env} gets it"
            ));
        }
        (Some(_), None) => output.print_line(format!(
            "{env} has a bundle with these files already, sha256:{}: nothing was written",
            digest.short()
        )),
        (Some(outcome), Some(published)) => {
            let generation = published.generation.unwrap_or_default();
            let from = match &outcome.previous {
                Some(previous) => format!(", after sha256:{}", previous.short()),
                None => String::new(),
            };
            output.print_line(format!(
                "{env} gets {digest}{from} (generation {generation})"
            ));
            output.print_text(format!(
                "hint: `trueup rollout status {env} {POLICY_APP} --wait` waits for its end"
            ));
            output.print_text(format!("hint: `trueup rollback {env} --policy` goes back"));
        }
    }
    for warning in &warnings {
        output.print_line(format!("{}: {warning}", output.paint.changed("warning")));
    }
}
