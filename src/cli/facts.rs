//! `trueup facts`: the facts of this host that templates can use.

use std::rc::Rc;

use serde_json::json;

use super::Output;
use crate::exit::Exit;
use crate::facts::Facts;
use crate::operate::CommandError;
use crate::pass::Paths;
use crate::ports::root::Root;

pub(super) fn run(paths: &Paths, output: &Output) -> Result<Exit, CommandError> {
    let facts = Facts::new(Rc::new(Root::at(&paths.root)?));
    let facts = facts.all();
    if output.is_document() {
        output.print_document(&json!({"version": crate::report::VERSION, "facts": facts}));
        return Ok(Exit::Converged);
    }
    let mut rows = Vec::new();
    flatten("facts", facts, &mut rows);
    output.print_list(&rows);
    Ok(Exit::Converged)
}

/// Each leaf with its dotted name in templates.
fn flatten(name: &str, value: &serde_json::Value, rows: &mut Vec<Vec<String>>) {
    use serde_json::Value;
    match value {
        Value::Object(map) => map
            .iter()
            .for_each(|(key, value)| flatten(&format!("{name}.{key}"), value, rows)),
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(i, item)| flatten(&format!("{name}[{i}]"), item, rows));
        }
        Value::String(text) => rows.push(vec![name.to_owned(), text.clone()]),
        other => rows.push(vec![name.to_owned(), other.to_string()]),
    }
}
