//! The manifest, as commands read it.

use super::CommandError;
use crate::desired::{Environment, Manifest};
use crate::pass::PassError;
use crate::ports::store::{GetOutcome, Store};
use crate::problem::Problem;

/// The manifest now.
pub(crate) fn read_manifest(store: &dyn Store, key: &str) -> Result<Manifest, CommandError> {
    let name = format!("{}/{key}", store.address());
    match store.get(key, None).map_err(PassError::Store)? {
        GetOutcome::Object(found) => {
            Manifest::parse(&name, &found.body).map_err(CommandError::input)
        }
        GetOutcome::Missing | GetOutcome::Unchanged => Err(CommandError::Usage(
            Problem::new(format!("there is no manifest {name}"))
                .hint("`trueup publish ENV APP=SHA --create` makes the first one"),
        )),
    }
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
