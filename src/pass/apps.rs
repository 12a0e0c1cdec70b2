//! The apps of a host by name, for commands that act on one app instead of the whole host.

use std::path::PathBuf;

use super::cron::{CronStatus, cron_jobs};
use super::selection::list_some;
use super::{ManifestSource, PassError, PassOptions, PolicyUse, QuarantineLift, Session, desired};
use crate::plan::Selection;
use crate::ports::Host;
use crate::problem::{Problem, nearest};
use crate::release::{self, ReleaseSpec};
use crate::role::{Catalog, Resource};

/// Every app of this host, as its roles describe it, with its wanted sha.
pub(crate) struct Apps {
    pub(super) catalog: Catalog,
}

/// One app.
#[derive(Clone, Copy)]
pub(crate) struct DeployedApp<'a> {
    /// The id of the resource that deploys it.
    pub id: &'a str,
    pub spec: &'a ReleaseSpec,
}

impl Session {
    /// The apps with their last known wanted shas. Does not ask the store and writes nothing.
    pub(crate) fn apps(&self) -> Result<Apps, PassError> {
        let (catalog, _) = self.compile(ManifestSource::LastGood, &PassOptions::default())?;
        Ok(Apps { catalog })
    }

    /// The apps with the wanted shas from the store. The caller holds the lock.
    pub(crate) fn apps_from_store(&self) -> Result<Apps, PassError> {
        let ask = desired::ReadOptions {
            force: false,
            save_last_good: true,
        };
        let source = ManifestSource::Store(ask, PolicyUse::InForce);
        let (catalog, _) = self.compile(source, &PassOptions::default())?;
        Ok(Apps { catalog })
    }

    /// Lifts the quarantine of the wanted shas, where one is in force. Returns notes for the report.
    pub(super) fn lift_quarantine(
        &self,
        lift: &QuarantineLift,
        catalog: &Catalog,
        selection: &Selection,
    ) -> Result<Vec<String>, PassError> {
        let mut notes = Vec::new();
        let selected = |app: &DeployedApp<'_>| selection.contains(app.id);
        for app in deployed_apps(catalog).filter(selected) {
            let lifted = release::lift_quarantine(app.spec, &self.host, &lift.by, &lift.reason);
            notes.extend(lifted.map_err(PassError::LiftQuarantine)?);
            notes.extend(self.lift_rollout_quarantine(&app.spec.app, lift));
        }
        if notes.is_empty() {
            notes.push("no wanted sha is quarantined on this host".into());
        }
        Ok(notes)
    }
}

pub(super) fn deployed_apps(catalog: &Catalog) -> impl Iterator<Item = DeployedApp<'_>> {
    catalog.releases().map(|(resource, spec)| DeployedApp {
        id: &resource.id,
        spec,
    })
}

impl Apps {
    pub(crate) fn all(&self) -> Vec<DeployedApp<'_>> {
        deployed_apps(&self.catalog).collect()
    }

    /// The app of this name; [`PassError::Usage`] if this host has none.
    pub(crate) fn find(&self, name: &str) -> Result<DeployedApp<'_>, PassError> {
        let all = self.all();
        if let Some(app) = all.iter().find(|app| app.spec.app == name) {
            return Ok(*app);
        }
        let names: Vec<&str> = all.iter().map(|app| app.spec.app.as_str()).collect();
        let problem = Problem::new(format!("this host has no app `{name}`"));
        let hint = match nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if names.is_empty() => "its roles deploy no app".into(),
            None => list_some(&names),
        };
        Err(PassError::Usage(Box::new(problem.hint(hint))))
    }

    /// The paths of all files that the roles write.
    pub(crate) fn written_files(&self) -> impl Iterator<Item = PathBuf> {
        let resources = self.catalog.resources.iter();
        let files =
            resources.filter(|resource| matches!(resource.body.kind(), "file" | "template"));
        files.filter_map(|resource| resource.body.owned_path())
    }

    /// Whether the roles describe a service of this name.
    pub(crate) fn has_service(&self, name: &str) -> bool {
        let mut resources = self.catalog.resources.iter();
        resources.any(|resource| {
            let service = resource.body.service();
            service.is_some_and(|service| service.name() == name)
        })
    }

    /// The services that run from the app, in the order of a pass.
    pub(crate) fn services(&self, app: DeployedApp<'_>) -> Vec<&Resource> {
        let dependents = self.catalog.dependents(app.id);
        dependents
            .filter(|dependent| dependent.body.service().is_some())
            .collect()
    }

    /// The cron jobs of the app.
    pub(crate) fn cron_jobs(&self, app: DeployedApp<'_>, host: &Host) -> Vec<CronStatus> {
        cron_jobs(&self.catalog, app.spec, host)
    }

    /// The services of this name that run from the app, or all of them. A service has the name of its process, that of its
    /// own and that of its resource. [`PassError::Usage`] if there is none.
    pub(crate) fn select_services(
        &self,
        app: DeployedApp<'_>,
        name: Option<&str>,
    ) -> Result<Vec<&Resource>, PassError> {
        let services = self.services(app);
        let mut jobs = self.catalog.cron_timers(app.spec);
        let app = &app.spec.app;
        if let Some(name) = name
            && let Some(job) = jobs.find(|job| is_called(job, name))
        {
            let problem = Problem::new(format!("`{name}` is a cron job, not a service"));
            let timer = job.body.service().map_or("", |service| service.name());
            let unit = timer.strip_suffix(".timer").unwrap_or(timer);
            let hint = format!("`systemctl start {unit}` runs it now");
            return Err(PassError::Usage(Box::new(problem.hint(hint))));
        }
        select_by_name(app, services, name)
    }

    /// The same of everything that prints: services, and cron jobs.
    pub(crate) fn select_logged(
        &self,
        app: DeployedApp<'_>,
        name: Option<&str>,
    ) -> Result<Vec<&Resource>, PassError> {
        let mut services = self.services(app);
        services.extend(self.catalog.cron_timers(app.spec));
        select_by_name(&app.spec.app, services, name)
    }

    /// The app of this name, or all of them.
    pub(crate) fn select(&self, name: Option<&str>) -> Result<Vec<DeployedApp<'_>>, PassError> {
        match name {
            Some(name) => Ok(vec![self.find(name)?]),
            None => Ok(self.all()),
        }
    }
}

/// The names of a service, as operators know it.
fn names_of(resource: &Resource) -> Vec<&str> {
    let service = resource.body.service();
    let names = service.map(|service| [service.process(), Some(service.name())]);
    let names = names.into_iter().flatten().flatten();
    names.chain([resource.id.as_str()]).collect()
}

fn is_called(resource: &Resource, name: &str) -> bool {
    names_of(resource).contains(&name)
}

fn select_by_name<'c>(
    app: &str,
    services: Vec<&'c Resource>,
    name: Option<&str>,
) -> Result<Vec<&'c Resource>, PassError> {
    if services.is_empty() {
        let problem = Problem::new(format!("no service runs from {app}"));
        let hint = "it only has files; what serves them, such as nginx, is no service of its own";
        return Err(PassError::Usage(Box::new(problem.hint(hint))));
    }
    let Some(name) = name else {
        return Ok(services);
    };
    let found = services.iter().copied().filter(|s| is_called(s, name));
    let found: Vec<&Resource> = found.collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let mut names: Vec<&str> = services
        .iter()
        .map(|service| names_of(service)[0])
        .collect();
    names.dedup();
    let problem = Problem::new(format!("{app} has no service `{name}`"));
    let hint = match nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => list_some(&names),
    };
    Err(PassError::Usage(Box::new(problem.hint(hint))))
}
