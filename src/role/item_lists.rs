//! Finds the parameters of a node's roles that are lists of items, such as apps.

use super::schema::load_with_included;
use crate::problem::Problem;
use crate::settings::Lookup;

/// The parameter of a role's `for_each`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ItemList {
    pub role: String,
    /// The parameter: `apps`.
    pub name: String,
    /// The settings of an item, and whether the role has a value for each.
    pub settings: Vec<(String, bool)>,
}

/// The lists of these roles and of those that they include.
pub(crate) fn item_lists(lookup: &Lookup, roles: &[String]) -> Result<Vec<ItemList>, Problem> {
    let mut lists = Vec::new();
    for role in load_with_included(lookup, roles)? {
        let Some(name) = role.for_each.clone() else {
            continue;
        };
        let defaults = role.map_field("defaults")?;
        let entries = defaults.as_map().unwrap_or_default();
        let settings = entries
            .iter()
            .map(|entry| (entry.key.clone(), !entry.value.is_null()));
        lists.push(ItemList {
            settings: settings.collect(),
            role: role.name,
            name,
        });
    }
    Ok(lists)
}
