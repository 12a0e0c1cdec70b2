//! Publishing branches and tags of a real repository, as CI and operators do, and what differs from what is served.

use std::path::PathBuf;
use std::process::Command;

use crate::sandbox::{Ran, Sandbox, isolated};

/// A store, a repository, and a machine without settings.
struct Publisher {
    sandbox: Sandbox,
}

impl Publisher {
    fn new() -> Publisher {
        let publisher = Publisher {
            sandbox: Sandbox::empty(),
        };
        for folder in ["home", "shop"] {
            std::fs::create_dir(publisher.path(folder)).unwrap();
        }
        publisher.git(&["init", "--quiet", "--initial-branch=main"]);
        publisher
    }

    fn path(&self, name: &str) -> PathBuf {
        self.sandbox.sibling(name)
    }

    fn git(&self, words: &[&str]) -> String {
        let mut command = Command::new("git");
        isolated(&mut command);
        let output = command
            .arg("-C")
            .arg(self.path("shop"))
            .args(words)
            .env("HOME", self.path("home"))
            .env("GIT_AUTHOR_NAME", "Ana")
            .env("GIT_AUTHOR_EMAIL", "ana@example.invalid")
            .env("GIT_COMMITTER_NAME", "Ana")
            .env("GIT_COMMITTER_EMAIL", "ana@example.invalid")
            .output()
            .unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn commit(&self, file: &str, subject: &str) -> String {
        let path = self.path("shop").join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, subject).unwrap();
        self.git(&["add", "."]);
        self.git(&["commit", "--quiet", "-m", subject]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// `trueup` in the checkout, with this repository and these variables.
    fn run(&self, words: &[&str], variables: &[(&str, &str)]) -> Ran {
        let store = format!("dir:{}", self.sandbox.store.display());
        let mut command = self.sandbox.command(words);
        command
            .args(["--store", &store])
            .current_dir(self.path("shop"))
            .env("HOME", self.path("home"))
            .envs(variables.iter().copied());
        self.sandbox.run_command(command)
    }

    fn manifest(&self) -> String {
        std::fs::read_to_string(self.sandbox.store.join("sha_number.yml")).unwrap_or_default()
    }

    /// The record of a host that serves this sha.
    fn report(&self, node: &str, sha: &str) {
        let folder = self.sandbox.store.join("nodes/production");
        std::fs::create_dir_all(&folder).unwrap();
        let record = format!(
            r#"{{"version": 1, "node": "{node}", "environment": "production", "rollouts": true,
            "apps": {{"shop": {{"wanted": "{sha}", "actual": "{sha}", "state": "serving"}}}},
            "last_pass": {{"at": "2026-11-21T03:00:12Z", "outcome": "converged"}}}}"#
        );
        std::fs::write(folder.join(format!("{node}.json")), record).unwrap();
    }
}

#[test]
fn branch_is_published_with_its_commits_migrations_and_what_hosts_do() {
    let publisher = Publisher::new();
    let first = publisher.commit("a", "First");
    publisher.git(&["tag", "v1"]);
    let created = publisher.run(
        &[
            "publish",
            "production",
            "shop=v1",
            "--repo",
            ".",
            "--create",
            "--by",
            "ana",
        ],
        &[],
    );
    assert_eq!(created.code, 0, "{created}");
    assert!(created.out.contains("production/shop new -> "), "{created}");
    let expected = format!("  shop:\n    sha: {first}\n    ref: v1\n    by: ana\n");
    assert!(
        publisher.manifest().contains(&expected),
        "{}",
        publisher.manifest()
    );
    publisher.report("web1", &first);
    publisher.commit("db/migrate/7_add.rb", "Add a column");
    let head = publisher.commit("a", "Evil \u{1b}]0;x\u{7}");
    let before = publisher.manifest();
    let words = [
        "publish",
        "production",
        "shop=main",
        "--repo",
        "shop=.",
        "--reason",
        "fixes",
    ];
    let dry = publisher.run(&[&words[..], &["--dry-run"]].concat(), &[]);
    assert_eq!(dry.code, 0, "{dry}");
    assert_eq!(publisher.manifest(), before);
    for line in [
        format!("-    sha: {first}"),
        format!("+    sha: {head}"),
        format!(
            "production/shop {} -> {} (generation 2)",
            &first[..7],
            &head[..7]
        ),
        "  2 commits".into(),
        format!(r"    {} Evil \x1b]0;x\x07 (Ana)", &head[..7]),
        "Add a column (Ana)".into(),
        "  1 migration differs:\n    new db/migrate/7_add.rb".into(),
        "  1 host takes it, each for itself".into(),
        "nothing was written (--dry-run)".into(),
    ] {
        assert!(dry.out.contains(&line), "{line}\n{dry}");
    }
    let json = publisher
        .run(&[&words[..], &["--json"]].concat(), &[])
        .json();
    assert_eq!(json["written"], true);
    assert_eq!(json["reason"], "fixes");
    let app = &json["apps"][0];
    assert_eq!(
        (&app["to"], &app["ref"]),
        (&head.as_str().into(), &"main".into())
    );
    assert_eq!(app["range"]["direction"], "forward");
    assert_eq!(app["range"]["added"], 2);
    assert_eq!(app["range"]["migrations"][0]["how"], "new");
    assert_eq!(app["forecast"]["hosts"]["taking"], 1);
    assert!(json["diff"].as_str().unwrap().contains("@@"), "{json:#}");
    let written = publisher.manifest();
    assert!(written.contains("reason: fixes"), "{written}");
    assert!(written.contains("Add a column"), "{written}");

    let back = publisher.run(&["publish", "production", "shop=v1", "--repo", "."], &[]);
    assert!(
        back.out.contains("goes back: takes 2 commits away"),
        "{back}"
    );
    assert!(back.out.contains("gone db/migrate/7_add.rb"), "{back}");
}

#[test]
fn clone_without_trees_publishes_and_says_what_it_does_not_know() {
    let publisher = Publisher::new();
    let first = publisher.commit("a", "First");
    let second = publisher.commit("a", "Second");
    publisher.git(&["config", "uploadpack.allowFilter", "true"]);
    let origin = format!("file://{}", publisher.path("shop").display());
    let treeless = publisher.path("treeless").display().to_string();
    let clone = ["clone", "--quiet", "--filter=tree:0", "--no-checkout"];
    publisher.git(&[&clone[..], &[&origin, &treeless]].concat());
    publisher
        .sandbox
        .manifest(format!("generation: 1\nproduction:\n  shop: {first}\n"));
    let done = publisher.run(
        &["publish", "production", "shop=main", "--repo", &treeless],
        &[],
    );
    assert_eq!(done.code, 0, "{done}");
    assert!(done.out.contains("commits between: `git -C"), "{done}");
    assert!(publisher.manifest().contains(&second));
}

#[test]
fn whole_line_of_ci_publishes_the_commit_of_its_job() {
    let publisher = Publisher::new();
    let first = publisher.commit("a", "First");
    publisher.sandbox.manifest(format!(
        "generation: 1\nstaging:\n  shop: {}\n",
        "a".repeat(40)
    ));
    let line = ["publish", "staging", "shop", "--via-ci", "--repo", "."];
    let nowhere = publisher.run(&line, &[]);
    assert_eq!(nowhere.code, 64, "{nowhere}");
    assert!(
        nowhere.err.contains("GITHUB_SHA") && nowhere.err.contains("TRUEUP_SHA"),
        "{nowhere}"
    );
    let github = [
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_SHA", first.as_str()),
        ("GITHUB_REF_NAME", "main"),
        ("GITHUB_ACTOR", "ana"),
    ];
    let done = publisher.run(&line, &github);
    assert_eq!(done.code, 0, "{done}");
    let manifest = publisher.manifest();
    assert!(
        manifest.contains("by: ana") && manifest.contains("ref: main"),
        "{manifest}"
    );
    assert!(done.out.contains("does not have aaaaaaa"), "{done}");
    let unpushed = [
        github[0],
        ("GITHUB_SHA", &"b".repeat(40)),
        github[2],
        github[3],
    ];
    let refused = publisher.run(&line, &unpushed);
    assert_eq!(refused.code, 64, "{refused}");
    assert!(refused.err.contains("has the commit bbbb"), "{refused}");
    assert_eq!(publisher.manifest(), manifest);
}

#[test]
fn name_without_a_repository_is_refused_and_a_full_sha_is_taken() {
    let publisher = Publisher::new();
    let sha = publisher.commit("a", "First");
    publisher.sandbox.manifest(format!(
        "generation: 1\nproduction:\n  shop: {}\n",
        "a".repeat(40)
    ));
    let before = publisher.manifest();
    for word in ["shop=main", &format!("shop={}", &sha[..8])] {
        let refused = publisher.run(&["publish", "production", word], &[]);
        assert_eq!(refused.code, 64, "{refused}");
        assert!(refused.err.contains("--repo shop=URL"), "{refused}");
        assert!(
            refused.err.contains("repositories: {shop: URL}"),
            "{refused}"
        );
    }
    assert_eq!(publisher.manifest(), before);
    let full = format!("shop={sha}");
    let taken = publisher.run(&["publish", "production", &full], &[]);
    assert_eq!(taken.code, 0, "{taken}");
    assert!(
        taken
            .out
            .contains("nobody has checked that the sha is there"),
        "{taken}"
    );
    let again = publisher.run(&["publish", "production", &full, "--unchecked"], &[]);
    assert!(!again.out.contains("nobody has checked"), "{again}");
    // Without git, full shas go on working, also where the repository is known.
    let none = [("PATH", "/nowhere")];
    let full = format!("shop={}", "b".repeat(40));
    let taken = publisher.run(&["publish", "production", &full, "--repo", "."], &none);
    assert_eq!(taken.code, 0, "{taken}");
    assert!(taken.out.contains("no program `git`"), "{taken}");
    let refused = publisher.run(
        &["publish", "production", "shop=main", "--repo", "."],
        &none,
    );
    assert_eq!(refused.code, 1, "{refused}");
    assert!(
        refused.err.contains("install it (package `git`)"),
        "{refused}"
    );
}

#[test]
fn repository_of_the_manifest_starts_no_program_and_reads_no_path() {
    let publisher = Publisher::new();
    publisher.commit("a", "First");
    let touched = publisher.path("touched");
    let shop = publisher.path("shop");
    let trap = format!("touch {}", touched.display());
    let ext = format!("ext::sh -c '{trap}'");
    let option = format!("ssh://-oProxyCommand={trap}/x");
    let path = shop.display().to_string();
    let file = format!("file://{path}");
    for url in [ext.as_str(), &option, "--upload-pack=x", &path, &file, "-x"] {
        let sha = "a".repeat(40);
        publisher.sandbox.manifest(format!(
            "generation: 1\nproduction:\n  _settings: {{repositories: {{shop: \"{url}\"}}}}\n  shop: {sha}\n"
        ));
        let refused = publisher.run(&["publish", "production", "shop=main"], &[]);
        assert_ne!(refused.code, 0, "{url}: {refused}");
        assert!(!touched.exists(), "{url}");
    }
}

#[test]
fn next_sha_is_built_ahead_and_the_wanted_one_stays() {
    let publisher = Publisher::new();
    let first = publisher.commit("a", "First");
    publisher
        .sandbox
        .manifest(format!("generation: 1\nproduction:\n  shop: {first}\n"));
    let second = publisher.commit("a", "Second");
    let words = [
        "publish",
        "production",
        "shop=main",
        "--repo",
        ".",
        "--next",
    ];
    let done = publisher.run(&words, &[]);
    assert_eq!(done.code, 0, "{done}");
    let line = format!("production/shop: hosts build {} ahead", &second[..7]);
    assert!(
        done.out.contains(&line) && done.out.contains("Second (Ana)"),
        "{done}"
    );
    let manifest = publisher.manifest();
    assert!(manifest.contains(&format!("sha: {first}")), "{manifest}");
    assert!(manifest.contains(&format!("next: {second}")), "{manifest}");
}

#[test]
fn wait_for_hosts_that_go_for_themselves_is_refused_before_anything_is_written() {
    let publisher = Publisher::new();
    let first = publisher.commit("a", "First");
    let text = format!("generation: 1\nproduction:\n  shop: {}\n", "a".repeat(40));
    publisher.sandbox.manifest(&text);
    let full = format!("shop={first}");
    let refused = publisher.run(&["publish", "production", &full, "--wait"], &[]);
    assert_eq!(refused.code, 64, "{refused}");
    assert!(
        refused.err.contains("--wait: shop has no rollouts"),
        "{refused}"
    );
    assert_eq!(publisher.manifest(), text);
}

#[test]
fn diff_shows_the_commits_between_served_and_wanted() {
    let publisher = Publisher::new();
    let first = publisher.commit("a", "First");
    let second = publisher.commit("db/migrate/1_x.rb", "Second");
    publisher.sandbox.manifest(format!(
        "generation: 1\nproduction:\n  shop: {second}\n  blog: {second}\n"
    ));
    publisher.report("web1", &second);
    let words = ["diff", "production", "shop", "--repo", "."];
    let same = publisher.run(&words, &[]);
    assert_eq!(same.code, 0, "{same}");
    assert!(same.out.contains("as wanted on web1"), "{same}");
    publisher.report("web2", &first);
    let differs = publisher.run(&words, &[]);
    assert_eq!(differs.code, 2, "{differs}");
    let line = format!(
        "shop {} -> {} on web2\n  1 commit\n",
        &first[..7],
        &second[..7]
    );
    assert!(differs.out.contains(&line), "{differs}");
    assert!(differs.out.contains("new db/migrate/1_x.rb"), "{differs}");
    let all = publisher.run(&["diff", "production", "--json"], &[]);
    assert_eq!(all.code, 2, "{all}");
    let json = all.json();
    assert_eq!(json["outcome"], "pending");
    assert_eq!(json["apps"].as_array().unwrap().len(), 2);
    assert!(
        json["problems"][0].as_str().unwrap().contains("blog"),
        "{json:#}"
    );
    let unknown = publisher.run(&["diff", "production", "shpo"], &[]);
    assert_eq!(unknown.code, 64, "{unknown}");
    assert!(unknown.err.contains("did you mean `shop`?"), "{unknown}");
}
