//! Positions of nodes in a text to be edited.

use std::ops::Range;

use super::problems::{alias_problem, unsupported_problem};
use crate::problem::{Location, Problem};
use crate::yaml::node::{Entry, Node, NodeKind, Style};

/// A node that may be edited: it is where its path says, and nowhere else (no alias, no merge key).
pub(super) struct EditTarget<'a> {
    pub node: &'a Node,
    /// Byte offset of its key; 0 for the outermost map.
    pub key_start: usize,
    pub in_flow: bool,
    /// Whether it is below a key, not the outermost map.
    pub is_nested: bool,
}

/// A text in which nodes are located by byte offset.
pub(super) struct SourceText<'a> {
    text: &'a str,
}

impl<'a> SourceText<'a> {
    pub(super) fn new(text: &'a str) -> SourceText<'a> {
        SourceText { text }
    }

    pub(super) fn find<'n>(
        &self,
        tree: &'n Node,
        path: &[&str],
    ) -> Result<EditTarget<'n>, Problem> {
        let mut found = EditTarget {
            node: tree,
            key_start: 0,
            in_flow: false,
            is_nested: false,
        };
        for key in path {
            let map = found.node;
            let entry = map.entry(key).ok_or_else(|| unsupported_problem(map))?;
            if !self.is_own_entry(map, entry) || self.is_alias(entry) {
                return Err(alias_problem(&entry.key_at).field(path.join(".")));
            }
            found = EditTarget {
                node: &entry.value,
                key_start: entry.key_start,
                in_flow: self.is_flow(map),
                is_nested: true,
            };
        }
        Ok(found)
    }

    /// Whether an entry is in this map itself. One from a merge key is earlier in the text.
    pub(super) fn is_own_entry(&self, map: &Node, entry: &Entry) -> bool {
        entry.key_start >= map.span.start
    }

    /// Whether the value is an alias: its anchor is before the entry that refers to it.
    pub(super) fn is_alias(&self, entry: &Entry) -> bool {
        entry.value.span.start < entry.key_start
    }

    /// The place of the first alias or value from a merge key.
    pub(super) fn find_alias(&self, node: &Node) -> Option<Location> {
        match &node.kind {
            NodeKind::Scalar { .. } => None,
            NodeKind::List(items) => items.iter().find_map(|item| self.find_alias(item)),
            NodeKind::Map(entries) => entries.iter().find_map(|entry| {
                if !self.is_own_entry(node, entry) || self.is_alias(entry) {
                    return Some(entry.key_at.clone());
                }
                self.find_alias(&entry.value)
            }),
        }
    }

    /// The start of a node, after its anchor and tag.
    pub(super) fn content_start(&self, node: &Node) -> usize {
        let mut start = node.span.start;
        loop {
            let rest = &self.text[start..];
            let blank = rest.len() - rest.trim_start().len();
            let word = &rest[blank..];
            if start > node.span.start && word.starts_with('#') {
                start += blank + word.find('\n').unwrap_or(word.len());
                continue;
            }
            if !word.starts_with(['&', '!']) {
                return if start == node.span.start {
                    start
                } else {
                    start + blank
                };
            }
            let length = word.find(char::is_whitespace).unwrap_or(word.len());
            start += blank + length;
        }
    }

    pub(super) fn is_flow(&self, map: &Node) -> bool {
        self.text[self.content_start(map)..].starts_with('{')
    }

    /// The range of a scalar on one line, including its quotes. `None` for a missing value and for a block.
    pub(super) fn scalar_range(&self, node: &Node) -> Option<Range<usize>> {
        let NodeKind::Scalar { text, style } = &node.kind else {
            return None;
        };
        let start = self.content_start(node);
        let line = self.text.get(start..self.line_end(start))?;
        let length = match style {
            Style::Plain if !text.is_empty() && line.starts_with(text) => text.len(),
            Style::Plain => return None,
            // The parser counts the rest of the line as part of a quoted scalar.
            _ => quoted_length(line)?,
        };
        Some(start..start + length).filter(|token| token.end <= node.span.end)
    }

    /// The colon before a missing value.
    pub(super) fn missing_value_colon(&self, node: &Node) -> Option<usize> {
        let at = node.span.start;
        (node.span.is_empty() && self.text[at..].starts_with(':')).then_some(at)
    }

    /// The end of an entry's value in a flow map, if it can be determined.
    pub(super) fn value_end(&self, entry: &Entry) -> Option<usize> {
        if self.is_alias(entry) {
            return None;
        }
        let close = match &entry.value.kind {
            NodeKind::Scalar { .. } => {
                return self.scalar_range(&entry.value).map(|token| token.end);
            }
            NodeKind::List(_) => ']',
            NodeKind::Map(_) => '}',
        };
        let end = entry.value.span.end;
        self.text.get(..end)?.ends_with(close).then_some(end)
    }

    /// The lines of an entry in a block map that has others, up to the comments above the next entry.
    pub(super) fn block_entry_range(&self, map: &Node, key: &str) -> Option<Range<usize>> {
        let own = map.as_map()?.iter();
        let count = own.filter(|entry| self.is_own_entry(map, entry)).count();
        let start = map.entry(key)?.key_start;
        let line_start = self.line_start(start);
        let is_alone = self.text[line_start..start].trim().is_empty();
        let end = self.line_end(self.block_entry_end(map, start));
        // With the line break in front, so that a text without a final one keeps none.
        let break_start = self.text[..line_start].strip_suffix('\n')?;
        let break_start = break_start.strip_suffix('\r').unwrap_or(break_start).len();
        (is_alone && count > 1).then_some(break_start..end)
    }

    /// A position on the last line of the entry of a block map whose key is at `start`.
    pub(super) fn block_entry_end(&self, map: &Node, start: usize) -> usize {
        let own = map.as_map().unwrap_or_default().iter();
        let own = own.filter(|entry| self.is_own_entry(map, entry));
        let next = own
            .map(|entry| entry.key_start)
            .filter(|other| *other > start);
        let end = next
            .min()
            .map_or(map.span.end, |next| self.line_start(next));
        self.last_content_before(end, start)
    }

    /// An entry in a flow map that has others, with one comma.
    pub(super) fn flow_entry_range(&self, map: &Node, key: &str) -> Option<Range<usize>> {
        let entry = map.entry(key)?;
        let end = self.value_end(entry)?;
        let after = self.text[end..].trim_start();
        if let Some(rest) = after.strip_prefix(',') {
            let rest = rest.trim_start_matches(' ');
            return Some(entry.key_start..self.text.len() - rest.len());
        }
        let before = self.text[..entry.key_start].trim_end().strip_suffix(',')?;
        Some(before.len()..end)
    }

    pub(super) fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |found| found + 1)
    }

    /// The end of a line, without its line break.
    pub(super) fn line_end(&self, at: usize) -> usize {
        let rest = &self.text[at..];
        let line = rest.split('\n').next().unwrap_or_default();
        at + line.strip_suffix('\r').unwrap_or(line).len()
    }

    pub(super) fn column(&self, at: usize) -> usize {
        self.text[self.line_start(at)..at].chars().count()
    }

    /// A position on the last line of a block map that is neither blank nor a comment.
    pub(super) fn last_content(&self, map: &Node) -> usize {
        self.last_content_before(map.span.end, map.span.start)
    }

    /// The end of the last line before `end` that is neither blank nor a comment, and not before `start`.
    fn last_content_before(&self, mut end: usize, start: usize) -> usize {
        let first = start;
        loop {
            end = self.text[..end].trim_end().len();
            let start = self.line_start(end);
            let comment = self.text[start..end].trim_start().starts_with('#');
            if !comment || start <= first {
                return end.max(first);
            }
            end = start;
        }
    }

    /// Where a new first line of the outermost block map may go: at the top of the text, or after the
    /// document start marker (`---`).
    pub(super) fn first_line_start(&self, map: &Node) -> usize {
        let before = &self.text[..self.line_start(self.content_start(map))];
        let mut top = 0;
        let mut start = 0;
        for line in before.split_inclusive('\n') {
            start += line.len();
            if line.starts_with("---") {
                top = start;
            }
        }
        top
    }
}

/// The length of the quoted text at the start of a line.
fn quoted_length(line: &str) -> Option<usize> {
    let mut chars = line.char_indices().peekable();
    let (_, quote) = chars.next().filter(|(_, c)| "'\"".contains(*c))?;
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' if quote == '"' => _ = chars.next(),
            '\'' if quote == '\'' && chars.next_if(|(_, next)| *next == '\'').is_some() => {}
            _ if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}
