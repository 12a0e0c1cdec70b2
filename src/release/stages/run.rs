//! Runs one command of a release: as the app's user, in a clean environment, with a time limit, with all of
//! its output logged.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::environment::environment;
use crate::digest::digest;
use crate::ports::exec::{
    CompletedCommand, ExitReason, Identity, LOG_LIMIT, Output, OutputObserver, PATH, first_line,
};
use crate::ports::root::{Attrs, Folder};
use crate::release::app::outputs::SharedOutputs;
use crate::release::app::spec::ReleaseSpec;
use crate::release::app::stage::Stage;
use crate::release::app::step::{DEFAULT_STEP_TIMEOUT, Step};
use crate::release::deployment::Deployment;
use crate::release::progress::StepProgress;
use crate::release::record::log::{MAX_LOG, heading};
use crate::resource::{Argv, Failure, Seconds};

/// Lines of a failed command's output in its error.
pub(super) const MAX_SHOWN_LINES: usize = 20;

/// One command, as a role describes it.
pub(crate) struct Task<'a> {
    /// For its progress, with the name of the app.
    pub title: String,
    /// For logs and errors.
    pub name: String,
    pub stage: Stage,
    pub run: &'a Argv,
    pub env: &'a BTreeMap<String, String>,
    pub timeout: Duration,
    /// `None`: root.
    pub user: Option<&'a str>,
    /// The paths that decide whether it runs; `None`: it always runs.
    pub when_changed: Option<&'a [PathBuf]>,
    /// What it produces in the release; a skipped one copies it.
    pub outputs: &'a [PathBuf],
    /// What it produces for all releases with the same inputs.
    pub shared_outputs: Option<&'a SharedOutputs>,
    /// The folder of its shared outputs.
    pub outputs_path: Option<&'a Path>,
    /// Whether a stop request kills it: nothing uses its outputs yet, and the next pass runs it again. A
    /// migration, and a hook from there on, change what is in use.
    pub may_stop: bool,
    /// The number of the run, for a step that one host runs for all: `TRUEUP_ATTEMPT`.
    pub attempt: Option<u32>,
}

impl<'a> Task<'a> {
    pub(crate) fn from_step(
        spec: &'a ReleaseSpec,
        name: String,
        stage: Stage,
        step: &'a Step,
    ) -> Task<'a> {
        Task {
            title: format!("{}: {name}", spec.app),
            name,
            stage,
            run: &step.run,
            env: &step.env,
            timeout: timeout_or_default(step.timeout),
            user: step.user.as_deref().or(spec.user.as_deref()),
            when_changed: step.when_changed.as_deref(),
            outputs: step.outputs.copied(),
            shared_outputs: step.outputs.shared(),
            outputs_path: None,
            may_stop: false,
            attempt: None,
        }
    }

    pub(crate) fn build_step(spec: &'a ReleaseSpec, index: usize) -> Task<'a> {
        let (name, step) = (spec.step_name(index), &spec.steps[index]);
        let (number, total) = (index + 1, spec.steps.len());
        Task {
            title: format!("{}: step {number} of {total}: {name}", spec.app),
            may_stop: true,
            attempt: None,
            ..Task::from_step(spec, name, Stage::Build, step)
        }
    }

    pub(crate) fn assets(spec: &'a ReleaseSpec) -> Option<Task<'a>> {
        spec.assets.as_ref().map(|assets| Task {
            title: format!("{}: assets", spec.app),
            name: "assets".into(),
            stage: Stage::Assets,
            run: &assets.run,
            env: &assets.env,
            timeout: timeout_or_default(assets.timeout),
            user: spec.user.as_deref(),
            when_changed: assets.when_changed.as_deref(),
            outputs: std::slice::from_ref(&assets.path),
            shared_outputs: None,
            outputs_path: None,
            may_stop: true,
            attempt: None,
        })
    }

    pub(crate) fn migrate(spec: &'a ReleaseSpec) -> Option<Task<'a>> {
        spec.migrate.as_ref().map(|migrate| Task {
            title: format!("{}: migrating", spec.app),
            name: "migrate".into(),
            stage: Stage::Migrate,
            run: &migrate.run,
            env: &migrate.env,
            timeout: timeout_or_default(migrate.timeout),
            user: spec.user.as_deref(),
            when_changed: migrate.when_changed.as_deref(),
            outputs: &[],
            shared_outputs: None,
            outputs_path: None,
            may_stop: false,
            attempt: None,
        })
    }

    /// All commands that build and migrate a release, in this order; without hooks.
    pub(crate) fn all(spec: &'a ReleaseSpec) -> Vec<Task<'a>> {
        let steps = (0..spec.steps.len()).map(|index| Task::build_step(spec, index));
        let rest = [Task::assets(spec), Task::migrate(spec)];
        steps.chain(rest.into_iter().flatten()).collect()
    }

    /// Its name within its stage; `None`: it is the stage's only command.
    pub(crate) fn step_name(&self) -> Option<&str> {
        (self.stage == Stage::Build).then_some(self.name.as_str())
    }

    /// A fingerprint of the command, its environment, and its declared inputs and outputs: a skip by fewer of
    /// them must not count. It is on record, so it includes no secret.
    pub(crate) fn fingerprint(&self, spec: &ReleaseSpec) -> String {
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
        // A skipped step copies them.
        if self.stage == Stage::Build && !self.outputs.is_empty() {
            text.push_str(&format!("{:?}", self.outputs));
        }
        if let Some(shared) = self.shared_outputs {
            let key = shared.key.as_ref().map(Argv::to_string);
            text.push_str(&format!("{:?}", (&shared.paths, &shared.by, key)));
        }
        digest(text.as_bytes())[..16].to_owned()
    }
}

fn timeout_or_default(configured: Option<Seconds>) -> Duration {
    configured.map_or(DEFAULT_STEP_TIMEOUT, |seconds| seconds.0)
}

/// Runs a command in the app's folder of the release (until that exists, in `deploy_to`), returns its output, and fails
/// unless it succeeds.
pub(crate) fn run(
    deployment: &Deployment<'_>,
    name: &str,
    task: &Task<'_>,
) -> Result<Output, Failure> {
    let progress = StepProgress::begin(deployment.host, task.title.clone());
    let observer = progress.observer(&task.name);
    let result =
        execute(deployment, name, task, observer).and_then(|done| match done.exit_reason {
            ExitReason::Exited(0) => Ok(done.output),
            ExitReason::Stopped => Err(Failure::stopped()),
            _ => Err(step_failure(deployment, name, task, &done)),
        });
    progress.end(&result);
    result
}

fn execute(
    deployment: &Deployment<'_>,
    name: &str,
    task: &Task<'_>,
    observer: Box<dyn OutputObserver>,
) -> Result<CompletedCommand, Failure> {
    let root = &deployment.host.root;
    let mut command = task
        .run
        .command()
        .timeout(effective_timeout(deployment, task)?);
    let identity = identity(deployment, task.user)?;
    let app = deployment.app_folder(name);
    command.env = environment(
        deployment,
        app.path(),
        task.stage.as_str(),
        task.env,
        identity.as_ref(),
    )?;
    if let Some(folder) = task.outputs_path {
        let folder = root.machine_path(folder);
        command.env.insert("OUTPUTS_PATH".into(), folder.into());
    }
    if let Some(attempt) = task.attempt {
        let attempt = attempt.to_string();
        command.env.insert("TRUEUP_ATTEMPT".into(), attempt.into());
    }
    let folder = root.open_folder(app.path())?;
    let cwd = match &folder {
        Some(_) => app.path(),
        None => deployment.layout.deploy_to(),
    };
    command.cwd = Some(root.machine_path(cwd));
    command.identity = identity.filter(|_| root.is_privileged());
    if command.identity.is_none() {
        command.cwd_fd = folder.map(Folder::into_fd);
    }
    command.umask = deployment.spec.umask();

    let mut log = open_log(deployment, name)?;
    let now = deployment.host.clock.now();
    // A log that cannot be written must not prevent a build.
    let _ = writeln!(
        log,
        "{}",
        heading(task.stage, &task.name, &format!("{now:.0} {}", task.run))
    );
    command.log = Some(log);
    command.observer = Some(observer);
    command.stop = task.may_stop.then(|| deployment.host.stop.clone());
    let program = command
        .argv
        .first()
        .map(|name| name.to_string_lossy().into_owned());
    let path = command
        .env
        .get(OsStr::new("PATH"))
        .map(|path| path.to_string_lossy().into_owned());
    deployment.host.exec.run(command).map_err(|error| {
        let is_missing = error.is_program_missing();
        let failure = Failure::from(error);
        match is_missing {
            true => failure
                .with_context(&format!("step `{}`", task.name))
                .hint(format!(
                    "is `{}` installed, and in a folder of the PATH of the step? It is {}, and `env` can set it",
                    program.unwrap_or_default(),
                    path.as_deref().unwrap_or(PATH)
                )),
            false => failure,
        }
    })
}

/// Length in bytes beyond which the next command truncates the log: with what that may add, every log stays
/// short enough to be [read](crate::release::record::log).
const TRUNCATE_LOG_AT: u64 = MAX_LOG as u64 - 2 * LOG_LIMIT;

/// Opens a release's log for appending. Readable only by root: a program may print its secrets.
pub(crate) fn open_log(deployment: &Deployment<'_>, name: &str) -> Result<File, Failure> {
    let (root, layout) = (&deployment.host.root, &deployment.layout);
    root.create_dir_all(&layout.logs(), &Attrs::mode(0o750))?;
    let log = root.open_append(&layout.log(name), &Attrs::mode(0o600))?;
    // Every retry of a failing release adds to its log.
    if log.metadata().is_ok_and(|log| log.len() > TRUNCATE_LOG_AT) {
        let _ = log.set_len(0);
    }
    Ok(log)
}

/// The time limit of a command. `build_deadline` counts only up to the assets stage: half a migration is
/// worse than a late one.
fn effective_timeout(deployment: &Deployment<'_>, task: &Task<'_>) -> Result<Duration, Failure> {
    if task.stage > Stage::Assets {
        return Ok(task.timeout);
    }
    deployment.check_deadline()?;
    let left = remaining(deployment.build_deadline, deployment.elapsed()).unwrap_or(task.timeout);
    Ok(task.timeout.min(left))
}

/// What is left of a limit, at least 10 ms: a late command must time out, not fail to start.
fn remaining(limit: Option<Duration>, elapsed: Duration) -> Option<Duration> {
    limit.map(|limit| limit.saturating_sub(elapsed).max(Duration::from_millis(10)))
}

/// The user that runs a release's command; `None`: root.
pub(crate) fn identity(
    deployment: &Deployment<'_>,
    user: Option<&str>,
) -> Result<Option<Identity>, Failure> {
    let Some(user) = user.filter(|user| *user != "root") else {
        return Ok(None);
    };
    let found = deployment
        .host
        .accounts
        .identity(&deployment.host.root, user)?;
    let mut identity = found
        .ok_or_else(|| Failure::not_ready(format!("there is no user `{user}` to run a step as")))?;
    // The release's group applies to its own user; another user of a step keeps its own.
    let own = deployment.spec.user.as_deref() == Some(user);
    if let (true, Some(gid)) = (own && deployment.spec.group.is_some(), deployment.owner.gid) {
        identity.gid = gid;
        if !identity.groups.contains(&gid) {
            identity.groups.push(gid);
        }
    }
    Ok(Some(identity))
}

fn step_failure(
    deployment: &Deployment<'_>,
    name: &str,
    task: &Task<'_>,
    done: &CompletedCommand,
) -> Failure {
    let command = task.run.to_string();
    let message = format!(
        "step `{}` ({}) {}",
        task.name,
        first_line(&command),
        done.exit_reason
    );
    let failure = match done.output.tail(MAX_SHOWN_LINES) {
        tail if tail.is_empty() => Failure::new(message + " (it printed nothing)"),
        tail => Failure::new(message).with_log_tail(&tail),
    };
    let log = deployment.layout.log(name);
    if let Some((step, path)) = refused_output(deployment.spec, done) {
        return failure.hint(format!(
            "{} is shared by all releases with the same inputs, and read-only: write it in the step `{step}`, with what decides it in its `outputs.by`; all of the output is in {}",
            path.display(),
            log.display()
        ));
    }
    failure.hint(format!(
        "all of its output is in {}; the release is kept in {} and was not activated",
        log.display(),
        deployment.layout.release(name).display()
    ))
}

/// The shared output that a command could not write to, as far as its last lines tell, and the step that made it.
fn refused_output<'s>(
    spec: &'s ReleaseSpec,
    done: &CompletedCommand,
) -> Option<(String, &'s Path)> {
    let text = done.output.tail(MAX_SHOWN_LINES).to_ascii_lowercase();
    let refusal = text
        .lines()
        .find(|line| line.contains("permission denied"))?;
    spec.steps.iter().enumerate().find_map(|(index, step)| {
        let mut paths = step.outputs.shared()?.paths.iter();
        let path = paths.find(|path| refusal.contains(&path.to_string_lossy().to_lowercase()))?;
        Some((spec.step_name(index), path.as_path()))
    })
}
