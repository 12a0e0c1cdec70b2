use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;
use crate::ports::store::conformance;

fn store() -> (TempDir, DirStore) {
    let folder = TempDir::new().unwrap();
    let store = DirStore::open(folder.path()).unwrap();
    (folder, store)
}

fn keys(store: &DirStore) -> Vec<String> {
    let rows = store.list("").unwrap();
    rows.into_iter().map(|row| row.key).collect()
}

fn refusal_reason(result: Result<impl std::fmt::Debug, StoreError>) -> String {
    match result {
        Err(StoreError::Refused { why, .. }) => why,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn dir_store_passes_the_conformance_suite() {
    let folder = TempDir::new().unwrap();
    conformance::run(&|| Box::new(DirStore::open(folder.path()).unwrap()));
    let remaining = fs::read_dir(folder.path()).unwrap();
    let remaining: Vec<_> = remaining.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(
        remaining,
        [LOCK_FILE],
        "empty folders and temporary files are gone"
    );
}

#[test]
fn missing_folder_is_unreachable_and_never_created() {
    let (folder, _) = store();
    let path = folder.path().join("absent");
    let store = DirStore::open(&path).unwrap();
    let why = |error| match error {
        StoreError::Unreachable { why, .. } => why,
        other => panic!("{other:?}"),
    };
    assert!(why(store.get("a", None).unwrap_err()).contains("no such folder"));
    assert!(
        why(store.put("a", b"", WriteCondition::Always).unwrap_err()).contains("no such folder")
    );
    assert!(why(store.list("").unwrap_err()).contains("no such folder"));
    assert!(why(store.delete("a").unwrap_err()).contains("no such folder"));
    assert!(!path.exists());
    fs::write(&path, "a file").unwrap();
    assert!(why(store.get("a", None).unwrap_err()).contains("not a folder"));
}

#[test]
fn a_refused_write_leaves_the_object_as_it_was() {
    let (folder, store) = store();
    store.put("a/b", b"1", WriteCondition::Always).unwrap();
    assert!(refusal_reason(store.put("a", b"2", WriteCondition::Always)).contains("objects below"));
    assert!(
        refusal_reason(store.put("a/b/c", b"2", WriteCondition::Always))
            .contains("is an object itself")
    );
    assert_eq!(fs::read(folder.path().join("a/b")).unwrap(), b"1");
    assert_eq!(keys(&store), ["a/b"]);
    let entries = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(entries, 2, "the lock and `a`");
    store.delete("a").unwrap();
    assert_eq!(keys(&store), ["a/b"], "a folder is no object");
}

#[test]
fn name_of_an_emptied_folder_can_become_a_key() {
    let (_folder, store) = store();
    store.put("a/b/c", b"1", WriteCondition::Always).unwrap();
    store.put("a/d", b"1", WriteCondition::Always).unwrap();
    store.delete("a/b/c").unwrap();
    store.put("a/b", b"2", WriteCondition::Absent).unwrap();
    assert_eq!(keys(&store), ["a/b", "a/d"]);
}

#[test]
fn symlinks_never_lead_out_of_the_folder() {
    let (folder, store) = store();
    let outside = TempDir::new().unwrap();
    fs::write(outside.path().join("secret"), "s").unwrap();
    symlink(outside.path(), folder.path().join("away")).unwrap();
    symlink(outside.path().join("secret"), folder.path().join("one")).unwrap();
    for key in ["away/secret", "one"] {
        assert!(
            refusal_reason(store.get(key, None)).contains("symbolic link"),
            "{key}"
        );
    }
    assert!(
        refusal_reason(store.put("away/new", b"x", WriteCondition::Always))
            .contains("symbolic link")
    );
    assert!(refusal_reason(store.delete("away/secret")).contains("symbolic link"));
    assert_eq!(
        store.put("one", b"x", WriteCondition::Always).unwrap(),
        PutOutcome::Written(content_etag(b"x"))
    );
    assert!(keys(&store) == ["one"], "a link is replaced, not followed");
    assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"s");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn only_objects_are_listed() {
    let (folder, store) = store();
    store.put("a/b", b"1", WriteCondition::Always).unwrap();
    for name in [TEMP_PREFIX, ".hidden", "a/.incoming", "a/line\nbreak"] {
        fs::write(folder.path().join(name), "x").unwrap();
    }
    fs::create_dir(folder.path().join(".git")).unwrap();
    fs::write(folder.path().join(".git/config"), "x").unwrap();
    fs::create_dir(folder.path().join("empty")).unwrap();
    nix::unistd::mkfifo(&folder.path().join("fifo"), Mode::S_IRWXU).unwrap();
    assert_eq!(keys(&store), ["a/b"]);
    assert_eq!(store.get("empty", None).unwrap(), GetOutcome::Missing);
    assert_eq!(store.get("fifo", None).unwrap(), GetOutcome::Missing);
    for key in [".hidden", "a/.incoming"] {
        assert!(matches!(store.get(key, None), Err(StoreError::Settings(_))));
        assert!(matches!(
            store.put(key, b"", WriteCondition::Always),
            Err(StoreError::Settings(_))
        ));
        assert!(matches!(store.delete(key), Err(StoreError::Settings(_))));
    }
}

#[test]
fn temp_file_of_a_dead_writer_is_never_read() {
    let (folder, store) = store();
    let leftovers = [TEMP_PREFIX, ".whole.0123456789abcdef.trueup~"];
    for name in leftovers {
        fs::write(folder.path().join(name), "half a bo").unwrap();
    }
    store.put("a.trueup~", b"", WriteCondition::Absent).unwrap();
    assert_eq!(keys(&store), ["a.trueup~"]);
    store.put("whole", b"body", WriteCondition::Absent).unwrap();
    assert_eq!(fs::read(folder.path().join("whole")).unwrap(), b"body");
    assert_eq!(keys(&store), ["a.trueup~", "whole"]);
    assert!(
        leftovers
            .iter()
            .all(|name| !folder.path().join(name).exists())
    );
}

#[test]
fn an_object_too_large_is_refused_unread() {
    let (folder, store) = store();
    // Sparse, and far larger than memory: reading it would be noticed.
    let file = fs::File::create(folder.path().join("huge")).unwrap();
    file.set_len(1 << 40).unwrap();
    let refused = store.get("huge", None);
    assert!(
        matches!(refused, Err(StoreError::TooLarge { .. })),
        "{refused:?}"
    );
    assert_eq!(store.list("").unwrap()[0].size, 1 << 40);
    let known = store.list("").unwrap()[0].etag.clone();
    assert_eq!(
        store.put("huge", b"x", WriteCondition::Absent).unwrap(),
        PutOutcome::Conflict
    );
    assert_eq!(
        store
            .put("huge", b"x", WriteCondition::Matches(&known))
            .unwrap(),
        PutOutcome::Conflict
    );
    store.put("huge", b"x", WriteCondition::Always).unwrap();
    assert_eq!(fs::read(folder.path().join("huge")).unwrap(), b"x");
}

#[test]
fn reader_does_not_wait_for_the_write_lock() {
    let (folder, store) = store();
    store.put("a", b"1", WriteCondition::Always).unwrap();
    let _turn = store
        .acquire_lock(&store.open_root().unwrap(), "a")
        .unwrap();
    let other = DirStore::open(folder.path()).unwrap();
    assert!(matches!(
        other.get("a", None).unwrap(),
        GetOutcome::Object(_)
    ));
    assert_eq!(keys(&other), ["a"]);
}

#[test]
fn non_file_in_place_of_the_lock_fails_at_once() {
    let (folder, store) = store();
    nix::unistd::mkfifo(&folder.path().join(LOCK_FILE), Mode::S_IRWXU).unwrap();
    assert!(
        refusal_reason(store.put("a", b"1", WriteCondition::Always))
            .contains(".lock is not a file")
    );
    assert!(refusal_reason(store.delete("a")).contains(".lock is not a file"));
}

#[test]
fn readers_cannot_lock_out_writers() {
    let (folder, store) = store();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let lock = folder.path().join(LOCK_FILE);
    fs::write(&lock, "").unwrap();
    fs::set_permissions(&lock, fs::Permissions::from_mode(0o644)).unwrap();
    store.put("a", b"1", WriteCondition::Always).unwrap();
    assert_eq!(
        fs::metadata(&lock).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn folder_with_the_temp_prefix_blocks_no_write() {
    let (folder, store) = store();
    for subfolder in ["", "nodes/production"] {
        fs::create_dir_all(folder.path().join(subfolder).join(TEMP_PREFIX).join("full")).unwrap();
    }
    for key in ["a", "nodes/production/web1.json"] {
        store.put(key, b"1", WriteCondition::Absent).unwrap();
        assert_eq!(fs::read(folder.path().join(key)).unwrap(), b"1");
    }
    let entries = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(entries, 4, "the lock, what was in the way, and two keys");
}

fn limit_exceeded_reason(result: Result<Vec<ObjectMeta>, StoreError>) -> String {
    match result {
        Err(StoreError::ListTooLarge { what, .. }) => what,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn too_deep_folders_are_refused_with_few_descriptors() {
    let (folder, store) = store();
    let deep = "d/".repeat(1000);
    // Longer than the maximum path, so created level by level.
    let mut at = File::open(folder.path()).unwrap();
    for _ in 0..deep.len() / 2 {
        mkdirat(&at, "d", Mode::S_IRWXU).unwrap();
        at = File::from(openat(&at, "d", FOLDER_FLAGS, Mode::empty()).unwrap());
    }
    assert!(limit_exceeded_reason(store.list("")).contains("folders more than 16 deep"));
    assert_eq!(store.list("other/").unwrap(), []);
}

#[test]
fn list_of_too_many_bytes_is_refused() {
    let (folder, store) = store();
    for number in 0..10 {
        fs::write(folder.path().join(format!("f{number}")), [0; 100]).unwrap();
    }
    assert_eq!(store.list_objects_within("", 1000).unwrap().len(), 10);
    assert!(
        limit_exceeded_reason(store.list_objects_within("", 999))
            .contains("more than 256 MiB of files")
    );
}
