//! What a resource may request while it is completed.

use std::cell::RefCell;
use std::rc::Rc;

use super::render::Renderer;
use super::scope::Scope;
use crate::problem::Problem;
use crate::resource::ResolveInputs;

/// Renders templates for one resource.
pub(super) struct RoleInputs<'a, 'r, 'p> {
    pub renderer: RefCell<&'a mut Renderer<'r, 'p>>,
    pub scope: &'a Rc<Scope>,
}

impl ResolveInputs for RoleInputs<'_, '_, '_> {
    fn render_template(
        &self,
        source: &str,
        vars: Option<&serde_json::Value>,
    ) -> Result<String, Problem> {
        let mut renderer = self.renderer.borrow_mut();
        renderer.render_template(source, self.scope, vars)
    }

    fn read_source(&self, source: &str) -> Result<Vec<u8>, Problem> {
        self.renderer.borrow().read_source(source)
    }
}
