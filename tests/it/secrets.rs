//! Secrets are neither in the output nor in the files of trueup,
//! whatever a program prints.

use std::path::Path;

use crate::app::{App, GOOD};
use crate::gate::ROLE;

const CANARY: &str = "canary-5dd0bd6a2f";

/// An app whose build prints the secret, in pieces too. `encrypted`: the secret is in an age file instead of in the role.
fn app(encrypted: bool) -> App {
    let (value, file) = match encrypted {
        true => (
            "'{{ secret(\"token\") }}'".to_owned(),
            "content: \"TOKEN={{ secret('token') }}\\n\"".to_owned(),
        ),
        false => (
            CANARY.to_owned(),
            format!("content: \"TOKEN={CANARY}\\n\", secret: true"),
        ),
    };
    let more = format!(
        "      secrets: {{TOKEN: {value}}}\n      files: [{{path: .env, {file}}}]\n      steps: [{{name: print, run: 'echo \"token $TOKEN\"; printf \"${{TOKEN%%a2f}}\"; sleep 0.2; echo a2f; exit $(cat fails 2>/dev/null || echo 0)'}}]\n"
    );
    let app = App::new(&ROLE.replace("      hooks:\n", &format!("{more}      hooks:\n")));
    if encrypted {
        encrypt_for(&app.sandbox, "token", CANARY);
    }
    app
}

/// Encrypts a secret to this host, into a file beside its settings.
fn encrypt_for(sandbox: &crate::sandbox::Sandbox, name: &str, value: &str) {
    let key = crate::secret_command::key(sandbox, "web1", "/etc/ssh/ssh_host_ed25519_key");
    sandbox.manifest(crate::sandbox::MANIFEST);
    let identity = key.display().to_string();
    let args = ["set", "production", name, "--identity", &identity];
    let ran = crate::secret_command::secret(sandbox, &args, value);
    assert!(ran.code == 0 && !ran.to_string().contains(value), "{ran}");
    let objects = sandbox.store.join("secrets/production");
    let object = std::fs::read_dir(&objects)
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let folder = sandbox.at("/etc/trueup/secrets");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::rename(object.path(), folder.join(format!("{name}.age"))).unwrap();
}

/// Every file below a folder that has the secret in it, and world-readable ones that have `word`.
fn files_with(folder: &Path, word: &str) -> Vec<String> {
    let mut grep = std::process::Command::new("grep");
    grep.args(["-rlaF", word]).arg(folder);
    let found = String::from_utf8(grep.output().unwrap().stdout).unwrap();
    found.lines().map(str::to_owned).collect()
}

#[test]
fn secrets_in_program_output_are_neither_shown_nor_stored() {
    assert_never_shown(&app(false));
}

#[test]
fn encrypted_secrets_in_program_output_are_neither_shown_nor_stored() {
    assert_never_shown(&app(true));
}

fn assert_never_shown(app: &App) {
    let mut shown = Vec::new();
    app.publish_commit(GOOD, "200", "page one");
    shown.push(app.converge(0));
    // A service that prints it and dies.
    app.publish_commit(
        ". ./.env; echo \"my token is $TOKEN\"; echo printed by a service; \
         echo error: no database for $TOKEN; exit 1",
        "200",
        "page",
    );
    shown.push(app.converge(4));
    // A build that prints it and fails.
    std::fs::write(app.repo.join("fails"), "3").unwrap();
    app.publish_commit(GOOD, "200", "page three");
    let ran = app.converge(1);
    assert!(ran.out.contains("token (secret)\n"), "{ran}");
    shown.push(ran);
    for args in [
        &["status"][..],
        &["status", "--json"],
        &["status", "--output", "yaml"],
        &["plan"],
        &["releases", "--json"],
        &["history", "--json"],
        &["history", "--output", "yaml"],
    ] {
        shown.push(app.sandbox.run(args));
    }
    for name in crate::operate::release_names(app) {
        shown.push(app.sandbox.run(&["history", "--release", &name]));
    }
    let logs = app.sandbox.run(&["logs", "shop"]);
    assert!(logs.out.contains("my token is (secret)\n"), "{logs}");
    shown.push(logs);
    for ran in &shown {
        let text = ran.to_string();
        assert!(!text.contains(CANARY), "{text}");
        assert!(!text.contains(&CANARY[..14]), "a part of it: {text}");
    }
    let shown_output = shown
        .iter()
        .any(|ran| ran.out.contains("| my token is (secret)"));
    assert!(
        shown_output,
        "the history of a release lacks the output of its service"
    );
    let root = &app.sandbox.root;
    let meant = |file: &String| file.contains("/etc/trueup/") || file.ends_with("/.env");
    let service = root.join("var/log/trueup/shop.log");
    for folder in [root, &app.sandbox.store] {
        let mut found = files_with(folder, CANARY);
        // The log of a service is its own.
        found.retain(|file| !meant(file) && Path::new(file) != service);
        assert!(found.is_empty(), "{found:?}");
    }
    // Only root can read what a program printed, but for the line that names the error.
    use std::os::unix::fs::PermissionsExt;
    for file in files_with(&root.join("var"), "printed by a service") {
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file}: {mode:o}");
    }
    assert!(files_with(&root.join("run"), "printed by a service").is_empty());
    assert!(!files_with(&root.join("var/lib/trueup/orders"), "no database").is_empty());
    assert!(files_with(&app.sandbox.store, "printed by a service").is_empty());
}

#[test]
fn secret_on_a_command_line_is_a_warning_without_its_value() {
    let step = format!(
        "      secrets: {{TOKEN: {CANARY}}}\n      steps: [{{name: print, run: \"test -n {CANARY}\"}}]\n"
    );
    let app = App::new(&ROLE.replace("      hooks:\n", &format!("{step}      hooks:\n")));
    app.publish_commit(GOOD, "200", "page one");
    let ran = app.converge(0);
    let warned = "the command line of `test -n (secret)` contains a secret";
    assert!(ran.err.contains(warned), "{ran}");
    assert!(!ran.to_string().contains(CANARY), "{ran}");
}

#[test]
fn secrets_in_records_of_older_versions_are_removed() {
    let app = App::new(ROLE);
    let sha = app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let orders = format!(
        "{{\"version\": 1, \"quarantine\": [{{\"sha\": \"{}\", \"release\": \"20261121T000000-aaaaaaa\", \"at\": \"2026-11-21T00:00:00Z\", \"why\": \"it died\\nprinted last: {CANARY}\"}}]}}",
        "a".repeat(40)
    );
    app.sandbox
        .write("/var/lib/trueup/orders/shop.json", &orders);
    app.converge(0);
    let now = app.sandbox.read("/var/lib/trueup/orders/shop.json");
    assert!(now.contains("it died") && !now.contains(CANARY), "{now}");
    assert_eq!(app.running(), sha);
}

/// A short secret: anyone with a digest of it and of the text around it could guess it.
const PIN: &str = "PIN=482913\n";

/// An app with the secret in a file of its release, in a managed file and in a watched file.
fn app_with_a_pin() -> App {
    let role = ROLE.replace(
        "      hooks:\n",
        &format!("      files: [{{path: .env, content: {PIN:?}, secret: true}}]\n      hooks:\n"),
    );
    let more = format!(
        "  - directory: {{path: /etc}}\n  - file: {{id: pin, path: /etc/pin, content: {PIN:?}, secret: true, mode: \"0600\"}}\n  - watch: {{id: watched, paths: [/etc/pin]}}\n  - service:"
    );
    let role = role.replace("  - service:", &more);
    App::new(&role.replace("restart_on: [code]", "restart_on: [code, pin, watched]"))
}

/// The beginning of each fingerprint of it.
fn fingerprints() -> [String; 3] {
    let sha256 = |text: &str| trueup::digest::digest(text.as_bytes());
    let one = sha256(PIN);
    let watched = sha256(&format!("\0{one}\n"));
    [sha256(&one), watched, one].map(|digest| digest[..12].to_owned())
}

/// All files below a folder that an unprivileged user can read, if he can reach the folder.
fn readable(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    use std::os::unix::fs::PermissionsExt;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(meta) = entry.path().symlink_metadata() else {
            continue;
        };
        let mode = meta.permissions().mode();
        if meta.is_dir() && mode & 0o001 != 0 {
            readable(&entry.path(), found);
        } else if meta.is_file() && mode & 0o004 != 0 {
            found.push(entry.path());
        }
    }
}

#[test]
fn secret_fingerprints_are_not_in_files_that_others_can_read() {
    let app = app_with_a_pin();
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    app.publish_commit("exit 1", "200", "page two");
    app.converge(4);
    let kept = files_with(&app.sandbox.at("/var/lib/trueup"), &fingerprints()[0]);
    assert!(
        !kept.is_empty(),
        "the test knows no fingerprint that is kept"
    );
    let mut files = Vec::new();
    for folder in ["/var", "/run", "/etc"] {
        readable(&app.sandbox.at(folder), &mut files);
    }
    readable(&app.sandbox.store, &mut files);
    assert!(files.len() > 5, "{files:?}");
    for file in files {
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        for fingerprint in fingerprints() {
            assert!(!text.contains(&fingerprint), "{}: {text}", file.display());
        }
    }
    let commands: [&[&str]; 7] = [
        &["status"],
        &["status", "--json"],
        &["plan", "--json"],
        &["plan", "--output", "yaml"],
        &["doctor"],
        &["releases", "--json"],
        &["history", "--json"],
    ];
    for args in commands {
        let mut command = app.sandbox.command(args);
        crate::privilege::as_nobody(&mut command);
        let ran = app.sandbox.run_command(command).to_string();
        for fingerprint in fingerprints() {
            assert!(!ran.contains(&fingerprint), "{args:?}: {ran}");
        }
    }
}

#[test]
fn unchanged_pass_makes_records_of_older_versions_private() {
    use std::os::unix::fs::PermissionsExt;
    let app = app_with_a_pin();
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let folder = app.sandbox.at("/var/lib/trueup/services");
    let set = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().flatten().collect();
    assert!(!files.is_empty());
    set(&folder, 0o755);
    files.iter().for_each(|file| set(&file.path(), 0o644));
    let ran = app.converge(0);
    assert!(!ran.out.contains("restarted"), "{ran}");
    assert_eq!(mode(&folder), 0o700);
    for file in files {
        assert_eq!(mode(&file.path()), 0o600, "{:?}", file.path());
    }
}

#[test]
fn unprivileged_status_says_that_only_root_sees_owed_duties() {
    if !crate::privilege::is_root("records of root") {
        return;
    }
    let app = app_with_a_pin();
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let notice = "only root can see what is owed";
    let mine = app.sandbox.run(&["status"]);
    assert!(mine.code == 0 && !mine.out.contains(notice), "{mine}");
    let mut command = app.sandbox.command(&["status"]);
    crate::privilege::as_nobody(&mut command);
    let unprivileged = app.sandbox.run_command(command);
    assert_eq!(unprivileged.code, 0, "{unprivileged}");
    assert!(unprivileged.to_string().contains(notice), "{unprivileged}");
}
