//! Repositories with hostile content.

use super::*;

fn raw_tree(bench: &Bench, entries: &[(&str, &str, Oid)]) -> Oid {
    let mut body = Vec::new();
    for (mode, name, id) in entries {
        body.extend_from_slice(format!("{mode} {name}\0").as_bytes());
        body.extend_from_slice(id.as_bytes());
    }
    let odb = bench.repo.odb().unwrap();
    odb.write(git2::ObjectType::Tree, &body).unwrap()
}

/// Runs a pass for a commit with a malformed tree, on a branch of the bench's repository.
fn deploy_tree(bench: &Bench, tree: Oid) -> Result<Option<ApplyOutcome>, Failure> {
    let body = format!(
        "tree {tree}\nauthor t <t@e> 1800000000 +0000\ncommitter t <t@e> 1800000000 +0000\n\nx\n"
    );
    let odb = bench.repo.odb().unwrap();
    let id = odb
        .write(git2::ObjectType::Commit, body.as_bytes())
        .unwrap();
    bench
        .repo
        .reference("refs/heads/evil", id, true, "t")
        .unwrap();
    let sha = Sha::parse(&id.to_string()).unwrap();
    run_pass(&bench.spec(&sha, ""), &bench.host())
}

#[test]
fn malicious_trees_write_nothing_outside_their_release() {
    let bench = Bench::new();
    let outside = bench.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let evil = bench.repo.blob(b"evil").unwrap();
    let to_outside = bench
        .repo
        .blob(outside.display().to_string().as_bytes())
        .unwrap();
    let inner = raw_tree(&bench, &[("100644", "hook", evil)]);
    let trees = [
        raw_tree(&bench, &[("40000", "..", inner)]),
        raw_tree(&bench, &[("40000", ".git", inner)]),
        raw_tree(&bench, &[("40000", ".GIT", inner)]),
        raw_tree(&bench, &[("100644", "../escaped", evil)]),
        raw_tree(&bench, &[("100644", "/tmp/escaped", evil)]),
        raw_tree(
            &bench,
            &[("120000", "a", to_outside), ("40000", "a", inner)],
        ),
        raw_tree(
            &bench,
            &[("40000", "a", inner), ("120000", "a", to_outside)],
        ),
    ];
    for tree in trees {
        // Whether it is refused or checked out harmlessly, nothing escapes.
        let outcome = deploy_tree(&bench, tree);
        assert_eq!(list_names(&outside), [""; 0], "{outcome:?}");
        assert!(!bench.app_path("releases/escaped").exists() && !bench.app_path("hook").exists());
        assert!(!bench.app_path("releases/hook").exists(), "{outcome:?}");
        let leftovers = bench.releases().iter().any(|name| name.starts_with('.'));
        assert!(!leftovers, "{:?}", bench.releases());
    }
}

#[test]
fn malformed_tree_is_refused_with_path_and_reason() {
    let bench = Bench::new();
    let blob = bench.repo.blob(b"x").unwrap();
    let inner = raw_tree(&bench, &[("100644", "hook", blob)]);
    let long = "n".repeat(256);
    let mut bomb = raw_tree(&bench, &[("100644", "x", blob)]);
    for _ in 0..10 {
        let ten: Vec<String> = (0..10).map(|n| n.to_string()).collect();
        let ten: Vec<_> = ten.iter().map(|n| ("40000", n.as_str(), bomb)).collect();
        bomb = raw_tree(&bench, &ten);
    }
    let trees = [
        (
            raw_tree(&bench, &[("40000", "..", inner)]),
            "`..`: it leaves its folder",
        ),
        (
            raw_tree(&bench, &[("40000", ".GIT", inner)]),
            "`.GIT`: `.git` is git's own",
        ),
        (
            raw_tree(&bench, &[("100644", "a/b", blob)]),
            "`a/b`: a name contains a slash",
        ),
        (
            raw_tree(&bench, &[("100644", &long, blob)]),
            "longer than 255 bytes",
        ),
        (
            raw_tree(&bench, &[("120000", "a", blob), ("40000", "a", inner)]),
            "`a`: it exists twice",
        ),
        (bomb, "contains more files than fit"),
    ];
    for (tree, why) in trees {
        let failure = deploy_tree(&bench, tree).unwrap_err();
        assert!(failure.message.contains(why), "{failure}");
        assert!(failure.hint.is_some(), "{failure}");
        assert_eq!(bench.releases(), [""; 0]);
    }
}

#[test]
fn linked_dir_below_a_repository_symlink_is_refused() {
    let bench = Bench::new();
    let outside = bench.dir.path().join("outside");
    std::fs::create_dir_all(outside.join("log")).unwrap();
    std::fs::write(outside.join("log/kept"), "x").unwrap();
    let target = outside.display().to_string();
    let sha = bench.commit_modes(&[("tmp", &target, 0o120_000), ("a", "1", 0o100_644)]);
    let failure =
        run_pass(&bench.spec(&sha, "linked_dirs: [tmp/log]\n"), &bench.host()).unwrap_err();
    assert!(
        failure
            .message
            .contains("tmp is a symbolic link in the repository"),
        "{failure}"
    );
    assert_eq!(list_names(&outside.join("log")), ["kept"]);
    assert_eq!(bench.releases(), [""; 0]);
}

#[test]
fn repository_symlink_in_place_of_a_linked_dir_is_replaced() {
    let bench = Bench::new();
    let outside = bench.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("kept"), "x").unwrap();
    let target = outside.display().to_string();
    let sha = bench.commit_modes(&[
        ("log", &target, 0o120_000),
        ("REVISION", &target, 0o120_000),
        ("public/assets", &target, 0o120_000),
    ]);
    let spec = bench.spec(&sha, "linked_dirs: [log]\nassets: {run: 'true'}\n");
    deploy_ok(&spec, &bench.host());
    assert_eq!(list_names(&outside), ["kept"]);
    let link = std::fs::read_link(bench.app_path("current/log")).unwrap();
    assert_eq!(link, Path::new("../../shared/log"));
    assert_eq!(bench.read("current/REVISION"), format!("{sha}\n"));
}

#[test]
fn repository_symlinks_leave_owner_and_mode_of_targets_unchanged() {
    if !is_root() {
        return;
    }
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let bench = Bench::new();
    let secret = bench.dir.path().join("secret");
    std::fs::write(&secret, "s").unwrap();
    std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
    let sha = bench.commit_modes(&[("s", &secret.display().to_string(), 0o120_000)]);
    deploy_ok(&bench.spec(&sha, "user: deploy\n"), &bench.host());
    let meta = std::fs::metadata(&secret).unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o777), (0, 0o600));
}

#[test]
fn deploy_folder_writable_by_the_app_user_is_secured_or_refused() {
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    std::fs::create_dir_all(bench.app_path("releases")).unwrap();
    let above = bench.host_path("srv/www");
    std::os::unix::fs::chown(&above, Some(DEPLOY_UID), Some(DEPLOY_UID)).unwrap();
    let spec = bench.spec(&sha, "user: deploy\n");
    let failure = run_pass(&spec, &bench.host()).unwrap_err();
    assert!(
        failure
            .message
            .contains("users other than root could replace"),
        "{failure}"
    );
    assert!(
        failure
            .hint
            .unwrap()
            .starts_with("`chown root:root /srv/www && chmod 755 /srv/www`")
    );

    std::os::unix::fs::chown(&above, Some(0), Some(0)).unwrap();
    // As Capistrano leaves it.
    for folder in ["", "releases"] {
        std::os::unix::fs::chown(bench.app_path(folder), Some(DEPLOY_UID), Some(DEPLOY_UID))
            .unwrap();
    }
    deploy_ok(&spec, &bench.host());
    use std::os::unix::fs::MetadataExt;
    for folder in ["", "releases"] {
        assert_eq!(std::fs::metadata(bench.app_path(folder)).unwrap().uid(), 0);
    }
}

#[test]
fn symlinks_in_place_of_deploy_folders_are_refused() {
    if !is_root() {
        return;
    }
    for planted in ["shared", "releases"] {
        let bench = Bench::new();
        let sha = bench.commit(&[("a", "1")]);
        let outside = bench.dir.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::create_dir_all(bench.app_path("")).unwrap();
        std::os::unix::fs::chown(bench.app_path(""), Some(DEPLOY_UID), Some(DEPLOY_UID)).unwrap();
        std::os::unix::fs::symlink(&outside, bench.app_path(planted)).unwrap();
        std::os::unix::fs::lchown(bench.app_path(planted), Some(DEPLOY_UID), Some(DEPLOY_UID))
            .unwrap();
        let spec = bench.spec(&sha, "user: deploy\nlinked_dirs: [log]\n");
        let refused = run_pass(&spec, &bench.host()).unwrap_err();
        assert!(refused.message.contains(planted), "{refused}");
        assert_eq!(list_names(&outside), [""; 0], "{planted}");
        assert_eq!(bench.active_name(), None);
    }
}

#[test]
fn forged_revision_file_is_not_trusted() {
    let bench = Bench::new();
    let (one, two) = (bench.commit(&[("a", "1")]), bench.commit(&[("a", "2")]));
    deploy_ok(&bench.spec(&one, ""), &bench.host());
    std::fs::write(bench.app_path("current/REVISION"), format!("{two}\n")).unwrap();
    deploy_ok(&bench.spec(&two, ""), &bench.host());
    assert_eq!(bench.read("current/a"), "2");
}
