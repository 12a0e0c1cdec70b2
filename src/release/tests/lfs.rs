//! Git LFS, with the real git-lfs.

use std::process::Command;

use super::spare::{idle, ready};
use super::*;

fn git(at: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .env("HOME", at)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .args(["-c", "user.name=t", "-c", "user.email=t@example", "-C"])
        .arg(at)
        .args(args)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {args:?}: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn installed() -> bool {
    let installed = Command::new("git").args(["lfs", "version"]).output();
    let installed = installed.is_ok_and(|said| said.status.success());
    if !installed {
        crate::ports::testing::skipped("files of Git LFS", "git-lfs is not installed");
    }
    installed
}

/// A clone in which commits with files of LFS are made, with what they are pushed to.
fn clone(bench: &Bench) -> PathBuf {
    let work = bench.dir.path().join("work");
    std::fs::create_dir(&work).unwrap();
    git(&work, &["init", "-q", "-b", "master"]);
    git(&work, &["lfs", "install", "--local"]);
    let url = format!("file://{}", bench.repo.path().display());
    git(&work, &["remote", "add", "origin", &url]);
    std::fs::write(
        work.join(".gitattributes"),
        "*.bin filter=lfs diff=lfs merge=lfs -text\n",
    )
    .unwrap();
    work
}

fn push(work: &Path, files: &[(&str, &str)]) -> Sha {
    for (path, text) in files {
        std::fs::write(work.join(path), text).unwrap();
    }
    git(work, &["add", "-A"]);
    git(work, &["commit", "-q", "-m", "x"]);
    git(work, &["push", "-q", "origin", "master"]);
    Sha::parse(&git(work, &["rev-parse", "HEAD"])).unwrap()
}

#[test]
fn files_of_lfs_are_in_the_release_whole() {
    if !installed() {
        return;
    }
    let bench = Bench::new();
    let work = clone(&bench);
    // By the rules for pointers, yet none.
    let one = push(
        &work,
        &[("a.bin", "first"), ("b.bin", "same"), ("plain", "p")],
    );
    let two = push(&work, &[("a.bin", "second")]);
    done(&bench.spec(&one, ""), &bench.host());
    assert_eq!(bench.read("current/a.bin"), "first");
    assert_eq!(bench.read("current/b.bin"), "same");
    idle(&bench.spec(&one, ""), &bench.host()).unwrap();
    assert!(ready(&bench.spec(&one, ""), &bench.host()));
    done(&bench.spec(&two, ""), &bench.host());
    assert_eq!(bench.read("current/a.bin"), "second");
    assert_eq!(bench.read("current/b.bin"), "same");
    assert_eq!(bench.read("current/plain"), "p");
}

#[test]
fn a_file_that_was_never_pushed_to_lfs_refuses_the_commit() {
    if !installed() {
        return;
    }
    let bench = Bench::new();
    let work = clone(&bench);
    let sha = push(&work, &[("lost.bin", "nobody has it")]);
    std::fs::remove_dir_all(bench.repo.path().join("lfs")).unwrap();
    let failure = pass(&bench.spec(&sha, ""), &bench.host()).unwrap_err();
    assert!(failure.message.contains("lost.bin"), "{failure}");
    assert!(failure.hint.is_some());
    assert_eq!(bench.releases(), [""; 0]);
}

#[test]
fn a_broken_copy_in_the_mirror_is_not_deployed() {
    if !installed() {
        return;
    }
    let bench = Bench::new();
    let work = clone(&bench);
    let one = push(&work, &[("a.bin", "right")]);
    done(&bench.spec(&one, ""), &bench.host());
    let two = push(&work, &[("b", "2")]);
    let store = bench.path("var/lib/trueup/mirrors/shop.git/lfs/objects");
    let mut folder = store.clone();
    while let [only] = names(&folder).as_slice() {
        folder.push(only);
        if folder.is_file() {
            break;
        }
    }
    // It may be a link to the origin's own.
    std::fs::remove_file(&folder).unwrap();
    std::fs::write(&folder, "wrong").unwrap();
    // With a tree that is kept ready nobody would have to look there.
    std::fs::remove_dir_all(bench.app("releases/.trueup")).unwrap();
    let failure = pass(&bench.spec(&two, ""), &bench.host()).unwrap_err();
    assert!(
        failure.message.contains("the mirror's copy is broken"),
        "{failure}"
    );
    // The next pass fetches it again.
    done(&bench.spec(&two, ""), &bench.host());
    assert_eq!(bench.read("current/a.bin"), "right");
}
