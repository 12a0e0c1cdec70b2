//! The kinds, and the one list of them.

mod authorized_keys;
mod command;
mod directory;
mod file;
mod group;
mod package;
#[cfg(test)]
pub(crate) mod privileged;
#[cfg(test)]
mod properties;
pub(crate) mod release;
mod service;
mod shadow;
mod symlink;
mod template;
mod user;
mod watch;

use crate::resource::{AnyKind, Registered};

/// Every kind that a role may use, in the order of the reference.
pub const KINDS: &[&dyn AnyKind] = &[
    &Registered::<group::Group>::new(),
    &Registered::<user::User>::new(),
    &Registered::<authorized_keys::AuthorizedKeys>::new(),
    &Registered::<directory::Directory>::new(),
    &Registered::<file::File>::new(),
    &Registered::<template::Template>::new(),
    &Registered::<symlink::Symlink>::new(),
    &Registered::<package::Package>::new(),
    &Registered::<command::Command>::new(),
    &Registered::<release::Release>::new(),
    &Registered::<watch::Watch>::new(),
    &Registered::<service::Service>::new(),
];

/// The kind of this name.
pub fn find(name: &str) -> Option<&'static dyn AnyKind> {
    KINDS.iter().copied().find(|kind| kind.name() == name)
}

/// Refuses a path that no resource can have, before anything is looked at.
fn usable_path(field: &str, path: &std::path::Path) -> Result<(), crate::problem::Problem> {
    crate::ports::root::Root::check_path(path)
        .map_err(|error| crate::problem::Problem::new(error.to_string()).field(field))
}
