//! What a resource may request while it is completed.

use std::cell::RefCell;
use std::rc::Rc;

use super::outline::{FieldPath, OutlinedResource};
use super::render::Renderer;
use super::scope::Scope;
use crate::problem::Problem;
use crate::resource::{RenderedTemplate, ResolveInputs};

/// Renders templates for one resource.
pub(super) struct RoleInputs<'a, 'r, 'p> {
    pub renderer: RefCell<&'a mut Renderer<'r, 'p>>,
    pub scope: &'a Rc<Scope>,
    /// The same resource of an expansion with other values of the secrets, and which of its fields differ.
    pub other: Option<(&'a OutlinedResource, &'a [FieldPath])>,
    /// Keeps what was rendered since a secret was used, for comparisons.
    pub rendered: RefCell<Vec<Option<String>>>,
}

impl ResolveInputs for RoleInputs<'_, '_, '_> {
    fn render_template(
        &self,
        source: &str,
        vars: Option<&serde_json::Value>,
    ) -> Result<RenderedTemplate, Problem> {
        let mut renderer = self.renderer.borrow_mut();
        let text = renderer.render_template(source, self.scope, vars)?;
        let mut rendered = self.rendered.borrow_mut();
        let is_secret = self
            .other
            .is_some_and(|(other, _)| other.differs_in_template(rendered.len(), &text));
        rendered.push(renderer.uses_secrets().then(|| text.clone()));
        Ok(RenderedTemplate { text, is_secret })
    }

    fn read_source(&self, source: &str) -> Result<Vec<u8>, Problem> {
        self.renderer.borrow().read_source(source)
    }

    fn is_secret(&self, field: &[&str]) -> bool {
        let differing = self.other.map_or(&[][..], |(_, differing)| differing);
        let is_in_field = |path: &FieldPath| {
            path.len() >= field.len() && path.iter().zip(field).all(|(part, word)| part == word)
        };
        differing.iter().any(is_in_field)
    }
}
