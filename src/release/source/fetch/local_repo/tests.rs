#![allow(clippy::disallowed_methods, reason = "a test lays out its own folders")]

use git2::{Signature, build::TreeUpdateBuilder};

use super::*;

struct Repositories {
    dir: tempfile::TempDir,
    origin: Repository,
}

impl Repositories {
    fn new() -> Repositories {
        let dir = tempfile::tempdir().unwrap();
        let origin = Repository::init_bare(dir.path().join("origin.git")).unwrap();
        Repositories { dir, origin }
    }

    fn commit(&self, files: &[(&str, &str)], branch: &str) -> Oid {
        let parent = self.origin.find_reference(branch).ok();
        let parent = parent.and_then(|branch| branch.peel_to_commit().ok());
        let empty = self.origin.treebuilder(None).unwrap().write().unwrap();
        let base = parent.as_ref().map_or(empty, |commit| commit.tree_id());
        let mut change = TreeUpdateBuilder::new();
        for (path, body) in files {
            let id = self.origin.blob(body.as_bytes()).unwrap();
            change.upsert(*path, id, git2::FileMode::Blob);
        }
        let base = self.origin.find_tree(base).unwrap();
        let tree = change.create_updated(&self.origin, &base).unwrap();
        let tree = self.origin.find_tree(tree).unwrap();
        let who = Signature::now("t", "t@e").unwrap();
        let parents: Vec<_> = parent.iter().collect();
        self.origin
            .commit(Some(branch), &who, &who, "c", &tree, &parents)
            .unwrap()
    }

    fn mirror(&self) -> Repository {
        let path = self.dir.path().join("mirror.git");
        let mirror = Repository::init_bare(path).unwrap();
        self.fetch(&mirror);
        mirror
    }

    fn fetch(&self, mirror: &Repository) {
        let url = self.origin.path().to_str().unwrap();
        let mut remote = mirror.remote_anonymous(url).unwrap();
        remote
            .fetch(&["+refs/heads/*:refs/heads/*"], None, None)
            .unwrap();
    }

    fn copy_new_objects(&self, mirror: &Repository) {
        copy_new_objects(mirror, self.origin.path(), &|| true).unwrap();
    }
}

fn count_packs(mirror: &Repository) -> usize {
    let packs = std::fs::read_dir(mirror.path().join("objects/pack")).unwrap();
    let end = |path: PathBuf| path.extension().is_some_and(|end| end == "pack");
    packs
        .filter(|pack| end(pack.as_ref().unwrap().path()))
        .count()
}

/// Whether everything reachable from a commit can be read from this folder alone.
fn is_complete(mirror: &Repository, commit: Oid) -> bool {
    let alone = Repository::open_bare(mirror.path()).unwrap();
    let Ok(commit) = alone.find_commit(commit) else {
        return false;
    };
    let parents = commit.parent_ids().all(|id| is_complete(mirror, id));
    let mut there = true;
    let walked = commit
        .tree()
        .unwrap()
        .walk(git2::TreeWalkMode::PreOrder, |_, entry| {
            there &= alone.odb().unwrap().exists(entry.id());
            git2::TreeWalkResult::Ok
        });
    walked.is_ok() && there && parents
}

#[test]
fn new_commits_are_copied_with_exactly_the_objects_they_need() {
    let two = Repositories::new();
    two.commit(
        &[("a", "1"), ("deep/er/b", "2"), ("still/c", "3")],
        "refs/heads/main",
    );
    let mirror = two.mirror();
    let one = two.commit(&[("deep/er/b", "22")], "refs/heads/main");
    let last = two.commit(&[("new/d", "4"), ("a", "1")], "refs/heads/main");
    let other = two.commit(&[("a", "of its own")], "refs/heads/other");
    two.copy_new_objects(&mirror);
    assert_eq!(count_packs(&mirror), 2);
    assert!(
        [one, last, other]
            .into_iter()
            .all(|id| is_complete(&mirror, id))
    );
    let newest = Repository::open_bare(mirror.path()).unwrap();
    let mut brought = 0;
    newest
        .odb()
        .unwrap()
        .foreach(|_| {
            brought += 1;
            true
        })
        .unwrap();
    // The first commit has 3 files and 4 folders; `one` adds 1 and 3, `last` adds d, its folder and the top,
    // `other` a file and the top; plus the four commits.
    assert_eq!(brought, 7 + 4 + 3 + 2 + 4);
    two.fetch(&mirror);
    assert_eq!(count_packs(&mirror), 2, "nothing was left to be copied");
    assert_eq!(mirror.refname_to_id("refs/heads/main").unwrap(), last);
}

#[test]
fn empty_mirror_or_many_commits_are_left_to_the_regular_fetch() {
    let two = Repositories::new();
    two.commit(&[("a", "1")], "refs/heads/main");
    let empty = Repository::init_bare(two.dir.path().join("empty.git")).unwrap();
    two.copy_new_objects(&empty);
    assert_eq!(count_packs(&empty), 0);
    let mirror = two.mirror();
    for n in 0..=MAX_COMMITS {
        two.commit(&[("a", &n.to_string())], "refs/heads/main");
    }
    two.copy_new_objects(&mirror);
    assert_eq!(count_packs(&mirror), 1);
}

#[test]
fn stopped_copy_leaves_no_objects_behind() {
    let two = Repositories::new();
    two.commit(&[("a", "1"), ("b/c", "2")], "refs/heads/main");
    let mirror = two.mirror();
    let next = two.commit(&[("b/c", "3")], "refs/heads/main");
    for steps in 0..5 {
        let left = std::cell::Cell::new(steps);
        let go_on = || left.replace(left.get() - 1) > 0;
        assert!(
            copy_new_objects(&mirror, two.origin.path(), &go_on).is_err(),
            "{steps}"
        );
        assert_eq!(count_packs(&mirror), 1);
        assert!(!is_complete(&mirror, next));
    }
    two.copy_new_objects(&mirror);
    assert!(is_complete(&mirror, next));
}

#[test]
fn force_pushed_branch_is_copied() {
    let two = Repositories::new();
    let base = two.commit(&[("a", "1")], "refs/heads/main");
    two.commit(&[("a", "2")], "refs/heads/main");
    let mirror = two.mirror();
    two.origin
        .reference("refs/heads/main", base, true, "t")
        .unwrap();
    let forced = two.commit(&[("a", "3")], "refs/heads/main");
    two.copy_new_objects(&mirror);
    assert!(is_complete(&mirror, forced));
}

#[test]
fn submodule_or_unreadable_origin_does_not_damage_the_mirror() {
    let two = Repositories::new();
    let first = two.commit(&[("a", "1")], "refs/heads/main");
    let mirror = two.mirror();
    let tree = two.origin.find_commit(first).unwrap().tree().unwrap();
    let mut tree = two.origin.treebuilder(Some(&tree)).unwrap();
    tree.insert("sub", first, 0o160_000).unwrap();
    let elsewhere = Oid::from_str(&"4f2c9d0e".repeat(5)).unwrap();
    tree.insert("far", elsewhere, 0o160_000).unwrap();
    let tree = two.origin.find_tree(tree.write().unwrap()).unwrap();
    let who = Signature::now("t", "t@e").unwrap();
    let parent = two.origin.find_commit(first).unwrap();
    let next = two
        .origin
        .commit(Some("refs/heads/main"), &who, &who, "c", &tree, &[&parent])
        .unwrap();
    two.copy_new_objects(&mirror);
    assert!(mirror.find_commit(next).is_ok());
    std::fs::remove_dir_all(two.origin.path()).unwrap();
    assert!(copy_new_objects(&mirror, two.origin.path(), &|| true).is_err());
}

#[test]
fn only_a_plain_path_is_a_local_repository() {
    let is = |url, expected: Option<&str>| assert_eq!(local_path(url), expected.map(PathBuf::from));
    is("/srv/git/a%20b.git", Some("/srv/git/a%20b.git"));
    is("file:///srv/git/a.git", Some("/srv/git/a.git"));
    is("file:///srv/git/a%20b.git", None);
    for far in [
        "git@host:/srv/a.git",
        "ssh://git@host/a",
        "https://host/a",
        "http://h/a",
    ] {
        is(far, None);
    }
}
