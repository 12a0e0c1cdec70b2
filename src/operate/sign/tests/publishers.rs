//! What publishers sign, and how their keys change.

use super::*;
use crate::desired::written_signature;
use crate::fleet::rollout::Act;

#[test]
fn publisher_signs_no_edit_of_what_others_have_changed() {
    let keys = Keys::new(&["ana", "bob-ec", "ci"]);
    let signers = keys.signers(&[
        ("ana", ""),
        ("bob-ec", ""),
        ("ci", "namespaces=\"trueup@staging\""),
    ]);
    let bench = Bench::new(Some(signers.clone()));
    let ana = |namespace: &str, text: &str| keys.signing_key("ana").sign(namespace, text);
    let bob = |namespace: &str, text: &str| keys.signing_key("bob-ec").sign(namespace, text);
    bench
        .publish("production", "1", Some(&signing(&ana, None)))
        .unwrap();
    let good = bench.text();
    // Without a signature, hosts would refuse it.
    let refused = bench.publish("production", "2", None).unwrap_err();
    assert!(
        refused.contains("production is signed") && refused.contains("add `--sign KEY`"),
        "{refused}"
    );
    // Bob knows nobody else's key; with the signers, he does.
    let refused = bench
        .publish("production", "2", Some(&signing(&bob, None)))
        .unwrap_err();
    assert!(
        refused.contains("is not to be trusted: it is signed by the key SHA256:"),
        "{refused}"
    );
    bench
        .publish("production", "2", Some(&signing(&bob, Some(&signers))))
        .unwrap();
    assert_eq!(bench.pass(), Ok("2".into()));
    let second = bench.text();
    // Somebody who may write the bucket slips in an app of his own.
    for tampered in [
        good.replace("  shop:", &format!("  web: {SHA}\n  shop:")),
        good.replace("_signatures:", "_signature:"),
        good.replace("generation: 1", "generation: 100000"),
    ] {
        bench.put(&tampered);
        let refused = bench.publish("production", "3", Some(&signing(&ana, Some(&signers))));
        assert!(refused.is_err(), "{tampered}");
        assert_eq!(bench.text(), tampered, "nothing was written");
    }
    // Another environment is nobody's business here.
    bench.put(&second);
    bench.publish("staging", "4", None).unwrap();
    assert_eq!(bench.pass(), Ok("2".into()));
    bench
        .publish("production", "5", Some(&signing(&ana, Some(&signers))))
        .unwrap();
    bench
        .publish("production", "6", Some(&signing(&ana, Some(&signers))))
        .unwrap();
    assert_eq!(bench.pass(), Ok("6".into()));
}

#[test]
fn signers_rotate_without_a_gap_and_a_removed_key_counts_no_more() {
    let keys = Keys::new(&["old", "new"]);
    let old = |namespace: &str, text: &str| keys.signing_key("old").sign(namespace, text);
    let new = |namespace: &str, text: &str| keys.signing_key("new").sign(namespace, text);
    let (both, only_new) = (
        keys.signers(&[("old", ""), ("new", "")]),
        keys.signers(&[("new", "")]),
    );
    let mut bench = Bench::new(Some(keys.signers(&[("old", "")])));
    let taken = "2026-11-21T04:30:00Z".parse().unwrap();
    bench.store.set_server_time(taken);
    bench
        .publish("production", "1", Some(&signing(&old, None)))
        .unwrap();
    assert_eq!(bench.pass(), Ok("1".into()));
    // First hosts learn the new key, then it signs, then they forget the old one.
    bench.signers = Some(both.clone());
    assert_eq!(bench.pass(), Ok("1".into()));
    bench
        .publish("production", "2", Some(&signing(&new, Some(&both))))
        .unwrap();
    assert_eq!(bench.pass(), Ok("2".into()));
    bench.signers = Some(only_new.clone());
    assert_eq!(bench.pass(), Ok("2".into()));
    // In the wrong order, and for a key that was stolen: nothing is acted on, not even what was good.
    bench.signers = Some(keys.signers(&[("old", "")]));
    let (refusal, has_good) = bench.pass().unwrap_err();
    assert!(
        !has_good && refusal.contains("which is not in allowed_signers"),
        "{refusal}"
    );
    bench.store.set_unreachable(true);
    assert!(
        bench.pass().is_err(),
        "the copy on the host counts no more either"
    );
    bench.store.set_unreachable(false);
    bench.signers = Some(only_new);
    assert_eq!(bench.pass(), Ok("2".into()));
    // A key that expired after the host took the manifest.
    bench.signers = Some(keys.signers(&[("new", "valid-before=\"20261121050000Z\"")]));
    assert_eq!(bench.pass(), Ok("2".into()));
    bench.signers = Some(keys.signers(&[("new", "valid-before=\"20261121Z\"")]));
    assert!(
        bench
            .refusal()
            .contains("whose key was valid before 2026-11-21T00:00:00Z")
    );
}

#[test]
fn manifest_taken_while_the_clock_was_ahead_counts_as_taken_now() {
    let keys = Keys::new(&["ana"]);
    let ana = |namespace: &str, text: &str| keys.signing_key("ana").sign(namespace, text);
    let mut bench = Bench::new(Some(keys.signers(&[("ana", "")])));
    let ahead = "2031-01-01T00:00:00Z".parse().unwrap();
    bench.store.set_server_time(ahead);
    bench
        .publish("production", "1", Some(&signing(&ana, None)))
        .unwrap();
    assert_eq!(bench.pass(), Ok("1".into()));
    let now = "2026-11-21T04:30:00Z".parse().unwrap();
    bench.store.set_server_time(now);
    // By the clock that was ahead, the key would have expired.
    bench.signers = Some(keys.signers(&[("ana", "valid-before=\"20261121050000Z\"")]));
    assert_eq!(bench.pass(), Ok("1".into()));
}

#[test]
fn ssh_keygen_verifies_the_same_lines() {
    let keys = Keys::new(&["ana-ec"]);
    let bench = Bench::new(Some(keys.signers(&[("ana-ec", "")])));
    let ana = |namespace: &str, text: &str| keys.signing_key("ana-ec").sign(namespace, text);
    bench
        .publish("production", "1", Some(&signing(&ana, None)))
        .unwrap();
    assert_eq!(bench.pass(), Ok("1".into()));
    let text = bench.text();
    let lines = signed_lines("m", text.as_bytes(), "production").unwrap();
    let written = parse_text(&text);
    let written = written.get("_signatures").unwrap().get("production");
    let written = written.unwrap().as_text().unwrap().to_owned();
    let folder = keys.folder.path();
    let write = |name: &str, text: &str| {
        let file: &Path = &folder.join(name);
        let mut command = Command::new(["tee", &file.display().to_string()]);
        command.input = text.as_bytes().to_vec();
        assert!(Exec.run(command).unwrap().success());
        file.display().to_string()
    };
    let signers = write("signers", &keys.line("ana-ec", ""));
    let armored =
        format!("-----BEGIN SSH SIGNATURE-----\n{written}\n-----END SSH SIGNATURE-----\n");
    let signature = write("signature", &armored);
    let verify = |lines: &str| {
        let argv = [
            "ssh-keygen",
            "-Y",
            "verify",
            "-f",
            &signers,
            "-I",
            "ana-ec@example.com",
            "-n",
            "trueup@production",
            "-s",
            &signature,
        ];
        let mut command = Command::new(argv);
        command.input = lines.as_bytes().to_vec();
        Exec.run(command).unwrap().success()
    };
    assert!(verify(&lines));
    assert!(!verify(&lines.replace('1', "2")));
}

#[test]
fn act_of_an_operator_is_signed_and_a_changed_one_does_not_fit() {
    let keys = Keys::new(&["ana"]);
    let act = Act {
        at: "2026-11-21T04:43:01Z".parse().unwrap(),
        by: "ana".into(),
        what: "break-slot 0 of web3".into(),
        reason: "its disk is gone".into(),
        signature: None,
    };
    let text = act.signed_text("production", "shop");
    let armored = keys.signing_key("ana").sign("trueup@production", &text);
    let signed = Act {
        signature: Some(written_signature(&armored.unwrap()).unwrap()),
        ..act.clone()
    };
    let signers = keys.signers(&[("ana", "namespaces=\"trueup@production\"")]);
    let reason = |act: &Act, environment: &str| act.unsigned_reason(environment, "shop", &signers);
    assert_eq!(reason(&signed, "production"), None);
    assert_eq!(reason(&act, "production").as_deref(), Some("not signed"));
    let changed = Act {
        by: "bob".into(),
        ..signed.clone()
    };
    assert!(
        reason(&changed, "production")
            .unwrap()
            .contains("does not fit")
    );
    assert!(
        reason(&signed, "staging")
            .unwrap()
            .contains("may not sign for staging")
    );
}

#[test]
fn environment_is_signed_for_one_store_and_key() {
    let keys = Keys::new(&["ana"]);
    let bench = Bench::new(Some(keys.signers(&[("ana", "")])));
    let ana = |namespace: &str, text: &str| keys.signing_key("ana").sign(namespace, text);
    bench
        .publish("production", "1", Some(&signing(&ana, None)))
        .unwrap();
    let elsewhere = bench.text().replace("memory:/", "memory:/scratch/");
    let tree = parse_text(&elsewhere);
    let lines = signed_lines("m", elsewhere.as_bytes(), "production").unwrap();
    let signature = written_signature(&ana("trueup@production", &lines).unwrap()).unwrap();
    let old = tree.get("_signatures").unwrap().get("production").unwrap();
    bench.put(&elsewhere.replace(old.as_text().unwrap(), &signature));
    let refusal = bench.refusal();
    assert!(
        refusal.contains(
            "it is signed for memory:/scratch/sha_number.yml, not for memory:/sha_number.yml"
        ),
        "{refusal}"
    );
}

#[test]
fn commands_see_nothing_in_an_environment_that_hosts_do_not() {
    let keys = Keys::new(&["ana"]);
    let bench = Bench::new(Some(keys.signers(&[("ana", "")])));
    let ana = |namespace: &str, text: &str| keys.signing_key("ana").sign(namespace, text);
    bench
        .publish("production", "a", Some(&signing(&ana, None)))
        .unwrap();
    let good = bench.text();
    let (lines, rest) = good.split_once("_signatures:").unwrap();
    // A merged key of the environment that stands below its lines.
    let around = format!("{lines}  # more\n_signatures:{rest}x: &x {{rollout: none}}\n");
    bench.put(&around);
    assert_eq!(bench.pass(), Ok("a".into()));
    for tampered in [
        good.replace("production:\n", "production: &p\n"),
        format!("{lines}  <<: {{web: {SHA}}}\n_signatures:{rest}"),
        good.replace("production:\n", "production:\n  # c\r  web: x\n"),
    ] {
        bench.put(&tampered);
        let refused = bench.publish("production", "b", Some(&signing(&ana, None)));
        assert!(refused.is_err(), "{tampered}");
        assert_eq!(bench.text(), tampered, "nothing was written");
        assert!(bench.pass().is_err(), "{tampered}");
    }
}
