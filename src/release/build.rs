//! The stages that run the role's steps in a release: as the app's user, in a clean environment,
//! each with a deadline, everything that they print kept.

use std::ffi::OsString;
use std::io::Write;

use super::record::{Record, Stage, Standing};
use super::spec::Task;
use super::{Deployment, keep};
use crate::ports::exec::{Finished, Identity};
use crate::ports::root::Attrs;
use crate::resource::Failure;

/// How many lines of a failed step go into its error.
const SHOWN_LINES: usize = 20;

/// Runs all steps and then the assets step. The first that fails makes the release a failed one,
/// which is kept to be looked at and never activated.
pub(super) fn build(d: &Deployment<'_>, record: &mut Record, name: &str) -> Result<(), Failure> {
    let tasks = d.spec.tasks();
    for (i, task) in tasks.iter().enumerate() {
        d.go_on()?;
        let stage = if task.assets {
            Stage::Assets
        } else {
            Stage::Build
        };
        d.note(record, name, Standing::Building, stage, None)?;
        let place = format!("step {} of {}", i + 1, tasks.len());
        tracing::info!(target: "progress", "{}: {place}: {}", d.spec.app, task.name);
        let failed = match run(d, name, task, &place) {
            Ok(done) if done.ok() => continue,
            Ok(done) => told(d, name, task, &done),
            Err(failure) => failure,
        };
        let why = failed.message.lines().next().map(str::to_owned);
        d.note(record, name, Standing::Failed, stage, why)?;
        keep::failed(d, record)?;
        return Err(failed);
    }
    Ok(())
}

fn run(d: &Deployment<'_>, name: &str, task: &Task<'_>, place: &str) -> Result<Finished, Failure> {
    let (root, layout) = (&d.host.root, &d.layout);
    let mut command = task.run.command().timeout(task.timeout);
    let identity = identity(d, task.user)?;
    command.env = environment(d, name, task, identity.as_ref());
    command.cwd = Some(root.outside(&layout.release(name)));
    command.identity = identity.filter(|_| root.privileged());

    root.make_dirs(&layout.logs(), &Attrs::mode(0o750))?;
    let mut log = root.append(&layout.log(name), &Attrs::mode(0o640))?;
    let now = d.host.clock.now();
    // What the log cannot hold is no reason not to build.
    let _ = writeln!(log, "== {now:.0} {place}, {}: {}", task.name, task.run);
    command.log = Some(log);
    Ok(d.host.exec.run(command)?)
}

fn identity(d: &Deployment<'_>, user: Option<&str>) -> Result<Option<Identity>, Failure> {
    let Some(user) = user.filter(|user| *user != "root") else {
        return Ok(None);
    };
    let found = d.host.accounts.identity(&d.host.root, user)?;
    let mut identity = found
        .ok_or_else(|| Failure::not_yet(format!("there is no user `{user}` to run a step as")))?;
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

fn environment(
    d: &Deployment<'_>,
    name: &str,
    task: &Task<'_>,
    identity: Option<&Identity>,
) -> std::collections::BTreeMap<OsString, OsString> {
    let root = &d.host.root;
    let (user, home) = match identity {
        Some(identity) => (identity.name.as_str(), root.outside(&identity.home)),
        None => ("root", root.outside("/root".as_ref())),
    };
    let release = root.outside(&d.layout.release(name));
    let own: [(&str, OsString); 6] = [
        ("HOME", home.into()),
        ("USER", user.into()),
        ("LANG", "C.UTF-8".into()),
        ("APP", d.spec.app.as_str().into()),
        ("REVISION", d.sha.as_str().into()),
        ("RELEASE_PATH", release.into()),
    ];
    let said = d.spec.env.iter().chain(task.env);
    let said = said.map(|(key, value)| (key.into(), value.into()));
    own.into_iter()
        .map(|(key, value)| (key.into(), value))
        .chain(said)
        .collect()
}

fn told(d: &Deployment<'_>, name: &str, task: &Task<'_>, done: &Finished) -> Failure {
    let tail = done.output.tail(SHOWN_LINES);
    let said = if tail.is_empty() {
        " (it printed nothing)".to_owned()
    } else {
        format!("; its last lines:\n{tail}")
    };
    Failure::new(format!(
        "step `{}` ({}) {}{said}",
        task.name, task.run, done.ended
    ))
    .hint(format!(
        "all that it printed is in {}; the release is kept in {} and was not activated",
        d.layout.log(name).display(),
        d.layout.release(name).display()
    ))
}
