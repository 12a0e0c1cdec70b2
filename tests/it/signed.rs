//! Signed environments, with the commands of publishers and a host that accepts nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use crate::sandbox::{NODE, Ran, Sandbox, isolated};

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// A host of production whose signers are in a file, and keys beside it.
struct Bench {
    sandbox: Sandbox,
}

impl Bench {
    fn new() -> Bench {
        let sandbox = Sandbox::empty();
        sandbox.write(
            "/etc/trueup/node.yml",
            &format!("{NODE}signers: allowed_signers\n"),
        );
        sandbox.role("resources:\n  - directory: {path: /srv}\n");
        let bench = Bench { sandbox };
        for name in ["ana", "ci"] {
            let mut keygen = Command::new("ssh-keygen");
            isolated(&mut keygen);
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]);
            keygen.arg(bench.key(name));
            assert!(keygen.status().unwrap().success());
        }
        let lines = bench.line("ana", "production,trueup@staging") + &bench.line("ci", "staging");
        bench.sandbox.write("/etc/trueup/allowed_signers", &lines);
        bench
    }

    fn key(&self, name: &str) -> PathBuf {
        self.sandbox.sibling(name)
    }

    fn line(&self, name: &str, environments: &str) -> String {
        let key = fs::read_to_string(self.key(name).with_extension("pub")).unwrap();
        format!("{name} namespaces=\"trueup@{environments}\" {key}")
    }

    /// A command of a publisher, with a key if one is named.
    fn run(&self, words: &[&str], key: &str) -> Ran {
        let mut command = self.sandbox.command(words);
        let store = format!("dir:{}", self.sandbox.store.display());
        command.args(["--store", &store]);
        if !key.is_empty() {
            let signers = self.sandbox.at("/etc/trueup/allowed_signers");
            command.arg("--sign").arg(self.key(key));
            command.arg("--signers").arg(signers);
        }
        self.sandbox.run_command(command)
    }

    fn done(&self, words: &[&str], key: &str) -> Ran {
        let ran = self.run(words, key);
        assert_eq!(ran.code, 0, "{words:?}: {ran}");
        ran
    }

    fn signers_file(&self) -> PathBuf {
        self.sandbox.at("/etc/trueup/allowed_signers")
    }
}

#[test]
fn every_act_of_an_operator_is_signed_and_hosts_follow() {
    let bench = Bench::new();
    let shop = format!("shop={A}");
    bench.done(&["publish", "production", &shop, "--create"], "ana");
    bench.sandbox.converged();
    for words in [
        &[
            "hold",
            "production",
            "shop",
            "--reason",
            "db",
            "--for",
            "1h",
        ][..],
        &["unhold", "production", "shop"],
        &["note", "production", "shop", "run the reindex"],
        &["now", "production"],
    ] {
        let refused = bench.run(words, "");
        assert_eq!(refused.code, 64, "{words:?}: {refused}");
        assert!(refused.err.contains("production is signed"), "{refused}");
        bench.done(words, "ana");
        bench.sandbox.converged();
    }
    let history = bench.done(&["history", "production"], "");
    assert!(!history.out.contains("not signed"), "{history}");
    for act in ["publish", "hold", "unhold", "note", "now"] {
        assert!(history.out.contains(act), "{history}");
    }
    // The key of CI is for staging.
    bench.done(&["publish", "staging", &shop, "--create"], "ci");
    let other = format!("shop={B}");
    let refused = bench.run(&["publish", "production", &other], "ci");
    assert_eq!(refused.code, 78, "{refused}");
    assert!(
        refused
            .err
            .contains("whose key may not sign for production"),
        "{refused}"
    );
    bench.sandbox.converged();
    // One that does not know the signers of the hosts.
    let key = bench.key("ci").display().to_string();
    let words = [
        "publish",
        "production",
        &other,
        "--sign",
        &key,
        "--trust-current",
    ];
    bench.done(&words, "");
    let ran = bench.sandbox.converge();
    assert_eq!(ran.code, 78, "{ran}");
    let printed = ran.to_string();
    assert!(
        printed.contains("whose key may not sign for production"),
        "{ran}"
    );
}

#[test]
fn signers_that_cannot_be_trusted_stop_the_pass_and_change_nothing() {
    let bench = Bench::new();
    let shop = format!("shop={A}");
    bench.done(&["publish", "production", &shop, "--create"], "ana");
    let file = bench.signers_file();
    let good = fs::read_to_string(&file).unwrap();
    let refuse = |expected: &str| {
        let ran = bench.sandbox.converge();
        assert_eq!(ran.code, 78, "{ran}");
        assert!(ran.err.contains(expected), "{ran}");
        assert!(!bench.sandbox.at("/srv").exists(), "{ran}");
    };
    for (text, expected) in [
        ("", "allowed_signers lists no key, so nobody could sign"),
        ("ana\n", "allowed_signers:1:1: expected `PRINCIPALS"),
        (
            "ana cert-authority ssh-ed25519 AAAA\n",
            "allowed_signers:1:1: it has no valid public key",
        ),
    ] {
        fs::write(&file, text).unwrap();
        refuse(expected);
    }
    fs::write(&file, &good).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    refuse("allowed_signers");
    fs::remove_file(&file).unwrap();
    refuse("node.yml:4:10: signers: there is no file");
    fs::write(&file, &good).unwrap();
    bench.sandbox.converged();
    assert!(bench.sandbox.at("/srv").exists());
}
