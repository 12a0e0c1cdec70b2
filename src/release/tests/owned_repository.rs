//! Repositories on the host that another user than root owns.

use std::process::Command;

use super::*;

/// A bench whose repository the app's user owns. `None`, with a message, if that is not possible.
fn bench_with_git() -> Option<(Bench, Sha)> {
    if !is_root() || Command::new("git").arg("version").output().is_err() {
        crate::ports::testing::skip_test("a repository of another user", "needs root and git");
        return None;
    }
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    Some((bench, sha))
}

fn chown_to_app_user(bench: &Bench) {
    let mut chown = Command::new("chown");
    let chown = chown.arg("-R").arg(format!("{DEPLOY_UID}:{DEPLOY_UID}"));
    assert!(chown.arg(bench.repo.path()).status().unwrap().success());
}

const SHORT_TIMEOUT: &str = "user: deploy\nfetch_timeout: 3\n";

#[test]
fn repository_owned_by_the_app_user_is_read_as_that_user() {
    let Some((bench, sha)) = bench_with_git() else {
        return;
    };
    chown_to_app_user(&bench);
    deploy_ok(&bench.spec(&sha, SHORT_TIMEOUT), &bench.host());
    let next = bench.commit(&[("a", "2")]);
    chown_to_app_user(&bench);
    deploy_ok(&bench.spec(&next, SHORT_TIMEOUT), &bench.host());
    assert_eq!(bench.read("current/a"), "2");
    // Makes `HEAD` readable by root only: root must not read it in the owner's place.
    let closed = bench.commit(&[("a", "3")]);
    let config = bench.repo.path().join("HEAD");
    chown_to_app_user(&bench);
    std::os::unix::fs::chown(&config, Some(0), Some(0)).unwrap();
    std::fs::set_permissions(&config, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let failure = run_pass(&bench.spec(&closed, SHORT_TIMEOUT), &bench.host()).unwrap_err();
    assert!(failure.hint.is_some(), "{failure}");
}

#[test]
fn fifo_in_a_foreign_repository_ends_at_the_deadline() {
    for path in [
        "packed-refs",
        "config",
        "shallow",
        "objects/info/alternates",
    ] {
        let Some((bench, sha)) = bench_with_git() else {
            return;
        };
        let pipe = bench.repo.path().join(path);
        std::fs::create_dir_all(pipe.parent().unwrap()).unwrap();
        let _ = std::fs::remove_file(&pipe);
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        chown_to_app_user(&bench);
        // The pass only has to end: git itself may ignore one of them.
        let _ = run_pass(&bench.spec(&sha, SHORT_TIMEOUT), &bench.host());
    }
}

#[test]
fn repository_writable_by_others_is_not_read_as_root() {
    let Some((bench, sha)) = bench_with_git() else {
        return;
    };
    let refs = bench.repo.path().join("refs");
    std::fs::set_permissions(&refs, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let failure = run_pass(&bench.spec(&sha, ""), &bench.host()).unwrap_err();
    assert!(
        failure
            .message
            .contains("users other than root can write to it"),
        "{failure}"
    );
    deploy_ok(&bench.spec(&sha, SHORT_TIMEOUT), &bench.host());
}
