//! Values that every template can use besides the parameters.

use serde_json::{Value, json};

use super::scope::Scope;
use crate::facts::Facts;
use crate::settings::Settings;

/// Names that no parameter may have.
pub(super) const RESERVED_NAMES: &[&str] = &["facts", "node", "root"];

/// The outermost scope: `node`, and `root`, the folder that stands for `/` (empty on a real host), for file
/// contents that processes outside of a sandbox read.
pub(super) fn node_scope(settings: &Settings, facts: &Facts, root: &str) -> Scope {
    let mut scope = Scope::default();
    scope.insert(
        "node",
        json!({
            "name": settings.node.as_deref().unwrap_or(facts.hostname()),
            "environment": settings.environment,
            "roles": settings.roles,
            "tags": settings.tags,
        }),
    );
    scope.insert("root", Value::String(root.trim_end_matches('/').to_owned()));
    scope
}
