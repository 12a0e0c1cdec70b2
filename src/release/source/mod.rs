//! An app's repository: its mirror, what is fetched into it, and the trees of its commits.

pub(super) mod allowed_commit;
pub(super) mod commit_graph;
mod damage;
pub(super) mod deploy_key;
pub(super) mod error;
pub(super) mod fetch;
pub(super) mod git_memory;
pub(super) mod mirror;
pub(super) mod mirror_keys;
pub(super) mod probe_remote;
pub(super) mod ref_names;
pub(super) mod tree;
