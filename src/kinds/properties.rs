//! Whatever is wanted and whatever is found: applying what differs leaves nothing that differs.
//!
//! Where a change is refused on purpose (a folder in a file's place, a number that somebody else
//! has), the host must be left as it was.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::Config;
use serde_json::{Map, Value, json};

use crate::ports::testing::{Sandbox, skipped};
use crate::resource::conformance::resource;
use crate::resource::{AnyResource, Change, Outcome};

fn cases(cases: u32) -> Config {
    Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    }
}

/// A resource as JSON, which is YAML; what is null is not given.
fn wanted(kind: &str, fields: Value) -> Box<dyn AnyResource> {
    let given: Map<String, Value> = fields
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(field, value)| (field.clone(), value.clone()))
        .collect();
    resource(&json!({ kind: given }).to_string()).unwrap_or_else(|problem| panic!("{problem}"))
}

fn look(resource: &dyn AnyResource, sandbox: &Sandbox) -> Option<Change> {
    sandbox.forget();
    resource.look(&sandbox.host, false).unwrap().change
}

/// `refusable`: whether this change may be refused.
fn holds(resource: &dyn AnyResource, sandbox: &Sandbox, refusable: impl Fn(&Change) -> bool) {
    let Some(change) = look(resource, sandbox) else {
        return;
    };
    match resource.apply(&change, &sandbox.host) {
        Ok(outcome) => {
            assert_eq!(outcome, Outcome::Done);
            assert_eq!(look(resource, sandbox), None, "left of {change:?}");
        }
        Err(failure) => {
            assert!(refusable(&change), "{failure}\nof {change:?}");
            let after = look(resource, sandbox);
            assert_eq!(after, Some(change), "refused, and yet changed");
        }
    }
}

/// What stands at a path before.
#[derive(Debug, Clone)]
enum Before {
    Nothing,
    File(String),
    Link(String),
    Folder { full: bool },
}

fn before() -> impl Strategy<Value = (Before, u32, (u32, u32))> {
    let what = prop_oneof![
        Just(Before::Nothing),
        content().prop_map(Before::File),
        target().prop_map(Before::Link),
        any::<bool>().prop_map(|full| Before::Folder { full }),
    ];
    (what, 0..=0o7777u32, (ids(), ids()))
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

fn place((what, mode, (uid, gid)): &(Before, u32, (u32, u32))) -> Sandbox {
    let sandbox = Sandbox::with_basics();
    match what {
        Before::Nothing => return sandbox,
        Before::File(body) => sandbox.write(PATH, body),
        Before::Link(to) => sandbox.link(PATH, to),
        Before::Folder { full } => {
            sandbox.make_dir(PATH);
            if *full {
                sandbox.write(&format!("{PATH}/kept"), "kept");
            }
        }
    }
    if sandbox.is_privileged() {
        sandbox.chown(PATH, *uid, *gid);
        sandbox.chmod(PATH, *mode);
    } else {
        // Whoever is not root could shut himself out, and cannot set every bit.
        sandbox.chmod(PATH, mode & 0o777 | 0o700);
    }
    sandbox
}

/// Modes that an ordinary user can set on his own and still read.
fn settable(mode: Option<String>, sandbox: &Sandbox) -> Option<String> {
    let mode = u32::from_str_radix(&mode?, 8).unwrap();
    Some(if sandbox.is_privileged() {
        format!("{mode:04o}")
    } else {
        format!("{:04o}", mode & 0o777 | 0o700)
    })
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn file_converges_from_any_initial_state(
        before in before(), content in content(), state in state(),
        owner_of in owner(), group in owner(), mode in mode(),
    ) {
        let sandbox = place(&before);
        let mode = settable(mode, &sandbox);
        let file = wanted("file", json!({
            "path": PATH, "content": content, "state": state,
            "owner": owner_of, "group": group, "mode": mode,
        }));
        holds(&*file, &sandbox, |change| change.touches("state"));
    }

    #[test]
    fn directory_converges_from_any_initial_state(
        before in before(), state in state(), parents in any::<bool>(),
        owner_of in owner(), group in owner(), mode in mode(),
    ) {
        let sandbox = place(&before);
        let mode = settable(mode, &sandbox);
        let folder = wanted("directory", json!({
            "path": PATH, "parents": parents, "state": state,
            "owner": owner_of, "group": group, "mode": mode,
        }));
        holds(&*folder, &sandbox, |change| change.touches("state"));
    }

    #[test]
    fn symlink_converges_from_any_initial_state(
        before in before(), to in target(), state in state(),
        owner_of in owner(), group in owner(),
    ) {
        let sandbox = place(&before);
        let link = wanted("symlink", json!({
            "path": PATH, "to": to, "state": state, "owner": owner_of, "group": group,
        }));
        holds(&*link, &sandbox, |change| change.touches("state"));
    }
}

/// The groups of a host: `deploy`, if it is there, and a few others.
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

fn some<T: Clone + std::fmt::Debug + 'static>(
    values: &[T],
) -> impl Strategy<Value = Option<T>> + use<T> {
    proptest::option::of(select(values.to_vec()))
}

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn group_converges_from_any_initial_state(
        found in some(&[2001u32, 2002, 7033]), gid in some(&[2001u32, 2003, 7004]),
        state in state(), system in any::<bool>(),
    ) {
        let sandbox = Sandbox::with_basics();
        if !sandbox.is_privileged() {
            skipped("the property of group", "needs root");
            return Ok(());
        }
        write_groups(&sandbox, found, &[]);
        let group = wanted("group", json!({
            "name": "deploy", "gid": gid, "state": state, "system": system,
        }));
        holds(&*group, &sandbox, |change| gid == Some(7004) && change.touches("gid"));
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
        own in some(&[2009u32]),
        numbers in (some(&[2001u32, 2003, 2042]), any::<bool>()),
        group in some(&["www", "7004", "adm", "2009"]),
        groups in proptest::option::of(subsequence(vec!["ssl", "www", "adm"], 0..=3)),
        rest in (
            some(&["/home/deploy", "/srv/deploy"]), some(&["/bin/sh", "/bin/bash"]),
            some(&["", "Deploys, all", "ünï"]), some(&[true, false]),
        ),
        state in state(),
    ) {
        let sandbox = Sandbox::with_basics();
        if !sandbox.is_privileged() {
            skipped("the property of user", "needs root");
            return Ok(());
        }
        // A main group that is said by its number must be there.
        let own = own.or((group == Some("2009")).then_some(2009));
        let there = found.is_some();
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
        write_groups(&sandbox, own, if there { &memberships } else { &[] });
        let (uid, system) = numbers;
        let (home, shell, comment, locked) = rest;
        let user = wanted("user", json!({
            "name": "deploy", "uid": uid, "system": system, "group": group, "groups": groups,
            "home": home, "shell": shell, "comment": comment, "locked": locked, "state": state,
        }));
        holds(&*user, &sandbox, |change| uid == Some(2042) && change.touches("uid"));
    }
}
