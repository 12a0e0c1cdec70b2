//! The current state of a host: drift, and for each app its pin, its quarantine and whether it serves.
//! Read-only, and limited to what the calling user may read.

use serde::Serialize;

use super::cron::{CronStatus, cron_jobs};
use super::preview::HiddenSteps;
use super::{ManifestSource, PassError, PassOptions, Selection, Session, apply, plan};
use crate::desired::{DesiredState, Sha};
use crate::notify::ChannelHealth;
use crate::ports::lock;
use crate::release::{self, Overrides, Pin, QuarantinedSha, ReleaseSpec, RunningStep};
use crate::report::Report;
use crate::resource::{Failure, FailureKind, Trial};
use crate::role::{Catalog, Resource};

/// Result of probing whether an app serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ProbeResult {
    /// `null`: nothing to probe, or permission denied.
    pub ok: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Whether an app serves its active release.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ServingStatus {
    /// Every process of its services runs from the active release.
    pub processes: ProbeResult,
    /// Its health check answers.
    pub health: ProbeResult,
}

/// State of one app beyond its row in the report.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct AppStatus {
    pub app: String,
    /// The active release; `null`: none, or unreadable.
    pub release: Option<String>,
    /// Its sha.
    #[serde(skip)]
    sha: Option<String>,
    /// `false`: each host takes up a new sha for itself (`rollout: none`); `null`: the app is not in the manifest, or
    /// the store is a folder, where there is nobody to ask.
    pub coordinated: Option<bool>,
    pub pin: Option<Pin>,
    pub quarantine: Vec<QuarantinedSha>,
    pub cron: Vec<CronStatus>,
    /// What the running pass is at in a release of the app.
    pub running: Option<RunningStep>,
    /// Since when load balancers are asked to take the host out, while a pass restarts services of the app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drained: Option<String>,
    /// `null`: no active release.
    pub serving: Option<ServingStatus>,
}

/// The current state of a host.
pub(crate) struct HostStatus {
    pub report: Report,
    pub apps: Vec<AppStatus>,
}

impl ProbeResult {
    fn from_results(results: impl Iterator<Item = Result<(), Failure>>) -> ProbeResult {
        let mut probe = ProbeResult {
            ok: None,
            why: None,
        };
        for result in results {
            match result {
                Ok(()) if probe.ok.is_none() && probe.why.is_none() => probe.ok = Some(true),
                Ok(()) => {}
                Err(failure) => {
                    let why = Some(failure.summary());
                    if !failure.is(FailureKind::PermissionDenied) {
                        return ProbeResult {
                            ok: Some(false),
                            why,
                        };
                    }
                    probe = ProbeResult { ok: None, why };
                }
            }
        }
        probe
    }
}

impl Session {
    /// Compares the host with its last known desired state, without asking the store, and probes whether its
    /// apps serve.
    pub(crate) fn status(&self) -> Result<HostStatus, PassError> {
        let started = self.start_time();
        let (catalog, desired) = self.compile(ManifestSource::LastGood, &PassOptions::default())?;
        let mut plan = plan::build_plan(&catalog, &self.host, &Selection::all());
        plan.mark_failing(&apply::known_failing_checks(&catalog, &self.host));
        let mut notes = [plan.warnings.as_slice(), &plan.notes].concat();
        let channels = ChannelHealth::load(&self.host.root);
        notes.extend(channels.warnings().map(|problem| problem.to_string()));
        let hidden = HiddenSteps::take(&mut plan);
        notes.extend(hidden.note("status"));
        let apps = catalog.releases();
        let apps = apps.map(|(resource, spec)| AppStatus {
            coordinated: self.is_coordinated(&desired, &spec.app),
            ..self.app_status(resource, spec, &catalog)
        });
        let apps: Vec<AppStatus> = apps.collect();
        // The plan has no sha for a release whose rendered files this user may not read; take it from the
        // active release.
        for app in &apps {
            let sha = plan.deployed_shas.entry(app.app.clone()).or_default();
            *sha = sha.take().or_else(|| app.sha.clone());
        }
        let heading = self.report_header(started, plan.deployed_shas.clone(), &desired, notes);
        let mut report = Report::from_plan(heading, &catalog, &plan);
        hidden.subtract_from(&mut report);
        if let Some(why) = self.publish_error() {
            report.mark_unpublished(why);
        }
        Ok(HostStatus { report, apps })
    }

    /// Whether the hosts of an app ask each other before they take up a new sha.
    fn is_coordinated(&self, desired: &DesiredState, app: &str) -> Option<bool> {
        let app = desired.apps.get(app)?;
        (!self.settings.store.is_local()).then(|| app.rollout.policy().is_some())
    }

    fn app_status(&self, resource: &Resource, spec: &ReleaseSpec, catalog: &Catalog) -> AppStatus {
        let layout = spec.layout();
        // The report already names unreadable files, with the reason.
        let overrides = Overrides::load(&self.host, &layout).unwrap_or_default();
        let active = release::active(&self.host, &layout, spec.keep_releases);
        let active = active.ok().flatten();
        let serving = active.as_ref().map(|active| {
            let trial = Trial {
                release: active.name.clone(),
                crashed: None,
                deploy_to: layout.deploy_to().to_owned(),
                current: layout.current(),
            };
            let users = catalog.dependents(&resource.id);
            let services = users.filter_map(|user| user.body.service());
            ServingStatus {
                processes: ProbeResult::from_results(
                    services.map(|service| service.check_runs_from(&self.host, &trial)),
                ),
                health: self.probe_health(spec, active.sha.as_ref(), resource, catalog),
            }
        });
        let holder = lock::read_holder(&self.host.root);
        AppStatus {
            running: holder.and_then(|pass| release::running_step(&self.host, &layout, pass.since)),
            coordinated: None,
            drained: release::describe_drain(&self.host.root, &spec.app),
            app: spec.app.clone(),
            sha: active
                .as_ref()
                .and_then(|active| Some(active.sha_for(spec.wanted.as_ref())?.to_string())),
            release: active.map(|active| active.name),
            pin: overrides.effective_pin(spec.wanted.as_ref()).cloned(),
            quarantine: overrides.quarantine,
            cron: cron_jobs(catalog, spec, &self.host),
            serving,
        }
    }
}

impl Session {
    fn probe_health(
        &self,
        spec: &ReleaseSpec,
        sha: Option<&Sha>,
        resource: &Resource,
        catalog: &Catalog,
    ) -> ProbeResult {
        let runs_as = || catalog.runs_as(&resource.id, &self.host);
        ProbeResult::from_results(
            release::check_health(spec, sha, &self.host, &runs_as).into_iter(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denied_probe_is_neither_success_nor_failure() {
        let denied = || Err(Failure::permission_denied("root may"));
        let failed = || Err(Failure::new("puma is failed\nlast words"));
        let proof =
            |results: Vec<Result<(), Failure>>| ProbeResult::from_results(results.into_iter()).ok;
        assert_eq!(proof(vec![]), None);
        assert_eq!(proof(vec![Ok(()), Ok(())]), Some(true));
        assert_eq!(proof(vec![Ok(()), denied(), Ok(())]), None);
        assert_eq!(proof(vec![denied(), failed(), Ok(())]), Some(false));
        let reason = ProbeResult::from_results([failed()].into_iter()).why;
        assert_eq!(reason.as_deref(), Some("puma is failed"));
    }
}
