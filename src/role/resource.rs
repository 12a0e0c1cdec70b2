//! One resource of a catalog.

use super::draft::Draft;
use crate::kind::{AnyResource, Observation};
use crate::ports::Host;
use crate::problem::Location;
use crate::resource::{Duty, DutyOutcome, Failure, Trigger};

/// One resource, ready to be planned.
pub(crate) struct Resource {
    pub id: String,
    pub at: Location,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "a test lists what each role owns")
    )]
    pub role: String,
    pub item: Option<String>,
    /// With full ids.
    pub triggers: Vec<Trigger>,
    /// Full ids of the resources without which this one is not touched.
    pub requires: Vec<String>,
    pub body: Box<dyn AnyResource>,
    /// Whether another resource has a trigger on it.
    pub watched: bool,
    /// Why a secret that it needs has no value: then it is not applied.
    pub unresolved: Option<Failure>,
}

impl Resource {
    pub(super) fn from_draft(
        draft: Draft,
        triggers: Vec<Trigger>,
        requires: Vec<String>,
    ) -> Resource {
        Resource {
            id: draft.id,
            at: draft.at,
            role: draft.role,
            item: draft.item,
            triggers,
            requires,
            body: draft.body,
            watched: false,
            unresolved: draft.unresolved,
        }
    }

    /// The app that it deploys.
    pub(crate) fn app(&self) -> Option<&str> {
        self.body.release().map(|release| release.app.as_str())
    }

    /// Inspects it. Without the secrets that it needs, only a path: so what depends on it sees what is on disk, and the
    /// condition of a command does not run without its environment.
    pub(crate) fn inspect<'r>(&'r self, host: &Host) -> Result<Box<dyn Observation + 'r>, Failure> {
        match &self.unresolved {
            Some(failure) if self.body.owned_path().is_none() => Err(failure.clone()),
            _ => self.body.inspect(host),
        }
    }

    /// Fulfills one of its duties.
    pub(crate) fn fulfill(
        &self,
        duty: Duty,
        fingerprints: &[&str],
        host: &Host,
    ) -> Result<DutyOutcome, Failure> {
        if let Some(failure) = &self.unresolved {
            return Err(failure.clone());
        }
        let _operation = self.body.begin_operation();
        let body = self.body.triggered();
        let body = body.ok_or_else(|| Failure::new(format!("{} cannot {duty}", self.id)))?;
        body.fulfill(duty, fingerprints, host)
    }
}
