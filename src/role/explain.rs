//! Explains which layer sets the value of a parameter.

use serde::Serialize;

use super::schema::{Role, load_with_included};
use crate::ports::secrets::PLACEHOLDER;
use crate::problem::{Location, Problem};
use crate::settings::Settings;
use crate::yaml::Node;

/// One layer that sets a parameter.
#[derive(Debug, Serialize)]
pub(crate) struct Layer {
    /// `role app`, `role app (defaults of each app)`, `environment production`, `node`.
    pub layer: String,
    pub at: Location,
    pub value: serde_json::Value,
}

/// Every layer that sets a parameter; the last one is in force.
#[derive(Debug, Serialize)]
pub(crate) struct Explanation {
    pub key: String,
    pub layers: Vec<Layer>,
}

/// Explains a dotted key such as `keep_releases` or `apps.shop.port`.
pub(crate) fn explain(settings: &Settings, key: &str) -> Result<Explanation, Problem> {
    let roles = load_with_included(&settings.lookup, &settings.roles)
        .map_err(|problem| problem.at(&settings.locations.roles))?;
    let mut layers = Vec::new();
    for role in &roles {
        let mut add = |layer: String, shown: Option<(Location, serde_json::Value)>| {
            layers.extend(shown.map(|(at, value)| Layer { layer, at, value }));
        };
        let parameters = &role.parameters;
        add(format!("role {}", role.name), shown_value(parameters, key));
        let defaults = role.map_field("defaults")?;
        let inner = item_key(role, key).and_then(|inner| shown_value(&defaults, inner));
        add(
            format!("role {} (defaults of each {})", role.name, role.item),
            inner,
        );
    }
    for (layer, node) in [
        (
            format!("environment {}", settings.environment),
            &settings.environment_attributes,
        ),
        ("node".to_owned(), &settings.attributes),
    ] {
        let shown = shown_value(node, key);
        layers.extend(shown.map(|(at, value)| Layer { layer, at, value }));
    }
    if layers.is_empty() {
        return Err(Problem::new(format!("nothing sets a parameter `{key}`"))
            .hint("expected a dotted key that starts with the parameter: `apps.shop.port`"));
    }
    Ok(Explanation {
        key: key.to_owned(),
        layers,
    })
}

/// For `apps.shop.port`, the key `port` in the defaults of each app.
fn item_key<'k>(role: &Role, key: &'k str) -> Option<&'k str> {
    let rest = key
        .strip_prefix(role.for_each.as_deref()?)?
        .strip_prefix('.')?;
    rest.split_once('.').map(|(_, inner)| inner)
}

/// The value at a key of a layer, with secrets hidden.
fn shown_value(layer: &Node, key: &str) -> Option<(Location, serde_json::Value)> {
    let node = layer.at_path(key)?;
    let (above, last) = key.rsplit_once('.').unwrap_or(("", key));
    let in_secrets = above.split('.').any(|part| part == "secrets");
    let in_secret_file = layer.at_path(above).is_some_and(is_secret_file);
    let hidden = in_secrets || sounds_secret(last) || in_secret_file && is_content(last);
    Some((node.at.clone(), redact(node, hidden)))
}

/// Hides what is probably a secret, which does not belong in a terminal's scroll-back.
fn redact(node: &Node, hidden: bool) -> serde_json::Value {
    use serde_json::Value;
    let Some(entries) = node.as_map() else {
        return match node.to_json() {
            value if hidden && !value.is_null() => Value::String(PLACEHOLDER.into()),
            value => value,
        };
    };
    let is_secret_file = is_secret_file(node);
    let redacted = entries.iter().map(|entry| {
        let key = &entry.key;
        let hidden = hidden || sounds_secret(key) || is_secret_file && is_content(key);
        // Whether a file is secret is none.
        let hidden = hidden && !(key == "secret" && entry.value.as_text().is_some_and(is_boolean));
        (key.clone(), redact(&entry.value, hidden))
    });
    Value::Object(redacted.collect())
}

fn is_boolean(text: &str) -> bool {
    text == "true" || text == "false"
}

fn sounds_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    let words = ["secret", "password", "token", "private", "credential"];
    words.iter().any(|word| key.contains(word))
}

/// Whether a node describes a file whose content is secret.
fn is_secret_file(node: &Node) -> bool {
    let secret = node.get("secret").and_then(Node::as_text);
    secret == Some("true")
}

/// Whether a key of a file holds its content, or a part of it.
fn is_content(key: &str) -> bool {
    key == "content" || key == "vars"
}
