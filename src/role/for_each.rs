//! The `for_each` of one resource: a list or a map, and the name of its elements.

use std::rc::Rc;

use serde_json::{Value, json};

use super::context::RESERVED_NAMES;
use super::parameters::{Item, has_template};
use super::processes::{cron_jobs, process_units};
use super::render::Renderer;
use super::schema::Role;
use super::scope::Scope;
use super::template_syntax::{is_plain_path, plain_reference};
use crate::problem::{Problem, one_of};
use crate::yaml::{Node, NodeKind};

/// The name of an element without `as`.
const DEFAULT_NAME: &str = "element";

/// Turns a value that an operator wrote into the elements of a `for_each`. It gets the value as it is written, so that a
/// mistake in it is reported with its own place.
type ItemFilter = fn(&Node) -> Result<Vec<Value>, Problem>;

const ITEM_FILTERS: &[(&str, ItemFilter)] =
    &[("processes", process_units), ("cron_jobs", cron_jobs)];

/// A resource's `for_each`.
pub(super) struct Repetition<'a> {
    list: &'a Node,
    /// What the element is called in the resource.
    pub name: String,
}

/// The item of the role's `for_each` that a resource is for: what the role calls it, and its settings as written.
pub(super) type ItemSource<'a> = Option<(&'a str, &'a Node)>;

/// Names what a problem of a list is a part of: the item, for what an operator wrote, whichever resources use it; else the
/// resource.
pub(super) fn name_owner(
    problem: Problem,
    role: &Role,
    item: Option<&Item>,
    resource: String,
) -> Problem {
    let is_of_role = problem.at.as_ref().is_none_or(|at| role.contains(at));
    match (item, &role.for_each) {
        (Some(item), Some(list)) if !is_of_role => {
            problem.resource(format!("{list}.{}", item.name))
        }
        _ => problem.resource(resource),
    }
}

/// The `for_each` of a resource with these fields.
pub(super) fn repetition(fields: &Node) -> Result<Option<Repetition<'_>>, Problem> {
    let name = fields.get("as");
    let Some(list) = fields.get("for_each") else {
        return match name {
            Some(name) => Err(Problem::new(
                "it names the element of a `for_each`, and there is none",
            )
            .at(&name.at)
            .field("as")),
            None => Ok(None),
        };
    };
    let element = match name {
        None => DEFAULT_NAME.to_owned(),
        Some(node) => {
            let text = node.as_text().unwrap_or_default();
            if !is_plain_path(text) || text.contains('.') || RESERVED_NAMES.contains(&text) {
                return Err(Problem::new(format!(
                    "expected a name of letters, digits and `_` for an element, and not {}",
                    one_of(RESERVED_NAMES)
                ))
                .at(&node.at)
                .field("as"));
            }
            text.to_owned()
        }
    };
    Ok(Some(Repetition {
        list,
        name: element,
    }))
}

impl Repetition<'_> {
    /// Its elements: those of a list, or `key` and `value` of each entry of a map.
    pub(super) fn elements(
        &self,
        renderer: &mut Renderer<'_, '_>,
        scope: &Rc<Scope>,
        item: ItemSource<'_>,
    ) -> Result<Vec<Value>, Problem> {
        self.evaluate(renderer, scope, item)
            .map_err(|problem| problem.at(&self.list.at).field("for_each"))
    }

    fn evaluate(
        &self,
        renderer: &mut Renderer<'_, '_>,
        scope: &Rc<Scope>,
        item: ItemSource<'_>,
    ) -> Result<Vec<Value>, Problem> {
        const EXPECTED: &str = "expected a list or a map, such as \"{{ app.domains }}\"";
        let NodeKind::Scalar { text, .. } = &self.list.kind else {
            return elements_of(renderer.render_tree(self.list, scope, &|_| true)?.to_json());
        };
        let inner = text.trim().strip_prefix("{{");
        let Some(expression) = inner.and_then(|inner| inner.strip_suffix("}}")) else {
            return Err(Problem::new(EXPECTED));
        };
        if let Some((path, filter)) = split_item_filter(expression) {
            let node = written_value(path, item).cloned();
            let node = match node {
                Some(node) => node,
                None => renderer.render_tree(&reference(self.list, path), scope, &|_| true)?,
            };
            let field = path.split_once('.').map_or(path, |(_, field)| field);
            return filter(&node).map_err(|problem| problem.within_field(field));
        }
        if plain_reference(text).is_some() {
            return elements_of(renderer.render_tree(self.list, scope, &|_| true)?.to_json());
        }
        let rendered = renderer.render_text(&format!("{{{{ {expression} | json }}}}"), scope)?;
        elements_of(serde_json::from_str(&rendered).map_err(|_| Problem::new(EXPECTED))?)
    }
}

/// For `app.processes | processes`: the path and the filter.
fn split_item_filter(expression: &str) -> Option<(&str, ItemFilter)> {
    let (path, name) = expression.split_once('|')?;
    let (path, name) = (path.trim(), name.trim());
    let (_, filter) = ITEM_FILTERS.iter().find(|(known, _)| *known == name)?;
    is_plain_path(path).then_some((path, *filter))
}

/// The value at a path as it is written, unless it is rendered from a template.
fn written_value<'n>(path: &str, item: ItemSource<'n>) -> Option<&'n Node> {
    let (name, values) = item?;
    let field = path.strip_prefix(name)?.strip_prefix('.')?;
    let mut parts = field.split('.');
    let node = parts.try_fold(values, |node, part| node.get(part))?;
    (!has_template(node)).then_some(node)
}

fn reference(list: &Node, path: &str) -> Node {
    Node::text(&list.at, format!("{{{{ {path} }}}}"))
}

fn elements_of(value: Value) -> Result<Vec<Value>, Problem> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(elements) => Ok(elements),
        Value::Object(entries) => Ok(entries
            .into_iter()
            .map(|(key, value)| json!({"key": key, "value": value}))
            .collect()),
        other => Err(Problem::new(format!(
            "expected a list or a map to repeat the resource for, found {other}"
        ))),
    }
}
