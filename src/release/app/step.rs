//! The commands that build, compile and migrate a release, as a role declares them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::resource::{Argv, Seconds};

/// Time limit of a step without a `timeout`.
pub const DEFAULT_STEP_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// One step of a build.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// For plans, logs and errors; not given: its number.
    pub name: Option<String>,
    /// `false`: as if it were not there. For roles, such as `"{{ ruby_build }}"`.
    #[serde(default = "default_true")]
    pub when: bool,
    /// What to run: a list of arguments, or a string for the shell.
    pub run: Argv,
    /// Added to the environment of all steps.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How long it may take; `15m` when not given.
    pub timeout: Option<Seconds>,
    /// As whom it runs; the release's user when not given. Root finds no program in that user's home
    /// or in `deploy_to`, whatever `PATH` says.
    pub user: Option<String>,
    /// Paths of the repository, files or folders, that decide what it makes. It is skipped when all of
    /// them are, by their git object ids, as they were in the last good release, if that ran it as it is
    /// defined now. Paths that neither has are equal, but one must be there. `.` is the whole
    /// repository, and `"!spec"` takes something out. Always run when not given.
    pub when_changed: Option<Vec<PathBuf>>,
    /// What it makes inside the release, such as `vendor/bundle` or `node_modules`: copied from that
    /// release when the step is skipped, which it only is if all of it is there. Not for what knows
    /// its own place, such as a virtualenv.
    #[serde(default)]
    pub outputs: Vec<PathBuf>,
}

/// How assets are compiled.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AssetsSpec {
    /// What to run: a list of arguments, or a string for the shell.
    pub run: Argv,
    /// The folder of the release that they are compiled into. Afterwards its files are moved to
    /// `shared/assets`, and links to them, and to those of the other kept releases, stand here: a page
    /// of any of them finds its files. A name that is there with another content stays in the release,
    /// as does what belongs to somebody else than the folder that it is in, and a name with control
    /// characters. A release with more than 100,000 files, or 8 MiB of their names, fails.
    #[serde(default = "public_assets")]
    pub path: PathBuf,
    /// Which files are each release's own and never shared: what says which names are current.
    /// Patterns as git has them, of a file's name or of its way below `path`.
    #[serde(default = "default_manifests")]
    pub manifests: Vec<String>,
    /// Added to the environment of all steps.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How long it may take; `15m` when not given.
    pub timeout: Option<Seconds>,
    /// Paths of the repository, files or folders, that decide what it makes. It is skipped when all of
    /// them are, by their git object ids, as they were in the last good release, if that ran it as it is
    /// defined now. Paths that neither has are equal, but one must be there. `.` is the whole
    /// repository, and `"!spec"` takes something out. Always run when not given.
    pub when_changed: Option<Vec<PathBuf>>,
}

/// How the database is brought up to a release.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MigrationSpec {
    /// What to run: a list of arguments, or a string for the shell.
    pub run: Argv,
    /// Added to the environment of all steps.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How long it may take; `15m` when not given.
    pub timeout: Option<Seconds>,
    /// Paths of the repository, files or folders, that it depends on. It is skipped when all of them
    /// are, by their git object ids, as they are in the active release. Paths that neither has are
    /// equal, but one must be there. `[db]` when not given; `null`: always run.
    #[serde(default = "default_migration_paths")]
    pub when_changed: Option<Vec<PathBuf>>,
}

/// Drops the steps with `when: false`.
pub fn deserialize_enabled_steps<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Step>, D::Error> {
    let mut steps = Vec::<Step>::deserialize(deserializer)?;
    steps.retain(|step| step.when);
    Ok(steps)
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

#[allow(clippy::unnecessary_wraps)] // The default of an optional field.
fn default_migration_paths() -> Option<Vec<PathBuf>> {
    Some(vec!["db".into()])
}
