//! Policy bundles: pushed, signed, taken on trial, and taken back, with the program itself.

use std::path::PathBuf;
use std::process::Command;

use crate::notify::{give_channel, notices};
use crate::sandbox::{Ran, Sandbox};

const ROLE: &str = "parameters: {color: none}\nresources:\n  - file: {path: /srv/app, content: \"from the bundle, {{ color }}\\n\"}\n";

/// A host that accepts what one key has signed, and the folder of an operator who has it.
struct Fleet {
    host: Sandbox,
    folder: PathBuf,
    key: PathBuf,
}

impl Fleet {
    fn new() -> Fleet {
        let host = Sandbox::empty();
        host.write(
            "/etc/trueup/node.yml",
            "environment: production\nroles: [app]\nstore: {url: \"dir:@STORE@\"}\nsigners: signers\n",
        );
        host.write("/srv/.keep", "");
        // The role of the package, until there is a bundle.
        let share = host.sibling("share/roles");
        std::fs::create_dir_all(&share).unwrap();
        let packaged = ROLE.replace("the bundle, {{ color }}", "the package");
        std::fs::write(share.join("app.yml"), packaged).unwrap();
        let key = crate::secret_command::key(&host, "web1", "/root/deploy_key");
        let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
        let line = format!("ci namespaces=\"trueup@production\" {public}");
        host.write("/etc/trueup/signers", &line);
        let folder = host.sibling("policy");
        let fleet = Fleet { host, folder, key };
        fleet.put("roles/app.yml", ROLE);
        fleet.put("environments/production.yml", "color: blue\n");
        let sha = "other=4f2c9d0e1b3a5c7d9e0f1a2b3c4d5e6f70819203";
        fleet.signed(&["publish", "production", sha, "--create"], 0);
        fleet
    }

    /// A file in the operator's folder.
    fn put(&self, path: &str, text: &str) {
        let path = self.folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// A command of the operator, who signs.
    fn signed(&self, args: &[&str], code: i32) -> Ran {
        let store = format!("dir:{}", self.host.store.display());
        let key = self.key.display().to_string();
        let more = ["--store", &store, "--sign", &key, "--trust-current"];
        let ran = self.host.run(&[args, &more].concat());
        assert_eq!(ran.code, code, "{ran}");
        ran
    }

    fn push(&self, code: i32) -> Ran {
        let folder = self.folder.display().to_string();
        self.signed(&["policy", "push", "production", &folder], code)
    }

    /// A pass, and what it leaves.
    fn pass(&self, code: i32) -> (Ran, String) {
        let ran = self.host.run(&["converge"]);
        assert_eq!(ran.code, code, "{ran}");
        (ran, self.host.read("/srv/app"))
    }

    fn phase(&self) -> (String, Option<String>) {
        let status = self.host.run(&["status", "--json"]).json();
        let policy = &status["policy"];
        let why = policy["why"].as_str().map(str::to_owned);
        (policy["phase"].as_str().unwrap_or_default().to_owned(), why)
    }

    fn objects(&self) -> Vec<PathBuf> {
        let listed = std::fs::read_dir(self.host.store.join("policy")).unwrap();
        let objects = listed.map(|object| object.unwrap().path());
        // The store keeps more than objects there.
        objects
            .filter(|path| path.extension().is_some_and(|end| end == "zst"))
            .collect()
    }
}

#[test]
fn pushed_bundle_is_planned_taken_and_rolled_back() {
    let fleet = Fleet::new();
    assert_eq!(fleet.pass(0).1, "from the package\n");
    let dry = fleet.signed(
        &[
            "policy",
            "push",
            "production",
            &fleet.folder.display().to_string(),
            "--dry-run",
        ],
        0,
    );
    assert!(
        dry.out.contains("roles/app.yml") && dry.out.contains("sha256:"),
        "{dry}"
    );
    assert!(!fleet.host.store.join("policy").exists(), "{dry}");
    fleet.push(0);
    let again = fleet.push(0);
    assert!(again.out.contains("nothing was written"), "{again}");
    let plan = fleet.host.run(&["plan"]);
    assert_eq!(plan.code, 2, "{plan}");
    assert!(plan.out.contains("+from the bundle, blue"), "{plan}");
    assert!(plan.out.contains("this is a plan with sha256:"), "{plan}");
    assert_eq!(fleet.host.read("/srv/app"), "from the package\n");
    assert_eq!(fleet.pass(0).1, "from the bundle, blue\n");
    assert_eq!(fleet.phase(), ("in-force".into(), None));
    // Nothing is new, so nothing is written.
    fleet.host.pass_writes_nothing(&[], 0);
    fleet.put("environments/production.yml", "color: green\n");
    fleet.push(0);
    assert_eq!(fleet.pass(0).1, "from the bundle, green\n");
    let listed = fleet.host.run(&["policy", "list", "production"]);
    assert!(listed.out.contains("production has it"), "{listed}");
    assert!(listed.out.contains("the one before"), "{listed}");
    let shown = fleet
        .host
        .run(&["policy", "show", "production", "--file", "roles/app.yml"]);
    assert!(shown.out.contains("from the bundle"), "{shown}");
    fleet.signed(&["rollback", "production", "--policy", "--yes"], 0);
    assert_eq!(fleet.pass(0).1, "from the bundle, blue\n");
    // What is beside the settings goes first.
    fleet
        .host
        .write("/etc/trueup/environments/production.yml", "color: red\n");
    assert_eq!(fleet.pass(0).1, "from the bundle, red\n");
    fleet.signed(&["rollback", "production", "--policy", "--yes"], 0);
    assert_eq!(fleet.pass(0).1, "from the package\n");
}

#[test]
fn bundle_that_fails_is_taken_back_and_not_tried_again() {
    let fleet = Fleet::new();
    fleet.push(0);
    fleet.pass(0);
    // The first resource works, and the second one cannot.
    fleet.host.write("/srv/file", "");
    let broken = format!(
        "{}  - file: {{path: /srv/file/below, content: x}}\n",
        ROLE.replace("bundle", "broken one")
    );
    fleet.put("roles/app.yml", &broken);
    fleet.push(0);
    let (ran, left) = fleet.pass(1);
    assert!(ran.out.contains("the next pass goes back"), "{ran}");
    assert_eq!(left, "from the broken one, blue\n");
    let (ran, left) = fleet.pass(4);
    assert!(ran.out.contains("failed"), "{ran}");
    assert_eq!(left, "from the bundle, blue\n");
    let (phase, why) = fleet.phase();
    assert_eq!(phase, "failed");
    assert!(why.unwrap().contains("/srv/file/below"));
    // Nothing of it comes back.
    assert_eq!(fleet.pass(4).1, "from the bundle, blue\n");
    // A role that nobody could push, because it is invalid for this host only.
    fleet.put(
        "roles/app.yml",
        &ROLE.replace("{{ color }}", "{{ colour }}"),
    );
    fleet.push(0);
    let (ran, left) = fleet.pass(4);
    assert!(ran.out.contains("colour"), "{ran}");
    assert_eq!(left, "from the bundle, blue\n");
    fleet.put("roles/app.yml", &ROLE.replace("bundle", "third one"));
    fleet.push(0);
    assert_eq!(fleet.pass(0).1, "from the third one, blue\n");
}

#[test]
fn bundle_that_ends_passes_early_is_given_up_after_three() {
    let fleet = Fleet::new();
    fleet.push(0);
    fleet.pass(0);
    let deadly = format!(
        "{}  - command: {{id: end, run: \"kill -KILL $PPID\", creates: /srv/never}}\n",
        ROLE.replace("bundle", "deadly one")
    );
    fleet.put("roles/app.yml", &deadly);
    fleet.push(0);
    for _ in 0..3 {
        assert_eq!(fleet.pass(-9).1, "from the deadly one, blue\n");
    }
    for _ in 0..2 {
        let (ran, left) = fleet.pass(4);
        assert!(ran.out.contains("3 passes with it ended early"), "{ran}");
        assert_eq!(left, "from the bundle, blue\n");
    }
}

#[test]
fn failures_of_before_do_not_count_against_a_bundle() {
    let fleet = Fleet::new();
    fleet.host.write("/srv/file", "");
    let failing = format!("{ROLE}  - file: {{path: /srv/file/below, content: x}}\n");
    let share = fleet.host.sibling("share/roles/app.yml");
    std::fs::write(
        share,
        failing.replace("the bundle, {{ color }}", "the package"),
    )
    .unwrap();
    fleet.pass(1);
    fleet.put("roles/app.yml", &failing);
    fleet.push(0);
    assert_eq!(fleet.pass(1).1, "from the bundle, blue\n");
    assert_eq!(fleet.phase().0, "in-force");
}

#[test]
fn bundles_are_notified_like_apps() {
    let fleet = Fleet::new();
    give_channel(&fleet.host, "{command: [/usr/local/bin/page]}");
    let manifest = fleet.host.store.join("sha_number.yml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let text = text.replacen("  _settings:\n", "  _settings:\n    notify: [ops]\n", 1);
    std::fs::write(&manifest, text).unwrap();
    fleet.push(0);
    fleet.pass(0);
    let transitions = || {
        notices(&fleet.host)
            .into_iter()
            .map(|(transition, _)| transition)
    };
    let first: Vec<String> = transitions().collect();
    assert!(first.is_empty(), "what was before is no news: {first:?}");

    fleet.put("environments/production.yml", "color: red\n");
    fleet.push(0);
    fleet.pass(0);
    assert_eq!(transitions().collect::<Vec<_>>(), ["published", "done"]);
    let (_, done) = &notices(&fleet.host)[1];
    let text = done["text"].as_str().unwrap();
    assert!(
        text.contains("trueup rollback production --policy"),
        "{text}"
    );

    let broken = format!("{ROLE}  - file: {{path: /srv/.keep/below, content: x}}\n");
    fleet.put("roles/app.yml", &broken);
    fleet.push(0);
    fleet.pass(1);
    fleet.pass(4);
    assert_eq!(
        transitions().skip(2).collect::<Vec<_>>(),
        ["published", "failed"]
    );
    let (_, failed) = &notices(&fleet.host)[3];
    assert!(
        failed["failure"]["reason"]
            .as_str()
            .unwrap()
            .contains("/srv/.keep/below"),
        "{failed}"
    );

    fleet.signed(&["rollback", "production", "--policy", "--yes"], 0);
    fleet.pass(0);
    assert_eq!(
        transitions().skip(4).collect::<Vec<_>>(),
        ["rolled_back", "done"]
    );
    fleet.host.pass_writes_nothing(&[], 0);
}

#[test]
fn tampered_or_missing_bundle_leaves_the_one_in_force() {
    let fleet = Fleet::new();
    fleet.push(0);
    fleet.pass(0);
    let known = fleet.objects();
    fleet.put("environments/production.yml", "color: green\n");
    fleet.push(0);
    let mut new = fleet.objects();
    new.retain(|path| !known.contains(path));
    let [object] = &new[..] else {
        panic!("{new:?}");
    };
    let body = std::fs::read(object).unwrap();
    // Whoever writes the bucket has no key of a signer.
    std::fs::write(object, [&body[..], b"x"].concat()).unwrap();
    let (ran, left) = fleet.pass(5);
    assert!(
        ran.out.contains("another content than the manifest says"),
        "{ran}"
    );
    assert_eq!(left, "from the bundle, blue\n");
    std::fs::remove_file(object).unwrap();
    let (ran, left) = fleet.pass(5);
    assert!(ran.out.contains("there is no dir:"), "{ran}");
    assert_eq!(left, "from the bundle, blue\n");
    std::fs::write(object, &body).unwrap();
    assert_eq!(fleet.pass(0).1, "from the bundle, green\n");
    // The host's own copy is damaged, and comes back.
    let own = fleet
        .host
        .at("/var/lib/trueup/policy")
        .join(object.file_name().unwrap());
    std::fs::write(&own, "damaged").unwrap();
    let lost = fleet.host.run(&["status"]);
    assert_eq!(lost.code, 5, "{lost}");
    assert!(lost.err.contains("nothing was changed"), "{lost}");
    assert_eq!(fleet.pass(0).1, "from the bundle, green\n");
    assert_eq!(std::fs::read(&own).unwrap(), body);
}

#[test]
fn hostile_archive_is_refused_by_the_first_host() {
    let fleet = Fleet::new();
    fleet.push(0);
    fleet.pass(0);
    // A careless signer: the digest is right, and the archive is none.
    let packed = fleet.host.sibling("hostile");
    std::fs::write(&packed, "not a bundle").unwrap();
    let sum = Command::new("sha256sum").arg(&packed).output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    let hex = sum.split_whitespace().next().unwrap();
    let object = fleet.host.store.join(format!("policy/{hex}.tar.zst"));
    std::fs::copy(&packed, &object).unwrap();
    let manifest = fleet.host.store.join("sha_number.yml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let old = text.lines().find(|line| line.contains(" policy:")).unwrap();
    let text = text.replace(old, &format!("    policy: \"sha256:{hex}\""));
    std::fs::write(&manifest, text).unwrap();
    fleet.signed(&["now", "production"], 0);
    let (ran, left) = fleet.pass(4);
    assert!(ran.out.contains("cannot be decompressed"), "{ran}");
    assert_eq!(left, "from the bundle, blue\n");
}

#[test]
fn host_without_signers_ignores_a_bundle() {
    let fleet = Fleet::new();
    let settings = fleet.host.read("/etc/trueup/node.yml");
    let settings = settings.replace("signers: signers\n", "");
    fleet.host.write("/etc/trueup/node.yml", &settings);
    fleet.push(0);
    let (ran, left) = fleet.pass(0);
    assert!(ran.out.contains("it has no `signers`"), "{ran}");
    assert_eq!(left, "from the package\n");
    assert!(!fleet.host.at("/var/lib/trueup/policy").exists());
}

#[test]
fn push_refuses_what_hosts_could_not_use() {
    let fleet = Fleet::new();
    fleet.put("roles/.app.yml.swp", "x");
    assert!(
        fleet
            .push(78)
            .err
            .contains("roles/.app.yml.swp: hidden files")
    );
    std::fs::remove_file(fleet.folder.join("roles/.app.yml.swp")).unwrap();
    fleet.put("roles/app.yml", "resources:\n  - fiel: {path: /srv/app}\n");
    let refused = fleet.push(78);
    assert!(refused.err.contains("did you mean `file`?"), "{refused}");
    let template = "resources:\n  - template: {path: /srv/app, source: app.conf}\n";
    fleet.put("roles/app.yml", template);
    assert!(
        fleet
            .push(78)
            .err
            .contains("there is no template `app.conf`")
    );
    fleet.put("templates/app.conf", "{% if color %}\n");
    assert!(fleet.push(78).err.contains("templates/app.conf"));
    assert!(!fleet.host.store.join("policy").exists());
}

#[test]
fn bundle_is_tested_for_the_settings_of_other_hosts() {
    let fleet = Fleet::new();
    fleet.push(0);
    fleet.put("environments/production.yml", "color: green\n");
    let (folder, node) = (
        fleet.folder.display().to_string(),
        fleet.host.sibling("web1.yml"),
    );
    let text = fleet.host.fill(
        "environment: production\nroles: [app]\nstore: {url: \"dir:@STORE@\"}\nsigners: /nowhere\n",
    );
    std::fs::write(&node, text).unwrap();
    let node = node.display().to_string();
    let before = fleet.host.tree();
    let ran = fleet.host.run(&["policy", "test", &folder, "--as", &node]);
    assert_eq!(ran.code, 2, "{ran}");
    assert!(
        ran.out.contains("-content: from the bundle, blue")
            || ran.out.contains("-  from the bundle, blue"),
        "{ran}"
    );
    assert!(ran.out.contains("1 of 1 resources change"), "{ran}");
    let against = [
        "policy",
        "test",
        &folder,
        "--against",
        &folder,
        "--as",
        &node,
    ];
    let ran = fleet.host.run(&against);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.out.contains("nothing changes"), "{ran}");
    assert_eq!(fleet.host.tree(), before);
}
