//! The commands that build, compile and migrate a release, as a role declares them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::outputs::Outputs;
use crate::resource::{Argv, Seconds};

/// Time limit of a step without a `timeout`.
pub(crate) const DEFAULT_STEP_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// One step of a build.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    /// Its name in plans, logs and errors; not given: its number.
    pub name: Option<String>,
    /// `false` leaves the step out. For roles, such as `"{{ ruby_build }}"`.
    #[serde(default = "default_true")]
    pub when: bool,
    /// The command: a list of arguments, or a string for the shell.
    pub run: Argv,
    /// Added to the environment of all steps.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Time limit; `15m` when not given.
    pub timeout: Option<Seconds>,
    /// The user that runs it; the release's user when not given. Root finds no program in that
    /// user's home or in `deploy_to`, whatever `PATH` says.
    pub user: Option<String>,
    /// Its inputs: files or folders of the repository. It is skipped if all of them have the same
    /// git object ids as in the last good release, and that release ran the same definition. A
    /// path that is in neither counts as equal, but one must exist. `.` is the whole repository,
    /// and `"!spec"` excludes a path. Not given: always run.
    pub when_changed: Option<Vec<PathBuf>>,
    /// `fleet`: one host runs it for all hosts of the environment, with its slot and before any of them activates the
    /// sha, and the others wait for it. For hooks `before_migrate`, `after_migrate` and `before_activate`; a build step
    /// runs before these then, instead of with the other steps. It needs a `name`, with which `trueup rollout once`
    /// settles it. `host`: each host runs it. Not given: `host`.
    #[serde(default = "each_host")]
    pub once: Once,
    /// What it creates in the release, in one of two forms. A list of paths, such as `[vendor/bundle]`: copied
    /// from that release when the step is skipped, which requires that all of them exist there; not for files
    /// that contain their own path. One in `linked_dirs` is shared and not copied. Or `{path: node_modules, by: [package.json, package-lock.json], key: node
    /// --version}`: made once for all releases in which the files `by`, the definition of the step, the
    /// operating system and what the command `key` prints are equal, kept in `outputs/` of `deploy_to`,
    /// read-only, and linked into each. `by` are git patterns (`*` also matches `/`, `.` is everything). The
    /// step finds the folder that stays in `OUTPUTS_PATH`; what it creates in the release instead is moved
    /// there. With `by` there is no `when_changed`.
    #[serde(default)]
    pub outputs: Outputs,
}

/// How to compile assets.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct AssetsSpec {
    /// The command: a list of arguments, or a string for the shell.
    pub run: Argv,
    /// The folder of the compiled assets in the release. trueup moves its files to
    /// `shared/assets` and replaces them with links, also to those of the other kept releases: a
    /// page of any of them finds its files. Not shared: a name that exists there with other
    /// content, a file whose owner is not the owner of its folder, and a name with control
    /// characters. A release with more than 100,000 files, or 8 MiB of names, fails.
    #[serde(default = "public_assets")]
    pub path: PathBuf,
    /// Files that belong to each release and are never shared: those that list the current names.
    /// Git patterns, for a file's name or its path below `path`.
    #[serde(default = "default_manifests")]
    pub manifests: Vec<String>,
    /// Added to the environment of all steps.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Time limit; `15m` when not given.
    pub timeout: Option<Seconds>,
    /// Its inputs: files or folders of the repository. It is skipped if all of them have the same
    /// git object ids as in the last good release, and that release ran the same definition. A
    /// path that is in neither counts as equal, but one must exist. `.` is the whole repository,
    /// and `"!spec"` excludes a path. Not given: always run.
    pub when_changed: Option<Vec<PathBuf>>,
}

/// How to migrate the database.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct MigrationSpec {
    /// The command: a list of arguments, or a string for the shell.
    pub run: Argv,
    /// Added to the environment of all steps.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Time limit; `15m` when not given.
    pub timeout: Option<Seconds>,
    /// Its inputs: files or folders of the repository. It is skipped if all of them have the same
    /// git object ids as in the active release. A path that is in neither counts as equal, but
    /// one must exist. Not given: always run.
    pub when_changed: Option<Vec<PathBuf>>,
    /// `fleet`: one host runs it for all hosts of the environment, before any of them activates the sha, and the
    /// others wait for it. It finds the number of the run in `TRUEUP_ATTEMPT`: a host that is killed before it has
    /// recorded the success runs it again. `host`: each host runs it. Not given: `fleet`.
    #[serde(default)]
    pub once: Once,
}

/// For whom a command runs once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum Once {
    Host,
    #[default]
    Fleet,
}

/// Drops the steps with `when: false`.
pub(crate) fn deserialize_enabled_steps<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Step>, D::Error> {
    let mut steps = Vec::<Step>::deserialize(deserializer)?;
    steps.retain(|step| step.when);
    Ok(steps)
}

fn each_host() -> Once {
    Once::Host
}

fn default_true() -> bool {
    true
}

fn public_assets() -> PathBuf {
    "public/assets".into()
}

/// The manifests of Sprockets, Propshaft, Vite, webpack and its kin, gulp, and Django; and pages, whose names
/// stay the same whatever they contain.
fn default_manifests() -> Vec<String> {
    let all = [
        ".sprockets-manifest-*.json",
        ".manifest.json",
        "manifest.json",
        // Old Sprockets. A longer name is a page's own manifest, an asset like any other.
        "manifest-????????????????????????????????.json",
        ".vite/*",
        "*-manifest.json",
        "entrypoints.json",
        "staticfiles.json",
        "*.html",
    ];
    all.map(String::from).into()
}
