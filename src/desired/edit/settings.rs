//! Edits below `_settings` of an environment.

use serde_json::{Map, Value};

use super::request::{EditError, PublishRequest, SettingEdit};
use crate::desired::environment::SETTINGS_KEY;
use crate::problem::Problem;
use crate::yaml::{InsertPosition, Node, NodeKind, ParseLimits, YamlEditor, parse};

/// Whether an edit of the request changes what the tree says.
pub(super) fn changes_settings(tree: &Node, order: &PublishRequest) -> bool {
    let mut edits = order.settings.iter();
    edits.any(|edit| differs(tree, &order.environment, edit))
}

/// Refuses a request if a setting that it relies on is another one by now.
pub(super) fn check_expected(tree: &Node, order: &PublishRequest) -> Result<(), EditError> {
    let mut expected = order.expected_settings.iter();
    match expected.find(|edit| differs(tree, &order.environment, edit)) {
        Some(edit) => Err(EditError::Outdated(edit.path.join("."))),
        None => Ok(()),
    }
}

fn differs(tree: &Node, environment: &str, edit: &SettingEdit) -> bool {
    let environment = tree.get(environment);
    let settings = environment.and_then(|apps| apps.get(SETTINGS_KEY));
    let mut keys = edit.path.iter();
    let known = settings.and_then(|settings| keys.try_fold(settings, |node, key| node.get(key)));
    known.map(Node::to_json) != edit.value
}

/// Carries out the edits of the request.
pub(super) fn edit_settings(
    name: &str,
    body: &[u8],
    order: &PublishRequest,
) -> Result<Vec<u8>, Problem> {
    let mut body = body.to_vec();
    for edit in &order.settings {
        let mut draft = YamlEditor::new(name, &body)?;
        let mut path = vec![order.environment.as_str(), SETTINGS_KEY];
        path.extend(edit.path.iter().map(String::as_str));
        match &edit.value {
            Some(value) => put(&mut draft, &path, value)?,
            None => remove(&mut draft, name, &body, &path)?,
        }
        body = draft.finish()?;
    }
    Ok(body)
}

/// Sets the value at a path, whose maps need not exist yet.
fn put(draft: &mut YamlEditor, path: &[&str], value: &Value) -> Result<(), Problem> {
    let tree = draft.tree()?;
    let mut node = &tree;
    let mut depth = 0;
    while let Some(next) = node.get(path[depth])
        && depth + 1 < path.len()
    {
        let is_empty = matches!(&next.kind, NodeKind::Map(entries) if entries.is_empty());
        if next.is_null() || is_empty {
            break;
        }
        node = next;
        depth += 1;
    }
    let (map, rest) = path.split_at(depth);
    let value = rest[1..].iter().rev().fold(value.clone(), |value, key| {
        Value::Object(Map::from_iter([((*key).to_owned(), value)]))
    });
    // The settings themselves stand above the apps.
    let position = match rest[0] == SETTINGS_KEY {
        true => InsertPosition::First,
        false => InsertPosition::Last,
    };
    draft.put_entry(map, position, rest[0], &value)
}

/// Removes the entry at a path, and each map that is empty without it.
fn remove(draft: &mut YamlEditor, name: &str, body: &[u8], path: &[&str]) -> Result<(), Problem> {
    let tree = parse(name, body, ParseLimits::default())?;
    let known = path.iter().try_fold(&tree, |node, key| node.get(key));
    if known.is_none() {
        // Its neighbours stay.
        return Ok(());
    }
    for length in (1..=path.len()).rev() {
        let (key, map) = path[..length].split_last().expect("it is not empty");
        let Some(node) = map.iter().try_fold(&tree, |node, key| node.get(key)) else {
            return Ok(());
        };
        if node.as_map().is_some_and(|entries| entries.len() != 1) {
            return draft.remove_entry(map, key);
        }
    }
    Ok(())
}
