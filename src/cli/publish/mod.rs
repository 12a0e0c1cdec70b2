//! `trueup publish`: sets the wanted sha of apps in the manifest.

use clap::Args;
use serde::Serialize;

use super::Output;
use super::format::{current_user, parse_one_line};
use super::target::{StoreArgs, StoreTarget};
use crate::desired::{
    HoldRequest, MAX_REASON_CHARS, PublishRequest, PublishSummary, Sha, ShaChange,
};
use crate::exit::Exit;
use crate::operate;
use crate::operate::CommandError;
use crate::pass::{PassError, Paths};
use crate::ports::clock::{Clock, SystemClock};
use crate::ports::store;
use crate::printable;
use crate::problem::Problem;
use crate::yaml::parse_end;

#[derive(Debug, Args)]
#[command(
    after_help = "Keeps the comments and layout of the manifest, and increments its generation. Of two concurrent publishers \
                  neither loses its change. Publishing a sha that is already set writes nothing.\n\n\
                  `--hold` freezes the apps at the shas that it publishes, for example after a rollback: hosts take these, and what is \
                  published later waits until the hold ends, by the store's clock, or `--lift-hold` ends it.\n\n\
                  The sha before becomes `previous`, unless it is quarantined, no host ever served it, or the published sha is \
                  `previous` itself: a way back. An app whose rollout policy no host could follow is refused: an `after` that \
                  names no app or goes in a circle, a canary whose tags no host has."
)]
pub struct PublishArgs {
    /// Which environment of the manifest
    #[arg(value_name = "ENV")]
    pub environment: String,
    /// An app and its full sha; several are written at once
    #[arg(value_name = "APP=SHA", required_unless_present = "above_fleet")]
    pub shas: Vec<String>,
    /// Source of the sha, such as a branch, for the record; with one app only
    #[arg(long = "ref", value_name = "NAME")]
    pub reference: Option<String>,
    /// Who publishes, for the record [default: the user]
    #[arg(long, value_name = "WHO", env = "TRUEUP_BY", hide_env_values = true)]
    pub by: Option<String>,
    /// Allow a new environment, app or manifest
    #[arg(long)]
    pub create: bool,
    /// Freeze the apps at the published shas, for this reason: hosts take these, and no later one
    #[arg(
        long,
        value_name = "REASON",
        conflicts_with = "lift_hold",
        requires = "shas"
    )]
    pub hold: Option<String>,
    /// When the hold ends: a time such as `2026-11-29T18:00:00Z`, or the end of a day in UTC [default: when it is lifted]
    #[arg(long, value_name = "TIME", requires = "hold")]
    pub until: Option<String>,
    /// End the hold of the apps
    #[arg(long, requires = "shas")]
    pub lift_hold: bool,
    /// Set the generation above those that the hosts report as applied, instead of incrementing it: for a manifest
    /// whose generation hosts refuse
    #[arg(long)]
    pub above_fleet: bool,
    #[command(flatten)]
    pub at: StoreArgs,
}

/// The document of `publish --output`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    version: u32,
    outcome: Exit,
    /// The store's URL and the key.
    manifest: &'a str,
    environment: &'a str,
    /// `false`: every app had its sha already.
    written: bool,
    generation: Option<u64>,
    apps: &'a [ShaChange],
    warnings: &'a [Problem],
}

pub(super) fn run(
    args: &PublishArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    let request = parse_request(args).map_err(CommandError::Usage)?;
    let environment = request.environment.clone();
    let target = StoreTarget::resolve(&args.at, paths, "publish")?;
    let store = store::open(&target.store).map_err(PassError::Store)?;
    let published = operate::publish::publish(
        store.as_ref(),
        &target.manifest,
        request,
        args.above_fleet,
        target.fleet.gone_after(),
    )?;
    if output.is_document() {
        output.print_document(&Document {
            version: crate::report::VERSION,
            outcome: Exit::Converged,
            manifest: &published.manifest,
            environment: &environment,
            written: published.written,
            generation: published.generation,
            apps: &published.changes,
            warnings: &published.warnings,
        });
    } else {
        for one in &published.changes {
            output.print_line(move_line(one, &environment, &published));
        }
        if published.changes.is_empty() {
            output.print_line(generation_line(&published));
        }
        if let Some(reason) = &args.hold {
            let until = args.until.as_deref().unwrap_or("it is lifted");
            output.print_line(format!("held at these until {until}: {reason}"));
        }
        if args.lift_hold {
            output.print_line("no hold is in force any more");
        }
        for warning in &published.warnings {
            output.print_line(format!("{}: {warning}", output.paint.changed("warning")));
        }
    }
    Ok(Exit::Converged)
}

/// `production/shop 4f2c9d0 -> 9b1c44e (generation 43) in s3://packages/sha_number.yml`.
fn move_line(one: &ShaChange, environment: &str, published: &PublishSummary) -> String {
    let PublishSummary {
        manifest,
        generation,
        ..
    } = published;
    let generation = generation.map_or("no generation".into(), |number| {
        format!("generation {number}")
    });
    let name = format!("{environment}/{}", one.app);
    let to = one.to.short();
    match &one.from {
        Some(from) if *from == one.to => {
            format!("{name} is already at {to} ({generation}) in {manifest}")
        }
        Some(from) => {
            format!(
                "{name} {} -> {to} ({generation}) in {manifest}",
                from.short()
            )
        }
        None => format!("{name} new -> {to} ({generation}) in {manifest}"),
    }
}

/// `generation 43 in s3://packages/sha_number.yml`, for a call that names no app.
fn generation_line(published: &PublishSummary) -> String {
    let generation = published.generation.unwrap_or_default();
    let already = if published.written { "" } else { " already" };
    format!("generation {generation}{already} in {}", published.manifest)
}

fn parse_request(args: &PublishArgs) -> Result<PublishRequest, Problem> {
    let mut shas: Vec<(String, Sha)> = Vec::new();
    for word in &args.shas {
        let Some((app, sha)) = word.split_once('=').filter(|(app, _)| !app.is_empty()) else {
            return Err(Problem::new(format!("`{word}` is not `APP=SHA`"))
                .hint("as in `trueup publish production shop=$(git rev-parse HEAD)`"));
        };
        let sha = Sha::parse(sha).map_err(|invalid| {
            Problem::new(format!("{app}: {}", invalid.message)).hint(invalid.hint)
        })?;
        if shas.iter().any(|(known, _)| known == app) {
            return Err(Problem::new(format!("`{app}` is given twice")));
        }
        shas.push((app.to_owned(), sha));
    }
    if args.reference.is_some() && shas.len() > 1 {
        return Err(
            Problem::new("--ref goes with one app only").hint("publish the apps one by one")
        );
    }
    Ok(PublishRequest {
        references: parse_one_line("--ref", args.reference.as_deref())?
            .and_then(|reference| Some((shas.first()?.0.clone(), reference)))
            .into_iter()
            .collect(),
        shas,
        by: Some(parse_one_line("--by", args.by.as_deref())?.unwrap_or_else(current_user)),
        hold: parse_hold(args)?,
        create: args.create,
        ..PublishRequest::new(&args.environment, SystemClock.now())
    })
}

fn parse_hold(args: &PublishArgs) -> Result<HoldRequest, Problem> {
    let until = args.until.as_deref().map(|until| {
        parse_end(until.trim()).map_err(|invalid| {
            Problem::new(format!("--until: {}", invalid.message)).hint(invalid.hint)
        })
    });
    let until = until.transpose()?;
    Ok(match (&args.hold, args.lift_hold) {
        (Some(reason), _) => {
            let reason = parse_one_line("--hold", Some(reason))?;
            let reason = reason.ok_or_else(|| Problem::new("--hold: expected a reason"))?;
            let length = reason.chars().count();
            if length > MAX_REASON_CHARS {
                return Err(Problem::new(format!(
                    "--hold: it is {length} characters long; at most {MAX_REASON_CHARS} are allowed"
                )));
            }
            HoldRequest::Set {
                reason: printable::line(&reason).into_owned(),
                until,
            }
        }
        (None, true) => HoldRequest::Lift,
        (None, false) => HoldRequest::Keep,
    })
}

#[cfg(test)]
mod tests;
