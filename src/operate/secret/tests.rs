use super::*;
use crate::exit::Exit;
use crate::operate::publish::testing::Unsigned;
use crate::ports::store::{GetOutcome, MemoryStore};
use crate::secrets::{ParsedIdentity, parse_identity};

macro_rules! key {
    ($name:literal) => {
        include_str!(concat!("../../../tests/fixtures/ssh-keys/", $name))
    };
}

const MANIFEST: &str = "production:\n  shop: 4f2c9d0e1b3a5c7d9e0f1a2b3c4d5e6f70819203\n";

struct Bench {
    store: MemoryStore,
}

impl Publish for Bench {
    fn publish(&self, request: PublishRequest) -> Result<PublishSummary, CommandError> {
        let publisher = Unsigned {
            store: &self.store,
            key: "sha_number.yml",
        };
        publisher.publish(request)
    }
}

impl Bench {
    fn new() -> Bench {
        let bench = Bench {
            store: MemoryStore::new(),
        };
        bench.store.set_server_time(time("2026-11-21T03:00:00Z"));
        bench.put("sha_number.yml", MANIFEST);
        bench
    }

    fn put(&self, key: &str, text: &str) {
        let put = self.store.put(key, text.as_bytes(), WriteCondition::Always);
        put.unwrap();
    }

    fn target(&self) -> SecretTarget<'_> {
        SecretTarget {
            store: &self.store,
            environment: "production",
            manifest_key: "sha_number.yml",
            gone_after: Duration::from_secs(3600),
            by: "ana",
            reason: Some("first use"),
            signers: None,
            trusts_current: false,
            publisher: self,
            now: time("2026-11-21T03:00:00Z"),
        }
    }

    fn set(&self, name: &str, value: &str) -> ContentDigest {
        let target = self.target();
        let current = target.read().unwrap();
        set(&target, &current, name, value, Some(ana()))
            .unwrap()
            .digest
    }

    fn manifest(&self) -> String {
        match self.store.get("sha_number.yml", None).unwrap() {
            GetOutcome::Object(object) => String::from_utf8(object.body).unwrap(),
            _ => panic!("no manifest"),
        }
    }

    /// The value of a secret, for the owner of a private key.
    fn value(&self, name: &str, private: &str) -> Result<String, String> {
        let target = self.target();
        let current = target.read().unwrap();
        edit_value(&target, &current, name, &identity(private)).map_err(|error| error.summary())
    }

    fn record(&self, node: &str, recipient: &str) {
        let record = format!(
            r#"{{"version": 1, "node": "{node}", "environment": "production", "recipient": "{recipient}", "last_pass": {{"at": "2026-11-21T02:59:00Z", "outcome": "converged"}}}}"#
        );
        self.put(&format!("nodes/production/{node}.json"), &record);
    }

    fn objects(&self) -> usize {
        self.store.list("secrets/production/").unwrap().len()
    }
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn ana() -> Recipient {
    Recipient::parse(key!("rsa.pub").trim())
        .unwrap()
        .named("ana")
}

fn identity(private: &str) -> Vec<Identity> {
    match parse_identity(private).unwrap() {
        ParsedIdentity::Ready(keys) => keys,
        ParsedIdentity::Locked(_) => panic!("it has a passphrase"),
    }
}

/// The public key without its comment, as records have it.
fn public(line: &str) -> String {
    Recipient::parse(line.trim()).unwrap().named("").line()
}

#[test]
fn first_secret_makes_its_operator_a_recipient_and_later_ones_do_not() {
    let bench = Bench::new();
    let digest = bench.set("db", "value-one");
    let text = bench.manifest();
    assert!(text.contains(&format!("db: \"{digest}\"")), "{text}");
    assert!(text.contains(&format!("[\"{}\"]", ana().line())), "{text}");
    assert!(
        text.contains("by: ana") && text.contains("reason: \"first use\""),
        "{text}"
    );
    assert!(!text.contains("value-one"), "{text}");
    let target = bench.target();
    let current = target.read().unwrap();
    let other = Recipient::parse(key!("web2.pub").trim()).unwrap();
    let second = set(&target, &current, "token", "value-two", Some(other)).unwrap();
    assert_eq!((second.recipients.len(), second.added), (1, None));
    assert_eq!(bench.value("db", key!("rsa")).unwrap(), "value-one");
    assert_eq!(bench.value("token", key!("rsa")).unwrap(), "value-two");
    assert!(
        bench
            .value("token", key!("web2"))
            .unwrap_err()
            .contains("other keys")
    );
    let listed = bench.target().list().unwrap();
    let names: Vec<&str> = listed.iter().map(|row| &*row.name).collect();
    assert_eq!(names, ["db", "token"]);
    assert_eq!(listed[0].since, Some(time("2026-11-21T03:00:00Z")));
}

#[test]
fn without_any_key_nothing_is_written() {
    let bench = Bench::new();
    let target = bench.target();
    let current = target.read().unwrap();
    let error = set(&target, &current, "db", "value", None).unwrap_err();
    assert_eq!(error.exit(), Exit::Usage);
    assert!(error.summary().contains("no key to encrypt it to"));
    assert_eq!(
        (bench.objects(), bench.manifest()),
        (0, MANIFEST.to_owned())
    );
}

#[test]
fn rekey_adds_only_accepted_keys_and_replaces_those_of_the_same_host() {
    let bench = Bench::new();
    bench.set("db", "value-one");
    bench.record("web1", &public(key!("web1.pub")));
    bench.record("web2", &public(key!("web2.pub")));
    bench.record("forged", "ssh-ed25519 AAAA");
    let target = bench.target();
    let proposal = propose(&target).unwrap();
    let hosts: Vec<&str> = proposal
        .proposed
        .iter()
        .map(|new| &*new.recipient.comment)
        .collect();
    assert_eq!(hosts, ["web1", "web2"]);
    assert!(
        proposal.warnings[0].contains("forged"),
        "{:?}",
        proposal.warnings
    );
    assert_eq!(proposal.unreported, [ana()]);
    let accepted = [proposal.proposed[0].clone()];
    let recipients = proposal.recipients(&accepted, &[]).unwrap();
    rekey(
        &target,
        &proposal.current,
        recipients,
        &identity(key!("rsa")),
    )
    .unwrap();
    assert_eq!(bench.value("db", key!("web1")).unwrap(), "value-one");
    assert!(bench.value("db", key!("web2")).is_err());
    // web1 was reinstalled, with another key.
    bench.record("web1", &public(key!("locked.pub")));
    let proposal = propose(&target).unwrap();
    let replaced = proposal.proposed[0].replaces.as_ref().unwrap();
    assert_eq!(replaced.comment, "web1");
    let recipients = proposal
        .recipients(&proposal.proposed, &["ana".into()])
        .unwrap();
    let names: Vec<&str> = recipients.iter().map(|key| &*key.comment).collect();
    assert_eq!(names, ["web1", "web2"]);
    rekey(
        &target,
        &proposal.current,
        recipients,
        &identity(key!("rsa")),
    )
    .unwrap();
    for private in [key!("web1"), key!("rsa")] {
        assert!(
            bench.value("db", private).is_err(),
            "a former recipient decrypts it"
        );
    }
    assert_eq!(bench.value("db", key!("web2")).unwrap(), "value-one");
    let all: Vec<String> = vec!["web1".into(), "web2".into()];
    let proposal = propose(&target).unwrap();
    assert!(proposal.recipients(&[], &all).is_err());
}

#[test]
fn rekey_never_brings_back_a_value_that_was_replaced_meanwhile() {
    let bench = Bench::new();
    bench.set("db", "old-value");
    bench.record("web1", &public(key!("web1.pub")));
    let target = bench.target();
    let proposal = propose(&target).unwrap();
    let recipients = proposal.recipients(&proposal.proposed, &[]).unwrap();
    bench.set("db", "new-value");
    let outdated = rekey(
        &target,
        &proposal.current,
        recipients.clone(),
        &identity(key!("rsa")),
    );
    let error = outdated.unwrap_err();
    assert!(
        error.summary().contains("`secrets` was changed meanwhile"),
        "{}",
        error.summary()
    );
    assert_eq!(bench.value("db", key!("rsa")).unwrap(), "new-value");
    // A secret that is added meanwhile would not be encrypted to the new recipient.
    let current = target.read().unwrap();
    bench.set("token", "value");
    assert!(
        rekey(
            &target,
            &current,
            recipients.clone(),
            &identity(key!("rsa"))
        )
        .is_err()
    );
    // And a value that is set meanwhile is encrypted to the recipients of now.
    let before = target.read().unwrap();
    rekey(&target, &before, recipients, &identity(key!("rsa"))).unwrap();
    let error = set(&target, &before, "db", "third", None).unwrap_err();
    assert!(
        error
            .summary()
            .contains("`recipients` was changed meanwhile"),
        "{}",
        error.summary()
    );
}

/// A change at this time, which names other objects than before.
fn set_at(bench: &Bench, at: &str, name: &str, value: &str) -> ContentDigest {
    bench.store.set_server_time(time(at));
    let target = SecretTarget {
        now: time(at),
        ..bench.target()
    };
    let current = target.read().unwrap();
    set(&target, &current, name, value, Some(ana()))
        .unwrap()
        .digest
}

#[test]
fn object_is_removed_a_week_after_ten_later_generations() {
    let bench = Bench::new();
    let old = set_at(&bench, "2026-10-01T03:00:00Z", "db", "value-one");
    let exists = |digest: &ContentDigest| {
        let keys = bench.store.list("secrets/production/").unwrap();
        keys.iter().any(|object| object.key == object_key(digest))
    };
    // The command that replaces it keeps it, however old it is, and so do quick changes after it.
    for number in 0..20 {
        set_at(
            &bench,
            "2026-11-01T03:00:00Z",
            "db",
            &format!("value {number}"),
        );
    }
    assert!(exists(&old), "hosts may still follow the former generation");
    for number in 0..9 {
        set_at(
            &bench,
            "2026-11-05T03:00:00Z",
            "token",
            &format!("t{number}"),
        );
    }
    assert!(exists(&old));
    let last = set_at(&bench, "2026-11-20T03:00:00Z", "token", "last");
    assert!(!exists(&old), "{:?}", bench.store.list("secrets/").unwrap());
    assert!(exists(&last));
    assert_eq!(bench.value("db", key!("rsa")).unwrap(), "value 19");
    let target = bench.target();
    remove(&target, &target.read().unwrap(), "db").unwrap();
    assert!(!bench.manifest().contains("db:"), "{}", bench.manifest());
    assert!(remove(&target, &target.read().unwrap(), "db").is_err());
}

#[test]
fn nothing_is_removed_that_another_manifest_or_lost_history_may_name() {
    let bench = Bench::new();
    let old = set_at(&bench, "2026-09-01T03:00:00Z", "db", "value-one");
    for number in 0..10 {
        set_at(&bench, "2026-10-01T03:00:00Z", "db", &format!("v{number}"));
    }
    let before = bench.objects();
    bench.store.delete("history/production/8.yml").unwrap();
    set_at(&bench, "2026-11-20T03:00:00Z", "token", "x");
    assert_eq!(bench.objects(), before + 1);
    // Another manifest of the store never removes what this one names.
    let target = SecretTarget {
        manifest_key: "b.yml",
        ..bench.target()
    };
    assert!(target.sweep().is_none());
    let keys = bench.store.list("secrets/production/").unwrap();
    assert!(keys.iter().any(|object| object.key == object_key(&old)));
}

#[test]
fn nothing_is_encrypted_to_recipients_that_nobody_signed() {
    let bench = Bench::new();
    let signers = Signers {
        path: "/etc/trueup/allowed_signers".into(),
        signers: Vec::new(),
    };
    let target = SecretTarget {
        signers: Some(&signers),
        ..bench.target()
    };
    let error = target.read().unwrap_err();
    assert_eq!(error.exit(), Exit::BadInput);
    assert!(
        error.summary().contains("it is not signed"),
        "{}",
        error.summary()
    );
    assert!(propose(&target).is_err());
}

#[test]
fn lost_object_is_named_and_nothing_is_published() {
    let bench = Bench::new();
    let digest = bench.set("db", "value-one");
    let key = object_key(&digest);
    bench.store.delete(&key).unwrap();
    let before = bench.manifest();
    let target = bench.target();
    let current = target.read().unwrap();
    let error = rekey(&target, &current, vec![ana()], &identity(key!("rsa"))).unwrap_err();
    assert!(error.summary().contains(&key), "{}", error.summary());
    assert_eq!(bench.manifest(), before);
    assert_eq!(target.list().unwrap()[0].since, None);
}

fn object_key(digest: &ContentDigest) -> String {
    crate::secrets::object_key("production", digest)
}
