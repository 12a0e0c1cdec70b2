//! Commands that change the manifest for all hosts of an environment.

pub(super) mod history;
pub(super) mod hold;
pub(super) mod note;
pub(super) mod now;
mod output;
mod preview;
pub(super) mod promote;
mod publisher;
pub(super) mod roll_back_policy;
pub(super) mod rollback;

pub(super) use output::{Details, note_lines, print_published};
pub(super) use preview::manifest_diff;
pub(super) use publisher::{Publisher, inherited_environment};
