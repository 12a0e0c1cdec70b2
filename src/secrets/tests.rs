//! Where hosts get the values of secrets.
#![allow(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;

use super::*;
use crate::desired::ContentDigest;
use crate::ports::secrets::redact;
use crate::ports::store::{MemoryStore, Store, WriteCondition};
use crate::ports::testing::Sandbox;
use crate::resource::{Failure, FailureKind};
use crate::settings::Lookup;

macro_rules! key {
    ($name:literal) => {
        include_str!(concat!("../../tests/fixtures/ssh-keys/", $name))
    };
}
pub(super) use key;

const HOST_KEY: &str = "/etc/ssh/ssh_host_ed25519_key";

pub(super) fn recipients(lines: &[&str]) -> Vec<Recipient> {
    let parse = |line: &&str| Recipient::parse(line.trim()).unwrap();
    lines.iter().map(parse).collect()
}

pub(super) fn ready(text: &str) -> Vec<Identity> {
    match parse_identity(text).unwrap() {
        ParsedIdentity::Ready(keys) => keys,
        ParsedIdentity::Locked(_) => panic!("it has a passphrase"),
    }
}

/// A host with an ssh host key, and a store with secrets of `production`.
struct Bench {
    sandbox: Sandbox,
    store: MemoryStore,
    config: tempfile::TempDir,
    named: BTreeMap<String, ContentDigest>,
}

impl Bench {
    fn new() -> Bench {
        let bench = Bench {
            sandbox: Sandbox::with_base_system(),
            store: MemoryStore::new(),
            config: tempfile::tempdir().unwrap(),
            named: BTreeMap::new(),
        };
        bench.sandbox.write(HOST_KEY, key!("web1"));
        bench.sandbox.chmod(HOST_KEY, 0o600);
        bench
    }

    fn name(&mut self, name: &str, file: &[u8]) -> ContentDigest {
        let digest = ContentDigest::of(file);
        self.named.insert(name.to_owned(), digest.clone());
        digest
    }

    fn put(&self, digest: &ContentDigest, body: &[u8]) {
        let key = object_key("production", digest);
        self.store.put(&key, body, WriteCondition::Always).unwrap();
    }

    fn set(&mut self, name: &str, value: &str, to: &[&str]) -> ContentDigest {
        let file = encrypt(value.as_bytes(), &recipients(to)).unwrap();
        let digest = self.name(name, &file);
        self.put(&digest, &file);
        digest
    }

    fn load(&self, name: &str) -> Result<String, Failure> {
        self.load_with(name, None, Some(&self.store))
    }

    fn load_with(
        &self,
        name: &str,
        identity: Option<&Path>,
        store: Option<&dyn Store>,
    ) -> Result<String, Failure> {
        let config = self.config.path().join("node.yml");
        let lookup = Lookup::for_config(&config, Path::new("/nonexistent")).unwrap();
        let source = SecretSource {
            host: &self.sandbox.host,
            lookup: &lookup,
            identity,
            environment: "production",
            named: &self.named,
            store,
            keeps: true,
        };
        source.prune().unwrap();
        let mut loaded = source.load(&BTreeSet::from([name.to_owned()]));
        loaded.remove(name).unwrap()
    }

    fn failure(&self, name: &str) -> String {
        self.load(name).unwrap_err().to_string()
    }

    fn cached(&self) -> Vec<String> {
        let folder = self
            .sandbox
            .host
            .root
            .list("/var/lib/trueup/secrets".as_ref());
        let names = folder.unwrap().unwrap_or_default();
        names
            .iter()
            .map(|name| name.to_string_lossy().into_owned())
            .collect()
    }
}

#[test]
fn host_decrypts_with_its_own_key_and_asks_the_store_once() {
    let mut bench = Bench::new();
    let digest = bench.set(
        "db",
        "hunter2-of-the-db\n",
        &[key!("web2.pub"), key!("web1.pub")],
    );
    assert_eq!(bench.load("db").unwrap(), "hunter2-of-the-db");
    assert_eq!(redact("is hunter2-of-the-db"), "is (secret)");
    assert_eq!(bench.cached(), [format!("{}.age", digest.hex())]);
    let path = format!("/var/lib/trueup/secrets/{}.age", digest.hex());
    assert_eq!(bench.sandbox.mode(&path), 0o600);
    assert_eq!(bench.sandbox.mode("/var/lib/trueup/secrets"), 0o700);
    bench.store.set_unreachable(true);
    assert_eq!(bench.load("db").unwrap(), "hunter2-of-the-db");
    // Another digest: the old object goes a week later.
    bench.name("db", b"x");
    let why = bench.failure("db");
    assert!(
        why.contains("`db` cannot be fetched") && why.contains("cannot be reached"),
        "{why}"
    );
}

#[test]
fn cached_object_outlives_a_manifest_that_does_not_name_it() {
    let mut bench = Bench::new();
    let digest = bench.set("db", "value-of-db", &[key!("web1.pub")]);
    bench.load("db").unwrap();
    let object = format!("{}.age", digest.hex());
    // Somebody publishes a manifest without secrets, and removes the objects.
    let named = std::mem::take(&mut bench.named);
    bench.load("db").unwrap_err();
    bench
        .store
        .delete(&object_key("production", &digest))
        .unwrap();
    let day = 24 * 3600;
    bench.sandbox.clock.advance(6 * day);
    bench.load("db").unwrap_err();
    assert!(bench.cached().contains(&object), "{:?}", bench.cached());
    bench.named = named;
    assert_eq!(bench.load("db").unwrap(), "value-of-db");
    let only = std::slice::from_ref(&object);
    assert_eq!(bench.cached(), only, "nothing is unnamed any more");
    bench.named.clear();
    bench.load("db").unwrap_err();
    bench.sandbox.clock.advance(6 * day);
    bench.load("db").unwrap_err();
    assert!(bench.cached().contains(&object), "the time starts again");
    bench.sandbox.clock.advance(2 * day);
    bench.load("db").unwrap_err();
    assert_eq!(bench.cached(), [""; 0]);
}

#[test]
fn flood_of_objects_pushes_out_no_older_one() {
    let mut bench = Bench::new();
    let digest = bench.set("db", "value-of-db", &[key!("web1.pub")]);
    bench.load("db").unwrap();
    bench.named.clear();
    bench.load("db").unwrap_err();
    bench.sandbox.clock.advance(60);
    for number in 0..300 {
        let path = format!("/var/lib/trueup/secrets/{number:064}.age");
        bench.sandbox.write(&path, "x");
    }
    bench.load("db").unwrap_err();
    let cached = bench.cached();
    assert_eq!(cached.len(), 200 + 1, "and the file with the times");
    assert!(cached.contains(&format!("{}.age", digest.hex())));
}

#[test]
fn text_of_several_lines_keeps_its_newline() {
    let mut bench = Bench::new();
    bench.set("key", "line one\nline two\n", &[key!("web1.pub")]);
    assert_eq!(bench.load("key").unwrap(), "line one\nline two\n");
}

#[test]
fn file_beside_the_settings_comes_before_the_store() {
    let mut bench = Bench::new();
    bench.set("db", "from-the-store", &[key!("web1.pub")]);
    let folder = bench.config.path().join("secrets");
    std::fs::create_dir(&folder).unwrap();
    let file = encrypt(b"from-the-file", &recipients(&[key!("web1.pub")])).unwrap();
    let mut armored = Vec::new();
    let format = age::armor::Format::AsciiArmor;
    let mut writer = age::armor::ArmoredWriter::wrap_output(&mut armored, format).unwrap();
    writer.write_all(&file).unwrap();
    writer.finish().unwrap();
    std::fs::write(folder.join("db.age"), armored).unwrap();
    assert_eq!(bench.load("db").unwrap(), "from-the-file");
}

#[test]
fn configured_identity_replaces_the_host_keys() {
    let mut bench = Bench::new();
    let key = age::x25519::Identity::generate();
    let public = key.to_public().to_string();
    bench.set("db", "value-for-all", &[&public]);
    let why = bench.failure("db");
    assert!(
        why.contains("encrypted to other keys") && why.contains("rekey"),
        "{why}"
    );
    let path = Path::new("/etc/trueup/boot.key");
    bench.sandbox.make_dir("/etc/trueup");
    let load = |bench: &Bench| bench.load_with("db", Some(path), Some(&bench.store));
    assert!(
        load(&bench)
            .unwrap_err()
            .to_string()
            .contains("does not exist")
    );
    use age::secrecy::ExposeSecret;
    let text = format!("# made at boot\n{}\n", key.to_string().expose_secret());
    bench.sandbox.write("/etc/trueup/boot.key", text);
    bench.sandbox.chmod("/etc/trueup/boot.key", 0o640);
    let why = load(&bench).unwrap_err().to_string();
    assert!(
        why.contains("accessible to users other than root") && why.contains("chmod 600"),
        "{why}"
    );
    bench.sandbox.chmod("/etc/trueup/boot.key", 0o600);
    assert_eq!(load(&bench).unwrap(), "value-for-all");
}

#[test]
fn key_that_others_can_read_is_refused() {
    let mut bench = Bench::new();
    bench.set("db", "value-of-db", &[key!("web1.pub")]);
    bench.sandbox.chmod(HOST_KEY, 0o640);
    assert!(
        bench.load("db").is_ok(),
        "a host key may be of the group ssh_keys"
    );
    bench.sandbox.chmod(HOST_KEY, 0o644);
    let why = bench.failure("db");
    assert!(
        why.contains("accessible to users other than root (mode 0644)"),
        "{why}"
    );
    bench.sandbox.remove(HOST_KEY);
    let why = bench.failure("db");
    assert!(why.contains("no key to decrypt secrets with"), "{why}");
    bench.sandbox.write(HOST_KEY, key!("locked"));
    bench.sandbox.chmod(HOST_KEY, 0o600);
    assert!(bench.failure("db").contains("has a passphrase"));
}

#[test]
fn rsa_key_of_an_old_host_decrypts() {
    let mut bench = Bench::new();
    bench.sandbox.remove(HOST_KEY);
    bench
        .sandbox
        .write("/etc/ssh/ssh_host_rsa_key", key!("rsa"));
    bench.sandbox.chmod("/etc/ssh/ssh_host_rsa_key", 0o600);
    bench.set("db", "value-for-rsa", &[key!("rsa.pub")]);
    assert_eq!(bench.load("db").unwrap(), "value-for-rsa");
}

#[test]
fn object_with_another_digest_is_refused() {
    let mut bench = Bench::new();
    let digest = bench.set("db", "good-value", &[key!("web1.pub")]);
    let forged = encrypt(b"forged-value", &recipients(&[key!("web1.pub")])).unwrap();
    bench.put(&digest, &forged);
    let why = bench.failure("db");
    assert!(
        why.contains("has another content than the manifest says"),
        "{why}"
    );
    assert_eq!(bench.cached(), [""; 0]);
    // A cached one that was changed on disk is fetched again.
    bench.set("db", "good-value", &[key!("web1.pub")]);
    bench.load("db").unwrap();
    let path = format!("/var/lib/trueup/secrets/{}", bench.cached()[0]);
    bench.sandbox.write(&path, forged);
    assert_eq!(bench.load("db").unwrap(), "good-value");
}

#[test]
fn huge_object_in_the_store_is_never_read_whole() {
    let mut bench = Bench::new();
    let huge = vec![b'a'; 1 << 20];
    let digest = bench.name("db", &huge);
    bench.put(&digest, &huge);
    let why = bench.failure("db");
    assert!(why.contains("is larger than"), "{why}");
}

#[test]
fn unknown_and_invalid_names_are_explained() {
    let mut bench = Bench::new();
    bench.set("db-password", "x", &[key!("web1.pub")]);
    let why = bench.failure("db-pasword");
    assert!(
        why.contains("there is no secret") && why.contains("did you mean `db-password`"),
        "{why}"
    );
    for name in ["../x", "a/b", "", ".hidden", "a b"] {
        let why = bench.failure(name);
        assert!(
            why.contains("no secret can have this name"),
            "{name}: {why}"
        );
    }
    let why = bench.load_with("db-password", None, None).unwrap_err();
    assert!(why.message.contains("was not fetched yet"), "{why}");
    assert!(why.is(FailureKind::Error));
}
