//! Trees that others made: deep, mounted on, and not to be removed.

use super::*;
use crate::ports::testing::dig;

/// More than a process may have open, or a thread has stack for.
const DEEP: usize = 30_000;

#[test]
fn a_tree_of_any_depth_is_counted_and_removed() {
    // In memory, where there is such a filesystem: some disks take milliseconds for a folder.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let dir = dir.unwrap();
    let root = Root::at(dir.path()).unwrap();
    dig(&dir.path().join("tree"), DEEP);
    assert!(root.usage(Path::new("/tree")).unwrap().is_some());
    root.remove_tree(Path::new("/tree")).unwrap();
    assert!(!dir.path().join("tree").exists());
}

#[test]
fn a_tree_deeper_than_any_project_is_not_copied_and_leaves_nothing() {
    let (dir, root) = sandbox();
    dig(&dir.path().join("tree"), 3_000);
    let copied = root.copy_tree(Path::new("/tree"), Path::new("/copy"), &Default::default());
    let error = copied.unwrap_err();
    assert!(matches!(error, RootError::TooMuch { .. }), "{error}");
    assert!(!dir.path().join("copy").exists());
    let tree = root.open_folder(Path::new("/tree")).unwrap().unwrap();
    assert!(tree.walk().unwrap().len() < 300);
    root.remove_tree(Path::new("/tree")).unwrap();
}

/// Something mounted below a test's folder, gone with it.
struct Mount(PathBuf);

impl Mount {
    /// `None` where that cannot be done here, which is told.
    fn new(at: PathBuf, arguments: &[&str]) -> Option<Mount> {
        let mut mount = std::process::Command::new("mount");
        let mounted = mount.args(arguments).arg(&at).output();
        if !mounted.is_ok_and(|mounted| mounted.status.success()) {
            crate::ports::testing::skipped("a mount in a tree", "cannot mount one");
            return None;
        }
        Some(Mount(at))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let mut umount = std::process::Command::new("umount");
        let _ = umount.arg("-l").arg(&self.0).status();
    }
}

#[test]
fn no_work_on_a_tree_crosses_a_mount_of_either_sort() {
    let (dir, root) = sandbox();
    let at = |path: &str| dir.path().join(path);
    std::fs::create_dir_all(at("share")).unwrap();
    std::fs::write(at("share/precious"), vec![1; 64 << 10]).unwrap();
    let share = at("share").display().to_string();
    // A bind mount is on the same device.
    for arguments in [&["--bind", &share][..], &["-t", "tmpfs", "none"]] {
        std::fs::create_dir_all(at("tree/a/mount")).unwrap();
        std::fs::create_dir_all(at("tree/b")).unwrap();
        std::fs::write(at("tree/b/old"), "x").unwrap();
        let Some(mount) = Mount::new(at("tree/a/mount"), arguments) else {
            return;
        };
        std::fs::write(at("tree/a/mount/precious"), vec![1; 64 << 10]).unwrap();
        let points = root.mounts_below(Path::new("/tree")).unwrap();
        assert_eq!(points, [at("tree/a/mount").canonicalize().unwrap()]);
        let usage = root.usage(Path::new("/tree")).unwrap().unwrap();
        assert!(usage.own < 64 << 10, "{usage:?}");
        let copied = root.copy_tree(Path::new("/tree"), Path::new("/copy"), &Default::default());
        assert!(
            matches!(copied, Err(RootError::Mounted { .. })),
            "{copied:?}"
        );
        assert!(!at("copy").exists());
        let tree = root.open_folder(Path::new("/tree")).unwrap().unwrap();
        let walked = tree.walk().unwrap();
        assert!(walked.iter().all(|(path, _)| !path.ends_with("precious")));
        let error = root.remove_tree(Path::new("/tree")).unwrap_err();
        assert!(
            matches!(&error, RootError::Mounted { path, .. } if path == Path::new("/tree/a/mount")),
            "{error}"
        );
        assert!(at("tree/a/mount/precious").exists() && !at("tree/b").exists());
        assert!(root.remove_tree(Path::new("/tree/a/mount")).is_err());
        assert!(at("tree/a/mount/precious").exists());
        drop(mount);
        root.remove_tree(Path::new("/tree")).unwrap();
    }
    assert!(at("share/precious").exists());
}

#[test]
fn what_cannot_be_removed_is_named_and_the_rest_goes() {
    let (dir, root) = sandbox();
    let at = |path: &str| dir.path().join(path);
    std::fs::create_dir_all(at("tree/a/b")).unwrap();
    for n in 0..3000 {
        std::fs::create_dir(at(&format!("tree/a/{n}"))).unwrap();
    }
    std::fs::write(at("tree/a/b/fixed"), "x").unwrap();
    std::fs::write(at("tree/old"), "x").unwrap();
    let chattr = |flag: &str| {
        let mut chattr = std::process::Command::new("chattr");
        let done = chattr.arg(flag).arg(at("tree/a/b/fixed")).output();
        done.is_ok_and(|done| done.status.success())
    };
    if !chattr("+i") {
        crate::ports::testing::skipped("an immutable file", "cannot make one");
        return;
    }
    let removed = root.remove_tree(Path::new("/tree"));
    let left = (at("tree/old").exists(), at("tree/a/7").exists());
    assert!(chattr("-i"));
    let error = removed.unwrap_err();
    assert_eq!(left, (false, false));
    assert!(error.to_string().contains("/tree/a/b/fixed"), "{error}");
    assert!(
        error
            .hint()
            .unwrap()
            .contains("chattr -i -a /tree/a/b/fixed")
    );
    root.remove_tree(Path::new("/tree")).unwrap();
}
