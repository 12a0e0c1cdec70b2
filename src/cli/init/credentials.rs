//! Credentials for the store. The checks are valid only with the credentials that the timer will have, and
//! the timer does not inherit the environment of the shell that runs `trueup init`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::ports::root::{Attrs, Root, RootError};
use crate::ports::store::default_profile_values;
use crate::problem::Problem;

/// Where root's AWS tools look.
pub(super) const CREDENTIALS_FILE: &str = "/root/.aws/credentials";

/// Sets the environment of the timer's unit.
const ENVIRONMENT_FILE: &str = "/etc/environment";

/// The timer's home folder.
const ROOT_HOME: &str = "/root";

/// Maximum size of a credentials or environment file, in bytes.
const MAX_FILE_BYTES: usize = 1 << 20;

const ACCESS_KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET_ACCESS_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";

/// Names of the keys in the environment and in a credentials file.
const KEYS: [(&str, &str); 3] = [
    (ACCESS_KEY_ID, "aws_access_key_id"),
    (SECRET_ACCESS_KEY, "aws_secret_access_key"),
    (SESSION_TOKEN, "aws_session_token"),
];

/// Other variables that lead the AWS tools to credentials.
const CREDENTIAL_SOURCES: [&str; 7] = [
    "AWS_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];

/// Variables of an environment, or keys of a credentials file. An absent one is equivalent to an empty one.
type Variables = BTreeMap<String, String>;

/// The credential variables of this process.
#[derive(Debug, Clone, Default)]
pub(super) struct ShellEnvironment {
    variables: Variables,
    home: Option<PathBuf>,
    /// Started by sudo, which drops most of the environment.
    by_sudo: bool,
}

impl ShellEnvironment {
    pub(super) fn current() -> ShellEnvironment {
        let names = KEYS.iter().map(|(name, _)| name).chain(&CREDENTIAL_SOURCES);
        let word = |name: &&str| Some(((*name).to_owned(), read_variable(name)?));
        ShellEnvironment {
            variables: names.filter_map(word).collect(),
            home: read_variable("HOME").map(PathBuf::from),
            by_sudo: read_variable("SUDO_COMMAND").is_some(),
        }
    }

    /// The keys in the format of the credentials file.
    pub(super) fn render_keys(&self) -> Result<String, Problem> {
        let value = |name: &str| self.variables.get(name);
        let missing: Vec<&str> = [ACCESS_KEY_ID, SECRET_ACCESS_KEY]
            .into_iter()
            .filter(|name| value(name).is_none())
            .collect();
        if !missing.is_empty() {
            let verb = if missing.len() == 1 { "is" } else { "are" };
            return Err(Problem::new(format!(
                "--save-credentials: {} {verb} not in this environment",
                missing.join(" and ")
            ))
            .hint(format!(
                "sudo drops them; to keep them: `sudo --preserve-env={ACCESS_KEY_ID},{SECRET_ACCESS_KEY} trueup init …`"
            )));
        }
        let mut text = "[default]\n".to_owned();
        for (name, key) in KEYS {
            let Some(word) = value(name) else { continue };
            if word.contains(char::is_control) {
                return Err(Problem::new(format!(
                    "--save-credentials: {name} has a line end or another control character in it"
                )));
            }
            text += &format!("{key} = {}\n", word.trim());
        }
        Ok(text)
    }

    /// Warns of keys that expire.
    pub(super) fn expiry_warning(&self) -> Option<Problem> {
        self.variables.get(SESSION_TOKEN)?;
        Some(
            Problem::new(format!(
                "{SESSION_TOKEN} is set: these keys expire with their session, within hours, and then no pass can read the store"
            ))
            .hint("use permanent keys, or the role of the instance"),
        )
    }

    /// Explains why there may be no keys.
    pub(super) fn sudo_warning(&self) -> Option<Problem> {
        let none = self.by_sudo && self.variables.is_empty();
        none.then(|| {
            Problem::new("sudo drops AWS_* variables").hint(format!(
                "if your environment has keys: `sudo --preserve-env={ACCESS_KEY_ID},{SECRET_ACCESS_KEY} trueup init --save-credentials …`"
            ))
        })
    }

    /// Why the store was checked with credentials other than those of the timer.
    pub(super) fn find_mismatch(
        &self,
        timer: &TimerEnvironment,
        has_files: impl Fn(&Path) -> bool,
    ) -> Option<Problem> {
        let unit = |name: &str| timer.variables.get(name);
        let is_only_here = |name: &str| {
            let here = self.variables.get(name);
            here.is_some() && here != unit(name)
        };
        let keys: Vec<&str> = KEYS
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| is_only_here(name))
            .collect();
        let same_as_file = || {
            let of_file = |key: &str| timer.credentials.as_ref()?.get(key);
            KEYS.iter().all(|(name, key)| {
                self.variables.get(*name).map(|word| word.trim())
                    == of_file(key).map(String::as_str)
            })
        };
        if !keys.is_empty() && !same_as_file() {
            let without = format!("{} trueup init …", env_without(&keys));
            return Some(match &timer.credentials {
                Some(_) => Problem::new(format!(
                    "the keys in this environment are not those in {CREDENTIALS_FILE}, which the timer uses: the store was checked with the wrong keys"
                ))
                .hint(format!("`{without}` checks with the keys of the file; or change the file")),
                None => Problem::new(
                    "the keys for the store are only in the environment of this shell, which the timer does not inherit",
                )
                .hint(format!(
                    "--save-credentials saves them to {CREDENTIALS_FILE}; if the instance has a role, `{without}` checks with that"
                )),
            });
        }
        let leads: Vec<&str> = CREDENTIAL_SOURCES
            .into_iter()
            .filter(|name| is_only_here(name))
            .collect();
        if !leads.is_empty() {
            return Some(
                Problem::new(format!(
                    "{} in the environment of this shell selects other credentials than the timer's",
                    leads.join(", ")
                ))
                .hint(format!(
                    "`{} trueup init …` checks as the timer does; the timer also gets the variables in {ENVIRONMENT_FILE}",
                    env_without(&leads)
                )),
            );
        }
        let home = self
            .home
            .as_deref()
            .filter(|home| *home != Path::new(ROOT_HOME))?;
        (!self.variables.contains_key(ACCESS_KEY_ID) && has_files(home)).then(|| {
            Problem::new(format!(
                "HOME is {}: the check used the credentials there, and the timer uses those of {ROOT_HOME}",
                home.display()
            ))
            .hint("`sudo -H trueup init …`")
        })
    }
}

/// The credentials available to the timer.
#[derive(Debug, Clone, Default)]
pub(super) struct TimerEnvironment {
    /// In its environment.
    pub variables: Variables,
    /// In root's credentials file; `None`: no such file.
    pub credentials: Option<Variables>,
}

impl TimerEnvironment {
    pub(super) fn read(root: &Root) -> Result<TimerEnvironment, RootError> {
        let read = |path: &str| -> Result<Option<String>, RootError> {
            let body = root.read(Path::new(path), MAX_FILE_BYTES)?;
            Ok(body.map(|body| String::from_utf8_lossy(&body).into_owned()))
        };
        Ok(TimerEnvironment {
            variables: read(ENVIRONMENT_FILE)?
                .map_or_else(Variables::new, |text| parse_assignments(&text)),
            credentials: read(CREDENTIALS_FILE)?.map(|text| stored_keys(&text)),
        })
    }
}

/// Saves the keys for every pass. The caller has checked that the file does not exist.
pub(super) fn save(root: &Root, text: &str) -> Result<(), RootError> {
    let path = Path::new(CREDENTIALS_FILE);
    root.create_dir_all(Path::new("/root/.aws"), &Attrs::mode(0o700))?;
    root.write_atomic(path, text.as_bytes(), &Attrs::mode(0o600))
}

/// Whether the timer has the same keys as `text`, the body of a credentials file.
pub(super) fn matches_timer(text: &str, timer: &TimerEnvironment) -> bool {
    timer.credentials.as_ref() == Some(&stored_keys(text))
}

/// The region in this environment. The timer does not inherit it, so it belongs in the settings.
pub(super) fn environment_region() -> Option<String> {
    read_variable("AWS_REGION").or_else(|| read_variable("AWS_DEFAULT_REGION"))
}

fn read_variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn env_without(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("-u {name}")).collect();
    format!("env {}", names.join(" "))
}

/// The keys in the text of a credentials file.
fn stored_keys(text: &str) -> Variables {
    let found = default_profile_values(text, KEYS.map(|(_, key)| key)).into_iter();
    found
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

/// The variables of [`ENVIRONMENT_FILE`].
fn parse_assignments(text: &str) -> Variables {
    let word = |line: &str| {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (key, value) = line.split_once('=')?;
        let value = value.trim().trim_matches(['"', '\'']);
        (!line.starts_with('#') && !value.is_empty())
            .then(|| (key.trim().to_owned(), value.to_owned()))
    };
    text.lines().filter_map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(pairs: &[(&str, &str)]) -> ShellEnvironment {
        ShellEnvironment {
            variables: pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            home: Some("/root".into()),
            by_sudo: false,
        }
    }

    fn timer(unit: &str, file: Option<&str>) -> TimerEnvironment {
        TimerEnvironment {
            variables: parse_assignments(unit),
            credentials: file.map(stored_keys),
        }
    }

    const FILE_TEXT: &str = "[other]\naws_access_key_id = B\n\n[default]\n# ours\naws_access_key_id=A\naws_secret_access_key = a=/+\n[more]\naws_session_token = t\n";

    #[test]
    fn keys_missing_from_the_timer_are_reported() {
        let ours = shell(&[(ACCESS_KEY_ID, "A"), (SECRET_ACCESS_KEY, "a=/+")]);
        let said = |shell: &ShellEnvironment, timer: &TimerEnvironment| {
            shell.find_mismatch(timer, |_| false)
        };
        let none = timer("", None);
        let problem = said(&ours, &none).unwrap();
        assert!(
            problem
                .hint
                .as_ref()
                .unwrap()
                .contains("--save-credentials"),
            "{problem}"
        );
        assert_eq!(said(&ours, &timer("", Some(FILE_TEXT))), None);
        let unit = "AWS_ACCESS_KEY_ID=A\nAWS_SECRET_ACCESS_KEY=\"a=/+\"\n";
        assert_eq!(said(&ours, &timer(unit, None)), None);
        let others = shell(&[(ACCESS_KEY_ID, "A"), (SECRET_ACCESS_KEY, "b")]);
        let problem = said(&others, &timer("", Some(FILE_TEXT))).unwrap();
        assert!(
            problem.message.contains("not those in /root/.aws"),
            "{problem}"
        );
        assert!(
            problem
                .hint
                .as_ref()
                .unwrap()
                .contains("env -u AWS_ACCESS_KEY_ID -u AWS_SECRET_ACCESS_KEY trueup"),
            "{problem}"
        );
        let token = shell(&[
            (ACCESS_KEY_ID, "A"),
            (SECRET_ACCESS_KEY, "a=/+"),
            (SESSION_TOKEN, "t"),
        ]);
        assert!(said(&token, &timer("", Some(FILE_TEXT))).is_some());
        assert_eq!(said(&shell(&[]), &none), None);
    }

    #[test]
    fn other_credential_sources_are_reported() {
        let profile = shell(&[("AWS_PROFILE", "ops")]);
        let never = |_: &Path| false;
        let problem = profile.find_mismatch(&timer("", None), never).unwrap();
        assert!(problem.message.contains("AWS_PROFILE"), "{problem}");
        assert_eq!(
            profile.find_mismatch(&timer("AWS_PROFILE=ops", None), never),
            None
        );
        let ana = ShellEnvironment {
            home: Some("/home/ana".into()),
            ..shell(&[])
        };
        assert_eq!(ana.find_mismatch(&timer("", None), never), None);
        let problem = ana.find_mismatch(&timer("", None), |home| home == Path::new("/home/ana"));
        assert!(problem.unwrap().message.contains("/home/ana"));
    }

    #[test]
    fn saved_keys_are_complete_and_single_line() {
        let kept = shell(&[(ACCESS_KEY_ID, "A"), (SECRET_ACCESS_KEY, "a=/+")])
            .render_keys()
            .unwrap();
        assert!(matches_timer(&kept, &timer("", Some(FILE_TEXT))), "{kept}");
        let problem = shell(&[]).render_keys().unwrap_err();
        assert!(
            problem.to_string().contains(
                "sudo --preserve-env=AWS_ACCESS_KEY_ID,AWS_SECRET_ACCESS_KEY trueup init"
            ),
            "{problem}"
        );
        let problem = shell(&[(ACCESS_KEY_ID, "A")]).render_keys().unwrap_err();
        assert!(
            problem.message.contains(": AWS_SECRET_ACCESS_KEY is not"),
            "{problem}"
        );
        assert!(
            shell(&[(ACCESS_KEY_ID, "A"), (SECRET_ACCESS_KEY, "a\nb")])
                .render_keys()
                .is_err()
        );
    }
}
