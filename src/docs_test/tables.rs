//! Renders JSON schemas as Markdown tables.

use std::collections::BTreeMap;
use std::fmt::Write;

use schemars::Schema;
use serde_json::{Map, Value};

const HEAD: &str = "| field | type | default | |\n| --- | --- | --- | --- |\n";

/// The fields of a type, followed by those of each struct type that it uses.
pub(super) fn field_tables(schema: &Schema) -> String {
    let root = schema.as_value();
    let mut text = table(root, root);
    for (name, inner) in definitions(root).filter(|(_, inner)| has_fields(inner)) {
        let mut used = fields_of_type(root, name);
        used.dedup();
        writeln!(text, "\n`{}`: {}\n", used.join("`, `"), description(inner)).unwrap();
        text.push_str(&table(inner, root));
    }
    text
}

/// The types of fields that have their own notation.
pub(super) fn type_list(schemas: &[Schema]) -> String {
    let mut known = BTreeMap::new();
    for schema in schemas {
        let own = definitions(schema.as_value()).filter(|(_, inner)| is_opaque(inner));
        known.extend(own.map(|(name, inner)| (type_name(name), description(inner))));
    }
    let mut text = String::new();
    for (name, about) in known {
        writeln!(text, "- *{name}*: {about}").unwrap();
    }
    text
}

/// Fields without documentation.
pub(super) fn undocumented_fields(schema: &Schema) -> Vec<String> {
    let root = schema.as_value();
    let owners = std::iter::once(root).chain(definitions(root).map(|(_, inner)| inner));
    owners
        .flat_map(properties)
        .filter(|(_, field)| description(field).is_empty())
        .map(|(name, _)| name.clone())
        .collect()
}

fn table(schema: &Value, root: &Value) -> String {
    let mut text = HEAD.to_owned();
    for (name, field) in properties(schema) {
        let default = if is_required(schema, name) {
            "**required**".to_owned()
        } else {
            default_text(field)
        };
        let about = description(field).replace('|', "\\|");
        writeln!(
            text,
            "| `{name}` | {} | {default} | {about} |",
            type_text(field, root)
        )
        .unwrap();
    }
    text
}

fn default_text(field: &Value) -> String {
    match field.get("default") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) if text.is_empty() => String::new(),
        Some(Value::String(text)) => format!("`{text}`"),
        Some(Value::Array(items)) if items.is_empty() => String::new(),
        Some(Value::Object(map)) if map.is_empty() => String::new(),
        Some(value) => format!("`{value}`"),
    }
}

/// Notation of a field's type.
fn type_text(field: &Value, root: &Value) -> String {
    if let Some((name, inner)) = resolve_reference(field, root) {
        return match choices(inner) {
            values if !values.is_empty() => values.join(", "),
            _ if has_fields(inner) => "map, see below".into(),
            _ => format!("[{}](#types)", type_name(name)),
        };
    }
    let values = choices(field);
    if !values.is_empty() {
        return values.join(", ");
    }
    let several = ["anyOf", "oneOf"]
        .iter()
        .find_map(|key| field[*key].as_array());
    if let Some(several) = several {
        let mut words: Vec<String> = several
            .iter()
            .filter(|one| one["type"] != "null")
            .map(|one| type_text(one, root))
            .collect();
        words.dedup();
        return words.join(" or ");
    }
    match non_null_type(&field["type"]) {
        "string" => "text".into(),
        "boolean" => "`true`, `false`".into(),
        "integer" => "whole number".into(),
        "array" => format!("list of {}", plural(&type_text(&field["items"], root))),
        "object" => "map".into(),
        "" => "anything".into(),
        other => other.into(),
    }
}

fn plural(word: &str) -> String {
    match word.strip_prefix("map") {
        Some(rest) => format!("maps{rest}"),
        None => word.to_owned(),
    }
}

/// The type of an optional field, without `null`.
fn non_null_type(types: &Value) -> &str {
    match types {
        Value::Array(types) => types
            .iter()
            .filter_map(Value::as_str)
            .find(|name| *name != "null")
            .unwrap_or_default(),
        other => other.as_str().unwrap_or_default(),
    }
}

/// The variants of an enumeration.
fn choices(schema: &Value) -> Vec<String> {
    let quoted = |value: &Value| value.as_str().map(|word| format!("`{word}`"));
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().filter_map(quoted).collect();
    }
    if let Some(word) = quoted(&schema["const"]) {
        return vec![word];
    }
    let several = schema["oneOf"].as_array();
    let inner: Vec<Vec<String>> = several.into_iter().flatten().map(choices).collect();
    if inner.iter().any(Vec::is_empty) {
        return Vec::new();
    }
    inner.concat()
}

fn resolve_reference<'a>(field: &'a Value, root: &'a Value) -> Option<(&'a str, &'a Value)> {
    let name = field["$ref"].as_str()?.strip_prefix("#/$defs/")?;
    Some((name, root.get("$defs")?.get(name)?))
}

fn definitions(root: &Value) -> impl Iterator<Item = (&String, &Value)> {
    root["$defs"].as_object().into_iter().flatten()
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
}

fn is_required(schema: &Value, name: &str) -> bool {
    let names = schema["required"].as_array();
    names.is_some_and(|names| names.iter().any(|one| one == name))
}

fn has_fields(schema: &Value) -> bool {
    schema["properties"]
        .as_object()
        .is_some_and(|map: &Map<_, _>| !map.is_empty())
}

/// Whether fields of this type show its name instead of its definition.
fn is_opaque(schema: &Value) -> bool {
    !has_fields(schema) && choices(schema).is_empty()
}

/// The fields that use a type, whatever type they belong to.
fn fields_of_type(root: &Value, name: &str) -> Vec<String> {
    let target = format!("\"#/$defs/{name}\"");
    let owners = std::iter::once(root).chain(definitions(root).map(|(_, inner)| inner));
    owners
        .flat_map(properties)
        .filter(|(_, field)| field.to_string().contains(&target))
        .map(|(field, _)| field.clone())
        .collect()
}

fn type_name(name: &str) -> String {
    name.to_lowercase()
}

fn description(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
