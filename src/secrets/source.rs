//! Where a host gets the values of its secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::age_file;
use super::cache::{self, ObjectCache};
use super::identity::{self, Identity};
use crate::desired::ContentDigest;
use crate::ports::Host;
use crate::ports::root::RootError;
use crate::ports::secrets::add_secret;
use crate::ports::store::Store;
use crate::problem::nearest;
use crate::resource::Failure;
use crate::settings::{Lookup, invalid_name, is_name};

/// The folder of local secrets beside the settings.
const FOLDER: &str = "secrets";

/// The values of secrets by name, or why this host does not have them.
pub(crate) type LoadedSecrets = BTreeMap<String, Result<String, Failure>>;

/// The places where this host looks for secrets. The order is that of [`SecretSource::load`], and only there: first
/// the files beside the settings, then the objects that the manifest names.
pub(crate) struct SecretSource<'a> {
    pub host: &'a Host,
    pub lookup: &'a Lookup,
    /// The file of `secrets.identity`.
    pub identity: Option<&'a Path>,
    pub environment: &'a str,
    /// The secrets that the manifest names.
    pub named: &'a BTreeMap<String, ContentDigest>,
    /// `None`: only what was fetched before.
    pub store: Option<&'a dyn Store>,
    /// Whether to keep what is fetched.
    pub keeps: bool,
}

impl SecretSource<'_> {
    /// Loads these secrets, and registers the values so that no output shows them. What is kept of others is removed
    /// with [`SecretSource::prune`].
    pub(crate) fn load(&self, names: &BTreeSet<String>) -> LoadedSecrets {
        if names.is_empty() {
            return LoadedSecrets::new();
        }
        let fail_all = |failure: &Failure| {
            let failed = names
                .iter()
                .map(|name| (name.clone(), Err(failure.clone())));
            failed.collect()
        };
        if self.host.root.is_ordinary_user() {
            return fail_all(&Failure::permission_denied("only root can decrypt secrets"));
        }
        let identities = match identity::host_identities(&self.host.root, self.identity) {
            Ok(identities) => identities,
            Err(failure) => return fail_all(&failure),
        };
        let files = self.files(names);
        let values = files.into_iter().map(|(name, file)| {
            let value = file.and_then(|file| decrypt_value(&name, &file, &identities));
            (name, value)
        });
        values.collect()
    }

    /// Removes the kept objects that no manifest has named for a week.
    pub(crate) fn prune(&self) -> Result<(), RootError> {
        ObjectCache { host: self.host }.prune(self.named)
    }

    /// The encrypted file of each secret.
    fn files(&self, names: &BTreeSet<String>) -> BTreeMap<String, Result<Vec<u8>, Failure>> {
        let cache = ObjectCache { host: self.host };
        let mut files = BTreeMap::new();
        let mut missing: Vec<(&String, ContentDigest)> = Vec::new();
        for name in names {
            let file = match self.local_file(name) {
                Err(failure) => Err(failure),
                Ok(Some(file)) => Ok(file),
                Ok(None) => match self.named.get(name) {
                    None => Err(self.unknown(name)),
                    Some(digest) => match cache.read(digest) {
                        Some(file) => Ok(file),
                        None => {
                            missing.push((name, digest.clone()));
                            continue;
                        }
                    },
                },
            };
            files.insert(name.clone(), file);
        }
        files.extend(self.fetch_missing(&missing, &cache));
        files
    }

    /// A secret in a file beside the settings, or in the package of the roles.
    fn local_file(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        if !is_name(name) {
            return Err(Failure::new(format!(
                "no secret can have this name: {}",
                invalid_name(name)
            )));
        }
        let found = self.lookup.read(FOLDER, &format!("{name}.age"));
        match found {
            Ok(found) => Ok(found.map(|(_, body)| body)),
            Err(problem) => {
                let failure = Failure::new(problem.message);
                Err(match problem.hint {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                })
            }
        }
    }

    fn fetch_missing(
        &self,
        missing: &[(&String, ContentDigest)],
        cache: &ObjectCache<'_>,
    ) -> BTreeMap<String, Result<Vec<u8>, Failure>> {
        let Some(store) = self.store.filter(|_| !missing.is_empty()) else {
            let none = |name: &String| {
                let failure = Failure::new(format!("the secret `{name}` was not fetched yet"));
                Err(failure.hint("`sudo trueup converge` fetches it"))
            };
            return missing
                .iter()
                .map(|(name, _)| ((*name).clone(), none(name)))
                .collect();
        };
        let digests: Vec<ContentDigest> =
            missing.iter().map(|(_, digest)| digest.clone()).collect();
        let fetched = cache::fetch(store, self.environment, &digests);
        let mut files = BTreeMap::new();
        for ((name, digest), object) in missing.iter().zip(fetched) {
            let file = object.map_err(|why| {
                Failure::new(format!("the secret `{name}` cannot be fetched: {why}")).hint(
                    "the next pass tries again; if the object is gone or damaged: `trueup secret set ENV NAME`",
                )
            });
            if let (Ok(file), true) = (&file, self.keeps)
                && let Err(error) = cache.save(digest, file)
            {
                tracing::warn!("the secret `{name}` is fetched again by the next pass: {error}");
            }
            files.insert((*name).clone(), file);
        }
        files
    }

    fn unknown(&self, name: &str) -> Failure {
        let failure = Failure::new(format!(
            "there is no secret `{name}`: neither in {} nor in the manifest, in {}",
            self.lookup.searched_folders(FOLDER),
            self.environment
        ));
        match nearest(name, self.named.keys().map(String::as_str)) {
            Some(near) => failure.hint(format!("did you mean `{near}`?")),
            None => failure.hint(format!(
                "`trueup secret set {} {name}` adds it",
                self.environment
            )),
        }
    }
}

fn decrypt_value(name: &str, file: &[u8], identities: &[Identity]) -> Result<String, Failure> {
    let value = age_file::decrypt(file, identities).map_err(|error| {
        Failure::new(format!("the secret `{name}` cannot be decrypted: {error}")).hint(error.hint())
    })?;
    let value = without_final_newline(value);
    add_secret(&value);
    Ok(value)
}

/// Drops the newline that shells and editors put after a word. A text of several lines, such as a private key, needs
/// its own.
fn without_final_newline(mut value: String) -> String {
    if value.ends_with('\n') && value.matches('\n').count() == 1 {
        value.pop();
        if value.ends_with('\r') {
            value.pop();
        }
    }
    value
}
