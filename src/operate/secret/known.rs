//! The recipients that an operator has accepted, as ssh keeps the keys of hosts in `known_hosts`.
//!
//! The name of a recipient is what whoever wrote the manifest calls it. Where nobody signs, that may be anybody who can write
//! the store, so a key counts only if it is the one that this operator accepted before.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::SecretTarget;
use crate::operate::CommandError;
use crate::ports::root::{Attrs, Root};
use crate::problem::Problem;
use crate::secrets::Recipient;

/// Below the operator's folder of settings.
const FOLDER: &str = "trueup";

/// Lines of the address of a store, an environment and a recipient, with tabs between.
const FILE: &str = "known_recipients";

/// Maximum size of the file, in bytes: some thousands of recipients.
const MAX_FILE_BYTES: usize = 4 << 20;

/// The file of an operator.
pub(crate) struct KnownRecipients {
    root: Root,
    /// `None`: the operator has no folder of settings, so nothing is remembered.
    folder: Option<PathBuf>,
    lines: BTreeSet<String>,
}

/// A recipient that the operator has not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnknownRecipient {
    pub recipient: Recipient,
    /// The key that the operator accepted under the same name.
    pub instead_of: Option<Recipient>,
}

impl KnownRecipients {
    /// Reads the file in an operator's folder of settings (`~/.config`). Refuses one that others can change.
    pub(crate) fn open(config: Option<&Path>) -> Result<KnownRecipients, CommandError> {
        let root = Root::real()?;
        let folder = config.map(|config| config.join(FOLDER));
        let mut lines = BTreeSet::new();
        if let Some(folder) = &folder
            && let Some((_, body)) = root.read_trusted(&folder.join(FILE), MAX_FILE_BYTES, None)?
        {
            let text = String::from_utf8_lossy(&body);
            lines.extend(text.lines().map(str::to_owned));
        }
        Ok(KnownRecipients {
            root,
            folder,
            lines,
        })
    }

    /// Those that the operator has not accepted for this environment. None, where somebody signed the list whom the
    /// operator's machine trusts.
    pub(crate) fn unknown(
        &self,
        target: &SecretTarget<'_>,
        recipients: &[Recipient],
    ) -> Vec<UnknownRecipient> {
        if target.signers.is_some() {
            return Vec::new();
        }
        let prefix = line_prefix(target);
        let accepted = self.lines.iter().filter_map(|line| {
            let line = line.strip_prefix(&prefix)?;
            Recipient::parse(line).ok()
        });
        let accepted: Vec<Recipient> = accepted.collect();
        let is_known = |recipient: &Recipient| {
            let mut same = accepted.iter().filter(|known| *known == recipient);
            same.any(|known| known.comment == recipient.comment)
        };
        let unknown = recipients.iter().filter(|recipient| !is_known(recipient));
        let unknown = unknown.map(|recipient| UnknownRecipient {
            recipient: recipient.clone(),
            instead_of: accepted
                .iter()
                .find(|known| known.comment == recipient.comment && *known != recipient)
                .cloned(),
        });
        unknown.collect()
    }

    /// Remembers these as the accepted ones of the environment, in place of those before.
    pub(crate) fn accept(
        mut self,
        target: &SecretTarget<'_>,
        recipients: &[Recipient],
    ) -> Result<(), CommandError> {
        let (Some(folder), None) = (&self.folder, target.signers) else {
            return Ok(());
        };
        let prefix = line_prefix(target);
        let before = self.lines.clone();
        self.lines.retain(|line| !line.starts_with(&prefix));
        let lines = recipients.iter().map(Recipient::line);
        self.lines
            .extend(lines.map(|line| format!("{prefix}{line}")));
        if self.lines == before {
            return Ok(());
        }
        let folder = match self.root.meta(folder)? {
            Some(_) => self.root.resolve_private_folder(folder)?,
            None => self.root.create_private_folder(folder)?,
        };
        let text: String = self.lines.iter().map(|line| format!("{line}\n")).collect();
        let path = folder.join(FILE);
        if text.len() > MAX_FILE_BYTES {
            let why = format!(
                "{} would be larger than {MAX_FILE_BYTES} bytes",
                path.display()
            );
            return Err(CommandError::Failed(
                Problem::new(why).hint("remove the lines of environments that are gone"),
            ));
        }
        self.root
            .write_atomic(&path, text.as_bytes(), &Attrs::mode(0o600))?;
        Ok(())
    }
}

fn line_prefix(target: &SecretTarget<'_>) -> String {
    format!("{}\t{}\t", target.store.address(), target.environment)
}
