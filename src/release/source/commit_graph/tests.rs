#![allow(clippy::disallowed_methods, reason = "a test lays out its own folders")]

use super::*;

struct TestRepository {
    _dir: tempfile::TempDir,
    repository: Repository,
}

impl TestRepository {
    fn new() -> TestRepository {
        let dir = tempfile::tempdir().unwrap();
        let repository = Repository::init_bare(dir.path()).unwrap();
        TestRepository {
            _dir: dir,
            repository,
        }
    }

    fn raw_commit(&self, parents: &[Oid], rest: &str) -> Oid {
        let odb = self.repository.odb().unwrap();
        let tree = odb.write(ObjectType::Tree, b"").unwrap();
        let parents: String = parents.iter().map(|id| format!("parent {id}\n")).collect();
        let body = format!("tree {tree}\n{parents}{rest}");
        odb.write(ObjectType::Commit, body.as_bytes()).unwrap()
    }

    fn valid_commit(&self, parents: &[Oid], time: i64) -> Oid {
        let author = format!("t <t@e> {time} +0000");
        self.raw_commit(
            parents,
            &format!("author {author}\ncommitter {author}\n\nx\n"),
        )
    }

    /// A chain of valid commits after one.
    fn commit_chain(&self, after: Oid, count: i64) -> Oid {
        (1..=count).fold(after, |parent, time| self.valid_commit(&[parent], time))
    }

    fn has_flaws(&self, known: &[Oid], tips: &[Oid]) -> Vec<bool> {
        let flaws = find_flaws(&self.repository, known, tips, false, &|| true).unwrap();
        flaws.iter().map(Option::is_some).collect()
    }

    fn is_reachable(&self, tips: &[Oid], wanted: Oid) -> bool {
        let odb = self.repository.odb().unwrap();
        is_reachable(&odb, tips, wanted, &|| true, &mut Vec::new()).unwrap()
    }
}

const NO_COMMITTER: &str = "author t <t@e> 1 +0000\n\nx\n";

#[test]
fn malformed_commit_affects_only_refs_that_reach_it() {
    let made = TestRepository::new();
    let base = made.valid_commit(&[], 0);
    let bad = made.raw_commit(&[base], NO_COMMITTER);
    let (behind, merged) = (
        made.commit_chain(bad, 3),
        made.valid_commit(&[base, bad], 9),
    );
    let (main, deep) = (made.commit_chain(base, 5), made.commit_chain(bad, 300));
    assert_eq!(
        made.has_flaws(&[], &[main, bad, behind, merged, deep]),
        [false, true, true, true, false]
    );
    assert_eq!(made.has_flaws(&[base], &[main, behind]), [false, true]);
    // The walk skips known commits, and checks those after them.
    assert_eq!(
        made.has_flaws(&[deep], &[made.valid_commit(&[deep], 999)]),
        [false]
    );
    assert_eq!(
        made.has_flaws(&[main], &[made.valid_commit(&[bad, main], 999)]),
        [true]
    );
}

#[test]
fn oversized_and_malformed_commits_and_tags_are_flaws() {
    let made = TestRepository::new();
    let base = made.valid_commit(&[], 0);
    let author = "t <t@e> 1 +0000";
    let bodies = [
        String::new(),
        "parent 0123\n".to_owned(),
        format!("committer {author}\n\nx"),
        format!("author {author}\ncommitter nobody\n\nx"),
        format!("author {author}\ncommitter t <t@e> soon\n\nx"),
        format!(
            "author {author}\ncommitter {author}\n\n{}",
            "x".repeat(MAX_COMMIT_SIZE)
        ),
    ];
    for body in bodies {
        let bad = made.raw_commit(&[base], &body);
        let start = &body[..body.len().min(60)];
        assert_eq!(
            made.has_flaws(&[], &[made.commit_chain(bad, 2)]),
            [true],
            "{start}"
        );
    }
    let wide: Vec<Oid> = (0..=MAX_PARENTS as i64)
        .map(|n| made.valid_commit(&[base], n))
        .collect();
    assert_eq!(made.has_flaws(&[], &[made.valid_commit(&wide, 1)]), [true]);
    assert_eq!(
        made.has_flaws(&[], &[made.valid_commit(&wide[1..], 1)]),
        [false]
    );
    let odb = made.repository.odb().unwrap();
    let mut tag = base;
    for kind in ["commit"].into_iter().chain(std::iter::repeat_n("tag", 20)) {
        let body = format!("object {tag}\ntype {kind}\ntag v1\ntagger {author}\n\nx");
        tag = odb.write(ObjectType::Tag, body.as_bytes()).unwrap();
        if kind == "commit" {
            assert_eq!(peel(&made.repository, &odb, tag).unwrap(), Some(base));
        }
    }
    assert!(peel(&made.repository, &odb, tag).is_err());
}

#[test]
fn commit_is_reachable_past_unreadable_branches() {
    let made = TestRepository::new();
    let base = made.valid_commit(&[], 0);
    let bad = made.raw_commit(&[base], NO_COMMITTER);
    let (tip, main) = (made.commit_chain(bad, 3), made.commit_chain(base, 5));
    assert!(made.is_reachable(&[tip, main], base));
    assert!(!made.is_reachable(&[tip], base));
    assert!(made.is_reachable(&[tip], bad));
}

#[test]
fn a_long_walk_can_be_stopped() {
    let made = TestRepository::new();
    let tip = made.commit_chain(made.valid_commit(&[], 0), 3000);
    let flaws = find_flaws(&made.repository, &[], &[tip], false, &|| false);
    assert!(matches!(flaws, Err(WalkError::Stopped)));
}

#[test]
fn number_of_reported_skipped_refs_is_limited() {
    let mut skipped = Vec::new();
    for n in 0..10_000 {
        push_skipped(&mut skipped, n.to_string());
    }
    assert_eq!(skipped.len(), MAX_SKIPPED_SHOWN + 1);
    assert_eq!(skipped.last().unwrap(), "more like these");
}
