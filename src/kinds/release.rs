//! The `release` kind: an app at the sha that the manifest wants. [`crate::release`] does the work.

mod hold;

use std::path::PathBuf;

use crate::desired::Sha;
use crate::ports::Host;
use crate::problem::Problem;
use crate::release::files::{self, ObservedFile};
use crate::release::{self, ActiveRelease, Overrides, Pin, Record, ReleaseSpec, ReleaseStatus};
use crate::resource::{
    ApplyOutcome, Change, Failure, FieldChange, FieldValue, Kind, ResolveInputs, Stamp, Trial,
    TrialOutcome, Verb,
};

pub struct Release;

/// The deployed release, and what prevents the wanted one.
pub struct ReleaseState {
    active: Option<ActiveRelease>,
    /// A complete release of the wanted sha that is not active.
    built: Option<String>,
    /// The decisions of operators and of the gate on this host.
    overrides: Overrides,
    /// The sha to build ahead, if there is no complete release of it yet.
    next_sha: Option<Sha>,
    /// The rendered files of the active release.
    files: Vec<ObservedFile>,
    /// The steps to run for the wanted sha, one per line, if there is no complete release of it.
    pending_steps: String,
}

impl ReleaseState {
    /// The sha that should be active: the pinned one, else the one in the manifest.
    fn target_sha<'a>(&'a self, spec: &'a ReleaseSpec) -> Option<&'a Sha> {
        match self.effective_pin(spec) {
            Some(pin) => Some(&pin.sha),
            None => spec.wanted.as_ref(),
        }
    }

    /// The pin in force: a pinned sha that failed here since is not.
    fn effective_pin(&self, spec: &ReleaseSpec) -> Option<&Pin> {
        let pin = self.overrides.effective_pin(spec.wanted.as_ref())?;
        self.overrides
            .find_quarantined(&pin.sha)
            .is_none()
            .then_some(pin)
    }

    /// A pin that has expired. It is removed, so that it does not apply again when the manifest wants the sha
    /// of that time again.
    fn expired_pin(&self, spec: &ReleaseSpec) -> Option<&Pin> {
        let is_over = |_: &&Pin| spec.wanted.is_some() && self.effective_pin(spec).is_none();
        self.overrides.pin.as_ref().filter(is_over)
    }

    fn active_sha(&self) -> Option<&Sha> {
        self.active.as_ref()?.sha.as_ref()
    }

    fn is_active_bad(&self) -> bool {
        let active = self.active.as_ref();
        active.is_some_and(|active| active.state == Some(ReleaseStatus::Bad))
    }

    /// Whether the active release is the wanted one, and not known to be bad.
    fn is_target_active(&self, spec: &ReleaseSpec) -> bool {
        self.active_sha().is_some()
            && self.active_sha() == self.target_sha(spec)
            && !self.is_active_bad()
    }

    /// The trial of the active release, unless the manifest or a pin wants another sha since.
    fn trial(&self, spec: &ReleaseSpec) -> Option<&release::Trial> {
        let trial = self.active.as_ref()?.trial.as_ref()?;
        (trial.back || self.is_target_active(spec)).then_some(trial)
    }

    /// The changes to the files of the active release. A pinned release keeps its own files.
    fn files_to_change(&self, spec: &ReleaseSpec) -> Vec<FieldChange> {
        match self.effective_pin(spec) {
            Some(_) => Vec::new(),
            None => files::diff(spec, &self.files),
        }
    }

    /// Why nothing may be activated now, if that is so.
    fn activation_blocker(&self, spec: &ReleaseSpec) -> Option<ApplyOutcome> {
        if let Some(pin) = self
            .effective_pin(spec)
            .filter(|_| self.is_target_active(spec))
        {
            return Some(ApplyOutcome::Waiting(pin.describe()));
        }
        let target = self.target_sha(spec)?;
        if let Some(barred) = self.overrides.find_quarantined(target) {
            return Some(ApplyOutcome::Refused(barred.describe()));
        }
        spec.hold
            .as_ref()
            .map(|hold| ApplyOutcome::Waiting(hold.description()))
    }
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

    type Spec = ReleaseSpec;
    type State = ReleaseState;

    fn subject(spec: &ReleaseSpec) -> String {
        spec.app.clone()
    }

    fn owned_path(spec: &ReleaseSpec) -> Option<PathBuf> {
        Some(spec.layout().current())
    }

    fn app(spec: &ReleaseSpec) -> Option<&str> {
        Some(&spec.app)
    }

    fn register_secrets(spec: &ReleaseSpec) {
        spec.learn_secrets();
    }

    fn deployed_sha(_spec: &ReleaseSpec, state: &ReleaseState) -> Option<String> {
        state.active_sha().map(|sha| sha.to_string())
    }

    fn resolve(spec: &mut ReleaseSpec, inputs: &dyn ResolveInputs) -> Result<(), Problem> {
        spec.validate()?;
        let desired = inputs.desired();
        spec.set_wanted(desired.apps.get(&spec.app));
        spec.environment = desired.environment.clone();
        spec.resume_policy = desired.resume_policy;
        for file in &mut spec.files {
            file.resolve(inputs)?;
        }
        Ok(())
    }

    fn inspect(spec: &ReleaseSpec, host: &Host) -> Result<ReleaseState, Failure> {
        let layout = spec.layout();
        let mut found = ReleaseState {
            active: release::active(host, &layout, spec.keep_releases)?,
            overrides: Overrides::load(host, &layout)?,
            built: None,
            next_sha: spec.build_ahead.clone(),
            files: Vec::new(),
            pending_steps: String::new(),
        };
        if let Some(active) = &found.active {
            found.files = files::inspect(spec, host, &active.name)?;
        }
        let away = !found.is_target_active(spec);
        if (away && found.target_sha(spec).is_some()) || found.next_sha.is_some() {
            let record = Record::load(host, &layout)?;
            let whole = |sha: &Sha| record.find_complete(sha, host, &layout);
            found.built = found.target_sha(spec).filter(|_| away).and_then(whole);
            found.next_sha = found.next_sha.take().filter(|sha| whole(sha).is_none());
            if let Some(target) = found
                .target_sha(spec)
                .filter(|_| away && found.built.is_none())
            {
                found.pending_steps = release::describe_commands(spec, host, &record, target)?;
            }
        }
        Ok(found)
    }

    fn diff(spec: &ReleaseSpec, state: &ReleaseState) -> Option<Change> {
        if let Some(trial) = state.trial(spec) {
            let to = FieldValue::Unknown("its services and its health check have shown it".into());
            let from = FieldValue::value(&trial.name);
            return Some(Change::new(Verb::Prove).with_field("release", from, to));
        }
        if state.is_target_active(spec) {
            if let Some(update) = Change::update(state.files_to_change(spec)) {
                return Some(update);
            }
            return match (state.effective_pin(spec), &state.next_sha) {
                (Some(pin), _) => Some(hold::pinned_change(spec, state.active_sha(), pin)),
                (None, Some(next)) => {
                    let ahead = Change::new(Verb::Build);
                    Some(ahead.with_field("next", FieldValue::Absent, FieldValue::value(next)))
                }
                (None, None) => state.expired_pin(spec).map(|pin| {
                    let update = Change::new(Verb::Update);
                    update.with_field("pin", FieldValue::value(pin.describe()), FieldValue::Absent)
                }),
            };
        }
        let wanted = state.target_sha(spec)?;
        let sha = Change::new(Verb::Deploy).with_field(
            "sha",
            FieldValue::from_option(state.active_sha()),
            FieldValue::value(wanted),
        );
        if let Some(barred) = state.overrides.find_quarantined(wanted) {
            return Some(sha.with_field(
                "quarantine",
                FieldValue::Absent,
                FieldValue::value(barred.describe()),
            ));
        }
        let name = state.active.as_ref().map(|active| &active.name);
        let to = match &state.built {
            Some(ready) => FieldValue::value(ready),
            None => FieldValue::Unknown("it is built".into()),
        };
        let mut change = sha.with_field("release", FieldValue::from_option(name), to);
        if !state.pending_steps.is_empty() {
            let steps = FieldValue::Text(state.pending_steps.clone());
            change = change.with_field("steps", FieldValue::Absent, steps);
        }
        if let Some(hold) = &spec.hold {
            change = change.with_field(
                "hold",
                FieldValue::Absent,
                FieldValue::value(hold.description()),
            );
        }
        Some(change)
    }

    fn apply(spec: &ReleaseSpec, change: &Change, host: &Host) -> Result<ApplyOutcome, Failure> {
        let found = Release::inspect(spec, host)?;
        if found.expired_pin(spec).is_some() {
            release::unpin(spec, host)?;
        }
        if let (Verb::Build, Some(next)) = (change.verb, &found.next_sha) {
            release::build_ahead(spec, next, host)?;
            return Ok(ApplyOutcome::Done);
        }
        if let (Verb::Update, Some(active), Some(sha)) =
            (change.verb, &found.active, found.active_sha())
        {
            release::refresh_files(spec, sha, host, &active.name)?;
            return Ok(ApplyOutcome::Done);
        }
        // The pass settles the trial after it has restarted the services.
        if found.trial(spec).is_some() {
            return Ok(ApplyOutcome::Done);
        }
        if let Some(outcome) = found.activation_blocker(spec) {
            let bad = found.active.as_ref().filter(|_| found.is_active_bad());
            if let Some(bad) = bad
                && let release::RollbackOutcome::RolledBack(_) =
                    release::roll_back_bad(spec, host, &bad.name)?
            {
                return Ok(ApplyOutcome::Done);
            }
            return Ok(outcome);
        }
        if let Some(target) = found.target_sha(spec) {
            release::deploy(spec, target, host)?;
        }
        Ok(ApplyOutcome::Done)
    }

    fn stamp(_spec: &ReleaseSpec, state: &ReleaseState) -> Option<Stamp> {
        let active = state.active.as_ref()?;
        let sha = active.sha.as_ref().map_or("unknown", |sha| sha.as_str());
        let release = format!("release {} {sha}", active.name);
        Some(match files::stamp(&state.files) {
            Some((files, changed)) => Stamp {
                fingerprint: format!("{release} {files}"),
                changed_at: Some(active.since.max(changed)),
            },
            None => Stamp {
                fingerprint: release,
                changed_at: Some(active.since),
            },
        })
    }

    /// Building ahead activates nothing, and a release on trial was activated earlier.
    fn changes_stamp(change: &Change) -> bool {
        let unseen = |field: &FieldChange| field.field.ends_with(" mode") || field.field == "pin";
        match change.verb {
            Verb::Update => !change.fields.iter().all(unseen),
            Verb::Deploy => !change.is_withheld(),
            _ => false,
        }
    }

    fn needs_maintenance(spec: &ReleaseSpec, state: &ReleaseState) -> bool {
        state.overrides.has_multiline_reason()
            || state.is_target_active(spec)
                && state
                    .active
                    .as_ref()
                    .is_some_and(|active| active.needs_cleanup)
    }

    fn warnings(_spec: &ReleaseSpec, state: &ReleaseState) -> Vec<String> {
        let left = state.active.iter().flat_map(|active| &active.unremoved);
        left.map(|left| format!("{} cannot be removed: {}", left.name, left.why))
            .collect()
    }

    fn run_maintenance(spec: &ReleaseSpec, host: &Host) -> Result<(), Failure> {
        release::finish_cleanup(spec, host)
    }

    /// The hold or the pin that the change waits for.
    fn waiting_reason(change: &Change) -> Option<String> {
        hold::hold_reason(change)
    }

    fn trial(spec: &ReleaseSpec, state: &ReleaseState) -> Option<Trial> {
        let trial = state.trial(spec)?;
        let layout = spec.layout();
        Some(Trial {
            release: trial.name.clone(),
            deploy_to: layout.deploy_to().to_owned(),
            current: layout.current(),
        })
    }

    fn run_trial(
        spec: &ReleaseSpec,
        host: &Host,
        users: &mut dyn FnMut() -> Result<(), Failure>,
        runs_as: &dyn Fn() -> Vec<u32>,
    ) -> Result<TrialOutcome, Failure> {
        release::run_gate(spec, host, users, runs_as)
    }

    fn find_conflict(
        spec: &ReleaseSpec,
        host: &Host,
        runs_as: &dyn Fn() -> Vec<u32>,
    ) -> Option<Failure> {
        release::port_conflict(spec, host, runs_as)
    }

    fn confirm(spec: &ReleaseSpec, host: &Host) -> Result<(), Failure> {
        release::confirm(spec, host)
    }

    fn roll_back(
        spec: &ReleaseSpec,
        host: &Host,
        why: &Failure,
    ) -> Result<Option<String>, Failure> {
        Ok(match release::roll_back(spec, host, why)? {
            release::RollbackOutcome::RolledBack(name) => Some(name),
            release::RollbackOutcome::NoTarget => None,
        })
    }
}

#[cfg(test)]
mod conformance {
    use super::Release;
    use crate::ports::testing::Sandbox;
    use crate::resource::conformance::Probe;
    use crate::resource::{ConformanceProbes, Verb};

    /// Creates a repository outside the host with one commit; returns its address and the sha.
    fn create_repository(sandbox: &Sandbox) -> (String, String) {
        let path = sandbox.machine_path("/outside/shop.git");
        let repository = git2::Repository::init_bare(&path).unwrap();
        let blob = repository.blob(b"hello\n").unwrap();
        let mut tree = repository.treebuilder(None).unwrap();
        tree.insert("page", blob, 0o100_644).unwrap();
        let tree = repository.find_tree(tree.write().unwrap()).unwrap();
        let who =
            git2::Signature::new("t", "t@example", &git2::Time::new(1_800_000_000, 0)).unwrap();
        let sha = repository
            .commit(Some("refs/heads/main"), &who, &who, "one", &tree, &[])
            .unwrap();
        (path.display().to_string(), sha.to_string())
    }

    impl ConformanceProbes for Release {
        fn sandbox_example(sandbox: &Sandbox) -> Option<String> {
            let (repo, sha) = create_repository(sandbox);
            Some(format!(
                "release:\n  app: shop\n  repo: {repo}\n  sha: {sha}\n  deploy_to: /srv/shop\n  \
                 linked_dirs: [log]\n  files: [{{path: .env, content: \"A=1\\n\"}}]\n  steps: [{{name: page, run: \"cp page built\"}}]\n  \
                 assets: {{run: \"cp page public/assets/\", path: public/assets}}\n"
            ))
        }

        fn probes() -> Vec<Probe> {
            let built = "a release is built with it, and a built release is never changed";
            let gate = "it says when a release counts as good, and is asked of the next one";
            let whence = "it says how the code is had, not what is on the host";
            vec![
                Probe::not_set("app", "it says which app is meant"),
                Probe::not_set("repo", whence),
                Probe::drift("sha", |host| host.remove("/srv/shop/current"))
                    .expect_verb(Verb::Deploy),
                Probe::not_set("deploy_to", "it says where the app is"),
                Probe::not_set("user", built),
                Probe::not_set("group", built),
                Probe::not_set("umask", built),
                Probe::not_set("deploy_key", whence),
                Probe::not_set("known_hosts", whence),
                Probe::not_set("lfs_url", whence),
                Probe::not_set("allow_refs", "it says which shas may be deployed"),
                Probe::not_set("max_file", "it says which commits may be deployed"),
                Probe::not_set("filters", built),
                Probe::not_set("git_crypt_key", built),
                Probe::not_set("linked_dirs", built),
                Probe::not_set("linked_files", built),
                Probe::drift("files", |host| {
                    host.write("/srv/shop/current/.env", "A=2\n")
                })
                .reported_as(".env"),
                Probe::not_set("steps", built),
                Probe::not_set("assets", built),
                Probe::not_set("migrate", built),
                Probe::not_set("hooks", built),
                Probe::not_set("port", gate),
                Probe::not_set("health", gate),
                Probe::not_set("gate_timeout", gate),
                Probe::not_set("build_deadline", whence),
                Probe::not_set("env", built),
                Probe::not_set("secrets", built),
                Probe::not_set("keep_releases", "releases are pruned after the next deploy"),
                Probe::not_set("spare", "it is about the release after this one"),
                Probe::not_set("fetch_timeout", whence),
            ]
        }
    }
}
