//! The samples of `packaging/ci`: their own lines run as each CI system runs them, against a real S3 server, with the
//! rights of `s3-policy.json`, with hosts that take what they publish.

mod samples;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::app::{App, GOOD};
use crate::s3::{Bucket, Keys};
use crate::sandbox::{Ran, Sandbox, binary, isolated};
use samples::Job;

/// As in `gate`, but quicker.
const ROLE: &str = r#"
resources:
  - directory: {path: /srv/shop, parents: true}
  - release:
      id: code
      app: shop
      repo: "@REMOTE@"
      deploy_to: /srv/shop
      gate_timeout: 5s
      health: {url: "http://127.0.0.1:@PORT@/up", body: page, sha_header: X-Revision, times: 1}
  - directory: {path: /etc/systemd/system, parents: true}
  - file:
      path: /etc/systemd/system/shop.service
      content: |
        [Service]
        WorkingDirectory={{ root }}/srv/shop/current
        ExecStart=/bin/sh run.sh @PORT@
        TimeoutStopSec=2
  - service: {name: shop, running: true, serves: /srv/shop/current, restart_on: [code]}
"#;

/// A CI system.
struct System {
    name: &'static str,
    /// What it sets in every job for this commit.
    variables: fn(&str) -> Vec<(&'static str, String)>,
    /// The arguments of the shell that runs a script.
    shell: &'static [&'static str],
    /// Who the history says it was.
    author: [&'static str; 2],
}

const GITHUB: System = System {
    name: "github",
    variables: |sha| {
        vec![
            ("CI", "true".into()),
            ("GITHUB_ACTIONS", "true".into()),
            ("GITHUB_SHA", sha.into()),
            ("GITHUB_REF_NAME", "main".into()),
            ("GITHUB_TRIGGERING_ACTOR", "ana".into()),
        ]
    },
    shell: &["bash", "-e"],
    author: ["ana", "ana"],
};

const GITLAB: System = System {
    name: "gitlab",
    variables: |sha| {
        vec![
            ("CI", "true".into()),
            ("GITLAB_CI", "true".into()),
            ("CI_COMMIT_SHA", sha.into()),
            ("CI_COMMIT_REF_NAME", "main".into()),
            ("GITLAB_USER_LOGIN", "ana".into()),
            ("AWS_TOKEN", "the server takes keys".into()),
        ]
    },
    shell: &["bash", "-e", "-o", "pipefail"],
    author: ["ana", "ana"],
};

const JENKINS: System = System {
    name: "jenkins",
    variables: |sha| {
        vec![
            ("JENKINS_URL", "https://ci.example.invalid/".into()),
            ("GIT_COMMIT", sha.into()),
            ("GIT_BRANCH", "origin/main".into()),
            ("BUILD_USER_ID", "jenkins".into()),
        ]
    },
    shell: &["sh", "-xe"],
    author: ["jenkins", "bea"],
};

/// A host that makes passes until it is dropped.
struct Host {
    app: App,
    stop: Arc<AtomicBool>,
    passes: Option<std::thread::JoinHandle<String>>,
}

impl Host {
    fn start(environment: &str, bucket: &Bucket, remote: &Path, signers: &str) -> Host {
        let app = App::new("resources: []");
        let settings = format!(
            "environment: {environment}\nnode: {environment}-1\nroles: [app]\nstore: {}\nsigners: {}\n",
            bucket.settings(),
            app.sandbox.at("/etc/trueup/signers").display()
        );
        app.sandbox.write("/etc/trueup/node.yml", &settings);
        app.sandbox.write("/etc/trueup/signers", signers);
        app.role(&ROLE.replace("@REMOTE@", &remote.display().to_string()));
        let stop = Arc::new(AtomicBool::new(false));
        let (is_stopped, root) = (stop.clone(), app.sandbox.root.clone());
        let (share, keys) = (app.sandbox.sibling("share"), bucket.keys.clone());
        let passes = std::thread::spawn(move || {
            let mut log = String::new();
            while !is_stopped.load(Ordering::Relaxed) {
                let mut command = Command::new(binary());
                isolated(&mut command);
                let command = command
                    .args(["converge", "--root"])
                    .arg(&root)
                    .env("TRUEUP_SHARE", &share)
                    .envs(keys.variables());
                let output = command.output().unwrap();
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                log = text(&output.stdout) + &text(&output.stderr);
                std::thread::sleep(std::time::Duration::from_millis(200));
            }
            log
        });
        Host {
            app,
            stop,
            passes: Some(passes),
        }
    }

    fn serves(&self) -> String {
        self.app.running()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let log = self.passes.take().map(std::thread::JoinHandle::join);
        if std::thread::panicking() {
            eprintln!("the last pass: {log:?}");
        }
    }
}

/// The app's repository with its remote, a package of trueup, keys, and the machine on which jobs run.
struct Pipeline {
    system: &'static System,
    machine: Sandbox,
    bucket: Bucket,
    keys: Keys,
}

impl Pipeline {
    fn new(system: &'static System, bucket: Bucket) -> Pipeline {
        let keys = bucket.user(&samples::file("s3-policy.json"));
        let pipeline = Pipeline {
            system,
            machine: Sandbox::empty(),
            bucket,
            keys,
        };
        for folder in ["home", "temp", "package/DEBIAN", "package/usr/bin"] {
            std::fs::create_dir_all(pipeline.path(folder)).unwrap();
        }
        for name in ["staging", "production", "operator"] {
            let file = pipeline.path(name).display().to_string();
            let words = ["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", &file];
            pipeline.tool("ssh-keygen", &words);
        }
        // As the package has it: the program in /usr/bin.
        let control = "Package: trueup\nVersion: 0.1.0\nArchitecture: all\nMaintainer: T <t@example.invalid>\nDescription: trueup\n";
        std::fs::write(pipeline.path("package/DEBIAN/control"), control).unwrap();
        std::fs::copy(binary(), pipeline.path("package/usr/bin/trueup")).unwrap();
        let package = pipeline.path("package").display().to_string();
        pipeline.tool(
            "dpkg-deb",
            &["-Znone", "--root-owner-group", "--build", &package],
        );
        pipeline
    }

    fn path(&self, name: &str) -> PathBuf {
        self.machine.sibling(name)
    }

    fn tool(&self, program: &str, args: &[&str]) -> String {
        let mut command = Command::new(program);
        isolated(&mut command);
        let output = command.args(args).output().unwrap();
        assert!(output.status.success(), "{program} {args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn signers(&self) -> String {
        let line = |name: &str, namespaces: &str| {
            let key = std::fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap();
            format!("{name}@example.com namespaces=\"{namespaces}\" {key}")
        };
        line("staging", "trueup@staging")
            + &line("production", "trueup@production")
            + &line("operator", "trueup@*")
    }

    /// Runs the scripts of a job in the checkout, until one fails.
    fn run(&self, job: &Job, environment: &str, sha: &str) -> Ran {
        let mut path = std::env::var("PATH").unwrap();
        let additions = self.path("temp/path");
        std::fs::write(&additions, "").unwrap();
        let package = std::fs::read(self.path("package.deb")).unwrap();
        let mut variables: BTreeMap<String, String> = job.variables.clone();
        let mut set = |name: &str, value: String| variables.insert(name.to_owned(), value);
        for (name, value) in (self.system.variables)(sha) {
            set(name, value);
        }
        for (name, value) in self.keys.variables() {
            set(name, value.to_owned());
        }
        for (name, value) in [
            ("HOME", self.path("home").display().to_string()),
            ("RUNNER_TEMP", self.path("temp").display().to_string()),
            ("GITHUB_PATH", additions.display().to_string()),
            ("TRUEUP_STORE", format!("s3://{}", self.bucket.name)),
            ("TRUEUP_ENDPOINT", self.bucket.endpoint.clone()),
            (
                "TRUEUP_DEB",
                format!("file://{}", self.path("package.deb").display()),
            ),
            ("TRUEUP_DEB_SHA256", trueup::digest::digest(&package)),
            // GitLab and Jenkins have the key in a file.
            ("TRUEUP_SIGN", self.path(environment).display().to_string()),
        ] {
            set(name, value);
        }
        if environment == "production" {
            // The parameter of Jenkins' `input`: who approved.
            set("TRUEUP_BY", self.system.author[1].to_owned());
        }
        let mut last = None;
        for script in &job.scripts {
            let mut command = Command::new(self.system.shell[0]);
            isolated(&mut command);
            command
                .args(&self.system.shell[1..])
                .arg("-c")
                .arg(&script.text)
                .current_dir(self.path("checkout"))
                .envs(&variables)
                .envs(&script.variables)
                .env("PATH", &path);
            let ran = self.machine.run_command(command);
            let is_failed = ran.code != 0;
            last = Some(ran);
            if is_failed {
                break;
            }
            for addition in std::fs::read_to_string(&additions).unwrap().lines() {
                path = format!("{addition}:{path}");
            }
        }
        last.unwrap()
    }

    /// `trueup` of an operator.
    fn operate(&self, words: &[&str]) -> Ran {
        let mut command = self.machine.command(words);
        command
            .env("TRUEUP_STORE", format!("s3://{}", self.bucket.name))
            .env("TRUEUP_ENDPOINT", &self.bucket.endpoint)
            .env("HOME", self.path("home"))
            .envs(self.bucket.keys.variables());
        if !words.contains(&"history") {
            command
                .env("TRUEUP_SIGN", self.path("operator"))
                .env("TRUEUP_BY", "olga");
        }
        command.env("TRUEUP_SIGNERS", self.path("signers"));
        self.machine.run_command(command)
    }
}

/// The whole way of two commits, with the jobs of a sample.
fn deploys(system: &'static System, job: impl Fn(&str, &Pipeline) -> Job) {
    let Some(bucket) = Bucket::new(system.name) else {
        return;
    };
    let pipeline = Pipeline::new(system, bucket);
    std::fs::write(pipeline.path("signers"), pipeline.signers()).unwrap();
    // The repository: its remote, and the checkout of CI.
    let source = App::new("resources: []");
    source.publish_commit(GOOD, "200", "page one");
    std::fs::create_dir(source.repo.join(".trueup")).unwrap();
    std::fs::write(source.repo.join(".trueup/signers"), pipeline.signers()).unwrap();
    source.git(&["add", "."]);
    source.git(&["commit", "-q", "-m", "Name who may publish"]);
    let remote = pipeline.path("remote.git");
    let remote_name = remote.display().to_string();
    source.git(&["clone", "-q", "--bare", ".", &remote_name]);
    source.git(&["remote", "add", "origin", &remote_name]);
    let checkout = pipeline.path("checkout").display().to_string();
    let update = || {
        source.git(&["push", "-q", "origin", "main"]);
        source.git(&["-C", &checkout, "fetch", "-q"]);
        let sha = source.git(&["rev-parse", "HEAD"]);
        source.git(&["-C", &checkout, "checkout", "-q", &sha]);
        sha
    };
    source.git(&["clone", "-q", &remote_name, &checkout]);
    let first = update();
    for environment in ["staging", "production"] {
        let created = pipeline.operate(&[
            "publish",
            environment,
            &format!("shop={first}"),
            "--create",
            "--unchecked",
        ]);
        assert_eq!(created.code, 0, "{created}");
    }
    let host = |name| Host::start(name, &pipeline.bucket, &remote, &pipeline.signers());
    let (staging, production) = (host("staging"), host("production"));
    let settle = [
        "rollout",
        "status",
        "production",
        "shop",
        "--wait",
        "--timeout",
        "60s",
    ];
    let settled = pipeline.operate(&settle);
    assert_eq!(settled.code, 0, "{settled}");

    source.commit_page("page two");
    let second = update();
    let published = pipeline.run(&job("staging", &pipeline), "staging", &second);
    assert_eq!(published.code, 0, "{published}");
    assert!(published.out.contains("page two (t)"), "{published}");
    assert!(!published.to_string().contains("warning"), "{published}");
    assert_eq!(
        (staging.serves(), production.serves()),
        (second.clone(), first.clone())
    );

    let promoted = pipeline.run(&job("production", &pipeline), "production", &second);
    assert_eq!(promoted.code, 0, "{promoted}");
    assert!(!promoted.to_string().contains("warning"), "{promoted}");
    assert_eq!(production.serves(), second);
    for (environment, act, author) in [
        ("staging", "publish", system.author[0]),
        ("production", "promote", system.author[1]),
    ] {
        let history = pipeline.operate(&["history", environment, "--json"]);
        assert_eq!(history.code, 0, "{history}");
        let newest = &history.json()["generations"][0];
        assert_eq!(
            (newest["action"].as_str(), newest["by"].as_str()),
            (Some(act), Some(author))
        );
    }

    if system.name != "github" {
        return;
    }
    // A hold refuses the button as well as the pipeline, and says why.
    let held = [
        "hold",
        "production",
        "shop",
        "--reason",
        "the sale",
        "--for",
        "1h",
    ];
    assert_eq!(pipeline.operate(&held).code, 0);
    source.commit_page("page three");
    let third = update();
    let published = pipeline.run(&job("staging", &pipeline), "staging", &third);
    assert_eq!(published.code, 0, "{published}");
    let refused = pipeline.run(&job("production", &pipeline), "production", &third);
    assert_eq!(refused.code, 3, "{refused}");
    assert!(refused.err.contains("the sale"), "{refused}");
    assert_eq!(production.serves(), second);

    // The key of staging signs nothing in production.
    assert_eq!(pipeline.operate(&["unhold", "production", "shop"]).code, 0);
    let before = pipeline.bucket.get("sha_number.yml");
    for end in ["", ".pub"] {
        let (from, to) = (format!("staging{end}"), format!("production{end}"));
        std::fs::rename(pipeline.path(&from), pipeline.path(&to)).unwrap();
    }
    let refused = pipeline.run(&job("production", &pipeline), "production", &third);
    assert_eq!(refused.code, 78, "{refused}");
    let why = "staging@example.com, whose key may not sign for production";
    assert!(refused.err.contains(why), "{refused}");
    assert_eq!(pipeline.bucket.get("sha_number.yml"), before);
    assert_eq!(production.serves(), second);
    drop(staging);
}

#[test]
fn github_sample_deploys_staging_and_promotes_to_production() {
    deploys(&GITHUB, |environment, pipeline| {
        let key = std::fs::read_to_string(pipeline.path(environment)).unwrap();
        let temp = pipeline.path("temp").display().to_string();
        // GitHub keeps no last line feed of a secret that was pasted.
        let expressions = BTreeMap::from([
            ("secrets.TRUEUP_KEY", key.trim().to_owned()),
            ("runner.temp", temp),
        ]);
        samples::github(environment, &expressions)
    });
}

#[test]
fn gitlab_sample_deploys_staging_and_promotes_to_production() {
    deploys(&GITLAB, |environment, _| samples::gitlab(environment));
}

#[test]
fn jenkins_sample_deploys_staging_and_promotes_to_production() {
    deploys(&JENKINS, |environment, _| {
        let stage = if environment == "staging" {
            "Staging"
        } else {
            "Production"
        };
        samples::jenkins(stage)
    });
}

#[test]
fn policy_of_ci_allows_publishing_and_nothing_else() {
    let Some(bucket) = Bucket::new("policy") else {
        return;
    };
    let ci = bucket.user(&samples::file("s3-policy.json"));
    let objects = [
        "nodes/production/web1.json",
        "rollouts/production/shop.json",
        "slots/production/shop/0.json",
        "quarantine/production/shop/sha.json",
        "secrets/production/key.age",
        "notices/production/shop.json",
    ];
    for key in objects {
        assert_eq!(bucket.status(&bucket.keys, "PUT", key), "200", "{key}");
        assert_eq!(bucket.status(&ci, "PUT", key), "403", "{key}");
        assert_eq!(bucket.status(&ci, "DELETE", key), "403", "{key}");
        let read = if key.starts_with("secrets/") {
            "403"
        } else {
            "200"
        };
        assert_eq!(bucket.status(&ci, "GET", key), read, "{key}");
    }
    for key in ["sha_number.yml", "history/production/1.yml"] {
        assert_eq!(bucket.status(&ci, "GET", key), "404", "{key}");
        assert_eq!(bucket.status(&ci, "PUT", key), "200", "{key}");
        assert_eq!(bucket.status(&ci, "GET", key), "200", "{key}");
        assert_eq!(bucket.status(&ci, "DELETE", key), "403", "{key}");
    }
}
