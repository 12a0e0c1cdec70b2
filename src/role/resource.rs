//! One resource of a catalog.

use super::draft::Draft;
use crate::kind::AnyResource;
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
        }
    }

    /// The app that it deploys.
    pub(crate) fn app(&self) -> Option<&str> {
        self.body.release().map(|release| release.app.as_str())
    }

    /// Fulfills one of its duties.
    pub(crate) fn fulfill(
        &self,
        duty: Duty,
        fingerprints: &[&str],
        host: &Host,
    ) -> Result<DutyOutcome, Failure> {
        let _operation = self.body.begin_operation();
        let body = self.body.triggered();
        let body = body.ok_or_else(|| Failure::new(format!("{} cannot {duty}", self.id)))?;
        body.fulfill(duty, fingerprints, host)
    }
}
