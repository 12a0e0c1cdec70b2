//! Killed for real, at any instant: by SIGKILL, while releases and spares are made.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::spare::{idle, ready};
use super::tree::{archived, listing};
use super::*;

const CHILD: &str = "TRUEUP_TEST_KILLED_CHILD";

/// Deploys these commits in turn, and keeps trees ready, until it is killed. Runs only as a child of
/// the test below.
#[test]
fn child() {
    let Ok(told) = std::env::var(CHILD) else {
        return;
    };
    let mut told = told.split_whitespace();
    let (root, repo) = (told.next().unwrap(), told.next().unwrap());
    let shas: Vec<Sha> = told.map(|sha| Sha::parse(sha).unwrap()).collect();
    let host = host_at(Path::new(root));
    loop {
        for sha in &shas {
            let spec = spec(&text(repo), sha);
            pass(&spec, &host).unwrap();
            idle(&spec, &host).unwrap();
        }
    }
}

fn text(repo: &str) -> String {
    format!("app: shop\nrepo: {repo}\nkeep_releases: 1\n")
}

#[test]
fn sigkill_never_leaves_a_corrupt_release_or_spare() {
    let bench = Bench::new();
    let shas: Vec<Sha> = (0..5)
        .map(|n| {
            let mut files: Vec<(String, String)> = (0..60)
                .map(|i| (format!("d{}/f{i}", i % 7), format!("{}", i * (n % 3))))
                .collect();
            files.push((format!("only/in/{n}"), "x".repeat(5000)));
            let files: Vec<(&str, &str)> = files
                .iter()
                .map(|(p, t)| (p.as_str(), t.as_str()))
                .collect();
            bench.commit(&files)
        })
        .collect();
    let expected: Vec<_> = shas
        .iter()
        .map(|sha| {
            let to = bench.dir.path().join(sha.as_str());
            archived(bench.repo.path(), Oid::from_str(sha.as_str()).unwrap(), &to);
            listing(&to)
        })
        .collect();
    let repo = bench.repo.path().display().to_string();
    let told: Vec<&str> = shas.iter().map(Sha::as_str).collect();
    let told = format!("{} {repo} {}", bench.path("").display(), told.join(" "));
    let mut trees = 0;
    for round in 0..16 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["release::tests::killed::child", "--exact"])
            .env(CHILD, &told)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(40 + (round * 37) % 150));
        assert!(
            child.try_wait().unwrap().is_none(),
            "the child ended by itself"
        );
        child.kill().unwrap();
        child.wait().unwrap();
        let home = bench.app("releases/.trueup");
        for name in names(&home) {
            let of = shas.iter().position(|sha| name.ends_with(sha.as_str()));
            if let Some(n) = of {
                assert_eq!(listing(&home.join(&name)), expected[n], "{name}");
                trees += 1;
            }
        }
        let n = usize::try_from(round).unwrap() % shas.len();
        let spec = spec(&text(&repo), &shas[n]);
        pass(&spec, &bench.host()).unwrap();
        let mut release = listing(&bench.app("current/"));
        release.remove(b"REVISION".as_slice());
        assert_eq!(release, expected[n], "round {round}");
        if round % 3 == 0 {
            idle(&spec, &bench.host()).unwrap();
            assert!(ready(&spec, &bench.host()));
        }
    }
    assert!(trees > 6, "only {trees} trees were seen");
}
