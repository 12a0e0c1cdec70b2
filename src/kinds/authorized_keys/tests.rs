use super::key::tests::{ANA, BEN, EVE};
use crate::kind::AnyResource;
use crate::kind::conformance::parse_resource;
use crate::ports::testing::{Sandbox, skip_test};
use crate::resource::{Change, Failure, FailureKind, FieldValue, Verb};

const FILE: &str = "/home/deploy/.ssh/authorized_keys";

pub(super) fn add_deploy(sandbox: &Sandbox) {
    let account = "root:x:0:0::/root:/bin/sh\ndeploy:x:2001:2001::/home/deploy:/bin/bash\n";
    sandbox.write("/etc/passwd", account);
    sandbox.write("/etc/group", "root:x:0:\ndeploy:x:2001:\n");
    sandbox.make_dir("/home/deploy");
    if sandbox.can_set_owners() {
        sandbox.chown("/home/deploy", 2001, 2001);
    }
}

fn deploy(keys: &[&str], more: &str) -> Box<dyn AnyResource> {
    let keys = serde_json::to_string(keys).unwrap();
    parse_resource(&format!(
        "authorized_keys: {{user: deploy, keys: {keys}{more}}}"
    ))
    .unwrap()
}

fn sandbox(text: Option<&str>) -> Sandbox {
    let sandbox = Sandbox::with_base_system();
    add_deploy(&sandbox);
    if let Some(text) = text {
        sandbox.write(FILE, text);
        if sandbox.can_set_owners() {
            sandbox.chown("/home/deploy/.ssh", 2001, 2001);
            sandbox.chown(FILE, 2001, 2001);
        }
        sandbox.chmod("/home/deploy/.ssh", 0o700);
        sandbox.chmod(FILE, 0o600);
    }
    sandbox
}

/// Applies the change and returns it; afterwards nothing may differ.
fn converge(keys: &dyn AnyResource, sandbox: &Sandbox) -> Result<Option<Change>, Failure> {
    let observed = keys.inspect(&sandbox.host)?;
    observed.apply(&sandbox.host)?;
    assert_eq!(keys.inspect(&sandbox.host)?.change(), None);
    Ok(observed.change().cloned())
}

#[test]
fn key_file_and_folder_belong_to_the_user_with_private_modes() {
    let sandbox = sandbox(None);
    let change = converge(&*deploy(&[ANA], ""), &sandbox).unwrap().unwrap();
    assert_eq!(change.verb, Verb::Create);
    assert_eq!(sandbox.read(FILE), format!("{ANA}\n"));
    let modes = [(FILE, 0o600, 0o644), ("/home/deploy/.ssh", 0o700, 0o777)];
    for (path, right, wrong) in modes {
        assert_eq!(sandbox.mode(path), right);
        sandbox.chmod(path, wrong);
        converge(&*deploy(&[ANA], ""), &sandbox).unwrap().unwrap();
        assert_eq!(sandbox.mode(path), right);
        if sandbox.can_set_owners() {
            assert_eq!(sandbox.owner(path), (2001, 2001));
            sandbox.chown(path, 0, 2001);
            converge(&*deploy(&[ANA], ""), &sandbox).unwrap().unwrap();
            assert_eq!(sandbox.owner(path), (2001, 2001));
        }
    }
}

#[test]
fn last_key_is_removed_only_by_state_absent() {
    let nothing = deploy(&[], "");
    let with_one = sandbox(Some(&format!("# ana's\n{ANA}\n")));
    let failure = converge(&*nothing, &with_one).unwrap_err();
    assert!(failure.message.contains("last key") && failure.hint.is_some());
    assert!(with_one.read(FILE).contains(ANA));
    let absent = deploy(&[], ", state: absent");
    let change = converge(&*absent, &with_one).unwrap().unwrap();
    assert_eq!(change.verb, Verb::Remove);
    assert!(!with_one.exists(FILE));
    // Without a usable key before, the change locks nobody out.
    let with_none = sandbox(Some("no key at all\n"));
    converge(&*nothing, &with_none).unwrap().unwrap();
    assert_eq!(with_none.read(FILE), "");
}

#[test]
fn replaced_keys_are_shown_as_summaries() {
    let sandbox = sandbox(Some(&format!("{EVE}\n")));
    let change = converge(&*deploy(&[ANA, BEN], ""), &sandbox)
        .unwrap()
        .unwrap();
    let shown: Vec<(Option<&str>, Option<&str>)> = change
        .fields
        .iter()
        .map(|field| {
            let end = |side: &'_ FieldValue| match side {
                FieldValue::Value(text) => Some(if text.ends_with("eve") {
                    "eve"
                } else if text.ends_with("ana@laptop") {
                    "ana"
                } else {
                    "ben"
                }),
                _ => None,
            };
            (end(&field.from), end(&field.to))
        })
        .collect();
    assert_eq!(
        shown,
        [
            (Some("eve"), None),
            (None, Some("ana")),
            (None, Some("ben"))
        ]
    );
    assert!(!format!("{change:?}").contains("AAAAC3NzaC1lZDI1NTE5"));
}

#[test]
fn order_comments_and_blank_lines_do_not_count_as_drift() {
    let text = format!("# the team\n\n{BEN}\r\n  {ANA}  \n");
    let sandbox = sandbox(Some(&text));
    assert_eq!(converge(&*deploy(&[ANA, BEN], ""), &sandbox).unwrap(), None);
    assert_eq!(sandbox.read(FILE), text);
}

#[test]
fn non_exclusive_keys_leave_other_lines_in_place() {
    let sandbox = sandbox(Some(&format!(
        "# by hand\n{EVE}\nfrom=\"10.0.0.1\" {ANA}\ngarbage"
    )));
    let keys = deploy(&[ANA, BEN], ", exclusive: false");
    converge(&*keys, &sandbox).unwrap().unwrap();
    let after = format!("# by hand\n{EVE}\n{ANA}\ngarbage\n{BEN}\n");
    assert_eq!(sandbox.read(FILE), after);
    let absent = deploy(&[ANA, BEN], ", exclusive: false, state: absent");
    converge(&*absent, &sandbox).unwrap().unwrap();
    assert_eq!(sandbox.read(FILE), format!("# by hand\n{EVE}\ngarbage\n"));
}

#[test]
fn duplicate_key_is_removed_in_one_change() {
    let sandbox = sandbox(Some(&format!("{ANA}\n{ANA}\n")));
    converge(&*deploy(&[ANA], ""), &sandbox).unwrap().unwrap();
    assert_eq!(sandbox.read(FILE), format!("{ANA}\n"));
}

#[test]
fn missing_user_or_home_is_not_ready() {
    let sandbox = sandbox(None);
    sandbox.remove("/home/deploy");
    let failure = converge(&*deploy(&[ANA], ""), &sandbox).unwrap_err();
    assert!(failure.is(FailureKind::NotReady) && failure.message.contains("/home/deploy"));
    sandbox.write("/etc/passwd", "");
    let keys = deploy(&[ANA], "");
    let inspected = keys.inspect(&sandbox.host);
    if sandbox.can_set_owners() {
        assert!(inspected.map(drop).unwrap_err().is(FailureKind::NotReady));
    } else {
        // This run cannot create the account, so it leaves the account and its keys alone.
        assert_eq!(inspected.unwrap().change(), None);
    }
}

#[test]
fn symlink_planted_by_the_user_is_not_followed() {
    let sandbox = sandbox(None);
    if !sandbox.can_set_owners() {
        return skip_test("a planted link", "needs root");
    }
    sandbox.make_dir("/root");
    sandbox.write("/root/secret", "kept");
    sandbox.link("/home/deploy/.ssh", "/root");
    sandbox.chown("/home/deploy/.ssh", 2001, 2001);
    let failure = converge(&*deploy(&[ANA], ""), &sandbox).unwrap_err();
    assert!(failure.message.contains("symbolic link"), "{failure}");
    assert!(!sandbox.exists("/root/authorized_keys"));
    // A link in place of the file is replaced, not written through.
    sandbox.remove("/home/deploy/.ssh");
    sandbox.make_dir("/home/deploy/.ssh");
    sandbox.link(FILE, "/root/secret");
    converge(&*deploy(&[ANA], ""), &sandbox).unwrap().unwrap();
    assert_eq!(sandbox.read("/root/secret"), "kept");
    assert_eq!(sandbox.read(FILE), format!("{ANA}\n"));
}

#[test]
fn symlink_with_keys_to_keep_fails_and_is_left_alone() {
    let sandbox = sandbox(Some(""));
    sandbox.write("/home/deploy/elsewhere", EVE);
    sandbox.link(FILE, "../elsewhere");
    for keys in [deploy(&[ANA], ", exclusive: false"), deploy(&[], "")] {
        let failure = keys.inspect(&sandbox.host).map(drop).unwrap_err();
        assert!(failure.message.contains("symbolic link"), "{failure}");
    }
    sandbox.host.root.read_link(FILE.as_ref()).unwrap().unwrap();
}

#[test]
fn invalid_key_is_rejected_with_its_list_index() {
    let keys = serde_json::to_string(&[ANA, "-----BEGIN OPENSSH PRIVATE KEY-----"]).unwrap();
    let problem = parse_resource(&format!("authorized_keys: {{user: deploy, keys: {keys}}}"))
        .err()
        .unwrap();
    assert_eq!(problem.field.as_deref(), Some("keys.1"));
    let twice = serde_json::to_string(&[ANA, &format!("restrict {ANA}")]).unwrap();
    assert!(parse_resource(&format!("authorized_keys: {{user: deploy, keys: {twice}}}")).is_err());
}

#[test]
fn directory_at_the_temporary_name_does_not_block_key_removal() {
    let sandbox = sandbox(Some(&format!("{ANA}\n{EVE}\n")));
    sandbox.make_dir("/home/deploy/.ssh/.authorized_keys.trueup~/full");
    converge(&*deploy(&[ANA], ""), &sandbox).unwrap().unwrap();
    assert_eq!(sandbox.read(FILE), format!("{ANA}\n"));
}
