//! `release`: an app at the sha that the manifest wants. The work is done in [`crate::release`].

mod hold;

use std::path::PathBuf;

use crate::desired::Sha;
use crate::ports::Host;
use crate::problem::Problem;
use crate::release::files::{self, FileSeen};
use crate::release::{self, Active, Orders, Pin, Record, Spec, Standing};
use crate::resource::{
    Change, Failure, FieldChange, Inputs, Kind, Outcome, Shown, Stamp, Trial, Verb, Verdict,
};

pub struct Release;

/// What is deployed, and what stands in the way of what is wanted.
pub struct Found {
    active: Option<Active>,
    /// A whole release of the wanted sha that is not active.
    ready: Option<String>,
    /// What an operator or the gate decided on this host.
    orders: Orders,
    /// The sha to build ahead, if there is no whole release of it yet.
    next: Option<Sha>,
    /// The rendered files of the active release.
    files: Vec<FileSeen>,
    /// What has to run for the wanted sha, a line each, if there is no whole release of it.
    steps: String,
}

impl Found {
    /// What is to be active: what the manifest wants, or what an operator pinned instead.
    fn target<'a>(&'a self, spec: &'a Spec) -> Option<&'a Sha> {
        match self.pin(spec) {
            Some(pin) => Some(&pin.sha),
            None => spec.wanted.as_ref(),
        }
    }

    /// The pin that is in force: what it pins did not fail here meanwhile.
    fn pin(&self, spec: &Spec) -> Option<&Pin> {
        let pin = self.orders.pinned(spec.wanted.as_ref())?;
        self.orders.barred(&pin.sha).is_none().then_some(pin)
    }

    /// A pin that is over. It is lifted, so that it does not come back with the sha that the manifest
    /// wanted when it was made.
    fn lapsed(&self, spec: &Spec) -> Option<&Pin> {
        let is_over = |_: &&Pin| spec.wanted.is_some() && self.pin(spec).is_none();
        self.orders.pin.as_ref().filter(is_over)
    }

    fn active_sha(&self) -> Option<&Sha> {
        self.active.as_ref()?.sha.as_ref()
    }

    fn is_bad(&self) -> bool {
        let active = self.active.as_ref();
        active.is_some_and(|active| active.state == Some(Standing::Bad))
    }

    /// Whether the active release is the wanted one, and good as far as is known.
    fn is_there(&self, spec: &Spec) -> bool {
        self.active_sha().is_some() && self.active_sha() == self.target(spec) && !self.is_bad()
    }

    /// The trial that the active release is on, if nobody wants another one meanwhile.
    fn trial(&self, spec: &Spec) -> Option<&release::Trial> {
        let trial = self.active.as_ref()?.trial.as_ref()?;
        (trial.back || self.is_there(spec)).then_some(trial)
    }

    /// What differs in the files of the active release. One that was gone back to keeps its own.
    fn files_to_change(&self, spec: &Spec) -> Vec<FieldChange> {
        match self.pin(spec) {
            Some(_) => Vec::new(),
            None => files::differences(spec, &self.files),
        }
    }

    /// Why nothing may be activated now, if nothing may.
    fn obstacle(&self, spec: &Spec) -> Option<Outcome> {
        if let Some(pin) = self.pin(spec).filter(|_| self.is_there(spec)) {
            return Some(Outcome::Waiting(pin.words()));
        }
        let target = self.target(spec)?;
        if let Some(barred) = self.orders.barred(target) {
            return Some(Outcome::Refused(barred.words()));
        }
        spec.hold
            .as_ref()
            .map(|hold| Outcome::Waiting(hold.words()))
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

    type Spec = Spec;
    type State = Found;

    fn subject(spec: &Spec) -> String {
        spec.app.clone()
    }

    fn owns(spec: &Spec) -> Option<PathBuf> {
        Some(spec.layout().current())
    }

    fn app(spec: &Spec) -> Option<&str> {
        Some(&spec.app)
    }

    fn learn_secrets(spec: &Spec) {
        spec.learn_secrets();
    }

    fn sha(_spec: &Spec, state: &Found) -> Option<String> {
        state.active_sha().map(|sha| sha.to_string())
    }

    fn resolve(spec: &mut Spec, inputs: &dyn Inputs) -> Result<(), Problem> {
        spec.validate()?;
        let desired = inputs.desired();
        spec.want(desired.apps.get(&spec.app));
        spec.environment = desired.environment.clone();
        spec.take_up = desired.take_up;
        for file in &mut spec.files {
            file.resolve(inputs)?;
        }
        Ok(())
    }

    fn inspect(spec: &Spec, host: &Host) -> Result<Found, Failure> {
        let layout = spec.layout();
        let mut found = Found {
            active: release::active(host, &layout, spec.keep_releases)?,
            orders: Orders::load(host, &layout)?,
            ready: None,
            next: spec.next.clone(),
            files: Vec::new(),
            steps: String::new(),
        };
        if let Some(active) = &found.active {
            found.files = files::look(spec, host, &active.name)?;
        }
        let away = !found.is_there(spec);
        if (away && found.target(spec).is_some()) || found.next.is_some() {
            let record = Record::load(host, &layout)?;
            let whole = |sha: &Sha| record.whole(sha, host, &layout);
            found.ready = found.target(spec).filter(|_| away).and_then(whole);
            found.next = found.next.take().filter(|sha| whole(sha).is_none());
            if let Some(target) = found.target(spec).filter(|_| away && found.ready.is_none()) {
                found.steps = release::forecast(spec, host, &record, target)?;
            }
        }
        Ok(found)
    }

    fn diff(spec: &Spec, state: &Found) -> Option<Change> {
        if let Some(trial) = state.trial(spec) {
            let to = Shown::Unknown("its services and its health check have shown it".into());
            let from = Shown::value(&trial.name);
            return Some(Change::new(Verb::Prove).with("release", from, to));
        }
        if state.is_there(spec) {
            if let Some(update) = Change::update(state.files_to_change(spec)) {
                return Some(update);
            }
            return match (state.pin(spec), &state.next) {
                (Some(pin), _) => Some(hold::pinned(spec, state.active_sha(), pin)),
                (None, Some(next)) => {
                    let ahead = Change::new(Verb::Build);
                    Some(ahead.with("next", Shown::Absent, Shown::value(next)))
                }
                (None, None) => state.lapsed(spec).map(|pin| {
                    let update = Change::new(Verb::Update);
                    update.with("pin", Shown::value(pin.words()), Shown::Absent)
                }),
            };
        }
        let wanted = state.target(spec)?;
        let sha = Change::new(Verb::Deploy).with(
            "sha",
            Shown::maybe(state.active_sha()),
            Shown::value(wanted),
        );
        if let Some(barred) = state.orders.barred(wanted) {
            return Some(sha.with("quarantine", Shown::Absent, Shown::value(barred.words())));
        }
        let name = state.active.as_ref().map(|active| &active.name);
        let to = match &state.ready {
            Some(ready) => Shown::value(ready),
            None => Shown::Unknown("it is built".into()),
        };
        let mut change = sha.with("release", Shown::maybe(name), to);
        if !state.steps.is_empty() {
            let steps = Shown::Text(state.steps.clone());
            change = change.with("steps", Shown::Absent, steps);
        }
        if let Some(hold) = &spec.hold {
            change = change.with("hold", Shown::Absent, Shown::value(hold.words()));
        }
        Some(change)
    }

    fn apply(spec: &Spec, change: &Change, host: &Host) -> Result<Outcome, Failure> {
        let found = Release::inspect(spec, host)?;
        if found.lapsed(spec).is_some() {
            release::unpin(spec, host)?;
        }
        if let (Verb::Build, Some(next)) = (change.verb, &found.next) {
            release::build_ahead(spec, next, host)?;
            return Ok(Outcome::Done);
        }
        if let (Verb::Update, Some(active), Some(sha)) =
            (change.verb, &found.active, found.active_sha())
        {
            release::refresh_files(spec, sha, host, &active.name)?;
            return Ok(Outcome::Done);
        }
        // What is on trial is settled by the pass, once its services were restarted.
        if found.trial(spec).is_some() {
            return Ok(Outcome::Done);
        }
        if let Some(outcome) = found.obstacle(spec) {
            let bad = found.active.as_ref().filter(|_| found.is_bad());
            if let Some(bad) = bad
                && let release::Back::To(_) = release::leave_bad(spec, host, &bad.name)?
            {
                return Ok(Outcome::Done);
            }
            return Ok(outcome);
        }
        if let Some(target) = found.target(spec) {
            release::deploy(spec, target, host)?;
        }
        Ok(Outcome::Done)
    }

    fn stamp(_spec: &Spec, state: &Found) -> Option<Stamp> {
        let active = state.active.as_ref()?;
        let sha = active.sha.as_ref().map_or("unknown", |sha| sha.as_str());
        let release = format!("release {} {sha}", active.name);
        Some(match files::stamp(&state.files) {
            Some((files, changed)) => Stamp {
                fingerprint: format!("{release} {files}"),
                changed: Some(active.since.max(changed)),
            },
            None => Stamp {
                fingerprint: release,
                changed: Some(active.since),
            },
        })
    }

    /// Building ahead activates nothing, and what is on trial was switched before.
    fn shows(change: &Change) -> bool {
        let unseen = |field: &FieldChange| field.field.ends_with(" mode") || field.field == "pin";
        match change.verb {
            Verb::Update => !change.fields.iter().all(unseen),
            Verb::Deploy => !change.is_withheld(),
            _ => false,
        }
    }

    fn has_chores(spec: &Spec, state: &Found) -> bool {
        state.orders.tells_too_much()
            || state.is_there(spec) && state.active.as_ref().is_some_and(|active| active.untidy)
    }

    fn warnings(_spec: &Spec, state: &Found) -> Vec<String> {
        let left = state.active.iter().flat_map(|active| &active.unremoved);
        left.map(|left| format!("{} cannot be removed: {}", left.name, left.why))
            .collect()
    }

    fn do_chores(spec: &Spec, host: &Host) -> Result<(), Failure> {
        release::tidy(spec, host)
    }

    /// A hold, or a pin.
    fn waits(change: &Change) -> Option<String> {
        hold::said(change)
    }

    fn trial(spec: &Spec, state: &Found) -> Option<Trial> {
        let trial = state.trial(spec)?;
        let layout = spec.layout();
        Some(Trial {
            release: trial.name.clone(),
            deploy_to: layout.deploy_to().to_owned(),
            current: layout.current(),
        })
    }

    fn prove(
        spec: &Spec,
        host: &Host,
        users: &mut dyn FnMut() -> Result<(), Failure>,
        runs_as: &dyn Fn() -> Vec<u32>,
    ) -> Result<Verdict, Failure> {
        release::watch(spec, host, users, runs_as)
    }

    fn disturbed(spec: &Spec, host: &Host, runs_as: &dyn Fn() -> Vec<u32>) -> Option<Failure> {
        release::disturbed(spec, host, runs_as)
    }

    fn confirm(spec: &Spec, host: &Host) -> Result<(), Failure> {
        release::confirm(spec, host)
    }

    fn put_back(spec: &Spec, host: &Host, why: &Failure) -> Result<Option<String>, Failure> {
        Ok(match release::put_back(spec, host, why)? {
            release::Back::To(name) => Some(name),
            release::Back::Nowhere => None,
        })
    }
}

#[cfg(test)]
mod conformance {
    use super::Release;
    use crate::ports::testing::Sandbox;
    use crate::resource::conformance::Probe;
    use crate::resource::{Probed, Verb};

    /// A repository beside the host with one commit; returns its address and the sha.
    fn repository(sandbox: &Sandbox) -> (String, String) {
        let path = sandbox.outside("/outside/shop.git");
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

    impl Probed for Release {
        fn example_here(sandbox: &Sandbox) -> Option<String> {
            let (repo, sha) = repository(sandbox);
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
                Probe::spoil("sha", |host| host.remove("/srv/shop/current")).leads_to(Verb::Deploy),
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
                Probe::spoil("files", |host| {
                    host.write("/srv/shop/current/.env", "A=2\n")
                })
                .shown_as(".env"),
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
