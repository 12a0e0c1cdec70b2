//! Reads AWS's profile files with the SDK's own parser.

use aws_config::profile;
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_types::os_shim_internal::{Env, Fs};

use crate::ports::runtime::block_on;

/// The values of these keys in the profile `default` of a credentials file. From a file with a syntax error
/// the SDK takes none.
pub(crate) fn default_profile_values<'k>(
    text: &str,
    keys: impl IntoIterator<Item = &'k str>,
) -> Vec<(&'k str, String)> {
    let files = EnvConfigFiles::builder()
        .with_contents(EnvConfigFileKind::Credentials, text)
        .build();
    // The text is all that the parser sees: an empty filesystem, an empty environment.
    let (files_of_host, environment) = (Fs::from_slice(&[]), Env::from_slice(&[]));
    let load = profile::load(&files_of_host, &environment, &files, Some("default".into()));
    let Ok(profiles) = block_on(load) else {
        return Vec::new();
    };
    let value = |key| Some((key, profiles.get(key)?.to_owned()));
    keys.into_iter().filter_map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(&str, String)> {
        default_profile_values(text, ["a", "b"])
    }

    #[test]
    fn values_are_read_as_the_sdk_reads_them() {
        for text in [
            "[default]\na=1\nb = 2=/+",
            "# top\n[other]\na = 3\n\n[ default ] ; ours\n; a = 4\nA\t=  1 # one\nb = 2=/+\n[more]\nb = 5\n",
            "[default]\r\na = 1\r\nb = 2=/+\r\n",
            "[default]\na = 7\n[default]\na = 1\nb = 2=/+\n",
        ] {
            let expected = [("a", "1".to_owned()), ("b", "2=/+".to_owned())];
            assert_eq!(values(text), expected, "{text:?}");
        }
        // Quotes are part of a value.
        assert_eq!(values("[default]\na = \"1\""), [("a", "\"1\"".to_owned())]);
    }

    #[test]
    fn other_profiles_and_broken_files_have_no_values() {
        for text in [
            "",
            "a = 1\n",
            "[other]\na = 1\n",
            "[profile default]\na = 1\n",
            "[default\na = 1\n",
            "[default]\na = 1\nb\n",
        ] {
            assert_eq!(values(text), [], "{text:?}");
        }
    }
}
