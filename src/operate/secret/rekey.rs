//! Encrypts the secrets of an environment to other keys.
//!
//! Hosts publish their public keys in their records, which anybody with write access to the store can forge: so each key is
//! proposed, and an operator accepts it.

use super::change::refused;
use super::{EnvironmentSecrets, SecretTarget, decrypt, recipients_edit, secret_edit};
use crate::desired::PublishSummary;
use crate::fleet::{self, RecordCache};
use crate::operate::CommandError;
use crate::pass::PassError;
use crate::problem::Problem;
use crate::secrets::{self, Identity, Recipient};

/// A key that a host published and that is no recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProposedRecipient {
    /// Its comment is the name of the host.
    pub recipient: Recipient,
    /// The recipient of the same name, with another key.
    pub replaces: Option<Recipient>,
}

/// How the recipients differ from the keys that the hosts publish.
#[derive(Debug)]
pub(crate) struct RekeyProposal {
    pub current: EnvironmentSecrets,
    pub proposed: Vec<ProposedRecipient>,
    /// Recipients that no host publishes: operators, and hosts that are gone.
    pub unreported: Vec<Recipient>,
    pub warnings: Vec<String>,
}

/// The secrets after they were encrypted to other keys.
#[derive(Debug)]
pub(crate) struct Rekeyed {
    pub secrets: usize,
    pub recipients: Vec<Recipient>,
    pub published: PublishSummary,
}

/// Compares the recipients with the keys in the records of the hosts.
pub(crate) fn propose(target: &SecretTarget<'_>) -> Result<RekeyProposal, CommandError> {
    let current = target.read()?;
    let mut cache = RecordCache::empty(target.store.address(), target.environment);
    let snapshot = fleet::take_snapshot(
        target.store,
        target.environment,
        target.gone_after,
        &mut cache,
    );
    let snapshot = snapshot.map_err(PassError::Store)?;
    let mut warnings: Vec<String> = snapshot.problems.clone();
    warnings.extend(snapshot.unread.as_ref().map(ToString::to_string));
    let mut proposed: Vec<ProposedRecipient> = Vec::new();
    let mut reported = Vec::new();
    let mut without_key = Vec::new();
    for row in &snapshot.rows {
        if row.silent_for(snapshot.now) > target.gone_after {
            continue;
        }
        let Some(line) = &row.record.recipient else {
            without_key.push(row.node.as_str());
            continue;
        };
        let recipient = match Recipient::parse(line) {
            Ok(recipient) => recipient.named(&row.node),
            Err(problem) => {
                warnings.push(format!("{}: {}", row.node, problem.message));
                continue;
            }
        };
        let is_known = current.recipients.contains(&recipient)
            || proposed.iter().any(|known| known.recipient == recipient);
        if !is_known {
            let of_host = |known: &&Recipient| known.comment == row.node;
            let replaces = current.recipients.iter().find(of_host).cloned();
            proposed.push(ProposedRecipient {
                recipient: recipient.clone(),
                replaces,
            });
        }
        reported.push(recipient);
    }
    if !without_key.is_empty() {
        warnings.push(format!(
            "no key is known of {}: an older trueup, or no ssh host key of the kinds ed25519 and rsa",
            without_key.join(", ")
        ));
    }
    let is_replaced = |known: &Recipient| {
        let mut replaced = proposed.iter().filter_map(|new| new.replaces.as_ref());
        replaced.any(|replaced| replaced == known)
    };
    let unreported = current.recipients.iter();
    let unreported = unreported.filter(|known| !reported.contains(known) && !is_replaced(known));
    Ok(RekeyProposal {
        unreported: unreported.cloned().collect(),
        proposed,
        warnings,
        current,
    })
}

impl RekeyProposal {
    /// The recipients with these additional ones, without those that they replace, and without those that an operator
    /// removes by fingerprint or name.
    pub(crate) fn recipients(
        &self,
        accepted: &[ProposedRecipient],
        removed: &[String],
    ) -> Result<Vec<Recipient>, CommandError> {
        let mut recipients = self.current.recipients.clone();
        for selector in removed {
            let before = recipients.len();
            recipients
                .retain(|known| known.comment != *selector && known.fingerprint() != *selector);
            if recipients.len() == before {
                let names = self.current.recipients.iter().map(|known| &*known.comment);
                let problem = Problem::new(format!("`{selector}` is no recipient"))
                    .suggest(selector, names)
                    .hint("give its name or its fingerprint");
                return Err(CommandError::Usage(problem));
            }
        }
        let replaced: Vec<&Recipient> = accepted
            .iter()
            .filter_map(|new| new.replaces.as_ref())
            .collect();
        recipients.retain(|known| !replaced.contains(&known));
        for new in accepted {
            if !recipients.contains(&new.recipient) {
                recipients.push(new.recipient.clone());
            }
        }
        match recipients.is_empty() {
            true => Err(CommandError::Usage(
                Problem::new("no recipient would be left: nobody could decrypt the secrets")
                    .hint("`trueup secret remove` removes a secret"),
            )),
            false => Ok(recipients),
        }
    }
}

/// Encrypts all secrets to these keys, and publishes that as one edit.
pub(crate) fn rekey(
    target: &SecretTarget<'_>,
    current: &EnvironmentSecrets,
    recipients: Vec<Recipient>,
    identities: &[Identity],
) -> Result<Rekeyed, CommandError> {
    let named: Vec<_> = current.named.iter().collect();
    let values = decrypt(target, &named, identities)?;
    let mut edits = vec![recipients_edit(&recipients)];
    for ((name, _), value) in named.iter().zip(values) {
        let file = secrets::encrypt(value.as_bytes(), &recipients).map_err(refused)?;
        let digest = target.put(&file)?;
        edits.push(secret_edit(name, Some(&digest)));
    }
    // A secret that somebody sets meanwhile must not get its old value back.
    let expected = vec![current.expected_recipients(), current.expected_secrets()];
    let published = target.publish(edits, expected)?;
    Ok(Rekeyed {
        secrets: named.len(),
        recipients,
        published,
    })
}
