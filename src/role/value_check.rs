//! Checks the values of a role against its schema, where attributes meet the role.

use super::schema::Role;
use super::value_schema::is_unset;
use crate::problem::{Location, Problem};
use crate::yaml::{Entry, Node};

/// Where values come from, and how operators name them.
pub(super) struct ValueCheck<'a> {
    role: &'a Role,
    /// Before the names in the schema: `app.` for the settings of an item.
    schema_prefix: String,
    /// Before the names in messages: `apps.shop.`.
    shown_prefix: String,
    /// The place to name if a value is missing.
    missing_at: &'a Location,
}

impl<'a> ValueCheck<'a> {
    /// For the parameters of a role.
    pub(super) fn of_parameters(role: &'a Role, missing_at: &'a Location) -> ValueCheck<'a> {
        ValueCheck {
            role,
            schema_prefix: String::new(),
            shown_prefix: String::new(),
            missing_at,
        }
    }

    /// For the settings of one item.
    pub(super) fn of_item(
        role: &'a Role,
        list: &str,
        item: &str,
        missing_at: &'a Location,
    ) -> ValueCheck<'a> {
        ValueCheck {
            role,
            schema_prefix: format!("{}.", role.item),
            shown_prefix: format!("{list}.{item}."),
            missing_at,
        }
    }

    pub(super) fn role(&self) -> &'a Role {
        self.role
    }

    /// The name of a value in messages.
    pub(super) fn shown(&self, name: &str) -> String {
        format!("{}{name}", self.shown_prefix)
    }

    /// The entry, with numbers and booleans as such.
    pub(super) fn check(&self, entry: &Entry) -> Result<Entry, Problem> {
        let value = self.check_value(&entry.key, entry.value.clone())?;
        Ok(Entry {
            value,
            ..entry.clone()
        })
    }

    fn check_value(&self, name: &str, value: Node) -> Result<Node, Problem> {
        let name_in_schema = format!("{}{name}", self.schema_prefix);
        let Some(schema) = self.role.schema.get(&name_in_schema) else {
            return Ok(value);
        };
        if schema.required && is_unset(&value) {
            let at = match self.role.contains(&value.at) {
                true => self.missing_at,
                false => &value.at,
            };
            let needs = format!(
                "the role `{}` needs a value for it: {}",
                self.role.name,
                schema.expected()
            );
            let problem = Problem::new(needs).at(at).field(self.shown(name));
            return Err(schema.explain(problem));
        }
        schema
            .check(value)
            .map_err(|problem| problem.within_field(&self.shown(name)))
    }
}
