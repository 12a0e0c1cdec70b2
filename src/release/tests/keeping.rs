use super::*;

/// Commits like no other bench's: a release counts as lived in by its name alone, and benches side
/// by side would give the same sha the same name in the same second.
fn shas(bench: &Bench, n: usize) -> Vec<Sha> {
    let place = bench.dir.path().display().to_string();
    (0..n)
        .map(|i| bench.commit(&[("a", &i.to_string()), ("place", &place)]))
        .collect()
}

#[test]
fn five_good_releases_are_kept_and_failed_ones_do_not_count() {
    let bench = Bench::new();
    let shas = shas(&bench, 9);
    for sha in &shas[..6] {
        done(&bench.spec(sha, ""), &bench.host());
    }
    let good = bench.record().in_state(Standing::Good);
    assert_eq!((good.len(), bench.releases().len()), (5, 5));
    for sha in &shas[6..8] {
        pass(&bench.spec(sha, "steps: [{run: 'false'}]\n"), &bench.host()).unwrap_err();
        let record = bench.record();
        assert_eq!(
            record.in_state(Standing::Good).len(),
            5,
            "a failed one evicted a good one"
        );
        assert_eq!(record.in_state(Standing::Failed).len(), 1);
    }
    done(&bench.spec(&shas[8], ""), &bench.host());
    assert_eq!(bench.record().in_state(Standing::Good).len(), 5);
    assert!(
        !bench.releases().contains(&good[0]),
        "the oldest should have gone"
    );
    let logs = names(&bench.path("var/log/trueup/releases/shop"));
    assert!(
        logs.len() <= 1,
        "logs of removed releases are kept: {logs:?}"
    );
}

#[test]
fn the_release_to_go_back_to_is_kept_even_when_one_is_asked_for() {
    let bench = Bench::new();
    let shas = shas(&bench, 3);
    let mut active = Vec::new();
    for sha in &shas {
        done(&bench.spec(sha, "keep_releases: 1\n"), &bench.host());
        active.extend(bench.active());
    }
    let mut expected = active[1..].to_vec();
    expected.sort();
    assert_eq!(bench.releases(), expected);
    // Back and forth: what was active last is what is gone back to, whatever its name.
    done(&bench.spec(&shas[1], "keep_releases: 1\n"), &bench.host());
    assert_eq!(bench.releases(), expected);
}

#[test]
fn a_release_in_which_a_process_lives_is_not_removed() {
    let bench = Bench::new();
    let shas = shas(&bench, 5);
    let keep = "keep_releases: 2\n";
    done(&bench.spec(&shas[0], keep), &bench.host());
    let first = bench.active().unwrap();
    std::fs::create_dir(bench.app("current/deep")).unwrap();
    let mut process = std::process::Command::new("sleep")
        .arg("60")
        .current_dir(bench.app("current/deep"))
        .spawn()
        .unwrap();
    for sha in &shas[1..4] {
        done(&bench.spec(sha, keep), &bench.host());
    }
    let kept = bench.releases();
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(kept.contains(&first) && kept.len() == 3, "{kept:?}");
    done(&bench.spec(&shas[4], keep), &bench.host());
    assert_eq!(bench.releases().len(), 2);
}

#[test]
fn what_is_no_release_is_never_touched() {
    let bench = Bench::new();
    let shas = shas(&bench, 4);
    done(&bench.spec(&shas[0], "keep_releases: 1\n"), &bench.host());
    std::fs::create_dir(bench.app("releases/backup")).unwrap();
    std::fs::create_dir(bench.app("releases/20200101000000")).unwrap();
    std::fs::create_dir(bench.app("releases/.hidden.partial")).unwrap();
    for sha in &shas[1..] {
        done(&bench.spec(sha, "keep_releases: 1\n"), &bench.host());
    }
    for name in ["backup", "20200101000000", ".hidden.partial"] {
        assert!(bench.releases().contains(&name.to_owned()), "{name}");
    }
}

#[test]
fn releases_of_capistrano_are_taken_over() {
    let bench = Bench::new();
    let (old, sha) = (bench.commit(&[("a", "0")]), bench.commit(&[("a", "1")]));
    for name in ["20200101000000", "20200102000000", "20200103000000"] {
        std::fs::create_dir_all(bench.app("releases").join(name)).unwrap();
        std::fs::write(
            bench.app("releases").join(name).join("REVISION"),
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
    std::fs::write(bench.app("revisions.log"), line("20200101000000")).unwrap();
    // Capistrano writes the whole path.
    std::os::unix::fs::symlink(
        "/srv/www/shop/releases/20200102000000",
        bench.app("current"),
    )
    .unwrap();
    assert_eq!(
        pass(&bench.spec(&old, ""), &bench.host()),
        Ok(None),
        "it is right already"
    );

    done(&bench.spec(&sha, "keep_releases: 3\n"), &bench.host());
    let record = bench.record();
    assert_eq!(
        record.in_state(Standing::Good)[..2],
        ["20200101000000", "20200102000000"]
    );
    assert_eq!(record.in_state(Standing::Failed), ["20200103000000"]);
}
