//! A person's command in a release, as its steps are run.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::found::revision;
use super::record::{self, Record};
use super::rollback::{Refused, unknown};
use super::{Deployment, Spec, run};
use crate::ports::Host;
use crate::ports::exec::Command;
use crate::resource::Failure;

/// What `STAGE` says in it.
const STAGE: &str = "exec";

/// What a command at a terminal has to know of it.
const TERMINAL: [&str; 3] = ["TERM", "COLORTERM", "NO_COLOR"];

/// The command, ready to be run in the active release or in the one that is named, as the release's
/// user. `terminal` is where it may be told of the terminal: the caller's own environment.
pub fn inside(
    spec: &Spec,
    host: &Host,
    release: Option<&str>,
    argv: Vec<OsString>,
    terminal: impl Fn(&str) -> Option<OsString>,
) -> Result<Command, Refused> {
    let layout = spec.layout();
    let record = Record::load(host, &layout)?;
    let active = record::current(host, &layout)?;
    let name = match (release, active) {
        (Some(name), _) => record
            .find(name)
            .map(|entry| entry.name.clone())
            .ok_or_else(|| unknown(&spec.app, &record, name))?,
        (None, Some(active)) => active,
        (None, None) => {
            let failure = Failure::new(format!("no release of {} is active yet", spec.app));
            return Err(Refused::Asked(
                failure.hint("`trueup releases` shows what there is"),
            ));
        }
    };
    let known = record.find(&name).map(|entry| entry.sha.clone());
    let sha = known.or_else(|| revision(host, &layout, &name));
    let sha = sha
        .ok_or_else(|| Failure::new(format!("it cannot be told of which sha release {name} is")))?;
    let mut d = Deployment::new(spec, &sha, host)?;
    d.previous = record.before(&name).map(|entry| entry.sha.clone());
    let place = d.layout.release(&name);
    if host.root.meta(&place).map_err(Failure::from)?.is_none() {
        return Err(Failure::new(format!("{} is not there", place.display())).into());
    }
    let mut command = Command::new(argv);
    let identity = run::identity(&d, spec.user.as_deref())?;
    command.env = run::environment(&d, &place, STAGE, &BTreeMap::new(), identity.as_ref());
    for key in TERMINAL {
        if let Some(value) = terminal(key) {
            command.env.entry(key.into()).or_insert(value);
        }
    }
    command.cwd = Some(host.root.outside(&place));
    let user = identity.as_ref().map_or("root", |user| &user.name);
    let uid = identity.as_ref().map_or(0, |user| user.uid);
    if host.root.is_real() && !host.root.privileged() && uid != host.root.user() {
        let failure = Failure::new(format!("commands of {} run as `{user}`", spec.app));
        return Err(Refused::Asked(
            failure.hint(format!("`sudo trueup exec …`, or as `{user}` itself")),
        ));
    }
    command.umask = spec.umask();
    command.identity = identity.filter(|_| host.root.privileged());
    Ok(command)
}
