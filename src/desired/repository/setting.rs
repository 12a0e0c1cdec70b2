//! A repository in the settings of an environment: where `publish` looks up branches and commits.

use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::{AllowedRefs, Repo};
use crate::problem::InvalidValue;

/// The repository of an app, as `_settings.repositories` names it. Hosts have their own in their roles; this one is for
/// `publish`, which cannot see theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RepositorySetting {
    pub url: Repo,
    /// The refs whose commits may be published: the ones that hosts allow.
    pub allow_refs: AllowedRefs,
}

/// The long form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LongForm {
    url: RemoteUrl,
    #[serde(default)]
    allow_refs: AllowedRefs,
}

/// An address that is safe to open on the machine of whoever publishes, although others may write the manifest.
struct RemoteUrl(Repo);

impl RemoteUrl {
    fn parse(text: &str) -> Result<RemoteUrl, InvalidValue> {
        let repo = Repo::parse(text)?;
        // Each machine that publishes has other files at that path.
        if repo.local_path().is_some() {
            return Err(InvalidValue::new(
                format!("`{repo}` is a path of one machine"),
                "expected git@host:path, ssh://, https:// or http://; `publish --repo APP=PATH` takes a path",
            ));
        }
        if repo.has_password() {
            return Err(InvalidValue::new(
                format!("`{repo}` has a password, and many may read the manifest"),
                "write it without; git asks its credential helpers for the password",
            ));
        }
        Ok(RemoteUrl(repo))
    }
}

impl<'de> Deserialize<'de> for RemoteUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RemoteUrl, D::Error> {
        let text = String::deserialize(deserializer)?;
        RemoteUrl::parse(&text).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for RepositorySetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RepositorySetting, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = RepositorySetting;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the URL of a git repository, or a map with `url` and `allow_refs`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<RepositorySetting, E> {
                let RemoteUrl(url) = RemoteUrl::parse(text).map_err(E::custom)?;
                Ok(RepositorySetting {
                    url,
                    allow_refs: AllowedRefs::default(),
                })
            }

            fn visit_map<A: de::MapAccess<'de>>(
                self,
                map: A,
            ) -> Result<RepositorySetting, A::Error> {
                let long = LongForm::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(RepositorySetting {
                    url: long.url.0,
                    allow_refs: long.allow_refs,
                })
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}
