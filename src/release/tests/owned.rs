//! Repositories on the host that belong to somebody else than root.

use std::process::Command;

use super::*;

/// A bench whose repository is the app user's. `None` where that cannot be, which is told.
fn owned() -> Option<(Bench, Sha)> {
    if !is_root() || Command::new("git").arg("version").output().is_err() {
        crate::ports::testing::skipped("a repository of somebody else", "needs root and git");
        return None;
    }
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    Some((bench, sha))
}

fn give_away(bench: &Bench) {
    let mut chown = Command::new("chown");
    let chown = chown.arg("-R").arg(format!("{DEPLOY}:{DEPLOY}"));
    assert!(chown.arg(bench.repo.path()).status().unwrap().success());
}

const SOON: &str = "user: deploy\nfetch_timeout: 3\n";

#[test]
fn repository_owned_by_the_app_user_is_read_as_that_user() {
    let Some((bench, sha)) = owned() else { return };
    give_away(&bench);
    done(&bench.spec(&sha, SOON), &bench.host());
    let next = bench.commit(&[("a", "2")]);
    give_away(&bench);
    done(&bench.spec(&next, SOON), &bench.host());
    assert_eq!(bench.read("current/a"), "2");
    // As root it could be read.
    let closed = bench.commit(&[("a", "3")]);
    let config = bench.repo.path().join("HEAD");
    give_away(&bench);
    std::os::unix::fs::chown(&config, Some(0), Some(0)).unwrap();
    std::fs::set_permissions(&config, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let failure = pass(&bench.spec(&closed, SOON), &bench.host()).unwrap_err();
    assert!(failure.hint.is_some(), "{failure}");
}

#[test]
fn fifo_in_a_foreign_repository_ends_at_the_deadline() {
    for place in [
        "packed-refs",
        "config",
        "shallow",
        "objects/info/alternates",
    ] {
        let Some((bench, sha)) = owned() else { return };
        let pipe = bench.repo.path().join(place);
        std::fs::create_dir_all(pipe.parent().unwrap()).unwrap();
        let _ = std::fs::remove_file(&pipe);
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        give_away(&bench);
        // What matters is that it ends: git itself may well pass one of them by.
        let _ = pass(&bench.spec(&sha, SOON), &bench.host());
    }
}

#[test]
fn repository_writable_by_others_is_not_read_as_root() {
    let Some((bench, sha)) = owned() else { return };
    let refs = bench.repo.path().join("refs");
    std::fs::set_permissions(&refs, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let failure = pass(&bench.spec(&sha, ""), &bench.host()).unwrap_err();
    assert!(
        failure.message.contains("others than root can write to it"),
        "{failure}"
    );
    done(&bench.spec(&sha, SOON), &bench.host());
}
