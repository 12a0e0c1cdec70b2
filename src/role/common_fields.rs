//! The fields that every resource may have: they decide whether there is one, and what it is called. No secret may.

use super::draft::ResourceNode;
use super::expand::RoleExpansion;
use super::scope::Scope;
use super::secret_taint::deciding_secret;
use crate::problem::{Location, Problem};
use crate::yaml::{self, Node};

impl RoleExpansion<'_, '_> {
    /// Refuses what was just rendered, if it depends on a secret.
    pub(super) fn refuse_secret(&mut self, at: &Location, field: &str) -> Result<(), Problem> {
        match self.renderer.take_secret_leaves().is_empty() {
            true => Ok(()),
            false => Err(deciding_secret().at(at).field(field)),
        }
    }

    /// The id of a resource, with the item that it belongs to.
    pub(super) fn render_id(
        &mut self,
        fields: &Node,
        item: Option<&str>,
        scope: &Scope,
    ) -> Result<Option<String>, Problem> {
        let Some(id) = fields.get("id") else {
            return Ok(None);
        };
        let id = self
            .renderer
            .render_tree(id, scope, &|_| true)
            .map_err(|p| p.field("id"))?;
        let text = id.as_text().unwrap_or_default();
        if text.is_empty() || text.contains(['/', ' ', ',']) {
            return Err(Problem::new("expected a single word without `/`")
                .at(&id.at)
                .field("id"));
        }
        Ok(Some(match item {
            Some(item) => format!("{item}/{text}"),
            None => text.to_owned(),
        }))
    }

    /// Evaluates `when`.
    pub(super) fn is_wanted(
        &mut self,
        resource: &ResourceNode<'_>,
        scope: &Scope,
    ) -> Result<bool, Problem> {
        let Some(when) = resource.fields.get("when") else {
            return Ok(true);
        };
        let expression = when.as_text().unwrap_or_default();
        self.renderer
            .evaluate_condition(expression, scope)
            .map_err(|p| p.at(&when.at).resource(resource.label()).field("when"))
    }

    pub(super) fn render_requires(
        &mut self,
        fields: &Node,
        scope: &Scope,
    ) -> Result<Vec<String>, Problem> {
        let Some(ids) = fields.get("requires") else {
            return Ok(Vec::new());
        };
        let ids = self.renderer.render_tree(ids, scope, &|_| true)?;
        yaml::decode(&ids)
    }
}
