//! Roles: parameters and a list of resources, as data.
//!
//! [`expand`] reads the roles of a node, works out their parameters, renders the string leaves of
//! every resource and decodes it into its kind. [`Expanded::resolve`] then gives each what it needs
//! from templates and from the desired state, and holds them against each other. Nothing on the
//! host is looked at, so a mistake anywhere changes nothing.

mod catalog;
mod context;
mod expand;
mod explain;
mod filters;
mod interpolate;
mod lists;
mod names;
mod nodes;
mod parameters;
mod ports;
mod render;
mod schema;
mod scope;
#[cfg(test)]
mod tests;
mod text;
mod users;

pub use catalog::{Catalog, Resource};
pub use expand::{Expanded, expand};
pub use explain::{Explanation, Layer, explain};
pub use lists::{List, lists};
pub use render::Renderer;
#[cfg(test)]
pub(crate) use schema::reference;
