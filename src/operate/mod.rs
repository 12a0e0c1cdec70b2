//! What commands decide, for `cli` and for other programs. Returns values and never prints.

pub(crate) mod clean;
pub(crate) mod publish;
pub(crate) mod rollback;
pub(crate) mod status;
