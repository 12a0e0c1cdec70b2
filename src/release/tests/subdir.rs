//! An app in a folder of its repository.

use super::shared_outputs::{as_user, outputs, runs};
use super::*;

pub(super) const SHOP: &str =
    "subdir: services/shop\nalso: [packages/common, package.json]\nlinked_dirs: [log, tmp/cache]\n";

/// A commit of a monorepo with these texts in a file of the shop, of the common package and of another app.
pub(super) fn commit(bench: &Bench, shop: &str, common: &str, other: &str) -> Sha {
    bench.commit(&[
        (".gitattributes", "secret export-ignore\n"),
        ("package.json", "{}"),
        ("packages/common/index.js", common),
        ("packages/other/index.js", other),
        ("services/cart/page", other),
        ("services/shop/page", shop),
        ("services/shop/secret", "s"),
        ("services/shop/Gemfile", "rails"),
    ])
}

/// The path from the top of the active release.
pub(super) fn in_release(bench: &Bench, path: &str) -> PathBuf {
    let name = bench.active_name().unwrap();
    let name = name.split('/').next().unwrap();
    bench.app_path("releases").join(name).join(path)
}

#[test]
fn only_the_folder_of_the_app_and_what_it_needs_is_checked_out() {
    let bench = Bench::new();
    let sha = commit(&bench, "1", "1", "1");
    let more = "steps: [{run: 'cat page ../../packages/common/index.js > built; echo $RELEASE_PATH >> $SHARED_PATH/ran'}]\nassets: {run: 'echo x > public/assets/app.js'}\nfiles: [{path: config/env, content: A=1}]\n";
    let spec = bench.spec(&sha, &as_user(&format!("{SHOP}{more}")));
    deploy_ok(&spec, &bench.host());
    assert_eq!(bench.read("current/built"), "11");
    assert_eq!(bench.read("current/REVISION"), format!("{sha}\n"));
    assert!(bench.app_path("current/config/env").exists());
    for path in [
        "package.json",
        "packages/common/index.js",
        "services/shop/page",
        ".gitattributes",
        "REVISION",
    ] {
        assert!(in_release(&bench, path).exists(), "{path}");
    }
    for path in ["packages/other", "services/cart", "services/shop/secret"] {
        assert!(!in_release(&bench, path).exists(), "{path}");
    }
    let folder = in_release(&bench, "services/shop");
    assert_eq!(bench.read("shared/ran"), format!("{}\n", folder.display()));
    for link in ["log", "tmp/cache", "public/assets/app.js"] {
        let link = bench.app_path("current").join(link);
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        let end = link.canonicalize().unwrap();
        assert!(end.starts_with(bench.app_path("shared").canonicalize().unwrap()));
    }
    assert_eq!(run_pass(&spec, &bench.host()), Ok(None));
    // The links of the active release are kept there.
    std::fs::remove_file(bench.app_path("current/log")).unwrap();
    deploy_ok(&spec, &bench.host());
    assert!(bench.app_path("current/log").exists());
}

#[test]
fn rollback_finds_the_app_where_it_was_in_that_release() {
    let bench = Bench::new();
    let files = "linked_dirs: [log]\nfiles: [{path: env, content: A=1}]\nassets: {run: 'echo x > public/assets/app.js'}\n";
    let top = bench.spec(&bench.commit(&[("page", "top")]), files);
    let moved = commit(&bench, "moved", "1", "1");
    let moved = bench.spec(&moved, &format!("subdir: services/shop\n{files}"));
    let again = commit(&bench, "again", "1", "1");
    let again = bench.spec(&again, "subdir: services\nlinked_dirs: [log]\n");
    for (spec, page) in [
        (&top, "current/page"),
        (&moved, "current/page"),
        (&again, "current/shop/page"),
    ] {
        deploy_ok(spec, &bench.host());
        assert!(bench.app_path(page).exists());
        assert_eq!(run_pass(spec, &bench.host()), Ok(None));
    }
    // Described as the last one, each of them.
    for (back, page) in [(&moved, "moved"), (&top, "top"), (&moved, "moved")] {
        let sha = back.wanted.as_ref().unwrap();
        let spec = bench.spec(
            sha,
            "subdir: services\nlinked_dirs: [log]\nfiles: [{path: env, content: A=2}]\n",
        );
        deploy_ok(&spec, &bench.host());
        assert_eq!(bench.read("current/page"), page);
        assert!(bench.app_path("current/env").exists());
        assert!(bench.app_path("current/log").exists());
        assert_eq!(run_pass(&spec, &bench.host()), Ok(None));
    }
    assert_eq!(bench.releases().len(), 3, "nothing was built for that");
}

#[test]
fn inputs_of_steps_begin_in_the_folder_or_at_the_top() {
    let bench = Bench::new();
    let steps = "steps:\n  - {name: gems, run: 'mkdir -p gems; echo gems >> $SHARED_PATH/gems', when_changed: [Gemfile], outputs: [gems]}\n  - {name: install, run: 'mkdir -p modules; echo install >> $SHARED_PATH/ran', outputs: {path: modules, by: [Gemfile, /package.json]}}\n";
    let spec = |sha: &Sha| bench.spec(sha, &format!("{SHOP}{steps}"));
    deploy_ok(&spec(&commit(&bench, "1", "1", "1")), &bench.host());
    deploy_ok(&spec(&commit(&bench, "2", "1", "1")), &bench.host());
    assert_eq!(bench.read("shared/gems"), "gems\n");
    assert_eq!((runs(&bench), outputs(&bench).len()), (1, 1));
    let link = std::fs::read_link(bench.app_path("current/modules")).unwrap();
    assert!(link.starts_with("../../../../outputs/install"), "{link:?}");
    assert!(bench.app_path("current/modules").is_dir());
    let package = bench.commit(&[
        ("package.json", "{\"a\": 1}"),
        ("packages/common/index.js", "1"),
        ("services/shop/page", "2"),
        ("services/shop/Gemfile", "rails"),
    ]);
    deploy_ok(&spec(&package), &bench.host());
    assert_eq!(bench.read("shared/gems"), "gems\n");
    assert_eq!((runs(&bench), outputs(&bench).len()), (2, 2));
}

#[test]
fn commit_without_the_folder_is_refused_and_nothing_is_lost() {
    let bench = Bench::new();
    let one = commit(&bench, "1", "1", "1");
    deploy_ok(&bench.spec(&one, SHOP), &bench.host());
    let folder = bench.commit_modes(&[
        ("services/shop", "../cart", 0o120_000),
        ("package.json", "{}", 0o100_644),
        ("packages/common/x", "x", 0o100_644),
    ]);
    let also = bench.commit(&[("services/shop/page", "3"), ("package.json", "{}")]);
    for (sha, expected) in [
        (&folder, "there is no folder `services/shop` in the commit"),
        (
            &also,
            "there is no folder or file `packages/common` in the commit",
        ),
    ] {
        let failure = run_pass(&bench.spec(sha, SHOP), &bench.host()).unwrap_err();
        assert!(failure.message.contains(expected), "{failure}");
        assert_eq!(bench.read("current/page"), "1");
        assert_eq!(bench.releases().len(), 1);
    }
}

#[test]
fn link_in_place_of_a_folder_above_the_app_is_not_followed() {
    let bench = Bench::new();
    let files = "linked_dirs: [log]\nfiles: [{path: env, content: A=1}]\n";
    let spec = |sha: &Sha| bench.spec(sha, &as_user(&format!("subdir: services/shop\n{files}")));
    let sha = commit(&bench, "1", "1", "1");
    deploy_ok(&spec(&sha), &bench.host());
    let outside = bench.dir.path().join("outside");
    std::fs::create_dir_all(outside.join("shop")).unwrap();
    let services = in_release(&bench, "services");
    std::fs::rename(&services, in_release(&bench, "moved")).unwrap();
    std::os::unix::fs::symlink(&outside, &services).unwrap();
    if is_root() {
        std::os::unix::fs::lchown(&services, Some(DEPLOY_UID), Some(DEPLOY_UID)).unwrap();
        std::os::unix::fs::lchown(&outside, Some(DEPLOY_UID), Some(DEPLOY_UID)).unwrap();
    }
    let before = snapshot(&outside);
    let failure = run_pass(&spec(&sha), &bench.host()).unwrap_err();
    assert!(failure.message.contains("services"), "{failure}");
    assert_eq!(snapshot(&outside), before);
    deploy_ok(&spec(&commit(&bench, "2", "1", "1")), &bench.host());
    assert_eq!(snapshot(&outside), before);
    assert_eq!(bench.read("current/page"), "2");
}

#[test]
fn folder_of_root_above_the_app_is_not_entered() {
    use std::os::unix::fs::{PermissionsExt, chown};
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    let spec = |sha: &Sha| bench.spec(sha, &as_user("subdir: services/shop\nlinked_dirs: [log]\n"));
    let sha = commit(&bench, "1", "1", "1");
    deploy_ok(&spec(&sha), &bench.host());
    std::fs::rename(in_release(&bench, "services"), in_release(&bench, "moved")).unwrap();
    let closed = in_release(&bench, "services");
    std::fs::create_dir_all(closed.join("shop")).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
    chown(closed.join("shop"), Some(0), Some(0)).unwrap();
    let before = snapshot(&closed);
    run_pass(&spec(&sha), &bench.host()).unwrap_err();
    assert_eq!(snapshot(&closed), before);
}

#[test]
fn step_of_root_does_not_run_where_the_app_user_leads_it() {
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    let outside = bench.dir.path().join("outside");
    std::fs::create_dir_all(&outside).unwrap();
    let steps = format!(
        "steps: [{{run: 'mv ../shop ../moved; ln -s {} ../shop'}}, {{user: root, run: 'touch here'}}]\n",
        outside.display()
    );
    let sha = commit(&bench, "1", "1", "1");
    let spec = bench.spec(&sha, &as_user(&format!("subdir: services/shop\n{steps}")));
    run_pass(&spec, &bench.host()).unwrap_err();
    assert_eq!(list_names(&outside), [""; 0]);
    // In a folder that is the app's own it runs.
    let own = "steps: [{user: root, run: 'cat page > shown'}]\n";
    let spec = bench.spec(&sha, &as_user(&format!("subdir: services/shop\n{own}")));
    deploy_ok(&spec, &bench.host());
    assert_eq!(bench.read("current/shown"), "1");
}

#[test]
fn step_is_not_skipped_for_the_files_of_another_folder() {
    let bench = Bench::new();
    let steps = "steps: [{run: 'mkdir -p gems; cp Gemfile gems/of', when_changed: [Gemfile], outputs: [gems]}]\nmigrate: {run: 'cat Gemfile >> $SHARED_PATH/migrated', when_changed: [Gemfile]}\n";
    let commit = |page: &str| {
        bench.commit(&[
            ("a/Gemfile", "of a"),
            ("b/Gemfile", "of b"),
            ("b/page", page),
        ])
    };
    deploy_ok(
        &bench.spec(&commit("1"), &format!("subdir: a\n{steps}")),
        &bench.host(),
    );
    deploy_ok(
        &bench.spec(&commit("2"), &format!("subdir: b\n{steps}")),
        &bench.host(),
    );
    assert_eq!(bench.read("current/gems/of"), "of b");
    assert_eq!(bench.read("shared/migrated"), "of aof b");
}

#[test]
fn lost_record_does_not_lose_the_folder_of_the_app() {
    let bench = Bench::new();
    let (one, two) = (commit(&bench, "1", "1", "1"), commit(&bench, "2", "1", "1"));
    let spec = |sha: &Sha| {
        bench.spec(
            sha,
            "subdir: services/shop\nlinked_dirs: [log]\nfiles: [{path: env, content: A=1}]\n",
        )
    };
    deploy_ok(&spec(&one), &bench.host());
    let first = bench.active_name();
    deploy_ok(&spec(&two), &bench.host());
    std::fs::remove_file(bench.host_path("var/lib/trueup/releases/shop.json")).unwrap();
    assert_eq!(plan(&spec(&two), &bench.host()), None);
    std::fs::remove_file(bench.app_path("current/env")).unwrap();
    deploy_ok(&spec(&two), &bench.host());
    assert!(bench.app_path("current/env").exists() && !in_release(&bench, "env").exists());
    deploy_ok(&spec(&one), &bench.host());
    assert_eq!(
        (bench.active_name(), bench.read("current/page")),
        (first, "1".into())
    );
}

#[test]
fn folder_that_attributes_leave_out_is_a_clear_error() {
    let bench = Bench::new();
    let sha = bench.commit(&[
        (".gitattributes", "services export-ignore\n"),
        ("services/shop/page", "1"),
    ]);
    let failure =
        run_pass(&bench.spec(&sha, "subdir: services/shop\n"), &bench.host()).unwrap_err();
    assert!(
        failure
            .message
            .contains("nothing of `services/shop` is left"),
        "{failure}"
    );
    assert!(failure.hint.as_ref().unwrap().contains("export-ignore"));
}

#[test]
fn inputs_that_are_not_checked_out_are_refused() {
    let bench = Bench::new();
    let sha = commit(&bench, "1", "1", "1");
    for (steps, field) in [
        (
            "{run: x, when_changed: [/Gemfile.lock]}",
            "steps[0].when_changed",
        ),
        (
            "{run: x, outputs: {path: y, by: [/package*.json]}}",
            "steps[0].outputs.by",
        ),
    ] {
        let spec = bench.spec(&sha, &format!("{SHOP}steps: [{steps}]\n"));
        let problem = spec.validate().unwrap_err().to_string();
        assert!(
            problem.contains(field) && problem.contains("not checked out"),
            "{problem}"
        );
    }
    let known = "steps: [{run: x, outputs: {path: y, by: [Gemfile, /package.json, '/packages/common/*.json']}}]\n";
    bench
        .spec(&sha, &format!("{SHOP}{known}"))
        .validate()
        .unwrap();
}
