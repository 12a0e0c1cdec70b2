//! YAML parsing, decoding, editing and writing; the only module that depends on YAML libraries.
//!
//! [`parse()`] turns a text into a tree of [`Node`]s that keep their place; [`decode()`] turns a tree into a
//! typed value, and roles render theirs first. Scalars stay text until a type asks for something else, so
//! that a sha made of digits, a version `1.10` and a mode `0644` never turn into numbers silently. A
//! [`YamlEditor`] edits a text in place; [`serialize()`] writes a new one.

mod decode;
mod edit;
mod hints;
mod node;
mod offsets;
mod parse;
mod seconds;
mod serialize;
mod size;
#[cfg(test)]
mod tests;
mod time;
mod write;

pub(crate) use decode::decode;
pub(crate) use edit::{InsertPosition, YamlEditor, entry_text};
pub(crate) use node::{Entry, Node, NodeKind, Style};
pub(crate) use parse::{ParseLimits, parse};
pub(crate) use seconds::{Seconds, SecondsOrZero};
pub(crate) use serialize::serialize;
pub(crate) use size::Size;
pub(crate) use time::{deserialize_optional_end, deserialize_optional_time, parse_end};
