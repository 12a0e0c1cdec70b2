//! YAML, and the only module that knows which library reads it.
//!
//! A text becomes a tree of [`Node`]s that remember where they stood ([`parse`]); a tree becomes a
//! typed value ([`decode`]) or, for roles, is rendered first. Scalars stay text until a type asks
//! for them, so that a sha made of digits, a version `1.10` and a mode `0644` are never turned into
//! numbers behind anybody's back. A [`Draft`] changes a text where it stands.

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
pub use edit::{Draft, Place};
pub use node::{Entry, Kind, Node, Style};
pub use parse::{Limits, parse};
pub use seconds::Seconds;
pub use size::Size;

/// An entry of the outermost map as lines of YAML, without a line break at the end.
pub fn entry(name: &str, value: &serde_json::Value) -> String {
    write::entry(name, value, 0, 2, "\n")
        .trim_start()
        .to_owned()
}
