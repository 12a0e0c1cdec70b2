//! What commands decide. Returns values and never prints.

pub(crate) mod app_differences;
pub(crate) mod balancer;
pub(crate) mod build;
pub(crate) mod clean;
pub(crate) mod commits;
pub(crate) mod doctor;
pub(crate) mod eip;
pub(crate) mod environment_history;
mod error;
pub(crate) mod fleet;
pub(crate) mod forget;
pub(crate) mod init;
pub(crate) mod inventory;
pub(crate) mod known_names;
pub(crate) mod logs;
pub(crate) mod maintenance;
pub(crate) mod manifest;
pub(crate) mod notes;
pub(crate) mod notify;
pub(crate) mod now;
pub(crate) mod policy;
pub(crate) mod processes;
pub(crate) mod promote;
pub(crate) mod publish;
pub(crate) mod release_history;
pub(crate) mod restart;
pub(crate) mod roles;
pub(crate) mod rollback;
pub(crate) mod rollback_target;
pub(crate) mod rollout;
pub(crate) mod secret;
mod sign;
pub(crate) mod status;

pub(crate) use error::CommandError;
pub(crate) use sign::SigningKey;
