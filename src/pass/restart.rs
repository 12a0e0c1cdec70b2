//! A restart of services of an app, without a deployment.

use super::{Apps, DeployedApp, PassError, Session, plan};
use crate::apply::{self, AppRestart, Event, RestartParams};
use crate::plan::Selection;
use crate::release::ActiveRelease;
use crate::role::Resource;

impl Session {
    /// Restarts these services of an app, in the order of a pass, and waits until the app serves. Asks for no new sha.
    /// The caller holds the lock.
    pub(crate) fn restart(
        &self,
        apps: &Apps,
        app: DeployedApp<'_>,
        release: &ActiveRelease,
        services: &[&Resource],
        by: &str,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<AppRestart, PassError> {
        let catalog = &apps.catalog;
        let started = self.host.clock.now();
        let _span = tracing::info_span!("pass", run = crate::report::run_name(started)).entered();
        self.end_drains();
        // Files that a killed pass changed and did not check must not be read by what starts now.
        for note in apply::recover_interrupted(catalog, &self.host)? {
            tracing::warn!("{note}");
        }
        let plan = plan::build_plan(catalog, &self.host, &Selection::only(catalog, app.id));
        let resource = catalog
            .find(app.id)
            .expect("the app was found in this catalog");
        let params = RestartParams {
            catalog,
            plan: &plan,
            resource,
            spec: app.spec,
            release,
            services,
            by,
            on_event,
        };
        let restarted = apply::restart(params, &self.host);
        self.end_drains();
        Ok(restarted?)
    }
}
