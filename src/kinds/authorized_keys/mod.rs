//! `authorized_keys`: who may log in as a user.

mod key;
mod place;
#[cfg(test)]
mod tests;

use serde::Deserialize;

use super::shadow;
use crate::ports::Host;
use crate::ports::root::FileKind;
use crate::problem::Problem;
use crate::resource::{
    Change, Failure, FieldChange, Inputs, Kind, Mode, Outcome, Shown, State, Verb,
};

use key::Key;
use place::Place;

const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

pub struct AuthorizedKeys;

/// The public keys with which a user may log in.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Whose keys they are. They are kept in `.ssh/authorized_keys` below its home (mode `"0600"`,
    /// the folder `"0700"`, both its own), which must exist.
    pub user: String,
    /// Public keys, each a line as `ssh-keygen` writes it, options before it if need be.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Whether only these may log in; `false` leaves other keys as they are.
    #[serde(default = "yes")]
    pub exclusive: bool,
    /// `absent` removes these keys; if they are exclusive, the file and so every key.
    #[serde(default)]
    pub state: State,
    #[serde(skip)]
    parsed: Vec<Key>,
}

fn yes() -> bool {
    true
}

pub enum Found {
    /// An unprivileged run on a host without this user, which it could not make.
    NotOurs,
    Keys(Box<Seen>),
}

/// The file and its folder as they are.
pub struct Seen {
    /// To whom both should belong, as `user:group`.
    owner: String,
    file: Option<(Place, String)>,
    folder: Option<Place>,
}

impl Spec {
    /// What the file should hold, given what it holds; `None`: no file. A text that is right comes
    /// back as it is, blank lines, comments and all.
    fn after(&self, text: Option<&str>) -> Option<String> {
        let listed = |line: &str| {
            let key = Key::parse(line).ok()?;
            self.parsed.iter().find(|listed| listed.is_same(&key))
        };
        match (self.state, self.exclusive) {
            (State::Absent, true) => None,
            (State::Absent, false) => {
                let text = text?;
                let keep: Vec<&str> = text.lines().filter(|line| listed(line).is_none()).collect();
                Some(same_or(text, keep))
            }
            (State::Present, true) => {
                let wanted = || self.parsed.iter().map(|key| key.line.as_str());
                let found: Vec<&str> = entries(text.unwrap_or_default()).collect();
                let right =
                    found.len() == self.parsed.len() && wanted().all(|line| found.contains(&line));
                match text {
                    Some(text) if right => Some(text.to_owned()),
                    _ => Some(lines(wanted())),
                }
            }
            (State::Present, false) => {
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
                    !entries(text).any(|line| Key::parse(line).is_ok_and(|old| old.is_same(key)))
                });
                after.extend(missing.map(|key| key.line.as_str()));
                Some(same_or(text, after))
            }
        }
    }

    /// Whether nothing that is in the file may have to stay.
    fn keeps_nothing(&self) -> bool {
        self.exclusive && (self.state == State::Absent || !self.parsed.is_empty())
    }

    /// Refuses to lock everybody out by mistake.
    fn guard(&self, text: Option<&str>) -> Result<(), Failure> {
        let count = |text: &str| {
            entries(text)
                .filter(|line| Key::parse(line).is_ok())
                .count()
        };
        let now = count(text.unwrap_or_default());
        let then = count(self.after(text).as_deref().unwrap_or_default());
        if self.state == State::Absent || now == 0 || then > 0 {
            return Ok(());
        }
        Err(Failure::new(format!(
            "this would take away the last key of `{}` ({now} now, none after)",
            self.user
        ))
        .hint("list a key that should stay; if nobody is to log in, say `state: absent`"))
    }

    fn fields(&self, seen: &Seen) -> Vec<FieldChange> {
        let old = seen.file.as_ref().map(|(_, text)| text.as_str());
        let new = self.after(old).unwrap_or_default();
        let old = old.unwrap_or_default();
        let gone = entries(old).filter(|line| !entries(&new).any(|other| other == *line));
        let come = entries(&new).filter(|line| !entries(old).any(|other| other == *line));
        let gone = gone.map(|line| FieldChange::new("keys", shown(line), Shown::Absent));
        let come = come.map(|line| FieldChange::new("keys", Shown::Absent, shown(line)));
        let mut fields: Vec<FieldChange> = gone.chain(come).collect();
        if fields.is_empty() && self.after(Some(old)).is_some_and(|new| new != old) {
            // The same key twice in the file, say.
            let count = |text: &str| Shown::Value(format!("{} lines", text.lines().count()));
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

fn lines<'a>(lines: impl IntoIterator<Item = &'a str>) -> String {
    lines.into_iter().flat_map(|line| [line, "\n"]).collect()
}

/// `text` itself if it has these lines already, so that a missing last line end is no difference.
fn same_or(text: &str, wanted: Vec<&str>) -> String {
    if text.lines().eq(wanted.iter().copied()) {
        text.to_owned()
    } else {
        lines(wanted)
    }
}

fn shown(line: &str) -> Shown {
    Shown::Value(Key::parse(line).map_or("a line that is no key".to_owned(), |key| key.short()))
}

fn missing_user(name: &str) -> Failure {
    Failure::not_yet(format!("there is no user `{name}` on this host"))
        .hint("describe it in a `user` resource before this one")
}

impl Kind for AuthorizedKeys {
    const NAME: &'static str = "authorized_keys";
    const ABOUT: &'static str =
        "The public keys with which a user may log in; never takes away the last one by mistake.";
    const EXAMPLE: &'static str = r#"authorized_keys: {user: deploy, keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB6ylTm3jwmIjjCEvwxDVbO8f8k4S1OfbjERvJLmVhnY ana@laptop"]}"#;

    type Spec = Spec;
    type State = Found;

    fn subject(spec: &Spec) -> String {
        spec.user.clone()
    }

    fn resolve(spec: &mut Spec, _inputs: &dyn Inputs) -> Result<(), Problem> {
        shadow::usable_name("user", &spec.user)?;
        let mut parsed: Vec<Key> = Vec::new();
        for (at, line) in spec.keys.iter().enumerate() {
            let wrong = |why: String| Problem::new(why).field(format!("keys.{at}"));
            let key = Key::parse(line).map_err(wrong)?;
            match parsed.iter().position(|other| other.is_same(&key)) {
                Some(other) if parsed[other].line == key.line => {}
                Some(_) => {
                    return Err(wrong(format!(
                        "{} is listed before, with other options or another comment",
                        key.short()
                    )));
                }
                None => parsed.push(key),
            }
        }
        spec.parsed = parsed;
        Ok(())
    }

    fn inspect(spec: &Spec, host: &Host) -> Result<Found, Failure> {
        let Some(user) = host.accounts.user(&host.root, &spec.user)? else {
            return match spec.state {
                _ if !shadow::are_ours(host) => Ok(Found::NotOurs),
                State::Absent => Ok(Found::NotOurs),
                State::Present => Err(missing_user(&spec.user)),
            };
        };
        let (folder, file) = place::paths(&user);
        let file = match place::read(&file, spec.keeps_nothing(), host)? {
            Some((meta, text)) => Some((Place::of(&meta, &user, host)?, text)),
            None => None,
        };
        spec.guard(file.as_ref().map(|(_, text)| text.as_str()))?;
        let folder = match host.root.meta(&folder)? {
            Some(meta) => Some(Place::of(&meta, &user, host)?),
            None => None,
        };
        Ok(Found::Keys(Box::new(Seen {
            owner: place::owner(user.uid, user.gid, host)?,
            file,
            folder,
        })))
    }

    fn diff(spec: &Spec, state: &Found) -> Option<Change> {
        let Found::Keys(seen) = state else {
            return None;
        };
        let mut fields = spec.fields(seen);
        match (spec.state, &seen.file) {
            (State::Absent, None) => return None,
            (State::Absent, Some(_)) if spec.exclusive => {
                let mut change = Change::new(Verb::Remove);
                change.fields = fields;
                return Some(change.with("state", Shown::value("a file"), Shown::Absent));
            }
            (State::Absent, Some(_)) => return Change::update(fields),
            (State::Present, None) => {
                let mut change = Change::new(Verb::Create);
                change.fields = fields;
                let mode = Shown::value(Mode(FILE_MODE));
                return Some(change.with("mode", Shown::Absent, mode));
            }
            (State::Present, Some((file, _))) => {
                if file.kind != FileKind::File {
                    let is = Shown::value(file.kind.words());
                    fields.push(FieldChange::new("state", is, Shown::value("a file")));
                } else {
                    fields.extend(file.differences(["mode", "owner"], FILE_MODE, &seen.owner));
                }
            }
        }
        if let Some(folder) = &seen.folder {
            let names = ["folder_mode", "folder_owner"];
            fields.extend(folder.differences(names, FOLDER_MODE, &seen.owner));
        }
        Change::update(fields)
    }

    fn apply(spec: &Spec, change: &Change, host: &Host) -> Result<Outcome, Failure> {
        let root = &host.root;
        let user = host.accounts.user(root, &spec.user)?;
        let user = user.ok_or_else(|| missing_user(&spec.user))?;
        let (folder, file) = place::paths(&user);
        if change.verb == Verb::Remove {
            root.remove(&file)?;
            return Ok(Outcome::Done);
        }
        if root.meta(&user.home)?.is_none() {
            return Err(Failure::not_yet(format!(
                "the home of `{}`, {}, does not exist",
                user.name,
                user.home.display()
            ))
            .hint("describe it in a `directory` resource before this one"));
        }
        if root.meta(&folder)?.is_none() {
            root.make_dir(&folder, &place::attrs(&user, FOLDER_MODE, host))?;
        }
        let text = place::read(&file, spec.keeps_nothing(), host)?.map(|(_, text)| text);
        spec.guard(text.as_deref())?;
        let only_folder = |field: &FieldChange| field.field.starts_with("folder_");
        if let Some(after) = spec.after(text.as_deref())
            && !change.fields.iter().all(only_folder)
        {
            root.replace(
                &file,
                after.as_bytes(),
                &place::attrs(&user, FILE_MODE, host),
            )?;
        }
        // A folder with files of others in it is not given away: the one that is ours to make goes first.
        if change.touches("folder_mode") || change.touches("folder_owner") {
            root.set_attrs(&folder, &place::attrs(&user, FOLDER_MODE, host))?;
        }
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod conformance {
    use super::AuthorizedKeys;
    use super::key::tests::EVE;
    use crate::ports::testing::Sandbox;
    use crate::resource::Probed;
    use crate::resource::conformance::Probe;

    impl Probed for AuthorizedKeys {
        fn prepare(host: &Sandbox) {
            super::tests::add_deploy(host);
        }

        fn probes() -> Vec<Probe> {
            const FILE: &str = "/home/deploy/.ssh/authorized_keys";
            vec![
                Probe::spoil("user", |host| host.chown(FILE, 0, 0))
                    .shown_as("owner")
                    .as_root(),
                Probe::spoil("keys", |host| host.write(FILE, "# none\n")),
                Probe::spoil("exclusive", |host| {
                    host.write(FILE, host.read(FILE) + EVE + "\n");
                })
                .shown_as("keys"),
                Probe::gone("state", |host| host.remove("/home/deploy/.ssh")),
            ]
        }
    }
}
