//! Validates what the types of the settings cannot.

use super::format::SettingsFile;
use super::name::{invalid_name, is_name};
use crate::ports::root::Root;
use crate::problem::{Location, Problem};
use crate::yaml::Node;

/// `tree` is all settings.
pub(super) fn validate(file: &SettingsFile, tree: &Node) -> Vec<Problem> {
    let environment = std::slice::from_ref(&file.environment);
    let mut problems = invalid_names(tree, "environment", environment);
    problems.extend(invalid_names(tree, "roles", &file.roles));
    problems.extend(invalid_names(tree, "node", file.node.as_slice()));
    problems.extend(file.fleet.validate(tree));
    problems.extend(file.notify.validate(tree));
    for (field, message) in file.ec2.mistakes() {
        let ec2 = tree.get("ec2").unwrap_or(tree);
        let problem = Problem::new(message).at(location_of(ec2, field));
        problems.push(problem.field(format!("ec2.{field}")));
    }
    if file.roles.is_empty() {
        problems.push(
            Problem::new("expected at least one role")
                .at(location_of(tree, "roles"))
                .field("roles"),
        );
    }
    if let Some(folder) = &file.metrics.textfile
        && let Err(error) = Root::check_path(folder)
    {
        let problem = Problem::new(error.to_string()).at(location_of(tree, "metrics"));
        problems.push(problem.field("metrics.textfile"));
    }
    problems
}

fn invalid_names(tree: &Node, field: &str, names: &[String]) -> Vec<Problem> {
    let invalid = names.iter().filter(|name| !is_name(name));
    let problem = |name: &String| {
        Problem::new(invalid_name(name))
            .at(location_of(tree, field))
            .field(field)
    };
    invalid.map(problem).collect()
}

/// The location of a field, or that of the whole tree if the field is not set.
pub(super) fn location_of<'t>(tree: &'t Node, field: &str) -> &'t Location {
    tree.get(field).map_or(&tree.at, |node| &node.at)
}
