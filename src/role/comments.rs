//! The comments of a role: the one above a parameter describes it, unless its schema does, so that no role says
//! the same twice.

use super::value_schema::RoleSchema;
use crate::yaml::{Entry, Node};

/// The lines of a role file.
pub(super) struct Comments<'a>(Vec<&'a str>);

impl<'a> Comments<'a> {
    pub(super) fn of(body: &'a [u8]) -> Comments<'a> {
        let text = std::str::from_utf8(body).unwrap_or_default();
        Comments(text.lines().collect())
    }

    /// Describes the entries of a map that have a comment. `prefix` is before their names in the schema.
    pub(super) fn describe(&self, schema: &mut RoleSchema, values: &Node, prefix: &str) {
        for entry in values.as_map().unwrap_or_default() {
            let Some(comment) = self.above(entry) else {
                continue;
            };
            let described = schema.entry(format!("{prefix}{}", entry.key)).or_default();
            if described.description.is_empty() {
                described.description = comment;
            }
        }
    }

    /// The comment above an entry that begins its line, at the same indentation.
    fn above(&self, entry: &Entry) -> Option<String> {
        let line = entry.key_at.line as usize;
        let own = self.0.get(line.checked_sub(1)?)?;
        let indent = own.len() - own.trim_start().len();
        if entry.key_at.column as usize != indent + 1 {
            return None;
        }
        let above = self.0[..line - 1].iter().rev();
        let comment = above.map_while(|line| {
            let text = line.get(indent..)?.strip_prefix('#')?;
            let is_indented = line[..indent].trim().is_empty();
            is_indented.then_some(text)
        });
        // What is indented further is an example.
        let sentences = comment.filter(|text| !text.starts_with("  "));
        let mut words: Vec<&str> = sentences.map(str::trim).collect();
        words.reverse();
        (!words.is_empty()).then(|| words.join(" "))
    }
}
