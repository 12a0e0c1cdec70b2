//! `trueup roles`: the roles that a node can have, and what each lets operators set.

use clap::{Args, Subcommand};

use super::Output;
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::roles::{self, RoleList};
use crate::pass::Paths;
use crate::report::Paint;
use crate::role::{self, ParameterReference, RoleReference};

#[derive(Debug, Args)]
pub struct RolesArgs {
    #[command(subcommand)]
    pub command: Option<RolesCommand>,
}

#[derive(Debug, Subcommand)]
pub enum RolesCommand {
    /// Show all roles, the shipped ones and those beside the settings, with their descriptions
    List,
    /// Show the parameters of a role with type, default and description
    Show(ShowRoleArgs),
}

#[derive(Debug, Args)]
pub struct ShowRoleArgs {
    /// Which role
    #[arg(value_name = "ROLE")]
    pub role: String,
}

/// Longest default in the table, in characters.
const MAX_DEFAULT_WIDTH: usize = 32;

pub(super) fn run(args: &RolesArgs, paths: &Paths, output: &Output) -> Result<Exit, CommandError> {
    match &args.command {
        None | Some(RolesCommand::List) => {
            let list = roles::list(paths)?;
            match output.is_document() {
                true => output.print_document(&list),
                false => print_list(&list, output),
            }
            Ok(list.outcome)
        }
        Some(RolesCommand::Show(args)) => {
            let document = roles::show(paths, &args.role)?;
            match output.is_document() {
                true => output.print_document(&document),
                false => print_role(&document.role, output),
            }
            Ok(Exit::Converged)
        }
    }
}

fn print_list(list: &RoleList, output: &Output) {
    let mut table = vec![["ROLE", "ORIGIN", "DESCRIPTION"].map(String::from).to_vec()];
    table.extend(list.roles.iter().map(|role| {
        vec![
            output.paint.strong(&role.name),
            role.origin.as_str().to_owned(),
            role.description.clone(),
        ]
    }));
    output.print_table(&table);
    for problem in &list.errors {
        output.print_error(&format!("trueup: {problem}"));
    }
}

fn print_role(role: &RoleReference, output: &Output) {
    let summary = &role.summary;
    let paint = output.paint;
    output.print_line(format!(
        "{}: {}",
        paint.strong(&summary.name),
        summary.description
    ));
    output.print_line(paint.faint(&format!("{}, {}", summary.origin.as_str(), summary.file)));
    print_table("parameters", &role.parameters, output);
    if let Some(items) = &role.items {
        let title = format!("each {} in {}", items.name, items.parameter);
        print_table(&title, &items.settings, output);
    }
    for included in &role.included {
        let title = format!(
            "parameters of the role {}, which it includes",
            included.role
        );
        print_table(&title, &included.parameters, output);
    }
}

fn print_table(title: &str, parameters: &[ParameterReference], output: &Output) {
    if parameters.is_empty() {
        return;
    }
    output.print_line("");
    output.print_line(format!("{}:", output.paint.strong(title)));
    let rows = parameters.iter();
    let rows: Vec<Vec<String>> = rows.map(|parameter| row(parameter, output.paint)).collect();
    output.print_reference(&rows);
}

fn row(parameter: &ParameterReference, paint: Paint) -> Vec<String> {
    vec![
        format!("  {}", parameter.name),
        paint.faint(&type_words(parameter)),
        match parameter.required && parameter.default.is_null() {
            true => paint.changed("required"),
            false => default_words(&parameter.default),
        },
        role::first_sentence(&parameter.description).to_owned(),
    ]
}

fn type_words(parameter: &ParameterReference) -> String {
    if !parameter.one_of.is_empty() {
        return parameter.one_of.join("|");
    }
    let range = match (parameter.min, parameter.max) {
        (None, None) => String::new(),
        (min, max) => {
            let words = |number: Option<i64>| number.map_or(String::new(), |n| n.to_string());
            format!(" {}..{}", words(min), words(max))
        }
    };
    format!("{}{range}", parameter.value_type)
}

/// In one line; `-` for what is not set.
fn default_words(default: &serde_json::Value) -> String {
    use serde_json::Value;
    let text = match default {
        Value::Null => return "-".into(),
        Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if default.to_string().len() > MAX_DEFAULT_WIDTH => {
            return format!("({} items)", items.len());
        }
        Value::Object(map) if default.to_string().len() > MAX_DEFAULT_WIDTH => {
            let keys: Vec<&str> = map.keys().map(String::as_str).collect();
            format!("({})", keys.join(", "))
        }
        other => other.to_string(),
    };
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(MAX_DEFAULT_WIDTH) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}
