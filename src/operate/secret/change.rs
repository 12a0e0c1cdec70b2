//! Sets, edits and removes one secret.

use super::{EnvironmentSecrets, SecretTarget, check_name, decrypt, recipients_edit, secret_edit};
use crate::desired::{ContentDigest, PublishSummary};
use crate::operate::CommandError;
use crate::problem::Problem;
use crate::secrets::{self, AgeError, Identity, Recipient};

/// A secret that was set.
#[derive(Debug)]
pub(crate) struct SetSecret {
    pub digest: ContentDigest,
    /// To whom it is encrypted.
    pub recipients: Vec<Recipient>,
    /// The operator's own key, if it is a recipient only now.
    pub added: Option<Recipient>,
    pub published: PublishSummary,
}

/// Sets a secret. The first one of an environment makes the operator's key, `own`, a recipient: without it nobody could
/// encrypt the secrets to others later.
pub(crate) fn set(
    target: &SecretTarget<'_>,
    current: &EnvironmentSecrets,
    name: &str,
    value: &str,
    own: Option<Recipient>,
) -> Result<SetSecret, CommandError> {
    check_name(name)?;
    if value.trim().is_empty() {
        return Err(CommandError::Usage(Problem::new("the value is empty")));
    }
    let mut recipients = current.recipients.clone();
    let added = own.filter(|_| recipients.is_empty());
    recipients.extend(added.clone());
    let file = secrets::encrypt(value.as_bytes(), &recipients).map_err(refused)?;
    let digest = target.put(&file)?;
    let mut edits = vec![secret_edit(name, Some(&digest))];
    edits.extend(added.as_ref().map(|_| recipients_edit(&recipients)));
    let published = target.publish(edits, vec![current.expected_recipients()])?;
    Ok(SetSecret {
        digest,
        recipients,
        added,
        published,
    })
}

/// The value of a secret, to be edited by an operator whose key is a recipient.
pub(crate) fn edit_value(
    target: &SecretTarget<'_>,
    current: &EnvironmentSecrets,
    name: &str,
    identities: &[Identity],
) -> Result<String, CommandError> {
    let digest = current.digest(name)?;
    let mut values = decrypt(target, &[(&name.to_owned(), digest)], identities)?;
    Ok(values.remove(0))
}

/// Removes a secret. Hosts that use it keep what they rendered, and fail the resources that do.
pub(crate) fn remove(
    target: &SecretTarget<'_>,
    current: &EnvironmentSecrets,
    name: &str,
) -> Result<PublishSummary, CommandError> {
    current.digest(name)?;
    target.publish(vec![secret_edit(name, None)], Vec::new())
}

/// Why a value was not encrypted.
pub(super) fn refused(error: AgeError) -> CommandError {
    let problem = match error {
        AgeError::NoRecipients => Problem::new("there is no key to encrypt it to")
            .hint("name your own with --identity FILE: an ssh key (ed25519 or rsa) or an age key"),
        AgeError::TooLarge { limit } => {
            Problem::new(format!("the value is larger than {limit} bytes"))
        }
        error => Problem::new(error.to_string()).hint(error.hint()),
    };
    CommandError::Usage(problem)
}
