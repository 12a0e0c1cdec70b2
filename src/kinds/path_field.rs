//! Paths in the fields of a spec.

use std::path::Path;

use crate::ports::root::Root;
use crate::problem::Problem;

/// Rejects a path that no resource can have, before the host is inspected.
pub(super) fn validate_path(field: &str, path: &Path) -> Result<(), Problem> {
    Root::check_path(path).map_err(|error| Problem::new(error.to_string()).field(field))
}
