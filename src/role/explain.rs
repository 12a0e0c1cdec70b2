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
        let mut add = |layer: String, node: Option<&Node>| {
            layers.extend(node.map(|node| Layer {
                layer,
                at: node.at.clone(),
                value: redact(key, node),
            }));
        };
        let parameters = &role.parameters;
        add(format!("role {}", role.name), get_path(parameters, key));
        let defaults = role.map_field("defaults")?;
        let inner = item_key(role, key).and_then(|inner| get_path(&defaults, inner));
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
        layers.extend(get_path(node, key).map(|node| Layer {
            layer,
            at: node.at.clone(),
            value: redact(key, node),
        }));
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

fn get_path<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    key.split('.').try_fold(node, |node, part| node.get(part))
}

/// Hides a value that is probably a secret, which does not belong in a terminal's scroll-back.
fn redact(key: &str, node: &Node) -> serde_json::Value {
    fn hide(key: &str, value: serde_json::Value) -> serde_json::Value {
        use serde_json::Value;
        let secret = ["secret", "password", "token", "private", "credential"];
        match value {
            Value::Object(map) => Value::Object(
                map.into_iter()
                    .map(|(key, value)| (key.clone(), hide(&key, value)))
                    .collect(),
            ),
            value if secret.iter().any(|word| key.to_lowercase().contains(word)) => {
                if value.is_null() {
                    value
                } else {
                    Value::String(PLACEHOLDER.into())
                }
            }
            value => value,
        }
    }
    hide(key.rsplit('.').next().unwrap_or(key), node.to_json())
}
