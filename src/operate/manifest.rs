//! The manifest, as commands read it.

use jiff::Timestamp;

use super::CommandError;
use crate::desired::{Environment, Manifest, verify_published};
use crate::pass::PassError;
use crate::ports::store::{GetOutcome, Store};
use crate::problem::{Problem, nearest};
use crate::settings::Signers;

/// The manifest now. With signers, it is the environment alone, as one of them has signed it: what a command decides by, and
/// then signs, must not be what somebody else wrote there.
pub(crate) fn read_manifest(
    store: &dyn Store,
    key: &str,
    environment: &str,
    signers: Option<&Signers>,
) -> Result<Manifest, CommandError> {
    let name = format!("{}/{key}", store.address());
    let found = match store.get(key, None).map_err(PassError::Store)? {
        GetOutcome::Object(found) => found,
        GetOutcome::Missing | GetOutcome::Unchanged => {
            return Err(CommandError::Usage(
                Problem::new(format!("there is no manifest {name}"))
                    .hint("`trueup publish ENV APP=SHA --create` makes the first one"),
            ));
        }
    };
    let read = match signers {
        None => Manifest::parse(&name, &found.body),
        Some(signers) => {
            let now = store.server_time().unwrap_or(Timestamp::UNIX_EPOCH);
            verify_published(store, &name, &found.body, environment, signers, now)
        }
    };
    read.map_err(CommandError::input)
}

/// An environment of the manifest, which has an entry for `app`. Every command that takes such names asks here, so that a
/// misspelt one gets the same message everywhere.
pub(crate) fn find_environment<'m>(
    manifest: &'m Manifest,
    environment: &str,
    app: Option<&str>,
) -> Result<&'m Environment, CommandError> {
    let found = manifest.environments.get(environment);
    found
        .filter(|found| app.is_none_or(|app| found.entry(app).is_some()))
        .ok_or_else(|| CommandError::Usage(manifest.unknown_name(environment, app)))
}

/// Refuses names of what is to be new that may be misspelt known ones. `create` says what makes new ones.
pub(crate) fn check_new_names(
    manifest: &Manifest,
    environment: &str,
    apps: &[&str],
    create: &str,
) -> Result<(), CommandError> {
    let Some(found) = manifest.environments.get(environment) else {
        let known = manifest.environments.keys().map(String::as_str);
        let unknown = format!("the manifest has no environment `{environment}`");
        return refuse_near(unknown, environment, known, create);
    };
    let new = apps.iter().filter(|app| found.entry(app).is_none());
    for app in new {
        let unknown = format!("the manifest has no app `{app}` in {environment}");
        refuse_near(unknown, app, found.app_names(), create)?;
    }
    Ok(())
}

fn refuse_near<'a>(
    unknown: String,
    name: &str,
    known: impl Iterator<Item = &'a str>,
    create: &str,
) -> Result<(), CommandError> {
    match nearest(name, known) {
        None => Ok(()),
        Some(near) => Err(CommandError::Usage(
            Problem::new(unknown).hint(format!("did you mean `{near}`? If it is new, {create}")),
        )),
    }
}

/// Refuses an environment or app that the manifest does not have, for a command that found nothing of it. Without a
/// manifest to ask, every name may be right.
pub(crate) fn check_names(
    store: &dyn Store,
    key: &str,
    environment: &str,
    app: Option<&str>,
) -> Result<(), CommandError> {
    match read_manifest(store, key, "", None) {
        Ok(manifest) => find_environment(&manifest, environment, app).map(drop),
        Err(_) => Ok(()),
    }
}
