//! The resources of a node as text, to compare what two versions of the roles describe.

use std::cell::RefCell;
use std::rc::Rc;

use super::expand::RoleSources;
use super::render::Renderer;
use super::scope::Scope;
use super::secret_values::{Placeholders, SecretValues};
use crate::desired::DesiredState;
use crate::problem::{Problem, Problems};
use crate::resource::{RenderedTemplate, ResolveInputs};
use crate::yaml;

/// A resource as its role describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RenderedResource {
    pub id: String,
    /// Its fields as YAML, and the files that it writes. Secrets have placeholders.
    pub text: String,
}

/// Renders the resources of a node, after all the checks that a pass makes of them.
pub(crate) fn render_resources(
    sources: &mut RoleSources<'_, '_>,
) -> Result<Vec<RenderedResource>, Problems> {
    let desired = DesiredState::empty();
    let secrets = SecretValues::placeholders(Placeholders::First);
    let drafted = sources.expand(&secrets)?.resolve(&desired)?;
    drafted.check_secrets(&desired, sources)?;
    let mut expanded = sources.expand(&secrets)?;
    let drafts = std::mem::take(&mut expanded.drafts);
    let mut rendered = Vec::new();
    for mut draft in drafts {
        let fields = draft.node.to_json();
        let inputs = KeptInputs {
            renderer: RefCell::new(&mut expanded.renderer),
            scope: &expanded.scopes[draft.scope],
            files: RefCell::default(),
        };
        draft.body.resolve(&inputs)?;
        let files = inputs.files.into_inner().concat();
        rendered.push(RenderedResource {
            text: yaml::serialize(fields) + &files,
            id: draft.id,
        });
    }
    Ok(rendered)
}

/// Keeps the files that a resource requests.
struct KeptInputs<'a, 'r, 'p> {
    renderer: RefCell<&'a mut Renderer<'r, 'p>>,
    scope: &'a Rc<Scope>,
    files: RefCell<Vec<String>>,
}

impl KeptInputs<'_, '_, '_> {
    fn keep(&self, name: &str, text: &str) {
        let line_end = if text.ends_with('\n') { "" } else { "\n" };
        let file = format!("# {name}\n{text}{line_end}");
        self.files.borrow_mut().push(file);
    }
}

impl ResolveInputs for KeptInputs<'_, '_, '_> {
    fn render_template(
        &self,
        source: &str,
        vars: Option<&serde_json::Value>,
    ) -> Result<RenderedTemplate, Problem> {
        let text = self
            .renderer
            .borrow_mut()
            .render_template(source, self.scope, vars)?;
        self.keep(source, &text);
        Ok(RenderedTemplate {
            text,
            is_secret: false,
        })
    }

    fn read_source(&self, source: &str) -> Result<Vec<u8>, Problem> {
        let body = self.renderer.borrow().read_source(source)?;
        match std::str::from_utf8(&body) {
            Ok(text) => self.keep(source, text),
            Err(_) => self.keep(source, &crate::digest::digest(&body)),
        }
        Ok(body)
    }

    fn is_secret(&self, _: &[&str]) -> bool {
        false
    }
}
