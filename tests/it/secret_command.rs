//! `trueup secret`, and hosts that decrypt what it wrote.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;

use crate::sandbox::{Ran, Sandbox, isolated};

pub const CANARY: &str = "canary-71b0c4e9d8";

const ROLE: &str = r#"
resources:
  - directory: {path: /srv}
  - file: {id: public, path: /srv/public, content: "for all\n"}
  - file: {id: conf, path: /srv/db.conf, content: 'password={{ secret("db") }}', mode: "0600"}
  - directory: {path: /etc/systemd/system, parents: true}
  - file: {path: /etc/systemd/system/one.service, content: "[Service]\nExecStart=/bin/sleep 1001\n"}
  - file: {path: /etc/systemd/system/two.service, content: "[Service]\nExecStart=/bin/sleep 1002\n"}
  - service: {name: one, running: true, restart_on: [conf]}
  - service: {name: two, running: true}
"#;

/// A private key of the tests, readable by its owner only.
pub fn key(sandbox: &Sandbox, name: &str, path: &str) -> PathBuf {
    let keys = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ssh-keys");
    for end in ["", ".pub"] {
        let text = std::fs::read_to_string(keys.join(format!("{name}{end}"))).unwrap();
        sandbox.write(&format!("{path}{end}"), &text);
    }
    let path = sandbox.at(path);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    path
}

/// A host whose ssh host key is this one of the tests, and which follows the store of `of`.
pub fn host(node: &str, ssh_key: &str, of: Option<&Sandbox>) -> Sandbox {
    let store = match of {
        Some(of) => of.store.display().to_string(),
        None => "@STORE@".to_owned(),
    };
    host_of(node, ssh_key, &format!("{{url: \"dir:{store}\"}}"))
}

/// The same with these settings of the store.
fn host_of(node: &str, ssh_key: &str, store: &str) -> Sandbox {
    let sandbox = Sandbox::empty();
    let settings = format!("environment: production\nroles: [app]\nnode: {node}\nstore: {store}\n");
    sandbox.write("/etc/trueup/node.yml", &settings);
    sandbox.role(ROLE);
    key(&sandbox, ssh_key, "/etc/ssh/ssh_host_ed25519_key");
    sandbox
}

/// The variables of a real S3 server, if there is one.
fn s3_variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars().filter(|(name, _)| name.starts_with("AWS_"))
}

/// Runs `trueup secret` of an operator, with a text on standard input.
pub fn secret(sandbox: &Sandbox, args: &[&str], input: &str) -> Ran {
    let mut command = sandbox.command(&[&["secret"], args].concat());
    command.env("TRUEUP_IDENTITY", key(sandbox, "rsa", "/operator/key"));
    command.env("TRUEUP_BY", "ana").envs(s3_variables());
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may end before it reads.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    Ran::of(&child.wait_with_output().unwrap(), sandbox)
}

pub fn succeeds(sandbox: &Sandbox, args: &[&str], input: &str) -> Ran {
    let ran = secret(sandbox, args, input);
    assert_eq!(ran.code, 0, "{args:?}: {ran}");
    ran
}

pub fn fingerprint(name: &str) -> String {
    let mut command = std::process::Command::new("ssh-keygen");
    isolated(&mut command);
    let keys = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ssh-keys");
    let output = command
        .arg("-lf")
        .arg(keys.join(format!("{name}.pub")))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split(' ').nth(1).unwrap().to_owned()
}

fn files_with(folder: &std::path::Path, word: &str) -> Vec<String> {
    let mut grep = std::process::Command::new("grep");
    grep.args(["-rlaF", word]).arg(folder);
    let found = String::from_utf8(grep.output().unwrap().stdout).unwrap();
    found.lines().map(str::to_owned).collect()
}

pub fn converge(sandbox: &Sandbox, code: i32) -> Ran {
    let mut command = sandbox.command(&["converge"]);
    command.envs(s3_variables());
    let ran = sandbox.run_command(command);
    assert_eq!(ran.code, code, "{ran}");
    assert!(!ran.to_string().contains("canary"), "{ran}");
    ran
}

#[test]
fn secret_reaches_the_hosts_that_are_recipients() {
    let one = host("web1", "web1", None);
    one.manifest(crate::sandbox::MANIFEST);
    let mut shown = Vec::new();
    let set = succeeds(&one, &["set", "production", "db"], &format!("{CANARY}\n"));
    assert!(set.out.contains("your key is a recipient now"), "{set}");
    shown.push(set);
    // The host is no recipient: only what depends on the secret fails.
    let ran = converge(&one, 1);
    let why = "the secret `db` cannot be decrypted: it is encrypted to other keys";
    assert!(ran.to_string().contains(why), "{ran}");
    assert!(ran.to_string().contains("trueup secret rekey"), "{ran}");
    assert_eq!(one.read("/srv/public"), "for all\n");
    assert!(!one.at("/srv/db.conf").exists());
    let plan = one.run(&["plan"]);
    assert!(plan.to_string().contains(why), "{plan}");
    // Its key is in its record, and nobody becomes a recipient unasked.
    let refused = secret(&one, &["rekey", "production"], "yes\n");
    assert_eq!(refused.code, 64, "{refused}");
    let web1 = fingerprint("web1");
    assert!(refused.out.contains(&format!("web1 {web1}")), "{refused}");
    assert!(refused.err.contains("--accept FINGERPRINT"), "{refused}");
    shown.push(succeeds(
        &one,
        &["rekey", "production", "--accept", &web1],
        "",
    ));
    converge(&one, 0);
    assert_eq!(one.read("/srv/db.conf"), format!("password={CANARY}"));
    let mode = one
        .at("/srv/db.conf")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    one.assert_converged(&[]);
    // Rotated: only the service that uses it restarts.
    succeeds(&one, &["set", "production", "db"], &format!("{CANARY}-2"));
    let plan = one.run(&["plan"]);
    assert!(
        plan.out.contains("(secret)") && !plan.to_string().contains(CANARY),
        "{plan}"
    );
    let ran = converge(&one, 0);
    assert!(
        ran.out.contains("service:one") && !ran.out.contains("service:two"),
        "{ran}"
    );
    assert_eq!(one.read("/srv/db.conf"), format!("password={CANARY}-2"));
    // A second host, and a record that an attacker forged.
    let two = host("web2", "web2", Some(&one));
    converge(&two, 1);
    let record = std::fs::read_to_string(one.store.join("nodes/production/web2.json")).unwrap();
    let forged = record.replace("\"web2\"", "\"web3\"").replace(
        std::fs::read_to_string(two.at("/etc/ssh/ssh_host_ed25519_key.pub"))
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap(),
        std::fs::read_to_string(key(&two, "locked", "/attacker").with_extension("pub"))
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap(),
    );
    std::fs::write(one.store.join("nodes/production/web3.json"), forged).unwrap();
    let rekeyed = succeeds(
        &one,
        &["rekey", "production", "--accept", &fingerprint("web2")],
        "",
    );
    assert!(
        rekeyed
            .out
            .contains(&format!("web3 {}", fingerprint("locked"))),
        "{rekeyed}"
    );
    let all = ["ana rsa", "web1 web1", "web2 web2"].map(|pair| {
        let (name, key) = pair.split_once(' ').unwrap();
        format!("{name} {}", fingerprint(key))
    });
    let all = format!("to {}", all.join(", "));
    assert!(rekeyed.out.contains(&all), "{rekeyed}");
    shown.push(rekeyed);
    converge(&two, 0);
    assert_eq!(two.read("/srv/db.conf"), format!("password={CANARY}-2"));
    // Encrypted again, and not rotated: nothing restarts.
    let ran = converge(&one, 0);
    assert!(!ran.out.contains("service:one"), "{ran}");
    let list = succeeds(&one, &["list", "production"], "");
    assert!(list.out.contains(&all), "{list}");
    shown.push(list);
    shown.push(succeeds(&one, &["list", "production", "--json"], ""));
    shown.push(succeeds(&one, &["remove", "production", "db"], ""));
    let ran = converge(&one, 1);
    assert!(ran.to_string().contains("there is no secret `db`"), "{ran}");
    // Kept for a week, encrypted: whoever can write the store may have removed it.
    let kept = one.read("/var/lib/trueup/secrets/unnamed");
    assert!(kept.lines().count() > 0, "{kept}");
    for args in [
        &["status", "--json"][..],
        &["history", "--json"],
        &["doctor"],
    ] {
        shown.push(one.run(args));
    }
    for ran in &shown {
        assert!(!ran.to_string().contains(CANARY), "{ran}");
    }
    for folder in [&one.root, &two.root, &one.store] {
        let mut found = files_with(folder, CANARY);
        found.retain(|file| !file.ends_with("/srv/db.conf"));
        assert!(found.is_empty(), "{found:?}");
    }
}

#[test]
fn nothing_is_encrypted_to_a_key_that_took_over_a_known_name() {
    let one = host("web1", "web1", None);
    one.manifest(crate::sandbox::MANIFEST);
    succeeds(&one, &["set", "production", "db"], CANARY);
    converge(&one, 1);
    let [web1, eve] = ["web1", "web2"].map(fingerprint);
    succeeds(&one, &["rekey", "production", "--accept", &web1], "");
    succeeds(&one, &["set", "production", "db"], CANARY);
    let path = one.store.join("sha_number.yml");
    let keys = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ssh-keys");
    let [of_web1, of_eve] = ["web1.pub", "web2.pub"].map(|name| {
        let line = std::fs::read_to_string(keys.join(name)).unwrap();
        line.split(' ').nth(1).unwrap().trim().to_owned()
    });
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(&of_web1), "{text}");
    let forged = text.replace(&of_web1, &of_eve);
    std::fs::write(&path, &forged).unwrap();
    let objects = || {
        one.store
            .join("secrets/production")
            .read_dir()
            .unwrap()
            .count()
    };
    let before = objects();
    for args in [
        &["set", "production", "db"][..],
        &["rekey", "production", "--remove", "ana"],
        &["set", "production", "db", "--accept", &web1],
    ] {
        let refused = secret(&one, args, "other-value");
        assert_eq!(refused.code, 64, "{args:?}: {refused}");
        let shown = format!("web1 {eve}, instead of {web1}");
        assert!(refused.out.contains(&shown), "{args:?}: {refused}");
        assert!(refused.err.contains("--accept FINGERPRINT"), "{refused}");
    }
    assert_eq!(objects(), before);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), forged);
    let set = succeeds(
        &one,
        &["set", "production", "db", "--accept", &eve],
        "x-value",
    );
    assert!(set.out.contains(&format!("web1 {eve}")), "{set}");
    succeeds(&one, &["set", "production", "db"], "y-value");
}

#[test]
fn secret_goes_through_a_real_s3_server() {
    let Ok(endpoint) = std::env::var("TRUEUP_TEST_S3_ENDPOINT") else {
        let why = "there is no S3 server: tests/s3-server starts one";
        assert!(std::env::var_os("CI").is_none(), "{why}");
        eprintln!("SKIPPED: {why}");
        return;
    };
    let bucket = std::env::var("TRUEUP_TEST_S3_BUCKET").unwrap();
    let prefix = format!("it-secrets-{}", std::process::id());
    let store = format!(
        "{{url: \"s3://{bucket}/{prefix}\", endpoint: \"{endpoint}\", path_style: true, region: eu-west-1}}"
    );
    let one = host_of("web1", "web1", &store);
    let mut publish = one.command(&["publish", "production", "--create"]);
    publish
        .arg(format!("shop={}", "4f".repeat(20)))
        .envs(s3_variables());
    let ran = one.run_command(publish);
    assert_eq!(ran.code, 0, "{ran}");
    succeeds(&one, &["set", "production", "db"], CANARY);
    converge(&one, 1);
    let web1 = fingerprint("web1");
    succeeds(&one, &["rekey", "production", "--accept", &web1], "");
    converge(&one, 0);
    assert_eq!(one.read("/srv/db.conf"), format!("password={CANARY}"));
    succeeds(&one, &["set", "production", "db"], &format!("{CANARY}-2"));
    let ran = converge(&one, 0);
    assert!(
        ran.out.contains("service:one") && !ran.out.contains("service:two"),
        "{ran}"
    );
    let list = succeeds(&one, &["list", "production", "--json"], "");
    assert!(list.json()["secrets"][0]["since"].is_string(), "{list}");
    // A new host is no recipient yet: only the resource that needs the secret fails.
    let two = host_of("web2", "web2", &store);
    let ran = converge(&two, 1);
    assert!(ran.to_string().contains("encrypted to other keys"), "{ran}");
    assert_eq!(two.read("/srv/public"), "for all\n");
    let web2 = fingerprint("web2");
    succeeds(&one, &["rekey", "production", "--accept", &web2], "");
    converge(&two, 0);
    assert_eq!(two.read("/srv/db.conf"), format!("password={CANARY}-2"));
}

#[test]
fn plan_of_another_user_says_that_only_root_knows() {
    if !crate::privilege::is_root("a host key of root") {
        return;
    }
    let sandbox = host("web1", "web1", None);
    sandbox.manifest(crate::sandbox::MANIFEST);
    succeeds(&sandbox, &["set", "production", "db"], CANARY);
    let mut command = sandbox.command(&["plan"]);
    crate::privilege::as_nobody(&mut command);
    let ran = sandbox.run_command(command);
    assert!(!ran.to_string().contains("canary"), "{ran}");
    assert!(ran.to_string().contains("ssh_host_ed25519_key"), "{ran}");
}

#[test]
fn wrong_requests_are_explained_and_change_nothing() {
    let sandbox = host("web1", "web1", None);
    sandbox.manifest(crate::sandbox::MANIFEST);
    let before = std::fs::read(sandbox.store.join("sha_number.yml")).unwrap();
    for (args, input, expected) in [
        (
            &["set", "production", "../x"][..],
            "v",
            "`../x` is not a name",
        ),
        (&["set", "production", "db"], "\n", "the value is empty"),
        (
            &["set", "producton", "db"],
            "v",
            "did you mean `production`?",
        ),
        (&["set", "production", "db", "v"], "", "unexpected argument"),
        (
            &["rekey", "production", "--accept", "SHA256:x"],
            "",
            "no host publishes",
        ),
        (
            &["rekey", "production", "--remove", "bob"],
            "",
            "`bob` is no recipient",
        ),
        (
            &["rekey", "production", "--add", "hunter2"],
            "",
            "no recipient",
        ),
        (
            &["remove", "production", "db"],
            "",
            "there is no secret `db`",
        ),
    ] {
        let ran = secret(&sandbox, args, input);
        assert!(
            ran.code == 64 && ran.err.contains(expected),
            "{args:?}: {ran}"
        );
        assert!(!ran.to_string().contains("hunter2"), "{ran}");
    }
    let open = key(&sandbox, "rsa", "/operator/open");
    std::fs::set_permissions(&open, PermissionsExt::from_mode(0o644)).unwrap();
    let path = open.display().to_string();
    let ran = secret(
        &sandbox,
        &["set", "production", "db", "--identity", &path],
        "v",
    );
    assert!(ran.code == 1 && ran.err.contains("chmod 600"), "{ran}");
    assert_eq!(
        std::fs::read(sandbox.store.join("sha_number.yml")).unwrap(),
        before
    );
}
