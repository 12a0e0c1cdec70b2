//! Where the code of an app comes from: the address of its repository, and the refs whose commits may be deployed.

mod address;
mod allowed_refs;
mod setting;

pub(crate) use address::{Repo, SshServer};
pub(crate) use allowed_refs::AllowedRefs;
pub(crate) use setting::RepositorySetting;
