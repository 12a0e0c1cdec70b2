//! Running one command for a release: as the app's user, in a clean environment, with a deadline,
//! everything that it prints kept.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Deployment;
use super::attempt::remaining;
use super::entry::Stage;
use super::log::MAX_LOG;
use super::spec::{DEFAULT_STEP_TIMEOUT, ReleaseSpec, Step};
use crate::digest::digest;
use crate::ports::exec::{
    CompletedCommand, ExitReason, Identity, LOG_HEADING, LOG_LIMIT, block_quote,
};
use crate::ports::root::Attrs;
use crate::resource::{Argv, Failure, Seconds};

/// How many lines of a failed command go into its error.
const MAX_SHOWN_LINES: usize = 20;

/// One command, as a role describes it.
pub(super) struct Task<'a> {
    /// For logs and errors.
    pub name: String,
    pub stage: Stage,
    pub run: &'a Argv,
    pub env: &'a BTreeMap<String, String>,
    pub timeout: Duration,
    /// `None`: root.
    pub user: Option<&'a str>,
    /// What decides whether it has to run; `None`: it has to.
    pub when_changed: Option<&'a [PathBuf]>,
    /// What it makes in the release.
    pub outputs: &'a [PathBuf],
    /// Whether it may be killed when trueup is asked to stop: what it makes is used by nobody yet, and
    /// it begins again in the next pass. A migration, and a hook from there on, touch what is in use.
    pub may_stop: bool,
}

impl<'a> Task<'a> {
    pub fn from_step(
        spec: &'a ReleaseSpec,
        name: String,
        stage: Stage,
        step: &'a Step,
    ) -> Task<'a> {
        Task {
            name,
            stage,
            run: &step.run,
            env: &step.env,
            timeout: timeout_or_default(step.timeout),
            user: step.user.as_deref().or(spec.user.as_deref()),
            when_changed: step.when_changed.as_deref(),
            outputs: &step.outputs,
            may_stop: false,
        }
    }

    pub fn build_step(spec: &'a ReleaseSpec, index: usize) -> Task<'a> {
        let (name, step) = (spec.step_name(index), &spec.steps[index]);
        Task {
            may_stop: true,
            ..Task::from_step(spec, name, Stage::Build, step)
        }
    }

    pub fn assets(spec: &'a ReleaseSpec) -> Option<Task<'a>> {
        spec.assets.as_ref().map(|assets| Task {
            name: "assets".into(),
            stage: Stage::Assets,
            run: &assets.run,
            env: &assets.env,
            timeout: timeout_or_default(assets.timeout),
            user: spec.user.as_deref(),
            when_changed: assets.when_changed.as_deref(),
            outputs: std::slice::from_ref(&assets.path),
            may_stop: true,
        })
    }

    pub fn migrate(spec: &'a ReleaseSpec) -> Option<Task<'a>> {
        spec.migrate.as_ref().map(|migrate| Task {
            name: "migrate".into(),
            stage: Stage::Migrate,
            run: &migrate.run,
            env: &migrate.env,
            timeout: timeout_or_default(migrate.timeout),
            user: spec.user.as_deref(),
            when_changed: migrate.when_changed.as_deref(),
            outputs: &[],
            may_stop: false,
        })
    }

    /// Everything that has to run to build and to activate a release, in this order.
    pub fn all(spec: &'a ReleaseSpec) -> Vec<Task<'a>> {
        let steps = (0..spec.steps.len()).map(|index| Task::build_step(spec, index));
        let rest = [Task::assets(spec), Task::migrate(spec)];
        steps.chain(rest.into_iter().flatten()).collect()
    }

    /// What it is called in its stage; `None`: the stage is it.
    pub fn step_name(&self) -> Option<&str> {
        (self.stage == Stage::Build).then_some(self.name.as_str())
    }

    /// A fingerprint of what is run and how, and of what that is said to depend on: what was skipped
    /// for fewer inputs is of no use. It is on record, so there is nothing of a secret in it.
    pub fn fingerprint(&self, spec: &ReleaseSpec) -> String {
        let mut text = format!(
            "{:?}",
            (self.run.to_string(), &spec.env, self.env, self.user)
        );
        if let Some(umask) = spec.umask {
            text.push_str(&umask.to_string());
        }
        if let Some(paths) = self.when_changed {
            text.push_str(&format!("{paths:?}"));
        }
        digest(text.as_bytes())[..16].to_owned()
    }
}

fn timeout_or_default(configured: Option<Seconds>) -> Duration {
    configured.map_or(DEFAULT_STEP_TIMEOUT, |seconds| seconds.0)
}

/// Runs a command in the folder of the release (or, as long as that is not there, in the app's) and
/// fails unless it succeeds.
pub(super) fn run(d: &Deployment<'_>, name: &str, task: &Task<'_>) -> Result<(), Failure> {
    let done = execute(d, name, task)?;
    match done.exit_reason {
        ExitReason::Exited(0) => Ok(()),
        ExitReason::Stopped => Err(Failure::stopped()),
        _ => Err(step_failure(d, name, task, &done)),
    }
}

fn execute(d: &Deployment<'_>, name: &str, task: &Task<'_>) -> Result<CompletedCommand, Failure> {
    let (root, layout) = (&d.host.root, &d.layout);
    let mut command = task.run.command().timeout(effective_timeout(d, task)?);
    let identity = identity(d, task.user)?;
    let release = layout.release(name);
    command.env = environment(
        d,
        &release,
        task.stage.as_str(),
        task.env,
        identity.as_ref(),
    );
    let place = match root.meta(&release)? {
        Some(_) => release,
        None => layout.deploy_to().to_owned(),
    };
    command.cwd = Some(root.machine_path(&place));
    command.identity = identity.filter(|_| root.is_privileged());
    command.umask = d.spec.umask();

    let mut log = open_log(d, name)?;
    let now = d.host.clock.now();
    // What the log cannot hold is no reason not to build.
    let _ = writeln!(
        log,
        "{}",
        heading(task.stage, &task.name, &format!("{now:.0} {}", task.run))
    );
    command.log = Some(log);
    command.stop = task.may_stop.then(|| d.host.stop.clone());
    Ok(d.host.exec.run(command)?)
}

/// A log that is longer, in bytes, begins anew with the next command: with what that one may add, no log is
/// too long to be [read](super::log).
const TRUNCATE_LOG_AT: u64 = MAX_LOG as u64 - 2 * LOG_LIMIT;

/// The log of a release, to add to it. For root alone: a program may print what it knows.
pub(super) fn open_log(d: &Deployment<'_>, name: &str) -> Result<File, Failure> {
    let (root, layout) = (&d.host.root, &d.layout);
    root.create_dir_all(&layout.logs(), &Attrs::mode(0o750))?;
    let log = root.open_append(&layout.log(name), &Attrs::mode(0o600))?;
    // A release that fails is tried again and again.
    if log.metadata().is_ok_and(|log| log.len() > TRUNCATE_LOG_AT) {
        let _ = log.set_len(0);
    }
    Ok(log)
}

/// The deadline of a command, in which `build_deadline` has a say only as long as it is about building:
/// half a migration is worse than a late one.
fn effective_timeout(d: &Deployment<'_>, task: &Task<'_>) -> Result<Duration, Failure> {
    if task.stage > Stage::Assets {
        return Ok(task.timeout);
    }
    d.check_deadline()?;
    let left = remaining(d.build_deadline, d.elapsed()).unwrap_or(task.timeout);
    Ok(task.timeout.min(left))
}

/// The line in a release's log under which the output of a command stands.
pub(super) fn heading(stage: Stage, name: &str, rest: &str) -> String {
    format!("{LOG_HEADING}{} {name} == {rest}", stage.as_str())
}

/// As whom a command for a release runs; `None`: root.
pub(super) fn identity(
    d: &Deployment<'_>,
    user: Option<&str>,
) -> Result<Option<Identity>, Failure> {
    let Some(user) = user.filter(|user| *user != "root") else {
        return Ok(None);
    };
    let found = d.host.accounts.identity(&d.host.root, user)?;
    let mut identity = found
        .ok_or_else(|| Failure::not_ready(format!("there is no user `{user}` to run a step as")))?;
    // The release's group counts for its own user; another user of a step keeps his.
    let own = d.spec.user.as_deref() == Some(user);
    if let (true, Some(gid)) = (own && d.spec.group.is_some(), d.owner.gid) {
        identity.gid = gid;
        if !identity.groups.contains(&gid) {
            identity.groups.push(gid);
        }
    }
    Ok(Some(identity))
}

/// What a command for a release finds in its environment, besides a search path.
pub(super) fn environment(
    d: &Deployment<'_>,
    release: &Path,
    stage: &str,
    env: &BTreeMap<String, String>,
    identity: Option<&Identity>,
) -> BTreeMap<OsString, OsString> {
    let root = &d.host.root;
    let (user, home) = match identity {
        Some(identity) => (identity.name.as_str(), root.machine_path(&identity.home)),
        None => ("root", root.machine_path("/root".as_ref())),
    };
    let previous = d.previous.as_ref().map_or("", |sha| sha.as_str());
    let own: [(&str, OsString); 11] = [
        ("HOME", home.into()),
        ("USER", user.into()),
        ("LANG", "C.UTF-8".into()),
        ("APP", d.spec.app.as_str().into()),
        ("ENVIRONMENT", d.spec.environment.as_str().into()),
        ("REVISION", d.sha.as_str().into()),
        ("PREVIOUS_REVISION", previous.into()),
        ("RELEASE_PATH", root.machine_path(release).into()),
        (
            "CURRENT_PATH",
            root.machine_path(&d.layout.current()).into(),
        ),
        ("SHARED_PATH", root.machine_path(&d.layout.shared()).into()),
        ("STAGE", stage.into()),
    ];
    let configured = d.spec.env.iter().chain(&d.spec.secrets).chain(env);
    let configured = configured.map(|(key, value)| (key.into(), value.into()));
    let mut all: BTreeMap<OsString, OsString> = own
        .into_iter()
        .map(|(key, value)| (key.into(), value))
        .chain(configured)
        .collect();
    if identity.is_none()
        && let Some(path) = all.remove(OsStr::new("PATH"))
    {
        let path = without_app_folders(d, path);
        all.extend((!path.is_empty()).then(|| ("PATH".into(), path)));
    }
    all
}

/// A search path without what the app's user can put programs into: root finds none there.
fn without_app_folders(d: &Deployment<'_>, path: OsString) -> OsString {
    let (root, accounts) = (&d.host.root, &d.host.accounts);
    let user = d.spec.user.as_deref().filter(|user| *user != "root");
    let Some(user) = user else {
        return path;
    };
    let home = accounts.identity(root, user).ok().flatten();
    let home = home.map(|user| root.machine_path(&user.home));
    let own = [home, Some(root.machine_path(d.layout.deploy_to()))];
    let others = std::env::split_paths(&path).filter(|folder| {
        // What is relative is looked for in the release.
        folder.is_absolute() && !own.iter().flatten().any(|own| folder.starts_with(own))
    });
    std::env::join_paths(others).unwrap_or_default()
}

fn step_failure(
    d: &Deployment<'_>,
    name: &str,
    task: &Task<'_>,
    done: &CompletedCommand,
) -> Failure {
    let tail = done.output.tail(MAX_SHOWN_LINES);
    let output = if tail.is_empty() {
        " (it printed nothing)".to_owned()
    } else {
        format!("; its last lines:\n{}", block_quote(&tail))
    };
    Failure::new(format!(
        "step `{}` ({}) {}{output}",
        task.name, task.run, done.exit_reason
    ))
    .hint(format!(
        "all that it printed is in {}; the release is kept in {} and was not activated",
        d.layout.log(name).display(),
        d.layout.release(name).display()
    ))
}
