//! The `user` kind: an account.

mod login;
mod uid;

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::shadow_utils::{self, Manage};
use crate::kind::{Condition, Diff, Kind};
use crate::ports::Host;
use crate::ports::root::Attrs;
use crate::problem::Problem;
use crate::resource::{
    ApplyOutcome, Change, Failure, FieldChange, FieldValue, Presence, ResolveInputs, Verb,
};

/// Size limit of `/etc/passwd`, in bytes.
const MAX_PASSWD_BYTES: usize = 16 << 20;

pub(super) struct User;

/// A user.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct UserSpec {
    /// At most 32 of a-z, 0-9, `_` and `-`.
    pub name: String,
    /// Its uid; not given: left as it is (a new user gets the owner of its home if that uid is free, else the
    /// next free one). Files outside its home keep the uid that they have.
    pub uid: Option<u32>,
    /// Its primary group, name or number; not given: left as it is (for a new user a group of its own name,
    /// created if missing).
    pub group: Option<String>,
    /// Its supplementary groups, exactly these; not given: left as they are.
    pub groups: Option<Vec<String>>,
    /// Its home folder; not given: left as it is (`/home/NAME` for a new user). Only set in the account:
    /// describe the folder itself in a `directory`.
    pub home: Option<PathBuf>,
    /// Its login shell, which the host must have; not given: left as it is (the host's default for a new user).
    pub shell: Option<PathBuf>,
    /// Its purpose (GECOS field); not given: left as it is.
    pub comment: Option<String>,
    /// Take a new user's uid from the range for system users.
    #[serde(default)]
    pub system: bool,
    /// Whether its password is locked; not given: left as it is (locked for a new user). Keys work either way
    /// where sshd uses PAM. Unlocking an account without a password gives it one that nothing matches. A password that
    /// nobody can use does not age: it would end logins with keys, too.
    pub locked: Option<bool>,
    /// `local`: give the host this account even if a name service (LDAP, SSSD) knows one of this name. Not given:
    /// such an account is left as it is, with a note.
    pub manage: Option<Manage>,
    /// `absent` removes the account and leaves its home folder.
    #[serde(default)]
    pub state: Presence,
}

pub(super) enum UserState {
    /// An unprivileged run, which cannot change users.
    Unmanaged,
    Missing,
    /// In no file of the host, but known to a name service, which trueup cannot change.
    NameService,
    User(Box<ObservedUser>),
}

/// An account as found on the host.
pub(super) struct ObservedUser {
    uid: u32,
    /// Spelt as in the spec where both mean the same (a name and its number).
    group: String,
    groups: Vec<String>,
    home: PathBuf,
    shell: PathBuf,
    comment: String,
    locked: bool,
    /// How its password ages although nobody can use it.
    ageing: Option<String>,
    /// Since when it may not log in at all.
    expired_since: Option<String>,
}

/// A property of an account that `usermod` can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AccountField {
    Uid,
    Group,
    Groups,
    Home,
    Shell,
    Comment,
    Locked,
    Ageing,
}

impl AccountField {
    fn name(self) -> &'static str {
        match self {
            AccountField::Uid => "uid",
            AccountField::Group => "group",
            AccountField::Groups => "groups",
            AccountField::Home => "home",
            AccountField::Shell => "shell",
            AccountField::Comment => "comment",
            AccountField::Locked => "locked",
            AccountField::Ageing => "ageing",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UserAction {
    Create,
    Update(Vec<AccountField>),
    Remove,
}

impl UserSpec {
    /// The supplementary groups, sorted and without duplicates.
    fn supplementary_groups(&self) -> Option<Vec<String>> {
        let mut groups = self.groups.clone()?;
        groups.sort();
        groups.dedup();
        Some(groups)
    }

    fn changed_fields(&self, observed: &ObservedUser) -> Vec<(AccountField, FieldChange)> {
        let text = |path: &Path| path.display().to_string();
        let others = self.supplementary_groups().map(|groups| groups.join(", "));
        let locked = |locked: bool| if locked { "locked" } else { "not locked" }.to_owned();
        [
            (
                AccountField::Uid,
                observed.uid.to_string(),
                self.uid.map(|uid| uid.to_string()),
            ),
            (
                AccountField::Group,
                observed.group.clone(),
                self.group.clone(),
            ),
            (AccountField::Groups, observed.groups.join(", "), others),
            (
                AccountField::Home,
                text(&observed.home),
                self.home.as_deref().map(text),
            ),
            (
                AccountField::Shell,
                text(&observed.shell),
                self.shell.as_deref().map(text),
            ),
            (
                AccountField::Comment,
                observed.comment.clone(),
                self.comment.clone(),
            ),
            (
                AccountField::Locked,
                locked(observed.locked),
                self.locked.map(locked),
            ),
            (
                AccountField::Ageing,
                observed.ageing.clone().unwrap_or_default(),
                observed.ageing.as_ref().map(|_| "off".to_owned()),
            ),
        ]
        .into_iter()
        .filter_map(|(field, from, to)| {
            Some((field, FieldChange::diff(field.name(), &from, &to?)?))
        })
        .collect()
    }

    fn creation_change(&self) -> Change {
        let nobody = ObservedUser {
            uid: 0,
            group: String::new(),
            groups: Vec::new(),
            home: PathBuf::new(),
            shell: PathBuf::new(),
            comment: String::new(),
            locked: true,
            ageing: None,
            expired_since: None,
        };
        let mut change = Change::new(Verb::Create).with_field(
            "name",
            FieldValue::Absent,
            FieldValue::value(&self.name),
        );
        for (_, field) in self.changed_fields(&nobody) {
            change.fields.push(FieldChange {
                from: FieldValue::Absent,
                ..field
            });
        }
        change
    }

    /// Rejects what shadow-utils would reject halfway through or with a worse message.
    fn validate_on_host(&self, host: &Host) -> Result<(), Failure> {
        let (root, accounts) = (&host.root, &host.accounts);
        if let Some(uid) = self.uid {
            let holder = accounts.user_name(root, uid)?;
            if holder != uid.to_string() && holder != self.name {
                return Err(Failure::new(format!(
                    "uid {uid} is already used by user `{holder}`"
                ))
                .hint(
                    "choose another uid, or change that user's uid in a resource before this one",
                ));
            }
        }
        for group in self.group.iter().chain(self.groups.iter().flatten()) {
            if accounts.gid(root, group)?.is_none() {
                return Err(Failure::not_ready(format!(
                    "there is no group `{group}` on this host"
                ))
                .hint("describe it in a `group` resource before this one"));
            }
        }
        Ok(())
    }

    /// The arguments for these fields, the same for `useradd` and `usermod`.
    fn account_args(&self, wants: impl Fn(AccountField) -> bool) -> Vec<String> {
        let text = |path: &PathBuf| path.display().to_string();
        [
            (AccountField::Uid, "-u", self.uid.map(|uid| uid.to_string())),
            (AccountField::Group, "-g", self.group.clone()),
            (
                AccountField::Groups,
                "-G",
                self.supplementary_groups().map(|groups| groups.join(",")),
            ),
            (AccountField::Home, "-d", self.home.as_ref().map(text)),
            (AccountField::Shell, "-s", self.shell.as_ref().map(text)),
            (AccountField::Comment, "-c", self.comment.clone()),
        ]
        .into_iter()
        .filter(|(field, _, _)| wants(*field))
        .filter_map(|(_, flag, value)| Some([flag.to_owned(), value?]))
        .flatten()
        .collect()
    }

    fn create(&self, host: &Host) -> Result<(), Failure> {
        let (root, accounts) = (&host.root, &host.accounts);
        let mut args = vec!["-M".to_owned()];
        if self.manage.is_some() && accounts.user(root, &self.name)?.is_some() {
            args.splice(0..0, shadow_utils::FILES_ONLY.map(str::to_owned));
        }
        if self.group.is_none() {
            let own = match self.manage {
                Some(Manage::Local) => accounts.local_group(root, &self.name)?,
                None => accounts.group(root, &self.name)?,
            };
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
        args.extend(login::NO_AGEING.map(str::to_owned));
        args.extend(self.account_args(|_| true));
        let former = match self.uid {
            Some(_) => None,
            None => uid::former_uid(&self.name, self.home.as_deref(), host)?,
        };
        if let Some(uid) = former {
            args.extend(["-u".to_owned(), uid.to_string()]);
        }
        self.run(host, "useradd", args)
    }

    fn update(&self, fields: &[AccountField], host: &Host) -> Result<(), Failure> {
        // With `--prefix`, usermod looks up the main group in the machine's own groups (seen in 4.13), so
        // trueup sets it itself.
        let group_below = fields.contains(&AccountField::Group) && !host.root.is_real();
        let args = self.account_args(|field| {
            fields.contains(&field) && !(field == AccountField::Group && group_below)
        });
        if !args.is_empty() {
            self.run(host, "usermod", args)?;
        }
        if group_below {
            self.set_primary_group_in_sandbox(host)?;
        }
        let password = || host.accounts.password_state(&host.root, &self.name);
        if fields.contains(&AccountField::Ageing)
            && let Some(password) = password()
        {
            login::end_ageing(&self.name, &password, host)?;
        }
        if fields.contains(&AccountField::Locked) {
            let flag = if self.locked == Some(true) {
                "-L"
            } else {
                "-U"
            };
            self.run(host, "usermod", vec![flag.to_owned()])?;
            // usermod does not unlock an account that has no password behind the lock.
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
        shadow_utils::run(host, program, &args)
    }

    fn set_primary_group_in_sandbox(&self, host: &Host) -> Result<(), Failure> {
        let (root, accounts) = (&host.root, &host.accounts);
        let wanted = self.group.as_deref().unwrap_or(&self.name);
        let Some(gid) = accounts.gid(root, wanted)? else {
            return Ok(());
        };
        let path = Path::new("/etc/passwd");
        let Some((meta, body)) = root.read_with_meta(path, MAX_PASSWD_BYTES)? else {
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
        root.write_atomic(path, (lines.join("\n") + "\n").as_bytes(), &attrs)?;
        accounts.invalidate();
        Ok(())
    }
}

impl Kind for User {
    const NAME: &'static str = "user";
    const ABOUT: &'static str =
        "An account: its uid, groups, home, shell and whether its password is locked.";
    const EXAMPLE: &'static str = "user: {name: deploy, uid: 2001, group: www-data, groups: [adm, ssl-cert], home: /home/deploy, shell: /bin/bash, comment: Deploys, locked: true}";

    type Spec = UserSpec;
    type State = UserState;
    type Action = UserAction;

    fn subject(spec: &UserSpec) -> String {
        spec.name.clone()
    }

    fn resolve(spec: &mut UserSpec, _inputs: &dyn ResolveInputs) -> Result<(), Problem> {
        shadow_utils::validate_name("name", &spec.name)?;
        for (field, path) in [("home", &spec.home), ("shell", &spec.shell)] {
            path.as_ref()
                .map_or(Ok(()), |path| super::path_field::validate_path(field, path))?;
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
            shadow_utils::validate_name("group", group)?;
        }
        for group in spec.groups.iter().flatten() {
            shadow_utils::validate_name("groups", group)?;
        }
        Ok(())
    }

    fn inspect(spec: &UserSpec, host: &Host) -> Result<UserState, Failure> {
        let (root, accounts) = (&host.root, &host.accounts);
        if !shadow_utils::can_manage_accounts(host) {
            return Ok(UserState::Unmanaged);
        }
        let user = accounts.local_user(root, &spec.name)?;
        if user.is_none() && spec.manage.is_none() && accounts.user(root, &spec.name)?.is_some() {
            return Ok(UserState::NameService);
        }
        let is_present = spec.state == Presence::Present;
        if let Some(shell) = spec.shell.as_ref().filter(|_| is_present) {
            login::check_shell(shell, host)?;
        }
        let Some(user) = user else {
            return Ok(UserState::Missing);
        };
        let group = match &spec.group {
            Some(group) if accounts.gid(root, group)? == Some(user.gid) => group.clone(),
            _ => accounts.group_name(root, user.gid)?,
        };
        let password = accounts.password_state(root, &spec.name);
        let password = password.as_ref();
        // `chage` knows no sandbox.
        let ageing = password.filter(|_| root.is_real()).and_then(login::ageing);
        Ok(UserState::User(Box::new(ObservedUser {
            uid: user.uid,
            group,
            groups: accounts.supplementary_groups(root, &spec.name)?,
            home: user.home,
            shell: user.shell,
            comment: user.comment,
            // An account without a shadow entry has no usable password.
            locked: password.is_none_or(|password| password.is_locked),
            ageing,
            expired_since: password.and_then(|password| login::expired_since(password, host)),
        })))
    }

    fn diff(spec: &UserSpec, state: &UserState) -> Option<Diff<UserAction>> {
        match (spec.state, state) {
            (_, UserState::Unmanaged | UserState::NameService)
            | (Presence::Absent, UserState::Missing) => None,
            (Presence::Absent, UserState::User(_)) => {
                let change = Change::new(Verb::Remove);
                let name = FieldValue::value(&spec.name);
                let change = change.with_field("name", name, FieldValue::Absent);
                Some(Diff::new(UserAction::Remove, change))
            }
            (Presence::Present, UserState::Missing) => {
                Some(Diff::new(UserAction::Create, spec.creation_change()))
            }
            (Presence::Present, UserState::User(observed)) => {
                let (fields, changes) = spec.changed_fields(observed).into_iter().unzip();
                Some(Diff::new(
                    UserAction::Update(fields),
                    Change::update(changes)?,
                ))
            }
        }
    }

    fn condition(spec: &UserSpec, state: &UserState) -> Condition {
        match state {
            UserState::NameService => shadow_utils::name_service_note(&spec.name),
            UserState::User(observed) if spec.state == Presence::Present => {
                let since = observed.expired_since.as_ref();
                since.map_or(Condition::None, |since| {
                    Condition::Noted(vec![format!(
                        "the account expired on {since}: nobody can log in with it, not even with a key; `chage -E -1 {}` lets it live on",
                        spec.name
                    )])
                })
            }
            _ => Condition::None,
        }
    }

    fn apply(spec: &UserSpec, action: &UserAction, host: &Host) -> Result<ApplyOutcome, Failure> {
        match action {
            UserAction::Remove => shadow_utils::run(host, "userdel", &[&spec.name])?,
            UserAction::Create => {
                spec.validate_on_host(host)?;
                spec.create(host)?;
            }
            UserAction::Update(fields) => {
                spec.validate_on_host(host)?;
                spec.update(fields, host)?;
            }
        }
        Ok(ApplyOutcome::Done)
    }
}

#[cfg(test)]
mod conformance {
    use super::User;
    use crate::kind::ConformanceProbes;
    use crate::kind::conformance::Probe;
    use crate::ports::testing::Sandbox;

    impl ConformanceProbes for User {
        fn skip_reason(host: &Sandbox) -> Option<&'static str> {
            (!host.can_set_owners()).then_some("needs root")
        }

        fn prepare(host: &Sandbox) {
            // No number here is one of the machine's own, so that a lookup on the machine would show.
            host.write(
                "/etc/group",
                "root:x:0:\nwww-data:x:7033:\nadm:x:7004:\nssl-cert:x:7099:\n",
            );
        }

        fn probes() -> Vec<Probe> {
            const PASSWD: &str = "/etc/passwd";
            vec![
                Probe::removal("name", |host| {
                    host.edit(PASSWD, "deploy:x:2001", "other:x:2002")
                }),
                Probe::drift("uid", |host| host.edit(PASSWD, ":2001:", ":2003:")),
                Probe::drift("group", |host| host.edit(PASSWD, ":7033:", ":7004:")),
                Probe::drift("groups", |host| {
                    host.edit("/etc/group", "ssl-cert:x:7099:deploy", "ssl-cert:x:7099:");
                    host.edit("/etc/group", "root:x:0:", "root:x:0:deploy");
                }),
                Probe::drift("home", |host| host.edit(PASSWD, "/home/deploy", "/srv")),
                Probe::drift("shell", |host| {
                    host.edit(PASSWD, "deploy:/bin/bash", "deploy:/bin/sh")
                }),
                Probe::drift("comment", |host| host.edit(PASSWD, ":Deploys:", "::")),
                Probe::not_set("system", "it only says where a new user's number is from"),
                Probe::drift("locked", |host| {
                    host.edit("/etc/shadow", "deploy:!", "deploy:$6$salt$hash");
                }),
                Probe::not_set("manage", "it says whether the account is trueup's"),
                Probe::removal("state", |host| {
                    host.write(PASSWD, "root:x:0:0::/root:/bin/sh\n")
                }),
            ]
        }
    }
}

#[cfg(test)]
mod tests;
