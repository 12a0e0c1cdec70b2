//! Secrets: each is one [age](https://age-encryption.org/v1) file, encrypted to the ssh host keys of the hosts that use
//! it and to the keys of operators.
//!
//! The files of an environment are objects of the store, named by their digest, which stands in the manifest: so
//! they are ordered and signed with it, and a pass asks the store only for those that are new to the host. A file
//! beside the settings comes first. `secret("name")` in roles and templates is the function of
//! [`role`](crate::role), which gets the decrypted values from here; what may be rendered from them, and where, is
//! its business.
//!
//! Only X25519 and ssh keys are accepted: a passphrase would let whoever writes the store choose how much work
//! it is to refuse it, and a plug-in is a program.

mod age_file;
mod cache;
mod identity;
#[cfg(test)]
mod key_tests;
mod recipient;
mod source;
#[cfg(test)]
mod tests;

pub(crate) use age_file::{AgeError, MAX_VALUE_BYTES, decrypt, encrypt};
pub(crate) use cache::{fetch, object_key, objects_prefix};
pub(crate) use identity::{Identity, ParsedIdentity, host_recipient, parse_identity};
pub(crate) use recipient::Recipient;
pub(crate) use source::{LoadedSecrets, SecretSource};
