//! Which sha a rollback of an app goes to, for all hosts of an environment.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::desired::{EnvironmentSettings, Hold, RolloutMode, Sha};
use crate::fleet::rollout::{Register, RolloutStore, StoreObjects};
use crate::operate::CommandError;
use crate::operate::environment_history::read_history;
use crate::operate::manifest::{find_environment, read_manifest};
use crate::operate::rollout::RolloutTarget;
use crate::problem::Problem;
use crate::settings::Signers;

/// Where a rollback goes, and from where.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RollbackPlan {
    pub from: Sha,
    pub to: Sha,
    /// How the sha was found.
    pub source: RollbackSource,
    /// The hold that is in force now, which the one of the rollback replaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// Hosts go back by slots; otherwise each for itself, at once.
    pub has_rollouts: bool,
    /// The environment's generation at which this was found.
    #[serde(skip)]
    pub generation: Option<u64>,
    /// Those of the environment.
    #[serde(skip)]
    pub settings: Option<EnvironmentSettings>,
}

/// How the sha of a rollback was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RollbackSource {
    /// The operator named it.
    Asked,
    /// The last one before the wanted one that hosts served, by their rollouts.
    Served,
    /// `previous` of the manifest.
    Previous,
}

/// The sha to go back to: `to`, or the last good one before the wanted one. With signers, one of them has to have named it.
pub(crate) fn find_target(
    target: &RolloutTarget<'_>,
    to: Option<&str>,
    signers: Option<&Signers>,
) -> Result<RollbackPlan, CommandError> {
    let (name, app) = (target.environment, target.app);
    let manifest = read_manifest(target.store, target.manifest_key, name, signers)?;
    let environment = find_environment(&manifest, name, Some(app))?;
    let entry = environment.entry(app).transpose();
    let entry = entry.map_err(|problem| CommandError::input(problem.clone()))?;
    let Some(entry) = entry else {
        return Err(CommandError::failed(format!(
            "{name} wants nothing of {app}"
        )));
    };
    // Hosts on one machine have no register.
    let objects = target.objects();
    let register = match target.store.address().starts_with("dir:") {
        true => None,
        false => objects.register()?.map(|found| found.object),
    };
    // Who may write the register could name any sha.
    let named = match signers {
        None => None,
        Some(signers) => Some(signed_shas(target, signers)?),
    };
    let register = register.map(|mut register| {
        let is_named = |sha: &Sha| named.as_ref().is_none_or(|named| named.contains(sha));
        register.entries.retain(|entry| is_named(&entry.id.sha));
        register
    });
    let now = target.store.server_time().unwrap_or_default();
    let hold = entry.hold_at(now).cloned();
    // What hosts are at now: behind a hold it is not the wanted sha.
    let held = hold.as_ref().and_then(|hold| hold.sha.clone());
    let from = held.unwrap_or_else(|| entry.sha.clone());
    let previous = entry
        .previous
        .as_ref()
        .filter(|previous| **previous != from);
    let (to, source) = match to {
        Some(text) => (
            named_sha(text, register.as_ref(), previous)?,
            RollbackSource::Asked,
        ),
        None => match last_served(register.as_ref(), &from, &objects)? {
            Some(sha) => (sha, RollbackSource::Served),
            None => {
                let previous = previous
                    .cloned()
                    .ok_or_else(|| no_target(name, app, &from))?;
                (previous, RollbackSource::Previous)
            }
        },
    };
    if let Some(quarantine) = objects.quarantine(&to)?
        && quarantine.object.in_force
    {
        return Err(CommandError::Quarantined(
            Problem::new(format!(
                "{name}/{app}: {} is quarantined: {}",
                to.short(),
                quarantine.object.reason
            ))
            .hint(format!(
                "name another one with --to; `trueup rollout quarantine list {name}` shows all"
            )),
        ));
    }
    let is_shared = !target.store.address().starts_with("dir:");
    Ok(RollbackPlan {
        has_rollouts: is_shared && environment.rollout(app) != RolloutMode::Independent,
        generation: manifest.generation_of(name),
        settings: environment.settings.as_ref().ok().cloned(),
        from,
        to,
        source,
        hold,
    })
}

/// The shas of the app that signed generations of the environment name.
fn signed_shas(
    target: &RolloutTarget<'_>,
    signers: &Signers,
) -> Result<BTreeSet<Sha>, CommandError> {
    /// How many acts back a rollback looks.
    const ACTS: usize = 30;
    let scope = (target.environment, Some(target.app));
    let history = read_history(
        target.store,
        target.manifest_key,
        scope,
        ACTS,
        Some(signers),
    )?;
    let signed = history.into_iter();
    let signed = signed.filter(|one| matches!(one.signature, Some(Ok(()))));
    let moves = signed.flat_map(|one| one.apps);
    let moves = moves.filter(|one| one.app == target.app);
    Ok(moves.flat_map(|one| [one.from, one.to]).flatten().collect())
}

fn no_target(name: &str, app: &str, from: &Sha) -> CommandError {
    CommandError::Usage(
        Problem::new(format!(
            "{name}/{app}: there is no sha before {} that hosts served",
            from.short()
        ))
        .hint(format!("name one with `--to SHA`: `trueup history {name} {app}` shows those that were published")),
    )
}

/// The newest sha that hosts served before this one, and that is not quarantined.
fn last_served(
    register: Option<&Register>,
    from: &Sha,
    objects: &StoreObjects<'_>,
) -> Result<Option<Sha>, CommandError> {
    let entries = register.map_or(&[][..], |register| &register.entries);
    let wanted = entries.iter().rposition(|entry| entry.id.sha == *from);
    let before = &entries[..wanted.unwrap_or(entries.len())];
    let served = before.iter().rev();
    let served = served.filter(|entry| (entry.proven || entry.was_done) && entry.id.sha != *from);
    for entry in served {
        let quarantine = objects.quarantine(&entry.id.sha)?;
        if !quarantine.is_some_and(|found| found.object.in_force) {
            return Ok(Some(entry.id.sha.clone()));
        }
    }
    Ok(None)
}

/// A full sha, or the beginning of one that the rollouts or the manifest know.
fn named_sha(
    text: &str,
    register: Option<&Register>,
    previous: Option<&Sha>,
) -> Result<Sha, CommandError> {
    let invalid = match Sha::parse(text) {
        Ok(sha) => return Ok(sha),
        Err(invalid) => invalid,
    };
    let lower = text.to_ascii_lowercase();
    let entries = register.map_or(&[][..], |register| &register.entries);
    let known = entries.iter().map(|entry| &entry.id.sha).chain(previous);
    let mut found: Vec<&Sha> = known
        .filter(|sha| text.len() >= 4 && sha.as_str().starts_with(&lower))
        .collect();
    found.sort();
    found.dedup();
    match found[..] {
        [one] => Ok(one.clone()),
        [] => Err(CommandError::Usage(
            Problem::new(format!("--to: {}", invalid.message)).hint(invalid.hint),
        )),
        _ => Err(CommandError::Usage(Problem::new(format!(
            "--to: `{text}` is the beginning of {} shas",
            found.len()
        )))),
    }
}

#[cfg(test)]
mod tests;
