//! Signed manifests: what hosts accept, and what a publisher signs.

use super::*;
use crate::desired::{
    FleetReports, Freshness, NodeContext, PublishRequest, ReadOptions, ReportedHosts, ServedBefore,
    Sha, Signing, publish, read, signed_lines,
};
use crate::ports::store::{GetOutcome, MemoryStore, Store, StoreError, WriteCondition};
use crate::ports::testing::Sandbox;
use crate::settings::{Signers, parse_signers};

mod history;
mod publishers;

const KEY: &str = "sha_number.yml";

const SHA: &str = "4f2c9d0e1b3a5c7d9e0f1a2b3c4d5e6f70819203";

/// The keys of several people.
struct Keys {
    folder: tempfile::TempDir,
}

impl Keys {
    fn new(names: &[&str]) -> Keys {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let file = folder.path().join(name).display().to_string();
            let kind = ["ed25519", "ecdsa"][usize::from(name.ends_with("-ec"))];
            let argv = [
                "ssh-keygen",
                "-q",
                "-t",
                kind,
                "-N",
                "",
                "-C",
                "",
                "-f",
                &file,
            ];
            assert!(Exec.run(Command::new(argv)).unwrap().success());
        }
        Keys { folder }
    }

    fn signing_key(&self, name: &str) -> SigningKey {
        SigningKey {
            file: self.folder.path().join(name),
            env: BTreeMap::new(),
        }
    }

    /// A line of allowed signers.
    fn line(&self, name: &str, options: &str) -> String {
        let file = self.folder.path().join(format!("{name}.pub"));
        let key = Exec.run(Command::new(["cat", &file.display().to_string()]));
        format!(
            "{name}@example.com {options} {}",
            key.unwrap().output.text()
        )
    }

    fn signers(&self, lines: &[(&str, &str)]) -> Signers {
        let lines = lines.iter().map(|(name, options)| self.line(name, options));
        parse_signers("allowed_signers", &lines.collect::<String>()).unwrap()
    }
}

struct NoHosts;

impl FleetReports for NoHosts {
    fn hosts(&mut self) -> Result<ReportedHosts, StoreError> {
        Ok(ReportedHosts::default())
    }

    fn has_rollouts(&mut self, _: &str) -> Result<bool, StoreError> {
        Ok(true)
    }

    fn was_served(&mut self, _: &str, _: &Sha) -> Result<ServedBefore, String> {
        Ok(ServedBefore::Yes)
    }
}

/// A store, and a host of production with these signers.
struct Bench {
    store: MemoryStore,
    sandbox: Sandbox,
    signers: Option<Signers>,
}

impl Bench {
    fn new(signers: Option<Signers>) -> Bench {
        Bench {
            store: MemoryStore::new(),
            sandbox: Sandbox::empty(),
            signers,
        }
    }

    fn text(&self) -> String {
        match self.store.get(KEY, None).unwrap() {
            GetOutcome::Object(object) => String::from_utf8(object.body).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn put(&self, text: &str) {
        let when = WriteCondition::Always;
        self.store.put(KEY, text.as_bytes(), when).unwrap();
    }

    /// Publishes a sha of forty times this letter to an environment.
    fn publish(
        &self,
        environment: &str,
        letter: &str,
        signing: Option<&Signing<'_>>,
    ) -> Result<(), String> {
        let request = PublishRequest {
            shas: vec![("shop".into(), Sha::parse(&letter.repeat(40)).unwrap())],
            create: true,
            ..PublishRequest::new(environment, "2026-11-21T04:43:01Z".parse().unwrap())
        };
        let done = publish(
            &self.store,
            KEY,
            &request,
            signing,
            &mut NoHosts,
            &mut |_| true,
        );
        done.map(|_| ()).map_err(|error| error.to_string())
    }

    /// The sha that the host acts on, or why it refuses what the store has, and whether it still has a good one.
    fn pass(&self) -> Result<String, (String, bool)> {
        let (apps, none) = (["shop".to_owned()], BTreeMap::new());
        let node = NodeContext {
            environment: "production",
            tags: &none,
            now: "2026-11-21T05:00:00Z".parse().unwrap(),
            last_answer: None,
            signers: self.signers.as_ref(),
        };
        let options = ReadOptions {
            force: false,
            save_last_good: true,
        };
        let desired = read(
            &self.store,
            KEY,
            options,
            &self.sandbox.host,
            (&node, &apps),
        );
        let desired = desired.map_err(|error| (error.to_string(), false))?;
        match desired.freshness {
            Freshness::Refused(problem) => Err((problem.to_string(), true)),
            _ => Ok(desired.apps["shop"].sha.as_str()[..1].to_owned()),
        }
    }

    fn refusal(&self) -> String {
        self.pass().unwrap_err().0
    }
}

fn signing<'a>(
    sign: &'a dyn Fn(&str, &str) -> Result<String, Problem>,
    signers: Option<&'a Signers>,
) -> Signing<'a> {
    Signing {
        sign,
        signers,
        trusts_current: false,
    }
}

#[test]
fn host_with_signers_acts_on_nothing_that_they_have_not_signed() {
    let keys = Keys::new(&["ana", "mallory", "staging"]);
    let namespaces = "namespaces=\"trueup@production\"";
    let staging = "namespaces=\"trueup@staging\"";
    let signers = keys.signers(&[("ana", namespaces), ("staging", staging)]);
    let bench = Bench::new(Some(signers));
    let sign_as = |name: &'static str| {
        let key = keys.signing_key(name);
        move |namespace: &str, text: &str| key.sign(namespace, text)
    };
    bench.publish("production", "1", None).unwrap();
    assert!(
        bench
            .refusal()
            .starts_with("memory:/sha_number.yml:1:1: production: it is not signed")
    );
    let ana = sign_as("ana");
    let by_ana = Signing {
        trusts_current: true,
        ..signing(&ana, None)
    };
    bench.publish("production", "2", Some(&by_ana)).unwrap();
    assert_eq!(bench.pass(), Ok("2".into()));
    let good = bench.text();
    // A change after it was signed, of the sha or of who made it.
    for (from, to) in [
        ("2".repeat(40), "3".repeat(40)),
        ("action: publish".into(), "action: hold".into()),
    ] {
        bench.put(&good.replace(&from, &to));
        let (refusal, has_good) = bench.pass().unwrap_err();
        assert!(
            has_good && refusal.contains("does not fit: somebody changed it"),
            "{refusal}"
        );
    }
    // By others: a key that nobody knows, and one of another environment.
    let mallory = sign_as("mallory");
    let staging = sign_as("staging");
    for (sign, expected) in [
        (
            &mallory as &dyn Fn(&str, &str) -> Result<String, Problem>,
            "which is not in allowed_signers",
        ),
        (&staging, "whose key may not sign for production"),
    ] {
        bench.put(&good);
        let by_other = Signing {
            trusts_current: true,
            ..signing(sign, None)
        };
        bench.publish("production", "4", Some(&by_other)).unwrap();
        let refusal = bench.refusal();
        assert!(refusal.contains(expected), "{refusal}");
    }
    // A signature of something else: of another file, and of another environment by the right key.
    for (namespace, text) in [("file", "hello"), ("trueup@staging", "production:\n")] {
        let other = ana(namespace, text).unwrap();
        let inner = other.lines().filter(|line| !line.starts_with("-----"));
        let other: String = inner.collect();
        let tree = parse_text(&good);
        let old = tree.get("_signatures").unwrap().get("production").unwrap();
        bench.put(&good.replace(old.as_text().unwrap(), &other));
        let refusal = bench.refusal();
        assert!(
            refusal.contains("its signature is of `") || refusal.contains("does not fit"),
            "{refusal}"
        );
    }
    bench.put(&good.replace(
        "_signatures:\n  production: \"",
        "_signatures:\n  production: \"AAAA",
    ));
    assert!(
        bench
            .refusal()
            .contains("is not one in the format of OpenSSH")
    );
    // An older one that was signed.
    bench.put(&good);
    bench
        .publish("production", "5", Some(&signing(&ana, None)))
        .unwrap();
    assert_eq!(bench.pass(), Ok("5".into()));
    bench.put(&good);
    assert!(
        bench
            .refusal()
            .contains("it is 2, and this host has applied 3: an older manifest")
    );
}

fn parse_text(text: &str) -> crate::yaml::Node {
    crate::yaml::parse("m", text.as_bytes(), crate::yaml::ParseLimits::default()).unwrap()
}

#[test]
fn signed_lines_mean_what_they_mean_alone() {
    let keys = Keys::new(&["ana"]);
    let bench = Bench::new(Some(keys.signers(&[("ana", "")])));
    let ana = |namespace: &str, text: &str| keys.signing_key("ana").sign(namespace, text);
    let first = signing(&ana, None);
    bench.publish("production", "a", Some(&first)).unwrap();
    let good = bench.text();
    let number = "18446744073709551615";
    // Whatever others write around it.
    bench.put(&format!(
        "generation: {number}\nstaging: {{shop: master}}\n# more\n{good}other: [1\n]\n"
    ));
    assert_eq!(bench.pass(), Ok("a".into()));
    // The history has the same.
    let GetOutcome::Object(copy) = bench.store.get("history/production/1.yml", None).unwrap()
    else {
        panic!("there is no copy");
    };
    bench.put(&String::from_utf8(copy.body).unwrap());
    assert_eq!(bench.pass(), Ok("a".into()));
    // An alias to what is not signed.
    let sha = "a".repeat(40);
    let aliased = format!(
        "x: &x {SHA}\n{}",
        good.replace(&format!("shop: {sha}"), "shop: *x")
    );
    bench.put(&aliased);
    assert!(
        bench.refusal().contains("does not fit"),
        "{}",
        bench.refusal()
    );
    // A publisher signs no alias, nor what others share a line with.
    for text in [
        format!("x: &x {SHA}\nproduction:\n  web: *x\n  shop: {SHA}\n"),
        format!("{{production: {{shop: {SHA}}}}}\n"),
    ] {
        bench.put(&text);
        let trusting = Signing {
            trusts_current: true,
            ..signing(&ana, None)
        };
        let refused = bench.publish("production", "2", Some(&trusting));
        assert!(refused.is_err() || bench.pass().is_err(), "{text}");
        assert!(refused.is_err(), "{text}");
    }
}
