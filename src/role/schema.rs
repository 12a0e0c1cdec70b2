//! A role as written, and where it is found.

use serde::Deserialize;

use crate::problem::Problem;
use crate::settings::Library;
use crate::yaml::{self, Limits, Node};

/// The keys of a role.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[allow(
    dead_code,
    reason = "decoded for its errors and its reference; read as a tree"
)]
pub(super) struct Written {
    /// One line for people.
    #[serde(default)]
    pub description: String,
    /// Roles whose resources come before these, once.
    #[serde(default)]
    pub include: Vec<String>,
    /// What can be set from outside, with its default; `null` means that it must be set.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "std::collections::BTreeMap<String, String>"))]
    parameters: serde_json::Value,
    /// The resources are there once for each item of this parameter (a map).
    pub for_each: Option<String>,
    /// What an item is called in the role; the parameter's name without its last `s` when not given.
    #[serde(rename = "as")]
    pub item: Option<String>,
    /// What each item has unless it says otherwise. Later ones may use earlier ones.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "std::collections::BTreeMap<String, String>"))]
    defaults: serde_json::Value,
    /// Commands that check a set of files together, by the name that files give in `check`.
    #[serde(default)]
    #[cfg_attr(
        test,
        schemars(with = "std::collections::BTreeMap<String, Vec<String>>")
    )]
    checks: serde_json::Value,
    /// What is to be so, in this order.
    #[serde(default)]
    #[cfg_attr(
        test,
        schemars(with = "Vec<std::collections::BTreeMap<String, String>>")
    )]
    resources: serde_json::Value,
}

/// A role, its parts still trees.
#[derive(Debug, Clone)]
pub(super) struct Role {
    pub name: String,
    pub tree: Node,
    pub include: Vec<String>,
    pub for_each: Option<String>,
    pub item: String,
}

impl Role {
    pub(super) fn read(library: &Library, name: &str) -> Result<Role, Problem> {
        let Some((path, body)) = library.read("roles", &format!("{name}.yml"))? else {
            let known = library.names("roles", ".yml");
            let problem = Problem::new(format!(
                "there is no role `{name}` in {}",
                library.places("roles")
            ));
            return Err(problem.suggest(name, known.iter().map(String::as_str)));
        };
        let tree = yaml::parse(&path.display().to_string(), &body, Limits::default())?;
        let written: Written = yaml::decode(&tree)?;
        let item = written.item.or_else(|| {
            let list = written.for_each.as_deref()?;
            Some(list.strip_suffix('s').unwrap_or(list).to_owned())
        });
        Ok(Role {
            name: name.to_owned(),
            include: written.include,
            for_each: written.for_each,
            item: item.unwrap_or_default(),
            tree,
        })
    }

    /// A part that must be a map; an empty one when it is not there.
    pub(super) fn map(&self, key: &str) -> Result<Node, Problem> {
        match self.tree.get(key) {
            Some(node) if !node.is_null() => {
                node.map("a map").map_err(|problem| problem.field(key))?;
                Ok(node.clone())
            }
            _ => Ok(Node::made(&self.tree.at, yaml::Kind::Map(Vec::new()))),
        }
    }

    pub(super) fn resources(&self) -> Result<&[Node], Problem> {
        match self.tree.get("resources") {
            Some(node) if !node.is_null() => node
                .list("a list of resources")
                .map_err(|p| p.field("resources")),
            _ => Ok(&[]),
        }
    }
}

/// The roles of a node with those that they include, each once, included ones first.
pub(super) fn with_included(library: &Library, names: &[String]) -> Result<Vec<Role>, Problem> {
    let mut done: Vec<Role> = Vec::new();
    for name in names {
        add(library, name, &mut done, &mut Vec::new())?;
    }
    Ok(done)
}

fn add(
    library: &Library,
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
    let role = Role::read(library, name)?;
    for included in &role.include {
        add(library, included, done, open).map_err(|problem| match role.tree.get("include") {
            Some(node) => problem.at(&node.at).field("include"),
            None => problem,
        })?;
    }
    open.pop();
    done.push(role);
    Ok(())
}
