//! The `authorized_keys` kind: who may log in as a user.

mod key;
mod key_file;
#[cfg(test)]
mod tests;

use serde::Deserialize;

use super::shadow_utils;
use crate::kind::{Diff, Kind};
use crate::ports::Host;
use crate::ports::root::FileKind;
use crate::problem::Problem;
use crate::resource::{
    ApplyOutcome, Change, Failure, FieldChange, FieldValue, Mode, Presence, ResolveInputs, Verb,
};

use key::PublicKey;
use key_file::ObservedPath;

const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

pub(super) struct AuthorizedKeys;

/// The public keys with which a user may log in.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct AuthorizedKeysSpec {
    /// The user. The keys are in `.ssh/authorized_keys` below its home, which must exist (mode `"0600"`, the
    /// folder `"0700"`, both owned by the user).
    pub user: String,
    /// Public keys, each a line as `ssh-keygen` writes it, optionally with options before it.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Whether only these may log in; `false` leaves other keys as they are.
    #[serde(default = "default_true")]
    pub exclusive: bool,
    /// `absent` removes these keys; if they are exclusive, the file and so all keys.
    #[serde(default)]
    pub state: Presence,
    #[serde(skip)]
    parsed: Vec<PublicKey>,
}

fn default_true() -> bool {
    true
}

pub(super) enum AuthorizedKeysState {
    /// An unprivileged run on a host without this user, which it could not create.
    Unmanaged,
    Keys(Box<ObservedKeys>),
}

/// The file and its folder as found on the host.
pub(super) struct ObservedKeys {
    /// The wanted owner of both, as `user:group`.
    owner: String,
    file: Option<(ObservedPath, String)>,
    folder: Option<ObservedPath>,
}

impl AuthorizedKeysSpec {
    /// The wanted content of the file, given its current one; `None` for no file. A correct text is returned
    /// unchanged, with its blank lines and comments.
    fn desired_text(&self, text: Option<&str>) -> Option<String> {
        let listed = |line: &str| {
            let key = PublicKey::parse(line).ok()?;
            self.parsed.iter().find(|listed| listed.is_same_key(&key))
        };
        match (self.state, self.exclusive) {
            (Presence::Absent, true) => None,
            (Presence::Absent, false) => {
                let text = text?;
                let keep: Vec<&str> = text.lines().filter(|line| listed(line).is_none()).collect();
                Some(join_unless_equal(text, keep))
            }
            (Presence::Present, true) => {
                let wanted = || self.parsed.iter().map(|key| key.line.as_str());
                let found: Vec<&str> = entries(text.unwrap_or_default()).collect();
                let right =
                    found.len() == self.parsed.len() && wanted().all(|line| found.contains(&line));
                match text {
                    Some(text) if right => Some(text.to_owned()),
                    _ => Some(join_lines(wanted())),
                }
            }
            (Presence::Present, false) => {
                let text = text.unwrap_or_default();
                let mut after: Vec<&str> = Vec::new();
                for line in text.lines() {
                    match listed(line) {
                        Some(key) if line.trim() == key.line => after.push(line),
                        Some(key) => after.push(&key.line),
                        None => after.push(line),
                    }
                }
                let missing = self.parsed.iter().filter(|key| {
                    !entries(text)
                        .any(|line| PublicKey::parse(line).is_ok_and(|old| old.is_same_key(key)))
                });
                after.extend(missing.map(|key| key.line.as_str()));
                Some(join_unless_equal(text, after))
            }
        }
    }

    /// Whether no key that is in the file may have to stay.
    fn replaces_all_keys(&self) -> bool {
        self.exclusive && (self.state == Presence::Absent || !self.parsed.is_empty())
    }

    /// Refuses a change that would remove the last usable key by mistake.
    fn check_last_key(&self, text: Option<&str>) -> Result<(), Failure> {
        let count = |text: &str| {
            entries(text)
                .filter(|line| PublicKey::parse(line).is_ok())
                .count()
        };
        let now = count(text.unwrap_or_default());
        let then = count(self.desired_text(text).as_deref().unwrap_or_default());
        if self.state == Presence::Absent || now == 0 || then > 0 {
            return Ok(());
        }
        Err(Failure::new(format!(
            "this would remove the last key of `{}` ({now} now, none after)",
            self.user
        ))
        .hint("list a key to keep; to remove all access, set `state: absent`"))
    }

    fn changed_fields(&self, observed: &ObservedKeys) -> Vec<FieldChange> {
        let old = observed.file.as_ref().map(|(_, text)| text.as_str());
        let new = self.desired_text(old).unwrap_or_default();
        let old = old.unwrap_or_default();
        let removed = entries(old).filter(|line| !entries(&new).any(|other| other == *line));
        let come = entries(&new).filter(|line| !entries(old).any(|other| other == *line));
        let removed =
            removed.map(|line| FieldChange::new("keys", display_key(line), FieldValue::Absent));
        let come = come.map(|line| FieldChange::new("keys", FieldValue::Absent, display_key(line)));
        let mut fields: Vec<FieldChange> = removed.chain(come).collect();
        if fields.is_empty() && self.desired_text(Some(old)).is_some_and(|new| new != old) {
            // For example, the file has the same key twice.
            let count = |text: &str| FieldValue::Value(format!("{} lines", text.lines().count()));
            fields.push(FieldChange::new("keys", count(old), count(&new)));
        }
        fields
    }
}

/// The lines that are neither blank nor a comment.
fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn join_lines<'a>(lines: impl IntoIterator<Item = &'a str>) -> String {
    lines.into_iter().flat_map(|line| [line, "\n"]).collect()
}

/// Returns `text` itself if it has these lines already, so that a missing final line break is no difference.
fn join_unless_equal(text: &str, wanted: Vec<&str>) -> String {
    if text.lines().eq(wanted.iter().copied()) {
        text.to_owned()
    } else {
        join_lines(wanted)
    }
}

fn display_key(line: &str) -> FieldValue {
    FieldValue::Value(
        PublicKey::parse(line).map_or("a line that is no key".to_owned(), |key| key.summary()),
    )
}

fn missing_user_failure(name: &str) -> Failure {
    Failure::not_ready(format!("there is no user `{name}` on this host"))
        .hint("describe it in a `user` resource before this one")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AuthorizedKeysAction {
    Remove,
    /// Write the file, or set the access rights of its folder, or both.
    Update {
        file: bool,
        folder_access: bool,
    },
}

impl Kind for AuthorizedKeys {
    const NAME: &'static str = "authorized_keys";
    const ABOUT: &'static str =
        "The public keys with which a user may log in; never takes away the last one by mistake.";
    const EXAMPLE: &'static str = r#"authorized_keys: {user: deploy, keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB6ylTm3jwmIjjCEvwxDVbO8f8k4S1OfbjERvJLmVhnY ana@laptop"]}"#;

    type Spec = AuthorizedKeysSpec;
    type State = AuthorizedKeysState;
    type Action = AuthorizedKeysAction;

    fn subject(spec: &AuthorizedKeysSpec) -> String {
        spec.user.clone()
    }

    fn resolve(spec: &mut AuthorizedKeysSpec, _inputs: &dyn ResolveInputs) -> Result<(), Problem> {
        shadow_utils::validate_name("user", &spec.user)?;
        let mut parsed: Vec<PublicKey> = Vec::new();
        for (at, line) in spec.keys.iter().enumerate() {
            let wrong = |why: String| Problem::new(why).field(format!("keys.{at}"));
            let key = PublicKey::parse(line).map_err(wrong)?;
            match parsed.iter().position(|other| other.is_same_key(&key)) {
                Some(other) if parsed[other].line == key.line => {}
                Some(_) => {
                    return Err(wrong(format!(
                        "{} is listed before, with other options or another comment",
                        key.summary()
                    )));
                }
                None => parsed.push(key),
            }
        }
        spec.parsed = parsed;
        Ok(())
    }

    fn inspect(spec: &AuthorizedKeysSpec, host: &Host) -> Result<AuthorizedKeysState, Failure> {
        let Some(user) = host.accounts.user(&host.root, &spec.user)? else {
            return match spec.state {
                _ if !shadow_utils::can_manage_accounts(host) => Ok(AuthorizedKeysState::Unmanaged),
                Presence::Absent => Ok(AuthorizedKeysState::Unmanaged),
                Presence::Present => Err(missing_user_failure(&spec.user)),
            };
        };
        let (folder, file) = key_file::paths(&user);
        let file = match key_file::read(&file, spec.replaces_all_keys(), host)? {
            Some((meta, text)) => Some((ObservedPath::from_meta(&meta, &user, host)?, text)),
            None => None,
        };
        spec.check_last_key(file.as_ref().map(|(_, text)| text.as_str()))?;
        let folder = match host.root.meta(&folder)? {
            Some(meta) => Some(ObservedPath::from_meta(&meta, &user, host)?),
            None => None,
        };
        Ok(AuthorizedKeysState::Keys(Box::new(ObservedKeys {
            owner: key_file::format_owner(user.uid, user.gid, host)?,
            file,
            folder,
        })))
    }

    fn diff(
        spec: &AuthorizedKeysSpec,
        state: &AuthorizedKeysState,
    ) -> Option<Diff<AuthorizedKeysAction>> {
        let AuthorizedKeysState::Keys(observed) = state else {
            return None;
        };
        let mut fields = spec.changed_fields(observed);
        let only_file = AuthorizedKeysAction::Update {
            file: true,
            folder_access: false,
        };
        match (spec.state, &observed.file) {
            (Presence::Absent, None) => return None,
            (Presence::Absent, Some(_)) if spec.exclusive => {
                let change = Change::new(Verb::Remove).with_fields(fields);
                let state = FieldValue::value("a file");
                let change = change.with_field("state", state, FieldValue::Absent);
                return Some(Diff::new(AuthorizedKeysAction::Remove, change));
            }
            (Presence::Absent, Some(_)) => {
                return Some(Diff::new(only_file, Change::update(fields)?));
            }
            (Presence::Present, None) => {
                let change = Change::new(Verb::Create).with_fields(fields);
                let mode = FieldValue::value(Mode(FILE_MODE));
                let change = change.with_field("mode", FieldValue::Absent, mode);
                return Some(Diff::new(only_file, change));
            }
            (Presence::Present, Some((file, _))) => {
                if file.kind != FileKind::File {
                    let is = FieldValue::value(file.kind.describe());
                    fields.push(FieldChange::new("state", is, FieldValue::value("a file")));
                } else {
                    fields.extend(file.diff(["mode", "owner"], FILE_MODE, &observed.owner));
                }
            }
        }
        let names = ["folder_mode", "folder_owner"];
        let folder = observed.folder.iter();
        let folder = folder.flat_map(|folder| folder.diff(names, FOLDER_MODE, &observed.owner));
        let folder: Vec<FieldChange> = folder.collect();
        let action = AuthorizedKeysAction::Update {
            file: !fields.is_empty(),
            folder_access: !folder.is_empty(),
        };
        fields.extend(folder);
        Some(Diff::new(action, Change::update(fields)?))
    }

    fn apply(
        spec: &AuthorizedKeysSpec,
        action: &AuthorizedKeysAction,
        host: &Host,
    ) -> Result<ApplyOutcome, Failure> {
        let root = &host.root;
        let user = host.accounts.user(root, &spec.user)?;
        let user = user.ok_or_else(|| missing_user_failure(&spec.user))?;
        let (folder, file) = key_file::paths(&user);
        let AuthorizedKeysAction::Update {
            file: writes_file,
            folder_access,
        } = *action
        else {
            root.remove_file(&file)?;
            return Ok(ApplyOutcome::Done);
        };
        if root.meta(&user.home)?.is_none() {
            return Err(Failure::not_ready(format!(
                "the home of `{}`, {}, does not exist",
                user.name,
                user.home.display()
            ))
            .hint("describe it in a `directory` resource before this one"));
        }
        if root.meta(&folder)?.is_none() {
            root.create_dir(&folder, &key_file::attrs(&user, FOLDER_MODE, host))?;
        }
        let text = key_file::read(&file, spec.replaces_all_keys(), host)?.map(|(_, text)| text);
        spec.check_last_key(text.as_deref())?;
        if let Some(after) = spec.desired_text(text.as_deref()).filter(|_| writes_file) {
            root.write_atomic(
                &file,
                after.as_bytes(),
                &key_file::attrs(&user, FILE_MODE, host),
            )?;
        }
        // Write the file first: a folder must not change owner while it holds other users' files.
        if folder_access {
            root.set_attrs(&folder, &key_file::attrs(&user, FOLDER_MODE, host))?;
        }
        Ok(ApplyOutcome::Done)
    }
}

#[cfg(test)]
mod conformance {
    use super::AuthorizedKeys;
    use super::key::tests::EVE;
    use crate::kind::ConformanceProbes;
    use crate::kind::conformance::Probe;
    use crate::ports::testing::Sandbox;

    impl ConformanceProbes for AuthorizedKeys {
        fn prepare(host: &Sandbox) {
            super::tests::add_deploy(host);
        }

        fn probes() -> Vec<Probe> {
            const FILE: &str = "/home/deploy/.ssh/authorized_keys";
            vec![
                Probe::drift("user", |host| host.chown(FILE, 0, 0))
                    .reported_as("owner")
                    .needs_root(),
                Probe::drift("keys", |host| host.write(FILE, "# none\n")),
                Probe::drift("exclusive", |host| {
                    host.write(FILE, host.read(FILE) + EVE + "\n");
                })
                .reported_as("keys"),
                Probe::removal("state", |host| host.remove("/home/deploy/.ssh")),
            ]
        }

        fn effects() -> Vec<Probe> {
            vec![
                Probe::effect("the mode of the folder", |host| {
                    host.chmod("/home/deploy/.ssh", 0o755);
                }),
                Probe::effect("the mode of the file", |host| {
                    host.chmod("/home/deploy/.ssh/authorized_keys", 0o644);
                }),
            ]
        }
    }
}
