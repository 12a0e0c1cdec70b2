//! Puts an app into maintenance, and takes it out again: for an operator, or at the end that the operator set.

use crate::ports::Host;
use crate::ports::lock::{self, MaintenanceLock};
use crate::release::app::spec::ReleaseSpec;
use crate::release::deployment::deployment_of_app;
use crate::release::record::maintenance::{Maintenance, apps_in_maintenance, maintenance_file};
use crate::release::stages::activate;
use crate::resource::Failure;

/// Puts an app into maintenance, or changes how it is. Keeps the beginning of one that is under way, and returns what
/// is in force now.
pub(crate) fn begin_maintenance(
    spec: &ReleaseSpec,
    host: &Host,
    mut wanted: Maintenance,
) -> Result<Maintenance, Failure> {
    let _lock = lock(host)?;
    if let Ok(Some(before)) = Maintenance::load(&host.root, &spec.app) {
        wanted.since = before.since;
    }
    wanted.save(&host.root, &spec.app)?;
    append_revisions_log(spec, host, &wanted.describe());
    Ok(wanted)
}

/// Ends the maintenance of an app, also if its file cannot be read. Returns whether there was one. `spec`: to log it.
pub(crate) fn end_maintenance(
    app: &str,
    spec: Option<&ReleaseSpec>,
    host: &Host,
    by: &str,
) -> Result<bool, Failure> {
    let _lock = lock(host)?;
    if host.root.meta(&maintenance_file(app))?.is_none() {
        return Ok(false);
    }
    Maintenance::remove(&host.root, app)?;
    if let Some(spec) = spec {
        append_revisions_log(spec, host, &format!("maintenance ended by {by}"));
    }
    Ok(true)
}

/// Ends each maintenance whose time is over, and restores the mode of the files, from which nginx reads whether an app
/// is drained. Returns a line for each that ended.
pub(crate) fn end_due_maintenance(host: &Host) -> Result<Vec<String>, Failure> {
    let root = &host.root;
    let mut lines = Vec::new();
    let apps = apps_in_maintenance(root)?;
    if apps.is_empty() {
        return Ok(lines);
    }
    let _lock = lock(host)?;
    for app in apps {
        // One that cannot be read is reported with its app, and ends by hand.
        let Ok(Some(found)) = Maintenance::load(root, &app) else {
            continue;
        };
        if found.is_over(host.clock.now()) {
            Maintenance::remove(root, &app)?;
            lines.push(format!(
                "{app}: its maintenance is over ({})",
                found.describe()
            ));
        } else if root
            .meta(&maintenance_file(&app))?
            .map(|meta| meta.mode & 0o777)
            != Some(found.mode())
        {
            found.save(root, &app)?;
        }
    }
    Ok(lines)
}

fn lock(host: &Host) -> Result<MaintenanceLock, Failure> {
    lock::lock_maintenance(&host.root)?.ok_or_else(|| {
        Failure::new("another trueup process is changing which apps are in maintenance")
            .hint("try again")
    })
}

/// The file is for people, and no reason to leave visitors without the page.
fn append_revisions_log(spec: &ReleaseSpec, host: &Host, line: &str) {
    match deployment_of_app(spec, host) {
        Ok(deployment) => activate::append_revisions_log(&deployment, &format!("trueup {line}")),
        Err(failure) => tracing::warn!("{}: {failure}", spec.app),
    }
}
