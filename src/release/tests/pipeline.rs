use std::os::unix::fs::MetadataExt;

use super::*;
use crate::resource::FieldValue;

#[test]
fn a_sha_is_checked_out_linked_built_and_activated() {
    let bench = Bench::new();
    let sha = bench.commit_modes(&[
        ("app.rb", "puts 1\r\n", 0o100_644),
        ("bin/run", "#!/bin/sh\n", 0o100_755),
        ("latest", "app.rb", 0o120_000),
        ("log/.keep", "", 0o100_644),
        (".gitattributes", "* text=auto eol=lf\n", 0o100_644),
    ]);
    std::fs::create_dir_all(bench.app_path("shared/config")).unwrap();
    std::fs::write(bench.app_path("shared/config/key"), "k").unwrap();
    let spec = bench.spec(
        &sha,
        "linked_dirs: [log, tmp/pids]\nlinked_files: [config/key]\nenv: {COLOUR: red}\nsteps:\n  - {name: env, run: 'pwd > ../../shared/log/where; env | sort > env.txt', env: {COLOUR: blue}}\nassets: {run: 'echo css > public/assets/a.css'}\n",
    );
    let host = bench.host();
    deploy_ok(&spec, &host);

    let name = bench.active_name().unwrap();
    assert!(name.ends_with(&format!("-{}", sha.short())), "{name}");
    assert_eq!(bench.read("current/REVISION"), format!("{sha}\n"));
    // Byte for byte, whatever .gitattributes says.
    assert_eq!(bench.read("current/app.rb"), "puts 1\r\n");
    let mode = |path: &str| std::fs::metadata(bench.app_path(path)).unwrap().mode() & 0o7777;
    assert_eq!(
        (
            mode("current/bin/run"),
            mode("current/app.rb"),
            mode("current/bin")
        ),
        (0o755, 0o644, 0o755)
    );
    let link = |path: &str| {
        std::fs::read_link(bench.app_path(path))
            .unwrap()
            .display()
            .to_string()
    };
    assert_eq!(link("current/latest"), "app.rb");
    assert_eq!(link("current/log"), "../../shared/log");
    assert_eq!(link("current/tmp/pids"), "../../../shared/tmp/pids");
    assert_eq!(
        link("current/public/assets/a.css"),
        "../../../../shared/assets/a.css"
    );
    assert_eq!(bench.read("current/config/key"), "k");
    assert_eq!(bench.read("shared/assets/a.css"), "css\n");
    assert_eq!(link("current"), format!("releases/{name}"));

    let release = bench.app_path("releases").join(&name).display().to_string();
    assert_eq!(bench.read("shared/log/where"), format!("{release}\n"));
    let env = bench.read("current/env.txt");
    for wanted in [
        "APP=shop",
        "COLOUR=blue",
        "LANG=C.UTF-8",
        &format!("REVISION={sha}"),
        &format!("RELEASE_PATH={release}"),
    ] {
        assert!(
            env.lines().any(|line| line == wanted),
            "{wanted} is not in\n{env}"
        );
    }
    assert!(!env.contains("CARGO") && !env.contains("TERM="), "{env}");
    let log = std::fs::read_to_string(
        bench.host_path(&format!("var/log/trueup/releases/shop/{name}.log")),
    )
    .unwrap();
    assert!(
        log.contains("== build env == ") && log.contains("== assets assets == "),
        "{log}"
    );
    assert_eq!(
        bench.read("revisions.log"),
        format!("Branch (none) (at {sha}) deployed as release {name} by trueup\n")
    );
}

#[test]
fn second_pass_with_the_same_sha_changes_nothing() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    let spec = bench.spec(&sha, "linked_dirs: [log]\nsteps: [{run: 'true'}]\n");
    deploy_ok(&spec, &bench.host());
    let before = snapshot(&bench.host_path(""));
    // The repository need not even exist.
    std::fs::rename(bench.repo.path(), bench.dir.path().join("gone")).unwrap();
    assert_eq!(run_pass(&spec, &bench.host()), Ok(None));
    assert_eq!(before, snapshot(&bench.host_path("")));
}

#[test]
fn rollback_activates_the_existing_release_without_building() {
    let bench = Bench::new();
    let (one, two) = (bench.commit(&[("a", "1")]), bench.commit(&[("a", "2")]));
    let steps = "steps: [{run: 'echo built >> ../../shared/built'}]\n";
    deploy_ok(&bench.spec(&one, steps), &bench.host());
    let first = bench.active_name().unwrap();
    deploy_ok(&bench.spec(&two, steps), &bench.host());
    let back = bench.spec(&one, steps);
    let change = plan(&back, &bench.host()).unwrap();
    let release = change
        .fields
        .iter()
        .find(|field| field.field == "release")
        .unwrap();
    assert_eq!(release.to, FieldValue::Value(first.clone()));
    assert!(!change.touches("steps"));
    deploy_ok(&back, &bench.host());
    assert_eq!(bench.active_name().unwrap(), first);
    assert_eq!(bench.read("shared/built"), "built\nbuilt\n");
    assert_eq!(bench.read("current/a"), "1");
}

#[test]
fn failing_step_leaves_current_unchanged_and_names_the_log() {
    let bench = Bench::new();
    let (one, two) = (bench.commit(&[("a", "1")]), bench.commit(&[("a", "2")]));
    deploy_ok(&bench.spec(&one, ""), &bench.host());
    let active = bench.active_name();
    let mut bad = bench.spec(
        &two,
        "steps: [{name: gems, run: 'seq 30; exit 7'}, {run: 'touch ../../shared/second'}]\n",
    );
    for _ in 0..3 {
        let failure = run_pass(&bad, &bench.host()).unwrap_err();
        assert!(
            failure
                .message
                .starts_with("step `gems` (seq 30; exit 7) exited with 7"),
            "{failure}"
        );
        assert!(
            failure.message.contains("\n  | 11\n") && !failure.message.contains("| 10\n"),
            "{failure}"
        );
        assert_eq!(bench.active_name(), active);
        let failed = bench.record().in_state(ReleaseStatus::Failed);
        assert_eq!(failed.len(), 1, "more than one failed release is kept");
        let log = format!("/var/log/trueup/releases/shop/{}.log", failed[0]);
        assert!(failure.hint.unwrap().contains(&log));
        assert!(bench.host_path(&log).exists());
        let stage = failed_stage(&bad, &two, &bench.host()).unwrap();
        assert_eq!(stage.name, "build");
        assert!(stage.why.starts_with("step `gems` (seq 30; exit 7)"));
        bad.resume_policy = ResumePolicy::FromScratch;
    }
    assert!(
        !bench.app_path("shared/second").exists(),
        "steps went on after a failure"
    );
    assert_eq!(bench.releases().len(), 2);
}

#[test]
fn step_that_exceeds_its_timeout_fails() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    let spec = bench.spec(&sha, "steps: [{run: [sleep, '60'], timeout: 1s}]\n");
    let failure = run_pass(&spec, &bench.host()).unwrap_err();
    assert!(failure.message.contains("timeout of 1 s"), "{failure}");
    assert_eq!(bench.active_name(), None);
}

#[test]
fn plan_shows_sha_and_steps_and_changes_nothing() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    let spec = bench.spec(
        &sha,
        "steps: [{name: gems, run: [bundle, install]}]\nassets: {run: rake}\n",
    );
    let before = snapshot(&bench.host_path(""));
    let change = plan(&spec, &bench.host()).unwrap();
    assert_eq!(before, snapshot(&bench.host_path("")));
    let to = |name: &str| {
        &change
            .fields
            .iter()
            .find(|field| field.field == name)
            .unwrap()
            .to
    };
    assert_eq!(to("sha"), &FieldValue::value(&sha));
    assert_eq!(to("release"), &FieldValue::Unknown("it is built".into()));
    assert_eq!(
        to("steps"),
        &FieldValue::Text("gems: bundle install\nassets: rake\n".into())
    );
    let mut nothing = bench.spec(&sha, "");
    nothing.wanted = None;
    assert_eq!(plan(&nothing, &bench.host()), None, "nothing is wanted yet");
}

#[test]
fn stamp_differs_between_releases() {
    let bench = Bench::new();
    let (one, two) = (bench.commit(&[("a", "1")]), bench.commit(&[("a", "2")]));
    let stamp = |sha: &Sha| {
        let spec = bench.spec(sha, "");
        deploy_ok(&spec, &bench.host());
        Release::stamp(&spec, &Release::inspect(&spec, &bench.host()).unwrap()).unwrap()
    };
    let (first, second) = (stamp(&one), stamp(&two));
    assert_ne!(first.fingerprint, second.fingerprint);
    assert!(second.fingerprint.contains(two.as_str()) && second.changed_at > first.changed_at);
}

#[test]
fn missing_linked_file_fails_before_the_build() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    let spec = bench.spec(
        &sha,
        "linked_files: [config/master.key]\nsteps: [{run: 'touch ../../shared/ran'}]\n",
    );
    let failure = run_pass(&spec, &bench.host()).unwrap_err();
    assert!(
        failure
            .message
            .contains("/srv/www/shop/shared/config/master.key does not exist"),
        "{failure}"
    );
    assert!(!bench.app_path("shared/ran").exists());
    assert_eq!(bench.releases(), [""; 0]);
    std::fs::write(bench.app_path("shared/config/master.key"), "k").unwrap();
    deploy_ok(&spec, &bench.host());
}

#[test]
fn directory_in_place_of_current_is_refused_before_the_build() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    std::fs::create_dir_all(bench.app_path("current")).unwrap();
    let failure = run_pass(&bench.spec(&sha, ""), &bench.host()).unwrap_err();
    assert!(
        failure
            .message
            .ends_with("current is a directory and not a symbolic link"),
        "{failure}"
    );
    assert!(!bench.app_path("releases").exists());
}

#[test]
fn release_files_belong_to_the_app_user_who_runs_the_steps() {
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    let sha = bench.commit_modes(&[("d/a", "1", 0o100_644), ("l", "d/a", 0o120_000)]);
    let spec = bench.spec(&sha, "user: deploy\nlinked_dirs: [log]\nsteps:\n  - run: 'id -u > who; id -G >> who; echo $USER >> who; touch ../x 2>/dev/null && exit 1; touch ../../x 2>/dev/null && exit 1; touch log/x'\n  - {run: 'id -u > ../../shared/root', user: root}\n");
    deploy_ok(&spec, &bench.host());
    let owner = |path: &str| {
        std::fs::symlink_metadata(bench.app_path(path))
            .unwrap()
            .uid()
    };
    for path in [
        "current/.",
        "current/d",
        "current/d/a",
        "current/l",
        "current/log",
        "current/REVISION",
        "shared",
        "shared/log",
    ] {
        assert_eq!(owner(path), DEPLOY_UID, "{path}");
    }
    for path in ["", "releases", "current", "revisions.log"] {
        assert_eq!(owner(path), 0, "{path}");
    }
    assert_eq!(
        bench.read("current/who"),
        format!("{DEPLOY_UID}\n{DEPLOY_UID}\ndeploy\n")
    );
    assert_eq!(bench.read("shared/root"), "0\n");
    let log = bench
        .host_path("var/log/trueup/releases/shop")
        .join(format!("{}.log", bench.active_name().unwrap()));
    assert_eq!(std::fs::metadata(log).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn root_step_finds_no_program_in_app_user_folders() {
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    let home = bench
        .host_path("home/deploy/.rbenv/shims")
        .display()
        .to_string();
    let bin = bench.app_path("shared/bin").display().to_string();
    let spec = bench.spec(&sha, &format!("user: deploy\nenv: {{PATH: '{home}:{bin}:bin::/opt/x/bin:/usr/bin:/bin'}}\nsteps:\n  - run: 'echo $PATH > path'\n  - {{run: 'echo $PATH > ../../shared/of_root', user: root}}\n"));
    deploy_ok(&spec, &bench.host());
    assert_eq!(
        bench.read("current/path"),
        format!("{home}:{bin}:bin::/opt/x/bin:/usr/bin:/bin\n")
    );
    assert_eq!(bench.read("shared/of_root"), "/opt/x/bin:/usr/bin:/bin\n");
}

#[test]
fn spec_with_unsafe_or_conflicting_paths_is_refused() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    for (more, field) in [
        ("linked_dirs: [../etc]", "linked_dirs"),
        ("linked_dirs: [/etc]", "linked_dirs"),
        ("linked_files: [a/../../b]", "linked_files"),
        (
            "linked_dirs: [config]\nlinked_files: [config/key]",
            "linked_files",
        ),
        ("linked_dirs: [public]\nassets: {run: x}", "assets.path"),
        ("linked_files: [REVISION]", "linked_files"),
        ("keep_releases: 0", "keep_releases"),
        ("deploy_to: srv", "deploy_to"),
        ("deploy_key: ../key", "deploy_key"),
    ] {
        let problem = bench.spec(&sha, more).validate().unwrap_err();
        assert_eq!(problem.field.as_deref(), Some(field), "{more}: {problem}");
    }
    for app in ["../x", "", ".x", "a/b", "a b"] {
        let mut spec = bench.spec(&sha, "");
        spec.app = app.into();
        assert_eq!(
            spec.validate().unwrap_err().field.as_deref(),
            Some("app"),
            "{app}"
        );
    }
    assert!(
        bench
            .spec(&sha, "linked_dirs: [log, tmp/pids]")
            .validate()
            .is_ok()
    );
}

#[test]
fn reference_example_is_valid() {
    let kind = crate::kinds::find("release").unwrap();
    let node = yaml::parse(
        "e",
        kind.test_probes().example.as_bytes(),
        yaml::ParseLimits::default(),
    )
    .unwrap();
    let body = &node.expect_map("a resource").unwrap()[0].value;
    let spec: ReleaseSpec = yaml::decode(body).unwrap();
    spec.validate().unwrap();
    let resource = kind.decode(body).unwrap();
    assert_eq!(resource.release().unwrap().app, "shop");
    assert_eq!(spec.links().len(), 3);
}
