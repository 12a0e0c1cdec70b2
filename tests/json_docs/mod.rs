//! Compares documents that commands print with docs/json.md. Shared by the tests of the library and of the program.

use std::collections::BTreeMap;

use serde_json::Value;

/// The tables of the page.
pub(crate) struct JsonDocs {
    sections: BTreeMap<String, Vec<Field>>,
}

struct Field {
    name: String,
    kind: String,
    is_optional: bool,
}

impl JsonDocs {
    pub(crate) fn read() -> JsonDocs {
        let page = include_str!("../../docs/json.md");
        let mut sections: BTreeMap<String, Vec<Field>> = BTreeMap::new();
        let mut section = String::new();
        for line in page.lines() {
            if let Some(title) = line.strip_prefix("### ") {
                section = title.to_owned();
            }
            let Some(row) = line.strip_prefix("| `") else {
                continue;
            };
            let (name, rest) = row.split_once("` | ").expect(line);
            let (kind, _) = rest.split_once(" |").expect(line);
            let required = kind.strip_suffix(", optional");
            sections.entry(section.clone()).or_default().push(Field {
                name: name.to_owned(),
                kind: required.unwrap_or(kind).to_owned(),
                is_optional: required.is_some(),
            });
        }
        JsonDocs { sections }
    }

    /// The differences of a document and the table of a section: fields that the page lacks, fields that it promises and
    /// the document lacks, and values of other types.
    pub(crate) fn differences(&self, section: &str, document: &Value) -> Vec<String> {
        let mut found = Vec::new();
        self.compare(section, document, section, &mut found);
        found
    }

    fn compare(&self, section: &str, document: &Value, at: &str, found: &mut Vec<String>) {
        let Some(fields) = self.sections.get(section) else {
            return found.push(format!("{at}: the page has no section `{section}`"));
        };
        let Some(object) = document.as_object() else {
            return found.push(format!("{at}: expected an object: {document}"));
        };
        for name in object.keys() {
            if !fields.iter().any(|field| field.name == *name) {
                found.push(format!("{at}.{name}: the page does not have it"));
            }
        }
        for field in fields {
            let at = format!("{at}.{}", field.name);
            match object.get(&field.name) {
                Some(value) => self.check(&field.kind, value, &at, found),
                None if field.is_optional => {}
                None => found.push(format!("{at}: it is promised and missing")),
            }
        }
    }

    fn check(&self, kind: &str, value: &Value, at: &str, found: &mut Vec<String>) {
        if let Some(kind) = kind.strip_suffix(" or null") {
            if !value.is_null() {
                self.check(kind, value, at, found);
            }
            return;
        }
        if let Some(kind) = kind.strip_prefix("list of ") {
            let Some(list) = value.as_array() else {
                return found.push(format!("{at}: expected a list: {value}"));
            };
            return list.iter().for_each(|one| self.check(kind, one, at, found));
        }
        if let Some(kind) = kind.strip_prefix("map of ") {
            let Some(map) = value.as_object() else {
                return found.push(format!("{at}: expected a map: {value}"));
            };
            return map
                .values()
                .for_each(|one| self.check(kind, one, at, found));
        }
        let is_sha = |text: &str| text.len() == 40 && text.chars().all(|c| c.is_ascii_hexdigit());
        let fits = match kind {
            "any" => true,
            "string" => value.is_string(),
            "number" => value.is_u64() || value.is_i64(),
            "boolean" => value.is_boolean(),
            "sha" => value.as_str().is_some_and(is_sha),
            section => return self.compare(section, value, at, found),
        };
        if !fits {
            found.push(format!("{at}: expected {kind}: {value}"));
        }
    }
}
