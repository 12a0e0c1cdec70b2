//! The folder that a child runs in.

use std::fs::File;

use super::*;

#[test]
fn a_child_enters_no_folder_that_its_user_cannot_reach() {
    use std::os::unix::fs::PermissionsExt;
    if !nix::unistd::geteuid().is_root() {
        return skip_test("a child of another user", "needs root");
    }
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    std::fs::set_permissions(&inner, std::fs::Permissions::from_mode(0o755)).unwrap();
    let run = |mode: u32| {
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let mut command = sh("pwd");
        command.cwd = Some(inner.clone());
        command.identity = Some(nobody());
        Exec.run(command)
    };
    assert!(run(0o755).unwrap().success());
    let error = run(0o700).unwrap_err();
    assert!(error.to_string().contains("Permission denied"), "{error}");
}

#[test]
fn opened_folder_is_entered_whatever_is_at_its_path_by_then() {
    let dir = tempfile::tempdir().unwrap();
    let [opened, other] = ["opened", "other"].map(|name| dir.path().join(name));
    std::fs::create_dir(&opened).unwrap();
    std::fs::create_dir(&other).unwrap();
    let mut command = sh("pwd -P");
    command.cwd = Some(opened.clone());
    command.cwd_fd = Some(File::open(&opened).unwrap().into());
    let moved = dir.path().join("moved");
    std::fs::rename(&opened, &moved).unwrap();
    std::os::unix::fs::symlink(&other, &opened).unwrap();
    let printed = Exec.run(command).unwrap().output.text();
    assert_eq!(
        printed,
        format!("{}\n", moved.canonicalize().unwrap().display())
    );
}
