//! Property tests: for any spec and any initial state, applying the change leaves nothing that differs.
//!
//! A change that is refused on purpose (a folder in place of a file, a uid that another user has) must leave
//! the host as it was.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::Config;
use serde_json::{Map, Value, json};

use crate::kind::AnyResource;
use crate::kind::conformance::parse_resource;
use crate::ports::testing::{Sandbox, skip_test};
use crate::resource::{ApplyOutcome, Change};

fn config(cases: u32) -> Config {
    Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    }
}

/// Builds a resource from JSON, which is YAML; null fields are left out.
fn resource_from_json(kind: &str, fields: Value) -> Box<dyn AnyResource> {
    let given: Map<String, Value> = fields
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(field, value)| (field.clone(), value.clone()))
        .collect();
    parse_resource(&json!({ kind: given }).to_string())
        .unwrap_or_else(|problem| panic!("{problem}"))
}

fn pending_change(resource: &dyn AnyResource, sandbox: &Sandbox) -> Option<Change> {
    sandbox.invalidate_caches();
    resource.inspect(&sandbox.host).unwrap().change().cloned()
}

/// `refusable` tells whether this change may be refused.
fn assert_converges(
    resource: &dyn AnyResource,
    sandbox: &Sandbox,
    refusable: impl Fn(&Change) -> bool,
) {
    sandbox.invalidate_caches();
    let observed = resource.inspect(&sandbox.host).unwrap();
    let Some(change) = observed.change() else {
        return;
    };
    match observed.apply(&sandbox.host) {
        Ok(outcome) => {
            assert_eq!(outcome, ApplyOutcome::Done);
            assert_eq!(
                pending_change(resource, sandbox),
                None,
                "left of {change:?}"
            );
        }
        Err(failure) => {
            assert!(refusable(change), "{failure}\nof {change:?}");
            let after = pending_change(resource, sandbox);
            assert_eq!(after.as_ref(), Some(change), "refused, and yet changed");
        }
    }
}

/// The initial content of a path.
#[derive(Debug, Clone)]
enum InitialPath {
    Nothing,
    File(String),
    Link(String),
    Folder { not_empty: bool },
}

fn initial_path() -> impl Strategy<Value = (InitialPath, u32, (u32, u32))> {
    let initial_path = prop_oneof![
        Just(InitialPath::Nothing),
        content().prop_map(InitialPath::File),
        target().prop_map(InitialPath::Link),
        any::<bool>().prop_map(|full| InitialPath::Folder { not_empty: full }),
    ];
    (initial_path, 0..=0o7777u32, (ids(), ids()))
}

fn content() -> impl Strategy<Value = String> {
    "[ -~\t\n]{0,40}"
}

fn target() -> impl Strategy<Value = String> {
    "[a-z./]{1,12}"
}

fn ids() -> impl Strategy<Value = u32> {
    select(vec![0, 65534, 4711])
}

fn state() -> impl Strategy<Value = &'static str> {
    select(vec!["present", "present", "present", "absent"])
}

fn owner() -> impl Strategy<Value = Option<&'static str>> {
    proptest::option::of(select(vec!["root", "0", "4711", "65534"]))
}

fn mode() -> impl Strategy<Value = Option<String>> {
    proptest::option::of((0..=0o7777u32).prop_map(|mode| format!("{mode:04o}")))
}

const PATH: &str = "/srv/thing";

fn sandbox_with((initial_path, mode, (uid, gid)): &(InitialPath, u32, (u32, u32))) -> Sandbox {
    let sandbox = Sandbox::with_base_system();
    match initial_path {
        InitialPath::Nothing => return sandbox,
        InitialPath::File(body) => sandbox.write(PATH, body),
        InitialPath::Link(to) => sandbox.link(PATH, to),
        InitialPath::Folder { not_empty: full } => {
            sandbox.make_dir(PATH);
            if *full {
                sandbox.write(&format!("{PATH}/kept"), "kept");
            }
        }
    }
    if sandbox.can_set_owners() {
        sandbox.chown(PATH, *uid, *gid);
        sandbox.chmod(PATH, *mode);
    } else {
        // A user other than root could lock himself out, and cannot set every bit.
        sandbox.chmod(PATH, mode & 0o777 | 0o700);
    }
    sandbox
}

/// Modes that an unprivileged user can set and still read.
fn settable_mode(mode: Option<String>, sandbox: &Sandbox) -> Option<String> {
    let mode = u32::from_str_radix(&mode?, 8).unwrap();
    Some(if sandbox.can_set_owners() {
        format!("{mode:04o}")
    } else {
        format!("{:04o}", mode & 0o777 | 0o700)
    })
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn file_converges_from_any_initial_state(
        before in initial_path(), content in content(), state in state(),
        owner_of in owner(), group in owner(), mode in mode(),
    ) {
        let sandbox = sandbox_with(&before);
        let mode = settable_mode(mode, &sandbox);
        let file = resource_from_json("file", json!({
            "path": PATH, "content": content, "state": state,
            "owner": owner_of, "group": group, "mode": mode,
        }));
        assert_converges(&*file, &sandbox, |change| change.touches("state"));
    }

    #[test]
    fn directory_converges_from_any_initial_state(
        before in initial_path(), state in state(), parents in any::<bool>(),
        owner_of in owner(), group in owner(), mode in mode(),
    ) {
        let sandbox = sandbox_with(&before);
        let mode = settable_mode(mode, &sandbox);
        let folder = resource_from_json("directory", json!({
            "path": PATH, "parents": parents, "state": state,
            "owner": owner_of, "group": group, "mode": mode,
        }));
        assert_converges(&*folder, &sandbox, |change| change.touches("state"));
    }

    #[test]
    fn symlink_converges_from_any_initial_state(
        before in initial_path(), to in target(), state in state(),
        owner_of in owner(), group in owner(),
    ) {
        let sandbox = sandbox_with(&before);
        let link = resource_from_json("symlink", json!({
            "path": PATH, "to": to, "state": state, "owner": owner_of, "group": group,
        }));
        assert_converges(&*link, &sandbox, |change| change.touches("state"));
    }
}

/// Writes the groups of a host: `deploy` with the gid `own`, if given, and a few others.
fn write_groups(sandbox: &Sandbox, own: Option<u32>, memberships: &[&str]) {
    let mut text = "root:x:0:\n".to_owned();
    for (name, gid) in [("www", 7033), ("adm", 7004), ("ssl", 7099)] {
        let member = if memberships.contains(&name) {
            "other,deploy"
        } else {
            "other"
        };
        text.push_str(&format!("{name}:x:{gid}:{member}\n"));
    }
    if let Some(gid) = own {
        text.push_str(&format!("deploy:x:{gid}:\n"));
    }
    sandbox.write("/etc/group", text);
}

fn optional<T: Clone + std::fmt::Debug + 'static>(
    values: &[T],
) -> impl Strategy<Value = Option<T>> + use<T> {
    proptest::option::of(select(values.to_vec()))
}

proptest! {
    #![proptest_config(config(32))]

    #[test]
    fn group_converges_from_any_initial_state(
        found in optional(&[2001u32, 2002, 7033]), gid in optional(&[2001u32, 2003, 7004]),
        state in state(), system in any::<bool>(),
    ) {
        let sandbox = Sandbox::with_base_system();
        if !sandbox.can_set_owners() {
            skip_test("the property of group", "needs root");
            return Ok(());
        }
        write_groups(&sandbox, found, &[]);
        let group = resource_from_json("group", json!({
            "name": "deploy", "gid": gid, "state": state, "system": system,
        }));
        assert_converges(&*group, &sandbox, |change| gid == Some(7004) && change.touches("gid"));
    }

    #[test]
    fn user_converges_from_any_initial_state(
        found in proptest::option::of((
            select(vec![2001u32, 2002]), select(vec![7033u32, 7004, 2009, 33]),
            select(vec!["", "Deploys, all"]), select(vec!["/home/deploy", "/srv", ""]),
            select(vec!["/bin/sh", "/bin/bash", ""]),
            select(vec!["!", "*", "!*", "", "$6$salt$hash", "!$6$salt$hash", "no entry"]),
        )),
        memberships in subsequence(vec!["www", "adm", "ssl"], 0..=3),
        own in optional(&[2009u32]),
        numbers in (optional(&[2001u32, 2003, 2042]), any::<bool>()),
        group in optional(&["www", "7004", "adm", "2009"]),
        groups in proptest::option::of(subsequence(vec!["ssl", "www", "adm"], 0..=3)),
        rest in (
            optional(&["/home/deploy", "/srv/deploy"]), optional(&["/bin/sh", "/bin/bash"]),
            optional(&["", "Deploys, all", "ünï"]), optional(&[true, false]),
        ),
        state in state(),
    ) {
        let sandbox = Sandbox::with_base_system();
        if !sandbox.can_set_owners() {
            skip_test("the property of user", "needs root");
            return Ok(());
        }
        // A main group given by its gid must exist.
        let own = own.or((group == Some("2009")).then_some(2009));
        let exists = found.is_some();
        let mut passwd = "root:x:0:0::/root:/bin/sh\nother:x:2042:7033::/:/bin/sh\n".to_owned();
        let mut shadow = "root:*:20000::::::\nother:!:20000::::::\n".to_owned();
        if let Some((uid, gid, comment, home, shell, password)) = found {
            passwd.push_str(&format!("deploy:x:{uid}:{gid}:{comment}:{home}:{shell}\n"));
            if password != "no entry" {
                shadow.push_str(&format!("deploy:{password}:20000::::::\n"));
            }
        }
        sandbox.write("/etc/passwd", passwd);
        sandbox.write("/etc/shadow", shadow);
        write_groups(&sandbox, own, if exists { &memberships } else { &[] });
        let (uid, system) = numbers;
        let (home, shell, comment, locked) = rest;
        let user = resource_from_json("user", json!({
            "name": "deploy", "uid": uid, "system": system, "group": group, "groups": groups,
            "home": home, "shell": shell, "comment": comment, "locked": locked, "state": state,
        }));
        assert_converges(&*user, &sandbox, |change| uid == Some(2042) && change.touches("uid"));
    }
}
