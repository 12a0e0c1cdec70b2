//! What a role says about an app's releases.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::layout::{Layout, stays_inside};
use super::repo::Repo;
use crate::desired::{Hold, Sha, Wanted};
use crate::ports::root::Root;
use crate::problem::Problem;
use crate::resource::{Argv, Seconds};

/// How long a step may take when nothing else is said.
const STEP_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// How long a fetch may take when nothing else is said.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// An app that is deployed from a git repository.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The app's name, as in the manifest. Letters, digits, `.`, `_` and `-`.
    pub app: String,
    /// Where to fetch from: `git@host:path`, `ssh://…`, `https://…`, `http://…`, `file:///…` or an
    /// absolute path.
    pub repo: Repo,
    /// The folder of `releases/`, `shared/` and `current`; `/srv/www/APP` when not given.
    pub deploy_to: Option<PathBuf>,
    /// Who owns the release and runs the steps; root when not given.
    pub user: Option<String>,
    /// The group of the release and of the steps; the user's own when not given.
    pub group: Option<String>,
    /// The private key for ssh: a file of the host, without a passphrase.
    pub deploy_key: Option<PathBuf>,
    /// Which host keys are known. Not given: the user's `~/.ssh/known_hosts`, then
    /// `/etc/ssh/ssh_known_hosts`. A host that is not in it is refused.
    pub known_hosts: Option<PathBuf>,
    /// Folders that all releases share, such as `log`: relative paths.
    #[serde(default)]
    pub linked_dirs: Vec<PathBuf>,
    /// Files that all releases share, such as `config/master.key`: relative paths. They must be in
    /// `shared/` before the first release.
    #[serde(default)]
    pub linked_files: Vec<PathBuf>,
    /// What builds the release, in this order, in its folder.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// How assets are compiled, after the steps, into a folder that all releases share.
    pub assets: Option<Assets>,
    /// The environment of all steps, besides `PATH`, `HOME`, `USER`, `LANG`, `APP`, `REVISION` and
    /// `RELEASE_PATH`.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How many good releases are kept, the active one included. At least 1; the one before the
    /// active is kept in any case.
    #[serde(default = "five")]
    pub keep_releases: usize,
    /// Deploy this commit, whatever the manifest says.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub sha: Option<Sha>,
    /// How long a fetch may take; `10m` when not given.
    pub fetch_timeout: Option<Seconds>,
    #[serde(skip)]
    pub(crate) wanted: Option<Sha>,
    /// Where the wanted sha came from, for people.
    #[serde(skip)]
    pub(crate) reference: Option<String>,
    #[serde(skip)]
    pub(crate) hold: Option<Hold>,
}

/// One step of a build.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// For plans, logs and errors; not given: its number.
    pub name: Option<String>,
    /// What to run: a list of arguments, or a string for the shell.
    pub run: Argv,
    /// Added to the environment of all steps.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How long it may take; `15m` when not given.
    pub timeout: Option<Seconds>,
    /// As whom it runs; the release's user when not given.
    pub user: Option<String>,
}

/// How assets are compiled.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Assets {
    /// What to run: a list of arguments, or a string for the shell.
    pub run: Argv,
    /// Where the release has its compiled assets; a link to `shared/assets` is put there.
    #[serde(default = "public_assets")]
    pub path: PathBuf,
    /// Added to the environment of all steps.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How long it may take; `15m` when not given.
    pub timeout: Option<Seconds>,
}

fn five() -> usize {
    5
}

fn public_assets() -> PathBuf {
    "public/assets".into()
}

/// A step of either sort, as the build sees it.
pub struct Task<'a> {
    pub name: String,
    pub run: &'a Argv,
    pub env: &'a BTreeMap<String, String>,
    pub timeout: Duration,
    /// `None`: root.
    pub user: Option<&'a str>,
    pub assets: bool,
}

impl Spec {
    pub(crate) fn layout(&self) -> Layout {
        let default = || Path::new("/srv/www").join(&self.app);
        let deploy_to = self.deploy_to.clone().unwrap_or_else(default);
        Layout::new(&self.app, &deploy_to)
    }

    pub(crate) fn fetch_timeout(&self) -> Duration {
        self.fetch_timeout
            .map_or(FETCH_TIMEOUT, |timeout| timeout.0)
    }

    /// Takes what the manifest says; a sha of its own wins.
    pub(crate) fn want(&mut self, wanted: Option<&Wanted>) {
        self.wanted = self.sha.clone();
        let Some(wanted) = wanted else { return };
        self.hold = wanted.hold.clone();
        if self.sha.is_none() {
            self.wanted = Some(wanted.sha.clone());
            self.reference = wanted.reference.clone();
        }
    }

    /// Everything that has to run, in order.
    pub(crate) fn tasks(&self) -> Vec<Task<'_>> {
        let timeout = |seconds: &Option<Seconds>| seconds.map_or(STEP_TIMEOUT, |s| s.0);
        let steps = self.steps.iter().enumerate().map(|(i, step)| Task {
            name: step.name.clone().unwrap_or_else(|| (i + 1).to_string()),
            run: &step.run,
            env: &step.env,
            timeout: timeout(&step.timeout),
            user: step.user.as_deref().or(self.user.as_deref()),
            assets: false,
        });
        let assets = self.assets.as_ref().map(|assets| Task {
            name: "assets".into(),
            run: &assets.run,
            env: &assets.env,
            timeout: timeout(&assets.timeout),
            user: self.user.as_deref(),
            assets: true,
        });
        steps.chain(assets).collect()
    }

    /// Every place in a release that becomes a link, with what it links to in `deploy_to`.
    pub(crate) fn links(&self) -> Vec<(&Path, PathBuf)> {
        let own = |path: &'_ PathBuf| Path::new("shared").join(path);
        let mut links: Vec<(&Path, PathBuf)> = Vec::new();
        for path in self.linked_dirs.iter().chain(&self.linked_files) {
            links.push((path, own(path)));
        }
        if let Some(assets) = &self.assets {
            links.push((&assets.path, "shared/assets".into()));
        }
        links
    }

    /// Refuses what no type can refuse.
    pub(crate) fn validate(&self) -> Result<(), Problem> {
        let usable = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if self.app.is_empty() || !self.app.chars().all(usable) || self.app.starts_with(['.', '-'])
        {
            return Err(Problem::new(format!("`{}` is no name of an app", self.app))
                .field("app")
                .hint(
                    "expected letters, digits, `.`, `_` and `-`, beginning with a letter or digit",
                ));
        }
        for (field, path) in [
            ("deploy_to", &self.deploy_to),
            ("deploy_key", &self.deploy_key),
            ("known_hosts", &self.known_hosts),
        ] {
            if let Some(path) = path {
                Root::check_path(path)
                    .map_err(|error| Problem::new(error.to_string()).field(field))?;
            }
        }
        if self.keep_releases == 0 {
            return Err(
                Problem::new("expected at least 1: the active release is one")
                    .field("keep_releases"),
            );
        }
        self.validate_links()
    }

    fn validate_links(&self) -> Result<(), Problem> {
        let dirs = self.linked_dirs.iter().map(|path| ("linked_dirs", path));
        let files = self.linked_files.iter().map(|path| ("linked_files", path));
        let assets = self.assets.iter().map(|a| ("assets.path", &a.path));
        let all: Vec<(&str, &PathBuf)> = dirs.chain(files).chain(assets).collect();
        for (i, (field, path)) in all.iter().enumerate() {
            let bad =
                |why: &str| Err(Problem::new(format!("`{}` {why}", path.display())).field(*field));
            if !stays_inside(path) {
                return bad("is no path inside a release: expected a relative one without `..`");
            }
            if path.starts_with("REVISION") || path.starts_with(".git") {
                return bad("is not to be linked");
            }
            for (_, other) in &all[..i] {
                if path.starts_with(other) || other.starts_with(path) {
                    return bad(&format!(
                        "and `{}` are the same or one inside the other: link only one of them",
                        other.display()
                    ));
                }
            }
        }
        if self.assets.is_some() && self.linked_dirs.iter().any(|dir| dir.starts_with("assets")) {
            return Err(Problem::new("`shared/assets` is for the compiled assets")
                .field("linked_dirs")
                .hint("take `assets` out of `linked_dirs`, or leave `assets:` away"));
        }
        Ok(())
    }
}
