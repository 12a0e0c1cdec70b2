//! The pipeline that deploys an app at a sha: fetch → materialise → link → build → assets → migrate →
//! preflight → activate → gate → keep. One stage per file.
//!
//! Its invariants: the record calls a release `building` before its folder exists, `built` only after its
//! last step succeeded and all of it is on disk, and `good` once it passed its gate; `current` is switched
//! only to a built or good release. So a pass may be killed at any instant: the next one resumes at the stage
//! where it stopped. Until a release's tree is complete and has its owner, its folder is hidden and
//! accessible only to root, because the repository's content is not trusted.
//!
//! Steps whose inputs did not change are skipped (see `skip`), and compiled assets outlive the release that
//! produced them (see `assets`).
//!
//! The record notes a switch of `current` as a *trial* before it happens. The pass restarts the services that
//! run from it, as after any change of a dependency; then the gate decides, and the trial ends with
//! [`record_proven`] or [`restore_previous`].
//!
//! # Layers
//!
//! A layer imports only from the layers above it:
//!
//! | layer | contents |
//! | --- | --- |
//! | `app` | an app's release as its role declares it, and the layout of its folders |
//! | `record` | the record of its releases: stages, quarantine, pin |
//! | `progress` | what a long fetch or a command is at, as log events |
//! | `deployment` | the value that all layers below share: one app at one sha |
//! | `source` | the repository: mirror, fetch, allowed refs, the tree of a commit |
//! | `stages` | the stages of a release, one file each |
//! | `pipeline` | the stages in order: from a sha to a release on trial |
//! | `commands` | operators' commands: rollback, private releases, cleaning, `exec` |

mod activation;
mod app;
mod commands;
mod deployment;
mod pipeline;
pub(crate) mod progress;
mod record;
mod source;
mod stages;
#[cfg(test)]
mod tests;

pub(crate) use app::health::{asks_web_server, drain_route, health_path};
pub(crate) use app::layout::release_in_path;
pub(crate) use app::spec::{InsteadOfWanted, ReleaseSpec};
pub(crate) use commands::clean::{CleanResult, clean, finish_cleanup};
pub(crate) use commands::diff::{ChangeType, ChangedFile};
pub(crate) use commands::exec::exec_command;
pub(crate) use commands::maintenance::{begin_maintenance, end_due_maintenance, end_maintenance};
pub(crate) use commands::private::{build_private, resolve_ref};
pub(crate) use commands::rollback::{RollbackTarget, lift_quarantine, pin, select_target, unpin};
pub(crate) use commands::selection_error::SelectionError;
pub(crate) use deployment::{DeployOutcome, PrivateBuild};
pub(crate) use pipeline::{build_ahead, deploy, refresh};
pub(crate) use record::drain::{describe_drain, drained_apps};
pub(crate) use record::entry::{ReleaseStatus, StageEntry, StageStatus};
pub(crate) use record::failed_stage::failed_stage;
pub(crate) use record::inventory::{
    Inventory, ReleaseInfo, ReleasePhase, active_release_name, inventory, release_names,
};
pub(crate) use record::log::{ReleaseHistory, read_history};
pub(crate) use record::maintenance::{Maintenance, apps_in_maintenance, maintenance_file};
pub(crate) use record::overrides::Overrides;
pub(crate) use record::pin::Pin;
pub(crate) use record::quarantine::QuarantinedSha;
pub(crate) use record::running::{RunningStep, running_step};
pub(crate) use record::{ActiveRelease, RecordedTrial, ReleaseRecord, active, recorded_names};
pub(crate) use source::fetch::is_unknown_host_key;
pub(crate) use source::probe_remote::{count_remote_refs, unknown_host_key};
pub(crate) use stages::active_links;
pub(crate) use stages::drain::{drain, end_all_drains, is_drained, return_from_drain};
pub(crate) use stages::files;
pub(crate) use stages::folders::check_path;
pub(crate) use stages::gate::{
    check_active, crashes_at_gate, poll_gate, poll_restarted, poll_services, record_crashes,
    record_proven, repeat_trial,
};
pub(crate) use stages::health::check_health;
pub(crate) use stages::keep::KeepFailed;
pub(crate) use stages::listener::port_conflict;
pub(crate) use stages::permission::{activation_purpose, note_failure, obstacle, quarantined};
pub(crate) use stages::resume::find_complete;
pub(crate) use stages::rollback::{
    RollbackOutcome, finish_rollback, restore_previous, undo_rollback,
};
pub(crate) use stages::skip::describe_commands;
pub(crate) use stages::unchanged::{Comparison, SameFiles, compare};
