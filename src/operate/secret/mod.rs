//! The secrets of an environment: what operators do with them.
//!
//! A value is encrypted here, on the operator's machine. The object is written first, under the name of its digest, and
//! then the manifest names it, with the one function that edits manifests: a command that is killed in between leaves an
//! object that nobody reads.

mod change;
mod known;
mod rekey;
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::CommandError;
use super::manifest::{find_environment, read_manifest};
use super::publish::Publish;
use crate::desired::{Action, ContentDigest, PublishRequest, PublishSummary, SettingEdit};
use crate::pass::PassError;
use crate::ports::store::{Store, WriteCondition};
use crate::problem::Problem;
use crate::secrets::{self, Identity, Recipient};
use crate::settings::{Signers, invalid_name, is_name};

pub(crate) use change::{edit_value, remove, set};
pub(crate) use known::KnownRecipients;
pub(crate) use rekey::{ProposedRecipient, RekeyProposal, propose, rekey};

/// The keys below `_settings`.
const SECRETS: &str = "secrets";
const RECIPIENTS: &str = "recipients";

/// The environment whose secrets a command works on, and who works on them.
pub(crate) struct SecretTarget<'a> {
    pub store: &'a dyn Store,
    pub environment: &'a str,
    pub manifest_key: &'a str,
    /// A host that has not written its record for so long is no host any more.
    pub gone_after: Duration,
    pub by: &'a str,
    pub reason: Option<&'a str>,
    /// Who may have signed the manifest: its recipients are those who will be able to read a secret. `None`: nobody has to.
    pub signers: Option<&'a Signers>,
    /// The operator has read what the manifest says now.
    pub trusts_current: bool,
    pub publisher: &'a dyn Publish,
    pub now: Timestamp,
}

/// What the manifest says about the secrets of an environment.
#[derive(Debug, Clone)]
pub(crate) struct EnvironmentSecrets {
    pub named: BTreeMap<String, ContentDigest>,
    pub recipients: Vec<Recipient>,
    /// Commands ask before they change it.
    pub protected: bool,
    /// The recipients as written.
    lines: Vec<String>,
}

/// A row of `secret list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ListedSecret {
    pub name: String,
    pub digest: ContentDigest,
    /// When the object was written, by the store's clock; `None`: it is not there.
    pub since: Option<Timestamp>,
}

impl SecretTarget<'_> {
    /// Reads what the manifest says.
    pub(crate) fn read(&self) -> Result<EnvironmentSecrets, CommandError> {
        let manifest = read_manifest(
            self.store,
            self.manifest_key,
            self.environment,
            self.signers,
        )?;
        let environment = find_environment(&manifest, self.environment, None)?;
        let settings = environment.settings.clone().map_err(CommandError::input)?;
        if self.signers.is_none() && settings.signed_for.is_some() && !self.trusts_current {
            let problem = Problem::new(format!(
                "{} is signed, and nothing here says by whom: whoever may write the manifest could add recipients",
                self.environment
            ));
            return Err(CommandError::Usage(problem.hint("add `--signers FILE`")));
        }
        let parse = |(number, line): (usize, &String)| {
            Recipient::parse(line).map_err(|problem| {
                let field = format!("{}._settings.{RECIPIENTS}[{number}]", self.environment);
                CommandError::input(problem.field(field))
            })
        };
        let recipients = settings.recipients.iter().enumerate().map(parse);
        Ok(EnvironmentSecrets {
            recipients: recipients.collect::<Result<_, _>>()?,
            named: settings.secrets,
            protected: settings.protected,
            lines: settings.recipients,
        })
    }

    /// The secrets, and since when each has its value.
    pub(crate) fn list(&self) -> Result<Vec<ListedSecret>, CommandError> {
        let named = self.read()?.named;
        let objects = self.store.list(&secrets::objects_prefix(self.environment));
        let objects = objects.map_err(PassError::Store)?;
        let row = |(name, digest): (String, ContentDigest)| {
            let key = secrets::object_key(self.environment, &digest);
            let object = objects.iter().find(|object| object.key == key);
            ListedSecret {
                name,
                digest,
                since: object.map(|object| object.modified),
            }
        };
        Ok(named.into_iter().map(row).collect())
    }

    /// Writes an encrypted object, unless it is there.
    fn put(&self, file: &[u8]) -> Result<ContentDigest, CommandError> {
        let digest = ContentDigest::of(file);
        let key = secrets::object_key(self.environment, &digest);
        let written = self.store.put(&key, file, WriteCondition::Always);
        written.map_err(PassError::Store)?;
        Ok(digest)
    }

    /// Edits the manifest, if the recipients and these secrets are as they were read.
    fn publish(
        &self,
        settings: Vec<SettingEdit>,
        expected_settings: Vec<SettingEdit>,
    ) -> Result<PublishSummary, CommandError> {
        let request = PublishRequest {
            action: Action::Secret,
            by: Some(self.by.to_owned()),
            reason: self.reason.map(str::to_owned),
            settings,
            expected_settings,
            // Commands ask before they encrypt anything.
            confirmed: true,
            ..PublishRequest::new(self.environment, self.now)
        };
        let mut published = self.publisher.publish(request)?;
        published.warnings.extend(self.sweep());
        Ok(published)
    }
}

impl EnvironmentSecrets {
    /// The digest of a secret.
    pub(crate) fn digest(&self, name: &str) -> Result<&ContentDigest, CommandError> {
        self.named.get(name).ok_or_else(|| {
            let problem = Problem::new(format!("there is no secret `{name}`"));
            let known = self.named.keys().map(String::as_str);
            CommandError::Usage(problem.suggest(name, known))
        })
    }

    /// The recipients as the manifest has them now, for [`PublishRequest::expected_settings`].
    fn expected_recipients(&self) -> SettingEdit {
        SettingEdit {
            path: vec![RECIPIENTS.into()],
            value: (!self.lines.is_empty()).then(|| json!(self.lines)),
        }
    }

    /// All secrets as the manifest has them now.
    fn expected_secrets(&self) -> SettingEdit {
        SettingEdit {
            path: vec![SECRETS.into()],
            value: (!self.named.is_empty()).then(|| json!(self.named)),
        }
    }
}

fn recipients_edit(recipients: &[Recipient]) -> SettingEdit {
    let lines: Vec<String> = recipients.iter().map(Recipient::line).collect();
    SettingEdit {
        path: vec![RECIPIENTS.into()],
        value: Some(json!(lines)),
    }
}

fn secret_edit(name: &str, digest: Option<&ContentDigest>) -> SettingEdit {
    SettingEdit {
        path: vec![SECRETS.into(), name.to_owned()],
        value: digest.map(|digest| Value::String(digest.to_string())),
    }
}

fn check_name(name: &str) -> Result<(), CommandError> {
    match is_name(name) {
        true => Ok(()),
        false => Err(CommandError::Usage(Problem::new(invalid_name(name)))),
    }
}

/// Decrypts the objects of secrets with an operator's keys.
fn decrypt(
    target: &SecretTarget<'_>,
    named: &[(&String, &ContentDigest)],
    identities: &[Identity],
) -> Result<Vec<String>, CommandError> {
    let digests: Vec<ContentDigest> = named.iter().map(|(_, digest)| (*digest).clone()).collect();
    let files = secrets::fetch(target.store, target.environment, &digests);
    let values = named.iter().zip(files).map(|((name, _), file)| {
        let failed = |why: String| Problem::new(format!("the secret `{name}`: {why}"));
        let file = file.map_err(|why| {
            CommandError::Failed(failed(why).hint(format!(
                "`trueup secret set {} {name}` sets it again",
                target.environment
            )))
        })?;
        secrets::decrypt(&file, identities).map_err(|error| {
            CommandError::Failed(failed(error.to_string()).hint(
                "your key has to be one of the recipients: name another one with --identity, or ask somebody whose key is",
            ))
        })
    });
    values.collect()
}
