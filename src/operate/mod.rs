//! What commands decide, for `cli` and for other programs. Returns values and never prints.

pub(crate) mod rollback;
pub(crate) mod status;
