//! Why a text cannot be edited in place.

use crate::problem::{Location, Problem};
use crate::yaml::node::Node;

pub(super) fn alias_problem(at: &Location) -> Problem {
    Problem::new("an alias (`*name`) or a merge key (`<<`) ties this to another place, and an edit here would change both")
        .at(at)
        .hint("write the entry out in full, then publish again; nothing was written")
}

pub(super) fn verification_problem(at: &Location) -> Problem {
    Problem::new("internal error: the edited text would not say exactly what was asked for; nothing was written")
        .at(at)
        .hint("make this one edit by hand, and please report it with the file")
}

pub(super) fn unsupported_problem(node: &Node) -> Problem {
    Problem::new("it is written in a way that cannot be edited in place")
        .at(&node.at)
        .hint(
            "write it as a plain `key: value` on one line, then publish again; nothing was written",
        )
}
