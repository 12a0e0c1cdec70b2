//! Malformed commits on branches of a repository that a real git serves.

use std::process::Command;

use super::*;

/// A repository that `git` serves as its owner; `None`, with a message, if that is not possible.
fn owned_bench() -> Option<Bench> {
    if !is_root() || Command::new("git").arg("version").output().is_err() {
        crate::ports::testing::skip_test("a repository of another user", "needs root and git");
        return None;
    }
    Some(Bench::new())
}

const USER: &str = "user: deploy\n";

fn deploy_as_owner(bench: &Bench, sha: &Sha, more: &str) {
    let mut chown = Command::new("chown");
    let chown = chown.arg("-R").arg(format!("{DEPLOY_UID}:{DEPLOY_UID}"));
    assert!(chown.arg(bench.repo.path()).status().unwrap().success());
    deploy_ok(&bench.spec(sha, &format!("{USER}{more}")), &bench.host());
}

/// A commit after master's with these parents and this text after them.
fn raw_commit(bench: &Bench, parents: &[Oid], rest: &str) -> Oid {
    let master = bench.repo.find_reference("refs/heads/master").unwrap();
    let tree = master.peel_to_tree().unwrap().id();
    let mut body = format!("tree {tree}\n");
    for parent in parents {
        body.push_str(&format!("parent {parent}\n"));
    }
    body.push_str(rest);
    let odb = bench.repo.odb().unwrap();
    odb.write(git2::ObjectType::Commit, body.as_bytes())
        .unwrap()
}

const VALID_HEADERS: &str =
    "author t <t@e> 1800000000 +0000\ncommitter t <t@e> 1800000000 +0000\n\nx\n";
const NO_COMMITTER: &str = "author t <t@e> 1800000000 +0000\n\nx\n";

fn write_ref(bench: &Bench, name: &str, id: Oid) {
    let packed = bench.repo.path().join(name);
    std::fs::create_dir_all(packed.parent().unwrap()).unwrap();
    std::fs::write(packed, format!("{id}\n")).unwrap();
}

fn remove_ref(bench: &Bench, name: &str) {
    std::fs::remove_file(bench.repo.path().join(name)).unwrap();
}

fn id(sha: &Sha) -> Oid {
    Oid::from_str(sha.as_str()).unwrap()
}

/// The inode of the mirror's configuration: it changes if the mirror is created again.
fn mirror_inode(bench: &Bench) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let config = bench.host_path("var/lib/trueup/mirrors/shop.git/config");
    std::fs::metadata(config).unwrap().ino()
}

/// Deploys while `bad` is on a branch that sorts before or after master, after its removal, and again.
fn deploys_despite(bench: &Bench, bad: Oid, more: &str) {
    for name in ["refs/heads/aaa", "refs/heads/zzz", "refs/tags/v0"] {
        deploy_as_owner(bench, &bench.commit(&[("a", name)]), more);
        let first = mirror_inode(bench);
        write_ref(bench, name, bad);
        deploy_as_owner(bench, &bench.commit(&[("a", "there"), ("b", name)]), more);
        deploy_as_owner(
            bench,
            &bench.commit(&[("a", "still there"), ("b", name)]),
            more,
        );
        remove_ref(bench, name);
        deploy_as_owner(bench, &bench.commit(&[("a", "gone"), ("b", name)]), more);
        assert_eq!(
            mirror_inode(bench),
            first,
            "{name}: the mirror is recreated"
        );
    }
}

#[test]
fn malformed_commit_on_another_branch_blocks_no_deployment() {
    let Some(bench) = owned_bench() else { return };
    let base = id(&bench.commit(&[("a", "0")]));
    deploys_despite(&bench, raw_commit(&bench, &[base], NO_COMMITTER), "");
    let only = "allow_refs: [refs/heads/master]\n";
    deploys_despite(
        &bench,
        raw_commit(&bench, &[base], "not even an author\n"),
        only,
    );
}

#[test]
fn malformed_ancestor_on_another_branch_blocks_no_deployment() {
    let Some(bench) = owned_bench() else { return };
    let base = id(&bench.commit(&[("a", "0")]));
    let bad = raw_commit(&bench, &[base], NO_COMMITTER);
    let after = raw_commit(&bench, &[bad], VALID_HEADERS);
    deploys_despite(&bench, raw_commit(&bench, &[after], VALID_HEADERS), "");
}

#[test]
fn commit_with_thousands_of_parents_is_not_traversed() {
    let Some(bench) = owned_bench() else { return };
    let base = id(&bench.commit(&[("a", "0")]));
    let parents: Vec<Oid> = (0..2000)
        .map(|n| raw_commit(&bench, &[base], &format!("{VALID_HEADERS}{n}\n")))
        .collect();
    let wide = raw_commit(&bench, &parents, VALID_HEADERS);
    deploys_despite(&bench, raw_commit(&bench, &[wide], VALID_HEADERS), "");
    // No ref of the mirror points to any of it.
    let mirror = Repository::open_bare(bench.host_path("var/lib/trueup/mirrors/shop.git")).unwrap();
    let refs: Vec<String> = mirror
        .references()
        .unwrap()
        .map(|reference| reference.unwrap().name().unwrap().to_owned())
        .collect();
    assert_eq!(refs, ["refs/heads/master"]);
}

#[test]
fn mirror_containing_a_malformed_commit_repairs_itself() {
    let Some(bench) = owned_bench() else { return };
    let first = bench.commit(&[("a", "0")]);
    deploy_as_owner(&bench, &first, "");
    // As versions before this one left it.
    let mirror = bench.host_path("var/lib/trueup/mirrors/shop.git");
    let repository = Repository::open_bare(&mirror).unwrap();
    let odb = repository.odb().unwrap();
    let bad = bench.repo.odb().unwrap();
    let bad = bad
        .read(raw_commit(&bench, &[id(&first)], NO_COMMITTER))
        .unwrap();
    let bad = odb.write(git2::ObjectType::Commit, bad.data()).unwrap();
    std::fs::write(mirror.join("refs/heads/zzz"), format!("{bad}\n")).unwrap();
    let _ = repository.config().unwrap().remove("trueup.checked");
    deploy_as_owner(&bench, &bench.commit(&[("a", "1")]), "");
    assert!(!mirror.join("refs/heads/zzz").exists());
}

#[test]
fn branch_named_like_a_libgit2_temporary_file_is_kept() {
    let Some(bench) = owned_bench() else { return };
    let sha = bench.commit(&[("a", "0")]);
    write_ref(&bench, "refs/heads/fix_git2_x", id(&sha));
    deploy_as_owner(&bench, &sha, "");
    let next = raw_commit(&bench, &[id(&sha)], VALID_HEADERS);
    write_ref(&bench, "refs/heads/fix_git2_x", next);
    let next = Sha::parse(&next.to_string()).unwrap();
    let (host, spec) = (bench.host(), bench.spec(&next, ""));
    assert_eq!(resolve_ref(&spec, &host, "fix_git2_x").unwrap(), next);
    // Without the server its last answer counts.
    std::fs::rename(bench.repo.path(), bench.dir.path().join("away")).unwrap();
    deploy_ok(&spec, &host);
}

#[test]
fn refs_that_are_not_allowed_are_not_fetched() {
    let Some(bench) = owned_bench() else { return };
    let sha = bench.commit(&[("a", "0")]);
    write_ref(
        &bench,
        "refs/heads/topic",
        raw_commit(&bench, &[id(&sha)], VALID_HEADERS),
    );
    // A server may list a name that no file can have.
    let packed = format!("{sha} refs/heads/{}\n", "n".repeat(300));
    std::fs::write(bench.repo.path().join("packed-refs"), packed).unwrap();
    deploy_as_owner(&bench, &sha, "");
    let mirror = bench.host_path("var/lib/trueup/mirrors/shop.git/refs/heads");
    assert_eq!(list_names(&mirror), ["master", "topic"]);
    let only = "allow_refs: [refs/heads/master]\n";
    deploy_as_owner(&bench, &bench.commit(&[("a", "1")]), only);
    assert_eq!(list_names(&mirror), ["master"]);
}
