//! Merges the parameters of a role: its defaults, the environment's file, the node's attributes.

use super::context::RESERVED_NAMES;
use super::render::Renderer;
use super::schema::Role;
use super::scope::Scope;
use super::secret_taint::SecretLeaf;
use super::template_syntax::is_template;
use super::value_check::ValueCheck;
use crate::problem::{Location, Problem, Problems};
use crate::settings::{Settings, is_name, merge};
use crate::yaml::{Entry, Node, NodeKind};

/// The parameters of one role with all layers merged. Templates in the role's defaults are not rendered yet.
pub(super) fn merge_layers(role: &Role, settings: &Settings) -> Result<Node, Problem> {
    let mut all = role.parameters.clone();
    for entry in all.as_map().unwrap_or_default() {
        if RESERVED_NAMES.contains(&entry.key.as_str()) {
            return Err(Problem::new(format!(
                "`{}` is reserved and cannot be a parameter",
                entry.key
            ))
            .at(&entry.key_at)
            .field("parameters"));
        }
    }
    for layer in [&settings.environment_attributes, &settings.attributes] {
        let mut known = layer.clone();
        if let NodeKind::Map(entries) = &mut known.kind {
            entries.retain(|entry| all.get(&entry.key).is_some());
        }
        merge(&mut all, known);
    }
    Ok(all)
}

/// Attributes that match no parameter of this node's roles.
pub(super) fn unknown_attributes(
    roles: &[Role],
    settings: &Settings,
) -> Result<Vec<Problem>, Problem> {
    let mut known = Vec::new();
    for role in roles {
        known.extend(
            role.parameters
                .as_map()
                .unwrap_or_default()
                .iter()
                .map(|entry| entry.key.clone()),
        );
    }
    Ok(settings
        .attributes
        .as_map()
        .unwrap_or_default()
        .iter()
        .filter(|entry| !known.contains(&entry.key))
        .map(|entry| {
            let roles: Vec<&str> = roles.iter().map(|role| role.name.as_str()).collect();
            Problem::new(format!(
                "no role of this node ({}) has a parameter `{}`",
                roles.join(", "),
                entry.key
            ))
            .at(&entry.key_at)
            .field(format!("attributes.{}", entry.key))
            .suggest(&entry.key, known.iter().map(String::as_str))
        })
        .collect())
}

/// Renders and checks a map of values. `add` puts them into the scope in which the next ones are rendered: first all
/// plain ones, then one by one those from the role itself that are templates, in their order. Values that operators
/// set are not rendered. `map` is what the scope calls the map, if its values are not there by their own names. Returns those
/// that depend on secrets.
pub(super) fn complete_values(
    values: &Node,
    check: &ValueCheck<'_>,
    renderer: &mut Renderer<'_, '_>,
    (scope, map): (&mut Scope, Option<&str>),
    add: &mut dyn FnMut(&mut Scope, Vec<Entry>),
) -> Result<Vec<SecretLeaf>, Problems> {
    let is_of_role = |at: &Location| check.role().contains(at);
    let mut problems = Vec::new();
    let entries = values.as_map().unwrap_or_default();
    let (templates, plain): (Vec<_>, Vec<_>) =
        entries.iter().partition(|entry| has_template(&entry.value));
    let mut checked = Vec::new();
    for entry in plain {
        match check.check(entry) {
            Ok(entry) => checked.push(entry),
            Err(problem) => problems.push(problem),
        }
    }
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    add(scope, checked);
    let mut secret = Vec::new();
    renderer.take_secret_leaves();
    for entry in templates {
        let value = renderer
            .render_tree(&entry.value, scope, &is_of_role)
            .map_err(|problem| problem.field(check.shown(&entry.key)))?;
        let rendered = Entry {
            value,
            ..entry.clone()
        };
        add(scope, vec![check.check(&rendered)?]);
        for mut leaf in renderer.take_secret_leaves() {
            leaf.path.insert(0, entry.key.clone());
            scope.mark_secret(map.as_slice(), &leaf);
            secret.push(leaf);
        }
    }
    Ok(secret)
}

pub(super) fn has_template(node: &Node) -> bool {
    match &node.kind {
        NodeKind::Scalar { text, .. } => is_template(text),
        NodeKind::List(items) => items.iter().any(has_template),
        NodeKind::Map(entries) => entries.iter().any(|entry| has_template(&entry.value)),
    }
}

/// One item of a role's `for_each`: its name and its values, including the role's `defaults`.
pub(super) struct Item {
    pub name: String,
    /// Where an operator added it.
    pub at: Location,
    pub values: Node,
}

/// The items of a role's `for_each`.
pub(super) fn items(role: &Role, list: &str, parameters: &Node) -> Result<Vec<Item>, Problem> {
    let defaults = role.map_field("defaults")?;
    let Some(node) = parameters.get(list) else {
        let at = role
            .tree
            .get("for_each")
            .map_or(&role.tree.at, |node| &node.at);
        let known = parameters
            .as_map()
            .unwrap_or_default()
            .iter()
            .map(|entry| entry.key.as_str());
        return Err(
            Problem::new(format!("`{list}` is not a parameter of this role"))
                .at(at)
                .field("for_each")
                .suggest(list, known),
        );
    };
    if node.is_null() {
        return Ok(Vec::new());
    }
    let mut items = Vec::new();
    for entry in node
        .expect_map("a map of names to settings")
        .map_err(|p| p.field(list))?
    {
        if !is_name(&entry.key) {
            return Err(Problem::new(format!(
                "`{}` is not a name: expected letters, digits, `-`, `_` or `.`, starting with a letter or digit",
                entry.key
            ))
            .at(&entry.key_at)
            .field(list));
        }
        let mut values = defaults.clone();
        if !entry.value.is_null() {
            let expected = format!("the settings of the {} `{}`", role.item, entry.key);
            entry
                .value
                .expect_map(&expected)
                .map_err(|p| p.field(format!("{list}.{}", entry.key)))?;
            check_unknown_keys(role, list, entry, &defaults)?;
            merge(&mut values, entry.value.clone());
        }
        values.set("name", Node::text(&entry.key_at, entry.key.clone()));
        items.push(Item {
            name: entry.key.clone(),
            at: entry.key_at.clone(),
            values,
        });
    }
    Ok(items)
}

/// Refuses unknown settings of items if the role lists theirs in `defaults`, so that a mistyped one is not
/// silently ignored.
fn check_unknown_keys(
    role: &Role,
    list: &str,
    item: &Entry,
    defaults: &Node,
) -> Result<(), Problem> {
    let known = defaults.as_map().unwrap_or_default();
    if known.is_empty() {
        return Ok(());
    }
    for entry in item.value.as_map().unwrap_or_default() {
        if entry.key != "name" && !known.iter().any(|known| known.key == entry.key) {
            return Err(Problem::new(format!(
                "there is no setting `{}` for an item of `{list}` in the role `{}`",
                entry.key, role.name
            ))
            .at(&entry.key_at)
            .field(format!("{list}.{}.{}", item.key, entry.key))
            .suggest(&entry.key, known.iter().map(|known| known.key.as_str())));
        }
    }
    Ok(())
}
