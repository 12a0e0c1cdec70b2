//! `trueup exec`: runs an operator's command in a release, in the environment of its steps.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::selection_error::SelectionError;
use crate::ports::Host;
use crate::ports::exec::Command;
use crate::release::app::spec::ReleaseSpec;
use crate::release::deployment::Deployment;
use crate::release::record::disk::read_revision;
use crate::release::record::{self, ReleaseRecord};
use crate::release::stages::environment::environment;
use crate::release::stages::run;
use crate::resource::Failure;

/// The value of `STAGE` in its environment.
const EXEC_STAGE: &str = "exec";

/// Variables that describe the caller's terminal.
const TERMINAL_VARS: [&str; 3] = ["TERM", "COLORTERM", "NO_COLOR"];

/// Prepares a command to run in the named release, or in the active one, as the release's user. `caller_env`
/// reads the caller's environment, for the variables of its terminal.
pub(crate) fn exec_command(
    spec: &ReleaseSpec,
    host: &Host,
    release: Option<&str>,
    argv: Vec<OsString>,
    caller_env: impl Fn(&str) -> Option<OsString>,
) -> Result<Command, SelectionError> {
    let layout = spec.layout();
    let record = ReleaseRecord::load(host, &layout)?;
    let active = record::current(host, &layout)?;
    let name = match (release, active) {
        (Some(name), _) => record
            .find(name)
            .map(|entry| entry.name.clone())
            .ok_or_else(|| SelectionError::unknown_release(&spec.app, &record, name))?,
        (None, Some(active)) => active,
        (None, None) => {
            return Err(SelectionError::NoneActive {
                app: spec.app.clone(),
            });
        }
    };
    let known = record.find(&name).map(|entry| entry.sha.clone());
    let sha = known.or_else(|| read_revision(host, &layout, &name));
    let sha =
        sha.ok_or_else(|| Failure::new(format!("cannot determine the sha of release {name}")))?;
    let mut deployment = Deployment::new(spec, &sha, host)?;
    deployment.previous = record.previous_good(&name).map(|entry| entry.sha.clone());
    let app = deployment.app_folder(&name);
    let folder = app.path();
    if host.root.meta(folder).map_err(Failure::from)?.is_none() {
        return Err(Failure::new(format!("{} does not exist", folder.display())).into());
    }
    let mut command = Command::new(argv);
    let identity = run::identity(&deployment, spec.user.as_deref())?;
    command.env = environment(
        &deployment,
        folder,
        EXEC_STAGE,
        &BTreeMap::new(),
        identity.as_ref(),
    )?;
    for key in TERMINAL_VARS {
        if let Some(value) = caller_env(key) {
            command.env.entry(key.into()).or_insert(value);
        }
    }
    command.cwd = Some(host.root.machine_path(folder));
    let user = identity.as_ref().map_or("root", |user| &user.name);
    let uid = identity.as_ref().map_or(0, |user| user.uid);
    if host.root.is_real() && !host.root.is_privileged() && uid != host.root.current_uid() {
        return Err(SelectionError::OtherUser {
            app: spec.app.clone(),
            user: user.to_owned(),
        });
    }
    command.umask = spec.umask();
    command.identity = identity.filter(|_| host.root.is_privileged());
    Ok(command)
}
