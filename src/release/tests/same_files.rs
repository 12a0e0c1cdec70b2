//! Commits that change nothing of an app in a folder of its repository.

use super::shared_outputs::runs;
use super::subdir::{SHOP, commit, in_release};
use super::*;
use crate::resource::FieldValue;

fn kept_for(outcome: Result<Option<ApplyOutcome>, Failure>) -> Change {
    match outcome {
        Ok(Some(ApplyOutcome::DoneAs(change))) => change,
        other => panic!("{other:?}"),
    }
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
fn sha_with_the_files_of_a_quarantined_one_is_quarantined() {
    let bench = Bench::new();
    let spec = |sha: &Sha| bench.spec(sha, "subdir: services/shop\n");
    deploy_ok(&spec(&commit(&bench, "1", "1", "1")), &bench.host());
    let (first, bad) = (bench.active_name(), commit(&bench, "2", "1", "1"));
    deploy_ok(&spec(&bad), &bench.host());
    repeat_trial(&spec(&bad), &bench.host(), None).unwrap();
    restore_previous(&spec(&bad), &bench.host(), &Failure::new("it died")).unwrap();
    let other = commit(&bench, "2", "1", "2");
    for _ in 0..2 {
        match run_pass(&spec(&other), &bench.host()) {
            Ok(Some(ApplyOutcome::Refused(why))) => {
                let same = format!("its files are those of {}: it died", bad.short());
                assert!(why.message.contains(&same), "{why}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(bench.active_name(), first);
    }
    lift_quarantine(&spec(&other), &bench.host(), "ana", "the database is back").unwrap();
    deploy_ok(&spec(&other), &bench.host());
    assert_eq!(bench.read("current/REVISION"), format!("{other}\n"));
    kept_for(run_pass(&spec(&bad), &bench.host()));
    assert_eq!(bench.read("current/page"), "2");
}

#[test]
fn quarantine_does_not_grow_with_commits_that_change_nothing() {
    let bench = Bench::new();
    let spec = |sha: &Sha| bench.spec(sha, "subdir: services/shop\n");
    deploy_ok(&spec(&commit(&bench, "1", "1", "1")), &bench.host());
    let bad = commit(&bench, "2", "1", "1");
    deploy_ok(&spec(&bad), &bench.host());
    repeat_trial(&spec(&bad), &bench.host(), None).unwrap();
    restore_previous(&spec(&bad), &bench.host(), &Failure::new("it died")).unwrap();
    for other in 2..6 {
        let other = spec(&commit(&bench, "2", "1", &other.to_string()));
        let outcome = run_pass(&other, &bench.host());
        assert!(
            matches!(outcome, Ok(Some(ApplyOutcome::Refused(_)))),
            "{outcome:?}"
        );
    }
    let overrides = Overrides::load(&bench.host(), &spec(&bad).layout()).unwrap();
    assert_eq!(overrides.quarantine.len(), 2, "{overrides:?}");
    let lines = overrides.quarantine.iter().map(QuarantinedSha::describe);
    assert!(
        lines
            .clone()
            .all(|line| line.matches("its files").count() <= 1 && line.ends_with("it died"))
    );
}

#[test]
fn rollback_of_an_operator_outlasts_commits_that_change_nothing() {
    let bench = Bench::new();
    let spec = |sha: &Sha| bench.spec(sha, "subdir: services/shop\n");
    let (one, two) = (commit(&bench, "1", "1", "1"), commit(&bench, "2", "1", "1"));
    deploy_ok(&spec(&one), &bench.host());
    let first = bench.active_name();
    deploy_ok(&spec(&two), &bench.host());
    let target = select_target(&spec(&two), &bench.host(), None, false).unwrap();
    pin(&spec(&two), &bench.host(), &target, "ana".into(), None).unwrap();
    deploy_ok(&spec(&two), &bench.host());
    assert_eq!(bench.active_name(), first);
    let other = commit(&bench, "2", "1", "2");
    for _ in 0..2 {
        let outcome = run_pass(&spec(&other), &bench.host());
        let held = matches!(&outcome, Ok(Some(ApplyOutcome::Waiting(why))) if why.contains("ana"));
        assert!(held, "{outcome:?}");
        assert_eq!(bench.active_name(), first);
    }
    // Another one ends it, even if its build fails: it must not apply again when the manifest returns to `other`.
    let three = commit(&bench, "3", "1", "2");
    let fails = bench.spec(&three, "subdir: services/shop\nsteps: [{run: 'false'}]\n");
    run_pass(&fails, &bench.host()).unwrap_err();
    let is_pinned = || {
        let overrides = Overrides::load(&bench.host(), &spec(&one).layout());
        overrides.unwrap().pin.is_some()
    };
    assert!(!is_pinned());
    deploy_ok(&spec(&three), &bench.host());
    assert_eq!(bench.read("current/page"), "3");
}

#[test]
fn active_release_that_is_damaged_does_not_stay() {
    let bench = Bench::new();
    let spec = |sha: &Sha| bench.spec(sha, "subdir: services/shop\n");
    for (n, path) in ["REVISION", "services/shop"].iter().enumerate() {
        deploy_ok(
            &spec(&commit(&bench, &n.to_string(), "1", "1")),
            &bench.host(),
        );
        let path = in_release(&bench, path);
        match path.is_dir() {
            true => std::fs::remove_dir_all(path).unwrap(),
            false => std::fs::remove_file(path).unwrap(),
        }
        let other = commit(&bench, &n.to_string(), "1", "2");
        deploy_ok(&spec(&other), &bench.host());
        assert_eq!(run_pass(&spec(&other), &bench.host()), Ok(None));
    }
}

#[test]
fn what_else_differs_is_repaired_with_a_sha_that_changes_nothing() {
    let bench = Bench::new();
    let spec = |sha: &Sha| {
        bench.spec(
            sha,
            "subdir: services/shop\nlinked_dirs: [log]\nfiles: [{path: env, content: A=1}]\n",
        )
    };
    deploy_ok(&spec(&commit(&bench, "1", "1", "1")), &bench.host());
    std::fs::remove_file(bench.app_path("current/env")).unwrap();
    std::fs::remove_file(bench.app_path("current/log")).unwrap();
    let other = spec(&commit(&bench, "1", "1", "2"));
    let change = kept_for(run_pass(&other, &bench.host()));
    assert!(change.touches("env") && change.touches("log"), "{change:?}");
    assert!(!change.keeps_stamp);
    assert_eq!(plan(&other, &bench.host()), None);
}

#[test]
fn next_sha_that_changes_nothing_is_not_built_ahead() {
    let bench = Bench::new();
    let one = commit(&bench, "1", "1", "1");
    let mut spec = bench.spec(&one, "subdir: services/shop\n");
    deploy_ok(&spec, &bench.host());
    spec.build_ahead = Some(commit(&bench, "1", "1", "2"));
    deploy_ok(&spec, &bench.host());
    assert_eq!(run_pass(&spec, &bench.host()), Ok(None));
    assert_eq!(bench.releases().len(), 1);
}
