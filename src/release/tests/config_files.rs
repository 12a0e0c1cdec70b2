//! Configuration files of an app, and commits that have something else in their place.

use super::*;
use crate::release::commands::rollback::{pin, select_target};

/// A spec with these configuration files, resolved.
fn with_files(bench: &Bench, sha: &Sha, files: &str, more: &str) -> ReleaseSpec {
    let mut spec = bench.spec(sha, &format!("config_files: {files}\n{more}"));
    spec.add_config_files();
    spec.validate().unwrap();
    for file in &mut spec.files {
        file.resolve(0, &crate::kind::conformance::FakeInputs)
            .unwrap();
    }
    spec
}

/// A folder outside of the releases, with a file that must not change.
fn outside(bench: &Bench) -> PathBuf {
    let outside = bench.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("database.yml"), "kept").unwrap();
    outside
}

fn assert_kept(outside: &Path) {
    let kept = std::fs::read_to_string(outside.join("database.yml")).unwrap();
    assert_eq!(
        (kept, list_names(outside)),
        ("kept".into(), vec!["database.yml".into()])
    );
}

const DATABASE: &str = "{config/database.yml: {content: ours, mode: \"0600\"}}";

#[test]
fn configuration_files_are_there_before_the_first_step() {
    let bench = Bench::new();
    let sha = bench.commit(&[("config/puma.rb", "1")]);
    let files = "{config/database.yml: {content: a}, .env: {content: b}, gone: null}";
    let steps = "steps: [{run: 'cat config/database.yml .env > copy'}]\n";
    deploy_ok(&with_files(&bench, &sha, files, steps), &bench.host());
    assert_eq!(bench.read("current/copy"), "ab");
    assert!(!bench.app_path("current/gone").exists());
}

#[test]
fn whatever_a_commit_has_in_the_place_of_a_file_is_replaced() {
    let bench = Bench::new();
    let outside = outside(&bench);
    let target = outside.join("database.yml").display().to_string();
    let commits = [
        bench.commit(&[("config/database.yml", "of the commit")]),
        bench.commit_modes(&[("config/database.yml", &target, 0o120_000)]),
        bench.commit_modes(&[("config/database.yml", "missing", 0o120_000)]),
    ];
    for sha in &commits {
        deploy_ok(&with_files(&bench, sha, DATABASE, ""), &bench.host());
        let file = bench.app_path("current/config/database.yml");
        assert!(std::fs::symlink_metadata(&file).unwrap().is_file());
        assert_eq!(bench.read("current/config/database.yml"), "ours");
        assert_kept(&outside);
    }
}

#[test]
fn file_described_for_a_running_release_removes_nothing_of_the_app() {
    let bench = Bench::new();
    let sha = bench.commit(&[("conf.d/a", "of the app"), ("config/b/c", "of the app")]);
    deploy_ok(&bench.spec(&sha, ""), &bench.host());
    let folder = bench.app_path("current");
    std::os::unix::fs::symlink("conf.d", folder.join("linked")).unwrap();
    for path in ["linked/a", "config/b", "config/b/c/d"] {
        let file = DATABASE.replace("config/database.yml", path);
        assert_ne!(file, DATABASE);
        let failure = run_pass(&with_files(&bench, &sha, &file, ""), &bench.host()).unwrap_err();
        assert!(failure.to_string().contains("cannot write"), "{failure}");
        assert_eq!(bench.read("current/linked/a"), "of the app");
        assert_eq!(bench.read("current/config/b/c"), "of the app");
    }
}

#[test]
fn file_below_a_link_or_file_of_the_commit_is_refused() {
    let bench = Bench::new();
    let outside = outside(&bench);
    let target = outside.display().to_string();
    for (commit, what) in [
        (
            bench.commit_modes(&[("config", &target, 0o120_000)]),
            "a symbolic link",
        ),
        (
            bench.commit_modes(&[("config", "elsewhere", 0o120_000)]),
            "a symbolic link",
        ),
        (bench.commit(&[("config", "text")]), "a file"),
    ] {
        let failure =
            run_pass(&with_files(&bench, &commit, DATABASE, ""), &bench.host()).unwrap_err();
        let expected = format!("cannot write config/database.yml: config is {what} in the release");
        assert!(failure.message.contains(&expected), "{failure}");
        assert_eq!(bench.releases(), [""; 0]);
        assert_kept(&outside);
    }
}

#[test]
fn copied_outputs_of_a_skipped_step_have_the_files_as_described() {
    let bench = Bench::new();
    let (one, two) = (
        bench.commit(&[("Gemfile", "1"), ("a", "1")]),
        bench.commit(&[("Gemfile", "1"), ("a", "2")]),
    );
    let steps = "steps:\n  - {name: install, run: 'mkdir -p .bundle; echo x > .bundle/made', when_changed: [Gemfile], outputs: [.bundle]}\n  - {name: look, run: 'cat .bundle/config > copy'}\n";
    let with = |sha: &Sha, word: &str| {
        let files = format!("{{.bundle/config: {{content: {word}}}}}");
        with_files(&bench, sha, &files, steps)
    };
    deploy_ok(&with(&one, "old"), &bench.host());
    deploy_ok(&with(&two, "new"), &bench.host());
    assert_eq!(bench.read("current/copy"), "new");
    assert_eq!(bench.read("current/.bundle/made"), "x\n");
}

#[test]
fn reserved_shared_and_overlapping_paths_are_refused_with_the_reason() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    for (path, expected) in [
        ("/etc/passwd", "is not a path inside a release"),
        ("../x", "is not a path inside a release"),
        ("config/../../x", "is not a path inside a release"),
        (".git/config", "is reserved: trueup or git writes it"),
        (
            "vendor/x/.GIT/hooks/y",
            "is reserved: trueup or git writes it",
        ),
        ("REVISION", "is reserved: trueup or git writes it"),
        (
            ".trueup/env",
            "is reserved: the role renders its own files there",
        ),
        (
            "log/x",
            "cannot be a file of each release: `log` is in `linked_dirs`",
        ),
        (
            "log",
            "cannot be a file of each release: `log` is in `linked_dirs`",
        ),
        (
            "key",
            "cannot be a file of each release: `key` is in `linked_files`",
        ),
        ("public/assets/x", "and `public/assets` overlap"),
        ("own/x", "and `own` overlap"),
    ] {
        let text = format!(
            "config_files: {{{path}: {{content: a}}}}\nlinked_dirs: [log]\nlinked_files: [key]\nfiles: [{{path: own, content: b}}]\nassets: {{run: 'true'}}\n"
        );
        let mut spec = bench.spec(&sha, &text);
        spec.add_config_files();
        let problem = spec.validate().unwrap_err();
        assert!(problem.message.contains(expected), "{path}: {problem}");
        assert_eq!(problem.field, Some(format!("config_files.{path}")));
    }
}

#[test]
fn rolled_back_release_keeps_its_files_and_gets_those_that_it_lacks() {
    let bench = Bench::new();
    let (one, two) = (bench.commit(&[("a", "1")]), bench.commit(&[("a", "2")]));
    deploy_ok(
        &with_files(&bench, &one, "{.env: {content: old}}", ""),
        &bench.host(),
    );
    let first = bench.active_name().unwrap();
    let files = "{.env: {content: new}, .more: {content: more}}";
    let now = with_files(&bench, &two, files, "");
    deploy_ok(&now, &bench.host());
    let target = select_target(&now, &bench.host(), None, false).unwrap();
    pin(&now, &bench.host(), &target, "ana".into(), None).unwrap();
    run_pass(&now, &bench.host()).unwrap();
    assert_eq!(bench.active_name(), Some(first));
    let contents = || (bench.read("current/.env"), bench.read("current/.more"));
    assert_eq!(contents(), ("old".into(), "more".into()));
    run_pass(&now, &bench.host()).unwrap();
    assert_eq!(bench.read("current/.env"), "old", "a later pass keeps them");
    // The manifest wants it again: now it is as described.
    let wanted = with_files(&bench, &one, files, "");
    run_pass(&wanted, &bench.host()).unwrap();
    assert_eq!(contents(), ("new".into(), "more".into()));
}
