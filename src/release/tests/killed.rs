//! SIGKILL at any instant while releases and spares are made.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::spare::{are_spares_ready, make_spares};
use super::tree::{git_archive, listing};
use super::*;

const CHILD: &str = "TRUEUP_TEST_KILLED_CHILD";

/// Deploys these commits in turn and makes spares until it is killed. Runs only as a child of the test below.
#[test]
fn child() {
    let Ok(arguments) = std::env::var(CHILD) else {
        return;
    };
    let mut arguments = arguments.split_whitespace();
    let (root, repo) = (arguments.next().unwrap(), arguments.next().unwrap());
    let shas: Vec<Sha> = arguments.map(|sha| Sha::parse(sha).unwrap()).collect();
    let host = host_at(Path::new(root));
    loop {
        for sha in &shas {
            let spec = spec(&role_text(repo), sha);
            run_pass(&spec, &host).unwrap();
            make_spares(&spec, &host).unwrap();
        }
    }
}

fn role_text(repo: &str) -> String {
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
            git_archive(bench.repo.path(), Oid::from_str(sha.as_str()).unwrap(), &to);
            listing(&to)
        })
        .collect();
    let repo = bench.repo.path().display().to_string();
    let arguments: Vec<&str> = shas.iter().map(Sha::as_str).collect();
    let arguments = format!(
        "{} {repo} {}",
        bench.host_path("").display(),
        arguments.join(" ")
    );
    let mut trees = 0;
    for round in 0..16 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["release::tests::killed::child", "--exact"])
            .env(CHILD, &arguments)
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
        let home = bench.app_path("releases/.trueup");
        for name in list_names(&home) {
            let of = shas.iter().position(|sha| name.ends_with(sha.as_str()));
            if let Some(n) = of {
                assert_eq!(listing(&home.join(&name)), expected[n], "{name}");
                trees += 1;
            }
        }
        let n = usize::try_from(round).unwrap() % shas.len();
        let spec = spec(&role_text(&repo), &shas[n]);
        run_pass(&spec, &bench.host()).unwrap();
        let mut release = listing(&bench.app_path("current/"));
        release.remove(b"REVISION".as_slice());
        assert_eq!(release, expected[n], "round {round}");
        if round % 3 == 0 {
            make_spares(&spec, &bench.host()).unwrap();
            assert!(are_spares_ready(&spec, &bench.host()));
        }
    }
    assert!(trees > 6, "only {trees} trees were seen");
}
