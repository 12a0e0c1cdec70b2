//! Checks roles and templates by themselves, without a host that has them: what `policy push` can know of a bundle.

use std::collections::BTreeSet;

use super::draft::ResourceNode;
use super::nodes::NodesFunction;
use super::render::new_tera;
use super::schema::load_with_included;
use super::secret_values::{Placeholders, SecretValues};
use super::template_syntax::{is_template, referenced_templates, with_argument_names};
use super::tera_error;
use crate::problem::Problem;
use crate::settings::Lookup;

/// The mistakes in all roles of a search path and in the templates that they name. What depends on parameters and facts
/// shows only for a host.
pub(crate) fn check_files(lookup: &Lookup) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut templates = BTreeSet::new();
    for name in lookup.names("roles", ".yml") {
        if let Err(problem) = check_role(lookup, &name, &mut templates, &mut problems)
            && !problems.contains(&problem)
        {
            problems.push(problem);
        }
    }
    problems.extend(
        templates
            .iter()
            .filter_map(|name| check_template(lookup, name).err()),
    );
    problems
}

fn check_role(
    lookup: &Lookup,
    name: &str,
    templates: &mut BTreeSet<String>,
    problems: &mut Vec<Problem>,
) -> Result<(), Problem> {
    let roles = load_with_included(lookup, &[name.to_owned()])?;
    let Some(role) = roles.last() else {
        return Ok(());
    };
    for node in role.resources()? {
        let resource = match ResourceNode::parse(node) {
            Ok(resource) => resource,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        let source = resource.fields.get("source").and_then(|s| s.as_text());
        if let Some(source) = source.filter(|source| !is_template(source))
            && resource.kind.name() == "template"
        {
            templates.insert(source.to_owned());
        }
    }
    Ok(())
}

/// Compiles a template with those that it includes or extends.
fn check_template(lookup: &Lookup, name: &str) -> Result<(), Problem> {
    let secrets = SecretValues::placeholders(Placeholders::First);
    let mut tera = new_tera(&NodesFunction::default(), &secrets);
    let mut texts: Vec<(String, String)> = Vec::new();
    let mut wanted = vec![name.to_owned()];
    while let Some(name) = wanted.pop() {
        if texts.iter().any(|(known, _)| *known == name) {
            continue;
        }
        let Some((path, body)) = lookup.read("templates", &name)? else {
            return Err(Problem::new(format!(
                "there is no template `{name}` in {}",
                lookup.searched_folders("templates")
            )));
        };
        let text = String::from_utf8(body)
            .map_err(|_| Problem::new(format!("{} is not UTF-8 text", path.display())))?;
        wanted.extend(referenced_templates(&text));
        texts.push((name, with_argument_names(&text).into_owned()));
    }
    let path_of = |name: &str| match lookup.read("templates", name) {
        Ok(Some((path, _))) => path.display().to_string(),
        _ => name.to_owned(),
    };
    let added = tera.add_raw_templates(texts.iter().map(|(name, text)| (name, text)));
    added.map_err(|error| {
        tera_error::explain(&error, &super::scope::Scope::default(), Some(&path_of))
    })
}
