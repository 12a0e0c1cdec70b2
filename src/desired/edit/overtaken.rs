//! Apps that somebody else moved between the decision to publish and the write.

use super::request::{EditError, PublishRequest, ShaChange};
use crate::problem::Problem;

/// The changes that would replace another sha than the request relied on.
fn overtaken<'a>(
    order: &'a PublishRequest,
    changes: &'a [ShaChange],
) -> impl Iterator<Item = &'a ShaChange> {
    changes.iter().filter(|one| {
        let relied_on = order.relied_on.get(&one.app);
        relied_on.is_some_and(|sha| *sha != one.from) && one.from.as_ref() != Some(&one.to)
    })
}

/// Refuses them if the request asks for that. Returns warnings otherwise.
pub(super) fn check_overtaken(
    order: &PublishRequest,
    changes: &[ShaChange],
) -> Result<Vec<Problem>, EditError> {
    let moved: Vec<&ShaChange> = overtaken(order, changes).collect();
    if order.refuses_overtaken && !moved.is_empty() {
        return Err(EditError::Overtaken(moved.into_iter().cloned().collect()));
    }
    let warning = |one: &ShaChange| {
        let (environment, app) = (&order.environment, &one.app);
        let what = match &one.from {
            Some(sha) => format!("published {} of {app}", sha.short()),
            None => format!("removed {app}"),
        };
        Problem::new(format!(
            "somebody else {what} meanwhile, and {} replaces it",
            one.to.short()
        ))
        .hint(format!(
            "`trueup history {environment} {app}` shows who it was"
        ))
    };
    Ok(moved.into_iter().map(warning).collect())
}
