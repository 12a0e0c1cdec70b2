//! Asks for recipients that the operator has not accepted, before anything is encrypted to them.

use std::path::PathBuf;

use super::opened::OpenedTarget;
use crate::cli::Output;
use crate::cli::confirm::confirm;
use crate::operate::CommandError;
use crate::operate::secret::KnownRecipients;
use crate::problem::Problem;
use crate::secrets::Recipient;

/// Accepts every key. Not `--yes`, which confirms changes of a protected environment: one word for both would accept forged
/// keys unasked.
pub(super) const ACCEPT_ALL: &str = "all";

/// Makes sure that the operator knows all recipients: those that were accepted before, those that are `accepted` just now,
/// and those that `words` of `--accept` name. Asks for the others.
pub(super) fn require_known(
    opened: &OpenedTarget<'_>,
    recipients: &[Recipient],
    accepted: &[Recipient],
    words: &[String],
    output: &Output,
) -> Result<(), CommandError> {
    let target = opened.target();
    let known = KnownRecipients::open(config_folder().as_deref())?;
    let is_named = |key: &Recipient| {
        let fingerprint = key.fingerprint();
        words
            .iter()
            .any(|word| *word == fingerprint || word == ACCEPT_ALL)
    };
    let mut unknown = known.unknown(&target, recipients);
    unknown.retain(|new| !accepted.contains(&new.recipient) && !is_named(&new.recipient));
    for new in &unknown {
        let (state, instead) = match &new.instead_of {
            Some(old) => ("changed:", format!(", instead of {}", old.fingerprint())),
            None => ("unknown:", String::new()),
        };
        let shown = named(&new.recipient);
        output.print_text(format!("{} {shown}{instead}", output.paint.changed(state)));
    }
    if !unknown.is_empty() {
        let question = format!(
            "you have not accepted {} of the {} recipients of {} before. Encrypt to {}?",
            unknown.len(),
            recipients.len(),
            opened.environment,
            if unknown.len() == 1 { "it" } else { "them" },
        );
        if !confirm(&question, "--accept FINGERPRINT")? {
            let problem = Problem::new("nothing was encrypted");
            let hint = format!(
                "`trueup secret rekey {} --remove FINGERPRINT` takes a key off the list",
                opened.environment
            );
            return Err(CommandError::Usage(problem.hint(hint)));
        }
    }
    known.accept(&target, recipients)
}

/// The name of a recipient, which whoever wrote the manifest chose, and its fingerprint.
fn named(key: &Recipient) -> String {
    match key.comment.is_empty() {
        true => key.fingerprint(),
        false => format!("{} {}", key.comment, key.fingerprint()),
    }
}

/// The first recipients, with their fingerprints: their names are what whoever wrote the manifest calls them.
pub(super) fn name_recipients(recipients: &[Recipient]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = recipients.iter().take(SHOWN).map(named).collect();
    let shown = shown.join(", ");
    match recipients.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        Some(more) => format!("{shown} and {more} more"),
        None => shown,
    }
}

/// Where the operator's programs keep their settings.
#[expect(
    clippy::disallowed_methods,
    reason = "cli reads the environment and passes values on"
)]
fn config_folder() -> Option<PathBuf> {
    let variable = |name: &str| {
        let path = std::env::var_os(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")))
}
