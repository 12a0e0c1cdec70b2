//! YAML parsing, decoding and editing; the only module that depends on the YAML library.
//!
//! [`parse()`] turns a text into a tree of [`Node`]s that keep their place; [`decode()`] turns a tree into a
//! typed value, and roles render theirs first. Scalars stay text until a type asks for something else, so
//! that a sha made of digits, a version `1.10` and a mode `0644` never turn into numbers silently. A
//! [`YamlEditor`] edits a text in place.

mod decode;
mod edit;
mod node;
mod offsets;
mod parse;
mod seconds;
mod size;
#[cfg(test)]
mod tests;
mod write;

pub use decode::decode;
pub use edit::{InsertPosition, YamlEditor};
pub use node::{Entry, Node, NodeKind, Style};
pub use parse::{ParseLimits, parse};
pub use seconds::Seconds;
pub use size::Size;

/// Renders an entry of the outermost map as lines of YAML, without a final line break.
pub fn render_entry(name: &str, value: &serde_json::Value) -> String {
    write::render_block_entry(name, value, 0, 2, "\n")
        .trim_start()
        .to_owned()
}
