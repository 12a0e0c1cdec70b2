//! `release`: an app at the sha that the manifest wants. The work is done in [`crate::release`].

use std::path::PathBuf;

use jiff::Timestamp;

use crate::desired::Hold;
use crate::ports::Host;
use crate::problem::Problem;
use crate::release::{self, Active, Record, Spec};
use crate::resource::{Change, Failure, Inputs, Kind, Outcome, Shown, Stamp, Verb};

pub struct Release;

/// What is deployed.
pub struct Found {
    active: Option<Active>,
    /// A good release of the wanted sha that is not active.
    ready: Option<String>,
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
  assets: {run: [bin/rails, "assets:precompile"]}"#;

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

    fn sha(_spec: &Spec, state: &Found) -> Option<String> {
        sha_of(&state.active).map(|sha| sha.to_string())
    }

    fn resolve(spec: &mut Spec, inputs: &dyn Inputs) -> Result<(), Problem> {
        spec.validate()?;
        spec.want(inputs.desired().apps.get(&spec.app));
        Ok(())
    }

    fn inspect(spec: &Spec, host: &Host) -> Result<Found, Failure> {
        let layout = spec.layout();
        let active = release::active(host, &layout)?;
        let ready = match &spec.wanted {
            Some(wanted) if sha_of(&active) != Some(wanted) => {
                Record::load(host, &layout)?.good(wanted, host, &layout)
            }
            _ => None,
        };
        Ok(Found { active, ready })
    }

    fn diff(spec: &Spec, state: &Found) -> Option<Change> {
        let wanted = spec.wanted.as_ref()?;
        if sha_of(&state.active) == Some(wanted) {
            return None;
        }
        let name = state.active.as_ref().map(|active| &active.name);
        let to = match &state.ready {
            Some(ready) => Shown::value(ready),
            None => Shown::Unknown("it is built".into()),
        };
        let mut change = Change::new(Verb::Deploy)
            .with(
                "sha",
                Shown::maybe(sha_of(&state.active)),
                Shown::value(wanted),
            )
            .with("release", Shown::maybe(name), to);
        let steps: String = spec
            .tasks()
            .iter()
            .map(|task| format!("{}: {}\n", task.name, task.run))
            .collect();
        if state.ready.is_none() && !steps.is_empty() {
            change = change.with("steps", Shown::Absent, Shown::Text(steps));
        }
        if let Some(hold) = &spec.hold {
            change = change.with("hold", Shown::Absent, Shown::value(words(hold)));
        }
        Some(change)
    }

    fn apply(spec: &Spec, _change: &Change, host: &Host) -> Result<Outcome, Failure> {
        if let Some(hold) = &spec.hold {
            return Ok(Outcome::Waiting(words(hold)));
        }
        if let Some(wanted) = &spec.wanted {
            release::deploy(spec, wanted, host)?;
        }
        Ok(Outcome::Done)
    }

    fn stamp(_spec: &Spec, state: &Found) -> Option<Stamp> {
        let active = state.active.as_ref()?;
        let sha = active.sha.as_ref().map_or("unknown", |sha| sha.as_str());
        Some(Stamp {
            fingerprint: format!("release {} {sha}", active.name),
            changed: Some(active.since),
        })
    }
}

fn sha_of(active: &Option<Active>) -> Option<&crate::desired::Sha> {
    active.as_ref()?.sha.as_ref()
}

fn words(hold: &Hold) -> String {
    let until = hold.until.map_or_else(
        || "it is lifted".into(),
        |until: Timestamp| until.to_string(),
    );
    format!("held by {} until {until}: {}", hold.by, hold.reason)
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
                 linked_dirs: [log]\n  steps: [{{name: page, run: \"cp page built\"}}]\n  \
                 assets: {{run: \"cp page public/assets/\", path: public/assets}}\n"
            ))
        }

        fn probes() -> Vec<Probe> {
            let built = "a release is built with it, and a built release is never changed";
            let whence = "it says how the code is had, not what is on the host";
            vec![
                Probe::not_set("app", "it says which app is meant"),
                Probe::not_set("repo", whence),
                Probe::spoil("sha", |host| host.remove("/srv/shop/current")).leads_to(Verb::Deploy),
                Probe::not_set("deploy_to", "it says where the app is"),
                Probe::not_set("user", built),
                Probe::not_set("group", built),
                Probe::not_set("deploy_key", whence),
                Probe::not_set("known_hosts", whence),
                Probe::not_set("linked_dirs", built),
                Probe::not_set("linked_files", built),
                Probe::not_set("steps", built),
                Probe::not_set("assets", built),
                Probe::not_set("env", built),
                Probe::not_set("keep_releases", "releases are pruned after the next deploy"),
                Probe::not_set("fetch_timeout", whence),
            ]
        }
    }
}
