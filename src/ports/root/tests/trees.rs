//! Trees of other users: deep, with mounts, or with entries that must not be removed.

use super::*;
use crate::ports::testing::create_deep_tree;

/// More than a process's descriptor limit or a thread's stack allows.
const DEEP_LEVELS: usize = 30_000;

const UNLIMITED: WalkLimits = WalkLimits {
    entries: 10_000,
    name_bytes: 1 << 20,
};

#[test]
fn a_tree_of_any_depth_is_counted_and_removed() {
    // In memory, if there is such a filesystem: some disks take milliseconds per folder.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let dir = dir.unwrap();
    let root = Root::at(dir.path()).unwrap();
    create_deep_tree(&dir.path().join("tree"), DEEP_LEVELS);
    assert!(root.disk_usage(Path::new("/tree")).unwrap().is_some());
    root.remove_tree(Path::new("/tree")).unwrap();
    assert!(!dir.path().join("tree").exists());
}

#[test]
fn too_deep_tree_is_not_copied_and_leaves_nothing() {
    let (dir, root) = sandbox();
    create_deep_tree(&dir.path().join("tree"), 3_000);
    let copied = root.copy_tree(Path::new("/tree"), Path::new("/copy"), &Default::default());
    let error = copied.unwrap_err();
    assert!(matches!(error, RootError::LimitExceeded { .. }), "{error}");
    assert!(!dir.path().join("copy").exists());
    let tree = root.open_user_tree(Path::new("/tree")).unwrap().unwrap();
    assert!(tree.walk(UNLIMITED).unwrap().len() < 300);
    root.remove_tree(Path::new("/tree")).unwrap();
}

/// A mount below a test's folder, unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    /// `None` where mounting is not possible; prints that.
    fn new(at: PathBuf, arguments: &[&str]) -> Option<Mount> {
        let mut mount = std::process::Command::new("mount");
        let mounted = mount.args(arguments).arg(&at).output();
        if !mounted.is_ok_and(|mounted| mounted.status.success()) {
            crate::ports::testing::skip_test("a mount in a tree", "cannot mount one");
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
fn tree_operations_never_cross_a_mount() {
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
        let usage = root.disk_usage(Path::new("/tree")).unwrap().unwrap();
        assert!(usage.own < 64 << 10, "{usage:?}");
        let copied = root.copy_tree(Path::new("/tree"), Path::new("/copy"), &Default::default());
        assert!(
            matches!(copied, Err(RootError::Mounted { .. })),
            "{copied:?}"
        );
        assert!(!at("copy").exists());
        let tree = root.open_user_tree(Path::new("/tree")).unwrap().unwrap();
        let walked = tree.walk(UNLIMITED).unwrap();
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
fn unremovable_entry_is_named_and_the_rest_is_removed() {
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
        crate::ports::testing::skip_test("an immutable file", "cannot make one");
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

/// Creates files and folders with these owners: a folder ends with `/`.
fn create_entries(dir: &Path, things: &[(&str, u32)]) {
    for (path, owner) in things {
        let at = dir.join(path);
        match path.ends_with('/') {
            true => std::fs::create_dir_all(&at).unwrap(),
            false => std::fs::write(&at, "x").unwrap(),
        }
        std::os::unix::fs::chown(&at, Some(*owner), Some(*owner)).unwrap();
    }
}

#[test]
fn only_entries_that_the_tree_owner_could_remove_are_removed() {
    let (dir, root) = sandbox();
    if !root.is_privileged() {
        return crate::ports::testing::skip_test("folders of several owners", "takes root");
    }
    create_entries(
        dir.path(),
        &[
            ("releases/", 0),
            // Created by root, which was killed while changing the owner.
            ("releases/1/", 0),
            ("releases/1/app/", 1234),
            ("releases/1/app/code", 1234),
            ("releases/1/app/log", 0),
            ("releases/1/app/made-by-root/", 0),
            ("releases/1/app/data/", 1234),
            ("releases/1/app/data/database/", 0),
            ("releases/1/app/data/database/rows", 0),
            ("releases/1/app/data/other/", 999),
            ("releases/1/app/data/other/rows", 999),
        ],
    );
    let error = root.remove_tree(Path::new("/releases/1")).unwrap_err();
    assert!(matches!(error, RootError::ForeignOwner { .. }), "{error}");
    assert!(
        error.to_string().contains("/releases/1/app/data/"),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("ls -la"), "{error}");
    let exists = |path: &str| dir.path().join("releases/1/app").join(path).exists();
    assert!(exists("data/database/rows") && exists("data/other/rows"));
    for removed in ["code", "log", "made-by-root"] {
        assert!(!exists(removed), "{removed}");
    }
    std::fs::remove_dir_all(dir.path().join("releases/1/app/data")).unwrap();
    root.remove_tree(Path::new("/releases/1")).unwrap();
    assert!(!dir.path().join("releases/1").exists());
    // The top itself belongs to another user, in a folder that is not root's.
    create_entries(
        dir.path(),
        &[("home/", 1234), ("home/env/", 0), ("home/env/key", 0)],
    );
    let error = root.remove_obstacle(Path::new("/home/env")).unwrap_err();
    assert!(
        error.to_string().contains("/home/env: it belongs to uid 0"),
        "{error}"
    );
    assert!(dir.path().join("home/env/key").exists());
}

#[test]
fn removal_of_a_constantly_refilled_tree_times_out() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let (dir, root) = sandbox();
    let tree = dir.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0_u64.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let _ = std::fs::create_dir(tree.join(number.to_string()));
            }
        });
        let parent = std::fs::File::open(dir.path()).unwrap();
        let limit = std::time::Duration::from_millis(300);
        let removed = loop {
            // Nothing to remove until the writer has begun, and whenever it was slower.
            let removed =
                remove_tree::remove_at(&parent, "tree".as_ref(), Path::new("/tree"), limit);
            match removed {
                Ok(()) => std::fs::create_dir(&tree).unwrap(),
                removed => break removed,
            }
        };
        over.store(true, Ordering::Relaxed);
        let error = removed.unwrap_err();
        let ended = matches!(error, RootError::RemoveTimedOut { .. });
        // Or the folder was filled again for as many times as the removal retries.
        assert!(ended || error.is_not_empty(), "{error}");
    });
    root.remove_tree(Path::new("/tree")).unwrap();
    let parent = std::fs::File::open(dir.path()).unwrap();
    std::fs::create_dir_all(tree.join("a")).unwrap();
    let zero = std::time::Duration::ZERO;
    let error =
        remove_tree::remove_at(&parent, "tree".as_ref(), Path::new("/tree"), zero).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("/tree: the removal did not finish within 0 s"),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("fuser"));
}

#[test]
fn foreign_files_in_untrusted_folders_are_not_chowned() {
    let (dir, root) = sandbox();
    if !root.is_privileged() {
        return crate::ports::testing::skip_test("folders of several owners", "takes root");
    }
    let (deploy, access) = (
        Attrs {
            uid: Some(1234),
            gid: Some(1234),
            mode: Some(0o755),
        },
        Attrs::mode(0o755),
    );
    create_entries(
        dir.path(),
        &[
            ("home/", 1234),
            ("home/.ssh/", 0),
            ("home/.ssh/id_root", 0),
            ("home/backup", 0),
            ("home/empty/", 0),
            ("home/his/", 0),
            ("home/his/authorized_keys", 1234),
            ("srv/", 0),
            ("srv/data/", 0),
            ("srv/data/rows", 0),
        ],
    );
    let owner = |path: &str| {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(dir.path().join(path)).unwrap().uid()
    };
    for path in ["home/.ssh", "home/backup"] {
        for attrs in [deploy, access] {
            let error = root
                .set_attrs(&Path::new("/").join(path), &attrs)
                .unwrap_err();
            assert!(
                matches!(error, RootError::ForeignOwner { owner: 0, .. }),
                "{error}"
            );
        }
        assert_eq!(owner(path), 0);
    }
    // Contains nothing of other users, or only root could have put it there.
    for path in ["home/empty", "home/his", "srv/data"] {
        root.set_attrs(&Path::new("/").join(path), &deploy).unwrap();
        assert_eq!(owner(path), 1234, "{path}");
    }
}

#[test]
fn swapped_in_link_or_folder_is_not_chowned() {
    let (dir, root) = sandbox();
    std::fs::write(dir.path().join("secret"), "x").unwrap();
    std::fs::create_dir(dir.path().join("full")).unwrap();
    std::fs::write(dir.path().join("full/secret"), "x").unwrap();
    std::os::unix::fs::symlink("elsewhere", dir.path().join("link")).unwrap();
    let parent = std::fs::File::open(dir.path()).unwrap();
    let attrs = Attrs {
        uid: Some(root.current_uid()),
        ..Attrs::default()
    };
    let own = |name: &str, target: &str| {
        safe_chown::chown_new_link(&parent, name.as_ref(), target.as_ref(), &attrs)
    };
    assert_eq!(own("secret", "target"), Err(Errno::ESTALE));
    assert_eq!(own("link", "target"), Err(Errno::ESTALE));
    assert_eq!(own("link", "elsewhere"), Ok(()));
    assert!(safe_chown::open_new_folder(&parent, "full".as_ref()).is_err());
}

#[test]
fn walk_stops_at_its_limits() {
    let (dir, root) = sandbox();
    std::fs::create_dir_all(dir.path().join("tree/a")).unwrap();
    for n in 0..100 {
        std::fs::write(dir.path().join(format!("tree/a/{n:03}")), "").unwrap();
    }
    let tree = root.open_user_tree(Path::new("/tree")).unwrap().unwrap();
    let walk = |entries, names| {
        tree.walk(WalkLimits {
            entries,
            name_bytes: names,
        })
    };
    assert_eq!(walk(101, 501).unwrap().len(), 101);
    for (entries, names, exceeded) in [(100, 501, "100 files"), (101, 500, "500 bytes of names")] {
        let error = walk(entries, names).unwrap_err().to_string();
        assert_eq!(error, format!("/tree holds more than {exceeded}"));
    }
}

#[test]
fn unlink_does_not_remove_a_folder_in_place_of_a_file() {
    let (dir, root) = sandbox();
    std::fs::create_dir_all(dir.path().join("tree/a")).unwrap();
    std::fs::write(dir.path().join("tree/a/kept"), "").unwrap();
    let folder = root.open_folder(Path::new("/tree")).unwrap().unwrap();
    for name in ["a", "none"] {
        folder.unlink(name.as_ref()).unwrap();
    }
    assert!(dir.path().join("tree/a/kept").exists());
}

#[test]
fn foreign_folder_is_a_user_tree_only_as_a_mount_point() {
    let (dir, root) = sandbox();
    let at = |path: &str| dir.path().join(path);
    std::fs::create_dir_all(at("shared/assets/private")).unwrap();
    for (path, uid) in [("shared", 7001), ("shared/assets", 7001)] {
        if std::os::unix::fs::chown(at(path), Some(uid), None).is_err() {
            crate::ports::testing::skip_test("folders of others", "needs root");
            return;
        }
    }
    let open = || root.open_user_tree(Path::new("/shared/assets"));
    let tree = open().unwrap().unwrap();
    let error = tree.open_folder(Path::new("private")).err().unwrap();
    assert!(matches!(error, RootError::ForeignOwner { owner: 0, .. }));
    assert!(error.hint().unwrap().contains("chown"), "{error}");
    let walked = tree.walk(UNLIMITED).unwrap();
    assert_eq!(walked.len(), 1);
    assert_eq!(walked[0].1.foreign_owner, Some(0));
    std::os::unix::fs::chown(at("shared/assets"), Some(0), None).unwrap();
    let error = open().err().unwrap();
    assert!(matches!(error, RootError::ForeignOwner { owner: 0, .. }));
    let Some(_mount) = Mount::new(at("shared/assets"), &["-t", "tmpfs", "none"]) else {
        return;
    };
    std::fs::create_dir_all(at("shared/assets/a")).unwrap();
    assert_eq!(open().unwrap().unwrap().walk(UNLIMITED).unwrap().len(), 1);
}
