//! `user`: an account.

mod number;

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::shadow;
use crate::ports::Host;
use crate::ports::root::Attrs;
use crate::problem::Problem;
use crate::resource::{Change, Failure, FieldChange, Inputs, Kind, Outcome, Shown, State, Verb};

/// No `/etc/passwd` is larger, in bytes.
const MAX_FILE: usize = 16 << 20;

pub struct User;

/// A user.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// At most 32 of a-z, 0-9, `_` and `-`.
    pub name: String,
    /// Its number; not given: left as it is (a new user gets the one
    /// that its home belongs to if nobody has that, else the next free one). Files outside its
    /// home keep the number that they have.
    pub uid: Option<u32>,
    /// Its main group, name or number; not given: left as it is (one of its own name for a new
    /// user, made if it is missing).
    pub group: Option<String>,
    /// Its other groups, exactly these; not given: left as they are.
    pub groups: Option<Vec<String>>,
    /// Its home folder; not given: left as it is (`/home/NAME` for a new user). Only noted in the
    /// account: describe the folder itself in a `directory`.
    pub home: Option<PathBuf>,
    /// Its login shell; not given: left as it is (the host's default for a new user).
    pub shell: Option<PathBuf>,
    /// Who or what it is for; not given: left as it is.
    pub comment: Option<String>,
    /// Take a new user's number from the range for the system's own users.
    #[serde(default)]
    pub system: bool,
    /// Whether its password is locked; not given: left as it is (locked for a new user). Keys work
    /// either way where sshd uses PAM. Unlocking an account that has no password leaves it one
    /// that nothing matches.
    pub locked: Option<bool>,
    /// `absent` removes the account and leaves its home folder.
    #[serde(default)]
    pub state: State,
}

pub enum Found {
    /// An unprivileged run: users are not ours to set.
    NotOurs,
    Nothing,
    User(Box<Seen>),
}

/// An account as it is.
pub struct Seen {
    uid: u32,
    /// Spelt as the spec spells it where both mean the same.
    group: String,
    groups: Vec<String>,
    home: PathBuf,
    shell: PathBuf,
    comment: String,
    locked: bool,
}

impl Spec {
    /// The other groups, sorted and once each.
    fn others(&self) -> Option<Vec<String>> {
        let mut groups = self.groups.clone()?;
        groups.sort();
        groups.dedup();
        Some(groups)
    }

    fn differences(&self, seen: &Seen) -> Vec<FieldChange> {
        let text = |path: &Path| path.display().to_string();
        let others = self.others().map(|groups| groups.join(", "));
        let locked = |locked: bool| if locked { "locked" } else { "not locked" }.to_owned();
        [
            (
                "uid",
                seen.uid.to_string(),
                self.uid.map(|uid| uid.to_string()),
            ),
            ("group", seen.group.clone(), self.group.clone()),
            ("groups", seen.groups.join(", "), others),
            ("home", text(&seen.home), self.home.as_deref().map(text)),
            ("shell", text(&seen.shell), self.shell.as_deref().map(text)),
            ("comment", seen.comment.clone(), self.comment.clone()),
            ("locked", locked(seen.locked), self.locked.map(locked)),
        ]
        .into_iter()
        .filter_map(|(field, from, to)| FieldChange::of(field, &from, &to?))
        .collect()
    }

    fn created(&self) -> Change {
        let nobody = Seen {
            uid: 0,
            group: String::new(),
            groups: Vec::new(),
            home: PathBuf::new(),
            shell: PathBuf::new(),
            comment: String::new(),
            locked: true,
        };
        let mut change =
            Change::new(Verb::Create).with("name", Shown::Absent, Shown::value(&self.name));
        for field in self.differences(&nobody) {
            change.fields.push(FieldChange {
                from: Shown::Absent,
                ..field
            });
        }
        change
    }

    /// Refuses what shadow-utils would refuse halfway or in worse words.
    fn check_against(&self, host: &Host) -> Result<(), Failure> {
        let (root, accounts) = (&host.root, &host.accounts);
        if let Some(uid) = self.uid {
            let holder = accounts.user_name(root, uid)?;
            if holder != uid.to_string() && holder != self.name {
                return Err(Failure::new(format!(
                    "uid {uid} is already the number of user `{holder}`"
                ))
                .hint(
                    "choose another number, or describe that user with another one before this",
                ));
            }
        }
        for group in self.group.iter().chain(self.groups.iter().flatten()) {
            if accounts.gid(root, group)?.is_none() {
                return Err(
                    Failure::not_yet(format!("there is no group `{group}` on this host"))
                        .hint("describe it in a `group` resource before this one"),
                );
            }
        }
        Ok(())
    }

    /// The arguments that set these fields, the same for `useradd` and `usermod`.
    fn settings(&self, wants: impl Fn(&str) -> bool) -> Vec<String> {
        let text = |path: &PathBuf| path.display().to_string();
        [
            ("uid", "-u", self.uid.map(|uid| uid.to_string())),
            ("group", "-g", self.group.clone()),
            ("groups", "-G", self.others().map(|groups| groups.join(","))),
            ("home", "-d", self.home.as_ref().map(text)),
            ("shell", "-s", self.shell.as_ref().map(text)),
            ("comment", "-c", self.comment.clone()),
        ]
        .into_iter()
        .filter(|(field, _, _)| wants(field))
        .filter_map(|(_, flag, value)| Some([flag.to_owned(), value?]))
        .flatten()
        .collect()
    }

    fn create(&self, host: &Host) -> Result<(), Failure> {
        let mut args = vec!["-M".to_owned()];
        if self.group.is_none() {
            let own = host.accounts.group(&host.root, &self.name)?;
            args.extend(match own {
                Some(_) => vec!["-g".to_owned(), self.name.clone()],
                None => vec!["-U".to_owned()],
            });
        }
        if self.system {
            args.push("-r".to_owned());
        }
        if self.locked == Some(false) {
            args.extend(["-p".to_owned(), "*".to_owned()]);
        }
        args.extend(self.settings(|_| true));
        if let Some(uid) = number::former(self, host)? {
            args.extend(["-u".to_owned(), uid.to_string()]);
        }
        self.run(host, "useradd", args)
    }

    fn update(&self, change: &Change, host: &Host) -> Result<(), Failure> {
        // Below a prefix, usermod takes the main group from the machine's own groups (seen in
        // 4.13): there it is set here.
        let group_below = change.touches("group") && !host.root.is_real();
        let args =
            self.settings(|field| change.touches(field) && !(field == "group" && group_below));
        if !args.is_empty() {
            self.run(host, "usermod", args)?;
        }
        if group_below {
            self.set_group_below(host)?;
        }
        if change.touches("locked") {
            let flag = if self.locked == Some(true) {
                "-L"
            } else {
                "-U"
            };
            self.run(host, "usermod", vec![flag.to_owned()])?;
            // Without a password behind the lock, usermod leaves it locked.
            if self.locked == Some(false)
                && host.accounts.is_locked(&host.root, &self.name) != Some(false)
            {
                self.run(host, "usermod", vec!["-p".to_owned(), "*".to_owned()])?;
            }
        }
        Ok(())
    }

    fn run(&self, host: &Host, program: &str, args: Vec<String>) -> Result<(), Failure> {
        let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
        args.push(&self.name);
        shadow::run(host, program, &args)
    }

    fn set_group_below(&self, host: &Host) -> Result<(), Failure> {
        let (root, accounts) = (&host.root, &host.accounts);
        let wanted = self.group.as_deref().unwrap_or(&self.name);
        let Some(gid) = accounts.gid(root, wanted)? else {
            return Ok(());
        };
        let path = Path::new("/etc/passwd");
        let Some((meta, body)) = root.read_with_meta(path, MAX_FILE)? else {
            return Ok(());
        };
        let text = String::from_utf8_lossy(&body);
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for line in &mut lines {
            let mut parts: Vec<&str> = line.split(':').collect();
            let gid = gid.to_string();
            if parts.len() == 7 && parts[0] == self.name {
                parts[3] = &gid;
                *line = parts.join(":");
            }
        }
        let attrs = Attrs {
            mode: Some(meta.mode),
            uid: Some(meta.uid),
            gid: Some(meta.gid),
        };
        root.replace(path, (lines.join("\n") + "\n").as_bytes(), &attrs)?;
        accounts.forget();
        Ok(())
    }
}

impl Kind for User {
    const NAME: &'static str = "user";
    const ABOUT: &'static str =
        "An account: its number, groups, home, shell and whether its password is locked.";
    const EXAMPLE: &'static str = "user: {name: deploy, uid: 2001, group: www-data, groups: [adm, ssl-cert], home: /home/deploy, shell: /bin/bash, comment: Deploys, locked: true}";

    type Spec = Spec;
    type State = Found;

    fn subject(spec: &Spec) -> String {
        spec.name.clone()
    }

    fn resolve(spec: &mut Spec, _inputs: &dyn Inputs) -> Result<(), Problem> {
        shadow::usable_name("name", &spec.name)?;
        for (field, path) in [("home", &spec.home), ("shell", &spec.shell)] {
            path.as_ref()
                .map_or(Ok(()), |path| super::usable_path(field, path))?;
        }
        let shell = spec.shell.as_ref().map(|path| path.display().to_string());
        let home = spec.home.as_ref().map(|path| path.display().to_string());
        for (field, text) in [
            ("comment", &spec.comment),
            ("home", &home),
            ("shell", &shell),
        ] {
            let bad = |c: char| c == ':' || c.is_control();
            if text.as_ref().is_some_and(|text| text.contains(bad)) {
                return Err(Problem::new("it cannot hold `:` or a line break").field(field));
            }
        }
        if let Some(group) = spec.group.as_ref().filter(|g| g.parse::<u32>().is_err()) {
            shadow::usable_name("group", group)?;
        }
        for group in spec.groups.iter().flatten() {
            shadow::usable_name("groups", group)?;
        }
        Ok(())
    }

    fn inspect(spec: &Spec, host: &Host) -> Result<Found, Failure> {
        let (root, accounts) = (&host.root, &host.accounts);
        if !shadow::are_ours(host) {
            return Ok(Found::NotOurs);
        }
        let Some(user) = accounts.user(root, &spec.name)? else {
            return Ok(Found::Nothing);
        };
        let group = match &spec.group {
            Some(group) if accounts.gid(root, group)? == Some(user.gid) => group.clone(),
            _ => accounts.group_name(root, user.gid)?,
        };
        Ok(Found::User(Box::new(Seen {
            uid: user.uid,
            group,
            groups: accounts.groups_of(root, &spec.name)?,
            home: user.home,
            shell: user.shell,
            comment: user.comment,
            // Without an entry there is no password that could be used.
            locked: accounts.is_locked(root, &spec.name).unwrap_or(true),
        })))
    }

    fn diff(spec: &Spec, state: &Found) -> Option<Change> {
        match (spec.state, state) {
            (_, Found::NotOurs) | (State::Absent, Found::Nothing) => None,
            (State::Absent, Found::User(_)) => Some(Change::new(Verb::Remove).with(
                "name",
                Shown::value(&spec.name),
                Shown::Absent,
            )),
            (State::Present, Found::Nothing) => Some(spec.created()),
            (State::Present, Found::User(seen)) => Change::update(spec.differences(seen)),
        }
    }

    fn apply(spec: &Spec, change: &Change, host: &Host) -> Result<Outcome, Failure> {
        if change.verb == Verb::Remove {
            shadow::run(host, "userdel", &[&spec.name])?;
            return Ok(Outcome::Done);
        }
        spec.check_against(host)?;
        if change.verb == Verb::Create {
            spec.create(host)?;
        } else {
            spec.update(change, host)?;
        }
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod conformance {
    use super::User;
    use crate::ports::testing::Sandbox;
    use crate::resource::Probed;
    use crate::resource::conformance::Probe;

    impl Probed for User {
        fn cannot_run(host: &Sandbox) -> Option<&'static str> {
            (!host.is_privileged()).then_some("needs root")
        }

        fn prepare(host: &Sandbox) {
            // No number is the machine's own, so that one taken from there would show.
            host.write(
                "/etc/group",
                "root:x:0:\nwww-data:x:7033:\nadm:x:7004:\nssl-cert:x:7099:\n",
            );
        }

        fn probes() -> Vec<Probe> {
            const PASSWD: &str = "/etc/passwd";
            vec![
                Probe::gone("name", |host| {
                    host.edit(PASSWD, "deploy:x:2001", "other:x:2002")
                }),
                Probe::spoil("uid", |host| host.edit(PASSWD, ":2001:", ":2003:")),
                Probe::spoil("group", |host| host.edit(PASSWD, ":7033:", ":7004:")),
                Probe::spoil("groups", |host| {
                    host.edit("/etc/group", "ssl-cert:x:7099:deploy", "ssl-cert:x:7099:");
                    host.edit("/etc/group", "root:x:0:", "root:x:0:deploy");
                }),
                Probe::spoil("home", |host| host.edit(PASSWD, "/home/deploy", "/srv")),
                Probe::spoil("shell", |host| {
                    host.edit(PASSWD, "deploy:/bin/bash", "deploy:/bin/sh")
                }),
                Probe::spoil("comment", |host| host.edit(PASSWD, ":Deploys:", "::")),
                Probe::not_set("system", "it only says where a new user's number is from"),
                Probe::spoil("locked", |host| {
                    host.edit("/etc/shadow", "deploy:!", "deploy:$6$salt$hash");
                }),
                Probe::gone("state", |host| {
                    host.write(PASSWD, "root:x:0:0::/root:/bin/sh\n")
                }),
            ]
        }
    }
}

#[cfg(test)]
mod tests;
