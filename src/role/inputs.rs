//! What a resource may request while it is completed.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use super::outline::{FieldPath, OutlinedResource};
use super::render::Renderer;
use super::scope::Scope;
use super::secret_taint::SecretLeaf;
use crate::problem::Problem;
use crate::resource::{RenderedTemplate, ResolveInputs};

/// Renders templates for one resource.
pub(super) struct RoleInputs<'a, 'r, 'p> {
    pub renderer: RefCell<&'a mut Renderer<'r, 'p>>,
    pub scope: &'a Rc<Scope>,
    /// The same resource of an expansion with other values of the secrets.
    pub other: Option<&'a OutlinedResource>,
    /// The fields that depend on secrets. Empty while nothing is known of them.
    pub secret_paths: &'a [FieldPath],
    /// The same with the names of the secrets, as far as the role shows it.
    pub secret_fields: &'a [SecretLeaf],
    /// Collects the names of the secrets that its templates depend on.
    pub names: RefCell<BTreeSet<String>>,
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
        let secret_vars = secret_vars(self.secret_fields);
        let (text, names) =
            renderer.render_secret_template(source, self.scope, (vars, &secret_vars))?;
        let mut rendered = self.rendered.borrow_mut();
        let is_secret = self.other.is_some_and(|other| {
            !names.is_empty() || other.differs_in_template(rendered.len(), &text)
        });
        self.names.borrow_mut().extend(names);
        rendered.push(renderer.uses_secrets().then(|| text.clone()));
        Ok(RenderedTemplate { text, is_secret })
    }

    fn read_source(&self, source: &str) -> Result<Vec<u8>, Problem> {
        self.renderer.borrow().read_source(source)
    }

    fn is_secret(&self, field: &[&str]) -> bool {
        let is_in_field = |path: &FieldPath| {
            path.len() >= field.len() && path.iter().zip(field).all(|(part, word)| part == word)
        };
        self.secret_paths.iter().any(is_in_field)
    }
}

/// The variables of templates that depend on secrets. Those of all templates of a resource together: which one belongs to
/// which, only its kind knows.
fn secret_vars(fields: &[SecretLeaf]) -> Vec<SecretLeaf> {
    let vars = fields.iter().filter_map(|leaf| {
        let at = leaf.path.iter().position(|part| part == "vars")?;
        let path = leaf.path.get(at + 1..).filter(|path| !path.is_empty())?;
        Some(SecretLeaf {
            path: path.to_vec(),
            names: leaf.names.clone(),
        })
    });
    vars.collect()
}
