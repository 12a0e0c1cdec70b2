//! The resources that a pass covers, as its options say.

use super::error::PassError;
use crate::plan::Selection;
use crate::problem::{Problem, nearest};
use crate::role::Catalog;

pub(super) fn select(catalog: &Catalog, only: Option<&str>) -> Result<Selection, PassError> {
    let Some(id) = only else {
        return Ok(Selection::all());
    };
    if catalog.find(id).is_some() {
        return Ok(Selection::only(catalog, id));
    }
    let known = || {
        catalog
            .resources
            .iter()
            .map(|resource| resource.id.as_str())
    };
    let problem = Problem::new(format!("--only: there is no resource `{id}`"));
    Err(PassError::Usage(Box::new(match nearest(id, known()) {
        Some(near) => problem.hint(format!("did you mean `{near}`?")),
        None => problem.hint(list_some(&known().collect::<Vec<_>>())),
    })))
}

/// "there are `a`, `b` and 3 more": enough to show the form of the ids.
pub(super) fn list_some(ids: &[&str]) -> String {
    let shown: Vec<String> = ids.iter().take(8).map(|id| format!("`{id}`")).collect();
    let more = ids.len().saturating_sub(shown.len());
    match more {
        0 => format!("there are {}", shown.join(", ")),
        more => format!("there are {} and {more} more", shown.join(", ")),
    }
}
