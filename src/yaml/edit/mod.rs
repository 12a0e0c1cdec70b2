//! Edits of YAML text in place: comments, order, quotes and blank lines stay as they are.
//!
//! A [`YamlEditor`] applies one small change at a time, both as a splice of the text and on the plain data
//! that the text stands for. [`YamlEditor::finish`] parses the new text and compares the two; a text that
//! does not mean exactly what was intended is never returned. So YAML that this module does not understand
//! leads to an error, not to a broken file.

use std::ops::Range;

use serde_json::Value;

use self::problems::{alias_problem, unsupported_problem, verification_problem};
use self::source::{EditTarget, SourceText};
use super::node::{Entry, Node, NodeKind};
use super::parse::{ParseLimits, parse};
use super::write::{self, QuoteStyle};
use crate::problem::{Location, Problem};

mod problems;
mod source;

/// An edit in progress.
#[derive(Debug, Clone)]
pub(crate) struct YamlEditor {
    file: String,
    /// Without the byte order mark.
    text: String,
    has_bom: bool,
    newline: &'static str,
    /// The first alias or merged value in the original text.
    first_alias: Option<Location>,
    /// The data that the final text must stand for.
    expected: Value,
}

/// The position of a new entry in a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InsertPosition<'a> {
    /// Above all others.
    First,
    /// Below the entry of this key, which must exist.
    After(&'a str),
    Last,
}

/// A range of the text and its replacement.
type Splice = (Range<usize>, String);

impl YamlEditor {
    /// `file` is the name of the text in error messages.
    pub(crate) fn new(file: &str, body: &[u8]) -> Result<YamlEditor, Problem> {
        let tree = parse(file, body, ParseLimits::default())?;
        let body = std::str::from_utf8(body).expect("the parser takes nothing but UTF-8");
        let text = body.strip_prefix('\u{feff}').unwrap_or(body);
        let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
        if text.replace("\r\n", "\n").contains('\r') {
            return Err(Problem::new("it has line ends with a bare carriage return")
                .at(&tree.at)
                .hint("save it with Unix line ends"));
        }
        Ok(YamlEditor {
            file: file.to_owned(),
            first_alias: SourceText::new(text).find_alias(&tree),
            has_bom: text.len() < body.len(),
            text: text.to_owned(),
            newline,
            expected: tree.to_json(),
        })
    }

    /// Replaces the scalar at `path`.
    pub(crate) fn set(&mut self, path: &[&str], value: &Value) -> Result<(), Problem> {
        let tree = self.parse_tree()?;
        let view = SourceText::new(&self.text);
        let found = view.find(&tree, path)?;
        let splice = match view.scalar_range(found.node) {
            Some(token) => {
                let quotes = match self.text.as_bytes().get(token.start) {
                    Some(b'"') => QuoteStyle::Double,
                    Some(b'\'') => QuoteStyle::Single,
                    _ => QuoteStyle::AsNeeded,
                };
                (token, write::render_scalar(value, quotes))
            }
            None => {
                let colon = view
                    .missing_value_colon(found.node)
                    .ok_or_else(|| unsupported_problem(found.node))?;
                let value = write::render_scalar(value, QuoteStyle::AsNeeded);
                (colon + 1..colon + 1, format!(" {value}"))
            }
        };
        self.apply_splices(vec![splice]);
        self.record_expected(path, value.clone());
        Ok(())
    }

    /// Replaces the scalar at `path` by a map.
    pub(crate) fn replace_with_map(&mut self, path: &[&str], value: &Value) -> Result<(), Problem> {
        let tree = self.parse_tree()?;
        let view = SourceText::new(&self.text);
        let found = view.find(&tree, path)?;
        let token = view
            .scalar_range(found.node)
            .filter(|token| token.start == found.node.span.start)
            .ok_or_else(|| unsupported_problem(found.node))?;
        let before = self.text[..token.start].trim_end_matches([' ', '\t']);
        let splices = if !found.in_flow && before.ends_with(':') {
            let indent = view.column(found.key_start) + self.indent_width(&tree);
            let end = view.line_end(token.end);
            vec![
                (before.len()..token.end, String::new()),
                (end..end, write::render_block(value, indent, self.newline)),
            ]
        } else {
            vec![(token, write::render_flow(value))]
        };
        self.apply_splices(splices);
        self.record_expected(path, value.clone());
        Ok(())
    }

    /// Adds an entry, which must not exist yet, to the map at `path`.
    pub(crate) fn insert_entry(
        &mut self,
        path: &[&str],
        position: InsertPosition<'_>,
        key: &str,
        value: &Value,
    ) -> Result<(), Problem> {
        let tree = self.parse_tree()?;
        let view = SourceText::new(&self.text);
        let found = view.find(&tree, path)?;
        let splices = match found.node.as_map() {
            Some(entries) if view.is_flow(found.node) => {
                self.insert_in_flow_map(&view, found.node, entries, position, key, value)
            }
            Some(_) => self.insert_in_block_map(&view, &tree, &found, position, key, value),
            None if found.node.is_null() => self.insert_in_null(&view, &tree, &found, key, value),
            None => None,
        };
        self.apply_splices(splices.ok_or_else(|| unsupported_problem(found.node))?);
        let entry_path: Vec<&str> = path.iter().copied().chain([key]).collect();
        self.record_expected(&entry_path, value.clone());
        Ok(())
    }

    /// Sets the entry `key` of the map at `path`, whatever it was; a new one goes to `position`.
    pub(crate) fn put_entry(
        &mut self,
        path: &[&str],
        position: InsertPosition<'_>,
        key: &str,
        value: &Value,
    ) -> Result<(), Problem> {
        let tree = self.parse_tree()?;
        let map = SourceText::new(&self.text).find(&tree, path)?.node;
        let known = map.get(key);
        let is_scalar = !value.is_object() && !value.is_array();
        if is_scalar && known.is_some_and(|node| matches!(node.kind, NodeKind::Scalar { .. })) {
            let entry_path: Vec<&str> = path.iter().copied().chain([key]).collect();
            return self.set(&entry_path, value);
        }
        if known.is_some() {
            self.remove_entry(path, key)?;
        }
        self.insert_entry(path, position, key, value)
    }

    /// Removes the entry `key`, if there is one, from the map at `path`, with the comments in it.
    pub(crate) fn remove_entry(&mut self, path: &[&str], key: &str) -> Result<(), Problem> {
        let tree = self.parse_tree()?;
        let view = SourceText::new(&self.text);
        let map = view.find(&tree, path)?.node;
        if map.get(key).is_none() {
            return Ok(());
        }
        let entry_path: Vec<&str> = path.iter().copied().chain([key]).collect();
        let found = view.find(&tree, &entry_path)?;
        let range = match found.in_flow {
            true => view.flow_entry_range(map, key),
            false => view.block_entry_range(map, key),
        };
        let range = range.ok_or_else(|| unsupported_problem(found.node))?;
        self.apply_splices(vec![(range, String::new())]);
        let mut target = &mut self.expected;
        for key in path {
            target = &mut target[*key];
        }
        if let Some(map) = target.as_object_mut() {
            map.shift_remove(key);
        }
        Ok(())
    }

    /// Returns the new text, after a check that it means exactly what was intended.
    pub(crate) fn finish(self) -> Result<Vec<u8>, Problem> {
        let tree = self.parse_tree()?;
        if tree.to_json() != self.expected {
            return Err(match &self.first_alias {
                Some(at) => alias_problem(at),
                None => verification_problem(&tree.at),
            });
        }
        let mut body = Vec::with_capacity(self.text.len() + 3);
        if self.has_bom {
            body.extend("\u{feff}".bytes());
        }
        body.extend(self.text.bytes());
        Ok(body)
    }

    /// The text as edited so far.
    pub(crate) fn tree(&self) -> Result<Node, Problem> {
        self.parse_tree()
    }

    fn parse_tree(&self) -> Result<Node, Problem> {
        let tree = parse(&self.file, self.text.as_bytes(), ParseLimits::default());
        // The text was valid before the first edit, so an error comes from an edit.
        tree.map_err(|problem| match &problem.at {
            Some(at) => verification_problem(at),
            None => problem,
        })
    }

    fn apply_splices(&mut self, splices: Vec<Splice>) {
        // From the end, so that earlier ranges stay valid.
        for (range, text) in splices.into_iter().rev() {
            self.text.replace_range(range, &text);
        }
    }

    fn record_expected(&mut self, path: &[&str], value: Value) {
        let mut target = &mut self.expected;
        for key in path {
            if !target.is_object() {
                *target = Value::Object(serde_json::Map::new());
            }
            target = &mut target[*key];
        }
        *target = value;
    }

    /// The number of columns by which this text indents.
    fn indent_width(&self, tree: &Node) -> usize {
        let view = SourceText::new(&self.text);
        let outer = view.column(view.content_start(tree));
        let blocks = tree.as_map().unwrap_or_default().iter().filter(|entry| {
            entry.value.as_map().is_some_and(|map| !map.is_empty()) && !view.is_flow(&entry.value)
        });
        blocks
            .map(|entry| view.column(view.content_start(&entry.value)))
            .find_map(|inner| inner.checked_sub(outer).filter(|unit| *unit > 0))
            .unwrap_or(2)
    }

    fn insert_in_block_map(
        &self,
        view: &SourceText<'_>,
        tree: &Node,
        found: &EditTarget<'_>,
        position: InsertPosition<'_>,
        key: &str,
        value: &Value,
    ) -> Option<Vec<Splice>> {
        let map = found.node;
        let indent = view.column(view.content_start(map));
        let lines =
            write::render_block_entry(key, value, indent, self.indent_width(tree), self.newline);
        let below = match position {
            InsertPosition::First if found.is_nested => {
                let end = view.line_end(found.key_start);
                return Some(vec![(end..end, lines)]);
            }
            InsertPosition::First => {
                let top = view.first_line_start(map);
                let line = format!("{}{}", &lines[self.newline.len()..], self.newline);
                return Some(vec![(top..top, line)]);
            }
            InsertPosition::After(key) => map
                .entry(key)
                .filter(|entry| view.is_own_entry(map, entry) && !view.is_alias(entry))
                .and_then(|entry| view.scalar_range(&entry.value))
                .map(|token| token.end),
            InsertPosition::Last => None,
        };
        let end = view.line_end(below.unwrap_or_else(|| view.last_content(map)));
        Some(vec![(end..end, lines)])
    }

    fn insert_in_flow_map(
        &self,
        view: &SourceText<'_>,
        map: &Node,
        entries: &[Entry],
        position: InsertPosition<'_>,
        key: &str,
        value: &Value,
    ) -> Option<Vec<Splice>> {
        let inside = view.content_start(map) + 1;
        let entry = write::render_flow_entry(key, value);
        let own = entries.iter().filter(|entry| view.is_own_entry(map, entry));
        let near = match position {
            InsertPosition::First => None,
            InsertPosition::After(key) => map.entry(key),
            InsertPosition::Last => own.max_by_key(|entry| entry.key_start),
        };
        let Some((near, end)) = near.and_then(|near| Some((near, view.value_end(near)?))) else {
            let comma = if entries.is_empty() { "" } else { ", " };
            return Some(vec![(inside..inside, format!("{entry}{comma}"))]);
        };
        let line_end = view.line_end(end);
        let rest = self.text[end..line_end].trim_start();
        let comma = rest.starts_with(',');
        let rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        let line_start = view.line_start(near.key_start);
        let indent = &self.text[line_start..near.key_start];
        let alone = indent.trim().is_empty() && (rest.is_empty() || rest.starts_with('#'));
        if !alone {
            return Some(vec![(end..end, format!(", {entry}"))]);
        }
        let line = format!("{}{indent}{entry}", self.newline);
        Some(if comma {
            vec![(line_end..line_end, format!("{line},"))]
        } else {
            vec![(end..end, ",".into()), (line_end..line_end, line)]
        })
    }

    fn insert_in_null(
        &self,
        view: &SourceText<'_>,
        tree: &Node,
        found: &EditTarget<'_>,
        key: &str,
        value: &Value,
    ) -> Option<Vec<Splice>> {
        let flow = format!("{{{}}}", write::render_flow_entry(key, value));
        if let Some(token) = view.scalar_range(found.node) {
            let bare = token.start == found.node.span.start;
            return bare.then(|| vec![(token, flow)]);
        }
        let colon = view.missing_value_colon(found.node)?;
        if found.in_flow {
            return Some(vec![(colon + 1..colon + 1, format!(" {flow}"))]);
        }
        let unit = self.indent_width(tree);
        let indent = view.column(found.key_start) + unit;
        let end = view.line_end(colon);
        let lines = write::render_block_entry(key, value, indent, unit, self.newline);
        Some(vec![(end..end, lines)])
    }
}

/// The lines of an entry of the outermost map as they are written, without the last line break and without comments above
/// and below it. `None`: it is not there, is an alias, or is written in one line with others.
pub(crate) fn entry_text<'t>(file: &str, body: &'t [u8], key: &str) -> Option<&'t str> {
    let tree = parse(file, body, ParseLimits::default()).ok()?;
    let body = std::str::from_utf8(body).ok()?;
    let text = body.strip_prefix('\u{feff}').unwrap_or(body);
    let view = SourceText::new(text);
    let found = view.find(&tree, &[key]).ok()?;
    if found.in_flow {
        return None;
    }
    let start = view.line_start(found.key_start);
    let end = view.line_end(view.block_entry_end(&tree, found.key_start));
    text.get(start..end)
}

#[cfg(test)]
mod tests;
