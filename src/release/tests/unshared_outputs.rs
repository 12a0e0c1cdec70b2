//! Outputs that cannot be shared, and descriptions that are refused.

use super::shared_outputs::{MODULES, VENV, as_user, outputs, runs};
use super::*;

#[test]
fn output_with_a_link_to_its_release_stays_there_and_is_made_again() {
    let bench = Bench::new();
    let text = as_user(&MODULES.replace(
        "    outputs",
        "      ln -s ../../packages/common web/node_modules/common\n    outputs",
    ));
    for (i, a) in ["1", "2"].into_iter().enumerate() {
        let sha = bench.commit(&[("lock", "1"), ("packages/common/x", a)]);
        deploy_ok(&bench.spec(&sha, &text), &bench.host());
        assert_eq!(bench.read("current/web/node_modules/common/x"), a);
        assert_eq!((runs(&bench), outputs(&bench).len()), (i + 1, 0));
    }
    let sha = bench.commit(&[("lock", "1"), ("a", "1")]);
    let text = VENV.replace(
        "mkdir $OUTPUTS_PATH/.venv",
        "mkdir $OUTPUTS_PATH/.venv; ln -s $RELEASE_PATH/a $OUTPUTS_PATH/.venv/a",
    );
    let failure = run_pass(&bench.spec(&sha, &as_user(&text)), &bench.host()).unwrap_err();
    assert!(
        failure
            .to_string()
            .contains("the output .venv/a of `install`"),
        "{failure}"
    );
}

#[test]
fn step_whose_inputs_do_not_exist_runs_in_each_release() {
    let bench = Bench::new();
    let text = as_user(&VENV.replace("$(cat lock)", ""));
    for (a, runs_so_far) in [("1", 1), ("2", 2)] {
        deploy_ok(
            &bench.spec(&bench.commit(&[("a", a)]), &text),
            &bench.host(),
        );
        assert_eq!(runs(&bench), runs_so_far);
        let release = bench
            .app_path("releases")
            .join(bench.active_name().unwrap());
        assert_eq!(
            bench.read("current/.venv/made").trim(),
            release.display().to_string()
        );
    }
}

#[test]
fn description_of_outputs_is_checked() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    for (text, message) in [
        ("outputs: {path: x, by: []}", "decide what the step makes"),
        ("outputs: {path: x, by: ['']}", "`` matches no file"),
        ("outputs: {path: x, by: [a, ./b]}", "`./b` matches no file"),
        ("outputs: {path: [], by: [a]}", "a path that the step makes"),
        (
            "outputs: {path: ../x, by: [a]}",
            "not a path inside the release",
        ),
        ("outputs: {path: [x, x/y], by: [a]}", "overlap"),
        (
            "outputs: {path: x, by: [a]}, when_changed: [a]",
            "only one of",
        ),
        ("outputs: [x]", "needs a step that can be skipped"),
    ] {
        let spec = bench.spec(&sha, &format!("steps: [{{run: a, {text}}}]\n"));
        let problem = spec.validate().unwrap_err().to_string();
        assert!(problem.contains(message), "{text}: {problem}");
        assert!(problem.contains("steps[0].outputs"), "{text}: {problem}");
    }
    let decode = |text: &str| {
        let text = format!("app: a\nrepo: /r\nsteps: [{{run: a, outputs: {text}}}]");
        let node = yaml::parse("role.yml", text.as_bytes(), yaml::ParseLimits::default()).unwrap();
        yaml::decode::<ReleaseSpec>(&node).unwrap_err().to_string()
    };
    assert!(decode("{path: x, bye: [a]}").contains("bye"));
    assert!(decode("{path: x}").contains("by"));
    assert!(decode("x").contains("a list of paths, or a map"));
}

#[test]
fn step_that_does_not_make_its_output_shares_nothing() {
    let bench = Bench::new();
    let sha = bench.commit(&[("lock", "1")]);
    let elsewhere = MODULES.replace("path: web/node_modules", "path: web/modules");
    deploy_ok(&bench.spec(&sha, &as_user(&elsewhere)), &bench.host());
    assert_eq!(outputs(&bench).len(), 0);
    assert_eq!(bench.read("current/web/node_modules/.bin/left"), "1");
    let wrong = VENV.replace("path: .venv", "path: .env");
    let sha = bench.commit(&[("lock", "1"), ("a", "1")]);
    let failure = run_pass(&bench.spec(&sha, &as_user(&wrong)), &bench.host()).unwrap_err();
    let message = failure.to_string();
    assert!(
        message.contains("did not make its output .env"),
        "{message}"
    );
}

#[test]
fn output_with_files_of_the_repository_in_it_is_not_shared() {
    let bench = Bench::new();
    for a in ["1", "2"] {
        let sha = bench.commit(&[("lock", "1"), ("a", a), ("web/node_modules/kept", "k")]);
        deploy_ok(&bench.spec(&sha, &as_user(MODULES)), &bench.host());
        assert_eq!(bench.read("current/web/node_modules/kept"), "k");
        assert_eq!(bench.read("current/web/node_modules/.bin/left"), "1");
    }
    assert_eq!((runs(&bench), outputs(&bench).len()), (2, 0));
}

#[test]
fn output_of_a_release_that_failed_is_not_used_by_another_sha() {
    let bench = Bench::new();
    let late = "  - {name: late, run: test -e $SHARED_PATH/fixed}\n";
    let text = as_user(&format!("{VENV}{late}"));
    let commit = |a: &str| bench.commit(&[("lock", "1"), ("a", a)]);
    let (one, two) = (commit("1"), commit("2"));
    run_pass(&bench.spec(&one, &text), &bench.host()).unwrap_err();
    run_pass(&bench.spec(&one, &text), &bench.host()).unwrap_err();
    assert_eq!(runs(&bench), 1);
    std::fs::write(bench.app_path("shared/fixed"), "").unwrap();
    deploy_ok(&bench.spec(&two, &text), &bench.host());
    assert_eq!(runs(&bench), 2);
}

#[test]
fn leftover_of_a_killed_build_never_gets_the_path_of_a_new_one() {
    let bench = Bench::new();
    let sha = bench.commit(&[("lock", "1")]);
    deploy_ok(&bench.spec(&sha, &as_user(VENV)), &bench.host());
    let first = outputs(&bench);
    std::fs::remove_dir_all(bench.app_path("outputs/install").join(&first[0])).unwrap();
    let sha = bench.commit(&[("lock", "1"), ("a", "1")]);
    deploy_ok(&bench.spec(&sha, &as_user(VENV)), &bench.host());
    assert_ne!(outputs(&bench), first);
}

#[test]
fn output_that_root_does_not_control_is_refused() {
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    let sha = bench.commit(&[("lock", "1")]);
    std::fs::create_dir_all(bench.app_path("outputs/install")).unwrap();
    let own = Some(DEPLOY_UID);
    std::os::unix::fs::chown(bench.app_path("outputs"), own, own).unwrap();
    let failure = run_pass(&bench.spec(&sha, &as_user(VENV)), &bench.host()).unwrap_err();
    let message = failure.to_string();
    assert!(
        message.contains("users other than root could change"),
        "{message}"
    );
}

#[test]
fn key_command_that_prints_too_much_is_refused() {
    let bench = Bench::new();
    let sha = bench.commit(&[("lock", "1")]);
    let text = VENV.replace("missing]", "missing], key: seq 100000");
    let failure = run_pass(&bench.spec(&sha, &as_user(&text)), &bench.host()).unwrap_err();
    assert!(failure.to_string().contains("at most 65536"), "{failure}");
}

#[test]
fn output_that_overlaps_another_path_of_the_release_is_refused() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    for more in [
        "linked_dirs: [x/cache]",
        "linked_files: [x/y]",
        "files: [{path: x/conf, content: a}]",
        "assets: {run: a, path: x/y}",
    ] {
        let text = format!("steps: [{{run: a, outputs: {{path: x, by: [a]}}}}]\n{more}\n");
        let problem = bench.spec(&sha, &text).validate().unwrap_err().to_string();
        assert!(problem.contains("overlap"), "{more}: {problem}");
    }
    let two =
        "steps: [{run: a, outputs: {path: x, by: [a]}}, {run: b, outputs: {path: x/y, by: [a]}}]";
    let problem = bench.spec(&sha, two).validate().unwrap_err().to_string();
    assert!(problem.contains("overlap"), "{problem}");
}

/// The classical list of Capistrano, with the step of the role `app`.
const CAPISTRANO: &str = "steps:\n  - name: bundle\n    run: 'mkdir -p .bundle; echo a >> .bundle/config; echo x >> ../../shared/log/ran'\n    when_changed: [Gemfile]\n    outputs: [.bundle, Gemfile.lock]\n";
const LINKED: &str = "linked_dirs: [log, tmp/pids, tmp/cache, .bundle, public/system]\n";

#[test]
fn copied_output_in_a_linked_folder_is_shared_and_its_step_skipped() {
    let bench = Bench::new();
    let text = format!("{LINKED}{CAPISTRANO}");
    for (page, runs) in [("1", "x\n"), ("2", "x\n")] {
        let sha = bench.commit(&[("Gemfile", "r"), ("Gemfile.lock", "l"), ("page", page)]);
        deploy_ok(&bench.spec(&sha, &text), &bench.host());
        assert_eq!(bench.read("shared/log/ran"), runs);
        assert_eq!(bench.read("current/.bundle/config"), "a\n");
        let link = std::fs::read_link(bench.app_path("current/.bundle")).unwrap();
        assert_eq!(link, Path::new("../../shared/.bundle"));
    }
    // Emptied by hand: skipping the step would leave the release without it.
    std::fs::remove_file(bench.app_path("shared/.bundle/config")).unwrap();
    let sha = bench.commit(&[("Gemfile", "r"), ("Gemfile.lock", "l"), ("page", "3")]);
    deploy_ok(&bench.spec(&sha, &text), &bench.host());
    assert_eq!(bench.read("current/.bundle/config"), "a\n");
    assert_eq!(bench.read("shared/log/ran"), "x\nx\n");
}

#[test]
fn newly_linked_output_is_made_again_and_not_taken_from_a_release() {
    let bench = Bench::new();
    let sha = bench.commit(&[("Gemfile", "r"), ("Gemfile.lock", "l"), ("page", "1")]);
    let before = LINKED.replace(" .bundle,", "");
    deploy_ok(
        &bench.spec(&sha, &format!("{before}{CAPISTRANO}")),
        &bench.host(),
    );
    std::fs::create_dir(bench.app_path("shared/.bundle")).unwrap();
    std::fs::write(bench.app_path("shared/.bundle/old"), "x").unwrap();
    let sha = bench.commit(&[("Gemfile", "r"), ("Gemfile.lock", "l"), ("page", "2")]);
    deploy_ok(
        &bench.spec(&sha, &format!("{LINKED}{CAPISTRANO}")),
        &bench.host(),
    );
    assert_eq!(bench.read("current/.bundle/config"), "a\n");
}
