//! An app's repository: its mirror, what is fetched into it, and the trees of its commits.

pub mod allowed_commit;
pub mod commit_graph;
pub mod deploy_key;
pub mod fetch;
pub mod git_memory;
pub mod mirror;
pub mod mirror_keys;
pub mod probe_remote;
pub mod ref_names;
pub mod tree;
