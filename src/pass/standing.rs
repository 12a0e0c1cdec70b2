//! How a host stands right now: drift, and for each app what holds it and what proves that it serves.
//! Looks only, and as far as the user who asks may look.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{Options, PassError, Selection, Session, Source, plan};
use crate::desired::Sha;
use crate::plan::{Forecast, Plan};
use crate::release::{self, Barred, Orders, Pin, Spec};
use crate::report::Report;
use crate::resource::{Failure, Trial};
use crate::role::{Catalog, Resource};

/// What was looked at to see whether an app serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// `null`: there is nothing to look at, or it may not be looked at.
    pub ok: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Whether an app really serves what is active.
#[derive(Debug, Clone, Serialize)]
pub struct Serving {
    /// Every process of its services is in the active release.
    pub processes: Proof,
    /// Its health check answers.
    pub health: Proof,
}

/// What there is to know of one app besides its row in the report.
#[derive(Debug, Clone, Serialize)]
pub struct AppStanding {
    pub app: String,
    /// The active release; `null`: none, or it cannot be told.
    pub release: Option<String>,
    /// Of which it is.
    #[serde(skip)]
    sha: Option<String>,
    pub pin: Option<Pin>,
    pub quarantine: Vec<Barred>,
    /// `null`: nothing is active.
    pub serving: Option<Serving>,
}

/// A host as it is now.
pub struct Standing {
    pub report: Report,
    pub apps: Vec<AppStanding>,
}

impl Proof {
    fn of(results: impl Iterator<Item = Result<(), Failure>>) -> Proof {
        let mut proof = Proof {
            ok: None,
            why: None,
        };
        for result in results {
            match result {
                Ok(()) if proof.ok.is_none() && proof.why.is_none() => proof.ok = Some(true),
                Ok(()) => {}
                Err(failure) => {
                    let why = failure.message.lines().next().map(str::to_owned);
                    if !failure.denied {
                        return Proof {
                            ok: Some(false),
                            why,
                        };
                    }
                    proof = Proof { ok: None, why };
                }
            }
        }
        proof
    }
}

impl Session {
    /// How the host compares with what was last known to be wanted, without asking the store, and
    /// whether its apps serve.
    pub fn standing(&self) -> Result<Standing, PassError> {
        let started = self.begin();
        let (catalog, desired) = self.describe(Source::Nobody, &Options::default())?;
        let mut plan = plan::build(&catalog, &self.host, &Selection::all());
        let mut notes = plan.warnings.clone();
        match unseen(&mut plan) {
            0 => {}
            unseen => notes.push(format!(
                "{unseen} of {} resources can be looked at only by root",
                plan.steps.len()
            )),
        }
        let apps = catalog.resources.iter().filter_map(|resource| {
            let spec = resource.body.spec().downcast_ref::<Spec>()?;
            Some(self.app(resource, spec, &catalog))
        });
        let apps: Vec<AppStanding> = apps.collect();
        // A release whose rendered files may not be looked at is told of all the same.
        for app in &apps {
            let seen = plan.shas.entry(app.app.clone()).or_default();
            *seen = seen.take().or_else(|| app.sha.clone());
        }
        let heading = self.heading(started, plan.shas.clone(), &desired, notes);
        let mut report = Report::of_plan(heading, &catalog, &plan);
        if let Some(why) = self.untold() {
            report.is_untold(why);
        }
        Ok(Standing { report, apps })
    }

    fn app(&self, resource: &Resource, spec: &Spec, catalog: &Catalog) -> AppStanding {
        let layout = spec.layout();
        // What cannot be read is in the report already, with why.
        let orders = Orders::load(&self.host, &layout).unwrap_or_default();
        let active = release::active(&self.host, &layout, spec.keep_releases);
        let active = active.ok().flatten();
        let serving = active.as_ref().map(|active| {
            let of_it = Trial {
                release: active.name.clone(),
                deploy_to: layout.deploy_to().to_owned(),
                current: layout.current(),
            };
            let users = catalog.users(&resource.id);
            Serving {
                processes: Proof::of(users.map(|user| user.body.runs_from(&self.host, &of_it))),
                health: self.health(spec, active.sha.as_ref(), resource, catalog),
            }
        });
        AppStanding {
            app: spec.app.clone(),
            sha: active
                .as_ref()
                .and_then(|active| Some(active.sha.as_ref()?.to_string())),
            release: active.map(|active| active.name),
            pin: orders.pinned(spec.wanted.as_ref()).cloned(),
            quarantine: orders.quarantine,
            serving,
        }
    }
}

impl Session {
    fn health(
        &self,
        spec: &Spec,
        sha: Option<&Sha>,
        resource: &Resource,
        catalog: &Catalog,
    ) -> Proof {
        let runs_as = || catalog.runs_as(&resource.id, &self.host);
        Proof::of(release::asked(spec, sha, &self.host, &runs_as).into_iter())
    }
}

/// Takes out of the plan what the user who asks may not look at; how many that are.
fn unseen(plan: &mut Plan) -> usize {
    let mut unseen = BTreeSet::new();
    for step in &mut plan.steps {
        if matches!(&step.forecast, Forecast::Failed(failure) if failure.denied) {
            step.forecast = Forecast::Right;
            unseen.insert(step.id.clone());
        }
    }
    // What is not seen looks as if it were gone, and so as if it were owed.
    for step in &mut plan.steps {
        step.debts.retain_mut(|debt| {
            debt.causes.retain(|cause| !unseen.contains(cause));
            !debt.causes.is_empty()
        });
    }
    unseen.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denied_probe_is_neither_success_nor_failure() {
        let denied = || Err(Failure::denied("root may"));
        let failed = || Err(Failure::new("puma is failed\nlast words"));
        let proof = |results: Vec<Result<(), Failure>>| Proof::of(results.into_iter()).ok;
        assert_eq!(proof(vec![]), None);
        assert_eq!(proof(vec![Ok(()), Ok(())]), Some(true));
        assert_eq!(proof(vec![Ok(()), denied(), Ok(())]), None);
        assert_eq!(proof(vec![denied(), failed(), Ok(())]), Some(false));
        let said = Proof::of([failed()].into_iter()).why;
        assert_eq!(said.as_deref(), Some("puma is failed"));
    }
}
