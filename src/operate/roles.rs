//! Lists the roles that a node can have, and describes one.

use serde::Serialize;

use super::CommandError;
use crate::exit::Exit;
use crate::pass::Paths;
use crate::problem::Problem;
use crate::role::{self, RoleReference, RoleSummary};
use crate::settings::Lookup;

/// The document of `roles list --output`.
#[derive(Debug, Serialize)]
pub(crate) struct RoleList {
    version: u32,
    pub outcome: Exit,
    pub roles: Vec<RoleSummary>,
    /// What is wrong with roles that cannot be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Problem>,
}

/// The document of `roles show --output`.
#[derive(Debug, Serialize)]
pub(crate) struct RoleDocument {
    version: u32,
    #[serde(flatten)]
    pub role: RoleReference,
}

/// Lists the roles beside the settings and the shipped ones. Needs no settings.
pub(crate) fn list(paths: &Paths) -> Result<RoleList, CommandError> {
    let lookup = lookup(paths)?;
    let (roles, errors) = role::available_roles(&lookup, &paths.share);
    let outcome = match errors.is_empty() {
        true => Exit::Converged,
        false => Exit::BadInput,
    };
    Ok(RoleList {
        version: crate::report::VERSION,
        outcome,
        roles,
        errors,
    })
}

/// Describes one role.
pub(crate) fn show(paths: &Paths, name: &str) -> Result<RoleDocument, CommandError> {
    let lookup = lookup(paths)?;
    let is_missing = !lookup
        .names("roles", ".yml")
        .iter()
        .any(|known| known == name);
    let role =
        role::describe_role(&lookup, &paths.share, name).map_err(|problem| match is_missing {
            true => CommandError::Usage(problem.hint("`trueup roles` lists them")),
            false => CommandError::input(problem),
        })?;
    Ok(RoleDocument {
        version: crate::report::VERSION,
        role,
    })
}

fn lookup(paths: &Paths) -> Result<Lookup, CommandError> {
    Lookup::for_config(&paths.config, &paths.share).map_err(CommandError::input)
}
