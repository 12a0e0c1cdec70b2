//! Mirrors that are damaged, and repositories that nothing can be deployed from.

use super::remote::{Damage, mirror_inode, mirror_path};
use super::*;

#[test]
fn damaged_pack_of_the_wanted_commit_is_fetched_again() {
    let overwrite = |pack: &Path| {
        use std::os::unix::fs::FileExt;
        let file = std::fs::OpenOptions::new().write(true).open(pack).unwrap();
        for at in (12..file.metadata().unwrap().len()).step_by(60) {
            file.write_all_at(b"damage", at).unwrap();
        }
    };
    let truncate = |pack: &Path| {
        let file = std::fs::OpenOptions::new().write(true).open(pack).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    };
    let remove = |pack: &Path| std::fs::remove_file(pack).unwrap();
    for ruin in [overwrite as Damage, truncate, remove] {
        let bench = Bench::new();
        let wanted = bench.commit(&[("a", "1")]);
        let _tip = bench.commit(&[("a", "2")]);
        // Fetched, and not built.
        run_pass(
            &bench.spec(&wanted, "steps: [{run: 'false'}]\n"),
            &bench.host(),
        )
        .unwrap_err();
        let packs = mirror_path(&bench).join("objects/pack");
        let names = list_names(&packs);
        let pack = packs.join(names.iter().find(|name| name.ends_with(".pack")).unwrap());
        let writable = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&pack, writable).unwrap();
        ruin(&pack);
        std::fs::remove_dir_all(bench.app_path("releases")).unwrap();
        deploy_ok(&bench.spec(&wanted, ""), &bench.host());
        assert_eq!(bench.read("current/a"), "1");
        // Nothing is blamed on a mirror that is whole.
        let before = mirror_inode(&bench);
        let unknown = Sha::parse(&"4f2c9d0e".repeat(5)).unwrap();
        let failure = run_pass(&bench.spec(&unknown, ""), &bench.host()).unwrap_err();
        assert!(failure.message.contains("is on no branch"), "{failure}");
        assert_eq!(mirror_inode(&bench), before);
    }
}

#[test]
fn empty_repository_is_reported_as_empty() {
    let bench = Bench::new();
    let unknown = Sha::parse(&"4f2c9d0e".repeat(5)).unwrap();
    let failure = run_pass(&bench.spec(&unknown, ""), &bench.host()).unwrap_err();
    assert!(failure.message.ends_with("is it empty?"), "{failure}");
    assert!(failure.hint.unwrap().contains(unknown.as_str()));
}

#[test]
fn repository_with_sha_256_objects_is_refused_as_not_supported() {
    let bench = Bench::new();
    let repo = bench.dir.path().join("sha256.git");
    let mut init = std::process::Command::new("git");
    init.args(["init", "-q", "--bare", "--object-format=sha256"]);
    if !init
        .arg(&repo)
        .status()
        .is_ok_and(|status| status.success())
    {
        crate::ports::testing::skip_test("a sha-256 repository", "this git makes none");
        return;
    }
    let text = format!("app: shop\nrepo: {}\n", repo.display());
    let spec = spec(&text, &Sha::parse(&"4f2c9d0e".repeat(5)).unwrap());
    // libgit2 reads what only root can write to; a program of git's reads the rest, and any server is one.
    for owner in [0, DEPLOY_UID] {
        if is_root() {
            std::os::unix::fs::chown(&repo, Some(owner), None).unwrap();
        }
        let failure = run_pass(&spec, &bench.host()).unwrap_err();
        let message = format!("not supported: {} has sha-256 objects", repo.display());
        assert!(failure.message.starts_with(&message), "{failure}");
        assert!(failure.hint.unwrap().contains("sha-1"));
    }
}
