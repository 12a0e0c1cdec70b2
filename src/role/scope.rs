//! Template values in nested layers: item over role over node.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde_json::{Map, Value};

use super::expression_names;
use super::secret_taint::SecretLeaf;
use crate::yaml::Node;

/// Values by name. A layer sees those of the layers around it.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    values: Map<String, Value>,
    /// Where people wrote the values, for those that they did write.
    origins: BTreeMap<String, Node>,
    /// The paths of the values that depend on secrets, with the names of those.
    secrets: BTreeMap<Vec<String>, BTreeSet<String>>,
    outer: Option<Rc<Scope>>,
    /// For Tera; built only when a text needs more than plain references.
    context: OnceCell<tera::Context>,
}

impl Scope {
    /// A new layer inside this one.
    pub(crate) fn nested_in(outer: &Rc<Scope>) -> Scope {
        Scope {
            outer: Some(outer.clone()),
            ..Scope::default()
        }
    }

    pub(crate) fn insert(&mut self, name: &str, value: Value) {
        self.context.take();
        self.origins.remove(name);
        self.values.insert(name.to_owned(), value);
    }

    /// Adds a value that remembers where it was written.
    pub(crate) fn insert_node(&mut self, name: &str, node: Node) {
        self.insert(name, node.to_json());
        self.origins.insert(name.to_owned(), node);
    }

    /// Where the value at a dotted path was written.
    pub(crate) fn origin(&self, path: &str) -> Option<&Node> {
        let (name, rest) = path.split_once('.').unwrap_or((path, ""));
        if self.values.contains_key(name) {
            return self.origins.get(name)?.at_path(rest);
        }
        self.outer.as_ref()?.origin(path)
    }

    /// Remembers a value that depends on secrets, with its path below these names.
    pub(super) fn mark_secret(&mut self, above: &[&str], leaf: &SecretLeaf) {
        let above = above.iter().map(|part| (*part).to_owned());
        let path = above.chain(leaf.path.iter().cloned()).collect();
        let names = self.secrets.entry(path).or_default();
        names.extend(leaf.names.iter().cloned());
    }

    /// The values at and below a dotted path that depend on secrets: the rest of the path of each, and the names. A value
    /// above the path counts as the one at it.
    pub(super) fn secrets_below(&self, path: &str) -> Vec<(Vec<String>, BTreeSet<String>)> {
        let first = path.split('.').next().unwrap_or(path);
        if !self.values.contains_key(first) {
            let outer = self.outer.as_ref();
            return outer.map_or_else(Vec::new, |outer| outer.secrets_below(path));
        }
        let asked: Vec<&str> = path.split('.').collect();
        let below = self.secrets.iter().filter_map(|(known, names)| {
            let is_same = known.iter().zip(&asked).all(|(a, b)| a == b);
            is_same.then(|| {
                (
                    known.iter().skip(asked.len()).cloned().collect(),
                    names.clone(),
                )
            })
        });
        below.collect()
    }

    /// The secrets that an expression depends on through the values that it names. A map with a secret in it counts if the
    /// expression names the key of the secret as well.
    pub(super) fn secrets_in(&self, expression: &str) -> BTreeSet<String> {
        let edge = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
        let mut found = BTreeSet::new();
        for name in expression_names::value_names(expression) {
            for (rest, names) in self.secrets_below(name) {
                let is_named = rest
                    .last()
                    .is_none_or(|key| expression.split(edge).any(|word| word == key));
                if is_named {
                    found.extend(names);
                }
            }
        }
        found
    }

    /// The value at a dotted path.
    pub(crate) fn at_path(&self, path: &str) -> Option<&Value> {
        let mut parts = path.split('.');
        let mut value = self.get(parts.next()?)?;
        for part in parts {
            value = value.as_object()?.get(part)?;
        }
        Some(value)
    }

    /// Whether a dotted path contains an undefined name or map key.
    pub(crate) fn is_undefined(&self, path: &str) -> bool {
        let mut parts = path.split('.');
        let mut value = parts.next().and_then(|first| self.get(first));
        for part in parts {
            match value {
                Some(Value::Object(map)) => value = map.get(part),
                // Everything below an undefined part is undefined; Tera decides on paths into lists.
                other => return other.is_none(),
            }
        }
        value.is_none()
    }

    fn get(&self, name: &str) -> Option<&Value> {
        let outer = || self.outer.as_ref()?.get(name);
        self.values.get(name).or_else(outer)
    }

    /// Every visible name.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names = self
            .outer
            .as_ref()
            .map_or_else(Vec::new, |outer| outer.names());
        names.extend(self.values.keys().map(String::as_str));
        names
    }

    pub(super) fn context(&self) -> &tera::Context {
        self.context.get_or_init(|| {
            let outer = self.outer.as_ref();
            let mut context =
                outer.map_or_else(tera::Context::new, |outer| outer.context().clone());
            for (name, value) in &self.values {
                context.insert(name.clone(), value);
            }
            context
        })
    }
}
