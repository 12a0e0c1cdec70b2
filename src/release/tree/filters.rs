//! Files that `.gitattributes` want to be run through a filter: git does that in a clone, and what it makes
//! of them is in no commit. An encrypted one laid out as it is would be ciphertext in the place of a
//! secret, in a release that looks whole.

use serde::Deserialize;

use super::attributes::Filter;
use super::git_crypt::{self, Key};
use super::space::Source;
use super::walk::shown;
use super::{Item, Trouble};
use crate::release::Deployment;
use crate::resource::Failure;

/// What to do about files that need a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Filters {
    /// A commit with such a file is refused.
    Refuse,
    /// They are deployed as they are in the repository.
    Ignore,
}

/// How encrypted files begin, and what encrypted them.
const CIPHERS: [(&[u8], &str); 6] = [
    (git_crypt::MARK, "git-crypt"),
    (b"U2FsdGVkX1", "transcrypt or openssl"),
    (b"Salted__", "openssl"),
    (b"age-encryption.org/v1", "age"),
    (b"-----BEGIN PGP MESSAGE-----", "GPG"),
    (b"$ANSIBLE_VAULT;", "ansible-vault"),
];

/// No more files are named in a message.
const NAMED: usize = 5;

/// Refuses files that need a filter which cannot be run, as the release says; a warning tells of others.
pub(crate) fn check(d: &Deployment<'_>, source: Source<'_>, items: &[Item]) -> Result<(), Trouble> {
    let said = d.spec.filters;
    if said == Some(Filters::Ignore) {
        return Ok(());
    }
    let (mut unfiltered, mut encrypted) = (Vec::new(), Vec::new());
    for item in items.iter().filter(|item| item.how.filter != Filter::None) {
        let is_ours = item.how.filter == Filter::GitCrypt && source.key.is_some();
        if is_ours {
            continue;
        }
        let blob = source.odb.read(item.id)?;
        match CIPHERS
            .iter()
            .find(|(mark, _)| blob.data().starts_with(mark))
        {
            Some((_, by)) => encrypted.push((item, *by)),
            None => unfiltered.push(item),
        }
    }
    if let Some((_, by)) = encrypted.first() {
        let names = named(encrypted.iter().map(|(item, _)| *item));
        return Err(Trouble::Other(
            Failure::new(format!(
                "files of the repository are encrypted ({by}) and would be deployed as ciphertext: {names}"
            ))
            .hint("for git-crypt give the key (`git_crypt_key` of the release); otherwise bring such files to the host by other means (`files`, `linked_files`); `filters: ignore` deploys them as they are"),
        ));
    }
    if unfiltered.is_empty() {
        return Ok(());
    }
    let names = named(unfiltered.into_iter());
    if said == Some(Filters::Refuse) {
        return Err(Trouble::Other(
            Failure::new(format!(
                "`.gitattributes` want a `filter` for these files, which is not run: {names}"
            ))
            .hint("take the filter away, or say `filters: ignore` to deploy them as they are in the repository"),
        ));
    }
    tracing::warn!(
        "{}: `.gitattributes` want a `filter` for these files, which is not run: {names}; `filters: ignore` of the release says that this is right",
        d.spec.app
    );
    Ok(())
}

/// The first few of these, and how many more there are.
pub(in crate::release) fn named<'a>(items: impl ExactSizeIterator<Item = &'a Item>) -> String {
    let more = items.len().saturating_sub(NAMED);
    let names = items.take(NAMED).map(|item| shown(&item.path));
    let names = names.collect::<Vec<_>>().join(", ");
    match more {
        0 => names,
        more => format!("{names} and {more} more"),
    }
}

/// The plain text of a file that git-crypt encrypted, if it did and there is a key.
pub(super) fn plain(
    item: &Item,
    blob: &[u8],
    key: Option<&Key>,
) -> Result<Option<Vec<u8>>, Failure> {
    let encrypted = item.how.filter == Filter::GitCrypt && blob.starts_with(git_crypt::MARK);
    let Some(key) = key.filter(|_| encrypted) else {
        return Ok(None);
    };
    let plain = key.decrypt(blob).ok_or_else(|| {
        Failure::new(format!(
            "cannot decrypt `{}` of the repository: git-crypt did not encrypt it with the key of `git_crypt_key`",
            item.path.display()
        ))
        .hint("export the key again from an unlocked clone: `git-crypt export-key FILE`")
    })?;
    Ok(Some(plain))
}
