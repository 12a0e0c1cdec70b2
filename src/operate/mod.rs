//! What commands decide. Returns values and never prints.

pub(crate) mod balancer;
pub(crate) mod build;
pub(crate) mod clean;
pub(crate) mod doctor;
pub(crate) mod eip;
mod error;
pub(crate) mod fleet;
pub(crate) mod forget;
pub(crate) mod init;
pub(crate) mod inventory;
pub(crate) mod logs;
pub(crate) mod maintenance;
pub(crate) mod notify;
pub(crate) mod processes;
pub(crate) mod publish;
pub(crate) mod release_history;
pub(crate) mod restart;
pub(crate) mod roles;
pub(crate) mod rollback;
pub(crate) mod rollout;
pub(crate) mod status;

pub(crate) use error::CommandError;
