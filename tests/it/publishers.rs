//! Many publishers at once, on a real S3 server: nothing is lost, and the history has every generation. Publishers that are
//! killed leave a manifest whose signature fits.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::s3::Bucket;
use crate::sandbox::{Ran, Sandbox, isolated};

/// The last one is signed.
const ENVIRONMENTS: [&str; 3] = ["testing", "staging", "production"];

/// A bucket, a key, and the list of signers that names it.
struct Publishers {
    bucket: Bucket,
    machine: Sandbox,
}

impl Publishers {
    fn new(purpose: &str) -> Option<Publishers> {
        let publishers = Publishers {
            bucket: Bucket::new(purpose)?,
            machine: Sandbox::empty(),
        };
        let key = publishers.path("key");
        let mut command = Command::new("ssh-keygen");
        isolated(&mut command);
        let words = ["-q", "-t", "ed25519", "-N", "", "-C", "ci", "-f"];
        assert!(command.args(words).arg(&key).status().unwrap().success());
        let public = std::fs::read_to_string(publishers.path("key.pub")).unwrap();
        let line = format!("ci@example.com namespaces=\"trueup@production\" {public}");
        std::fs::write(publishers.path("signers"), line).unwrap();
        Some(publishers)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.machine.sibling(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.machine.command(words);
        command
            .env("TRUEUP_STORE", format!("s3://{}", self.bucket.name))
            .env("TRUEUP_ENDPOINT", &self.bucket.endpoint)
            .env("TRUEUP_SIGNERS", self.path("signers"))
            .env("HOME", self.path("home"))
            .envs(self.bucket.keys.variables());
        command
    }

    fn publish(&self, environment: &str, app: &str, sha: &str, by: &str) -> Command {
        let app = format!("{app}={sha}");
        let words = [
            "publish",
            environment,
            &app,
            "--create",
            "--unchecked",
            "--by",
            by,
        ];
        let mut command = self.command(&words);
        if environment == "production" {
            command.env("TRUEUP_SIGN", self.path("key"));
        }
        command
    }

    fn run(&self, command: Command) -> Ran {
        self.machine.run_command(command)
    }

    /// All generations, the oldest first. Each has its copy in the store, none is missing, and each says what was before.
    fn complete_history(&self, environment: &str) -> Vec<Value> {
        let history = self.run(self.command(&["history", environment, "-n", "100000", "--json"]));
        assert_eq!(history.code, 0, "{history}");
        let mut generations = history.json()["generations"].as_array().unwrap().clone();
        generations.reverse();
        let mut shas: BTreeMap<String, Value> = BTreeMap::new();
        for (number, one) in (1..).zip(&generations) {
            assert_eq!(one["generation"], number, "{environment}: {one}");
            assert!(
                one["action"].is_string(),
                "no copy of {environment} {number}: {one}"
            );
            if environment == "production" {
                assert!(one["signature"].get("Ok").is_some(), "{one}");
            }
            for app in one["apps"].as_array().unwrap() {
                let name = app["app"].as_str().unwrap().to_owned();
                let before = shas.insert(name, app["to"].clone());
                assert_eq!(
                    app["from"],
                    before.unwrap_or_default(),
                    "{environment}: {one}"
                );
            }
        }
        generations
    }

    /// What the manifest says of production; OpenSSH agrees that its signature fits.
    fn signed_production(&self) -> serde_yaml::Value {
        let text = self.bucket.get("sha_number.yml");
        let manifest: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
        let signature = manifest["_signatures"]["production"].as_str().unwrap();
        let armored =
            format!("-----BEGIN SSH SIGNATURE-----\n{signature}\n-----END SSH SIGNATURE-----\n");
        std::fs::write(self.path("signature"), armored).unwrap();
        let mut lines = text.lines().skip_while(|line| *line != "production:");
        let first = lines.next().unwrap();
        let block: Vec<&str> = lines.take_while(|line| line.starts_with(' ')).collect();
        std::fs::write(
            self.path("block"),
            format!("{first}\n{}\n", block.join("\n")),
        )
        .unwrap();
        let mut command = Command::new("ssh-keygen");
        isolated(&mut command);
        let verified = command
            .args([
                "-Y",
                "verify",
                "-I",
                "ci@example.com",
                "-n",
                "trueup@production",
                "-f",
            ])
            .arg(self.path("signers"))
            .arg("-s")
            .arg(self.path("signature"))
            .stdin(std::fs::File::open(self.path("block")).unwrap())
            .output()
            .unwrap();
        assert!(verified.status.success(), "{verified:?}\n{text}");
        manifest["production"].clone()
    }
}

fn sha(publisher: usize, number: usize) -> String {
    format!("{:020x}{:020x}", publisher + 1, number + 1)
}

#[test]
fn many_publishers_at_once_lose_nothing() {
    let Some(publishers) = Publishers::new("publishers") else {
        return;
    };
    let (count, each) = match std::env::var_os("TRUEUP_LONG_PUBLISHERS") {
        Some(_) => (50, 20),
        None => (10, 10),
    };
    let started = Instant::now();
    let slowest = std::thread::scope(|scope| {
        let publish_all = |publisher: usize| {
            let environment = ENVIRONMENTS[publisher % 3];
            // Some publish the same app.
            let app = format!("app{}", publisher / 3 % 4);
            let mut slowest = Duration::ZERO;
            for number in 0..each {
                let by = format!("publisher-{publisher}");
                let began = Instant::now();
                let command = publishers.publish(environment, &app, &sha(publisher, number), &by);
                let ran = publishers.run(command);
                assert_eq!(ran.code, 0, "{publisher}, {number}: {ran}");
                assert!(!ran.out.contains("the history has no"), "{ran}");
                slowest = slowest.max(began.elapsed());
            }
            slowest
        };
        let threads: Vec<_> = (0..count)
            .map(|publisher| scope.spawn(move || publish_all(publisher)))
            .collect();
        let ended = threads.into_iter().map(|thread| thread.join().unwrap());
        ended.max().unwrap()
    });
    println!(
        "{count} publishers × {each}: {} s, the slowest publish {} s",
        started.elapsed().as_secs(),
        slowest.as_secs_f32()
    );
    let mut published = Vec::new();
    for environment in ENVIRONMENTS {
        for one in publishers.complete_history(environment) {
            for app in one["apps"].as_array().unwrap() {
                published.push(app["to"].as_str().unwrap().to_owned());
            }
        }
    }
    published.sort();
    let all = (0..count).flat_map(|publisher| (0..each).map(move |number| sha(publisher, number)));
    let mut all: Vec<String> = all.collect();
    all.sort();
    assert_eq!(published, all);
    publishers.signed_production();
}

#[test]
fn killed_publisher_leaves_a_whole_manifest_and_a_history_to_complete() {
    const KILLS: u32 = 24;
    let Some(publishers) = Publishers::new("killed") else {
        return;
    };
    let publish = |number| publishers.publish("production", "shop", &sha(0, number), "ci");
    let mut duration = Duration::ZERO;
    for number in 0..2 {
        let began = Instant::now();
        let ran = publishers.run(publish(number));
        assert_eq!(ran.code, 0, "{ran}");
        duration = began.elapsed();
    }
    let (mut written, mut unrecorded) = (0, 0);
    for kill in 0..KILLS {
        let number = 2 + 2 * kill as usize;
        let before = publishers.signed_production();
        let mut command = publish(number);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        // The second half of the time has the requests.
        std::thread::sleep(duration / 2 + duration * kill / KILLS * 6 / 10);
        child.kill().unwrap();
        let status = child.wait().unwrap();
        let after = publishers.signed_production();
        let is_new = after["shop"]["sha"].as_str() == Some(sha(0, number).as_str());
        assert!(is_new || after == before, "{after:?}");
        if is_new && status.signal().is_some() {
            written += 1;
            let generation = after["_settings"]["generation"].as_u64().unwrap();
            unrecorded += u32::from(
                !publishers
                    .bucket
                    .has(&format!("history/production/{generation}.yml")),
            );
        }
        let next = publishers.run(publish(number + 1));
        assert_eq!(next.code, 0, "{next}");
        publishers.complete_history("production");
    }
    println!(
        "{KILLS} kills within {duration:?}: {written} after the manifest was written, {unrecorded} before its copy was"
    );
}
