//! An app in a folder of its repository.

use super::shared_outputs::{as_user, outputs, runs};
use super::*;
use crate::resource::FieldValue;

const SHOP: &str =
    "subdir: services/shop\nalso: [packages/common, package.json]\nlinked_dirs: [log, tmp/cache]\n";

/// A commit of a monorepo with these texts in a file of the shop, of the common package and of another app.
fn commit(bench: &Bench, shop: &str, common: &str, other: &str) -> Sha {
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
fn in_release(bench: &Bench, path: &str) -> PathBuf {
    let name = bench.active_name().unwrap();
    let name = name.split('/').next().unwrap();
    bench.app_path("releases").join(name).join(path)
}

fn kept_for(outcome: Result<Option<ApplyOutcome>, Failure>) -> Change {
    match outcome {
        Ok(Some(ApplyOutcome::DoneAs(change))) => change,
        other => panic!("{other:?}"),
    }
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
fn sha_that_changes_nothing_in_the_folder_is_not_deployed() {
    let bench = Bench::new();
    let spec = |sha: &Sha| {
        bench.spec(
            sha,
            &format!("{SHOP}steps: [{{run: 'echo >> $SHARED_PATH/ran'}}]\n"),
        )
    };
    let (one, other) = (commit(&bench, "1", "1", "1"), commit(&bench, "1", "1", "2"));
    let (shop, common) = (commit(&bench, "2", "1", "2"), commit(&bench, "2", "2", "2"));
    deploy_ok(&spec(&one), &bench.host());
    let first = bench.active_name();

    let planned = plan(&spec(&other), &bench.host()).unwrap();
    assert_eq!(
        planned.verb,
        Verb::Keep,
        "the mirror has the commit already"
    );
    let change = kept_for(run_pass(&spec(&other), &bench.host()));
    assert_eq!(change.verb, Verb::Keep);
    let sha = &change.fields[0];
    assert_eq!(sha.from, FieldValue::value(&one));
    assert_eq!(sha.to, FieldValue::value(&other));
    assert_eq!(bench.active_name(), first);
    assert_eq!((runs(&bench), bench.releases().len()), (1, 1));
    assert_eq!(bench.read("current/REVISION"), format!("{one}\n"));
    // It stands for both.
    for sha in [&other, &one] {
        assert_eq!(run_pass(&spec(sha), &bench.host()), Ok(None));
        let condition = condition(&spec(sha), &bench.host()).unwrap();
        assert_eq!(condition.sha, Some(sha.to_string()));
    }
    let log = bench.read("revisions.log");
    let line = format!("(at {other}) changes nothing in services/shop");
    assert!(log.contains(&line), "{log}");

    deploy_ok(&spec(&shop), &bench.host());
    deploy_ok(&spec(&common), &bench.host());
    assert_eq!((runs(&bench), bench.releases().len()), (3, 3));
    // What was equal then is so now.
    deploy_ok(&spec(&other), &bench.host());
    assert_eq!((runs(&bench), bench.active_name()), (3, first));
}

#[test]
fn sha_that_changes_nothing_is_deployed_if_something_else_requires_it() {
    let bench = Bench::new();
    let spec = |sha: &Sha, more: &str| bench.spec(sha, &format!("subdir: services/shop\n{more}"));
    let mut other = 0;
    let mut next = || {
        other += 1;
        commit(&bench, "1", "1", &other.to_string())
    };
    deploy_ok(&spec(&next(), ""), &bench.host());
    // Attributes above it apply to its files.
    let attributes = bench.commit(&[
        (".gitattributes", "page export-ignore\n"),
        ("services/shop/page", "1"),
        ("services/shop/secret", "s"),
        ("services/shop/Gemfile", "rails"),
    ]);
    deploy_ok(&spec(&attributes, ""), &bench.host());
    deploy_ok(&spec(&next(), ""), &bench.host());
    // Another description.
    deploy_ok(&spec(&next(), "steps: [{run: 'true'}]\n"), &bench.host());
    deploy_ok(&spec(&next(), "also: [package.json]\n"), &bench.host());
    // A fresh build was asked for.
    let mut fresh = spec(&next(), "also: [package.json]\n");
    fresh.resume_policy = ResumePolicy::FromScratch;
    deploy_ok(&fresh, &bench.host());
    let before = bench.active_name();
    kept_for(run_pass(
        &spec(&next(), "also: [package.json]\n"),
        &bench.host(),
    ));
    assert_eq!(bench.active_name(), before);
}

#[test]
fn shas_of_a_release_that_fails_are_quarantined_together() {
    let bench = Bench::new();
    let spec = |sha: &Sha| bench.spec(sha, SHOP);
    let (one, bad) = (commit(&bench, "1", "1", "1"), commit(&bench, "2", "1", "1"));
    let equal = commit(&bench, "2", "1", "2");
    deploy_ok(&spec(&one), &bench.host());
    let first = bench.active_name();
    deploy_ok(&spec(&bad), &bench.host());
    kept_for(run_pass(&spec(&equal), &bench.host()));
    repeat_trial(&spec(&equal), &bench.host(), None).unwrap();
    restore_previous(&spec(&equal), &bench.host(), &Failure::new("it died")).unwrap();
    assert_eq!(bench.active_name(), first);
    deploy_ok(&spec(&equal), &bench.host());
    for sha in [&bad, &equal] {
        let outcome = run_pass(&spec(sha), &bench.host());
        assert!(
            matches!(outcome, Ok(Some(ApplyOutcome::Refused(_)))),
            "{outcome:?}"
        );
    }
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
    let spec = |sha: &Sha| {
        bench.spec(
            sha,
            &as_user(&format!("{SHOP}{files}").replace("linked_dirs: [log, tmp/cache]\n", "")),
        )
    };
    deploy_ok(&spec(&commit(&bench, "1", "1", "1")), &bench.host());
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
    let _ = run_pass(&spec(&commit(&bench, "1", "1", "1")), &bench.host());
    assert_eq!(snapshot(&outside), before);
    deploy_ok(&spec(&commit(&bench, "2", "1", "1")), &bench.host());
    assert_eq!(snapshot(&outside), before);
    assert_eq!(bench.read("current/page"), "2");
}
