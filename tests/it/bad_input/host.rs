//! Conditions of the host: planted links, a full disk, another pass, a request to stop.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::host;
use crate::privilege::{NOBODY, as_nobody, can_mount, is_root};
use crate::processes::wait_until;
use crate::sandbox::{Ran, Sandbox, isolated};
use crate::tree;

#[test]
fn link_planted_by_an_unprivileged_user_is_not_followed() {
    if !is_root("a lesser user") {
        return;
    }
    let host = Sandbox::of(
        "  - file: {path: /srv/theirs/logs/cron, content: x}\n  - directory: {path: /srv/theirs/logs/new}\n  - file: {path: /srv/theirs/conf, content: x}\n  - file: {path: /srv/ours, content: x}\n",
    );
    host.write("/etc/cron/passwd", "root\n");
    fs::create_dir_all(host.at("/srv/theirs")).unwrap();
    for path in ["/srv/theirs/logs", "/srv/theirs/conf"] {
        let target = if path.ends_with("logs") {
            "../../etc/cron"
        } else {
            "../../etc/cron/passwd"
        };
        symlink(target, host.at(path)).unwrap();
        std::os::unix::fs::lchown(host.at(path), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    chown(host.at("/srv/theirs"), Some(NOBODY), Some(NOBODY)).unwrap();
    let before = tree::listing(&host.at("/etc"), &[]);
    let ran = host.converge();
    assert_eq!(ran.code, 1, "{ran}");
    for (id, path) in [
        ("file:/srv/theirs/logs/cron", "read /srv/theirs/logs"),
        ("directory:/srv/theirs/logs/new", "look at /srv/theirs/logs"),
    ] {
        let message = format!(
            "failed {id}: refused to {path}: /srv/theirs/logs is a symbolic link (owner uid {NOBODY}) in a folder that users other than root can write to\n  hint: if the link is intended, create it as root in a folder that only root can write to, or describe the path behind it; otherwise find out who created /srv/theirs/logs\n"
        );
        assert!(ran.out.contains(&message), "{ran}");
    }
    assert_eq!(
        tree::listing(&host.at("/etc"), &[]),
        before,
        "written through a link"
    );
    // A link at the path of a file is replaced, not followed, and the pass continues.
    assert!(
        host.at("/srv/theirs/conf")
            .symlink_metadata()
            .unwrap()
            .is_file()
    );
    assert_eq!(host.read("/srv/ours"), "x");
}

/// Runs a script with `$TRUEUP` (a pass), `$ROOT` and `$OUT`, a folder outside of what it mounts.
fn run_in_mount_namespace(host: &Sandbox, script: &str) {
    fs::create_dir(host.sibling("out")).unwrap();
    let mut command = Command::new("unshare");
    isolated(&mut command);
    command.args(["-m", "sh", "-eu", "-c", script]);
    command
        .env("ROOT", &host.root)
        .env("OUT", host.sibling("out"));
    let trueup = crate::sandbox::binary().display();
    command.env(
        "TRUEUP",
        format!("{trueup} converge --root {}", host.root.display()),
    );
    let ran = host.run_command(command);
    assert_eq!(ran.code, 0, "{ran}");
}

#[test]
fn full_disk_keeps_the_old_file_and_the_next_pass_continues() {
    if !can_mount("a full disk") {
        return;
    }
    let text = "new".repeat(20_000);
    let host = Sandbox::of(&format!(
        "  - file: {{id: big, path: /srv/big, content: \"{text}\"}}\n  - file: {{path: /etc/after, content: x}}\n"
    ));
    fs::create_dir(host.at("/srv")).unwrap();
    run_in_mount_namespace(
        &host,
        r#"mount -t tmpfs -o size=64k none "$ROOT/srv"
        echo old >"$ROOT/srv/big"
        head -c 32768 /dev/zero >"$ROOT/srv/filler"
        $TRUEUP >"$OUT/full" 2>&1 || echo "exit $?" >>"$OUT/full"
        cp "$ROOT/srv/big" "$OUT/old"; ls -A "$ROOT/srv" >"$OUT/listed"
        rm "$ROOT/srv/filler"
        $TRUEUP >"$OUT/free" 2>&1
        cp "$ROOT/srv/big" "$OUT/new""#,
    );
    let out = |name: &str| host.mask(&fs::read_to_string(host.sibling("out").join(name)).unwrap());
    assert_eq!(
        out("full"),
        "update big (content)\n\
         create file:/etc/after (content)\n\
         failed big: cannot write /srv/big: ENOSPC: No space left on device\n  \
         hint: free space on that filesystem; the next pass continues from here\n\
         failed: 1 change, 1 failed, 0 right (N ms)\nexit 1\n"
    );
    assert_eq!(out("old"), "old\n");
    assert_eq!(out("listed"), "big\nfiller\n", "something was left over");
    assert_eq!(out("new"), text);
    assert!(out("free").contains("converged: 1 change, 1 right"));
}

#[test]
fn mounted_and_immutable_paths_are_named_with_the_command_that_shows_why() {
    if !can_mount("a mounted file") {
        return;
    }
    let host = Sandbox::of(
        "  - file: {path: /srv/hosts, content: new}\n  - file: {path: /srv/gone, state: absent}\n  - file: {path: /srv/kept, content: new}\n  - file: {path: /srv/mode, mode: \"0600\", content: old}\n  - file: {path: /srv/safe/new, content: new}\n  - directory: {path: /srv/safe/folder}\n  - file: {path: /srv/log, content: new}\n  - file: {path: /srv/ro/new, content: new}\n",
    );
    fs::create_dir_all(host.at("/srv/safe")).unwrap();
    fs::create_dir_all(host.at("/srv/ro")).unwrap();
    for name in ["source", "hosts", "gone", "kept", "mode", "log"] {
        host.write(&format!("/srv/{name}"), "old");
    }
    run_in_mount_namespace(
        &host,
        r#"cd "$ROOT/srv"
        for name in hosts gone; do mount --bind source $name; done
        mount -t tmpfs -o ro none ro
        if ! chattr +i kept mode safe; then echo none >"$OUT/flags"; exit 0; fi
        chattr +a log
        $TRUEUP >"$OUT/pass" 2>&1 || echo "exit $?" >>"$OUT/pass"
        chattr -i kept mode safe; chattr -a log"#,
    );
    if host.sibling("out/flags").exists() {
        eprintln!("skipped: this filesystem has no immutable files");
        return;
    }
    let pass = host.mask(&fs::read_to_string(host.sibling("out/pass")).unwrap());
    for (message, hint) in [
        (
            "write /srv/hosts: something is mounted there",
            "`findmnt /srv/hosts` shows the mount;",
        ),
        (
            "remove /srv/gone: something is mounted there",
            "`findmnt -R /srv/gone` lists",
        ),
        (
            "write /srv/kept: /srv/kept is immutable (`chattr +i`)",
            "`lsattr -d /srv/kept` shows",
        ),
        (
            "change /srv/mode: /srv/mode is immutable (`chattr +i`)",
            "`lsattr -d /srv/mode` shows",
        ),
        (
            "write /srv/safe/new: /srv/safe is immutable (`chattr +i`)",
            "`lsattr -d /srv/safe` shows",
        ),
        (
            "make /srv/safe/folder: /srv/safe is immutable (`chattr +i`)",
            "`lsattr -d /srv/safe` shows",
        ),
        (
            "write /srv/log: /srv/log is append-only (`chattr +a`)",
            "`lsattr -d /srv/log` shows",
        ),
        (
            "write /srv/ro/new: EROFS: Read-only file system",
            "`findmnt -T /srv/ro/new` shows",
        ),
    ] {
        let lines = format!("cannot {message}\n  hint: {hint}");
        assert!(pass.contains(&lines), "{lines}\n{pass}");
    }
    assert!(pass.ends_with("exit 1\n"), "{pass}");
    for name in ["source", "kept", "mode", "log"] {
        assert_eq!(host.read(&format!("/srv/{name}")), "old");
    }
}

#[test]
fn pass_without_space_for_its_state_changes_nothing() {
    if !can_mount("a full disk") {
        return;
    }
    let host = Sandbox::of("  - file: {path: /srv/a, content: x}\n");
    fs::create_dir_all(host.at("/srv")).unwrap();
    fs::create_dir_all(host.at("/var/lib/trueup")).unwrap();
    run_in_mount_namespace(
        &host,
        r#"mount -t tmpfs -o size=16k none "$ROOT/var/lib/trueup"
        head -c 16384 /dev/zero >"$ROOT/var/lib/trueup/filler" 2>/dev/null || :
        $TRUEUP >"$OUT/full" 2>&1 || echo "exit $?" >>"$OUT/full"
        ls -A "$ROOT/srv" >"$OUT/listed"
        rm "$ROOT/var/lib/trueup/filler"
        $TRUEUP >"$OUT/free" 2>&1"#,
    );
    let out = |name: &str| host.mask(&fs::read_to_string(host.sibling("out").join(name)).unwrap());
    assert_eq!(
        out("full"),
        "trueup: cannot write /var/lib/trueup/manifest.yml: ENOSPC: No space left on device\n  \
         hint: free space on that filesystem; the next pass continues from here\nexit 1\n"
    );
    assert_eq!(out("listed"), "");
    assert!(out("free").contains("converged: 1 change, 0 right"));
}

/// A host whose pass makes `/srv/first`, waits for `/srv/go`, and would then make `/srv/last`.
fn slow() -> Sandbox {
    let host = host();
    host.role(
        "resources:\n  - directory: {path: /srv}\n  - command: {id: slow, run: \"touch begun; until test -e go; do sleep 0.02; done; touch slow\", cwd: /srv, creates: /srv/slow, timeout: 60s}\n  - file: {id: last, path: /srv/last, content: x}\n",
    );
    host
}

fn spawn_pass(host: &Sandbox) -> Child {
    let mut command = host.command(&["converge"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let pass = command.spawn().unwrap();
    assert!(
        wait_until(|| host.at("/srv/begun").exists()),
        "it did not begin"
    );
    pass
}

fn finish_pass(host: &Sandbox, pass: Child) -> Ran {
    host.write("/srv/go", "");
    Ran::of(&pass.wait_with_output().unwrap(), host)
}

#[test]
fn concurrent_pass_is_refused_with_the_lock_holder() {
    let host = slow();
    let first = spawn_pass(&host);
    for options in [&["--no-wait"][..], &["--wait", "0"]] {
        let second = host
            .command(&[&["converge"], options].concat())
            .output()
            .unwrap();
        assert_eq!(second.status.code(), Some(75));
        let message = String::from_utf8_lossy(&second.stderr);
        let expected = format!(
            "trueup: another pass is running: process {} (trueup converge by ",
            first.id()
        );
        assert!(message.starts_with(&expected), "{message}");
        assert!(message.ends_with(" UTC): run slow\n"), "{message}");
    }
    // A pass that a timer started does not wait: the timer starts the next one.
    let mut timer = host.command(&["converge"]);
    timer.env("TRIGGER_UNIT", "trueup.timer");
    assert_eq!(host.run_command(timer).code, 75);
    // Read-only commands run meanwhile.
    assert_eq!(host.run(&["plan"]).code, 2);
    assert_eq!(host.run(&["status"]).code, 2);
    let ran = finish_pass(&host, first);
    assert_eq!(ran.code, 0, "{ran}");
    host.assert_converged(&[]);
}

#[test]
fn stopped_pass_completes_its_resource_and_the_next_continues() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let host = slow();
        let pass = spawn_pass(&host);
        kill(Pid::from_raw(pass.id() as i32), signal).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        let ran = finish_pass(&host, pass);
        assert_eq!(ran.code, 143, "{signal}: {ran}");
        assert_eq!(
            ran.out,
            "create directory:/srv\n\
             run slow (run /srv/slow is not there -> touch begun; until test -e go; do sleep 0.02; done; touch slow)\n\
             skipped last: stopped on request; the next pass continues from here\n\
             stopped: 2 changes, 1 skipped, 0 right (N ms)\n"
        );
        assert!(
            host.at("/srv/slow").exists(),
            "the running command was not completed"
        );
        assert!(!host.at("/srv/last").exists());
        host.converged();
        host.assert_converged(&[]);
    }
}

#[test]
fn unreadable_settings_are_reported() {
    if !is_root("another user's file") {
        return;
    }
    let host = host();
    let settings = host.at("/etc/trueup/node.yml");
    fs::set_permissions(&settings, fs::Permissions::from_mode(0o600)).unwrap();
    let mut command = host.command(&["plan"]);
    as_nobody(&mut command);
    let ran = host.run_command(command);
    assert_eq!(ran.code, 78, "{ran}");
    assert_eq!(
        ran.err,
        "trueup: cannot read @ROOT@/etc/trueup/node.yml: EACCES: Permission denied\n  hint: the user who runs trueup lacks the permission; run it as root\ntrueup: nothing was changed\n"
    );
}
