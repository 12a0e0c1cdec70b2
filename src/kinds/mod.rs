//! The kinds of resources, and the one list of them.

mod authorized_keys;
pub(crate) mod command;
mod directory;
mod file;
mod group;
mod package;
mod package_file;
mod path_field;
#[cfg(test)]
mod property_tests;
pub(crate) mod release;
pub(crate) mod service;
mod shadow_utils;
pub(crate) mod symlink;
mod sysctl;
pub(crate) mod template;
// The example of docs/hacking.md.
#[cfg(test)]
pub(crate) mod timezone;
mod units;
mod user;
pub(crate) mod watch;

use crate::kind::{AnyKind, KindEntry};

/// Every kind that a role may use, in the order of the reference.
pub(crate) const KINDS: &[&dyn AnyKind] = &[
    &KindEntry::<group::Group>::new(),
    &KindEntry::<user::User>::new(),
    &KindEntry::<authorized_keys::AuthorizedKeys>::new(),
    &KindEntry::<directory::Directory>::new(),
    &KindEntry::<file::File>::new(),
    &KindEntry::<template::Template>::new(),
    &KindEntry::<symlink::Symlink>::new(),
    &KindEntry::<package::Package>::new(),
    &KindEntry::<sysctl::Sysctl>::new(),
    &KindEntry::<command::Command>::new(),
    &KindEntry::<release::Release>::new(),
    &KindEntry::<watch::Watch>::new(),
    &KindEntry::<units::Units>::new(),
    &KindEntry::<service::Service>::new(),
];

/// The kind with this name.
pub(crate) fn find(name: &str) -> Option<&'static dyn AnyKind> {
    KINDS.iter().copied().find(|kind| kind.name() == name)
}
