//! The manifest, as commands read it.

use jiff::Timestamp;

use super::CommandError;
use crate::desired::{Environment, Manifest, verify_published};
use crate::pass::PassError;
use crate::ports::store::{GetOutcome, Store};
use crate::problem::Problem;
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

/// An environment of the manifest, which has an entry for `app`.
pub(crate) fn find_environment<'m>(
    manifest: &'m Manifest,
    environment: &str,
    app: Option<&str>,
) -> Result<&'m Environment, CommandError> {
    let found = manifest.environments.get(environment).ok_or_else(|| {
        let known = manifest.environments.keys().map(String::as_str);
        CommandError::Usage(
            Problem::new(format!("the manifest has no environment `{environment}`"))
                .suggest(environment, known),
        )
    })?;
    if let Some(app) = app.filter(|app| !found.has_app(app)) {
        return Err(CommandError::Usage(
            Problem::new(format!("the manifest has no app `{app}` in {environment}"))
                .suggest(app, found.app_names()),
        ));
    }
    Ok(found)
}
