//! The apps of a host by name, for commands that are about one app and not about the whole host.

use super::{Lift, Options, PassError, Session, Source, desired, some_of};
use crate::plan::Selection;
use crate::problem::{Problem, nearest};
use crate::release::{self, Spec};
use crate::role::{Catalog, Resource};

/// Every app that is deployed to this host, as its roles describe it, with what is wanted of it.
pub struct Apps {
    catalog: Catalog,
}

/// One app.
#[derive(Clone, Copy)]
pub struct App<'a> {
    /// The id of the resource that deploys it.
    pub id: &'a str,
    pub spec: &'a Spec,
}

impl Session {
    /// The apps, with what was last known to be wanted. Asks nobody, writes nothing.
    pub fn apps(&self) -> Result<Apps, PassError> {
        let (catalog, _) = self.describe(Source::Nobody, &Options::default())?;
        Ok(Apps { catalog })
    }

    /// The apps, with what the store says is wanted now, `over_holds` as if it held nothing back. The
    /// caller holds the lock.
    pub fn apps_now(&self, over_holds: bool) -> Result<Apps, PassError> {
        let ask = desired::Ask {
            force: false,
            keep: true,
        };
        let options = Options {
            over_holds,
            ..Options::default()
        };
        let (catalog, _) = self.describe(Source::Store(ask), &options)?;
        Ok(Apps { catalog })
    }

    /// Lifts the quarantine of what is wanted, where there is one. Returns what to say of it.
    pub(super) fn lift(
        &self,
        lift: &Lift,
        catalog: &Catalog,
        selection: &Selection,
    ) -> Result<Vec<String>, PassError> {
        let mut notes = Vec::new();
        let selected = |app: &App<'_>| selection.holds(app.id);
        for app in apps_of(catalog).filter(selected) {
            let lifted = release::lift(app.spec, &self.host, &lift.by, &lift.reason);
            notes.extend(lifted.map_err(PassError::Ordered)?);
        }
        if notes.is_empty() {
            notes.push("nothing that is wanted is quarantined on this host".into());
        }
        Ok(notes)
    }
}

pub(super) fn apps_of(catalog: &Catalog) -> impl Iterator<Item = App<'_>> {
    catalog.resources.iter().filter_map(app)
}

fn app(resource: &Resource) -> Option<App<'_>> {
    let spec = resource.body.spec().downcast_ref::<Spec>()?;
    let id = resource.id.as_str();
    Some(App { id, spec })
}

impl Apps {
    pub fn all(&self) -> Vec<App<'_>> {
        apps_of(&self.catalog).collect()
    }

    /// The app of this name; [`PassError::Asked`] when this host has none.
    pub fn find(&self, name: &str) -> Result<App<'_>, PassError> {
        let all = self.all();
        if let Some(app) = all.iter().find(|app| app.spec.app == name) {
            return Ok(*app);
        }
        let names: Vec<&str> = all.iter().map(|app| app.spec.app.as_str()).collect();
        let problem = Problem::new(format!("this host has no app `{name}`"));
        let hint = match nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if names.is_empty() => "none of its roles deploys an app".into(),
            None => some_of(&names),
        };
        Err(PassError::Asked(Box::new(problem.hint(hint))))
    }

    /// The app of this name, or all of them.
    pub fn chosen(&self, name: Option<&str>) -> Result<Vec<App<'_>>, PassError> {
        match name {
            Some(name) => Ok(vec![self.find(name)?]),
            None => Ok(self.all()),
        }
    }
}
