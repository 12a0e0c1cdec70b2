//! YAML, and the only module that knows which library reads it.
//!
//! A text becomes a tree of [`Node`]s that remember where they stood ([`parse()`]); a tree becomes a
//! typed value ([`decode()`]) or, for roles, is rendered first. Scalars stay text until a type asks
//! for them, so that a sha made of digits, a version `1.10` and a mode `0644` are never turned into
//! numbers behind anybody's back. A [`YamlEditor`] changes a text where it stands.

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

/// An entry of the outermost map as lines of YAML, without a line break at the end.
pub fn render_entry(name: &str, value: &serde_json::Value) -> String {
    write::render_block_entry(name, value, 0, 2, "\n")
        .trim_start()
        .to_owned()
}
