//! The `release` kind: an app at the sha that the manifest wants. [`crate::release`] does the work.

use std::path::PathBuf;

use crate::desired::Sha;
use crate::kind::{Condition, Diff, Kind, ReleaseCondition};
use crate::ports::Host;
use crate::problem::Problem;
use crate::release::active_links::{self, ObservedLink};
use crate::release::files::{self, FileDrift, ObservedFile};
use crate::release::{
    self, ActiveRelease, Comparison, DeployOutcome, Overrides, Pin, ReleaseRecord, ReleaseSpec,
    ReleaseStatus, SameFiles, StageStatus,
};
use crate::resource::{
    ApplyOutcome, Change, Failure, FieldChange, FieldValue, ResolveInputs, Stamp, Trial, Verb,
    Withheld,
};

pub(crate) struct Release;

/// The deployed release, and what prevents the wanted one.
pub(crate) struct ReleaseState {
    active: Option<ActiveRelease>,
    /// A complete release of the wanted sha that is not active.
    built: Option<String>,
    /// Whether the wanted sha changes anything, if there is no complete release of it.
    comparison: Comparison,
    /// The decisions of operators and of the gate on this host.
    overrides: Overrides,
    /// The sha to build ahead, if there is no complete release of it yet.
    next_sha: Option<Sha>,
    /// The rendered files of the active release.
    files: Vec<ObservedFile>,
    /// Whether the active release passed its gate only a moment ago.
    is_new: bool,
    /// The described links in the active release, if it is the wanted one.
    links: Vec<ObservedLink>,
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

    /// The sha that the active release stands for.
    fn active_sha<'a>(&'a self, spec: &'a ReleaseSpec) -> Option<&'a Sha> {
        self.active.as_ref()?.sha_for(self.target_sha(spec))
    }

    fn is_active_bad(&self) -> bool {
        let active = self.active.as_ref();
        active.is_some_and(|active| active.state == Some(ReleaseStatus::Bad))
    }

    /// Whether the active release is the wanted one, and not known to be bad.
    fn is_target_active(&self, spec: &ReleaseSpec) -> bool {
        self.active_sha(spec).is_some()
            && self.active_sha(spec) == self.target_sha(spec)
            && !self.is_active_bad()
    }

    /// The trial of the active release, unless another sha is wanted since, and may be activated.
    fn trial(&self, spec: &ReleaseSpec) -> Option<&release::RecordedTrial> {
        let trial = self.active.as_ref()?.trial.as_ref()?;
        let stays = || self.target_sha(spec).is_none() || self.activation_blocker(spec).is_some();
        let applies = self.is_target_active(spec) || (trial.is_rollback && stays());
        applies.then_some(trial)
    }

    /// The changes to the files of the active release. A pinned release keeps its own files.
    fn files_to_change(&self, spec: &ReleaseSpec) -> Vec<FileDrift> {
        match self.effective_pin(spec) {
            Some(_) => Vec::new(),
            None => files::diff(spec, &self.files),
        }
    }

    /// The changes to the links of the active release. A pinned release keeps its own links, and one of another
    /// tool too.
    fn links_to_change(&self, spec: &ReleaseSpec) -> Vec<FieldChange> {
        let active = self.active.as_ref().filter(|active| active.is_linked);
        let Some(active) = active.filter(|_| self.effective_pin(spec).is_none()) else {
            return Vec::new();
        };
        let fields = active_links::diff(spec, &self.links);
        let unsettled = active
            .links
            .as_ref()
            .filter(|links| links.status != StageStatus::Done);
        match unsettled {
            Some(links) if fields.is_empty() => {
                let from = links.why.as_deref().unwrap_or("a pass was killed here");
                vec![FieldChange::new(
                    "links",
                    FieldValue::value(from),
                    FieldValue::value("as described"),
                )]
            }
            _ => fields,
        }
    }

    /// What keeps the wanted release from being activated now.
    fn activation_blocker(&self, spec: &ReleaseSpec) -> Option<Withheld> {
        if let Some(pin) = self
            .effective_pin(spec)
            .filter(|_| self.is_target_active(spec))
        {
            return Some(Withheld::OnHold(pin.describe()));
        }
        if let Some(barred) = self.overrides.find_quarantined(self.target_sha(spec)?) {
            return Some(Withheld::Quarantined(barred.describe()));
        }
        let hold = spec.hold.as_ref()?;
        Some(Withheld::OnHold(hold.description()))
    }

    /// What to do while the wanted release may not be activated. A release that is known to be bad is left
    /// all the same, for the last good one.
    fn blocked_step(&self, why: Withheld) -> ReleaseStep {
        let bad = self.active.as_ref().filter(|_| self.is_active_bad());
        ReleaseStep::Withhold {
            leave: bad.map(|active| active.name.clone()),
            why,
        }
    }

    /// The deployment of the wanted sha.
    fn deployment(&self, spec: &ReleaseSpec, wanted: &Sha) -> (ReleaseStep, Change) {
        let blocker = self.activation_blocker(spec);
        let step = ReleaseStep::Deploy(wanted.clone());
        if let (Comparison::Same(same), None) = (&self.comparison, &blocker) {
            return (step, self.needless_deployment(spec, wanted, same));
        }
        let mut change = Change::new(Verb::Deploy).with_field(
            "sha",
            FieldValue::from_option(self.active_sha(spec)),
            FieldValue::value(wanted),
        );
        if let Some(Withheld::Quarantined(why)) = &blocker {
            change = change.with_field("quarantine", FieldValue::Absent, FieldValue::value(why));
        } else {
            let name = self.active.as_ref().map(|active| &active.name);
            let to = match (&self.built, &self.comparison) {
                (Some(ready), _) => FieldValue::value(ready),
                (None, Comparison::Unknown) => FieldValue::Unknown(format!(
                    "it is fetched: the active one stays if nothing changes in {}",
                    spec.subdir().display()
                )),
                (None, _) => FieldValue::Unknown("it is built".into()),
            };
            change = change.with_field("release", FieldValue::from_option(name), to);
            if !self.pending_steps.is_empty() {
                let steps = FieldValue::Text(self.pending_steps.clone());
                change = change.with_field("steps", FieldValue::Absent, steps);
            }
            if let Some(Withheld::OnHold(why)) = &blocker {
                change = change.with_field(HOLD_FIELD, FieldValue::Absent, FieldValue::value(why));
            }
        }
        match blocker {
            Some(why) => (self.blocked_step(why.clone()), change.withheld(why)),
            None => (step, change),
        }
    }

    /// What is done about a wanted sha that changes nothing: it is recorded, and nothing is deployed.
    fn needless_deployment(&self, spec: &ReleaseSpec, wanted: &Sha, same: &SameFiles) -> Change {
        let active = self.active_sha(spec);
        let not_deployed = |field: &'static str, why: &str| {
            Change::new(Verb::Deploy)
                .with_field(
                    "sha",
                    FieldValue::from_option(active),
                    FieldValue::value(wanted),
                )
                .with_field(field, FieldValue::Absent, FieldValue::value(why))
        };
        match same {
            SameFiles::Active(release) => keep_change(spec, active, wanted, release),
            SameFiles::RolledBack(pin) => {
                let why = pin.describe();
                not_deployed(HOLD_FIELD, &why).withheld(Withheld::OnHold(why))
            }
            SameFiles::Quarantined(bad) => {
                let why = bad.describe();
                not_deployed("quarantine", &why).withheld(Withheld::Quarantined(why))
            }
        }
    }

    /// What brings the files and links of the active release up to their description, if it is the wanted one.
    fn refresh(&self, spec: &ReleaseSpec) -> Option<(ReleaseStep, Change)> {
        if !self.is_target_active(spec) {
            return None;
        }
        let (files, links) = (self.files_to_change(spec), self.links_to_change(spec));
        if let (false, Some(active), Some(sha)) = (
            files.is_empty() && links.is_empty(),
            &self.active,
            self.active_sha(spec),
        ) {
            let only_modes = files.iter().all(|file| !file.changes_content);
            // A link that is restored is the one that the services were started with.
            let same_links =
                links.is_empty() || active_links::is_known(spec, active.links.as_ref());
            let fields = files.into_iter().map(|file| file.shown).chain(links);
            let mut change = Change::update(fields.collect())?;
            change.keeps_stamp = only_modes && same_links;
            let step = ReleaseStep::Refresh {
                release: active.name.clone(),
                sha: sha.clone(),
            };
            return Some((step, change));
        }
        None
    }

    /// The smaller matters while the wanted sha is active.
    fn upkeep(&self, spec: &ReleaseSpec) -> Option<(ReleaseStep, Change)> {
        if let Some(refresh) = self.refresh(spec) {
            return Some(refresh);
        }
        if let Some(pin) = self.effective_pin(spec) {
            let why = Withheld::OnHold(pin.describe());
            let change = pinned_change(spec, self.active_sha(spec), pin).withheld(why.clone());
            return Some((self.blocked_step(why), change));
        }
        if let Some(next) = &self.next_sha {
            let change = Change::new(Verb::Build).keeping_stamp();
            let change = change.with_field("next", FieldValue::Absent, FieldValue::value(next));
            return Some((ReleaseStep::BuildAhead(next.clone()), change));
        }
        let pin = self.expired_pin(spec)?;
        let change = Change::new(Verb::Update).keeping_stamp();
        let pin = FieldValue::value(pin.describe());
        let change = change.with_field("pin", pin, FieldValue::Absent);
        Some((ReleaseStep::None, change))
    }
}

/// Reports a pin in every pass, so that a green result never hides that the manifest wants another sha.
fn pinned_change(spec: &ReleaseSpec, active: Option<&Sha>, pin: &Pin) -> Change {
    let active = FieldValue::from_option(active);
    let pin = FieldValue::value(pin.describe());
    Change::new(Verb::Deploy)
        .with_field("sha", active, FieldValue::from_option(spec.wanted.as_ref()))
        .with_field(HOLD_FIELD, FieldValue::Absent, pin)
}

/// The active release stays, because the wanted sha changes nothing in it.
fn keep_change(spec: &ReleaseSpec, from: Option<&Sha>, wanted: &Sha, release: &str) -> Change {
    let stays = format!("it stays: nothing changes in {}", spec.subdir().display());
    Change::new(Verb::Keep)
        .keeping_stamp()
        .with_field(
            "sha",
            FieldValue::from_option(from),
            FieldValue::value(wanted),
        )
        .with_field(
            "release",
            FieldValue::value(release),
            FieldValue::value(stays),
        )
}

/// The field that shows why a change waits: a hold of the manifest, a pin of this host.
const HOLD_FIELD: &str = "hold";

/// What an apply does about a release.
#[derive(Debug)]
pub(crate) struct ReleaseAction {
    /// Remove a pin that has expired, first.
    remove_pin: bool,
    step: ReleaseStep,
}

#[derive(Debug)]
enum ReleaseStep {
    None,
    /// The pass settles the trial after it has restarted the services.
    AwaitTrial,
    Deploy(Sha),
    /// Rewrite the rendered files of the active release, and make its links.
    Refresh {
        release: String,
        sha: Sha,
    },
    BuildAhead(Sha),
    Withhold {
        /// The active release, if it is known to be bad.
        leave: Option<String>,
        why: Withheld,
    },
}

/// Whether a deployment ends a pin for another sha: unless the new one has the same files, or a failure left that open.
fn ends_pin(
    spec: &ReleaseSpec,
    sha: &Sha,
    host: &Host,
    outcome: Option<&DeployOutcome>,
) -> Result<bool, Failure> {
    match outcome {
        Some(outcome) => Ok(!matches!(outcome, DeployOutcome::OnHold(_))),
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
        DeployOutcome::OnHold(why) => ApplyOutcome::Waiting(why),
        DeployOutcome::Refused(why) => ApplyOutcome::Refused(why),
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
        spec.validate()?;
        for file in &mut spec.files {
            file.resolve(inputs)?;
        }
        spec.register_secrets();
        Ok(())
    }

    fn inspect(spec: &ReleaseSpec, host: &Host) -> Result<ReleaseState, Failure> {
        let layout = spec.layout();
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
            ReleaseStep::Withhold { leave, why } => {
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

#[cfg(test)]
mod conformance {
    use super::Release;
    use crate::kind::ConformanceProbes;
    use crate::kind::conformance::Probe;
    use crate::ports::testing::Sandbox;
    use crate::resource::Verb;

    /// Creates a repository outside the host with one commit; returns its address and the sha.
    fn create_repository(sandbox: &Sandbox) -> (String, String) {
        let path = sandbox.machine_path("/outside/shop.git");
        let repository = git2::Repository::init_bare(&path).unwrap();
        let blob = repository.blob(b"hello\n").unwrap();
        let mut tree = repository.treebuilder(None).unwrap();
        tree.insert("page", blob, 0o100_644).unwrap();
        let tree = repository.find_tree(tree.write().unwrap()).unwrap();
        let author =
            git2::Signature::new("t", "t@example", &git2::Time::new(1_800_000_000, 0)).unwrap();
        let sha = repository
            .commit(Some("refs/heads/main"), &author, &author, "one", &tree, &[])
            .unwrap();
        (path.display().to_string(), sha.to_string())
    }

    impl ConformanceProbes for Release {
        fn sandbox_example(sandbox: &Sandbox) -> Option<String> {
            let (repo, sha) = create_repository(sandbox);
            sandbox.write("/srv/shop/shared/key", "k");
            Some(format!(
                "release:\n  app: shop\n  repo: {repo}\n  sha: {sha}\n  deploy_to: /srv/shop\n  \
                 linked_dirs: [log]\n  linked_files: [key]\n  files: [{{path: .env, content: \"A=1\\n\"}}]\n  config_files: {{config/shop.yml: {{content: \"b: 1\\n\"}}}}\n  steps: [{{name: page, run: \"cp page built\"}}]\n  \
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
                Probe::not_set("subdir", built),
                Probe::not_set("also", built),
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
                Probe::drift("linked_dirs", |host| host.remove("/srv/shop/current/log"))
                    .reported_as("log"),
                Probe::drift("linked_files", |host| {
                    host.link("/srv/shop/current/key", "elsewhere");
                })
                .reported_as("key"),
                Probe::drift("files", |host| {
                    host.write("/srv/shop/current/.env", "A=2\n")
                })
                .reported_as(".env"),
                Probe::drift("config_files", |host| {
                    host.write("/srv/shop/current/config/shop.yml", "b: 2\n")
                })
                .reported_as("config/shop.yml"),
                Probe::not_set("steps", built),
                Probe::not_set("assets", built),
                Probe::not_set("migrate", built),
                Probe::not_set("hooks", built),
                Probe::not_set("port", gate),
                Probe::not_set("health", gate),
                Probe::not_set("health_headers", gate),
                Probe::not_set("preflight", "it is about the next deployment"),
                Probe::not_set("gate_timeout", gate),
                Probe::not_set("bake", gate),
                Probe::not_set("build_deadline", whence),
                Probe::not_set("env", built),
                Probe::not_set("secrets", built),
                Probe::not_set("keep_releases", "releases are pruned after the next deploy"),
                Probe::not_set("spare", "it is about the release after this one"),
                Probe::not_set("fetch_timeout", whence),
            ]
        }

        fn effects() -> Vec<Probe> {
            vec![
                Probe::effect("the link of the active release", |host| {
                    host.link("/srv/shop/current", "releases/20260101000000-0000000");
                }),
                Probe::effect("the folder of the active release", |host| {
                    let root = &host.host.root;
                    let current = root.read_link("/srv/shop/current".as_ref()).unwrap();
                    let name = current.unwrap().file_name().unwrap().to_owned();
                    host.remove(&format!("/srv/shop/releases/{}", name.display()));
                }),
            ]
        }
    }
}
