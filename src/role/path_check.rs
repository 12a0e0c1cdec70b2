//! Each path belongs to one resource of a node.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::resource::Resource;
use crate::problem::Problem;

pub(super) fn check_unique_paths(resources: &[Resource], problems: &mut Vec<Problem>) {
    let mut owners: HashMap<OsString, &Resource> = HashMap::with_capacity(resources.len());
    for resource in resources {
        let Some(path) = resource.body.owned_path() else {
            continue;
        };
        // Normalizes spellings of the same path (`//`, a trailing slash).
        let path: PathBuf = path.components().collect();
        if let Some(first) = owners.get(path.as_os_str()) {
            problems.push(
                Problem::new(format!(
                    "{} is already owned by {} ({})",
                    path.display(),
                    first.id,
                    first.at
                ))
                .at(&resource.at)
                .resource(resource.id.clone())
                .hint("one path belongs to one resource"),
            );
        } else {
            owners.insert(path.into_os_string(), resource);
        }
    }

    check_removed_paths(resources, &owners, problems);
}

/// No resource may remove what another one owns: each pass would do both.
fn check_removed_paths(
    resources: &[Resource],
    owners: &HashMap<OsString, &Resource>,
    problems: &mut Vec<Problem>,
) {
    for resource in resources {
        let removed = resource.body.removed_path();
        let removed: Option<PathBuf> = removed.map(|path| path.components().collect());
        let Some(path) = removed else {
            continue;
        };
        if let Some(owner) = owners.get(path.as_os_str()) {
            problems.push(
                Problem::new(format!(
                    "{} is owned by {} ({}), so nothing may replace it",
                    path.display(),
                    owner.id,
                    owner.at
                ))
                .at(&resource.at)
                .resource(resource.id.clone())
                .field("replaces"),
            );
        }
    }
}
