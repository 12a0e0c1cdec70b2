//! Outputs that are made once for all releases with the same inputs.

use super::*;
use crate::release::record::entry::StageStatus;
use crate::resource::FieldValue;

/// A step that makes one output where it stays, and moves nothing.
pub(super) const VENV: &str = "\
steps:
  - name: install
    run: |
      echo install >> $SHARED_PATH/ran
      mkdir $OUTPUTS_PATH/.venv
      echo \"$OUTPUTS_PATH $(cat lock)\" > $OUTPUTS_PATH/.venv/made
    outputs: {path: .venv, by: ['lock*', missing]}
";

/// A step that makes its output in the release, as npm does.
pub(super) const MODULES: &str = "\
steps:
  - name: install
    run: |
      echo install >> $SHARED_PATH/ran
      mkdir -p web/node_modules/.bin web/node_modules/left
      cp lock web/node_modules/left/index.js
      ln -s ../left/index.js web/node_modules/.bin/left
    outputs: {path: web/node_modules, by: [lock]}
";

pub(super) fn as_user(text: &str) -> String {
    match nix::unistd::geteuid().is_root() {
        true => format!("user: deploy\n{text}"),
        false => text.to_owned(),
    }
}

pub(super) fn runs(bench: &Bench) -> usize {
    bench.read("shared/ran").lines().count()
}

/// The outputs of the step `install`.
pub(super) fn outputs(bench: &Bench) -> Vec<String> {
    list_names(&bench.app_path("outputs/install"))
}

fn step_result(bench: &Bench) -> (StageStatus, Option<String>) {
    let record = bench.record();
    let entry = record.find(&bench.active_name().unwrap()).unwrap();
    let step = entry.find_stage(Stage::Build, Some("install")).unwrap();
    (step.status, step.why.clone())
}

#[test]
fn output_with_equal_inputs_is_made_once_and_linked_into_each_release() {
    let bench = Bench::new();
    let commit = |lock: &str, a: &str| bench.commit(&[("lock", lock), ("a", a)]);
    let (one, two, three) = (commit("1", "1"), commit("1", "2"), commit("2", "2"));
    let spec = |sha: &Sha| bench.spec(sha, &as_user(VENV));
    deploy_ok(&spec(&one), &bench.host());
    let made = bench.read("current/.venv/made");
    let folder = bench.app_path("outputs/install").join(&outputs(&bench)[0]);
    assert_eq!(made, format!("{} 1\n", folder.join("tree").display()));
    assert_eq!(step_result(&bench).0, StageStatus::Done);
    let first = bench.active_name().unwrap();

    deploy_ok(&spec(&two), &bench.host());
    assert_eq!((runs(&bench), bench.read("current/.venv/made")), (1, made));
    let why = format!("inputs equal to {}", one.short());
    assert_eq!(step_result(&bench), (StageStatus::Skipped, Some(why)));

    deploy_ok(&spec(&three), &bench.host());
    assert_eq!((runs(&bench), outputs(&bench).len()), (2, 2));
    assert!(bench.read("current/.venv/made").ends_with(" 2\n"));
    // A rollback needs what its release was built with.
    assert!(
        bench
            .read(&format!("releases/{first}/.venv/made"))
            .ends_with(" 1\n")
    );
}

#[test]
fn output_made_in_the_release_is_moved_and_its_inner_links_stay_right() {
    let bench = Bench::new();
    let spec = |sha: &Sha| bench.spec(sha, &as_user(MODULES));
    let one = bench.commit(&[("lock", "1"), ("web/a", "1")]);
    let two = bench.commit(&[("lock", "1"), ("web/a", "2")]);
    for sha in [one, two] {
        deploy_ok(&spec(&sha), &bench.host());
        assert_eq!(bench.read("current/web/node_modules/.bin/left"), "1");
        let link = std::fs::read_link(bench.app_path("current/web/node_modules")).unwrap();
        assert!(link.starts_with("../../../outputs/install"), "{link:?}");
    }
    assert_eq!(runs(&bench), 1);
}

#[test]
fn later_step_cannot_write_to_a_shared_output() {
    if !is_root() {
        return;
    }
    use std::os::unix::fs::MetadataExt;
    let bench = Bench::new();
    let more = "  - {name: late, run: 'touch .venv/late || touch $SHARED_PATH/refused; ! echo x > .venv/made'}\n";
    let sha = bench.commit(&[("lock", "1")]);
    deploy_ok(
        &bench.spec(&sha, &as_user(&format!("{VENV}{more}"))),
        &bench.host(),
    );
    bench.read("shared/refused");
    assert!(bench.read("current/.venv/made").ends_with(" 1\n"));
    let folder = bench.app_path("outputs/install").join(&outputs(&bench)[0]);
    for (path, owner) in [
        ("", 0),
        ("releases", 0),
        ("tree", DEPLOY_UID),
        ("tree/.venv", DEPLOY_UID),
    ] {
        let meta = std::fs::metadata(folder.join(path)).unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o022), (owner, 0), "{path}");
    }
}

#[test]
fn changed_input_causes_a_new_output() {
    let bench = Bench::new();
    let mut expected = 0;
    let mut check = |why: &str, files: &[(&str, &str)], more: &str, is_new: bool| {
        let files = [files, &[("why", why)]].concat();
        deploy_ok(&bench.spec(&bench.commit(&files), more), &bench.host());
        expected += usize::from(is_new);
        assert_eq!(runs(&bench), expected, "{why}");
    };
    let lock = &[("lock", "1")];
    check("first", lock, VENV, true);
    check("same", lock, VENV, false);
    check(
        "another file matches",
        &[("lock", "1"), ("lock.dev", "1")],
        VENV,
        true,
    );
    check(
        "and one in a folder",
        &[("lock", "1"), ("lock/x", "1")][..1],
        VENV,
        false,
    );
    let env = VENV.replace("    outputs", "    env: {A: '1'}\n    outputs");
    check("the environment", lock, &env, true);
    let key = |key: &str| VENV.replace("missing]", &format!("missing], key: echo {key}"));
    check("a key", lock, &key("1"), true);
    check("the same key", lock, &key("1"), false);
    // A link, as on Debian.
    std::fs::create_dir_all(bench.host_path("usr/lib")).unwrap();
    let os = bench.host_path("usr/lib/os-release");
    std::fs::write(os, "ID=debian\nVERSION_ID=\"13\"\n").unwrap();
    let link = bench.host_path("etc/os-release");
    std::os::unix::fs::symlink("../usr/lib/os-release", link).unwrap();
    check("another distribution", lock, VENV, true);
}

#[test]
fn rendered_file_among_the_inputs_counts_unless_it_is_secret() {
    let bench = Bench::new();
    let deploy = |a: &str, body: &str, secret: bool| {
        let sha = bench.commit(&[("lock", "1"), ("a", a)]);
        let text = format!("files: [{{path: lock.local, content: x, secret: {secret}}}]\n{VENV}");
        let mut spec = bench.spec(&sha, &text);
        spec.files[0].body = body.to_owned();
        deploy_ok(&spec, &bench.host());
        runs(&bench)
    };
    assert_eq!([deploy("1", "a", false), deploy("2", "a", false)], [1, 1]);
    assert_eq!([deploy("3", "b", false), deploy("4", "c", true)], [2, 3]);
    assert_eq!(deploy("5", "d", true), 3);
}

#[test]
fn key_command_sees_the_release_and_its_failure_fails_the_step() {
    let bench = Bench::new();
    let spec = |sha: &Sha, key: &str| {
        let key = format!("missing], key: '{key}'");
        bench.spec(sha, &as_user(&VENV.replace("missing]", &key)))
    };
    let commit = |tool: &str, a: &str| bench.commit(&[("lock", "1"), ("tool", tool), ("a", a)]);
    deploy_ok(&spec(&commit("v1", "1"), "cat tool"), &bench.host());
    deploy_ok(&spec(&commit("v1", "2"), "cat tool"), &bench.host());
    assert_eq!(runs(&bench), 1);
    deploy_ok(&spec(&commit("v2", "2"), "cat tool"), &bench.host());
    assert_eq!(runs(&bench), 2);
    let failed = run_pass(&spec(&commit("v3", "2"), "no-such-tool"), &bench.host());
    let message = failed.unwrap_err().to_string();
    assert!(message.contains("`install (key)`"), "{message}");
    assert!(message.contains("no-such-tool"), "{message}");
}

#[test]
fn half_built_output_is_never_used_and_does_not_stay() {
    let bench = Bench::new();
    let one = bench.commit(&[("lock", "1"), ("a", "1")]);
    let fails = format!(
        "{}      test -e $SHARED_PATH/mended\n    outputs",
        VENV.split("    outputs").next().unwrap()
    );
    let text = as_user(&VENV.replace(VENV.split(" {path").next().unwrap(), &format!("{fails}:")));
    run_pass(&bench.spec(&one, &text), &bench.host()).unwrap_err();
    assert_eq!(outputs(&bench), Vec::<String>::new());
    // A process that a killed pass left may still write there.
    let left = bench.app_path("outputs/install/0123456789abcdef-01234567.4/tree");
    std::fs::create_dir_all(&left).unwrap();
    let foreign = bench.app_path("outputs/install/of an operator");
    std::fs::create_dir_all(&foreign).unwrap();
    std::fs::write(bench.app_path("shared/mended"), "").unwrap();
    deploy_ok(&bench.spec(&one, &text), &bench.host());
    assert_eq!(runs(&bench), 2);
    assert!(!left.exists() && foreign.exists());
    assert!(bench.read("current/.venv/made").ends_with(" 1\n"));
}

#[test]
fn output_is_removed_with_the_last_release_that_uses_it() {
    let bench = Bench::new();
    let spec = |lock: &str, a: &str| {
        let sha = bench.commit(&[("lock", lock), ("a", a)]);
        bench.spec(&sha, &as_user(&format!("keep_releases: 2\n{VENV}")))
    };
    for (lock, a, kept) in [
        ("1", "1", 1),
        ("1", "2", 1),
        ("2", "3", 2),
        ("2", "4", 1),
        ("3", "5", 2),
    ] {
        deploy_ok(&spec(lock, a), &bench.host());
        assert_eq!(outputs(&bench).len(), kept, "{lock} {a}");
    }
    // Without a record of ours, the releases on disk decide.
    std::fs::remove_file(bench.host_path("var/lib/trueup/releases/shop.json")).unwrap();
    deploy_ok(&spec("3", "6"), &bench.host());
    assert!(bench.read("current/.venv/made").ends_with(" 3\n"));
    assert_eq!(runs(&bench), 3);
}

#[test]
fn fresh_build_replaces_the_shared_outputs() {
    let bench = Bench::new();
    let spec = |a: &str| {
        let sha = bench.commit(&[("lock", "1"), ("a", a)]);
        bench.spec(&sha, &as_user(VENV))
    };
    deploy_ok(&spec("1"), &bench.host());
    let mut fresh = spec("2");
    fresh.resume_policy = ResumePolicy::FromScratch;
    deploy_ok(&fresh, &bench.host());
    assert_eq!(runs(&bench), 2);
    let newest = bench.read("current/.venv/made");
    deploy_ok(&spec("3"), &bench.host());
    assert_eq!(
        (runs(&bench), bench.read("current/.venv/made")),
        (2, newest)
    );
}

#[test]
fn output_that_was_removed_is_made_again() {
    let bench = Bench::new();
    let commit = |a: &str| bench.commit(&[("lock", "1"), ("a", a)]);
    let (one, two) = (commit("1"), commit("2"));
    deploy_ok(&bench.spec(&one, &as_user(VENV)), &bench.host());
    let output = bench.app_path("outputs/install").join(&outputs(&bench)[0]);
    std::fs::remove_dir_all(output.join("tree/.venv")).unwrap();
    deploy_ok(&bench.spec(&two, &as_user(VENV)), &bench.host());
    assert_eq!(runs(&bench), 2);
    assert!(bench.read("current/.venv/made").ends_with(" 1\n"));
}

#[test]
fn plan_says_which_outputs_exist() {
    let bench = Bench::new();
    let commit = |lock: &str, a: &str| bench.commit(&[("lock", lock), ("a", a)]);
    let planned = |sha: &Sha, text: &str| {
        let spec = bench.spec(sha, &as_user(text));
        let change = plan(&spec, &bench.host()).unwrap();
        let steps = change.fields.iter().find(|field| field.field == "steps");
        match &steps.unwrap().to {
            FieldValue::Text(text) => text.lines().last().unwrap().to_owned(),
            other => panic!("{other:?}"),
        }
    };
    let one = commit("1", "1");
    assert!(planned(&one, VENV).contains("unknown until it is fetched"));
    deploy_ok(&bench.spec(&one, &as_user(VENV)), &bench.host());
    let two = commit("1", "2");
    assert!(planned(&two, VENV).contains("unknown until it is fetched"));
    let three = commit("2", "3");
    crate::release::build_ahead(&bench.spec(&three, &as_user("")), &three, &bench.host()).unwrap();
    let why = format!("install: skipped, inputs equal to {}", one.short());
    assert_eq!(planned(&two, VENV), why);
    assert!(!planned(&three, VENV).contains("skipped"));
}

#[test]
fn later_step_that_writes_to_an_output_fails_and_names_its_inputs() {
    // Root may write anywhere.
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    let sha = bench.commit(&[("lock", "1")]);
    let late = "  - {name: patch, run: 'echo more > .venv/more'}\n";
    let failure = run_pass(
        &bench.spec(&sha, &as_user(&format!("{VENV}{late}"))),
        &bench.host(),
    );
    let failure = failure.unwrap_err();
    assert!(failure.message.contains("step `patch`"), "{failure}");
    let hint = failure.hint.unwrap();
    let expected = ".venv is shared by all releases with the same inputs, and read-only: write it in the step `install`, with what decides it in its `outputs.by`";
    assert!(hint.starts_with(expected), "{hint}");
}
