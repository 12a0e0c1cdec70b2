//! What reads the host without changing it, as any user: `plan`, and what a user may not inspect of a plan.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::selection::select;
use super::{ManifestSource, PassError, PassOptions, PolicyUse, Session};
use crate::apply;
use crate::desired::{self, DesiredState};
use crate::exit::Exit;
use crate::fleet::PeerSource;
use crate::plan::{self, Plan, PlannedOutcome};
use crate::report::Report;
use crate::resource::FailureKind;
use crate::role::{self, Placeholders, RenderedResource, RoleSources, SecretValues};
use crate::settings::PolicyFiles;

impl Session {
    /// Reports what a pass would do. Writes nothing and does not record the manifest's generation as acted
    /// on.
    pub(crate) fn plan(&self, options: &PassOptions) -> Result<Report, PassError> {
        let started = self.start_time();
        let ask = desired::ReadOptions {
            force: options.force,
            save_last_good: false,
        };
        let source = ManifestSource::Store(ask, PolicyUse::Preview);
        let (catalog, desired) = self.compile(source, options)?;
        let selection = select(&catalog, options.only.as_deref())?;
        let mut plan = plan::build_plan(&catalog, &self.host, &selection);
        plan.mark_failing(&apply::known_failing_checks(&catalog, &self.host));
        // In a sandbox the same user runs the passes, so what is denied fails there as well.
        let hidden = match self.host.root.is_ordinary_user() {
            true => HiddenSteps::take(&mut plan),
            false => HiddenSteps::default(),
        };
        let mut notes = plan.notes.clone();
        notes.extend(hidden.note("plan"));
        let heading = self.report_header(started, plan.deployed_shas.clone(), &desired, notes);
        let mut report = Report::from_plan(heading, &catalog, &plan);
        hidden.subtract_from(&mut report);
        // Nobody may take a plan of half the host for a promise.
        if report.counts.not_inspected > 0 {
            report.outcome = report.outcome.merge(Exit::Failed);
        }
        Ok(report)
    }

    /// The resources of this node with another policy bundle, or with none, as text. Asks nobody.
    pub(crate) fn render_with_policy(
        &self,
        policy: Option<Rc<PolicyFiles>>,
    ) -> Result<Vec<RenderedResource>, PassError> {
        let settings = self.settings.with_policy(policy)?;
        let mut peers = PeerSource::last_known(&self.settings, &self.host);
        let root = self.root_text();
        let mut sources = RoleSources {
            settings: &settings,
            facts: &self.facts,
            peers: &mut peers,
            root: &root,
        };
        Ok(role::render_resources(&mut sources)?)
    }

    /// Validates roles, templates and settings without inspecting the host or asking the store. Returns the
    /// number of resources.
    pub(crate) fn validate(&self) -> Result<usize, PassError> {
        let mut peers = PeerSource::last_known(&self.settings, &self.host);
        let root = self.root_text();
        let mut sources = RoleSources {
            settings: &self.settings,
            facts: &self.facts,
            peers: &mut peers,
            root: &root,
        };
        let expanded = sources.expand(&SecretValues::placeholders(Placeholders::First))?;
        self.open_store()?;
        let desired = DesiredState::empty();
        let drafted = expanded.resolve(&desired)?;
        let checked = drafted.check_secrets(&desired, &mut sources)?;
        Ok(checked.resource_count())
    }
}

/// The resources that the calling user may not inspect. A pass of root has none.
#[derive(Default)]
pub(super) struct HiddenSteps {
    hidden: usize,
    total: usize,
}

impl HiddenSteps {
    /// Takes them out of the plan: they are not known to be wrong.
    pub(super) fn take(plan: &mut Plan) -> HiddenSteps {
        let mut hidden = BTreeSet::new();
        for step in &mut plan.steps {
            if matches!(&step.outcome, PlannedOutcome::Failed(failure) if failure.is(FailureKind::PermissionDenied))
            {
                step.outcome = PlannedOutcome::Unchanged;
                hidden.insert(step.id.clone());
            }
        }
        // An uninspected dependency looks missing, and thus as if it caused an obligation.
        for step in &mut plan.steps {
            step.obligations.retain_mut(|obligation| {
                obligation.causes.retain(|cause| !hidden.contains(cause));
                !obligation.causes.is_empty()
            });
        }
        HiddenSteps {
            hidden: hidden.len(),
            total: plan.steps.len(),
        }
    }

    /// A warning that names the command that shows the rest.
    pub(super) fn note(&self, command: &str) -> Option<String> {
        let (hidden, total) = (self.hidden, self.total);
        (hidden > 0).then(|| {
            format!("only root can inspect {hidden} of {total} resources: `sudo trueup {command}`")
        })
    }

    /// Counts them as not inspected instead of right.
    pub(super) fn subtract_from(&self, report: &mut Report) {
        report.counts.right = report.counts.right.saturating_sub(self.hidden);
        report.counts.not_inspected = self.hidden;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::owed::{Obligation, Stamps};
    use crate::plan::PlanStep;
    use crate::resource::{Duty, Failure};

    fn step(id: &str, outcome: PlannedOutcome, causes: &[&str]) -> PlanStep {
        let obligation = Obligation {
            duty: Duty::Restart,
            causes: causes.iter().map(|cause| (*cause).to_owned()).collect(),
        };
        PlanStep {
            id: id.into(),
            outcome,
            obligations: vec![obligation],
            run: None,
            record_outdated: false,
        }
    }

    #[test]
    fn step_that_only_root_can_inspect_is_neither_failed_nor_a_cause() {
        let denied = PlannedOutcome::Failed(Failure::permission_denied("only root"));
        let failed = PlannedOutcome::Failed(Failure::new("no space"));
        let mut plan = Plan {
            steps: vec![
                step("secret", denied, &["secret"]),
                step("disk", failed, &["disk"]),
                step("puma", PlannedOutcome::Unchanged, &["secret"]),
            ],
            stamps: Stamps::default(),
            deployed_shas: BTreeMap::new(),
            maintenance: Vec::new(),
            new_releases: Vec::new(),
            warnings: Vec::new(),
            notes: Vec::new(),
        };
        let hidden = HiddenSteps::take(&mut plan);
        assert_eq!(
            hidden.note("plan").unwrap(),
            "only root can inspect 1 of 3 resources: `sudo trueup plan`"
        );
        let is_failed = |step: &PlanStep| matches!(step.outcome, PlannedOutcome::Failed(_));
        let failed: Vec<bool> = plan.steps.iter().map(is_failed).collect();
        assert_eq!(failed, [false, true, false]);
        assert!(plan.steps[2].obligations.is_empty());
        assert!(HiddenSteps::take(&mut plan).note("plan").is_none());
    }
}
