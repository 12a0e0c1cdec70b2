//! Tasks that are skipped because their inputs did not change, and those that must not be.

use super::*;
use crate::resource::FieldValue;

const GEMS: &str = "steps:\n  - name: gems\n    run: 'mkdir -p vendor/bundle; cat Gemfile > vendor/bundle/made; ln -sf made vendor/bundle/link; echo gems >> ../../shared/ran'\n    when_changed: [Gemfile, Gemfile.lock]\n    outputs: [vendor/bundle]\n";

/// The recorded status and reason of a stage of the active release.
fn stage_status(bench: &Bench, stage: Stage, step: Option<&str>) -> (StageStatus, Option<String>) {
    let record = bench.record();
    let entry = record.find(&bench.active_name().unwrap()).unwrap();
    let stage = entry.find_stage(stage, step).unwrap();
    (stage.status, stage.why.clone())
}

fn skipped_as_equal_to(sha: &Sha) -> (StageStatus, Option<String>) {
    let why = format!("inputs equal to {}", sha.short());
    (StageStatus::Skipped, Some(why))
}

fn planned_steps(spec: &ReleaseSpec, bench: &Bench) -> String {
    let change = plan(spec, &bench.host()).unwrap();
    let steps = change.fields.iter().find(|field| field.field == "steps");
    match &steps.unwrap().to {
        FieldValue::Text(text) => text.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn step_with_unchanged_inputs_is_skipped_and_its_outputs_are_copied() {
    use std::os::unix::fs::MetadataExt;
    let bench = Bench::new();
    let user = if nix::unistd::geteuid().is_root() {
        "user: deploy\n"
    } else {
        ""
    };
    let spec = |sha: &Sha| bench.spec(sha, &format!("{user}linked_dirs: [log]\n{GEMS}"));
    let one = bench.commit(&[("Gemfile", "rails"), ("a", "1")]);
    let two = bench.commit(&[("Gemfile", "rails"), ("a", "2")]);
    let three = bench.commit(&[("Gemfile", "sinatra"), ("a", "2")]);
    deploy_ok(&spec(&one), &bench.host());
    assert_eq!(
        stage_status(&bench, Stage::Build, Some("gems")).0,
        StageStatus::Done
    );
    let first = bench.active_name().unwrap();

    deploy_ok(&spec(&two), &bench.host());
    assert_eq!(
        stage_status(&bench, Stage::Build, Some("gems")),
        skipped_as_equal_to(&one)
    );
    assert_eq!(bench.read("shared/ran"), "gems\n");
    assert_eq!(bench.read("current/vendor/bundle/made"), "rails");
    let link = std::fs::read_link(bench.app_path("current/vendor/bundle/link")).unwrap();
    assert_eq!(link, Path::new("made"));
    // A file of its own, because the app may write to it.
    let made = |release: &str| {
        let path = format!("releases/{release}/vendor/bundle/made");
        std::fs::metadata(bench.app_path(&path)).unwrap()
    };
    let (old, new) = (made(&first), made(&bench.active_name().unwrap()));
    assert_ne!(old.ino(), new.ino());
    assert_eq!((old.uid(), old.gid()), (new.uid(), new.gid()));
    assert_eq!((old.mode(), old.mtime()), (new.mode(), new.mtime()));

    deploy_ok(&spec(&three), &bench.host());
    assert_eq!(
        stage_status(&bench, Stage::Build, Some("gems")).0,
        StageStatus::Done
    );
    assert_eq!(bench.read("current/vendor/bundle/made"), "sinatra");
    assert_eq!(bench.read("shared/ran"), "gems\ngems\n");
}

#[test]
fn step_is_run_unless_skipping_it_is_known_to_be_safe() {
    let bench = Bench::new();
    let commit = |a: &str| bench.commit(&[("Gemfile", "rails"), ("a", a)]);
    deploy_ok(&bench.spec(&commit("0"), GEMS), &bench.host());
    let mut runs = 1;
    let mut check = |why: &str, more: &str, spoil: &dyn Fn(), runs_again: bool| {
        spoil();
        let sha = commit(why);
        deploy_ok(&bench.spec(&sha, more), &bench.host());
        runs += u32::from(runs_again);
        assert_eq!(
            bench.read("shared/ran").lines().count(),
            runs as usize,
            "{why}"
        );
    };
    check("nothing else", GEMS, &|| {}, false);
    let mode = GEMS.replace("[Gemfile, ", "[a, Gemfile, ");
    check("an input was added", &mode, &|| {}, true);
    check("it was taken away again", GEMS, &|| {}, true);
    let env = GEMS.replace("    outputs", "    env: {A: '1'}\n    outputs");
    check("its environment changed", &env, &|| {}, true);
    check("the same once more", &env, &|| {}, false);
    let gone = || std::fs::remove_dir_all(bench.app_path("current/vendor/bundle")).unwrap();
    check("an output is gone", &env, &gone, true);
    let lost = || std::fs::remove_dir_all(bench.host_path("var/lib/trueup/mirrors")).unwrap();
    check("the mirror is new and has both", &env, &lost, false);
    let nowhere = env.replace("[Gemfile, Gemfile.lock]", "[Gemfil]");
    check("there is no such path", &nowhere, &|| {}, true);
    check("still there is none", &nowhere, &|| {}, true);
    // The active commit was removed by a force push, and the mirror is a new one.
    let forced = || {
        lost();
        bench
            .repo
            .find_reference("refs/heads/master")
            .unwrap()
            .delete()
            .unwrap();
    };
    check("put back", &env, &|| {}, true);
    check("the old commit is not to be had", &env, &forced, true);
    let record =
        || std::fs::remove_file(bench.host_path("var/lib/trueup/releases/shop.json")).unwrap();
    check("the record is lost", &env, &record, true);
}

#[test]
fn repository_files_in_an_output_path_count_as_inputs() {
    let bench = Bench::new();
    let one = bench.commit(&[("Gemfile", "g"), ("vendor/bundle/kept", "1")]);
    let two = bench.commit(&[("Gemfile", "g"), ("vendor/bundle/kept", "2")]);
    deploy_ok(&bench.spec(&one, GEMS), &bench.host());
    deploy_ok(&bench.spec(&two, GEMS), &bench.host());
    assert_eq!(bench.read("current/vendor/bundle/kept"), "2");
    assert_eq!(bench.read("shared/ran"), "gems\ngems\n");
}

#[test]
fn changed_mode_counts_as_change_and_failed_releases_are_not_reused() {
    let bench = Bench::new();
    let of =
        |mode: u32, a: &str| bench.commit_modes(&[("Gemfile", "g", mode), ("a", a, 0o100_644)]);
    deploy_ok(&bench.spec(&of(0o100_644, "1"), GEMS), &bench.host());
    let fails = format!("{GEMS}  - {{run: 'false'}}\n");
    let wanted = of(0o100_755, "2");
    run_pass(&bench.spec(&wanted, &fails), &bench.host()).unwrap_err();
    assert_eq!(bench.read("shared/ran"), "gems\ngems\n");
    // Its gems may be incomplete, so the good release is the basis.
    deploy_ok(&bench.spec(&of(0o100_755, "3"), GEMS), &bench.host());
    assert_eq!(bench.read("shared/ran"), "gems\ngems\ngems\n");
}

#[test]
fn forced_fresh_build_skips_no_step() {
    let bench = Bench::new();
    let sha = bench.commit(&[("Gemfile", "g")]);
    deploy_ok(&bench.spec(&sha, GEMS), &bench.host());
    let mut again = bench.spec(&bench.commit(&[("Gemfile", "g"), ("a", "1")]), GEMS);
    again.resume_policy = ResumePolicy::FromScratch;
    deploy_ok(&again, &bench.host());
    assert_eq!(bench.read("shared/ran"), "gems\ngems\n");
}

#[test]
fn database_is_not_migrated_when_its_folder_is_unchanged() {
    let bench = Bench::new();
    let migrate = "migrate: {run: 'echo $REVISION >> ../../shared/migrated', when_changed: [db]}\n";
    let with = |db: &str, a: &str| bench.commit(&[("db/schema.rb", db), ("a", a)]);
    let (one, two, three) = (with("1", "1"), with("1", "2"), with("2", "2"));
    deploy_ok(&bench.spec(&one, migrate), &bench.host());
    deploy_ok(&bench.spec(&two, migrate), &bench.host());
    assert_eq!(
        stage_status(&bench, Stage::Migrate, None),
        skipped_as_equal_to(&one)
    );
    deploy_ok(&bench.spec(&three, migrate), &bench.host());
    assert_eq!(bench.read("shared/migrated"), format!("{one}\n{three}\n"));
    // Compared with the active release, not the last deployed one: a rollback and then a new release.
    deploy_ok(&bench.spec(&two, migrate), &bench.host());
    let four = with("2", "4");
    deploy_ok(&bench.spec(&four, migrate), &bench.host());
    assert_eq!(
        bench.read("shared/migrated"),
        format!("{one}\n{three}\n{four}\n")
    );
    // What decides is not known unless the role says it: a folder `db` may hold anything.
    let always = migrate.replace(", when_changed: [db]", "");
    let five = with("2", "5");
    deploy_ok(&bench.spec(&five, &always), &bench.host());
    assert!(
        bench
            .read("shared/migrated")
            .ends_with(&format!("{five}\n"))
    );
}

#[test]
fn plan_shows_skipped_steps_and_undecided_ones() {
    let bench = Bench::new();
    let rest = "assets: {run: rake, when_changed: [app]}\nmigrate: {run: x, when_changed: [db]}\n";
    let more = GEMS.to_owned() + &rest.replace("run: x", "run: 'true'");
    let of = |app: &str, a: &str| {
        bench.commit(&[("Gemfile", "g"), ("app/x", app), ("db/s", "1"), ("a", a)])
    };
    let runs = |sha: &Sha| {
        let text = more.replace("run: rake", "run: 'echo $REVISION > public/assets/a'");
        bench.spec(sha, &text)
    };
    let (one, two, three) = (of("1", "1"), of("1", "2"), of("2", "2"));
    let first = planned_steps(&runs(&one), &bench);
    assert!(!first.contains("skipped"), "{first}");
    deploy_ok(&runs(&one), &bench.host());
    let unknown = "unknown until it is fetched";
    // A new mirror has nothing that was pushed since.
    std::fs::rename(
        bench.host_path("var/lib/trueup/mirrors"),
        bench.dir.path().join("m"),
    )
    .unwrap();
    let text = planned_steps(&runs(&two), &bench);
    assert_eq!(text.matches(unknown).count(), 3, "{text}");
    assert!(
        text.contains(&format!("equal those of {}", one.short())),
        "{text}"
    );
    std::fs::rename(
        bench.dir.path().join("m"),
        bench.host_path("var/lib/trueup/mirrors"),
    )
    .unwrap();
    let before = snapshot(&bench.host_path(""));
    let known = |sha: &Sha| {
        let text = planned_steps(&runs(sha), &bench);
        text.lines()
            .map(|line| line.split(':').skip(1).collect::<Vec<_>>().join(":"))
            .collect::<Vec<_>>()
    };
    let skipped = format!(" skipped, inputs equal to {}", one.short());
    assert_eq!(known(&two), [skipped.as_str(); 3]);
    let lines = known(&three);
    assert_eq!((&lines[0], &lines[2]), (&skipped, &skipped));
    assert!(lines[1].contains("echo $REVISION"), "{lines:?}");
    assert_eq!(
        before,
        snapshot(&bench.host_path("")),
        "a plan wrote something"
    );
    deploy_ok(&runs(&two), &bench.host());
    for (stage, step) in [
        (Stage::Build, Some("gems")),
        (Stage::Assets, None),
        (Stage::Migrate, None),
    ] {
        assert_eq!(
            stage_status(&bench, stage, step),
            skipped_as_equal_to(&one),
            "{stage:?}"
        );
    }
    assert_eq!(bench.read("current/public/assets/a"), format!("{one}\n"));
}

#[test]
fn invalid_inputs_and_outputs_are_refused() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    for (more, field) in [
        (
            "steps: [{run: x, when_changed: []}]",
            "steps[0].when_changed",
        ),
        (
            "steps: [{run: x, when_changed: ['!a']}]",
            "steps[0].when_changed",
        ),
        (
            "steps: [{run: x, when_changed: [a, '!.']}]",
            "steps[0].when_changed",
        ),
        (
            "steps: [{run: x, when_changed: [../x]}]",
            "steps[0].when_changed",
        ),
        (
            "assets: {run: x, when_changed: [/etc]}",
            "assets.when_changed",
        ),
        ("assets: {run: x, manifests: ['']}", "assets.manifests"),
        (
            "migrate: {run: x, when_changed: []}",
            "migrate.when_changed",
        ),
        ("steps: [{run: x, outputs: [a]}]", "steps[0].outputs"),
        (
            "steps: [{run: x, when_changed: [a], outputs: [../a]}]",
            "steps[0].outputs",
        ),
        (
            "steps: [{run: x, when_changed: [a], outputs: [REVISION]}]",
            "steps[0].outputs",
        ),
        (
            "steps: [{run: x, when_changed: [a], outputs: [b, b/c]}]",
            "steps[0].outputs",
        ),
        (
            "linked_dirs: [log]\nsteps: [{run: x, outputs: {path: log/x, by: [a]}}]",
            "steps[0].outputs",
        ),
        (
            "hooks: {after_build: [{run: x, when_changed: [a]}]}",
            "hooks",
        ),
    ] {
        let problem = bench.spec(&sha, more).validate().unwrap_err();
        assert_eq!(problem.field.as_deref(), Some(field), "{more}: {problem}");
    }
}

#[test]
fn link_planted_in_an_output_path_is_not_followed() {
    let bench = Bench::new();
    if !is_root() {
        return;
    }
    let outside = bench.dir.path().join("outside");
    std::fs::create_dir_all(outside.join("bundle")).unwrap();
    std::fs::write(outside.join("bundle/kept"), "x").unwrap();
    let plant = format!(
        "user: deploy\nsteps:\n  - {{name: plant, run: 'ln -s {} vendor'}}\n",
        outside.display()
    );
    let gems = GEMS.replace("steps:\n", "");
    let one = bench.commit(&[("Gemfile", "g"), ("a", "1")]);
    let two = bench.commit(&[("Gemfile", "g"), ("a", "2")]);
    deploy_ok(
        &bench.spec(&one, &format!("user: deploy\n{GEMS}")),
        &bench.host(),
    );
    // The step runs instead, as the app's user, who may not write there either.
    run_pass(&bench.spec(&two, &format!("{plant}{gems}")), &bench.host()).unwrap_err();
    assert_eq!(list_names(&outside.join("bundle")), ["kept"]);
}

#[test]
fn all_paths_count_as_inputs_except_excluded_ones() {
    let bench = Bench::new();
    let more = "steps:\n  - {name: all, run: 'echo all >> ../../shared/ran', when_changed: ['.', '!app/models', '!spec']}\n";
    let mut files = vec![
        ("app/models/a", "1"),
        ("app/views/a", "1"),
        ("spec/a", "1"),
        ("x", "1"),
    ];
    let mut runs = 1;
    deploy_ok(&bench.spec(&bench.commit(&files), more), &bench.host());
    for (change, counts) in [
        (("app/models/a", "2"), false),
        (("app/models/new/b", "2"), false),
        (("app/views/a", "2"), true),
        (("spec/a", "2"), false),
        (("app/new/b", "2"), true),
        (("x", "2"), true),
        (("specs", "2"), true),
        (("y/z", "2"), true),
    ] {
        files.retain(|(path, _)| *path != change.0);
        files.push(change);
        let sha = bench.commit(&files);
        deploy_ok(&bench.spec(&sha, more), &bench.host());
        runs += usize::from(counts);
        assert_eq!(bench.read("shared/ran").lines().count(), runs, "{change:?}");
    }
    files.retain(|(path, _)| !path.starts_with("app/views"));
    deploy_ok(&bench.spec(&bench.commit(&files), more), &bench.host());
    assert_eq!(
        bench.read("shared/ran").lines().count(),
        runs + 1,
        "a removed file"
    );
}

#[test]
fn outputs_that_cannot_be_copied_are_rebuilt() {
    let bench = Bench::new();
    let commit = |a: &str| bench.commit(&[("Gemfile", "rails"), ("a", a)]);
    deploy_ok(&bench.spec(&commit("0"), GEMS), &bench.host());
    // Deeper than any project's, but not too deep to be entered and removed.
    crate::ports::testing::create_deep_tree(&bench.app_path("current/vendor/bundle"), 300);
    let sha = commit("1");
    deploy_ok(&bench.spec(&sha, GEMS), &bench.host());
    assert_eq!(bench.read("shared/ran"), "gems\ngems\n");
    assert_eq!(
        stage_status(&bench, Stage::Build, Some("gems")).0,
        StageStatus::Done
    );
    assert_eq!(
        list_names(&bench.app_path("current/vendor/bundle")),
        ["link", "made"]
    );
}
