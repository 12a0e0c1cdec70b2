//! The environment of git: its user's own, without what would lead it to another repository, and with settings that take
//! precedence over every file.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// What git may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocols {
    /// Nothing: it only reads what is on this machine, also where objects are missing there.
    None,
    /// ssh, https and http.
    Remote,
}

/// Variables that name a repository or parts of one, as in `git rev-parse --local-env-vars`: a hook or a CI job may have set
/// them for its own. And `GIT_ALLOW_PROTOCOL`, which would take the place of our rule.
const REMOVED: &[&str] = &[
    "GIT_ALLOW_PROTOCOL",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_ATTR_SOURCE",
    "GIT_CEILING_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_DIR",
    "GIT_EXTERNAL_DIFF",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_REDIRECT_STDERR",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_TEMPLATE_DIR",
    "GIT_WORK_TREE",
];

/// Settings of every call.
const SETTINGS: &[(&str, &str)] = &[
    // Programs that a repository's own configuration could name.
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("log.showSignature", "false"),
    ("submodule.recurse", "false"),
    ("fetch.recurseSubmodules", "false"),
    // Nothing goes on in the background after trueup has ended.
    ("gc.autoDetach", "false"),
    ("maintenance.autoDetach", "false"),
    // A server that sends less than a byte in half a minute sends no more.
    ("http.lowSpeedLimit", "1"),
    ("http.lowSpeedTime", "30"),
    // No protocol but those below, unless the user allows it by name.
    ("protocol.allow", "never"),
    ("protocol.ext.allow", "never"),
];

const REMOTE_PROTOCOLS: &[&str] = &["ssh", "https", "http"];

/// The variables for a child.
pub(super) fn child_environment(
    users: &BTreeMap<OsString, OsString>,
    protocols: Protocols,
) -> BTreeMap<OsString, OsString> {
    let is_kept = |name: &OsStr| !REMOVED.iter().any(|removed| name == OsStr::new(removed));
    let users = users.iter().filter(|(name, _)| is_kept(name));
    let mut all: BTreeMap<OsString, OsString> = users
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    for (name, value) in [
        // A child has no terminal, so a question would fail later, and less clearly.
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_OPTIONAL_LOCKS", "0"),
        // What hosts will fetch, not what somebody replaced it by here.
        ("GIT_NO_REPLACE_OBJECTS", "1"),
        ("GIT_DEFAULT_HASH", "sha1"),
        ("GIT_DEFAULT_REF_FORMAT", "files"),
        ("LC_ALL", "C.UTF-8"),
        ("LANGUAGE", ""),
    ] {
        all.insert(name.into(), value.into());
    }
    if protocols == Protocols::None {
        // Older versions of git fail at the protocol.
        all.insert("GIT_NO_LAZY_FETCH".into(), "1".into());
    }
    for (key, value) in SETTINGS {
        add_setting(&mut all, key, value);
    }
    if protocols == Protocols::Remote {
        for protocol in REMOTE_PROTOCOLS {
            add_setting(&mut all, &format!("protocol.{protocol}.allow"), "always");
        }
    }
    all
}

/// Adds a setting behind those that the user gave in the same way.
pub(super) fn add_setting(environment: &mut BTreeMap<OsString, OsString>, key: &str, value: &str) {
    const COUNT: &str = "GIT_CONFIG_COUNT";
    let count = environment.get(OsStr::new(COUNT));
    let count: u32 = count
        .and_then(|count| count.to_str()?.parse().ok())
        .unwrap_or(0);
    environment.insert(format!("GIT_CONFIG_KEY_{count}").into(), key.into());
    environment.insert(format!("GIT_CONFIG_VALUE_{count}").into(), value.into());
    environment.insert(COUNT.into(), count.saturating_add(1).to_string().into());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(users: &[(&str, &str)], protocols: Protocols) -> BTreeMap<OsString, OsString> {
        let users = users.iter().map(|(k, v)| ((*k).into(), (*v).into()));
        child_environment(&users.collect(), protocols)
    }

    #[test]
    fn variables_of_another_repository_do_not_reach_git() {
        let users = [
            ("HOME", "/home/ana"),
            ("SSH_AUTH_SOCK", "/run/agent"),
            ("GIT_SSH_COMMAND", "ssh -i key"),
            ("GIT_DIR", "/elsewhere"),
            ("GIT_ALLOW_PROTOCOL", "ext"),
        ];
        let made = environment(&users, Protocols::None);
        let value = |name: &str| made.get(OsStr::new(name)).and_then(|value| value.to_str());
        assert_eq!(value("HOME"), Some("/home/ana"));
        assert_eq!(value("SSH_AUTH_SOCK"), Some("/run/agent"));
        assert_eq!(value("GIT_SSH_COMMAND"), Some("ssh -i key"));
        assert_eq!(value("GIT_DIR"), None);
        assert_eq!(value("GIT_ALLOW_PROTOCOL"), None);
        assert_eq!(value("GIT_TERMINAL_PROMPT"), Some("0"));
    }

    #[test]
    fn settings_follow_those_of_the_user() {
        let users = [
            ("GIT_CONFIG_COUNT", "1"),
            ("GIT_CONFIG_KEY_0", "core.fsmonitor"),
            ("GIT_CONFIG_VALUE_0", "/bin/evil"),
        ];
        let made = environment(&users, Protocols::Remote);
        let value = |name: &str| made[OsStr::new(name)].to_str().unwrap();
        let count: usize = value("GIT_CONFIG_COUNT").parse().unwrap();
        assert_eq!(count, 1 + SETTINGS.len() + REMOTE_PROTOCOLS.len());
        let last = (0..count)
            .rev()
            .find(|n| value(&format!("GIT_CONFIG_KEY_{n}")) == "core.fsmonitor")
            .unwrap();
        assert_eq!(value(&format!("GIT_CONFIG_VALUE_{last}")), "false");
        // A count that git would refuse names nothing.
        let made = environment(&[("GIT_CONFIG_COUNT", "many")], Protocols::None);
        assert_eq!(made[OsStr::new("GIT_CONFIG_KEY_0")], "core.hooksPath");
    }
}
