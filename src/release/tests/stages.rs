//! The record of the stages, and resuming where they stopped.

use super::*;

#[test]
fn failed_release_resumes_at_the_failed_step() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    let steps = "steps:\n  - {name: one, run: 'echo one >> ../../shared/ran'}\n  - {name: two, run: 'test -e ../../shared/go || exit 3; echo two >> ../../shared/ran'}\n  - {name: three, run: 'echo three >> ../../shared/ran'}\n";
    run_pass(&bench.spec(&sha, steps), &bench.host()).unwrap_err();
    let failed = bench.record().in_state(ReleaseStatus::Failed);
    std::fs::write(bench.app_path("shared/go"), "").unwrap();
    deploy_ok(&bench.spec(&sha, steps), &bench.host());
    assert_eq!(bench.read("shared/ran"), "one\ntwo\nthree\n");
    assert_eq!(
        bench.active_name(),
        failed.first().cloned(),
        "it began a new release"
    );
    let record = bench.record();
    let entry = record.find(&failed[0]).unwrap();
    assert_eq!((entry.state, entry.failures), (ReleaseStatus::Good, 0));
    let recorded: Vec<(Stage, Option<&str>)> = entry
        .stages
        .iter()
        .map(|stage| (stage.stage, stage.step.as_deref()))
        .collect();
    assert_eq!(
        recorded,
        [
            (Stage::Fetch, None),
            (Stage::Materialise, None),
            (Stage::Link, None),
            (Stage::Build, None),
            (Stage::Build, Some("one")),
            (Stage::Build, Some("two")),
            (Stage::Build, Some("three")),
            (Stage::Activate, None),
            (Stage::Gate, None),
        ]
    );
    assert!(
        entry
            .stages
            .iter()
            .all(|stage| stage.status == StageStatus::Done)
    );
}

#[test]
fn changed_step_is_run_again_with_all_following_steps() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    let steps = |first: &str, third: &str| {
        format!(
            "steps:\n  - {{name: one, run: 'echo {first} >> ../../shared/ran'}}\n  - {{name: two, run: 'echo two >> ../../shared/ran'}}\n  - {{name: three, run: '{third}'}}\n"
        )
    };
    run_pass(&bench.spec(&sha, &steps("one", "false")), &bench.host()).unwrap_err();
    deploy_ok(&bench.spec(&sha, &steps("uno", "true")), &bench.host());
    assert_eq!(bench.read("shared/ran"), "one\ntwo\nuno\ntwo\n");
}

#[test]
fn repeatedly_failing_release_backs_off_until_a_retry_is_asked_for() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    let mut spec = bench.spec(
        &sha,
        "steps: [{run: 'echo ran >> ../../shared/ran; false'}]\n",
    );
    for _ in 0..2 {
        run_pass(&spec, &bench.host()).unwrap_err();
    }
    let failure = run_pass(&spec, &bench.host()).unwrap_err();
    assert!(
        failure.message.contains("failed 2 times in a row"),
        "{failure}"
    );
    assert!(failure.hint.unwrap().contains("`trueup converge`"));
    assert_eq!(bench.read("shared/ran"), "ran\nran\n");
    spec.resume_policy = ResumePolicy::Now;
    run_pass(&spec, &bench.host()).unwrap_err();
    assert_eq!(bench.read("shared/ran"), "ran\nran\nran\n");
}

#[test]
fn release_that_exceeds_build_deadline_is_abandoned() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    let mut spec = bench.spec(&sha, "build_deadline: 1s\nsteps: [{run: [sleep, '30']}]\n");
    let failure = run_pass(&spec, &bench.host()).unwrap_err();
    assert!(
        failure.message.contains("`build_deadline` (1 s)"),
        "{failure}"
    );
    let again = run_pass(&spec, &bench.host()).unwrap_err();
    assert!(again.message.contains("was abandoned"), "{again}");
    assert_eq!(bench.active_name(), None);
    spec.resume_policy = ResumePolicy::FromScratch;
    spec.build_deadline = None;
    spec.steps.clear();
    deploy_ok(&spec, &bench.host());
}

#[test]
fn build_deadline_does_not_limit_migration_and_activation() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    let rest = |end: &str| {
        format!(
            "build_deadline: 2s\nmigrate: {{run: 'sleep 2.2; echo migrated >> ../../shared/ran; {end}'}}\nhooks: {{before_activate: [{{run: 'echo told >> ../../shared/ran'}}]}}\n"
        )
    };
    let failure = run_pass(&bench.spec(&sha, &rest("false")), &bench.host()).unwrap_err();
    assert!(failure.message.starts_with("step `migrate`"), "{failure}");
    deploy_ok(&bench.spec(&sha, &rest("true")), &bench.host());
    assert_eq!(bench.read("shared/ran"), "migrated\nmigrated\ntold\n");
}

#[test]
fn the_next_sha_is_built_ahead_and_activated_without_building() {
    let bench = Bench::new();
    let (one, two) = (bench.commit(&[("a", "1")]), bench.commit(&[("a", "2")]));
    let steps = "steps: [{run: 'echo built >> ../../shared/built'}]\nmigrate: {run: 'echo $REVISION >> ../../shared/migrated'}\n";
    deploy_ok(&bench.spec(&one, steps), &bench.host());
    let mut spec = bench.spec(&one, steps);
    spec.build_ahead = Some(two.clone());
    assert_eq!(
        plan(&spec, &bench.host()).unwrap().verb,
        crate::resource::Verb::Build
    );
    deploy_ok(&spec, &bench.host());
    assert_eq!(
        run_pass(&spec, &bench.host()),
        Ok(None),
        "it is built already"
    );
    assert_eq!(bench.read("current/a"), "1");
    assert_eq!(bench.read("shared/migrated"), format!("{one}\n"));
    let change = plan(&bench.spec(&two, steps), &bench.host()).unwrap();
    assert!(!change.touches("steps"));
    deploy_ok(&bench.spec(&two, steps), &bench.host());
    assert_eq!(bench.read("shared/built"), "built\nbuilt\n");
    assert_eq!(bench.read("shared/migrated"), format!("{one}\n{two}\n"));
    assert_eq!(bench.read("current/a"), "2");
}

#[test]
fn only_the_next_wanted_prebuilt_release_is_kept() {
    let bench = Bench::new();
    let one = bench.commit(&[("a", "0")]);
    deploy_ok(&bench.spec(&one, ""), &bench.host());
    for n in ["1", "2", "3", "4"] {
        let next = bench.commit(&[("a", n)]);
        let mut spec = bench.spec(&one, "");
        spec.build_ahead = Some(next);
        deploy_ok(&spec, &bench.host());
        assert_eq!(bench.releases().len(), 2, "the active one, and the next");
    }
}

#[test]
fn hooks_run_around_their_stages_with_the_right_environment() {
    let bench = Bench::new();
    let (one, two) = (bench.commit(&[("a", "1")]), bench.commit(&[("a", "2")]));
    let say = "echo $APP $STAGE ${PREVIOUS_REVISION:-none} $REVISION $(readlink $CURRENT_PATH) >> $SHARED_PATH/hooks";
    let hooks = [
        "before_fetch",
        "after_build",
        "before_activate",
        "after_activate",
        "after_gate",
        "after_keep",
    ]
    .map(|hook| format!("  {hook}: [{{run: '{say}'}}]\n"))
    .concat();
    deploy_ok(&bench.spec(&one, ""), &bench.host());
    let first = bench.active_name().unwrap();
    deploy_ok(
        &bench.spec(&two, &format!("hooks:\n{hooks}")),
        &bench.host(),
    );
    let second = bench.active_name().unwrap();
    let line = |stage: &str, previous: &str, at: &str| {
        format!("shop {stage} {previous} {two} releases/{at}\n")
    };
    let one = one.as_str();
    let expected = [
        line("fetch", one, &first),
        line("build", one, &first),
        line("activate", one, &first),
        line("activate", one, &second),
        line("gate", one, &second),
        line("keep", one, &second),
    ];
    assert_eq!(bench.read("shared/hooks"), expected.concat());
}

#[test]
fn failing_before_activate_hook_prevents_activation() {
    let bench = Bench::new();
    let (one, two) = (bench.commit(&[("a", "1")]), bench.commit(&[("a", "2")]));
    deploy_ok(&bench.spec(&one, ""), &bench.host());
    let active = bench.active_name();
    let hooks = "hooks: {before_activate: [{name: ask, run: 'echo not today; exit 1'}]}\n";
    let failure = run_pass(&bench.spec(&two, hooks), &bench.host()).unwrap_err();
    assert!(
        failure.message.contains("before_activate ask") && failure.message.contains("not today"),
        "{failure}"
    );
    assert_eq!(bench.active_name(), active);
}

#[test]
fn rendered_files_precede_the_build_and_roll_back_with_their_release() {
    use std::os::unix::fs::MetadataExt;
    let bench = Bench::new();
    let (one, two) = (
        bench.commit(&[("a", "1"), (".env", "of the repository")]),
        bench.commit(&[("a", "2")]),
    );
    let with = |sha: &Sha, word: &str| {
        let text = format!(
            "files: [{{path: .env, content: '{word}', mode: '0600'}}, {{path: config/deep/puma.rb, content: '{word}'}}]\nsteps: [{{run: 'cat .env > seen'}}]\n"
        );
        let mut spec = bench.spec(sha, &text);
        for file in &mut spec.files {
            file.resolve(0, &crate::kind::conformance::FakeInputs)
                .unwrap();
        }
        spec
    };
    deploy_ok(&with(&one, "old"), &bench.host());
    let first = bench.active_name().unwrap();
    assert_eq!(
        (
            bench.read("current/seen"),
            bench.read("current/config/deep/puma.rb")
        ),
        ("old".into(), "old".into())
    );
    assert_eq!(
        std::fs::metadata(bench.app_path("current/.env"))
            .unwrap()
            .mode()
            & 0o777,
        0o600
    );
    // A changed description changes the release in place, and its dependents see a new stamp.
    let stamp = |spec: &ReleaseSpec| {
        Release::stamp(spec, &Release::inspect(spec, &bench.host()).unwrap()).unwrap()
    };
    let before = stamp(&with(&one, "old"));
    let change = plan(&with(&one, "new"), &bench.host()).unwrap();
    assert!(change.touches(".env") && !change.keeps_stamp, "{change:?}");
    deploy_ok(&with(&one, "new"), &bench.host());
    assert_ne!(stamp(&with(&one, "new")).fingerprint, before.fingerprint);
    assert_eq!(bench.read("current/.env"), "new");
    assert_eq!(run_pass(&with(&one, "new"), &bench.host()), Ok(None));
    // The files of a release that fails its gate do not replace those of the rollback target.
    let mut bad = with(&two, "for two");
    bad.health = Some(unreachable_health_check());
    bad.gate_timeout = Some(crate::resource::Seconds(std::time::Duration::ZERO));
    run_pass(&bad, &bench.host()).unwrap_err();
    assert_eq!(bench.active_name().unwrap(), first);
    assert_eq!(bench.read("current/.env"), "new");
}

#[test]
fn replaced_rendered_files_are_restored_by_the_next_pass() {
    use std::os::unix::fs::{lchown, symlink};
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    let outside = bench.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("env"), "root's").unwrap();
    let mut spec = bench.spec(
        &sha,
        "user: deploy\nfiles: [{path: .trueup/env, content: 'A=1'}]\n",
    );
    for file in &mut spec.files {
        file.resolve(0, &crate::kind::conformance::FakeInputs)
            .unwrap();
    }
    deploy_ok(&spec, &bench.host());
    let (folder, file) = (
        bench.app_path("current/.trueup"),
        bench.app_path("current/.trueup/env"),
    );
    let pipe = |path: &Path| {
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    };
    let planted: [(&str, &dyn Fn()); 6] = [
        ("a link", &|| symlink(outside.join("env"), &file).unwrap()),
        ("a pipe", &|| pipe(&file)),
        ("a folder", &|| {
            for path in [file.clone(), file.join("x")] {
                std::fs::create_dir(&path).unwrap();
                lchown(&path, Some(DEPLOY_UID), Some(DEPLOY_UID)).unwrap();
            }
        }),
        ("a file without end", &|| {
            std::fs::File::create(&file)
                .unwrap()
                .set_len(1 << 40)
                .unwrap();
        }),
        ("a link for the folder", &|| {
            std::fs::remove_dir(&folder).unwrap();
            symlink(&outside, &folder).unwrap();
            lchown(&folder, Some(DEPLOY_UID), Some(DEPLOY_UID)).unwrap();
        }),
        ("a pipe for the folder", &|| {
            std::fs::remove_dir(&folder).unwrap();
            pipe(&folder);
        }),
    ];
    for (what, plant) in planted {
        std::fs::remove_file(&file).unwrap();
        plant();
        let again = run_pass(&spec, &bench.host());
        assert_eq!(again, Ok(Some(ApplyOutcome::Done)), "{what}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "A=1", "{what}");
        assert_eq!(run_pass(&spec, &bench.host()), Ok(None), "{what}");
        assert_eq!(
            std::fs::read_to_string(outside.join("env")).unwrap(),
            "root's"
        );
    }
}

/// Nothing listens on its port.
fn unreachable_health_check() -> HealthCheck {
    let node = yaml::parse(
        "h",
        b"{url: 'http://127.0.0.1:1/up'}",
        yaml::ParseLimits::default(),
    )
    .unwrap();
    yaml::decode(&node).unwrap()
}

#[test]
fn stop_interrupts_a_build_and_waits_for_a_migration() {
    // The slow task; what had run when the stopped pass ended, and when the next one had. A lower-case letter
    // stands for the start of a command, an upper-case one for its end.
    for (slow, stopped, expected) in [
        ("step", "s", "ssSaAmM"),
        ("assets", "sSa", "sSaaAmM"),
        ("migrate", "sSaAmM", "sSaAmM"),
    ] {
        let bench = Bench::new();
        let sha = bench.commit(&[("a", "1")]);
        let run = |name: &str| {
            let (letter, end) = (&name[..1], name[..1].to_uppercase());
            let wait = match name == slow {
                true => "until [ -e ../../shared/go ]; do sleep .02; done",
                false => ":",
            };
            format!(
                "run: 'printf {letter} >>../../shared/ran; {wait}; printf {end} >>../../shared/ran'"
            )
        };
        let stages = format!(
            "steps: [{{{}}}]\nassets: {{{}}}\nmigrate: {{{}}}\n",
            run("step"),
            run("assets"),
            run("migrate"),
        );
        let spec = bench.spec(&sha, &stages);
        let (ran, go) = (bench.app_path("shared/ran"), bench.app_path("shared/go"));
        let host = bench.host();
        let stop = host.stop.clone();
        let ended = std::thread::scope(|threads| {
            threads.spawn(|| {
                let has_started = |ran: String| ran.ends_with(&slow[..1]);
                while !std::fs::read_to_string(&ran).is_ok_and(has_started) {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                stop.set();
                if slow == "migrate" {
                    std::thread::sleep(std::time::Duration::from_millis(200));
                    std::fs::write(&go, "").unwrap();
                }
            });
            run_pass(&spec, &host)
        });
        let failure = ended.unwrap_err();
        assert!(
            failure.message.starts_with("stopped on request"),
            "{slow}: {failure}"
        );
        assert_eq!(bench.read("shared/ran"), stopped, "{slow}");
        assert_eq!(bench.active_name(), None, "{slow}");
        std::fs::write(&go, "").unwrap();
        deploy_ok(&spec, &bench.host());
        assert_eq!(bench.read("shared/ran"), expected, "{slow}");
        let record = bench.record();
        let entry = record.find(&bench.active_name().unwrap()).unwrap();
        assert_eq!(
            (entry.state, entry.failures),
            (ReleaseStatus::Good, 0),
            "{slow}"
        );
    }
}

/// Tells peers whether a host on trial is a newcomer.
#[test]
fn first_release_on_trial_is_distinguished_from_later_ones() {
    let bench = Bench::new();
    let host = bench.host();
    let served = |spec: &ReleaseSpec| {
        let active = record::active(&host, &spec.layout(), 5).unwrap().unwrap();
        (active.trial.is_some(), active.served_before)
    };
    let switch = |spec: &ReleaseSpec| {
        let diff = Release::diff(spec, &Release::inspect(spec, &host).unwrap()).unwrap();
        Release::apply(spec, &diff.action, &host).unwrap();
    };
    let first = bench.spec(&bench.commit(&[("a", "1")]), "");
    switch(&first);
    assert_eq!(served(&first), (true, false));
    record_proven(&first, &host).unwrap();
    assert!(!served(&first).0);
    let second = bench.spec(&bench.commit(&[("a", "2")]), "");
    switch(&second);
    assert_eq!(served(&second), (true, true));
    restore_previous(&second, &host, &Failure::new("answered 500")).unwrap();
    assert_eq!(served(&second), (true, true), "the way back");
}

#[test]
fn rollback_of_a_proven_release_is_undone_also_by_a_later_pass() {
    let bench = Bench::new();
    let host = bench.host();
    let bad = Failure::new("answered 500");
    let first = bench.spec(&bench.commit(&[("a", "1")]), "");
    deploy_ok(&first, &host);
    let second = bench.spec(&bench.commit(&[("a", "2")]), "");
    deploy_ok(&second, &host);
    let active = || record::active(&host, &first.layout(), 5).unwrap().unwrap();
    let new = active().name;
    repeat_trial(&second, &host, None).unwrap();
    restore_previous(&second, &host, &bad).unwrap();
    let quarantined = |spec: &ReleaseSpec| {
        let overrides = record::overrides::Overrides::load(&host, &spec.layout()).unwrap();
        overrides.quarantine.len()
    };
    assert_eq!(quarantined(&second), 1);
    // The pass was killed here; the next one finds that the restored release fails as well.
    assert_eq!(
        restore_previous(&second, &host, &bad).unwrap(),
        RollbackOutcome::RestoredIsUnhealthy
    );
    assert_eq!(undo_rollback(&second, &host).unwrap(), Some(new.clone()));
    assert_eq!(quarantined(&second), 0);
    assert_eq!(active().name, new);
    assert_eq!(active().state, Some(ReleaseStatus::Good));
    // Once, and never for a release that had not passed.
    assert_eq!(undo_rollback(&second, &host).unwrap(), None);
    record_proven(&second, &host).unwrap();
    let third = bench.spec(&bench.commit(&[("a", "3")]), "");
    crate::release::deploy(&third, third.wanted.as_ref().unwrap(), &host).unwrap();
    restore_previous(&third, &host, &bad).unwrap();
    assert_eq!(undo_rollback(&third, &host).unwrap(), None);
}

#[test]
fn proven_release_leaves_the_quarantine() {
    let bench = Bench::new();
    let host = bench.host();
    let spec = bench.spec(&bench.commit(&[("a", "1")]), "");
    deploy_ok(&spec, &host);
    let second = bench.spec(&bench.commit(&[("a", "2")]), "");
    crate::release::deploy(&second, second.wanted.as_ref().unwrap(), &host).unwrap();
    // A pass was killed between the quarantine and the record.
    let mut overrides = record::overrides::Overrides::default();
    overrides.quarantine(crate::release::QuarantinedSha {
        sha: second.wanted.clone().unwrap(),
        release: "r".into(),
        at: host.clock.now(),
        why: "answered 500".into(),
        same_files_as: None,
    });
    overrides.save(&host, &second.layout()).unwrap();
    record_proven(&second, &host).unwrap();
    let overrides = record::overrides::Overrides::load(&host, &second.layout()).unwrap();
    assert_eq!(overrides.quarantine.len(), 0);
}

#[test]
fn release_is_new_for_its_bake_whatever_the_clock_showed_before() {
    let bench = Bench::new();
    let spec = bench.spec(&bench.commit(&[("a", "1")]), "");
    let now = bench.host().clock.now();
    let is_new = |seconds: i64| spec.is_baking(now + jiff::SignedDuration::from_secs(seconds), now);
    assert!(is_new(1) && is_new(300));
    assert!(!is_new(0) && !is_new(-1) && !is_new(301) && !is_new(31_536_000));
}

#[test]
fn restored_release_that_fails_stays_on_trial_and_gives_way_to_another_sha() {
    let bench = Bench::new();
    let host = bench.host();
    let bad = Failure::new("answered 500");
    let switch = |spec: &ReleaseSpec| {
        let diff = Release::diff(spec, &Release::inspect(spec, &host).unwrap()).unwrap();
        Release::apply(spec, &diff.action, &host).unwrap();
    };
    let first = bench.spec(&bench.commit(&[("a", "1")]), "");
    switch(&first);
    record_proven(&first, &host).unwrap();
    let second = bench.spec(&bench.commit(&[("a", "2")]), "");
    switch(&second);
    restore_previous(&second, &host, &bad).unwrap();
    // What both need may be down: the restored release was good, so it is asked again, and its sha not quarantined.
    for _ in 0..2 {
        let end = restore_previous(&second, &host, &bad).unwrap();
        assert_eq!(end, RollbackOutcome::RestoredIsUnhealthy);
        let state = Release::inspect(&second, &host).unwrap();
        let diff = Release::diff(&second, &state).unwrap();
        assert_eq!(diff.change.verb, Verb::Prove);
    }
    let overrides = record::overrides::Overrides::load(&host, &second.layout()).unwrap();
    assert_eq!(overrides.quarantine.len(), 1);
    let third = bench.spec(&bench.commit(&[("a", "3")]), "");
    deploy_ok(&third, &host);
}

#[test]
fn missing_program_of_a_step_is_reported_with_its_path_variable() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    let step = "steps: [{name: gems, run: [bundel, install]}]\n";
    let failure = run_pass(&bench.spec(&sha, step), &bench.host()).unwrap_err();
    assert!(failure.message.contains("step `gems`"), "{failure}");
    assert!(failure.message.contains("cannot run `bundel"), "{failure}");
    let hint = failure.hint.unwrap();
    assert!(hint.starts_with("is `bundel` installed"), "{hint}");
    assert!(hint.contains("/usr/local/bin"), "{hint}");
}
