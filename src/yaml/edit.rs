//! Changing a text where it stands: comments, order, quotes and blank lines stay as they are.
//!
//! A [`Draft`] takes one small change at a time. Each is made twice: as a splice of the text, and
//! on the plain data that the text stands for. [`Draft::finish`] reads the new text and compares;
//! a text that does not say exactly what was meant is never handed out. So whatever in YAML this
//! does not understand ends in a refusal, not in a broken file.

use std::ops::Range;

use serde_json::Value;

use self::view::{Found, View};
use super::node::{Entry, Node};
use super::parse::{Limits, parse};
use super::write::{self, Quotes};
use crate::problem::{At, Problem};

mod view;

/// A text on its way to another.
#[derive(Debug, Clone)]
pub struct Draft {
    file: String,
    /// Without the byte order mark.
    text: String,
    mark: bool,
    newline: &'static str,
    /// The first place in the text as it was that is tied to another.
    alias: Option<At>,
    /// What the text must stand for in the end.
    meant: Value,
}

/// Where in a map a new entry goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// Above all others. Only in the outermost map.
    First,
    /// Below the entry of this key, which is there.
    After(&'a str),
    Last,
}

/// A piece of text to put in the place of another.
type Splice = (Range<usize>, String);

impl Draft {
    /// `file` is how problems call the text.
    pub fn of(file: &str, body: &[u8]) -> Result<Draft, Problem> {
        let tree = parse(file, body, Limits::default())?;
        let body = std::str::from_utf8(body).expect("the parser takes nothing but UTF-8");
        let text = body.strip_prefix('\u{feff}').unwrap_or(body);
        let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
        if text.replace("\r\n", "\n").contains('\r') {
            return Err(Problem::new("it has line ends of a bare carriage return")
                .at(&tree.at)
                .hint("save it with the line ends of Unix"));
        }
        Ok(Draft {
            file: file.to_owned(),
            alias: View::new(text).alias(&tree),
            mark: text.len() < body.len(),
            text: text.to_owned(),
            newline,
            meant: tree.to_json(),
        })
    }

    /// Replaces the scalar at `path` by another.
    pub fn set(&mut self, path: &[&str], value: &Value) -> Result<(), Problem> {
        let tree = self.tree()?;
        let view = View::new(&self.text);
        let found = view.find(&tree, path)?;
        let splice = match view.token(found.node) {
            Some(token) => {
                let quotes = match self.text.as_bytes().get(token.start) {
                    Some(b'"') => Quotes::Double,
                    Some(b'\'') => Quotes::Single,
                    _ => Quotes::AsNeeded,
                };
                (token, write::scalar(value, quotes))
            }
            None => {
                let colon = view.colon(found.node).ok_or_else(|| unable(found.node))?;
                let value = write::scalar(value, Quotes::AsNeeded);
                (colon + 1..colon + 1, format!(" {value}"))
            }
        };
        self.splice(vec![splice]);
        self.mean(path, value.clone());
        Ok(())
    }

    /// Puts a map in the place of the scalar at `path`.
    pub fn widen(&mut self, path: &[&str], value: &Value) -> Result<(), Problem> {
        let tree = self.tree()?;
        let view = View::new(&self.text);
        let found = view.find(&tree, path)?;
        let token = view
            .token(found.node)
            .filter(|token| token.start == found.node.span.start)
            .ok_or_else(|| unable(found.node))?;
        let before = self.text[..token.start].trim_end_matches([' ', '\t']);
        let splices = if !found.in_flow && before.ends_with(':') {
            let indent = view.column(found.key) + self.unit(&tree);
            let end = view.line_end(token.end);
            vec![
                (before.len()..token.end, String::new()),
                (end..end, write::block(value, indent, self.newline)),
            ]
        } else {
            vec![(token, write::flow(value))]
        };
        self.splice(splices);
        self.mean(path, value.clone());
        Ok(())
    }

    /// Adds an entry, which must not be there yet, to the map at `path`.
    pub fn add(
        &mut self,
        path: &[&str],
        place: Place<'_>,
        key: &str,
        value: &Value,
    ) -> Result<(), Problem> {
        let tree = self.tree()?;
        let view = View::new(&self.text);
        let found = view.find(&tree, path)?;
        let splices = match found.node.as_map() {
            Some(entries) if view.is_flow(found.node) => {
                self.in_flow_map(&view, found.node, entries, place, key, value)
            }
            Some(_) => self.in_block(&view, &tree, found.node, place, key, value),
            None if found.node.is_null() => self.in_nothing(&view, &tree, &found, key, value),
            None => None,
        };
        self.splice(splices.ok_or_else(|| unable(found.node))?);
        let whole: Vec<&str> = path.iter().copied().chain([key]).collect();
        self.mean(&whole, value.clone());
        Ok(())
    }

    /// The new text, proven to say what was meant and nothing else.
    pub fn finish(self) -> Result<Vec<u8>, Problem> {
        let tree = self.tree()?;
        if tree.to_json() != self.meant {
            return Err(match &self.alias {
                Some(at) => tied(at),
                None => astray(&tree.at),
            });
        }
        let mut body = Vec::with_capacity(self.text.len() + 3);
        if self.mark {
            body.extend("\u{feff}".bytes());
        }
        body.extend(self.text.bytes());
        Ok(body)
    }

    fn tree(&self) -> Result<Node, Problem> {
        let tree = parse(&self.file, self.text.as_bytes(), Limits::default());
        // It could be read before the first edit.
        tree.map_err(|problem| match &problem.at {
            Some(at) => astray(at),
            None => problem,
        })
    }

    fn splice(&mut self, splices: Vec<Splice>) {
        // From the end, so that the ranges in front stay what they are.
        for (range, text) in splices.into_iter().rev() {
            self.text.replace_range(range, &text);
        }
    }

    fn mean(&mut self, path: &[&str], value: Value) {
        let mut place = &mut self.meant;
        for key in path {
            if !place.is_object() {
                *place = Value::Object(serde_json::Map::new());
            }
            place = &mut place[*key];
        }
        *place = value;
    }

    /// By how many columns this text indents.
    fn unit(&self, tree: &Node) -> usize {
        let view = View::new(&self.text);
        let outer = view.column(view.start(tree));
        let blocks = tree.as_map().unwrap_or_default().iter().filter(|entry| {
            entry.value.as_map().is_some_and(|map| !map.is_empty()) && !view.is_flow(&entry.value)
        });
        blocks
            .map(|entry| view.column(view.start(&entry.value)))
            .find_map(|inner| inner.checked_sub(outer).filter(|unit| *unit > 0))
            .unwrap_or(2)
    }

    fn in_block(
        &self,
        view: &View<'_>,
        tree: &Node,
        map: &Node,
        place: Place<'_>,
        key: &str,
        value: &Value,
    ) -> Option<Vec<Splice>> {
        let indent = view.column(view.start(map));
        let lines = write::entry(key, value, indent, self.unit(tree), self.newline);
        let below = match place {
            Place::First => {
                let top = view.top(map);
                let line = format!("{}{}", &lines[self.newline.len()..], self.newline);
                return Some(vec![(top..top, line)]);
            }
            Place::After(key) => map
                .entry(key)
                .filter(|entry| view.is_own(map, entry) && !view.is_alias(entry))
                .and_then(|entry| view.token(&entry.value))
                .map(|token| token.end),
            Place::Last => None,
        };
        let end = view.line_end(below.unwrap_or_else(|| view.last_content(map)));
        Some(vec![(end..end, lines)])
    }

    fn in_flow_map(
        &self,
        view: &View<'_>,
        map: &Node,
        entries: &[Entry],
        place: Place<'_>,
        key: &str,
        value: &Value,
    ) -> Option<Vec<Splice>> {
        let inside = view.start(map) + 1;
        let entry = write::flow_entry(key, value);
        let own = entries.iter().filter(|entry| view.is_own(map, entry));
        let near = match place {
            Place::First => None,
            Place::After(key) => map.entry(key),
            Place::Last => own.max_by_key(|entry| entry.key_start),
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

    fn in_nothing(
        &self,
        view: &View<'_>,
        tree: &Node,
        found: &Found<'_>,
        key: &str,
        value: &Value,
    ) -> Option<Vec<Splice>> {
        let flow = format!("{{{}}}", write::flow_entry(key, value));
        if let Some(token) = view.token(found.node) {
            let bare = token.start == found.node.span.start;
            return bare.then(|| vec![(token, flow)]);
        }
        let colon = view.colon(found.node)?;
        if found.in_flow {
            return Some(vec![(colon + 1..colon + 1, format!(" {flow}"))]);
        }
        let unit = self.unit(tree);
        let indent = view.column(found.key) + unit;
        let end = view.line_end(colon);
        let lines = write::entry(key, value, indent, unit, self.newline);
        Some(vec![(end..end, lines)])
    }
}

fn tied(at: &At) -> Problem {
    Problem::new("an alias (`*name`) or a merge key (`<<`) ties this to another place, and an edit here would change both")
        .at(at)
        .hint("write the entry out in full, then publish again; nothing was written")
}

fn astray(at: &At) -> Problem {
    Problem::new("internal error: the edited text would not say exactly what was asked for; nothing was written")
        .at(at)
        .hint("make this one edit by hand, and please report it with the file")
}

fn unable(node: &Node) -> Problem {
    Problem::new("it is written in a way that cannot be edited in place")
        .at(&node.at)
        .hint(
            "write it as a plain `key: value` on one line, then publish again; nothing was written",
        )
}

#[cfg(test)]
mod tests;
