//! Files whose content in the repository differs from that in a clone.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::spare::{are_spares_ready, make_spares};
use super::*;

const RULES: (&str, &str) = (
    ".gitattributes",
    "secret* filter=git-crypt\n*.enc filter=crypt\n",
);

#[test]
fn ciphertext_is_refused_and_other_filters_are_ignored() {
    let bench = Bench::new();
    let plain = bench.commit(&[RULES, ("secret", "not encrypted"), ("a", "\0GITCRYPT\0")]);
    deploy_ok(&bench.spec(&plain, ""), &bench.host());
    for (path, text) in [
        ("secret.key", "\0GITCRYPT\x00123456789012ciphertext"),
        ("a.enc", "U2FsdGVkX1+ciphertext"),
    ] {
        let sha = bench.commit(&[RULES, (path, text)]);
        let failure = run_pass(&bench.spec(&sha, ""), &bench.host()).unwrap_err();
        assert!(
            failure.message.contains("would be deployed as ciphertext")
                && failure.message.contains(path),
            "{failure}"
        );
        assert!(
            failure.hint.as_ref().unwrap().contains("git_crypt_key"),
            "{failure}"
        );
        assert_eq!(bench.releases().len(), 1);
    }
    let sha = bench.commit(&[
        RULES,
        ("secret.key", "\0GITCRYPT\x00123456789012ciphertext"),
    ]);
    deploy_ok(&bench.spec(&sha, "filters: ignore\n"), &bench.host());
    // A spare made under one filter policy is not used under another.
    make_spares(&bench.spec(&sha, "filters: ignore\n"), &bench.host()).unwrap();
    let next = bench.commit(&[
        RULES,
        ("secret.key", "\0GITCRYPT\x00123456789012ciphertext"),
        ("b", "2"),
    ]);
    let failure = run_pass(&bench.spec(&next, ""), &bench.host()).unwrap_err();
    assert!(failure.message.contains("ciphertext"), "{failure}");
}

#[test]
fn every_filter_is_refused_when_configured() {
    let bench = Bench::new();
    let sha = bench.commit(&[RULES, ("a.enc", "not encrypted")]);
    let failure = run_pass(&bench.spec(&sha, "filters: refuse\n"), &bench.host()).unwrap_err();
    assert!(failure.message.contains("a.enc"), "{failure}");
    assert!(failure.hint.is_some());
}

/// Runs a program in a clone.
fn run_program(at: &Path, program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .env("HOME", at)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .current_dir(at)
        .args(args)
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {message}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn git_crypt_files_are_decrypted_with_the_configured_key() {
    if Command::new("git-crypt").arg("version").output().is_err() {
        return crate::ports::testing::skip_test(
            "files of git-crypt",
            "git-crypt is not installed",
        );
    }
    let bench = Bench::new();
    let work = bench.dir.path().join("work");
    std::fs::create_dir(&work).unwrap();
    let git = |args: &[&str]| run_program(&work, "git", args);
    git(&["init", "-q", "-b", "master"]);
    git(&["config", "user.name", "t"]);
    git(&["config", "user.email", "t@example"]);
    run_program(&work, "git-crypt", &["init"]);
    std::fs::create_dir_all(bench.host_path("etc")).unwrap();
    let key = bench.host_path("etc/shop.key");
    run_program(&work, "git-crypt", &["export-key", key.to_str().unwrap()]);
    let mode =
        |mode| std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
    let push = |files: &[(&str, &str)]| {
        for (path, text) in files {
            std::fs::write(work.join(path), text).unwrap();
        }
        git(&["add", "-A"]);
        git(&["commit", "-q", "-m", "x"]);
        let url = bench.repo.path().display().to_string();
        git(&["push", "-q", &url, "master"]);
        Sha::parse(&git(&["rev-parse", "HEAD"])).unwrap()
    };
    let long = "a secret longer than a block\n".repeat(1000);
    let sha = push(&[
        RULES,
        ("secret", "s3cret\n"),
        ("secret.long", &long),
        ("plain", "p"),
    ]);
    let with_key = |sha: &Sha| bench.spec(sha, "git_crypt_key: /etc/shop.key\n");
    mode(0o644);
    let failure = run_pass(&with_key(&sha), &bench.host()).unwrap_err();
    assert!(
        failure
            .message
            .contains("is accessible to users other than root"),
        "{failure}"
    );
    mode(0o600);
    deploy_ok(&with_key(&sha), &bench.host());
    let is_right = |first: &str| {
        assert_eq!(bench.read("current/secret"), first);
        assert_eq!(bench.read("current/secret.long"), long);
        assert_eq!(bench.read("current/plain"), "p");
        let meta = std::fs::metadata(bench.app_path("current/secret.long")).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o640);
    };
    is_right("s3cret\n");
    // From a spare, at the cost of the differences.
    make_spares(&with_key(&sha), &bench.host()).unwrap();
    assert!(are_spares_ready(&with_key(&sha), &bench.host()));
    let next = push(&[("secret", "another\n")]);
    deploy_ok(&with_key(&next), &bench.host());
    is_right("another\n");
    // A wrong key is detected.
    let other = bench.dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    run_program(&other, "git", &["init", "-q"]);
    run_program(&other, "git-crypt", &["init"]);
    std::fs::remove_file(&key).unwrap();
    run_program(&other, "git-crypt", &["export-key", key.to_str().unwrap()]);
    mode(0o600);
    let last = push(&[("secret", "third\n")]);
    let failure = run_pass(&with_key(&last), &bench.host()).unwrap_err();
    assert!(
        failure.message.contains("did not encrypt it with the key"),
        "{failure}"
    );
    is_right("another\n");
}
