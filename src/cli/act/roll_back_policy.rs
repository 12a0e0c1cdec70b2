//! `trueup rollback ENV --policy`: takes the policy bundle back on all hosts of an environment.

use super::preview::show_before_question;
use super::{Details, Publisher, print_published};
use crate::cli::Output;
use crate::cli::args::RollbackArgs;
use crate::cli::confirm::require;
use crate::desired::{Action, ContentDigest, POLICY_APP};
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::policy::{PolicyTarget, roll_back};
use crate::pass::Paths;
use crate::problem::Problem;

pub(in crate::cli) fn run(
    args: &RollbackArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    if args.unpin || args.force || args.time.is_some() || args.no_hold {
        return Err(CommandError::Usage(
            Problem::new("--unpin, --force, --for and --no-hold are about an app")
                .hint("a bundle goes back until somebody pushes one"),
        ));
    }
    let env = args.first.as_str();
    let publisher = Publisher::open(&args.publisher, paths, "rollback")?;
    let trust = publisher.trust(env)?;
    let target = PolicyTarget {
        store: publisher.store.as_ref(),
        environment: env,
        manifest_key: &publisher.target.manifest,
        fleet: &publisher.target.fleet,
        signers: trust.as_ref(),
        publisher: &publisher,
        request: publisher.request(env, Action::Rollback, args.reason.as_deref())?,
    };
    let current = target.read()?;
    let name = |digest: &Option<ContentDigest>| match digest {
        Some(digest) => format!("sha256:{}", digest.short()),
        None => "the roles of the package, at once on all hosts".to_owned(),
    };
    let to = match &args.to {
        Some(text) => Some(target.find(Some(text))?),
        None => current.previous.clone(),
    };
    let line = format!(
        "rolling back the policy bundle of {env} from {} to {}",
        name(&current.policy),
        name(&to)
    );
    // A document comes after the question.
    match output.is_document() && !args.publisher.yes {
        true => show_before_question(|_| vec![line]),
        false => output.print_text(line),
    }
    if !args.publisher.yes {
        require("Go back?", "--yes")?;
    }
    let confirmed = PolicyTarget {
        request: crate::desired::PublishRequest {
            // The question above was about this environment.
            confirmed: true,
            ..target.request.clone()
        },
        ..target
    };
    let (to, published) = roll_back(&confirmed, args.to.as_deref())?;
    let generation = published.generation.unwrap_or_default();
    let mut lines = vec![format!(
        "{env} goes back to {} (generation {generation})",
        name(&to)
    )];
    if to.is_some() {
        lines.push(format!(
            "hint: `trueup rollout status {env} {POLICY_APP} --wait` waits for its end"
        ));
    }
    let details = Details::default();
    print_published(output, Action::Rollback, env, &published, &lines, &details);
    Ok(Exit::Converged)
}
