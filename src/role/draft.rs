//! A resource of a role before it is checked against the others.

use crate::kind::AnyResource;
use crate::problem::Location;
use crate::yaml::Node;

/// A resource that is not yet checked against the others.
pub(super) struct Draft {
    pub id: String,
    pub explicit_id: bool,
    pub at: Location,
    pub role: String,
    pub item: Option<String>,
    /// Rendered, without the common fields.
    pub node: Node,
    pub body: Box<dyn AnyResource>,
    /// As written, each with the item in whose scope it resolves.
    pub requires: Vec<(Option<String>, String)>,
    /// Its scope, as an index.
    pub scope: usize,
}
