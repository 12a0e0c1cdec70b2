//! The app whose rollouts a command is about.

use jiff::Timestamp;

use crate::desired::{Hold, Manifest, RolloutMode, RolloutPolicy, Sha};
use crate::fleet::rollout::{Operator, RolloutContext, StoreObjects};
use crate::operate::CommandError;
use crate::operate::manifest::find_environment;
use crate::ports::store::Store;
use crate::problem::Problem;
use crate::settings::FleetSettings;

/// The app whose rollouts are asked for.
#[derive(Clone, Copy)]
pub(crate) struct RolloutTarget<'a> {
    pub store: &'a dyn Store,
    pub environment: &'a str,
    pub app: &'a str,
    /// The manifest's key.
    pub manifest_key: &'a str,
    pub fleet: &'a FleetSettings,
}

impl RolloutTarget<'_> {
    pub(in crate::operate) fn objects(&self) -> StoreObjects<'_> {
        StoreObjects {
            store: self.store,
            context: RolloutContext {
                root: None,
                environment: self.environment,
                store_name: self.store.address(),
                manifest_key: self.manifest_key,
                fleet: self.fleet,
                signers: None,
            },
            app: self.app,
            canary: None,
            ignores_hold: false,
            observer: None,
        }
    }
}

/// Refuses an app that has no rollouts: hosts would never do what a person waits for. `instead` says what works. Returns
/// the hold that is in force, and the policy.
pub(super) fn check_app(
    target: &RolloutTarget<'_>,
    manifest: &Manifest,
    instead: &str,
    now: Timestamp,
) -> Result<(Option<Hold>, RolloutPolicy), CommandError> {
    let (app, name) = (target.app, target.environment);
    let environment = find_environment(manifest, name, Some(app))?;
    let entry = environment.entry(app).ok_or_else(|| {
        let problem = Problem::new(format!("the manifest wants nothing of `{app}` in {name}"));
        CommandError::Usage(problem)
    })?;
    let entry = entry.map_err(|problem| CommandError::input(problem.clone()))?;
    let mode = match environment.rollout(app) {
        RolloutMode::Independent => Err("its policy is `rollout: none`"),
        RolloutMode::Coordinated(_) if target.store.address().starts_with("dir:") => {
            Err("the store is a folder of one machine")
        }
        RolloutMode::Coordinated(policy) => Ok(policy),
    };
    match mode {
        Err(why) => Err(CommandError::Usage(
            Problem::new(format!(
                "{app} in {name} has no rollouts: {why}, so each host goes for itself"
            ))
            .hint(instead),
        )),
        Ok(policy) => Ok((entry.hold_at(now).cloned(), policy)),
    }
}

/// Counts the hosts again but for a node that is gone, as far as that is possible: a slot is not to stay held for that.
pub(super) fn recount(
    target: &RolloutTarget<'_>,
    operator: &Operator<'_, StoreObjects<'_>>,
    sha: &Sha,
    gone: Option<&str>,
) -> Result<(), CommandError> {
    let manifest = target.objects().manifest()?;
    let environment = manifest.environments.get(target.environment);
    let mode = environment.map(|environment| environment.rollout(target.app));
    if let Some(RolloutMode::Coordinated(policy)) = mode
        && let Err(error) = operator.recount(sha, &policy, gone)
    {
        tracing::warn!("the hosts of {} are not counted again: {error}", target.app);
    }
    Ok(())
}
