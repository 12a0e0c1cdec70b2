//! What a role offers, for people: its parameters with their types, defaults and descriptions.

use std::path::Path;

use serde::Serialize;

use super::schema::{Role, load_with_included};
use super::value_schema::{ValueSchema, ValueType};
use crate::problem::Problem;
use crate::settings::Lookup;
use crate::yaml::Node;

/// Where a role comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RoleOrigin {
    /// With trueup.
    Shipped,
    /// From the folder beside the settings.
    Settings,
}

impl RoleOrigin {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            RoleOrigin::Shipped => "shipped",
            RoleOrigin::Settings => "settings",
        }
    }
}

/// One role that a node can have.
#[derive(Debug, Serialize)]
pub(crate) struct RoleSummary {
    pub name: String,
    pub origin: RoleOrigin,
    pub file: String,
    pub description: String,
    /// Roles whose resources come before its own.
    pub include: Vec<String>,
}

/// A parameter, or a setting of the items of `for_each`.
#[derive(Debug, Serialize)]
pub(crate) struct ParameterReference {
    pub name: String,
    #[serde(rename = "type")]
    pub value_type: ValueType,
    pub required: bool,
    pub default: serde_json::Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub one_of: Vec<String>,
    pub description: String,
}

/// The items of a role's `for_each`.
#[derive(Debug, Serialize)]
pub(crate) struct ItemReference {
    /// The parameter that has them.
    pub parameter: String,
    /// The name of one of them in the role.
    pub name: String,
    pub settings: Vec<ParameterReference>,
}

/// Everything that a role lets operators set.
#[derive(Debug, Serialize)]
pub(crate) struct RoleReference {
    #[serde(flatten)]
    pub summary: RoleSummary,
    pub parameters: Vec<ParameterReference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<ItemReference>,
    /// The parameters of the roles that it includes, by role.
    pub included: Vec<IncludedParameters>,
}

/// The parameters that a role inherits from one that it includes.
#[derive(Debug, Serialize)]
pub(crate) struct IncludedParameters {
    pub role: String,
    pub parameters: Vec<ParameterReference>,
}

/// The roles that a node can have, by name, and what is wrong with those that cannot be read.
pub(crate) fn available_roles(lookup: &Lookup, share: &Path) -> (Vec<RoleSummary>, Vec<Problem>) {
    let (mut roles, mut problems) = (Vec::new(), Vec::new());
    for name in lookup.names("roles", ".yml") {
        match Role::load(lookup, &name) {
            Ok(role) => roles.push(summary(&role, share)),
            Err(problem) => problems.push(problem),
        }
    }
    (roles, problems)
}

/// Describes one role.
pub(crate) fn describe_role(
    lookup: &Lookup,
    share: &Path,
    name: &str,
) -> Result<RoleReference, Problem> {
    let roles = load_with_included(lookup, &[name.to_owned()])?;
    let Some((role, included)) = roles.split_last() else {
        return Err(Problem::new(format!("there is no role `{name}`")));
    };
    let own = role.map_field("parameters")?;
    let settings = role.map_field("defaults")?;
    let items = role.for_each.as_ref().map(|parameter| ItemReference {
        parameter: parameter.clone(),
        name: role.item.clone(),
        settings: references(role, &settings, &format!("{}.", role.item)),
    });
    let mut inherited = Vec::new();
    for role in included {
        let mut parameters = role.map_field("parameters")?;
        parameters.retain(|name| own.get(name).is_none());
        inherited.push(IncludedParameters {
            role: role.name.clone(),
            parameters: references(role, &parameters, ""),
        });
    }
    Ok(RoleReference {
        summary: summary(role, share),
        parameters: references(role, &own, ""),
        items,
        included: inherited,
    })
}

fn summary(role: &Role, share: &Path) -> RoleSummary {
    let file = role.tree.at.file.to_string();
    let shipped = Path::new(&file).starts_with(share);
    RoleSummary {
        name: role.name.clone(),
        origin: match shipped {
            true => RoleOrigin::Shipped,
            false => RoleOrigin::Settings,
        },
        file,
        description: role.description.clone(),
        include: role.include.clone(),
    }
}

fn references(role: &Role, values: &Node, prefix: &str) -> Vec<ParameterReference> {
    let entries = values.as_map().unwrap_or_default().iter();
    let references = entries.map(|entry| {
        let schema = role.schema.get(&format!("{prefix}{}", entry.key));
        let ValueSchema {
            value_type,
            min,
            max,
            one_of,
            required,
            description,
        } = schema.cloned().unwrap_or_default();
        ParameterReference {
            name: entry.key.clone(),
            value_type,
            required,
            default: entry.value.to_json(),
            min,
            max,
            one_of,
            description,
        }
    });
    references.collect()
}
