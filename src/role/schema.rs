//! Reads role files, including the roles that they include.

use std::sync::Arc;

use serde::Deserialize;

use super::comments::Comments;
use super::value_schema::{RoleSchema, ValueSchema};
use crate::problem::{Location, Problem};
use crate::settings::{Lookup, merge};
use crate::yaml::{self, Node, ParseLimits};

/// The keys of a role.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[allow(
    dead_code,
    reason = "decoded for its errors and its reference; read as a tree"
)]
pub(super) struct RoleFile {
    /// One line for people.
    #[serde(default)]
    pub description: String,
    /// Roles whose resources come before these, once.
    #[serde(default)]
    pub include: Vec<String>,
    /// Parameters with their defaults; `null` means that it must be set.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "std::collections::BTreeMap<String, String>"))]
    parameters: serde_json::Value,
    /// What values parameters may have, by the name of the parameter, or as `app.port` for a setting of an item.
    #[serde(default)]
    schema: RoleSchema,
    /// Repeat the resources for each item of this parameter (a map).
    pub for_each: Option<String>,
    /// The name of an item in the role; the parameter's name without its last `s` when not given.
    #[serde(rename = "as")]
    pub item: Option<String>,
    /// Defaults of each item. Later ones may use earlier ones.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "std::collections::BTreeMap<String, String>"))]
    defaults: serde_json::Value,
    /// Commands that check a set of files together, by the name in the `check` of those files.
    #[serde(default)]
    #[cfg_attr(
        test,
        schemars(with = "std::collections::BTreeMap<String, Vec<String>>")
    )]
    checks: serde_json::Value,
    /// Ports for peers of a node with this role, by name, such as `{http: 80}`; an empty value is none.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "std::collections::BTreeMap<String, String>"))]
    ports: serde_json::Value,
    /// The resources, in this order.
    #[serde(default)]
    #[cfg_attr(
        test,
        schemars(with = "Vec<std::collections::BTreeMap<String, String>>")
    )]
    resources: serde_json::Value,
}

/// The fields of a role, for the reference in `docs/`.
#[cfg(test)]
pub(crate) fn json_schema() -> schemars::Schema {
    schemars::schema_for!(RoleFile)
}

/// A role whose parts are still trees.
#[derive(Debug, Clone)]
pub(super) struct Role {
    pub name: String,
    pub tree: Node,
    pub description: String,
    pub include: Vec<String>,
    pub for_each: Option<String>,
    pub item: String,
    /// Its own parameters on top of those of the roles that it includes.
    pub parameters: Node,
    /// What the values may be, including those of inherited parameters.
    pub schema: RoleSchema,
    /// Its file and those of the roles that it includes: text from them may be a template.
    pub files: Vec<Arc<str>>,
}

impl Role {
    pub(super) fn load(lookup: &Lookup, name: &str) -> Result<Role, Problem> {
        let Some((path, body)) = lookup.read("roles", &format!("{name}.yml"))? else {
            let known = lookup.names("roles", ".yml");
            let problem = Problem::new(format!(
                "there is no role `{name}` in {}",
                lookup.searched_folders("roles")
            ));
            return Err(problem.suggest(name, known.iter().map(String::as_str)));
        };
        let tree = yaml::parse(&path.display().to_string(), &body, ParseLimits::default())?;
        let written: RoleFile = yaml::decode(&tree)?;
        let item = written.item.or_else(|| {
            let list = written.for_each.as_deref()?;
            Some(list.strip_suffix('s').unwrap_or(list).to_owned())
        });
        let parameters = get_map(&tree, "parameters")?;
        let item = item.unwrap_or_default();
        let mut schema = written.schema;
        let comments = Comments::of(&body);
        comments.describe(&mut schema, &parameters, "");
        comments.describe(
            &mut schema,
            &get_map(&tree, "defaults")?,
            &format!("{item}."),
        );
        Ok(Role {
            name: name.to_owned(),
            description: written.description,
            include: written.include,
            for_each: written.for_each,
            item,
            files: vec![tree.at.file.clone()],
            parameters,
            schema,
            tree,
        })
    }

    /// Refuses a schema of something that the role does not have.
    fn validate_schema(&self) -> Result<(), Problem> {
        let defaults = self.map_field("defaults")?;
        let mut known: Vec<String> = Vec::new();
        let names = self.parameters.as_map().unwrap_or_default().iter();
        known.extend(names.map(|entry| entry.key.clone()));
        let settings = defaults.as_map().unwrap_or_default().iter();
        known.extend(settings.map(|entry| format!("{}.{}", self.item, entry.key)));
        let Some(entries) = self.tree.get("schema").and_then(Node::as_map) else {
            return Ok(());
        };
        for entry in entries {
            if !known.contains(&entry.key) {
                return Err(
                    Problem::new(format!("the role has no parameter `{}`", entry.key))
                        .at(&entry.key_at)
                        .field("schema")
                        .suggest(&entry.key, known.iter().map(String::as_str)),
                );
            }
            if let Some(schema) = self.schema.get(&entry.key) {
                schema.validate().map_err(|problem| {
                    problem
                        .at(&entry.key_at)
                        .field(format!("schema.{}", entry.key))
                })?;
            }
        }
        Ok(())
    }

    /// Adds the parameters of an included role below its own.
    fn inherit(&mut self, included: &Role) {
        let own = std::mem::replace(&mut self.parameters, included.parameters.clone());
        merge(&mut self.parameters, own);
        self.files.extend(included.files.iter().cloned());
        let is_parameter = |(name, _): &(&String, &ValueSchema)| !name.contains('.');
        for (name, schema) in included.schema.iter().filter(is_parameter) {
            let own = self.schema.entry(name.clone()).or_default();
            own.inherit(schema);
        }
    }

    /// Whether a location is in this role or in one that it includes.
    pub(super) fn contains(&self, at: &Location) -> bool {
        self.files.contains(&at.file)
    }

    /// A part that must be a map; empty if absent.
    pub(super) fn map_field(&self, key: &str) -> Result<Node, Problem> {
        get_map(&self.tree, key)
    }

    pub(super) fn resources(&self) -> Result<&[Node], Problem> {
        match self.tree.get("resources") {
            Some(node) if !node.is_null() => node.expect_list("a list of resources").map_err(|p| {
                p.field("resources")
                    .hint("begin each resource with `- `, with the space")
            }),
            _ => Ok(&[]),
        }
    }
}

fn get_map(tree: &Node, key: &str) -> Result<Node, Problem> {
    match tree.get(key) {
        Some(node) if !node.is_null() => {
            node.expect_map("a map")
                .map_err(|problem| problem.field(key))?;
            Ok(node.clone())
        }
        _ => Ok(Node::synthetic(&tree.at, yaml::NodeKind::Map(Vec::new()))),
    }
}

/// The roles of a node and those that they include, each once, included ones first.
pub(super) fn load_with_included(lookup: &Lookup, names: &[String]) -> Result<Vec<Role>, Problem> {
    let mut done: Vec<Role> = Vec::new();
    for name in names {
        load_included(lookup, name, &mut done, &mut Vec::new())?;
    }
    Ok(done)
}

fn load_included(
    lookup: &Lookup,
    name: &str,
    done: &mut Vec<Role>,
    open: &mut Vec<String>,
) -> Result<(), Problem> {
    if done.iter().any(|role| role.name == name) {
        return Ok(());
    }
    if open.iter().any(|above| above == name) {
        return Err(Problem::new(format!(
            "roles include each other in a circle: {} -> {name}",
            open.join(" -> ")
        )));
    }
    open.push(name.to_owned());
    let mut role = Role::load(lookup, name)?;
    for included in role.include.clone() {
        let included = &included;
        load_included(lookup, included, done, open).map_err(|problem| {
            match role.tree.get("include") {
                Some(node) => problem.at(&node.at).field("include"),
                None => problem,
            }
        })?;
        if let Some(included) = done.iter().find(|known| known.name == *included) {
            role.inherit(included);
        }
    }
    open.pop();
    role.validate_schema()?;
    done.push(role);
    Ok(())
}
