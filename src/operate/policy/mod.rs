//! The policy bundles of an environment: what operators do with them.
//!
//! The object is written first, under its digest, and then the manifest names it, with the one function that edits manifests:
//! a command that is killed in between leaves an object that nobody reads.

mod preview;
mod push;
mod roll_back;
mod sweep;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::CommandError;
use super::manifest::{find_environment, read_manifest};
use super::publish::Publish;
use crate::desired::{
    Action, ContentDigest, POLICY_SETTING, PublishRequest, PublishSummary, SettingEdit,
};
use crate::pass::PassError;
use crate::policy;
use crate::ports::store::Store;
use crate::problem::Problem;
use crate::settings::{FleetSettings, Signers};

pub(crate) use preview::{BundlePreview, load_settings, preview};
pub(crate) use push::{PackedBundle, PushOutcome, push};
pub(crate) use roll_back::roll_back;

/// The keys below `_settings`.
const PREVIOUS: &str = "previous_policy";

/// The environment whose bundles a command works on.
pub(crate) struct PolicyTarget<'a> {
    pub store: &'a dyn Store,
    pub environment: &'a str,
    pub manifest_key: &'a str,
    pub fleet: &'a FleetSettings,
    /// Who may have signed the manifest; `None`: nobody has to.
    pub signers: Option<&'a Signers>,
    pub publisher: &'a dyn Publish,
    /// Who, why and when.
    pub request: PublishRequest,
}

/// What the manifest says about the bundles of an environment.
pub(crate) struct EnvironmentPolicy {
    pub policy: Option<ContentDigest>,
    pub previous: Option<ContentDigest>,
}

/// A row of `policy list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ListedBundle {
    pub digest: ContentDigest,
    /// When it was pushed first, by the store's clock; `None`: it is not there.
    pub since: Option<Timestamp>,
    /// In bytes, packed.
    pub size: Option<u64>,
    /// What the manifest says of it.
    pub role: Option<BundleRole>,
}

/// What the manifest says of a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BundleRole {
    Wanted,
    Previous,
}

impl PolicyTarget<'_> {
    /// Reads what the manifest says.
    pub(crate) fn read(&self) -> Result<EnvironmentPolicy, CommandError> {
        read_policy(
            self.store,
            self.manifest_key,
            self.environment,
            self.signers,
        )
    }

    /// The bundles in the store, newest first. All environments share them.
    pub(crate) fn list(&self) -> Result<Vec<ListedBundle>, CommandError> {
        let current = self.read()?;
        let objects = self.store.list(policy::OBJECTS_PREFIX);
        let objects = objects.map_err(PassError::Store)?.into_iter();
        let rows = objects.filter_map(|object| {
            Some(ListedBundle {
                digest: policy::digest_of_key(&object.key)?,
                since: Some(object.modified),
                size: Some(object.size),
                role: None,
            })
        });
        let mut rows: Vec<ListedBundle> = rows.collect();
        let named = [
            (current.policy, BundleRole::Wanted),
            (current.previous, BundleRole::Previous),
        ];
        for (digest, role) in named {
            let Some(digest) = digest else { continue };
            match rows.iter_mut().find(|row| row.digest == digest) {
                Some(row) => row.role = Some(row.role.unwrap_or(role)),
                None => rows.push(ListedBundle {
                    digest,
                    since: None,
                    size: None,
                    role: Some(role),
                }),
            }
        }
        rows.sort_by(|a, b| b.since.cmp(&a.since).then(a.digest.cmp(&b.digest)));
        Ok(rows)
    }

    /// The bundle with this digest, or whose digest begins so; without one, that which the manifest names.
    pub(crate) fn find(&self, text: Option<&str>) -> Result<ContentDigest, CommandError> {
        let listed = self.list()?;
        let env = self.environment;
        let Some(text) = text else {
            let mut wanted = listed.into_iter();
            let wanted = wanted.find(|row| row.role == Some(BundleRole::Wanted));
            return Ok(wanted.ok_or_else(|| none(env))?.digest);
        };
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        // Who may write the store can make a bundle whose digest begins as another one does. Only those that the manifest
        // names may be shortened.
        let is_named = |row: &ListedBundle| row.digest.hex() == hex || row.role.is_some();
        let mut found = listed
            .into_iter()
            .filter(|row| row.digest.hex().starts_with(hex) && is_named(row));
        match (found.next(), found.next()) {
            (Some(row), None) if hex.len() >= 4 => Ok(row.digest),
            (Some(_), Some(_)) => Err(CommandError::Usage(Problem::new(format!(
                "`{text}` is the beginning of several digests"
            )))),
            _ => Err(CommandError::Usage(
                Problem::new(format!(
                    "there is no bundle `{text}` in {}",
                    self.store.address()
                ))
                .hint(format!(
                    "`trueup policy list {env} -o json` shows them: one that the manifest does not name goes by its whole digest"
                )),
            )),
        }
    }

    /// Edits the manifest, if it still names these bundles.
    fn publish(
        &self,
        action: Action,
        current: &EnvironmentPolicy,
        policy: Option<&ContentDigest>,
        previous: Option<&ContentDigest>,
    ) -> Result<PublishSummary, CommandError> {
        let edit = |key: &str, digest: Option<&ContentDigest>| SettingEdit {
            path: vec![key.to_owned()],
            value: digest.map(|digest| Value::String(digest.to_string())),
        };
        let request = PublishRequest {
            action,
            settings: vec![edit(POLICY_SETTING, policy), edit(PREVIOUS, previous)],
            expected_settings: vec![edit(POLICY_SETTING, current.policy.as_ref())],
            ..self.request.clone()
        };
        self.publisher.publish(request)
    }
}

/// What the manifest says about the bundles of an environment; with signers, what one of them has signed.
pub(crate) fn read_policy(
    store: &dyn Store,
    key: &str,
    environment: &str,
    signers: Option<&Signers>,
) -> Result<EnvironmentPolicy, CommandError> {
    let manifest = read_manifest(store, key, environment, signers)?;
    let settings = find_environment(&manifest, environment, None)?
        .settings
        .clone();
    let settings = settings.map_err(CommandError::input)?;
    Ok(EnvironmentPolicy {
        policy: settings.policy,
        previous: settings.previous_policy,
    })
}

fn none(environment: &str) -> CommandError {
    CommandError::Usage(
        Problem::new(format!("{environment} has no policy bundle")).hint(format!(
            "`trueup policy push {environment} DIR` makes the first one"
        )),
    )
}
