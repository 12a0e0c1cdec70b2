//! `trueup facts`: what templates can see of this host.

use super::{Output, edge};
use crate::exit::Exit;
use crate::pass::Places;
use crate::ports::root::Root;

pub(super) fn run(places: &Places, output: &Output) -> Result<Exit, edge::Error> {
    let facts = crate::facts::gather(&Root::at(&places.root)?);
    if output.json {
        output.document(&facts);
        return Ok(Exit::Converged);
    }
    let value = serde_json::to_value(&facts).unwrap_or_default();
    let mut rows = Vec::new();
    flatten("facts", &value, &mut rows);
    output.table(&rows);
    Ok(Exit::Converged)
}

/// Each leaf with the name by which a template calls it.
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
