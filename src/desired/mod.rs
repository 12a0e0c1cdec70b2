//! The desired state: the manifest in the store, or the last good one if the store does not provide it.

mod cache;
mod change;
mod content_digest;
pub(crate) mod edit;
mod entry;
mod environment;
#[cfg(test)]
mod environment_tests;
mod generation;
#[cfg(test)]
mod generation_tests;
mod hold;
#[cfg(test)]
mod hold_tests;
mod listing;
mod manifest;
mod node;
mod note;
mod notify;
mod publish;
mod read;
mod repository;
mod rollout;
mod select;
mod sha;
mod signature;
mod state;
#[cfg(test)]
mod tests;

pub(crate) use cache::cached_manifest;
pub(crate) use change::{Action, AppChange, ManifestChange};
pub(crate) use content_digest::ContentDigest;
pub(crate) use edit::{
    CommitList, EditError, HoldRequest, NoteChange, NoteEdit, PublishRequest, SettingEdit,
    ShaChange,
};
pub(crate) use entry::{AppEntry, DesiredApp};
pub(crate) use environment::{
    Environment, EnvironmentSettings, POLICY_APP, POLICY_SETTING, WantedPolicy,
};
pub(crate) use generation::NodeGeneration;
pub(crate) use hold::{Hold, MAX_REASON_CHARS};
use listing::{MAX_LISTED, more_entries_warning};
pub(crate) use manifest::Manifest;
pub(crate) use note::DeployNote;
pub(crate) use notify::Transition;
pub(crate) use publish::{
    FleetReports, PublishError, PublishSummary, ReportedHost, ReportedHosts, ServedBefore, Signing,
    history_key, publish, verify_published,
};

pub(crate) use node::NodeContext;
#[cfg(test)]
pub(crate) use read::read;
pub(crate) use read::{DesiredError, ReadManifest, ReadOptions, fetch, last_known};
pub(crate) use repository::{AllowedRefs, Repo, SshServer};
pub(crate) use rollout::{Amount, Canary, CanaryHosts, OnFailure, RolloutMode, RolloutPolicy};
#[cfg(test)]
use select::select_apps;
pub(crate) use sha::Sha;
#[cfg(test)]
pub(crate) use signature::signed_lines;
pub(crate) use signature::{
    Verification, namespace, own_signer, verified_manifest, verify_text, written_signature,
};
pub(crate) use state::{DesiredState, Freshness, ResumePolicy};
