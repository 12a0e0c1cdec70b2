//! What a step produces, as a role declares it.

use std::fmt;
use std::path::PathBuf;

use serde::de::{self, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};

use crate::resource::Argv;

/// The outputs of a step.
#[derive(Debug)]
pub(crate) enum Outputs {
    /// Paths that are copied from the last good release when the step is skipped.
    Copied(Vec<PathBuf>),
    Shared(SharedOutputs),
}

impl Default for Outputs {
    fn default() -> Outputs {
        Outputs::Copied(Vec::new())
    }
}

impl Outputs {
    pub(crate) fn shared(&self) -> Option<&SharedOutputs> {
        match self {
            Outputs::Copied(_) => None,
            Outputs::Shared(shared) => Some(shared),
        }
    }

    /// The paths that a skipped step copies.
    pub(crate) fn copied(&self) -> &[PathBuf] {
        match self {
            Outputs::Copied(paths) => paths,
            Outputs::Shared(_) => &[],
        }
    }

    /// All paths, relative to the release.
    pub(crate) fn paths(&self) -> &[PathBuf] {
        match self {
            Outputs::Copied(paths) => paths,
            Outputs::Shared(shared) => &shared.paths,
        }
    }
}

/// Outputs that are made once for all releases with the same inputs.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct SharedOutputs {
    /// The path in the release, or a list.
    #[serde(rename = "path", deserialize_with = "deserialize_paths")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub paths: Vec<PathBuf>,
    /// Files of the repository that decide what the step makes: git patterns, in which `*` also matches `/`.
    pub by: Vec<String>,
    /// A command whose output counts as an input too, such as `node --version`.
    pub key: Option<Argv>,
}

#[cfg(test)]
impl schemars::JsonSchema for Outputs {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Outputs".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Vec::<String>::json_schema(generator)
    }
}

impl<'de> Deserialize<'de> for Outputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Outputs, D::Error> {
        struct OutputsVisitor;
        impl<'de> Visitor<'de> for OutputsVisitor {
            type Value = Outputs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of paths, or a map such as `{path: node_modules, by: [package-lock.json]}`")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, seq: A) -> Result<Outputs, A::Error> {
                let paths = de::value::SeqAccessDeserializer::new(seq);
                Vec::deserialize(paths).map(Outputs::Copied)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Outputs, A::Error> {
                SharedOutputs::deserialize(MapAccessDeserializer::new(map)).map(Outputs::Shared)
            }
        }
        deserializer.deserialize_any(OutputsVisitor)
    }
}

fn deserialize_paths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    struct PathsVisitor;
    impl<'de> Visitor<'de> for PathsVisitor {
        type Value = Vec<PathBuf>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a path, or a list of paths")
        }

        fn visit_str<E: de::Error>(self, path: &str) -> Result<Vec<PathBuf>, E> {
            Ok(vec![path.into()])
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, seq: A) -> Result<Vec<PathBuf>, A::Error> {
            Vec::deserialize(de::value::SeqAccessDeserializer::new(seq))
        }
    }
    deserializer.deserialize_any(PathsVisitor)
}
