//! Parses text into nodes within limits, so that no input costs more than its size justifies.

use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use super::node::{Entry, Node, NodeKind, Style, shorten};
use super::offsets::ByteOffsets;
use crate::problem::{Location, Problem};

/// Limits of a document.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ParseLimits {
    /// Bytes of the text; also of what anchors and aliases copy.
    pub bytes: usize,
    /// Nodes after aliases are expanded, which bounds a "billion laughs" text; also nodes that anchors keep,
    /// which bounds nested anchors.
    pub nodes: usize,
    /// Depth of nesting after aliases are expanded, because code that walks a tree recurses.
    pub depth: usize,
}

impl Default for ParseLimits {
    fn default() -> ParseLimits {
        ParseLimits {
            bytes: 4 << 20,
            nodes: 200_000,
            depth: 64,
        }
    }
}

/// Parses one YAML document. An empty text is an empty map, so a file with only comments is valid.
pub(crate) fn parse(file: &str, text: &[u8], limits: ParseLimits) -> Result<Node, Problem> {
    let file: Arc<str> = file.into();
    let start = Location {
        file: file.clone(),
        line: 1,
        column: 1,
    };
    if text.len() > limits.bytes {
        return Err(Problem::new(format!(
            "it is {} bytes long; at most {} are allowed",
            text.len(),
            limits.bytes
        ))
        .at(&start));
    }
    let text = decode_utf8(text, &start)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = TreeBuilder {
        file,
        limits,
        nodes: 0,
        anchored_nodes: 0,
        copied_bytes: 0,
        anchors: HashMap::new(),
        offsets: ByteOffsets::new(text),
        events: Parser::new_from_str(text),
    };
    builder.build_document(&start)
}

fn decode_utf8<'a>(text: &'a [u8], start: &Location) -> Result<&'a str, Problem> {
    let location = |upto: usize| {
        let before = &text[..upto];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Location {
            line: line as u32,
            ..start.clone()
        }
    };
    if let Some(problem) = recognize_encoding(text) {
        return Err(problem.at(start));
    }
    if let Some(zero) = text.iter().position(|byte| *byte == 0) {
        return Err(Problem::new("this is not text: it holds a NUL byte").at(&location(zero)));
    }
    std::str::from_utf8(text)
        .map_err(|error| Problem::new("this is not UTF-8 text").at(&location(error.valid_up_to())))
}

/// Recognizes what editors and upload tools make of a text, by its first bytes.
fn recognize_encoding(text: &[u8]) -> Option<Problem> {
    match text {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some(
            Problem::new("this is UTF-16 text").hint("save it as UTF-8, without a byte order mark"),
        ),
        [0x1f, 0x8b, ..] => Some(
            Problem::new("this is compressed (gzip)")
                .hint("store it as it is: leave out the compression of the tool that uploaded it"),
        ),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(
            Problem::new("this is compressed (zstd)")
                .hint("store it as it is: leave out the compression of the tool that uploaded it"),
        ),
        _ => None,
    }
}

/// A node with an anchor, and the cost of copying it.
struct Anchor {
    node: Node,
    size: NodeSize,
}

/// The size of a node with all its descendants.
#[derive(Clone, Copy, Default)]
struct NodeSize {
    nodes: usize,
    /// Bytes of texts and keys.
    bytes: usize,
    /// Levels of nesting.
    height: usize,
}

struct TreeBuilder<'a> {
    file: Arc<str>,
    limits: ParseLimits,
    nodes: usize,
    /// Nodes that anchors keep.
    anchored_nodes: usize,
    /// Bytes copied for anchors and aliases.
    copied_bytes: usize,
    anchors: HashMap<usize, Anchor>,
    offsets: ByteOffsets<'a>,
    events: Parser<'a, saphyr_parser::StrInput<'a>>,
}

impl<'a> TreeBuilder<'a> {
    fn build_document(&mut self, start: &Location) -> Result<Node, Problem> {
        let mut found = None;
        loop {
            let (event, span) = self.next_event()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
                Event::DocumentStart(_) if found.is_some() => {
                    return Err(
                        Problem::new("a second document starts here; expected only one")
                            .at(&self.location(&span)),
                    );
                }
                Event::DocumentStart(_) => {}
                event => found = Some(self.build_node(event, span, 0)?),
            }
        }
        match found {
            Some(node) if !node.is_null() => Ok(node),
            _ => Ok(Node::synthetic(start, NodeKind::Map(Vec::new()))),
        }
    }

    fn next_event(&mut self) -> Result<(Event<'a>, Span), Problem> {
        match self.events.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(self.scan_problem(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn scan_problem(&self, error: &ScanError) -> Problem {
        let mark = error.marker();
        let mut at = Location {
            file: self.file.clone(),
            line: mark.line() as u32,
            column: mark.col() as u32 + 1,
        };
        let problem = Problem::new(format!("not valid YAML: {}", error.info()));
        // The scanner reports the scalar before the tab; people need the place of the tab.
        let first = mark.line().saturating_sub(1);
        let mut lines = self.offsets.text().lines().enumerate().skip(first).take(2);
        let Some((line, indent)) = lines.find_map(|(line, text)| Some((line, tab_indent(text)?)))
        else {
            let hint = super::hints::scan_hint(error.info());
            return problem.at(&at).optional_hint(hint.map(str::to_owned));
        };
        at.line = line as u32 + 1;
        at.column = indent as u32 + 1;
        problem
            .at(&at)
            .hint("the line is indented with a tab; YAML allows only spaces")
    }

    fn location(&self, span: &Span) -> Location {
        Location {
            file: self.file.clone(),
            line: span.start.line() as u32,
            column: span.start.col() as u32 + 1,
        }
    }

    fn count_nodes(&mut self, at: &Location, more: usize) -> Result<(), Problem> {
        self.nodes += more;
        if self.nodes > self.limits.nodes {
            return Err(Problem::new(format!(
                "it expands to more than {} values (an alias counts as its target)",
                self.limits.nodes
            ))
            .at(at));
        }
        Ok(())
    }

    /// Counts the bytes of a copy before it is made.
    fn count_copied_bytes(&mut self, at: &Location, size: NodeSize) -> Result<(), Problem> {
        self.copied_bytes += size.bytes;
        if self.copied_bytes > self.limits.bytes {
            return Err(Problem::new(format!(
                "its anchors and aliases expand to more than {} bytes of text",
                self.limits.bytes
            ))
            .at(at));
        }
        Ok(())
    }

    fn save_anchor(&mut self, anchor: usize, node: &Node) -> Result<(), Problem> {
        let size = node_size(node);
        self.anchored_nodes += size.nodes;
        if self.anchored_nodes > self.limits.nodes {
            return Err(Problem::new(format!(
                "its anchors name more than {} values (one inside another counts for both)",
                self.limits.nodes
            ))
            .at(&node.at));
        }
        self.count_copied_bytes(&node.at, size)?;
        let node = node.clone();
        self.anchors.insert(anchor, Anchor { node, size });
        Ok(())
    }

    /// Returns a copy of the node that an alias refers to, within the limits.
    fn resolve_alias(
        &mut self,
        anchor: usize,
        at: &Location,
        depth: usize,
    ) -> Result<Node, Problem> {
        let Some(Anchor { size, .. }) = self.anchors.get(&anchor) else {
            return Err(Problem::new("this alias is inside the value that it names").at(at));
        };
        let size = *size;
        self.check_depth(at, depth + size.height - 1)?;
        self.count_nodes(at, size.nodes)?;
        self.count_copied_bytes(at, size)?;
        Ok(self.anchors[&anchor].node.clone())
    }

    fn check_depth(&self, at: &Location, depth: usize) -> Result<(), Problem> {
        if depth > self.limits.depth {
            return Err(
                Problem::new(format!("nested deeper than {} levels", self.limits.depth)).at(at),
            );
        }
        Ok(())
    }

    fn build_node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Problem> {
        let at = self.location(&span);
        self.check_depth(&at, depth)?;
        self.count_nodes(&at, 1)?;
        let start = self.offsets.byte_offset(span.start.index());
        let (kind, anchor, end) = match event {
            Event::Scalar(text, style, anchor, _) => {
                let style = if style == ScalarStyle::Plain {
                    Style::Plain
                } else {
                    Style::Quoted
                };
                let text = text.into_owned();
                (NodeKind::Scalar { text, style }, anchor, span)
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                let end = loop {
                    match self.next_event()? {
                        (Event::SequenceEnd, span) => break span,
                        (event, span) => items.push(self.build_node(event, span, depth + 1)?),
                    }
                };
                (NodeKind::List(items), anchor, end)
            }
            Event::MappingStart(anchor, _) => {
                let (entries, end) = self.build_map(depth)?;
                (NodeKind::Map(entries), anchor, end)
            }
            Event::Alias(id) => return self.resolve_alias(id, &at, depth),
            other => {
                return Err(Problem::new(format!("not valid YAML: unexpected {other:?}")).at(&at));
            }
        };
        let end = self.offsets.byte_offset(end.end.index());
        let node = Node {
            at,
            kind,
            span: start..end.max(start),
        };
        if anchor > 0 {
            self.save_anchor(anchor, &node)?;
        }
        Ok(node)
    }

    fn build_map(&mut self, depth: usize) -> Result<(Vec<Entry>, Span), Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged: Vec<Entry> = Vec::new();
        // A map may have 100,000 keys, so each is looked up once, with a seeded hash that an attacker cannot
        // steer into collisions.
        let mut lines: HashMap<String, u32> = HashMap::new();
        let end = loop {
            let (event, span) = self.next_event()?;
            if event == Event::MappingEnd {
                break span;
            }
            let key_node = self.build_node(event, span, depth + 1)?;
            let (key_at, key_start) = (key_node.at.clone(), key_node.span.start);
            let key = match key_node.kind {
                NodeKind::Scalar { text, .. } => text,
                _ => {
                    return Err(Problem::new("a key must be a single word")
                        .at(&key_at)
                        .hint(super::hints::KEY_HINT));
                }
            };
            let (event, span) = self.next_event()?;
            let value = self.build_node(event, span, depth + 1)?;
            if key == "<<" {
                merged.extend(merged_entries(value)?);
                continue;
            }
            if let Some(first) = lines.insert(key.clone(), key_at.line) {
                return Err(Problem::new(format!(
                    "duplicate key `{}` (first on line {first})",
                    shorten(&key)
                ))
                .at(&key_at));
            }
            entries.push(Entry {
                key,
                key_at,
                key_start,
                value,
            });
        };
        for entry in merged {
            if lines.insert(entry.key.clone(), entry.key_at.line).is_none() {
                entries.push(entry);
            }
        }
        Ok((entries, end))
    }
}

/// The entries from a merge key (`<<`), earlier maps first.
fn merged_entries(value: Node) -> Result<Vec<Entry>, Problem> {
    match value.kind {
        NodeKind::Map(entries) => Ok(entries),
        NodeKind::List(items) => {
            let mut all = Vec::new();
            for item in items {
                all.extend(merged_entries(item)?);
            }
            Ok(all)
        }
        NodeKind::Scalar { .. } => {
            Err(Problem::new("`<<` takes a map or a list of maps").at(&value.at))
        }
    }
}

/// The position of a tab in a line's leading white space, in characters.
fn tab_indent(line: &str) -> Option<usize> {
    line.chars()
        .take_while(|c| c.is_whitespace())
        .position(|c| c == '\t')
}

fn node_size(node: &Node) -> NodeSize {
    let own = |bytes: usize| NodeSize {
        nodes: 1,
        bytes,
        height: 1,
    };
    let holds = |sum: NodeSize, inner: NodeSize| NodeSize {
        nodes: sum.nodes + inner.nodes,
        bytes: sum.bytes + inner.bytes,
        height: sum.height.max(1 + inner.height),
    };
    match &node.kind {
        NodeKind::Scalar { text, .. } => own(text.len()),
        NodeKind::List(items) => items.iter().map(node_size).fold(own(0), holds),
        NodeKind::Map(entries) => entries.iter().fold(own(0), |sum, entry| {
            let sum = holds(sum, own(entry.key.len()));
            holds(sum, node_size(&entry.value))
        }),
    }
}
