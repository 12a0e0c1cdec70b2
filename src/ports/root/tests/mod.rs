mod trees;
mod xattrs;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::*;

fn sandbox() -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::at(dir.path()).unwrap();
    (dir, root)
}

#[test]
fn a_replaced_file_has_its_content_and_mode_and_leaves_no_temporary() {
    let (dir, root) = sandbox();
    root.create_dir_all(Path::new("/etc/app"), &Attrs::default())
        .unwrap();
    root.write_atomic(Path::new("/etc/app/a.conf"), b"one", &Attrs::mode(0o640))
        .unwrap();
    root.write_atomic(Path::new("/etc/app/a.conf"), b"two", &Attrs::mode(0o600))
        .unwrap();
    let (meta, body) = root
        .read_with_meta(Path::new("/etc/app/a.conf"), 10)
        .unwrap()
        .unwrap();
    assert_eq!((meta.mode, body.as_slice()), (0o600, b"two".as_slice()));
    let names: Vec<_> = std::fs::read_dir(dir.path().join("etc/app"))
        .unwrap()
        .collect();
    assert_eq!(names.len(), 1);
}

#[test]
fn link_in_a_world_writable_folder_is_refused() {
    let (dir, root) = sandbox();
    root.create_dir_all(Path::new("/etc"), &Attrs::default())
        .unwrap();
    root.create_dir_all(Path::new("/srv/app"), &Attrs::default())
        .unwrap();
    std::fs::write(dir.path().join("etc/passwd"), "kept").unwrap();
    std::fs::set_permissions(dir.path().join("srv/app"), PermissionsExt::from_mode(0o777)).unwrap();
    symlink("../../etc", dir.path().join("srv/app/shared")).unwrap();

    let error = root
        .write_atomic(
            Path::new("/srv/app/shared/passwd"),
            b"lost",
            &Attrs::default(),
        )
        .unwrap_err();
    assert!(
        matches!(&error, RootError::UntrustedLink { link, .. } if link == Path::new("/srv/app/shared")),
        "{error}"
    );
    assert_eq!(
        std::fs::read_to_string(dir.path().join("etc/passwd")).unwrap(),
        "kept"
    );
}

#[test]
fn trusted_link_is_followed_below_the_root() {
    let (dir, root) = sandbox();
    root.create_dir_all(Path::new("/run/app"), &Attrs::default())
        .unwrap();
    root.create_dir_all(Path::new("/var"), &Attrs::default())
        .unwrap();
    symlink("/run", dir.path().join("var/run")).unwrap();
    root.write_atomic(Path::new("/var/run/app/pid"), b"1", &Attrs::default())
        .unwrap();
    assert!(
        dir.path().join("run/app/pid").exists(),
        "an absolute target means the sandbox's root"
    );
}

#[test]
fn a_link_cannot_lead_out_of_the_sandbox() {
    let (dir, root) = sandbox();
    symlink("../../../../..", dir.path().join("up")).unwrap();
    root.write_atomic(Path::new("/up/marker"), b"", &Attrs::default())
        .unwrap();
    assert!(dir.path().join("marker").exists());
}

#[test]
fn replacing_a_link_replaces_the_link_and_not_its_target() {
    let (dir, root) = sandbox();
    std::fs::write(dir.path().join("target"), "kept").unwrap();
    symlink("target", dir.path().join("file")).unwrap();
    root.write_atomic(Path::new("/file"), b"new", &Attrs::default())
        .unwrap();
    assert_eq!(
        std::fs::read_to_string(dir.path().join("target")).unwrap(),
        "kept"
    );
    assert_eq!(
        std::fs::read_to_string(dir.path().join("file")).unwrap(),
        "new"
    );
}

#[test]
fn relative_paths_and_dot_dot_are_refused() {
    let (_dir, root) = sandbox();
    for path in ["/etc/../root", "etc/passwd", ""] {
        let error = root.meta(Path::new(path)).unwrap_err();
        assert!(
            matches!(error, RootError::InvalidPath { .. }),
            "{path}: {error}"
        );
    }
}

#[test]
fn hard_link_in_an_untrusted_folder_is_not_chowned() {
    let (dir, root) = sandbox();
    std::fs::write(dir.path().join("secret"), "x").unwrap();
    root.create_dir_all(Path::new("/home/deploy"), &Attrs::default())
        .unwrap();
    let home = dir.path().join("home/deploy");
    std::fs::set_permissions(&home, PermissionsExt::from_mode(0o777)).unwrap();
    std::fs::hard_link(dir.path().join("secret"), home.join("mine")).unwrap();
    let error = root
        .set_attrs(Path::new("/home/deploy/mine"), &Attrs::mode(0o666))
        .unwrap_err();
    assert!(
        matches!(error, RootError::HardLinked { names: 2, .. }),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("-samefile"), "{error}");
}

#[test]
fn removing_a_tree_removes_links_and_leaves_what_they_point_to() {
    let (dir, root) = sandbox();
    std::fs::create_dir_all(dir.path().join("tree/deep/deeper")).unwrap();
    std::fs::write(dir.path().join("kept"), "x").unwrap();
    symlink("../../kept", dir.path().join("tree/deep/link")).unwrap();
    symlink("/", dir.path().join("tree/root")).unwrap();
    root.remove_tree(Path::new("/tree")).unwrap();
    root.remove_tree(Path::new("/tree")).unwrap();
    assert!(dir.path().join("kept").exists() && !dir.path().join("tree").exists());
}

#[test]
fn fifo_in_place_of_a_file_does_not_block_a_read() {
    let (dir, root) = sandbox();
    nix::unistd::mkfifo(&dir.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (meta, body) = root
        .read_with_meta(Path::new("/pipe"), 10)
        .unwrap()
        .unwrap();
    assert_eq!((meta.kind, body.len()), (FileKind::Other, 0));
}

#[test]
fn a_file_over_the_limit_is_refused_unread() {
    let (_dir, root) = sandbox();
    root.write_atomic(Path::new("/big"), &[0; 100], &Attrs::default())
        .unwrap();
    assert!(matches!(
        root.read(Path::new("/big"), 99),
        Err(RootError::TooLarge { .. })
    ));
    assert_eq!(
        root.read(Path::new("/big"), 100).unwrap().unwrap().len(),
        100
    );
}

#[test]
fn copied_tree_keeps_links_modes_and_times() {
    use std::os::unix::fs::MetadataExt;
    let (dir, root) = sandbox();
    let at = |path: &str| dir.path().join(path);
    std::fs::create_dir_all(at("old/tree/closed")).unwrap();
    std::fs::write(at("old/tree/closed/file"), "one").unwrap();
    std::fs::write(at("old/tree/run"), "two").unwrap();
    symlink("../../outside", at("old/tree/link")).unwrap();
    symlink("tree", at("old/alone")).unwrap();
    nix::unistd::mkfifo(
        &at("old/tree/pipe"),
        nix::sys::stat::Mode::from_bits_truncate(0o600),
    )
    .unwrap();
    let mode = |path: &str, mode| {
        std::fs::set_permissions(at(path), PermissionsExt::from_mode(mode)).unwrap();
    };
    mode("old/tree/run", 0o4751);
    mode("old/tree/closed/file", 0o600);
    mode("old/tree/closed", 0o500);
    std::fs::create_dir(at("new")).unwrap();
    let copy = |path: &str| {
        let (from, to) = (format!("/old/{path}"), format!("/new/{path}"));
        root.copy_tree(Path::new(&from), Path::new(&to), &Default::default())
    };
    copy("tree").unwrap();
    copy("alone").unwrap();
    let names: Vec<_> = root.list(Path::new("/new/tree")).unwrap().unwrap();
    assert_eq!(names, ["closed", "link", "run"]);
    let target = |path: &str| std::fs::read_link(at(path)).unwrap();
    assert_eq!(target("new/tree/link"), Path::new("../../outside"));
    assert_eq!(target("new/alone"), Path::new("tree"));
    let meta = |path: &str| std::fs::metadata(at(path)).unwrap();
    for (path, mode) in [
        ("tree/run", 0o751),
        ("tree/closed", 0o500),
        ("tree/closed/file", 0o600),
    ] {
        let (old, new) = (meta(&format!("old/{path}")), meta(&format!("new/{path}")));
        assert_eq!(new.mode() & 0o7777, mode, "{path}");
        assert_ne!(old.ino(), new.ino());
        if new.is_file() {
            assert_eq!(
                (old.mtime(), old.mtime_nsec()),
                (new.mtime(), new.mtime_nsec())
            );
        }
    }
    assert_eq!(std::fs::read(at("new/tree/closed/file")).unwrap(), b"one");
    assert!(copy("tree").is_err(), "what is there was written over");
}

#[test]
fn a_moved_file_never_takes_the_place_of_another() {
    let (dir, root) = sandbox();
    let at = |path: &str| dir.path().join(path);
    for (path, body) in [("a/one", "1"), ("a/two", "2"), ("b/two", "of b")] {
        std::fs::create_dir_all(at(path).parent().unwrap()).unwrap();
        std::fs::write(at(path), body).unwrap();
    }
    let folder = |path: &str| root.open_folder(Path::new(path)).unwrap().unwrap();
    let (a, b) = (folder("/a"), folder("/b"));
    assert_eq!(a.move_file("one".as_ref(), &b).unwrap(), MoveOutcome::Moved);
    assert_eq!(
        a.move_file("two".as_ref(), &b).unwrap(),
        MoveOutcome::NameTaken
    );
    assert_eq!(std::fs::read(at("b/two")).unwrap(), b"of b");
    assert!(at("a/two").exists() && !at("a/one").exists());
    assert!(!a.same_content("two".as_ref(), &b).unwrap());
    // To another disk, if this machine has one here.
    let Ok(other) = tempfile::tempdir_in("/dev/shm") else {
        crate::ports::testing::skip_test("a move to another disk", "needs /dev/shm");
        return;
    };
    let shm = Root::at(other.path()).unwrap();
    let other_filesystem = shm.open_folder(Path::new("/")).unwrap().unwrap();
    assert_eq!(
        a.move_file("two".as_ref(), &other_filesystem).unwrap(),
        MoveOutcome::Moved
    );
    assert_eq!(std::fs::read(other.path().join("two")).unwrap(), b"2");
    assert!(!at("a/two").exists());
    std::fs::write(at("a/two"), "again").unwrap();
    assert_eq!(
        a.move_file("two".as_ref(), &other_filesystem).unwrap(),
        MoveOutcome::NameTaken
    );
}

/// Lists everything in a folder.
fn file_names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn temporary_name_cannot_be_occupied_in_advance() {
    let (dir, root) = sandbox();
    let at = |path: &str| dir.path().join(path);
    let write = || {
        root.write_atomic(Path::new("/file"), b"new", &Attrs::default())
            .unwrap();
        root.replace_symlink(Path::new("/link"), Path::new("file"), &Attrs::default())
            .unwrap();
        root.create_dir(Path::new("/folder"), &Attrs::default())
            .unwrap();
    };
    for name in ["file", "link", "folder"] {
        std::fs::create_dir_all(at(&format!(".{name}.trueup~/full"))).unwrap();
    }
    write();
    let mut names: Vec<String> = file_names(dir.path());
    names.retain(|name| !name.starts_with('.'));
    assert_eq!(names, ["file", "folder", "link"]);
    assert_eq!(std::fs::read(at("file")).unwrap(), b"new");
}

#[test]
fn leftovers_of_killed_passes_are_removed_by_the_next_write() {
    let (dir, root) = sandbox();
    let at = |path: &str| dir.path().join(path);
    std::fs::write(at(".file.trueup~"), "of an older trueup").unwrap();
    std::fs::write(at(".file.0123456789abcdef.trueup~"), "").unwrap();
    std::fs::create_dir(at(".file.fedcba9876543210.trueup~")).unwrap();
    std::fs::write(at(".other.0123456789abcdef.trueup~"), "").unwrap();
    root.write_atomic(Path::new("/file"), b"new", &Attrs::default())
        .unwrap();
    assert_eq!(
        file_names(dir.path()),
        [".other.0123456789abcdef.trueup~", "file"]
    );
}

#[test]
fn fifo_in_place_of_a_file_does_not_block_a_write() {
    let (dir, root) = sandbox();
    let pipe = dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let refused = |reader: &str| {
        let appended = root.open_append(Path::new("/pipe"), &Attrs::mode(0o644));
        assert!(
            matches!(appended, Err(RootError::NotRegularFile { .. })),
            "{reader}"
        );
        let noted = root.overwrite(Path::new("/pipe"), b"x", 10);
        assert!(
            matches!(noted, Err(RootError::NotRegularFile { .. })),
            "{reader}"
        );
    };
    refused("nobody reads");
    let reader = nix::fcntl::open(&pipe, OFlag::O_RDONLY | OFlag::O_NONBLOCK, NixMode::empty());
    refused("somebody reads");
    drop(reader);
    // The pipe itself can be replaced.
    root.write_atomic(Path::new("/pipe"), b"x", &Attrs::default())
        .unwrap();
}

#[test]
fn hard_link_in_an_untrusted_folder_is_not_overwritten() {
    let (dir, root) = sandbox();
    std::fs::write(dir.path().join("secret"), "x").unwrap();
    std::fs::create_dir(dir.path().join("app")).unwrap();
    let app = dir.path().join("app");
    std::fs::set_permissions(&app, PermissionsExt::from_mode(0o777)).unwrap();
    std::fs::hard_link(dir.path().join("secret"), app.join("revisions.log")).unwrap();
    let appended = root.open_append(Path::new("/app/revisions.log"), &Attrs::mode(0o644));
    assert!(matches!(appended, Err(RootError::NotRegularFile { .. })));
}

#[test]
fn lease_of_another_process_does_not_block() {
    use std::os::fd::AsRawFd;
    let (dir, root) = sandbox();
    std::fs::write(dir.path().join("leased"), "x").unwrap();
    let held = std::fs::File::open(dir.path().join("leased")).unwrap();
    // Reports the lease break by a signal that is ignored, instead of one that ends the test.
    let (set_signal, signal) = (10, nix::libc::SIGURG);
    // SAFETY: two calls on an open descriptor that take plain numbers.
    let leased = unsafe {
        nix::libc::fcntl(held.as_raw_fd(), set_signal, signal) == 0
            && nix::libc::fcntl(held.as_raw_fd(), nix::libc::F_SETLEASE, nix::libc::F_WRLCK) == 0
    };
    if !leased {
        crate::ports::testing::skip_test("a lease", "this filesystem has none");
        return;
    }
    let error = root.read(Path::new("/leased"), 10).unwrap_err();
    assert!(matches!(error, RootError::Leased { .. }), "{error}");
    root.write_atomic(Path::new("/leased"), b"new", &Attrs::default())
        .unwrap();
    assert_eq!(
        root.read(Path::new("/leased"), 10).unwrap().unwrap(),
        b"new"
    );
}
