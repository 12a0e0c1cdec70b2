//! Detects files that need a filter of `.gitattributes`. Git runs filters in a clone, so their output is in
//! no commit. Without its filter an encrypted file would be deployed as ciphertext in place of a secret, in a
//! release that looks complete.

use super::TreeEntry;
use super::attributes::FilterDriver;
use super::disk_space::ContentSource;
use super::git_crypt::{self, GitCryptKey};
use super::walk::display_path;
use crate::release::app::filters::FilterPolicy;
use crate::release::deployment::Deployment;
use crate::release::source::error::SourceError;
use crate::resource::Failure;

/// Prefixes of encrypted files, with the tool that wrote them.
const ENCRYPTED_PREFIXES: [(&[u8], &str); 6] = [
    (git_crypt::FILE_MAGIC, "git-crypt"),
    (b"U2FsdGVkX1", "transcrypt or openssl"),
    (b"Salted__", "openssl"),
    (b"age-encryption.org/v1", "age"),
    (b"-----BEGIN PGP MESSAGE-----", "GPG"),
    (b"$ANSIBLE_VAULT;", "ansible-vault"),
];

/// Maximum number of files that a message names.
const MAX_NAMED_FILES: usize = 5;

/// Refuses encrypted files that trueup cannot decrypt, and handles other files that need a filter by the
/// policy of the release; without a policy it logs a warning for them.
pub(crate) fn check(
    deployment: &Deployment<'_>,
    source: ContentSource<'_>,
    items: &[TreeEntry],
) -> Result<(), SourceError> {
    let policy = deployment.spec.filters;
    if policy == Some(FilterPolicy::Ignore) {
        return Ok(());
    }
    let (mut unfiltered, mut encrypted) = (Vec::new(), Vec::new());
    for item in items
        .iter()
        .filter(|item| item.conversion.filter != FilterDriver::None)
    {
        let is_ours = item.conversion.filter == FilterDriver::GitCrypt && source.key.is_some();
        if is_ours {
            continue;
        }
        let blob = source.odb.read(item.id)?;
        match ENCRYPTED_PREFIXES
            .iter()
            .find(|(mark, _)| blob.data().starts_with(mark))
        {
            Some((_, by)) => encrypted.push((item, *by)),
            None => unfiltered.push(item),
        }
    }
    if let Some((_, by)) = encrypted.first() {
        let names = format_paths(encrypted.iter().map(|(item, _)| *item));
        return Err(SourceError::Failed(
            Failure::new(format!(
                "files of the repository are encrypted ({by}) and would be deployed as ciphertext: {names}"
            ))
            .hint("for git-crypt set the key (`git_crypt_key` of the release); otherwise provide such files by other means (`files`, `linked_files`); `filters: ignore` deploys them as they are"),
        ));
    }
    if unfiltered.is_empty() {
        return Ok(());
    }
    let names = format_paths(unfiltered.into_iter());
    if policy == Some(FilterPolicy::Refuse) {
        return Err(SourceError::Failed(
            Failure::new(format!(
                "`.gitattributes` set a `filter` on these files, which trueup does not run: {names}"
            ))
            .hint("remove the filter, or set `filters: ignore` to deploy them as stored in the repository"),
        ));
    }
    tracing::warn!(
        "{}: `.gitattributes` set a `filter` on these files, which trueup does not run: {names}; `filters: ignore` of the release silences this warning",
        deployment.spec.app
    );
    Ok(())
}

/// The first few paths, and the number of the others.
pub(crate) fn format_paths<'a>(items: impl ExactSizeIterator<Item = &'a TreeEntry>) -> String {
    let more = items.len().saturating_sub(MAX_NAMED_FILES);
    let names = items
        .take(MAX_NAMED_FILES)
        .map(|item| display_path(&item.path));
    let names = names.collect::<Vec<_>>().join(", ");
    match more {
        0 => names,
        more => format!("{names} and {more} more"),
    }
}

/// The plain text of a file, if git-crypt encrypted it and there is a key.
pub(super) fn decrypt(
    item: &TreeEntry,
    blob: &[u8],
    key: Option<&GitCryptKey>,
) -> Result<Option<Vec<u8>>, Failure> {
    let encrypted =
        item.conversion.filter == FilterDriver::GitCrypt && blob.starts_with(git_crypt::FILE_MAGIC);
    let Some(key) = key.filter(|_| encrypted) else {
        return Ok(None);
    };
    let plain = key.decrypt(blob).ok_or_else(|| {
        Failure::new(format!(
            "cannot decrypt `{}` of the repository: git-crypt did not encrypt it with the key of `git_crypt_key`",
            display_path(&item.path)
        ))
        .hint("export the key again from an unlocked clone: `git-crypt export-key FILE`")
    })?;
    Ok(Some(plain))
}
