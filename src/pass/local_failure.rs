//! Says in the rollouts of this host's apps why it does not take what is wanted, where that is its own affair: a build that
//! fails, a full disk, a package that cannot be installed.

use super::Session;
use super::apps::deployed_apps;
use crate::desired::Sha;
use crate::fleet::rollout::{AppPosition, LocalFailure};
use crate::release::{self, Overrides, ReleaseSpec};
use crate::report::{AppState, Report};
use crate::role::Catalog;

impl Session {
    /// Lists the failures of this host in the registers of its apps, and removes those that are over.
    pub(super) fn list_local_failures(&self, catalog: &Catalog, report: &Report) {
        let rollouts = self.rollouts.borrow();
        for joined in rollouts.writable().filter(|joined| !joined.is_over.get()) {
            let rollout = &joined.rollout;
            let app = deployed_apps(catalog).find(|app| app.spec.app == rollout.app);
            let Some(app) = app else {
                continue;
            };
            let known = joined.position.get();
            let position = known.unwrap_or_else(|| self.position(app.spec, &rollout.sha));
            let failure = match position {
                AppPosition::Wanted => None,
                _ => self.local_failure(app.id, app.spec, &rollout.sha, report),
            };
            // The report has the failure itself, and the settling what is wrong with the store.
            if let Err(error) = rollout.list_failure(failure.as_ref()) {
                tracing::debug!("{}: its rollout: {error}", rollout.app);
            }
        }
    }

    /// Why this host does not take a sha for reasons of its own; `None`: there is none.
    pub(super) fn local_failure(
        &self,
        id: &str,
        spec: &ReleaseSpec,
        sha: &Sha,
        report: &Report,
    ) -> Option<LocalFailure> {
        let app = report.app(&spec.app)?;
        // A sha that failed here stays away because this host quarantined it; one that failed elsewhere, because of
        // the environment's quarantine, which says so itself.
        let is_quarantined_here = || {
            let overrides = Overrides::load(&self.host, &spec.layout()).ok();
            overrides.is_some_and(|known| known.find_quarantined(sha).is_some())
        };
        let is_own = match app.state {
            AppState::Failed => true,
            AppState::RolledBack => is_quarantined_here(),
            _ => false,
        };
        if !is_own {
            return None;
        }
        let mut rows = report.resources.iter();
        let of_release = rows.find(|row| row.id == id && row.why.is_some());
        let message = of_release.and_then(|row| row.why.as_deref());
        // The record knows the stage, and a reason that stays the same while the release waits for its next attempt.
        let failed = message.and_then(|_| release::failed_stage(spec, sha, &self.host));
        let stage = failed.as_ref().map(|failed| failed.name);
        let reason = match &failed {
            Some(failed) => &failed.why,
            None => app.why.as_ref()?,
        };
        let log = message.filter(|message| message.contains('\n'));
        let log = log.unwrap_or_default();
        Some(LocalFailure::new(self.node(), stage, reason, log))
    }
}
