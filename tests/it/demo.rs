//! `trueup demo` uses only a folder that it created itself, whatever other users have created before.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::privilege::{NOBODY, is_root};
use crate::sandbox::{binary, isolated};

/// A folder like `/tmp`.
fn tmp() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o1777)).unwrap();
    dir
}

fn demo(tmp: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(binary());
    isolated(&mut command);
    command.env("TMPDIR", tmp).arg("demo").args(args);
    command.output().unwrap()
}

fn assert_refused(tmp: &Path, args: &[&str], why: &str) {
    let output = demo(tmp, args);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{args:?}: {text}");
    assert!(text.contains(why) && text.contains("cannot use "), "{text}");
}

#[test]
fn demo_folder_of_another_user_is_not_used() {
    if !is_root("a folder of another user") {
        return;
    }
    let tmp = tmp();
    let mut command = Command::new("/bin/sh");
    isolated(&mut command);
    // The process id is known before the demo begins.
    let mut child = command
        .args(["-c", "read go; exec \"$0\" demo"])
        .arg(binary())
        .env("TMPDIR", tmp.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let foreseen = tmp.path().join(format!("trueup-demo-{}", child.id()));
    fs::create_dir(&foreseen).unwrap();
    chown(&foreseen, Some(NOBODY), Some(NOBODY)).unwrap();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(!text.contains(&foreseen.display().to_string()), "{text}");
    // The demo removes only what it made itself.
    let left: Vec<_> = fs::read_dir(tmp.path()).unwrap().flatten().collect();
    assert_eq!(left.len(), 1);
    assert_eq!(fs::read_dir(&foreseen).unwrap().count(), 0);
}

#[test]
fn demo_neither_starts_nor_ends_in_a_foreign_folder() {
    if !is_root("a folder of another user") {
        return;
    }
    let tmp = tmp();
    let (foreign, link) = (tmp.path().join("foreign"), tmp.path().join("link"));
    fs::create_dir(&foreign).unwrap();
    fs::create_dir(tmp.path().join("etc")).unwrap();
    symlink("etc", &link).unwrap();
    chown(&foreign, Some(NOBODY), Some(NOBODY)).unwrap();
    assert_refused(
        tmp.path(),
        &["--dir", foreign.to_str().unwrap()],
        "uid 54321",
    );
    assert_refused(
        tmp.path(),
        &["--dir", link.to_str().unwrap()],
        "not a folder",
    );
    // A folder with the layout of a kept demo.
    fs::write(foreign.join(".trueup-demo"), "").unwrap();
    assert_refused(
        tmp.path(),
        &["--stop", foreign.to_str().unwrap()],
        "uid 54321",
    );
    assert!(foreign.join(".trueup-demo").exists());
    assert_eq!(fs::read_dir(tmp.path().join("etc")).unwrap().count(), 0);
}
