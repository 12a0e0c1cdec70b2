//! Only commits on a branch or tag of the repository, or on a ref that the settings allow, are deployed.

use super::*;

/// A commit that is on this ref only, as a pull request from a fork creates it.
fn commit_on(bench: &Bench, reference: Option<&str>) -> Sha {
    let blob = bench.repo.blob(b"proposed").unwrap();
    let mut tree = bench.repo.treebuilder(None).unwrap();
    tree.insert("a", blob, 0o100_644).unwrap();
    let sha = bench.commit_tree(tree.write().unwrap(), None);
    if let Some(reference) = reference {
        set_ref(bench, reference, &sha);
    }
    sha
}

fn set_ref(bench: &Bench, reference: &str, sha: &Sha) {
    let id = Oid::from_str(sha.as_str()).unwrap();
    bench.repo.reference(reference, id, true, "t").unwrap();
}

fn refused_deploy(spec: &ReleaseSpec, bench: &Bench) -> Failure {
    let failure = run_pass(spec, &bench.host()).unwrap_err();
    assert!(failure.hint.is_some(), "{failure}");
    failure
}

const PULL_REF: &str = "refs/pull/7/head";

#[test]
fn sha_on_no_branch_or_tag_is_never_deployed() {
    let bench = Bench::new();
    let reviewed = bench.commit(&[("a", "1")]);
    let proposed = commit_on(&bench, Some(PULL_REF));
    deploy_ok(&bench.spec(&reviewed, ""), &bench.host());
    // As large servers do: they serve any commit by its sha.
    let mut config = bench.repo.config().unwrap();
    config
        .set_bool("uploadpack.allowAnySHA1InWant", true)
        .unwrap();
    for _ in 0..2 {
        let failure = refused_deploy(&bench.spec(&proposed, ""), &bench);
        assert_eq!(
            failure.message,
            format!(
                "{proposed} is on no branch and no tag of {}",
                bench.repo.path().display()
            )
        );
        assert_eq!(bench.read("current/a"), "1");
        assert_eq!(bench.releases().len(), 1);
    }
    // Once merged, it is like any other commit.
    set_ref(&bench, "refs/heads/master", &proposed);
    deploy_ok(&bench.spec(&proposed, ""), &bench.host());
}

#[test]
fn cached_sha_is_checked_against_the_server_again() {
    let bench = Bench::new();
    let first = bench.commit(&[("a", "1")]);
    let taken_back = commit_on(&bench, Some("refs/heads/topic"));
    deploy_ok(&bench.spec(&first, ""), &bench.host());
    bench
        .repo
        .find_reference("refs/heads/topic")
        .unwrap()
        .delete()
        .unwrap();
    let failure = refused_deploy(&bench.spec(&taken_back, ""), &bench);
    assert!(
        failure.message.contains("on no branch and no tag"),
        "{failure}"
    );
    assert_eq!(bench.read("current/a"), "1");
}

#[test]
fn allow_refs_adds_refs_and_restricts_when_it_names_branches() {
    let bench = Bench::new();
    let main = bench.commit(&[("a", "1")]);
    let proposed = commit_on(&bench, Some(PULL_REF));
    let pulls = "allow_refs: [\"refs/pull/*/head\"]\n";
    deploy_ok(&bench.spec(&proposed, pulls), &bench.host());
    deploy_ok(&bench.spec(&main, pulls), &bench.host());
    let next = bench.commit(&[("a", "2")]);
    let only = "allow_refs: [\"refs/heads/release/*\"]\n";
    let failure = refused_deploy(&bench.spec(&next, only), &bench);
    assert!(
        failure.message.contains("refs/heads/release/*"),
        "{failure}"
    );
    set_ref(&bench, "refs/heads/release/7", &next);
    deploy_ok(&bench.spec(&next, only), &bench.host());
}

#[test]
fn rollback_to_a_proven_release_works_after_a_force_push() {
    let bench = Bench::new();
    let first = bench.commit(&[("a", "1")]);
    let proven = bench.commit(&[("a", "2")]);
    deploy_ok(&bench.spec(&proven, ""), &bench.host());
    deploy_ok(&bench.spec(&first, ""), &bench.host());
    set_ref(&bench, "refs/heads/master", &first);
    deploy_ok(&bench.spec(&proven, ""), &bench.host());
    assert_eq!(bench.read("current/a"), "2");
    // Also as a new release of it.
    let mut fresh = bench.spec(&proven, "");
    fresh.resume_policy = ResumePolicy::FromScratch;
    build_ahead(&fresh, &proven, &bench.host()).unwrap();
}

#[test]
fn release_built_for_other_refs_is_checked_before_activation() {
    let bench = Bench::new();
    let first = bench.commit(&[("a", "1")]);
    deploy_ok(&bench.spec(&first, ""), &bench.host());
    let proposed = commit_on(&bench, Some(PULL_REF));
    let pulls = "allow_refs: [\"refs/pull/*/head\"]\n";
    build_ahead(&bench.spec(&proposed, pulls), &proposed, &bench.host()).unwrap();
    let failure = refused_deploy(&bench.spec(&proposed, ""), &bench);
    assert!(
        failure.message.contains("on no branch and no tag"),
        "{failure}"
    );
    assert_eq!(bench.read("current/a"), "1");
    deploy_ok(&bench.spec(&proposed, pulls), &bench.host());
}

#[test]
fn build_ahead_and_private_builds_check_allowed_refs() {
    let bench = Bench::new();
    let first = bench.commit(&[("a", "1")]);
    let proposed = commit_on(&bench, Some(PULL_REF));
    let (spec, host) = (bench.spec(&first, ""), bench.host());
    let private = PrivateBuild {
        until: host.clock.now(),
        by: None,
        reference: None,
    };
    for failure in [
        build_ahead(&spec, &proposed, &host).unwrap_err(),
        build_private(&spec, &proposed, &host, private).unwrap_err(),
    ] {
        assert!(
            failure.message.contains("on no branch and no tag"),
            "{failure}"
        );
    }
    let failure = resolve_ref(&spec, &host, "pull/7/head").unwrap_err();
    assert!(
        failure.message.contains("no branch and no tag"),
        "{failure}"
    );
    let pulls = bench.spec(&first, "allow_refs: [\"refs/pull/*/head\"]\n");
    assert_eq!(resolve_ref(&pulls, &host, "pull/7/head").unwrap(), proposed);
    assert_eq!(bench.releases(), [""; 0]);
}
