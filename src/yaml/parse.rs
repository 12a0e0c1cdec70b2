//! From text to nodes, within bounds: no input costs more than its size allows.

use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use super::node::{Entry, Kind, Node, Style};
use crate::problem::{At, Problem};

/// How much of a document is too much.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of the text, in bytes.
    pub bytes: usize,
    /// Of nodes after aliases are put in, so that a "billion laughs" stays small.
    pub nodes: usize,
    /// Of nesting.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            bytes: 4 << 20,
            nodes: 200_000,
            depth: 64,
        }
    }
}

/// Reads one YAML document. An empty text is an empty map: a file of comments only is no error.
pub fn parse(file: &str, text: &[u8], limits: Limits) -> Result<Node, Problem> {
    let file: Arc<str> = file.into();
    let start = At {
        file: file.clone(),
        line: 1,
        column: 1,
    };
    if text.len() > limits.bytes {
        return Err(Problem::new(format!(
            "it is {} bytes long; at most {} are read",
            text.len(),
            limits.bytes
        ))
        .at(&start));
    }
    let text = utf8(text, &start)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder {
        file,
        limits,
        nodes: 0,
        anchors: HashMap::new(),
        offsets: Offsets::new(text),
        events: Parser::new_from_str(text),
    };
    builder.document(&start)
}

fn utf8<'a>(text: &'a [u8], start: &At) -> Result<&'a str, Problem> {
    let place = |upto: usize| {
        let before = &text[..upto];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        At {
            line: line as u32,
            ..start.clone()
        }
    };
    if let Some(zero) = text.iter().position(|byte| *byte == 0) {
        return Err(Problem::new("this is not text: it holds a NUL byte").at(&place(zero)));
    }
    std::str::from_utf8(text)
        .map_err(|error| Problem::new("this is not UTF-8 text").at(&place(error.valid_up_to())))
}

/// Byte offsets of character positions that only ever move forward.
struct Offsets<'a> {
    text: &'a str,
    ascii: bool,
    chars: usize,
    bytes: usize,
}

impl<'a> Offsets<'a> {
    fn new(text: &'a str) -> Offsets<'a> {
        Offsets {
            text,
            ascii: text.is_ascii(),
            chars: 0,
            bytes: 0,
        }
    }

    fn of(&mut self, chars: usize) -> usize {
        if self.ascii {
            return chars.min(self.text.len());
        }
        if chars < self.chars {
            (self.chars, self.bytes) = (0, 0);
        }
        let rest = &self.text[self.bytes..];
        let step = rest
            .char_indices()
            .nth(chars - self.chars)
            .map_or(rest.len(), |(at, _)| at);
        (self.chars, self.bytes) = (chars, self.bytes + step);
        self.bytes
    }
}

struct Builder<'a> {
    file: Arc<str>,
    limits: Limits,
    nodes: usize,
    anchors: HashMap<usize, Node>,
    offsets: Offsets<'a>,
    events: Parser<'a, saphyr_parser::StrInput<'a>>,
}

impl<'a> Builder<'a> {
    fn document(&mut self, start: &At) -> Result<Node, Problem> {
        let mut found = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
                Event::DocumentStart(_) if found.is_some() => {
                    return Err(
                        Problem::new("a second document starts here; expected only one")
                            .at(&self.at(&span)),
                    );
                }
                Event::DocumentStart(_) => {}
                event => found = Some(self.node(event, span, 0)?),
            }
        }
        match found {
            Some(node) if !node.is_null() => Ok(node),
            _ => Ok(Node::made(start, Kind::Map(Vec::new()))),
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Problem> {
        match self.events.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(self.scan_problem(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn scan_problem(&self, error: &ScanError) -> Problem {
        let mark = error.marker();
        let mut at = At {
            file: self.file.clone(),
            line: mark.line() as u32,
            column: mark.col() as u32 + 1,
        };
        let problem = Problem::new(format!("not valid YAML: {}", error.info()));
        // The scanner points at the scalar before the tab; people look for the tab.
        let first = mark.line().saturating_sub(1);
        let mut lines = self.offsets.text.lines().enumerate().skip(first).take(2);
        let Some((line, indent)) = lines.find_map(|(line, text)| Some((line, tab_indent(text)?)))
        else {
            return problem.at(&at);
        };
        at.line = line as u32 + 1;
        at.column = indent as u32 + 1;
        problem
            .at(&at)
            .hint("the line is indented with a tab; YAML allows only spaces")
    }

    fn at(&self, span: &Span) -> At {
        At {
            file: self.file.clone(),
            line: span.start.line() as u32,
            column: span.start.col() as u32 + 1,
        }
    }

    fn count(&mut self, at: &At, more: usize) -> Result<(), Problem> {
        self.nodes += more;
        if self.nodes > self.limits.nodes {
            return Err(Problem::new(format!(
                "it grows to more than {} values (aliases count as what they stand for)",
                self.limits.nodes
            ))
            .at(at));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Problem> {
        let at = self.at(&span);
        if depth > self.limits.depth {
            return Err(
                Problem::new(format!("nested deeper than {} levels", self.limits.depth)).at(&at),
            );
        }
        self.count(&at, 1)?;
        let start = self.offsets.of(span.start.index());
        let (kind, anchor, end) = match event {
            Event::Scalar(text, style, anchor, _) => {
                let style = if style == ScalarStyle::Plain {
                    Style::Plain
                } else {
                    Style::Quoted
                };
                let text = text.into_owned();
                (Kind::Scalar { text, style }, anchor, span)
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                let end = loop {
                    match self.next()? {
                        (Event::SequenceEnd, span) => break span,
                        (event, span) => items.push(self.node(event, span, depth + 1)?),
                    }
                };
                (Kind::List(items), anchor, end)
            }
            Event::MappingStart(anchor, _) => {
                let (entries, end) = self.mapping(depth)?;
                (Kind::Map(entries), anchor, end)
            }
            Event::Alias(id) => {
                let node = self.anchors.get(&id).cloned().ok_or_else(|| {
                    Problem::new("this alias stands inside of what it names").at(&at)
                })?;
                self.count(&at, size(&node))?;
                return Ok(node);
            }
            other => {
                return Err(Problem::new(format!("not valid YAML: unexpected {other:?}")).at(&at));
            }
        };
        let end = self.offsets.of(end.end.index());
        let node = Node {
            at,
            kind,
            span: start..end.max(start),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn mapping(&mut self, depth: usize) -> Result<(Vec<Entry>, Span), Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged: Vec<Entry> = Vec::new();
        let end = loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break span;
            }
            let key_node = self.node(event, span, depth + 1)?;
            let key_at = key_node.at.clone();
            let key = match key_node.kind {
                Kind::Scalar { text, .. } => text,
                _ => return Err(Problem::new("a key must be a single word").at(&key_at)),
            };
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            if key == "<<" {
                merged.extend(merge_sources(value)?);
                continue;
            }
            if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                return Err(Problem::new(format!(
                    "the key `{key}` is there twice (first on line {})",
                    first.key_at.line
                ))
                .at(&key_at));
            }
            entries.push(Entry { key, key_at, value });
        };
        for entry in merged {
            if !entries.iter().any(|own| own.key == entry.key) {
                entries.push(entry);
            }
        }
        Ok((entries, end))
    }
}

/// The entries that a merge key (`<<`) brings in, earlier maps first.
fn merge_sources(value: Node) -> Result<Vec<Entry>, Problem> {
    match value.kind {
        Kind::Map(entries) => Ok(entries),
        Kind::List(items) => {
            let mut all = Vec::new();
            for item in items {
                all.extend(merge_sources(item)?);
            }
            Ok(all)
        }
        Kind::Scalar { .. } => {
            Err(Problem::new("`<<` takes a map or a list of maps").at(&value.at))
        }
    }
}

/// Where in the white space before a line's text a tab stands, in characters.
fn tab_indent(line: &str) -> Option<usize> {
    line.chars()
        .take_while(|c| c.is_whitespace())
        .position(|c| c == '\t')
}

fn size(node: &Node) -> usize {
    match &node.kind {
        Kind::Scalar { .. } => 1,
        Kind::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Kind::Map(entries) => 1 + entries.iter().map(|e| 1 + size(&e.value)).sum::<usize>(),
    }
}
