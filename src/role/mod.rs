//! Roles: parameters and a list of resources, as data.
//!
//! [`RoleSources::expand`] reads the roles of a node, computes their parameters, renders the string leaves of every
//! resource and decodes each resource into its kind. [`resolve`](expand::RoleExpansion::resolve) then adds templates and the
//! desired state, and checks the resources against each other. Neither inspects the host, so a mistake
//! anywhere changes nothing.

mod catalog;
mod check;
mod check_files;
mod comments;
mod common_fields;
mod context;
mod dependents;
mod draft;
mod expand;
mod explain;
mod expression_names;
mod filters;
mod for_each;
mod inputs;
mod interpolate;
mod item_lists;
mod nodes;
mod outline;
mod parameters;
mod path_check;
mod port_check;
mod ports;
#[cfg(test)]
pub(crate) mod privileged_paths;
mod processes;
mod reference;
mod render;
mod rendered;
mod resolve;
mod resolved;
mod resource;
mod restart_requests;
mod schedule;
mod schema;
mod scope;
mod secret_taint;
#[cfg(test)]
mod secret_tests;
#[cfg(test)]
mod secret_value_tests;
mod secret_values;
mod summary;
mod template_files;
mod template_syntax;
mod tera_error;
#[cfg(test)]
mod tests;
mod value_check;
mod value_location;
mod value_schema;
mod vrrp;

pub(crate) use catalog::Catalog;
pub(crate) use check::ConfigCheck;
pub(crate) use check_files::check_files;
pub(crate) use expand::RoleSources;
pub(crate) use explain::explain;
pub(crate) use item_lists::{ItemList, item_lists};
pub(crate) use reference::{
    ParameterReference, RoleReference, RoleSummary, available_roles, describe_role,
};
pub(crate) use rendered::{RenderedResource, render_resources};
pub(crate) use resolve::DraftCatalog;
#[cfg(test)]
pub(crate) use resolve::compile_offline;
pub(crate) use resource::Resource;
pub(crate) use restart_requests::restart_cause;
#[cfg(test)]
pub(crate) use schema::json_schema;
pub(crate) use secret_values::{Placeholders, SecretValues};
pub(crate) use summary::describe_resources;
pub(crate) use value_schema::first_sentence;
