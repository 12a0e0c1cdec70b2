//! Signs with ssh-keygen: keys in files and in an agent, security keys, and passphrases are its business.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::desired::{own_signer, written_signature};
use crate::ports::exec::{Command, Exec};
use crate::problem::Problem;
use crate::settings::Signer;

/// A security key waits for a touch.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A key of an operator or of CI.
#[derive(Debug, Clone)]
pub(crate) struct SigningKey {
    /// A private key, or the public half of one in an agent.
    pub file: PathBuf,
    /// The environment of the caller: where its agent and its home are.
    pub env: BTreeMap<OsString, OsString>,
}

impl SigningKey {
    /// Who this key is, for signatures in a namespace: it signs a text that says nothing.
    pub(crate) fn signer(&self, namespace: &str) -> Result<Signer, Problem> {
        own_signer(&written_signature(&self.sign(namespace, "")?)?)
    }

    /// The signature of a text in the armored format of OpenSSH.
    pub(crate) fn sign(&self, namespace: &str, text: &str) -> Result<String, Problem> {
        let file = self.absolute_file();
        let argv: [&std::ffi::OsStr; 8] = [
            "ssh-keygen".as_ref(),
            "-Y".as_ref(),
            "sign".as_ref(),
            "-q".as_ref(),
            "-f".as_ref(),
            file.as_os_str(),
            "-n".as_ref(),
            namespace.as_ref(),
        ];
        let mut command = Command::new(argv).timeout(TIMEOUT);
        command.env.clone_from(&self.env);
        command.input = text.as_bytes().to_vec();
        let done = Exec.run(command).map_err(|error| {
            let missing = error.is_program_missing();
            let problem = Problem::new(format!("cannot sign: {error}"));
            match missing {
                true => problem.hint("install OpenSSH's client (openssh-client)"),
                false => problem,
            }
        })?;
        let output = done.output.text();
        let begin = output.find("-----BEGIN SSH SIGNATURE-----");
        match begin.filter(|_| done.success()) {
            Some(begin) => Ok(output[begin..].trim().to_owned()),
            None => Err(Problem::new(format!(
                "cannot sign with {}: {}",
                self.file.display(),
                done.output.tail(3)
            ))
            .hint("expected a private key of OpenSSH without a passphrase, or one that ssh-agent has: `ssh-add FILE`")),
        }
    }

    /// Not to be read as an option.
    fn absolute_file(&self) -> PathBuf {
        let file: &Path = &self.file;
        std::path::absolute(file).unwrap_or_else(|_| file.to_owned())
    }
}

#[cfg(test)]
mod tests;
