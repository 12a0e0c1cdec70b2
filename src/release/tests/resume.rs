//! A resumed release is the one that is described.

use super::*;
use crate::ports::testing::FakeClock;

/// The spec of a release with `more`, which is retried at once however often it failed.
fn retried(bench: &Bench, sha: &Sha, more: &str) -> ReleaseSpec {
    let mut spec = bench.spec(sha, more);
    spec.resume_policy = ResumePolicy::Now;
    resolve_files(&mut spec);
    spec
}

fn resolve_files(spec: &mut ReleaseSpec) {
    for file in &mut spec.files {
        file.resolve(0, &crate::kind::conformance::FakeInputs)
            .unwrap();
    }
}

fn link_of(bench: &Bench, path: &str) -> Option<PathBuf> {
    std::fs::read_link(bench.app_path(path)).ok()
}

#[test]
fn links_described_after_a_failed_step_are_in_the_resumed_release() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    std::fs::create_dir_all(bench.app_path("shared")).unwrap();
    std::fs::write(bench.app_path("shared/.env"), "A=1").unwrap();
    let steps = "steps: [{name: one, run: 'true'}, {name: two, run: 'test -e ../../shared/go'}]\n";
    run_pass(&bench.spec(&sha, steps), &bench.host()).unwrap_err();
    std::fs::write(bench.app_path("shared/go"), "").unwrap();
    let more = format!("linked_dirs: [log, uploads]\nlinked_files: [.env]\n{steps}");
    deploy_ok(&bench.spec(&sha, &more), &bench.host());
    for path in ["log", "uploads", ".env"] {
        assert_eq!(
            link_of(&bench, &format!("current/{path}")),
            Some(Path::new("../../shared").join(path))
        );
    }
    std::fs::write(bench.app_path("current/uploads/cat"), "meow").unwrap();
    assert_eq!(bench.read("shared/uploads/cat"), "meow");
    assert_eq!(bench.releases().len(), 1, "the unfinished one is gone");
}

#[test]
fn nothing_is_left_of_a_step_that_was_redefined_or_removed() {
    let leaves = "{name: bundle, run: 'mkdir -p .bundle; echo old > .bundle/config; exit 1'}";
    for steps in [
        "{name: bundle, run: 'test ! -e .bundle/config'}",
        "{name: other, run: 'test ! -e .bundle/config'}",
        "",
    ] {
        let bench = Bench::new();
        let sha = bench.commit(&[("a", "1")]);
        let spec = |steps: &str| bench.spec(&sha, &format!("steps: [{steps}]\n"));
        run_pass(&spec(leaves), &bench.host()).unwrap_err();
        deploy_ok(&spec(steps), &bench.host());
        assert!(!bench.app_path("current/.bundle").exists(), "{steps}");
        assert_eq!(bench.releases().len(), 1, "{steps}");
    }
}

#[test]
fn steps_before_the_first_change_keep_their_results() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    let spec = |last: &str| {
        let step = |n: &str| format!("{{name: {n}, run: 'echo {n} >> ../../shared/ran'}}");
        let wait = "{name: wait, run: 'test -e ../../shared/go'}";
        bench.spec(&sha, &format!("steps: [{}, {wait}{last}]\n", step("one")))
    };
    run_pass(&spec(", {name: never, run: 'true'}"), &bench.host()).unwrap_err();
    std::fs::write(bench.app_path("shared/go"), "").unwrap();
    // The changed step had not begun.
    deploy_ok(
        &spec(", {name: last, run: 'echo last >> ../../shared/ran'}"),
        &bench.host(),
    );
    assert_eq!(bench.read("shared/ran"), "one\nlast\n");
}

#[test]
fn later_steps_see_the_rendered_files_as_described() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    let spec = |value: &str, secret: bool| {
        retried(
            &bench,
            &sha,
            &format!(
                "files: [{{path: .env, content: 'A={value}', secret: {secret}}}]\nsteps:\n  - {{name: one, run: 'cat .env > one'}}\n  - {{name: two, run: 'cat .env > two; test -e ../../shared/go'}}\n"
            ),
        )
    };
    run_pass(&spec("first", false), &bench.host()).unwrap_err();
    std::fs::write(bench.app_path("shared/go"), "").unwrap();
    deploy_ok(&spec("second", false), &bench.host());
    let read = |path: &str| bench.read(&format!("current/{path}"));
    assert_eq!(
        (read(".env"), read("one"), read("two")),
        ("A=second".into(), "A=second".into(), "A=second".into())
    );
    // The record is no place for a secret, not even for its fingerprint: completed steps stay.
    let other = bench.commit(&[("a", "2")]);
    let secret = |value: &str| {
        let mut spec = spec(value, true);
        spec.wanted = Some(other.clone());
        spec
    };
    std::fs::remove_file(bench.app_path("shared/go")).unwrap();
    run_pass(&secret("third-secret"), &bench.host()).unwrap_err();
    std::fs::write(bench.app_path("shared/go"), "").unwrap();
    deploy_ok(&secret("fourth-secret"), &bench.host());
    assert_eq!(
        (read("one"), read("two")),
        ("A=third-secret".into(), "A=fourth-secret".into())
    );
}

#[test]
fn changed_description_ends_the_delay_of_a_failing_release() {
    for (before, after) in [
        // The failing step exists no more.
        (
            "steps: [{name: gone, run: 'false'}]\n",
            "steps: [{name: other, run: 'true'}]\n",
        ),
        (
            "steps: [{name: slow, run: 'sleep 3', timeout: 1s}]\n",
            "steps: [{name: slow, run: 'sleep 3', timeout: 1m}]\n",
        ),
        ("migrate: {run: 'false'}\n", "migrate: {run: 'true'}\n"),
        ("migrate: {run: 'false'}\n", ""),
        ("hooks: {before_activate: [{run: 'false'}]}\n", ""),
        (
            "build_deadline: 1s\nsteps: [{run: 'sleep 2'}]\n",
            "build_deadline: 1m\nsteps: [{run: 'sleep 2'}]\n",
        ),
    ] {
        let bench = Bench::new();
        let sha = bench.commit(&[("a", "1")]);
        for _ in 0..2 {
            run_pass(&bench.spec(&sha, before), &bench.host()).unwrap_err();
        }
        let failure = run_pass(&bench.spec(&sha, before), &bench.host()).unwrap_err();
        let delayed = failure.message.contains("2 times in a row");
        assert!(
            delayed || failure.message.contains("abandoned"),
            "{failure}"
        );
        deploy_ok(&bench.spec(&sha, after), &bench.host());
    }
}

#[test]
fn fresh_build_that_fails_early_lets_no_old_attempt_be_taken_up() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    let steps = "steps: [{run: 'echo ran >> ran; test -e ../../shared/go'}]\n";
    run_pass(&bench.spec(&sha, steps), &bench.host()).unwrap_err();
    let hook = format!("{steps}hooks: {{before_fetch: [{{run: 'false'}}]}}\n");
    let mut fresh = bench.spec(&sha, &hook);
    fresh.resume_policy = ResumePolicy::FromScratch;
    let failure = run_pass(&fresh, &bench.host()).unwrap_err();
    assert!(failure.message.contains("before_fetch"), "{failure}");
    std::fs::write(bench.app_path("shared/go"), "").unwrap();
    deploy_ok(&bench.spec(&sha, steps), &bench.host());
    assert_eq!(bench.read("current/ran"), "ran\n");
}

#[test]
fn changed_description_rebuilds_unproven_releases_but_not_proven_ones() {
    let bench = Bench::new();
    let (one, two) = (bench.commit(&[("a", "1")]), bench.commit(&[("a", "2")]));
    let spec = |sha: &Sha, word: &str, dirs: &str| {
        bench.spec(
            sha,
            &format!("linked_dirs: [{dirs}]\nsteps: [{{run: 'echo {word} > built'}}]\n"),
        )
    };
    let build_ahead = |word: &str| {
        let mut ahead = spec(&one, "old", "log");
        ahead.steps = spec(&one, word, "log").steps;
        ahead.build_ahead = Some(two.clone());
        ahead
    };
    deploy_ok(&spec(&one, "old", "log"), &bench.host());
    let first = bench.active_name().unwrap();
    deploy_ok(&build_ahead("old"), &bench.host());
    assert_eq!(run_pass(&build_ahead("old"), &bench.host()), Ok(None));
    deploy_ok(&build_ahead("new"), &bench.host());
    assert_eq!(bench.releases().len(), 2, "the outdated one is removed");
    deploy_ok(&spec(&two, "newest", "log, uploads"), &bench.host());
    assert_eq!(bench.read("current/built"), "newest\n");
    assert!(link_of(&bench, "current/uploads").is_some());
    // Back at the proven one: it is as it was built, with the links of today.
    deploy_ok(&spec(&one, "newest", "log, uploads"), &bench.host());
    assert_eq!(bench.active_name().unwrap(), first);
    assert_eq!(bench.read("current/built"), "old\n");
    assert!(link_of(&bench, "current/uploads").is_some());
}

#[test]
fn private_build_with_a_changed_description_starts_over() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    let build = |steps: &str| {
        let spec = bench.spec(&sha, &format!("steps: [{steps}]\n"));
        let private = PrivateBuild {
            until: "2099-01-01T00:00:00Z".parse().unwrap(),
            by: None,
            reference: None,
        };
        build_private(&spec, &sha, &bench.host(), private)
    };
    build("{run: 'touch left; false'}").unwrap_err();
    let built = build("{run: 'true'}").unwrap();
    assert!(!built.path.join("left").exists());
    assert_eq!(bench.releases(), [built.name]);
}

#[test]
fn release_that_replaces_another_one_never_gets_its_name() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    let clock = FakeClock::default();
    let host = || Host {
        clock: Rc::new(clock.clone()),
        ..bench.host()
    };
    run_pass(&bench.spec(&sha, "steps: [{run: 'false'}]\n"), &host()).unwrap_err();
    let first = bench.releases();
    deploy_ok(&bench.spec(&sha, "steps: [{run: 'true'}]\n"), &host());
    assert_eq!(bench.releases().len(), 1);
    assert_ne!(bench.releases(), first);
}
