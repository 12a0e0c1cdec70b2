use super::disks::Disk;
use super::*;

fn make_commits(bench: &Bench, n: usize) -> Vec<Sha> {
    (0..n)
        .map(|i| bench.commit(&[("a", &i.to_string())]))
        .collect()
}

#[test]
fn five_good_releases_are_kept_and_failed_ones_do_not_count() {
    let bench = Bench::new();
    let shas = make_commits(&bench, 9);
    for sha in &shas[..6] {
        deploy_ok(&bench.spec(sha, ""), &bench.host());
    }
    let good = bench.record().in_state(ReleaseStatus::Good);
    assert_eq!((good.len(), bench.releases().len()), (5, 5));
    for sha in &shas[6..8] {
        run_pass(&bench.spec(sha, "steps: [{run: 'false'}]\n"), &bench.host()).unwrap_err();
        let record = bench.record();
        assert_eq!(
            record.in_state(ReleaseStatus::Good).len(),
            5,
            "a failed one evicted a good one"
        );
        assert_eq!(record.in_state(ReleaseStatus::Failed).len(), 1);
    }
    deploy_ok(&bench.spec(&shas[8], ""), &bench.host());
    assert_eq!(bench.record().in_state(ReleaseStatus::Good).len(), 5);
    assert!(
        !bench.releases().contains(&good[0]),
        "the oldest should have gone"
    );
    let logs = list_names(&bench.host_path("var/log/trueup/releases/shop"));
    assert!(
        logs.len() <= 1,
        "logs of removed releases are kept: {logs:?}"
    );
}

#[test]
fn rollback_release_is_kept_even_with_keep_releases_1() {
    let bench = Bench::new();
    let shas = make_commits(&bench, 3);
    let mut active = Vec::new();
    for sha in &shas {
        deploy_ok(&bench.spec(sha, "keep_releases: 1\n"), &bench.host());
        active.extend(bench.active_name());
    }
    let mut expected = active[1..].to_vec();
    expected.sort();
    assert_eq!(bench.releases(), expected);
    // The rollback target is the release that was active last, whatever its name.
    deploy_ok(&bench.spec(&shas[1], "keep_releases: 1\n"), &bench.host());
    assert_eq!(bench.releases(), expected);
}

#[test]
fn release_with_a_running_process_is_not_removed() {
    let bench = Bench::new();
    let shas = make_commits(&bench, 5);
    let keep = "keep_releases: 2\n";
    deploy_ok(&bench.spec(&shas[0], keep), &bench.host());
    let first = bench.active_name().unwrap();
    std::fs::create_dir(bench.app_path("current/deep")).unwrap();
    let mut process = std::process::Command::new("sleep")
        .arg("60")
        .current_dir(bench.app_path("current/deep"))
        .spawn()
        .unwrap();
    for sha in &shas[1..4] {
        deploy_ok(&bench.spec(sha, keep), &bench.host());
    }
    let kept = bench.releases();
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(kept.contains(&first) && kept.len() == 3, "{kept:?}");
    deploy_ok(&bench.spec(&shas[4], keep), &bench.host());
    assert_eq!(bench.releases().len(), 2);
}

#[test]
fn folders_that_are_no_releases_are_never_removed() {
    let bench = Bench::new();
    let shas = make_commits(&bench, 4);
    deploy_ok(&bench.spec(&shas[0], "keep_releases: 1\n"), &bench.host());
    std::fs::create_dir(bench.app_path("releases/backup")).unwrap();
    std::fs::create_dir(bench.app_path("releases/20200101000000")).unwrap();
    std::fs::create_dir(bench.app_path("releases/.hidden.partial")).unwrap();
    for sha in &shas[1..] {
        deploy_ok(&bench.spec(sha, "keep_releases: 1\n"), &bench.host());
    }
    for name in ["backup", "20200101000000", ".hidden.partial"] {
        assert!(bench.releases().contains(&name.to_owned()), "{name}");
    }
}

#[test]
fn capistrano_releases_are_adopted() {
    let bench = Bench::new();
    let (old, sha) = (bench.commit(&[("a", "0")]), bench.commit(&[("a", "1")]));
    for name in ["20200101000000", "20200102000000", "20200103000000"] {
        std::fs::create_dir_all(bench.app_path("releases").join(name)).unwrap();
        std::fs::write(
            bench.app_path("releases").join(name).join("REVISION"),
            format!("{old}\n"),
        )
        .unwrap();
    }
    let line = |name: &str| {
        format!(
            "Branch master (at {}) deployed as release {name} by deploy\n",
            old.short()
        )
    };
    std::fs::write(bench.app_path("revisions.log"), line("20200101000000")).unwrap();
    // Capistrano writes the absolute path.
    std::os::unix::fs::symlink(
        "/srv/www/shop/releases/20200102000000",
        bench.app_path("current"),
    )
    .unwrap();
    assert_eq!(
        run_pass(&bench.spec(&old, ""), &bench.host()),
        Ok(None),
        "it is right already"
    );

    deploy_ok(&bench.spec(&sha, "keep_releases: 3\n"), &bench.host());
    let record = bench.record();
    assert_eq!(
        record.in_state(ReleaseStatus::Good)[..2],
        ["20200101000000", "20200102000000"]
    );
    assert_eq!(record.in_state(ReleaseStatus::Failed), ["20200103000000"]);
}

/// The warnings of a report.
fn warnings(spec: &ReleaseSpec, host: &Host) -> Vec<String> {
    condition(spec, host).unwrap().warnings
}

fn has_chores(spec: &ReleaseSpec, host: &Host) -> bool {
    condition(spec, host).unwrap().needs_maintenance
}

#[test]
fn mount_in_an_old_release_is_kept_and_blocks_no_deployment() {
    let bench = Bench::new();
    let shas = make_commits(&bench, 5);
    let keep = "keep_releases: 2\nspare: false\n";
    deploy_ok(&bench.spec(&shas[0], keep), &bench.host());
    let first = bench.active_name().unwrap();
    let at = bench.app_path("current/public/share");
    let at = at
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .canonicalize()
        .unwrap();
    let at = at.join("public/share");
    let Some(share) = Disk::mount(&at, &["-t", "tmpfs", "none"]) else {
        return;
    };
    std::fs::write(at.join("precious"), "kept").unwrap();
    for sha in &shas[1..4] {
        deploy_ok(&bench.spec(sha, keep), &bench.host());
    }
    assert_eq!(bench.releases().len(), 3);
    assert_eq!(std::fs::read(at.join("precious")).unwrap(), b"kept");
    assert!(
        bench.app_path("releases").join(&first).join("a").exists(),
        "it stays whole"
    );
    let spec = bench.spec(&shas[3], keep);
    let logged = warnings(&spec, &bench.host());
    assert!(
        logged.len() == 1 && logged[0].contains("public/share") && logged[0].contains("umount"),
        "{logged:?}"
    );
    assert_eq!(run_pass(&spec, &bench.host()), Ok(None));
    assert!(
        !has_chores(&spec, &bench.host()),
        "it is tried again in each pass"
    );
    drop(share);
    deploy_ok(&bench.spec(&shas[4], keep), &bench.host());
    assert_eq!(bench.releases().len(), 2);
    assert_eq!(
        warnings(&bench.spec(&shas[4], keep), &bench.host()),
        [""; 0]
    );
}

#[test]
fn immutable_file_in_an_old_release_blocks_no_deployment() {
    let bench = Bench::new();
    let shas = make_commits(&bench, 6);
    let keep = "keep_releases: 2\n";
    deploy_ok(&bench.spec(&shas[0], keep), &bench.host());
    let folder = bench
        .app_path("releases")
        .join(bench.active_name().unwrap());
    let inode = |path: &Path| {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(path).unwrap().ino()
    };
    std::fs::write(folder.join("fixed"), "x").unwrap();
    let fixed = inode(&folder.join("fixed"));
    let chattr = |flag: &str, path: &Path| {
        let mut chattr = std::process::Command::new("chattr");
        let done = chattr.arg(flag).arg(path).output();
        done.is_ok_and(|done| done.status.success())
    };
    if !is_root() || !chattr("+i", &folder.join("fixed")) {
        crate::ports::testing::skip_test("an immutable file", "cannot make one");
        return;
    }
    let passes: Vec<_> = shas[1..5]
        .iter()
        .map(|sha| run_pass(&bench.spec(sha, keep), &bench.host()))
        .collect();
    let hidden = bench
        .releases()
        .into_iter()
        .find(|name| name.ends_with(".removed"));
    let hidden = bench.app_path("releases").join(hidden.unwrap_or_default());
    let spec = bench.spec(&shas[4], keep);
    let (logged, chores) = (
        warnings(&spec, &bench.host()),
        has_chores(&spec, &bench.host()),
    );
    let left = list_names(&hidden);
    assert!(chattr("-i", &hidden.join("fixed")));
    assert!(
        passes
            .iter()
            .all(|pass| *pass == Ok(Some(ApplyOutcome::Done))),
        "{passes:?}"
    );
    assert_eq!(
        (left, inode(&hidden.join("fixed"))),
        (vec!["fixed".to_owned()], fixed)
    );
    assert!(
        logged.len() == 1 && logged[0].contains("chattr -i"),
        "{logged:?}"
    );
    assert!(!chores, "it is tried again in each pass");
    deploy_ok(&bench.spec(&shas[5], keep), &bench.host());
    assert_eq!(bench.releases().len(), 2);
    assert_eq!(
        warnings(&bench.spec(&shas[5], keep), &bench.host()),
        [""; 0]
    );
}

#[test]
fn process_in_another_folder_of_that_name_keeps_no_release() {
    let bench = Bench::new();
    let shas = make_commits(&bench, 4);
    let keep = "keep_releases: 2\n";
    deploy_ok(&bench.spec(&shas[0], keep), &bench.host());
    let first = bench.active_name().unwrap();
    let alike = bench.dir.path().join("releases").join(&first);
    std::fs::create_dir_all(&alike).unwrap();
    let mut process = std::process::Command::new("sleep")
        .arg("60")
        .current_dir(&alike)
        .spawn()
        .unwrap();
    for sha in &shas[1..] {
        deploy_ok(&bench.spec(sha, keep), &bench.host());
    }
    let kept = bench.releases();
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(kept.len() == 2 && !kept.contains(&first), "{kept:?}");
}

#[test]
fn processes_of_other_users_keep_a_limited_number_of_releases() {
    use std::os::unix::process::CommandExt;
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    let shas = make_commits(&bench, 8);
    let keep = "user: deploy\nkeep_releases: 2\n";
    let mut processes = Vec::new();
    for sha in &shas {
        deploy_ok(&bench.spec(sha, keep), &bench.host());
        let mut sleep = std::process::Command::new("sleep");
        let sleep = sleep
            .arg("60")
            .uid(65_534)
            .current_dir(bench.app_path("current"));
        processes.push(sleep.spawn().unwrap());
    }
    let kept = bench.releases();
    for mut process in processes {
        process.kill().unwrap();
        process.wait().unwrap();
    }
    assert_eq!(kept.len(), 4, "{kept:?}");
}

#[test]
fn deeply_nested_folder_in_an_old_release_blocks_no_deployment() {
    let bench = Bench::new();
    let shas = make_commits(&bench, 4);
    let keep = "keep_releases: 2\n";
    for (n, sha) in shas.iter().enumerate() {
        deploy_ok(&bench.spec(sha, keep), &bench.host());
        if n == 0 {
            crate::ports::testing::create_deep_tree(&bench.app_path("current"), 3_000);
        }
    }
    assert_eq!(bench.releases().len(), 2);
}

#[test]
fn fifo_in_place_of_revisions_log_blocks_nothing() {
    let bench = Bench::new();
    let shas = make_commits(&bench, 2);
    std::fs::create_dir_all(bench.app_path("releases/20200101000000")).unwrap();
    let log = bench.app_path("revisions.log");
    nix::unistd::mkfifo(&log, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for sha in &shas {
        deploy_ok(&bench.spec(sha, ""), &bench.host());
    }
}
