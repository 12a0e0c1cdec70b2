//! What counts in a clone.

use super::*;
use crate::ports::exec::{Command, Exec};

/// A clone of the bench's repository, which is not the working folder of its commits.
fn clone(bench: &GitBench, more: &[&str]) -> String {
    let checkout = bench.path("checkout").display().to_string();
    let origin = bench.repository().display().to_string();
    let words = [&["clone", "--quiet"], more, &[&origin, &checkout]].concat();
    bench.git(&words);
    checkout
}

#[test]
fn commit_that_was_not_pushed_is_refused() {
    let bench = GitBench::new();
    let pushed = bench.commit("a", "1", "First");
    let checkout = clone(&bench, &[]);
    let inside = |words: &[&str]| bench.git(&[&["-C", &checkout], words].concat());
    inside(&["commit", "--quiet", "--allow-empty", "-m", "Own"]);
    let git = bench.operator(&[]);
    let own = inside(&["rev-parse", "HEAD"]);
    let clone = app(&git, &checkout, "{}");
    for word in ["main", "HEAD", &own, "refs/heads/main"] {
        let error = resolve(&clone, word).unwrap_err();
        assert!(error.contains("push it and fetch again"), "{error}");
    }
    let name = resolve(&clone, "origin/main").unwrap();
    assert_eq!(
        (name.sha, name.reference),
        (sha(&pushed), Some("main".into()))
    );
    inside(&["tag", "v1"]);
    assert_eq!(
        resolve(&app(&git, &checkout, "{}"), "v1").unwrap().sha,
        sha(&own)
    );
    // Whoever has no remote has nothing else.
    inside(&["tag", "-d", "v1"]);
    inside(&["remote", "remove", "origin"]);
    assert_eq!(
        resolve(&app(&git, &checkout, "{}"), "main").unwrap().sha,
        sha(&own)
    );
}

#[test]
fn merge_of_a_pull_request_is_no_branch_of_a_remote() {
    let bench = GitBench::new();
    bench.commit("a", "1", "First");
    bench.git(&["checkout", "--quiet", "-b", "topic"]);
    let merge = bench.commit("a", "2", "Unreviewed");
    bench.git(&["update-ref", "refs/pull/7/merge", &merge]);
    bench.git(&["checkout", "--quiet", "main"]);
    bench.git(&["branch", "-D", "topic"]);
    let git = bench.operator(&[]);
    // As actions/checkout, the plug-in of Jenkins, and the manual of GitLab keep it.
    for (destination, is_configured) in [
        ("refs/remotes/pull/7/merge", false),
        ("refs/remotes/origin/PR-7", true),
        ("refs/merge-requests/7/head", false),
        ("refs/heads/topic", false),
    ] {
        let checkout = clone(&bench, &[]);
        let inside = |words: &[&str]| bench.git(&[&["-C", &checkout], words].concat());
        let refspec = format!("+refs/pull/7/merge:{destination}");
        if is_configured {
            inside(&["config", "--add", "remote.origin.fetch", &refspec]);
        }
        inside(&["fetch", "--quiet", "origin", &refspec]);
        let clone = app(&git, &checkout, "{}");
        for word in [&merge, destination] {
            let error = resolve(&clone, word).unwrap_err();
            assert!(
                error.contains("is on no ref that may be deployed"),
                "{error}"
            );
        }
        let address = "https://git.example.invalid/shop.git";
        let settings = format!(
            "{{repositories: {{shop: {{url: '{address}', allow_refs: ['refs/pull/*/merge']}}}}}}"
        );
        // The server's name of it is known if the clone fetches it always.
        let allowed = app(&git, &checkout, &settings);
        assert_eq!(
            resolve(&allowed, &merge).is_ok(),
            is_configured,
            "{destination}"
        );
        let removed = Exec.run(Command::new(["rm", "-r", checkout.as_str()]));
        assert!(removed.unwrap().success());
    }
}

#[test]
fn branches_of_the_only_remote_count_whatever_its_name_is() {
    let bench = GitBench::new();
    let first = bench.commit("a", "1", "First");
    let checkout = clone(&bench, &["--origin", "upstream"]);
    let git = bench.operator(&[]);
    let inside = |words: &[&str]| bench.git(&[&["-C", &checkout], words].concat());
    assert_eq!(
        resolve(&app(&git, &checkout, "{}"), &first).unwrap().sha,
        sha(&first)
    );
    // Which of two is the one of the hosts?
    inside(&["remote", "add", "fork", &checkout]);
    assert!(resolve(&app(&git, &checkout, "{}"), &first).is_err());
    // A bare clone is what servers have.
    let bare = bench.path("bare").display().to_string();
    bench.git(&["clone", "--quiet", "--bare", &checkout, &bare]);
    assert_eq!(
        resolve(&app(&git, &bare, "{}"), "main").unwrap().sha,
        sha(&first)
    );
}
