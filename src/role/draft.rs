//! A resource of a role before it is checked against the others.

use super::schema::Role;
use super::secret_taint::SecretLeaf;
use super::template_syntax::plain_reference;
use crate::kind::{AnyKind, AnyResource};
use crate::kinds;
use crate::problem::{Location, Problem, nearest, one_of};
use crate::resource::Failure;
use crate::yaml::Node;

/// A resource as a role describes it: `kind: {…}`.
pub(super) struct ResourceNode<'a> {
    pub kind: &'static dyn AnyKind,
    pub at: &'a Location,
    pub fields: &'a Node,
}

impl<'a> ResourceNode<'a> {
    pub(super) fn parse(node: &'a Node) -> Result<ResourceNode<'a>, Problem> {
        let [entry] = node.expect_map("a resource: `kind: {…}`")? else {
            return Err(
                Problem::new("expected exactly one `kind: {…}` in each item of the list")
                    .at(&node.at)
                    .hint("indent the fields below the kind"),
            );
        };
        let Some(kind) = kinds::find(&entry.key) else {
            let known: Vec<&str> = kinds::KINDS.iter().map(|kind| kind.name()).collect();
            let problem =
                Problem::new(format!("there is no kind `{}`", entry.key)).at(&entry.key_at);
            return Err(match nearest(&entry.key, known.iter().copied()) {
                Some(near) => problem.hint(format!("did you mean `{near}`?")),
                None => problem.hint(format!("expected {}", one_of(&known))),
            });
        };
        let resource = ResourceNode {
            kind,
            at: &entry.key_at,
            fields: &entry.value,
        };
        resource
            .fields
            .expect_map("the fields of the resource")
            .map_err(|p| {
                p.resource(resource.label()).hint(format!(
                    "as in `- {}: {{path: /srv/x}}`, or each field on a line of its own, as `name: value`",
                    resource.kind.name()
                ))
            })?;
        Ok(resource)
    }

    /// Its kind and id as written, for problems before the id is known.
    pub(super) fn label(&self) -> String {
        let id = self.fields.get("id").and_then(Node::as_text);
        match id {
            Some(id) => format!("{} `{id}`", self.kind.name()),
            None => self.kind.name().to_owned(),
        }
    }
}

/// A resource that is not yet checked against the others.
pub(super) struct Draft {
    pub id: String,
    pub explicit_id: bool,
    pub at: Location,
    pub role: String,
    pub item: Option<String>,
    /// Rendered, without the common fields.
    pub node: Node,
    pub parameters: FieldParameters,
    pub body: Box<dyn AnyResource>,
    /// As written, each with the item in whose scope it resolves.
    pub requires: Vec<(Option<String>, String)>,
    /// Its scope, as an index.
    pub scope: usize,
    /// Its fields that depend on secrets, whether or not their values show it.
    pub secret_fields: Vec<SecretLeaf>,
    /// Why a secret that it needs has no value.
    pub unresolved: Option<Failure>,
}

/// The fields of a resource whose value is that of a parameter, with its name as an operator writes it.
pub(super) struct FieldParameters(Vec<(String, String)>);

impl FieldParameters {
    pub(super) fn find(fields: &Node, role: &Role, item: Option<&str>) -> FieldParameters {
        let entries = fields.as_map().unwrap_or_default().iter();
        let parameters = entries.filter_map(|entry| {
            let path = plain_reference(entry.value.as_text()?)?;
            let of_item = path.strip_prefix(&format!("{}.", role.item));
            let parameter = match (of_item, item, &role.for_each) {
                (Some(setting), Some(item), Some(list)) => format!("{list}.{item}.{setting}"),
                _ => path.to_owned(),
            };
            Some((entry.key.clone(), parameter))
        });
        FieldParameters(parameters.collect())
    }

    /// For a mistake in a value that an operator wrote: where it is, and its name there. `at` is where the resource is.
    pub(super) fn blame(&self, problem: Problem, rendered: &Node, at: &Location) -> Problem {
        let Some(field) = &problem.field else {
            return problem;
        };
        let parameter = self.0.iter().find_map(|(name, parameter)| {
            let rest = field.strip_prefix(name.as_str())?;
            let is_field = rest.is_empty() || rest.starts_with(['.', '[']);
            is_field.then(|| (name, format!("{parameter}{rest}")))
        });
        let Some((name, shown)) = parameter else {
            return problem;
        };
        let outer = field
            .rsplit_once('.')
            .map_or(field.as_str(), |(outer, _)| outer);
        let value = [field, outer, name]
            .into_iter()
            .find_map(|path| rendered.at_path(path));
        let Some(value) = value.filter(|value| value.at.file != at.file) else {
            return problem;
        };
        Problem {
            field: Some(shown),
            ..problem
        }
        .at(&value.at)
    }
}

/// For a field that is empty because its parameter has no value: names the parameter to set.
pub(super) fn name_unset_parameter(problem: Problem, fields: &Node, rendered: &Node) -> Problem {
    let field = problem.field.as_deref();
    let written = field.and_then(|field| fields.get(field));
    let name = written.and_then(Node::as_text).and_then(plain_reference);
    let value = field.and_then(|field| rendered.get(field));
    match name {
        Some(name) if value.is_some_and(Node::is_null) => Problem {
            message: format!("`{name}` has no value"),
            ..problem
        }
        .hint(format!(
            "set `{name}` in the node's attributes or in the environment's file"
        )),
        _ => problem,
    }
}
