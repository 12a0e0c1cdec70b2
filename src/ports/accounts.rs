//! The host's users and groups.
//!
//! Reads the host's own files directly, once a pass, and asks no name service for names in them. On a real
//! host it asks the name services (LDAP, sssd) for other names, because such users may own files. In a sandbox
//! only its own files count.
//!
//! A name service may not answer for minutes, and a statically linked program has none. So `getent` asks, in a
//! child with a deadline.

use std::cell::{Cell, Ref, RefCell};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::exec::{Command, Exec, ExecError, ExitReason, Identity};
use super::root::{Root, RootError};

/// Limit for one question to the name services. After the first that exceeds it, a pass asks no more.
const NAME_SERVICE_TIMEOUT: Duration = Duration::from_secs(10);

/// The exit code of `getent` for a name that no service knows.
const NOT_FOUND: i32 = 2;

/// Reason why an account is unknown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountsError {
    #[error(transparent)]
    Root(#[from] RootError),
    #[error(transparent)]
    Exec(#[from] ExecError),
    #[error("the name services of this host (/etc/nsswitch.conf) do not answer: `getent {database} {name}` took longer than {} s", NAME_SERVICE_TIMEOUT.as_secs())]
    TimedOut {
        database: &'static str,
        name: String,
    },
}

/// Largest account file that is read, in bytes.
const MAX_FILE_BYTES: usize = 16 << 20;

/// One line of `/etc/passwd`, with the lock state from `/etc/shadow` if that is readable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub comment: String,
    pub home: PathBuf,
    pub shell: PathBuf,
}

/// One line of `/etc/group`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub name: String,
    pub gid: u32,
    pub members: Vec<String>,
}

/// One line of `/etc/shadow`, without the password. Days count from 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PasswordState {
    pub is_locked: bool,
    is_disabled: bool,
    /// When the password was last changed; 0: it has to be changed at the next login. `None`: it does not age.
    pub last_change: Option<i64>,
    /// After how many days it has to be changed.
    pub max_age: Option<i64>,
    /// The day from which on the account has expired.
    pub expires: Option<i64>,
}

impl PasswordState {
    pub(crate) fn parse(line: &str) -> Option<PasswordState> {
        let parts: Vec<&str> = line.split(':').collect();
        let password = *parts.get(1)?;
        let days = |at: usize| -> Option<i64> {
            let days = parts.get(at)?.parse().ok()?;
            (days >= 0).then_some(days)
        };
        Some(PasswordState {
            is_locked: password.starts_with('!'),
            is_disabled: password.starts_with('*'),
            last_change: days(2),
            max_age: days(4),
            expires: days(7),
        })
    }

    /// Whether nobody can log in with it.
    pub(crate) fn is_unusable(&self) -> bool {
        self.is_locked || self.is_disabled
    }
}

#[derive(Debug, Default)]
struct AccountFiles {
    users: Vec<User>,
    groups: Vec<Group>,
}

/// The accounts of one host, read on first use.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    files: RefCell<Option<AccountFiles>>,
    /// The lines of `getent` by database and name.
    answers: RefCell<HashMap<(&'static str, String), Option<String>>>,
    unanswered: Cell<bool>,
}

impl Accounts {
    /// Drops the cache; required after accounts were changed.
    pub(crate) fn invalidate(&self) {
        self.files.replace(None);
        self.answers.replace(HashMap::new());
    }

    /// The user of the host's own files, else of its name services.
    pub(crate) fn user(&self, root: &Root, name: &str) -> Result<Option<User>, AccountsError> {
        if let Some(user) = self.local_user(root, name)? {
            return Ok(Some(user));
        }
        let line = self.ask_name_services(root, "passwd", name)?;
        Ok(line.and_then(|line| parse_user(&line)))
    }

    pub(crate) fn local_user(&self, root: &Root, name: &str) -> Result<Option<User>, RootError> {
        let files = self.files(root)?;
        let mut users = files.users.iter();
        Ok(users.find(|user| user.name == name).cloned())
    }

    /// The group of the host's own files, else of its name services.
    pub(crate) fn group(&self, root: &Root, name: &str) -> Result<Option<Group>, AccountsError> {
        if let Some(group) = self.local_group(root, name)? {
            return Ok(Some(group));
        }
        let line = self.ask_name_services(root, "group", name)?;
        Ok(line.and_then(|line| parse_group(&line)))
    }

    pub(crate) fn local_group(&self, root: &Root, name: &str) -> Result<Option<Group>, RootError> {
        let files = self.files(root)?;
        let mut groups = files.groups.iter();
        Ok(groups.find(|group| group.name == name).cloned())
    }

    fn ask_name_services(
        &self,
        root: &Root,
        database: &'static str,
        name: &str,
    ) -> Result<Option<String>, AccountsError> {
        // Not a name, but an option.
        if !root.is_real() || name.starts_with('-') {
            return Ok(None);
        }
        let key = (database, name.to_owned());
        if let Some(answer) = self.answers.borrow().get(&key) {
            return Ok(answer.clone());
        }
        let timed_out = || AccountsError::TimedOut {
            database,
            name: name.to_owned(),
        };
        if self.unanswered.get() {
            return Err(timed_out());
        }
        let command = Command::new(["getent", database, name]);
        let answer = match Exec.run(command.timeout(NAME_SERVICE_TIMEOUT)) {
            Err(error) if error.is_program_missing() => None,
            Err(error) => return Err(error.into()),
            Ok(done) => match done.exit_reason {
                ExitReason::Exited(0) => done.output.text().lines().next().map(str::to_owned),
                ExitReason::Exited(NOT_FOUND) => None,
                ExitReason::TimedOut(_) => {
                    self.unanswered.set(true);
                    return Err(timed_out());
                }
                ended => {
                    return Err(AccountsError::Exec(ExecError::Failed {
                        line: format!("getent {database} {name}"),
                        ended,
                        output: done.output.tail(5),
                    }));
                }
            },
        };
        self.answers.borrow_mut().insert(key, answer.clone());
        Ok(answer)
    }

    /// The name of a user id, or the number if it has none.
    pub(crate) fn user_name(&self, root: &Root, uid: u32) -> Result<String, RootError> {
        let files = self.files(root)?;
        let local = files.users.iter().find(|user| user.uid == uid);
        Ok(local.map_or_else(|| uid.to_string(), |user| user.name.clone()))
    }

    /// The name of a group id, or the number if it has none.
    pub(crate) fn group_name(&self, root: &Root, gid: u32) -> Result<String, RootError> {
        let files = self.files(root)?;
        let local = files.groups.iter().find(|group| group.gid == gid);
        Ok(local.map_or_else(|| gid.to_string(), |group| group.name.clone()))
    }

    /// The id of a user name, or of a number in its place.
    pub(crate) fn uid(&self, root: &Root, name: &str) -> Result<Option<u32>, AccountsError> {
        match name.parse() {
            Ok(uid) => Ok(Some(uid)),
            Err(_) => Ok(self.user(root, name)?.map(|user| user.uid)),
        }
    }

    /// The id of a group name, or of a number in its place.
    pub(crate) fn gid(&self, root: &Root, name: &str) -> Result<Option<u32>, AccountsError> {
        match name.parse() {
            Ok(gid) => Ok(Some(gid)),
            Err(_) => Ok(self.group(root, name)?.map(|group| group.gid)),
        }
    }

    /// The supplementary groups of a user, sorted by name.
    pub(crate) fn supplementary_groups(
        &self,
        root: &Root,
        name: &str,
    ) -> Result<Vec<String>, RootError> {
        let files = self.files(root)?;
        let mut names: Vec<String> = files
            .groups
            .iter()
            .filter(|group| group.members.iter().any(|member| member == name))
            .map(|group| group.name.clone())
            .collect();
        names.sort();
        Ok(names)
    }

    /// The identity for running a child as this user.
    pub(crate) fn identity(
        &self,
        root: &Root,
        name: &str,
    ) -> Result<Option<Identity>, AccountsError> {
        let Some(user) = self.user(root, name)? else {
            return Ok(None);
        };
        let mut groups = vec![user.gid];
        if self.local_user(root, name)?.is_none() {
            // The name, and the numbers of its groups.
            let line = self.ask_name_services(root, "initgroups", name)?;
            let line = line.unwrap_or_default();
            groups.extend(
                line.split_whitespace()
                    .skip(1)
                    .filter_map(|gid| gid.parse::<u32>().ok()),
            );
        }
        let files = self.files(root)?;
        groups.extend(
            files
                .groups
                .iter()
                .filter(|group| group.members.contains(&user.name))
                .map(|group| group.gid),
        );
        Ok(Some(Identity {
            uid: user.uid,
            gid: user.gid,
            groups,
            home: user.home,
            shell: user.shell,
            name: user.name,
        }))
    }

    /// Whether the password is locked (`!` before it, as `usermod -L` does); `None` if that is unreadable or
    /// there is no entry.
    pub(crate) fn is_locked(&self, root: &Root, name: &str) -> Option<bool> {
        Some(self.password_state(root, name)?.is_locked)
    }

    /// The state of the password; `None` if it is unreadable or there is no entry.
    pub(crate) fn password_state(&self, root: &Root, name: &str) -> Option<PasswordState> {
        let shadow = root.read(Path::new("/etc/shadow"), MAX_FILE_BYTES).ok()??;
        let shadow = String::from_utf8_lossy(&shadow);
        let line = shadow
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        PasswordState::parse(line)
    }

    fn files(&self, root: &Root) -> Result<Ref<'_, AccountFiles>, RootError> {
        if self.files.borrow().is_none() {
            let text = |path: &str| -> Result<String, RootError> {
                let body = root
                    .read(Path::new(path), MAX_FILE_BYTES)?
                    .unwrap_or_default();
                Ok(String::from_utf8_lossy(&body).into_owned())
            };
            let files = AccountFiles {
                users: text("/etc/passwd")?
                    .lines()
                    .filter_map(parse_user)
                    .collect(),
                groups: text("/etc/group")?
                    .lines()
                    .filter_map(parse_group)
                    .collect(),
            };
            self.files.replace(Some(files));
        }
        Ok(Ref::map(self.files.borrow(), |files| {
            files.as_ref().expect("filled just above")
        }))
    }
}

fn parse_user(line: &str) -> Option<User> {
    let mut part = line.split(':');
    let name = part.next()?.to_owned();
    let _password = part.next()?;
    Some(User {
        name,
        uid: part.next()?.parse().ok()?,
        gid: part.next()?.parse().ok()?,
        comment: part.next()?.to_owned(),
        home: part.next()?.into(),
        shell: part.next()?.into(),
    })
}

fn parse_group(line: &str) -> Option<Group> {
    let mut part = line.split(':');
    let name = part.next()?.to_owned();
    let _password = part.next()?;
    Some(Group {
        name,
        gid: part.next()?.parse().ok()?,
        members: part
            .next()?
            .split(',')
            .filter(|member| !member.is_empty())
            .map(str::to_owned)
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::root::Attrs;

    #[test]
    fn accounts_are_read_from_the_sandbox_only() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path()).unwrap();
        root.create_dir_all(Path::new("/etc"), &Attrs::default())
            .unwrap();
        let put = |path: &str, body: &str| {
            root.write_atomic(Path::new(path), body.as_bytes(), &Attrs::default())
                .unwrap();
        };
        put(
            "/etc/passwd",
            "deploy:x:7001:7001:Deploys,,,:/home/deploy:/bin/bash\nbroken\n",
        );
        put("/etc/group", "deploy:x:7001:\nwww:x:33:deploy,other\n");
        put("/etc/shadow", "deploy:!:1:0:99999:7:::\n");
        let accounts = Accounts::default();
        let identity = accounts.identity(&root, "deploy").unwrap().unwrap();
        assert_eq!((identity.uid, identity.groups), (7001, vec![7001, 33]));
        assert_eq!(
            accounts.supplementary_groups(&root, "deploy").unwrap(),
            ["www"]
        );
        assert_eq!(
            accounts.uid(&root, "root").unwrap(),
            None,
            "the machine's own root leaked in"
        );
        assert_eq!(accounts.uid(&root, "42").unwrap(), Some(42));
        assert_eq!(accounts.user_name(&root, 9).unwrap(), "9");
        assert_eq!(accounts.is_locked(&root, "deploy"), Some(true));
    }
}
