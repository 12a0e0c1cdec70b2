use crate::kind::AnyResource;
use crate::kind::conformance::parse_resource;
use crate::ports::testing::{Sandbox, skip_test};
use crate::resource::{Failure, FailureKind};

fn converge(resource: &dyn AnyResource, sandbox: &Sandbox) -> Result<(), Failure> {
    resource.inspect(&sandbox.host)?.apply(&sandbox.host)?;
    assert_eq!(resource.inspect(&sandbox.host)?.change(), None);
    Ok(())
}

fn privileged_sandbox(test: &str) -> Option<Sandbox> {
    let sandbox = Sandbox::with_base_system();
    if !sandbox.can_set_owners() {
        skip_test(test, "needs root");
        return None;
    }
    Some(sandbox)
}

#[test]
fn unlocking_an_account_without_a_password_allows_no_password() {
    let Some(sandbox) = privileged_sandbox("unlocking") else {
        return;
    };
    converge(&*parse_resource("user: {name: deploy}").unwrap(), &sandbox).unwrap();
    assert!(sandbox.read("/etc/shadow").contains("deploy:!:"));
    let unlocked = parse_resource("user: {name: deploy, locked: false}").unwrap();
    converge(&*unlocked, &sandbox).unwrap();
    assert!(sandbox.read("/etc/shadow").contains("deploy:*:"));
}

#[test]
fn recreated_user_gets_its_former_uid() {
    let Some(sandbox) = privileged_sandbox("number") else {
        return;
    };
    sandbox.edit(
        "/etc/passwd",
        "root:",
        "ana:x:4711:4711::/home/ana:/bin/sh\nroot:",
    );
    for (home, owner, uid) in [("/home/deploy", 4242, Some(4242)), ("/srv/web", 4711, None)] {
        sandbox.make_dir(home);
        sandbox.chown(home, owner, owner);
        let name = home.rsplit('/').next().unwrap();
        let user = parse_resource(&format!("user: {{name: {name}, home: {home}}}")).unwrap();
        converge(&*user, &sandbox).unwrap();
        let made = sandbox.host.accounts.uid(&sandbox.host.root, name).unwrap();
        match uid {
            Some(uid) => assert_eq!(made, Some(uid)),
            None => assert_ne!(made, Some(owner), "it is ana's"),
        }
    }
}

#[test]
fn locking_and_unlocking_keep_the_password() {
    let Some(sandbox) = privileged_sandbox("locking") else {
        return;
    };
    converge(&*parse_resource("user: {name: deploy}").unwrap(), &sandbox).unwrap();
    sandbox.edit("/etc/shadow", "deploy:!:", "deploy:$6$salt$hash:");
    let locked = parse_resource("user: {name: deploy, locked: true}").unwrap();
    converge(&*locked, &sandbox).unwrap();
    assert!(
        sandbox
            .read("/etc/shadow")
            .contains("deploy:!$6$salt$hash:")
    );
    let unlocked = parse_resource("user: {name: deploy, locked: false}").unwrap();
    converge(&*unlocked, &sandbox).unwrap();
    assert!(sandbox.read("/etc/shadow").contains("deploy:$6$salt$hash:"));
}

#[test]
fn missing_group_is_not_ready() {
    let Some(sandbox) = privileged_sandbox("a missing group") else {
        return;
    };
    for spec in ["group: web", "groups: [web]"] {
        let user = parse_resource(&format!("user: {{name: deploy, {spec}}}")).unwrap();
        let failure = converge(&*user, &sandbox).unwrap_err();
        assert!(
            failure.is(FailureKind::NotReady) && failure.message.contains("`web`"),
            "{failure}"
        );
    }
    assert!(!sandbox.read("/etc/passwd").contains("deploy"));
}

#[test]
fn uid_in_use_is_rejected_with_its_users_name() {
    let Some(sandbox) = privileged_sandbox("a taken uid") else {
        return;
    };
    let user = parse_resource("user: {name: deploy, uid: 65534}").unwrap();
    let failure = converge(&*user, &sandbox).unwrap_err();
    assert!(failure.message.contains("user `nobody`"), "{failure}");
    assert!(!sandbox.read("/etc/passwd").contains("deploy"));
}

#[test]
fn new_user_gets_the_group_of_its_name_existing_or_not() {
    let Some(sandbox) = privileged_sandbox("the main group") else {
        return;
    };
    converge(&*parse_resource("user: {name: one}").unwrap(), &sandbox).unwrap();
    converge(
        &*parse_resource("group: {name: two, gid: 4242}").unwrap(),
        &sandbox,
    )
    .unwrap();
    converge(&*parse_resource("user: {name: two}").unwrap(), &sandbox).unwrap();
    assert!(sandbox.read("/etc/group").contains("one:x:"));
    assert!(sandbox.read("/etc/passwd").contains(":4242:"));
}

#[test]
fn empty_groups_differ_from_unset_groups() {
    let Some(sandbox) = privileged_sandbox("other groups") else {
        return;
    };
    let with = parse_resource("user: {name: deploy, groups: [nogroup, root, root]}").unwrap();
    converge(&*with, &sandbox).unwrap();
    converge(&*parse_resource("user: {name: deploy}").unwrap(), &sandbox).unwrap();
    assert!(
        sandbox
            .read("/etc/group")
            .contains("nogroup:x:65534:deploy")
    );
    let without = parse_resource("user: {name: deploy, groups: []}").unwrap();
    converge(&*without, &sandbox).unwrap();
    assert!(sandbox.read("/etc/group").contains("nogroup:x:65534:\n"));
}

#[test]
fn a_removed_user_leaves_its_home() {
    let Some(sandbox) = privileged_sandbox("removing a user") else {
        return;
    };
    let user = parse_resource("user: {name: deploy, home: /home/deploy}").unwrap();
    converge(&*user, &sandbox).unwrap();
    assert!(
        !sandbox.exists("/home/deploy"),
        "a directory resource makes it"
    );
    sandbox.write("/home/deploy/notes", "kept");
    converge(
        &*parse_resource("user: {name: deploy, state: absent}").unwrap(),
        &sandbox,
    )
    .unwrap();
    assert!(!sandbox.read("/etc/passwd").contains("deploy"));
    assert_eq!(sandbox.read("/home/deploy/notes"), "kept");
}

#[test]
fn fields_that_would_break_the_passwd_file_are_rejected() {
    for bad in [
        "name: Deploy",
        "name: deploy, comment: 'a:b'",
        "name: deploy, comment: \"a\\nb\"",
        "name: deploy, home: '/home/a:b'",
        "name: deploy, home: home/deploy",
        "name: deploy, shell: bash",
        "name: deploy, group: 'a,b'",
        "name: deploy, groups: ['-r']",
    ] {
        assert!(
            parse_resource(&format!("user: {{{bad}}}")).is_err(),
            "{bad}"
        );
    }
}

/// The program that holds the lock runs like `passwd`: with root's rights, called by root or by `nobody`.
#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it stands for a program of another user"
)]
#[test]
fn stopped_program_with_the_account_lock_does_not_block_changes() {
    use std::io::Read;
    let Some(sandbox) = privileged_sandbox("a stopped program") else {
        return;
    };
    converge(&*parse_resource("user: {name: deploy}").unwrap(), &sandbox).unwrap();
    let note = sandbox.machine_path("/etc/passwd.lock");
    let stopped = |caller: u32| {
        let program = "import os, signal, sys\nopen(sys.argv[1], 'w').write(f'{os.getpid()}\\0')\nos.setresuid(int(sys.argv[2]), 0, 0)\nprint('locked', flush=True)\nos.kill(os.getpid(), signal.SIGSTOP)";
        let mut command = std::process::Command::new("/usr/bin/python3");
        command
            .args(["-c", program])
            .arg(&note)
            .arg(caller.to_string());
        let mut child = command
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut word = [0; 7];
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut word)
            .unwrap();
        child
    };
    let locked = parse_resource("user: {name: deploy, locked: true, comment: gone}").unwrap();
    let mut child = stopped(0);
    let failure = converge(&*locked, &sandbox).unwrap_err();
    let description = format!("process {} (`python3`, run by root, stopped)", child.id());
    assert!(failure.message.contains(&description), "{failure}");
    let hint = failure.hint.unwrap();
    assert!(
        hint.contains(&format!("kill -KILL {}", child.id())),
        "{hint}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    let mut child = stopped(65534);
    converge(&*locked, &sandbox).unwrap();
    child.wait().unwrap();
    assert!(sandbox.read("/etc/passwd").contains(":gone:"));
}
