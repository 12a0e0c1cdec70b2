//! Decrypts files that git-crypt encrypted: AES-256 in counter mode, with a nonce that is an HMAC of the
//! plain text and therefore its checksum.
//!
//! It runs in the process instead of the git-crypt program: the key stays with root, in no file of an
//! unprivileged user and on no command line, and no process is started for each file.

use aes::Aes256;
use aes::cipher::{KeyIvInit, StreamCipher};
use ctr::Ctr32BE;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use crate::digest::digest;
use crate::ports::Host;
use crate::release::app::spec::ReleaseSpec;
use crate::resource::Failure;

/// Prefix of an encrypted file; its nonce follows.
pub(super) const FILE_MAGIC: &[u8] = b"\0GITCRYPT\0";

const NONCE_LEN: usize = 12;

/// Prefix of a key file; its format version follows.
const KEY_MAGIC: &[u8] = b"\0GITCRYPTKEY";

/// Maximum size of a key file, in bytes.
const MAX_KEY_FILE: usize = 64 << 10;

/// The symmetric key of a repository.
pub(crate) struct GitCryptKey {
    aes_key: [u8; 32],
    hmac_key: [u8; 64],
    /// Identifies the key.
    digest: String,
}

impl GitCryptKey {
    /// Loads the key that `git_crypt_key` names, if it is set.
    pub(crate) fn load(spec: &ReleaseSpec, host: &Host) -> Result<Option<GitCryptKey>, Failure> {
        let Some(path) = &spec.git_crypt_key else {
            return Ok(None);
        };
        let shown = path.display();
        let read = host.root.read_with_meta(path, MAX_KEY_FILE)?;
        let (meta, body) = read.ok_or_else(|| {
            Failure::not_ready(format!("the key of git-crypt {shown} does not exist")).hint(
                "`git-crypt export-key FILE` in an unlocked clone writes it; put it there, or describe it in a `file` with `secret: true` before this release",
            )
        })?;
        if meta.uid != host.root.default_owner().0 || meta.mode & 0o077 != 0 {
            return Err(
                Failure::new(format!("the key of git-crypt {shown} is not root's alone"))
                    .hint(format!("`chown root:root {shown}; chmod 600 {shown}`")),
            );
        }
        GitCryptKey::parse(&body).map(Some).ok_or_else(|| {
            Failure::new(format!("{shown} is no key of git-crypt")).hint(
                "expected what `git-crypt export-key FILE` writes in an unlocked clone, not encrypted with GPG",
            )
        })
    }

    fn parse(body: &[u8]) -> Option<GitCryptKey> {
        const FORM: [u8; 4] = 2_u32.to_be_bytes();
        let rest = body.strip_prefix(KEY_MAGIC)?.strip_prefix(&FORM)?;
        // The header of the file (the key's name), then its first key: git-crypt encrypts with no other.
        let (_, rest) = parse_fields(rest)?;
        let (key, _) = parse_fields(rest)?;
        let field = |wanted| key.iter().find(|(id, _)| *id == wanted).map(|(_, v)| *v);
        Some(GitCryptKey {
            aes_key: field(AES_KEY_FIELD)?.try_into().ok()?,
            hmac_key: field(HMAC_KEY_FIELD)?.try_into().ok()?,
            digest: digest(body)[..12].to_owned(),
        })
    }

    /// The plain text of an encrypted file. `None`: another key encrypted it, or it was modified.
    pub(super) fn decrypt(&self, file: &[u8]) -> Option<Vec<u8>> {
        let (nonce, body) = file
            .strip_prefix(FILE_MAGIC)?
            .split_first_chunk::<NONCE_LEN>()?;
        let mut counter = [0; 16];
        counter[..NONCE_LEN].copy_from_slice(nonce);
        let mut plain = body.to_vec();
        Ctr32BE::<Aes256>::new(&self.aes_key.into(), &counter.into()).apply_keystream(&mut plain);
        let mut mac = Hmac::<Sha1>::new_from_slice(&self.hmac_key).ok()?;
        mac.update(&plain);
        mac.verify_truncated_left(nonce).ok().map(|()| plain)
    }

    pub(super) fn digest(&self) -> &str {
        &self.digest
    }
}

const AES_KEY_FIELD: u32 = 3;
const HMAC_KEY_FIELD: u32 = 5;

/// The id of a field and its content.
type Field<'a> = (u32, &'a [u8]);

/// Parses one group of fields (each an id, a length and the content) up to a zero; returns the rest too.
fn parse_fields(mut rest: &[u8]) -> Option<(Vec<Field<'_>>, &[u8])> {
    let mut fields = Vec::new();
    loop {
        let (id, after) = rest.split_first_chunk::<4>()?;
        if *id == [0; 4] {
            return Some((fields, after));
        }
        let (length, after) = after.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (value, after) = after.split_at_checked(length)?;
        fields.push((u32::from_be_bytes(*id), value));
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(id: u32, value: &[u8]) -> Vec<u8> {
        let length = u32::try_from(value.len()).unwrap();
        [&id.to_be_bytes(), &length.to_be_bytes(), value].concat()
    }

    #[test]
    fn truncated_or_malformed_key_is_rejected() {
        let key = [
            KEY_MAGIC,
            &[0, 0, 0, 2],
            &field(1, b"name"),
            &[0; 4],
            &field(1, &[0; 4]),
            &field(AES_KEY_FIELD, &[7; 32]),
            &field(HMAC_KEY_FIELD, &[9; 64]),
            &[0; 4],
        ];
        let key = key.concat();
        assert!(GitCryptKey::parse(&key).is_some());
        for length in 0..key.len() {
            assert!(GitCryptKey::parse(&key[..length]).is_none(), "{length}");
        }
        let mut huge = key.clone();
        huge[20..24].copy_from_slice(&[0xff; 4]);
        assert!(GitCryptKey::parse(&huge).is_none());
    }
}
