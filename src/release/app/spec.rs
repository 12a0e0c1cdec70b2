//! The `release` resource as a role declares it: repository, steps, assets, hooks and health check, with
//! their validation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use super::drain::DrainSpec;
use super::files::{self, ConfigFile, ReleaseFile};
use super::filters::FilterPolicy;
use super::health::{DEFAULT_FAIL_AFTER, HealthCheck};
use super::hooks::{BEFORE_MIGRATE, Hooks};
use super::layout::Layout;
use super::preflight::PreflightSpec;
use super::selection::Selection;
use super::step::{AssetsSpec, MigrationSpec, Once, Step, deserialize_enabled_steps};
use crate::desired::{AllowedRefs, DesiredApp, DesiredState, Hold, Repo, ResumePolicy, Sha};
use crate::ports::exec::DEFAULT_UMASK;
use crate::ports::secrets;
use crate::resource::{Failure, Mode, Seconds, Size};

/// Time limit of a fetch without a `fetch_timeout`.
const DEFAULT_FETCH_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// Largest file of a repository without a `max_file`, in bytes: the limit of most git servers.
const DEFAULT_MAX_FILE: u64 = 100 << 20;

/// Time limit of the gate without a `gate_timeout`.
const DEFAULT_GATE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a release is new without a `bake`.
const DEFAULT_BAKE: Duration = Duration::from_secs(5 * 60);

/// Interval at which the gate polls without a health check that sets its own, and its longest wait after a
/// failed poll.
pub(in crate::release) const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// An app that is deployed from a git repository.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct ReleaseSpec {
    /// The app's name, as in the manifest. Letters, digits, `.`, `_` and `-`.
    pub app: String,
    /// The repository: `git@host:path`, `ssh://…`, `https://…`, `http://…`, `file:///…` or an
    /// absolute path.
    pub repo: Repo,
    /// The folder of the app in the repository, such as `services/shop`: only that is checked out, `current` leads to
    /// it, and its paths and commands begin there. A commit that changes nothing in it is not deployed. The top of the
    /// repository when not given. A changed `subdir` applies to the next release.
    pub subdir: Option<PathBuf>,
    /// What else of the repository the app needs beside its `subdir`: folders and files, by their paths from the top,
    /// such as `packages/common`.
    #[serde(default)]
    pub also: Vec<PathBuf>,
    /// The folder of `releases/`, `shared/` and `current`; `/srv/www/APP` when not given.
    pub deploy_to: Option<PathBuf>,
    /// The user that owns the release and runs the steps; root when not given.
    pub user: Option<String>,
    /// The group of the release and of the steps; the user's own when not given.
    pub group: Option<String>,
    /// The umask of its steps, hooks, migrations and of `trueup exec`, such as `"002"` for a team that shares
    /// a group; `"022"` when not given.
    pub umask: Option<Mode>,
    /// The private key for ssh: a file of the host, without a passphrase.
    pub deploy_key: Option<PathBuf>,
    /// The file of known host keys. Not given: the user's `~/.ssh/known_hosts`, then
    /// `/etc/ssh/ssh_known_hosts`. A host that is missing there is refused.
    pub known_hosts: Option<PathBuf>,
    /// The Git LFS server, if it is not beside `repo`: an `http(s)://` address, with user name
    /// and password if required. `.lfsconfig` of a commit is ignored.
    pub lfs_url: Option<Repo>,
    /// Refs that may be deployed: a sha on none of them is refused. Patterns such as
    /// `refs/pull/*/head`, with one `*` for any text. Branches and tags when not given. Other
    /// refs listed here are added to them; a listed branch or tag, as in `refs/heads/release/*`,
    /// replaces them.
    #[serde(default)]
    pub allow_refs: AllowedRefs,
    /// Folders that all releases share, such as `log`: relative paths. The active release keeps the links
    /// to them in every pass.
    #[serde(default)]
    pub linked_dirs: Vec<PathBuf>,
    /// Files that all releases share, such as `config/master.key`: relative paths. They must be in
    /// `shared/` before the first release. The active release keeps the links to them in every pass.
    #[serde(default)]
    pub linked_files: Vec<PathBuf>,
    /// Files to render into each release before the build: its environment, say. They belong to
    /// the release, so a rollback restores them too.
    #[serde(default)]
    pub files: Vec<ReleaseFile>,
    /// The app's own configuration files, by their paths in the release, such as `config/database.yml`. As
    /// those of `files`, which they cannot replace: neither can any path below `.trueup`. `null`: none.
    #[serde(default)]
    pub config_files: BTreeMap<PathBuf, Option<ConfigFile>>,
    /// Commands that build the release, in this order, in its folder.
    #[serde(default, deserialize_with = "deserialize_enabled_steps")]
    pub steps: Vec<Step>,
    /// How to compile assets, after the steps. All releases share the files; the manifest that
    /// names the current ones belongs to each release.
    pub assets: Option<AssetsSpec>,
    /// How to migrate the database: once for each release, just before it is activated.
    pub migrate: Option<MigrationSpec>,
    /// Commands to run before and after stages: `before_STAGE` and `after_STAGE`, `before_rollback` and
    /// `after_rollback`.
    #[serde(default)]
    pub hooks: Hooks,
    /// The port of 127.0.0.1 on which the app itself listens, independent of its health check.
    /// While another user of the host holds it, the gate does not decide.
    pub port: Option<u16>,
    /// The check that a release must pass before it counts as good.
    pub health: Option<HealthCheck>,
    /// Headers that the health check sends unless its own `headers` name them, such as the `Host` that
    /// visitors use; one without a value is not sent.
    #[serde(default)]
    pub health_headers: BTreeMap<String, Option<String>>,
    /// A trial start beside the running release, before it is activated.
    pub preflight: Option<PreflightSpec>,
    /// How the host leaves its load balancers while the services that serve the app are restarted: a file,
    /// `/run/trueup/drain/APP.json`, makes the web server answer the path of `health` with 503. Not at all when not given.
    pub drain: Option<DrainSpec>,
    /// Time limit for all services to run from the release, and for the health check to pass;
    /// `60s` when not given.
    pub gate_timeout: Option<Seconds>,
    /// How long each pass looks at a release that passed its gate for the first time: if a service that runs it crashed
    /// three times, or its health check fails, it has to pass the gate again; `5m` when not given.
    pub bake: Option<Seconds>,
    /// Abandon a release that is not built within this time, until another sha is wanted, the description
    /// changes or an operator runs `trueup converge`; no limit when not given.
    pub build_deadline: Option<Seconds>,
    /// The environment of all steps, besides `PATH`, `HOME`, `USER`, `LANG`, `APP`, `ENVIRONMENT`,
    /// `REVISION`, `PREVIOUS_REVISION`, `RELEASE_PATH`, `CURRENT_PATH`, `SHARED_PATH`, `STAGE` and, for steps
    /// with outputs `by` inputs, `OUTPUTS_PATH`.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Secret environment variables: never shown, and redacted from the errors of steps. Changing
    /// one does not repeat completed steps.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
    /// How many good releases to keep, including the active one. At least 1; the one before the
    /// active one is always kept.
    #[serde(default = "default_keep_releases")]
    pub keep_releases: usize,
    /// Whether to keep two spare trees for the next releases instead of one. Each takes as much
    /// space as the code of one release, or almost none where the filesystem shares blocks
    /// (btrfs, xfs). They are removed if a release needs the space.
    #[serde(default = "default_true")]
    pub spare: bool,
    /// Deploy this commit, whatever the manifest says.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub sha: Option<Sha>,
    /// Time limit of a fetch; `10m` when not given.
    pub fetch_timeout: Option<Seconds>,
    /// Refuse a commit that contains a larger file, except in Git LFS; `100M` when not given.
    /// trueup holds such a file in memory while writing it.
    pub max_file: Option<Size>,
    /// What to do if `.gitattributes` set a `filter` on files (except Git LFS): `refuse` the
    /// commit, or `ignore` the filter and deploy them as stored in the repository. Not given:
    /// encrypted files are refused, others cause a warning.
    pub filters: Option<FilterPolicy>,
    /// The key that decrypts git-crypt files: a file of the host that only root can read, as
    /// `git-crypt export-key` writes it. Only the app's user and group may read the decrypted files.
    pub git_crypt_key: Option<PathBuf>,
    #[serde(skip)]
    pub(crate) wanted: Option<Sha>,
    /// Where the wanted sha came from, for people.
    #[serde(skip)]
    pub(crate) reference: Option<String>,
    #[serde(skip)]
    pub(crate) hold: Option<Hold>,
    /// When an operator last asked for a rolling restart.
    #[serde(skip)]
    pub(crate) restart_requested_at: Option<Timestamp>,
    /// Who asked for the wanted sha.
    #[serde(skip)]
    pub(crate) requested_by: Option<String>,
    /// To be built ahead.
    #[serde(skip)]
    pub(crate) build_ahead: Option<Sha>,
    /// What the rollout lets this host be at instead of the wanted sha.
    #[serde(skip)]
    pub(crate) instead: Option<InsteadOfWanted>,
    /// The node's environment.
    #[serde(skip)]
    pub(crate) environment: String,
    #[serde(skip)]
    pub(crate) resume_policy: ResumePolicy,
    /// Why a secret of its environment or its files has no value: then nothing runs, and no file is written.
    #[serde(skip)]
    pub(crate) missing_secret: Option<Failure>,
}

/// A sha that this host takes instead of the wanted one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InsteadOfWanted {
    pub sha: Sha,
    /// Why not the wanted one, in one line.
    pub why: String,
}

fn default_true() -> bool {
    true
}

fn default_keep_releases() -> usize {
    5
}

impl ReleaseSpec {
    pub(crate) fn layout(&self) -> Layout {
        let default = || Path::new("/srv/www").join(&self.app);
        let deploy_to = self.deploy_to.clone().unwrap_or_else(default);
        Layout::new(&self.app, &deploy_to)
    }

    /// What is checked out of the repository.
    pub(crate) fn selection(&self) -> Selection {
        Selection::new(self.subdir.as_deref(), &self.also)
    }

    /// The app's folder in the repository; empty for its top.
    pub(crate) fn subdir(&self) -> &Path {
        self.subdir.as_deref().unwrap_or(Path::new(""))
    }

    /// Registers the secret values, so that no output shows them.
    pub(crate) fn register_secrets(&self) {
        self.secrets
            .values()
            .for_each(|value| secrets::add_secret(value));
        self.repo.register_secrets();
        self.lfs_url.iter().for_each(Repo::register_secrets);
        self.files.iter().for_each(ReleaseFile::register_secrets);
    }

    /// The umask of the release's commands.
    pub(crate) fn umask(&self) -> u32 {
        self.umask.map_or(DEFAULT_UMASK, |umask| umask.0)
    }

    pub(crate) fn fetch_timeout(&self) -> Duration {
        self.fetch_timeout
            .map_or(DEFAULT_FETCH_TIMEOUT, |timeout| timeout.0)
    }

    /// The largest file that a commit may contain, in bytes.
    pub(crate) fn max_file(&self) -> u64 {
        self.max_file.map_or(DEFAULT_MAX_FILE, |size| size.0)
    }

    /// Takes over what the manifest and the operator want of this app.
    pub(crate) fn set_desired(&mut self, desired: &DesiredState) {
        self.set_wanted(desired.apps.get(&self.app));
        self.environment = desired.environment.clone();
        self.resume_policy = desired.resume_policy;
    }

    /// Takes over the manifest's sha, hold and build-ahead sha; the role's own `sha` wins over the
    /// manifest's.
    pub(crate) fn set_wanted(&mut self, wanted: Option<&DesiredApp>) {
        self.wanted = self.sha.clone();
        let Some(wanted) = wanted else { return };
        self.hold = wanted.hold.clone();
        self.restart_requested_at = wanted.restart_requested_at;
        self.build_ahead = wanted.next.clone();
        if self.sha.is_none() {
            self.wanted = Some(wanted.sha.clone());
            self.reference = wanted.reference.clone();
            self.requested_by = wanted.by.clone();
        }
    }

    /// Makes the build steps that one host runs for all hooks before the migration.
    pub(crate) fn move_once_steps(&mut self) {
        let is_for_all = |step: &Step| step.once == Once::Fleet;
        let (for_all, steps) = std::mem::take(&mut self.steps)
            .into_iter()
            .partition(is_for_all);
        self.steps = steps;
        self.hooks.prepend(BEFORE_MIGRATE, for_all);
    }

    /// Takes another sha than the wanted one, which is only built.
    pub(crate) fn set_instead(&mut self, instead: InsteadOfWanted) {
        if self.build_ahead.is_none() {
            self.build_ahead.clone_from(&self.wanted);
        }
        self.instead = Some(instead);
    }

    /// The sha that should be active, unless an operator pinned another one.
    pub(crate) fn target(&self) -> Option<&Sha> {
        let instead = self.instead.as_ref().map(|instead| &instead.sha);
        instead.or(self.wanted.as_ref())
    }

    /// The step's name, or its number (from 1) if it has none.
    pub(crate) fn step_name(&self, index: usize) -> String {
        let name = self.steps.get(index).and_then(|step| step.name.clone());
        name.unwrap_or_else(|| (index + 1).to_string())
    }

    /// The gate's time limit, how many polls in a row must succeed, and the wait between them.
    pub(crate) fn gate_timing(&self) -> (Duration, u32, Duration) {
        let deadline = self
            .gate_timeout
            .map_or(DEFAULT_GATE_TIMEOUT, |timeout| timeout.0);
        match &self.health {
            Some(health) => (deadline, health.times, health.interval()),
            None => (deadline, 1, POLL_INTERVAL),
        }
    }

    /// How long every poll may find a failure that does not pass by waiting.
    pub(crate) fn fail_after(&self) -> Duration {
        let health = self.health.as_ref();
        health.map_or(DEFAULT_FAIL_AFTER, HealthCheck::fail_after)
    }

    /// How long a release is new after its gate.
    pub(in crate::release) fn bake(&self) -> Duration {
        self.bake.map_or(DEFAULT_BAKE, |seconds| seconds.0)
    }

    /// Whether a release is new that is so `until` then. Not if the clock was set back since.
    pub(crate) fn is_baking(&self, until: Timestamp, now: Timestamp) -> bool {
        now < until && until.duration_since(now).unsigned_abs() <= self.bake()
    }

    /// Every path in a release that becomes a link, with its target in `deploy_to`.
    pub(crate) fn links(&self) -> Vec<(&Path, PathBuf)> {
        let own = |path: &'_ PathBuf| Path::new("shared").join(path);
        let mut links: Vec<(&Path, PathBuf)> = Vec::new();
        for path in self.linked_dirs.iter().chain(&self.linked_files) {
            links.push((path, own(path)));
        }
        links
    }

    /// The linked path that a path in a release is, or is in.
    pub(in crate::release) fn link_above(&self, path: &Path) -> Option<&Path> {
        let mut links = self.linked_dirs.iter().chain(&self.linked_files);
        links
            .find(|link| path.starts_with(link))
            .map(PathBuf::as_path)
    }

    /// Makes the configuration files of the app files of its releases.
    pub(crate) fn add_config_files(&mut self) {
        let described = std::mem::take(&mut self.config_files);
        self.files.extend(files::from_config(described));
    }

    /// The preflight, unless it is disabled.
    pub(in crate::release) fn preflight(&self) -> Option<&PreflightSpec> {
        self.preflight
            .as_ref()
            .filter(|preflight| preflight.enabled)
    }
    /// How the host is drained, if it is.
    pub(in crate::release) fn drain(&self) -> Option<&DrainSpec> {
        self.drain.as_ref().filter(|drain| drain.enabled)
    }
}
