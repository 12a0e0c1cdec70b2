//! Credentials for the store. The checks are valid only with the credentials that the timer will have, and
//! the timer does not inherit the environment of the shell that runs `trueup init`.

mod mismatch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::checks::Check;
use crate::ports::root::{Attrs, Root, RootError};
use crate::ports::store::default_profile_values;
use crate::problem::Problem;

pub(super) use mismatch::find_mismatch;

/// Label of the checks of credentials.
pub(super) const ABOUT: &str = "credentials";

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

/// The AWS variables of this process.
#[derive(Clone, Default)]
pub(crate) struct ShellEnvironment {
    variables: Variables,
    /// The timer does not inherit it, so it belongs in the settings.
    pub region: Option<String>,
    home: Option<PathBuf>,
    /// Started by sudo, which drops most of the environment.
    by_sudo: bool,
}

impl ShellEnvironment {
    pub(crate) fn current() -> ShellEnvironment {
        let names = KEYS.iter().map(|(name, _)| name).chain(&CREDENTIAL_SOURCES);
        let variable = |name: &&str| Some(((*name).to_owned(), read_variable(name)?));
        ShellEnvironment {
            variables: names.filter_map(variable).collect(),
            region: read_variable("AWS_REGION").or_else(|| read_variable("AWS_DEFAULT_REGION")),
            home: read_variable("HOME").map(PathBuf::from),
            by_sudo: read_variable("SUDO_COMMAND").is_some(),
        }
    }

    /// The keys in the format of the credentials file.
    pub(crate) fn render_keys(&self) -> Result<String, Problem> {
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
            let Some(value) = value(name) else { continue };
            if value.contains(char::is_control) {
                return Err(Problem::new(format!(
                    "--save-credentials: {name} has a line end or another control character in it"
                )));
            }
            text += &format!("{key} = {}\n", value.trim());
        }
        Ok(text)
    }

    /// Warns of keys that expire.
    fn expiry_warning(&self) -> Option<Problem> {
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
}

/// No variable's value: it may be a secret.
impl std::fmt::Debug for ShellEnvironment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShellEnvironment").finish_non_exhaustive()
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

/// The keys of the shell if they are to be saved for the timer, and the check of that.
pub(super) fn check_keys_to_save(
    shell: &ShellEnvironment,
    timer: &TimerEnvironment,
) -> Result<(Option<String>, Option<Check>), Problem> {
    let keys = shell.render_keys()?;
    if matches_timer(&keys, timer) {
        let message = format!("{CREDENTIALS_FILE} already has them");
        return Ok((None, Some(Check::good(ABOUT, message))));
    }
    if timer.credentials.is_some() {
        let problem = Problem::new(format!(
            "{CREDENTIALS_FILE} already exists, with other keys"
        ))
        .hint("edit it, and omit --save-credentials");
        return Ok((None, Some(Check::bad(ABOUT, problem))));
    }
    let expiry = shell
        .expiry_warning()
        .map(|problem| Check::note(ABOUT, problem));
    Ok((Some(keys), expiry))
}

/// Saves the keys for every pass. The caller has checked that the file does not exist.
pub(super) fn save(root: &Root, text: &str) -> Result<(), RootError> {
    let path = Path::new(CREDENTIALS_FILE);
    root.create_dir_all(Path::new("/root/.aws"), &Attrs::mode(0o700))?;
    root.write_atomic(path, text.as_bytes(), &Attrs::mode(0o600))
}

/// Whether the timer has the same keys as `text`, the body of a credentials file.
fn matches_timer(text: &str, timer: &TimerEnvironment) -> bool {
    timer.credentials.as_ref() == Some(&stored_keys(text))
}

#[expect(
    clippy::disallowed_methods,
    reason = "init compares the keys of its caller with those of the timer"
)]
fn read_variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
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
    let assignment = |line: &str| {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (key, value) = line.split_once('=')?;
        let value = value.trim().trim_matches(['"', '\'']);
        (!line.starts_with('#') && !value.is_empty())
            .then(|| (key.trim().to_owned(), value.to_owned()))
    };
    text.lines().filter_map(assignment).collect()
}

#[cfg(test)]
#[cfg(feature = "s3")]
mod tests {
    use super::*;

    fn shell(pairs: &[(&str, &str)]) -> ShellEnvironment {
        ShellEnvironment {
            variables: pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            home: Some("/root".into()),
            ..ShellEnvironment::default()
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
        let shell_keys = shell(&[(ACCESS_KEY_ID, "A"), (SECRET_ACCESS_KEY, "a=/+")]);
        let mismatch = |shell: &ShellEnvironment, timer: &TimerEnvironment| {
            shell.find_mismatch(timer, |_| false)
        };
        let none = timer("", None);
        let problem = mismatch(&shell_keys, &none).unwrap();
        assert!(
            problem
                .hint
                .as_ref()
                .unwrap()
                .contains("--save-credentials"),
            "{problem}"
        );
        assert_eq!(mismatch(&shell_keys, &timer("", Some(FILE_TEXT))), None);
        let unit = "AWS_ACCESS_KEY_ID=A\nAWS_SECRET_ACCESS_KEY=\"a=/+\"\n";
        assert_eq!(mismatch(&shell_keys, &timer(unit, None)), None);
        let others = shell(&[(ACCESS_KEY_ID, "A"), (SECRET_ACCESS_KEY, "b")]);
        let problem = mismatch(&others, &timer("", Some(FILE_TEXT))).unwrap();
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
        assert!(mismatch(&token, &timer("", Some(FILE_TEXT))).is_some());
        assert_eq!(mismatch(&shell(&[]), &none), None);
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
        let keys = shell(&[(ACCESS_KEY_ID, "A"), (SECRET_ACCESS_KEY, "a=/+")])
            .render_keys()
            .unwrap();
        assert!(matches_timer(&keys, &timer("", Some(FILE_TEXT))), "{keys}");
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
