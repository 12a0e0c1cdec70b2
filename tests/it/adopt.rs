//! A host that another tool deployed to is adopted as it is.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::sandbox::{NODE, Sandbox, isolated};

const ROLE: &str = r#"
resources:
  - release: {id: code, app: shop, repo: "@REPO@", deploy_to: /srv/shop, linked_dirs: [log]}
"#;

const CAPFILE: &str = r#"
require "capistrano/setup"
require "capistrano/deploy"
require "capistrano/scm/git"
install_plugin Capistrano::SCM::Git
"#;

const DEPLOY: &str = r#"
set :application, "shop"
set :repo_url, "file://@REPO@"
set :branch, ENV.fetch("BRANCH")
set :deploy_to, "@ROOT@/srv/shop"
set :tmp_dir, "@ROOT@/tmp"
set :linked_dirs, ["log"]
set :keep_releases, 5
"#;

struct Host {
    sandbox: Sandbox,
    repo: PathBuf,
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn git(folder: &Path, args: &[&str]) -> String {
    std::fs::create_dir_all(folder).unwrap();
    let mut command = Command::new("git");
    isolated(&mut command);
    let identity = ["-c", "user.name=t", "-c", "user.email=t@example"];
    run(command.current_dir(folder).args(identity).args(args))
}

impl Host {
    fn new() -> Host {
        let sandbox = Sandbox::empty();
        let repo = sandbox.sibling("repo");
        sandbox.write("/etc/trueup/node.yml", NODE);
        sandbox.role(&ROLE.replace("@REPO@", &repo.display().to_string()));
        git(&repo, &["init", "-q", "-b", "main", "."]);
        Host { sandbox, repo }
    }

    fn commit(&self, page: &str) -> String {
        std::fs::write(self.repo.join("page"), page).unwrap();
        git(&self.repo, &["add", "."]);
        git(&self.repo, &["commit", "-q", "-m", page]);
        git(&self.repo, &["rev-parse", "HEAD"])
    }

    fn publish(&self, sha: &str) {
        self.sandbox
            .manifest(format!("production: {{shop: {sha}}}\n"));
    }

    fn page(&self) -> String {
        self.sandbox.read("/srv/shop/current/page")
    }

    fn current(&self) -> PathBuf {
        std::fs::read_link(self.sandbox.at("/srv/shop/current")).unwrap()
    }

    /// At the wanted sha nothing changes; the next one is deployed, and a rollback to an old release
    /// builds nothing.
    fn assert_adopted(&self, shas: &[String]) {
        let [.., before, at] = shas else {
            panic!("two releases at least");
        };
        self.publish(at);
        let there = self.current();
        // Only the manifest is stored.
        let first = self.sandbox.converged();
        assert!(first.out.contains(" 0 changes, 1 right"), "{first}");
        self.sandbox.assert_converged(&[]);
        assert_eq!(self.current(), there);
        let next = self.commit("by trueup");
        self.publish(&next);
        self.sandbox.converged();
        assert_eq!(self.page(), "by trueup");
        self.publish(before);
        let plan = self.sandbox.run(&["plan"]);
        assert!(!plan.out.contains("unknown until it is built"), "{plan}");
        self.sandbox.converged();
        assert_eq!(self.page(), format!("page {}", shas.len() - 1));
    }
}

#[test]
fn capistrano_deployment_is_adopted() {
    if Command::new("cap").arg("--version").output().is_err() {
        assert!(
            std::env::var_os("CI").is_none(),
            "in CI nothing may be skipped: there is no capistrano"
        );
        eprintln!("SKIPPED capistrano_deployment_is_adopted: there is no capistrano");
        return;
    }
    let host = Host::new();
    let project = host.sandbox.sibling("cap");
    std::fs::create_dir_all(project.join("config/deploy")).unwrap();
    let fill = |text: &str| {
        text.replace("@REPO@", &host.repo.display().to_string())
            .replace("@ROOT@", &host.sandbox.root.display().to_string())
    };
    for (file, text) in [
        ("Capfile", CAPFILE),
        ("config/deploy.rb", DEPLOY),
        ("config/deploy/here.rb", "server :local, roles: %w[app]\n"),
    ] {
        std::fs::write(project.join(file), fill(text)).unwrap();
    }
    std::fs::create_dir_all(host.sandbox.at("/tmp")).unwrap();
    let mut shas = Vec::new();
    for n in 1..=3 {
        shas.push(host.commit(&format!("page {n}")));
        // Its releases are named by the second.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let mut cap = Command::new("cap");
        isolated(&mut cap);
        run(cap
            .current_dir(&project)
            .env("BRANCH", &shas[n - 1])
            .args(["here", "deploy"]));
    }
    assert!(host.current().is_absolute(), "capistrano links so");
    host.assert_adopted(&shas);
    let log = host.sandbox.read("/srv/shop/revisions.log");
    assert!(log.contains(" by trueup"), "{log}");
}

#[test]
fn releases_named_by_sha_or_time_are_adopted() {
    for called in ["sha", "time"] {
        let host = Host::new();
        let mut shas = Vec::new();
        for n in 1..=3 {
            let sha = host.commit(&format!("page {n}"));
            let name = match called {
                "sha" => sha.clone(),
                _ => format!("2015-09-1{n}_04.00"),
            };
            let release = host.sandbox.at("/srv/shop/releases").join(name);
            // As deploy_revision and fab do it: a clone is a release, and there is no REVISION.
            let from = host.repo.display().to_string();
            git(
                &host.sandbox.root,
                &["clone", "-q", &from, &release.display().to_string()],
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
            let link = host.sandbox.at("/srv/shop/current");
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(&release, &link).unwrap();
            shas.push(sha);
        }
        host.assert_adopted(&shas);
    }
}
