//! The apps of a host by name, for commands that act on one app instead of the whole host.

use super::{ManifestSource, PassError, PassOptions, QuarantineLift, Session, desired, list_some};
use crate::plan::Selection;
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

    /// The apps with the wanted shas from the store; `ignore_holds` disregards the holds of the manifest. The
    /// caller holds the lock.
    pub(crate) fn apps_from_store(&self, ignore_holds: bool) -> Result<Apps, PassError> {
        let ask = desired::ReadOptions {
            force: false,
            save_last_good: true,
        };
        let options = PassOptions {
            ignore_holds,
            ..PassOptions::default()
        };
        let (catalog, _) = self.compile(ManifestSource::Store(ask), &options)?;
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

    /// The services that run from the app, in the order of a pass.
    pub(crate) fn services(&self, app: DeployedApp<'_>) -> Vec<&Resource> {
        let dependents = self.catalog.dependents(app.id);
        dependents
            .filter(|dependent| dependent.body.service().is_some())
            .collect()
    }

    /// The service of this name, by its own name or by that of its resource, or all that run from the app;
    /// [`PassError::Usage`] if there is none.
    pub(crate) fn select_services(
        &self,
        app: DeployedApp<'_>,
        name: Option<&str>,
    ) -> Result<Vec<&Resource>, PassError> {
        let services = self.services(app);
        let app = &app.spec.app;
        if services.is_empty() {
            let problem = Problem::new(format!("no service runs from {app}"));
            let hint =
                "it only has files; what serves them, such as nginx, is no service of its own";
            return Err(PassError::Usage(Box::new(problem.hint(hint))));
        }
        let Some(name) = name else {
            return Ok(services);
        };
        let name_of = |resource: &&Resource| {
            let service = resource.body.service();
            service.map_or("", |service| service.name()).to_owned()
        };
        let wanted = |service: &&Resource| service.id == name || name_of(service) == name;
        if let Some(service) = services.iter().copied().find(wanted) {
            return Ok(vec![service]);
        }
        let names: Vec<String> = services.iter().map(name_of).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let problem = Problem::new(format!("{app} has no service `{name}`"));
        let hint = match nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => list_some(&names),
        };
        Err(PassError::Usage(Box::new(problem.hint(hint))))
    }

    /// The app of this name, or all of them.
    pub(crate) fn select(&self, name: Option<&str>) -> Result<Vec<DeployedApp<'_>>, PassError> {
        match name {
            Some(name) => Ok(vec![self.find(name)?]),
            None => Ok(self.all()),
        }
    }
}
