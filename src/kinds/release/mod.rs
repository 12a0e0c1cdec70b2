//! The `release` kind: an app at the sha that the manifest wants. [`crate::release`] does the work.

#[cfg(test)]
mod conformance;
mod state;

use std::path::PathBuf;

use crate::desired::Sha;
use crate::kind::{Condition, Diff, Kind, ReleaseCondition};
use crate::ports::Host;
use crate::problem::Problem;
use crate::release::{
    self, Comparison, DeployOutcome, Overrides, ReleaseRecord, ReleaseSpec, active_links, files,
};
use crate::resource::{
    ApplyOutcome, Change, Failure, FieldValue, ResolveInputs, Stamp, Trial, Verb, Withheld,
};
use state::{ReleaseState, ReleaseStep, keep_change};

pub(crate) struct Release;

/// What an apply does about a release.
#[derive(Debug)]
pub(crate) struct ReleaseAction {
    /// Remove a pin that has expired, first.
    remove_pin: bool,
    step: ReleaseStep,
}

/// Whether a deployment ends a pin for another sha: unless the new one has the same files, or a failure left that open.
fn ends_pin(
    spec: &ReleaseSpec,
    sha: &Sha,
    host: &Host,
    outcome: Option<&DeployOutcome>,
) -> Result<bool, Failure> {
    match outcome {
        Some(outcome) => Ok(!matches!(
            outcome,
            DeployOutcome::OnHold(_) | DeployOutcome::Waiting(_)
        )),
        None => {
            let record = ReleaseRecord::load(host, &spec.layout())?;
            let comparison = release::compare(spec, host, &record, sha)?;
            Ok(comparison == Comparison::Different)
        }
    }
}

/// Deploys a sha. A pin that has expired is removed, unless the sha changes nothing of what it is there for.
fn deploy(
    spec: &ReleaseSpec,
    sha: &Sha,
    host: &Host,
    has_expired_pin: bool,
) -> Result<ApplyOutcome, Failure> {
    let outcome = release::deploy(spec, sha, host);
    if has_expired_pin && ends_pin(spec, sha, host, outcome.as_ref().ok())? {
        release::unpin(spec, host)?;
    }
    Ok(match outcome? {
        DeployOutcome::Activated => ApplyOutcome::Done,
        DeployOutcome::OnHold(why) | DeployOutcome::Waiting(why) => ApplyOutcome::Waiting(why),
        DeployOutcome::Refused(why) => ApplyOutcome::Refused(why),
        DeployOutcome::RefusedByFleet(why) => ApplyOutcome::RefusedByFleet(why),
        DeployOutcome::Unchanged(name) => {
            let state = Release::inspect(spec, host)?;
            let from = state.active.as_ref().and_then(|active| active.sha.as_ref());
            let mut change = keep_change(spec, from, sha, &name);
            // Only of the wanted release is it known what else differs.
            if let Some((_, refresh)) = state.refresh(spec) {
                release::refresh(spec, sha, host, &name)?;
                change.fields.extend(refresh.fields);
                change.keeps_stamp = refresh.keeps_stamp;
            }
            ApplyOutcome::DoneAs(change)
        }
    })
}

impl Kind for Release {
    const NAME: &'static str = "release";
    const ABOUT: &'static str =
        "An app at the sha that the manifest wants, built and activated in Capistrano's layout.";
    const EXAMPLE: &'static str = r#"release:
  app: shop
  repo: "git@github.com:example/shop.git"
  deploy_to: /srv/www/shop
  user: deploy
  deploy_key: /etc/trueup/keys/shop
  linked_dirs: [log, tmp/pids]
  linked_files: [config/master.key]
  env: {RAILS_ENV: production}
  steps:
    - {name: gems, run: [bundle, install, --deployment], timeout: 10m}
  assets: {run: [bin/rails, "assets:precompile"]}
  migrate: {run: [bin/rails, "db:migrate"]}
  health: {url: "http://127.0.0.1:3000/up"}"#;

    const SECRET_FIELDS: &'static [&'static [&'static str]] = &[
        &["secrets"],
        &["files", "*", "content"],
        &["files", "*", "vars"],
        &["config_files", "*", "content"],
        &["config_files", "*", "vars"],
    ];

    type Spec = ReleaseSpec;
    type State = ReleaseState;
    type Action = ReleaseAction;

    fn subject(spec: &ReleaseSpec) -> String {
        spec.app.clone()
    }

    fn owned_path(spec: &ReleaseSpec) -> Option<PathBuf> {
        Some(spec.layout().current())
    }

    fn resolve(spec: &mut ReleaseSpec, inputs: &dyn ResolveInputs) -> Result<(), Problem> {
        spec.add_config_files();
        spec.move_once_steps();
        spec.validate()?;
        for (number, file) in spec.files.iter_mut().enumerate() {
            file.resolve(number, inputs)?;
        }
        spec.register_secrets();
        Ok(())
    }

    fn inspect(spec: &ReleaseSpec, host: &Host) -> Result<ReleaseState, Failure> {
        let layout = spec.layout();
        release::check_path(&host.root, &layout)?;
        let mut found = ReleaseState {
            active: release::active(host, &layout, spec.keep_releases)?,
            overrides: Overrides::load(host, &layout)?,
            built: None,
            comparison: Comparison::Different,
            next_sha: spec.build_ahead.clone(),
            files: Vec::new(),
            is_new: false,
            links: Vec::new(),
            pending_steps: String::new(),
        };
        if let Some(active) = &found.active {
            let bake = active.bake_until.filter(|_| active.trial.is_none());
            found.is_new = bake.is_some_and(|until| spec.is_baking(until, host.clock.now()));
            found.files = files::inspect(spec, host, &active.app_folder(&layout))?;
        }
        let away = !found.is_target_active(spec);
        if let Some(active) = found
            .active
            .as_ref()
            .filter(|active| active.is_linked && !away)
        {
            found.links = active_links::inspect(spec, host, &active.app_folder(&layout))?;
        }
        if (away && found.target_sha(spec).is_some()) || found.next_sha.is_some() {
            let record = ReleaseRecord::load(host, &layout)?;
            let find_complete = |sha: &Sha| release::find_complete(spec, host, &record, sha);
            found.built = found
                .target_sha(spec)
                .filter(|_| away)
                .and_then(find_complete);
            if let Some(next) = found.next_sha.take()
                && find_complete(&next).is_none()
                && !matches!(
                    release::compare(spec, host, &record, &next)?,
                    Comparison::Same(_)
                )
            {
                found.next_sha = Some(next);
            }
            if let Some(target) = found
                .target_sha(spec)
                .filter(|_| away && found.built.is_none())
            {
                let steps = release::describe_commands(spec, host, &record, target)?;
                found.comparison = release::compare(spec, host, &record, target)?;
                found.pending_steps = steps;
            }
        }
        Ok(found)
    }

    fn diff(spec: &ReleaseSpec, state: &ReleaseState) -> Option<Diff<ReleaseAction>> {
        let trial = state.trial(spec);
        // What it lacks may be why it does not pass.
        let refresh = trial.and_then(|_| state.refresh(spec));
        let (step, change) = if let Some(refresh) = refresh {
            refresh
        } else if let Some(trial) = trial {
            let to = FieldValue::Unknown("its services and its health check have shown it".into());
            let change = Change::new(Verb::Prove).keeping_stamp();
            let change = change.with_field("release", FieldValue::value(&trial.name), to);
            (ReleaseStep::AwaitTrial, change)
        } else if state.is_target_active(spec) {
            state.upkeep(spec)?
        } else {
            state.deployment(spec, state.target_sha(spec)?)
        };
        let remove_pin = state.expired_pin(spec).is_some();
        Some(Diff::new(ReleaseAction { remove_pin, step }, change))
    }

    fn apply(
        spec: &ReleaseSpec,
        action: &ReleaseAction,
        host: &Host,
    ) -> Result<ApplyOutcome, Failure> {
        if let ReleaseStep::Deploy(sha) = &action.step {
            return deploy(spec, sha, host, action.remove_pin);
        }
        if action.remove_pin {
            release::unpin(spec, host)?;
        }
        match &action.step {
            ReleaseStep::None | ReleaseStep::AwaitTrial | ReleaseStep::Deploy(_) => {}
            ReleaseStep::Refresh { release, sha } => {
                release::refresh(spec, sha, host, release)?;
            }
            ReleaseStep::BuildAhead(next) => {
                release::build_ahead(spec, next, host)?;
            }
            ReleaseStep::Withhold {
                leave,
                why,
                build_ahead,
            } => {
                if let Some(next) = build_ahead {
                    release::build_ahead(spec, next, host)?;
                }
                if let Some(bad) = leave
                    && release::finish_rollback(spec, host, bad)?
                {
                    return Ok(ApplyOutcome::Done);
                }
                return Ok(match why.clone() {
                    Withheld::OnHold(why) => ApplyOutcome::Waiting(why),
                    Withheld::Quarantined(why) => ApplyOutcome::Refused(Failure::new(why)),
                });
            }
        }
        Ok(ApplyOutcome::Done)
    }

    fn stamp(_spec: &ReleaseSpec, state: &ReleaseState) -> Option<Stamp> {
        let active = state.active.as_ref()?;
        let sha = active.sha.as_ref().map_or("unknown", |sha| sha.as_str());
        let mut fingerprint = format!("release {} {sha}", active.name);
        let mut changed_at = active.since;
        if let Some((files, changed)) = files::stamp(&state.files) {
            fingerprint.push_str(&format!(" {files}"));
            changed_at = changed_at.max(changed);
        }
        // Only from the record: a link that its user removes and trueup restores requires no restart.
        if let Some(links) = &active.links
            && let Some(described) = &links.definition
        {
            fingerprint.push_str(&format!(" {described}"));
            changed_at = changed_at.max(links.began);
        }
        Some(Stamp {
            fingerprint,
            changed_at: Some(changed_at),
            is_request: false,
        })
    }

    fn condition(spec: &ReleaseSpec, state: &ReleaseState) -> Condition {
        let active = state.active.as_ref();
        let layout = spec.layout();
        let trial = state.trial(spec).map(|trial| Trial {
            release: trial.name.clone(),
            crashed: trial.crashed.clone(),
            deploy_to: layout.deploy_to().to_owned(),
            current: layout.current(),
        });
        let is_untidy =
            state.is_target_active(spec) && active.is_some_and(|active| active.needs_cleanup);
        let unremoved = active.iter().flat_map(|active| &active.unremoved);
        Condition::Release(ReleaseCondition {
            sha: state.active_sha(spec).map(|sha| sha.to_string()),
            trial,
            is_new: state.is_new,
            needs_permission: state
                .target_sha(spec)
                .filter(|_| state.built.is_some())
                .map(|sha| release::activation_purpose(spec, sha)),
            needs_maintenance: is_untidy || state.overrides.has_multiline_reason(),
            warnings: unremoved
                .map(|left| format!("{} cannot be removed: {}", left.name, left.why))
                .collect(),
        })
    }

    fn release(spec: &ReleaseSpec) -> Option<&ReleaseSpec> {
        Some(spec)
    }

    fn release_mut(spec: &mut ReleaseSpec) -> Option<&mut ReleaseSpec> {
        Some(spec)
    }
}
