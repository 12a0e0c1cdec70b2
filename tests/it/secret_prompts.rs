//! Values of secrets that people type or edit.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::secret_command::{CANARY, converge, fingerprint, host, key, secret, succeeds};
use crate::terminal::Terminal;

#[test]
fn value_is_edited_in_a_private_file_that_is_removed() {
    let sandbox = host("web1", "web1", None);
    sandbox.manifest(crate::sandbox::MANIFEST);
    succeeds(&sandbox, &["set", "production", "db"], CANARY);
    sandbox.write(
        "/editor",
        "#!/bin/sh\nstat -c %a \"$1\" \"$(dirname \"$1\")\" > @ROOT@/modes\necho \"$1\" > @ROOT@/path\ntr a-z A-Z < \"$1\" > \"$1.new\" && cat \"$1.new\" > \"$1\"\n",
    );
    let editor = sandbox.at("/editor");
    std::fs::set_permissions(&editor, PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = sandbox.command(&["secret", "edit", "production", "db"]);
    command.env("EDITOR", &editor);
    command.env("TRUEUP_IDENTITY", sandbox.at("/operator/key"));
    let ran = sandbox.run_command(command);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(!ran.to_string().to_lowercase().contains(CANARY), "{ran}");
    assert_eq!(sandbox.read("/modes"), "600\n700\n");
    let folder = PathBuf::from(sandbox.read("/path").trim())
        .parent()
        .unwrap()
        .to_owned();
    assert!(!folder.exists(), "{}", folder.display());
    let web1 = fingerprint("web1");
    converge(&sandbox, 1);
    succeeds(&sandbox, &["rekey", "production", "--accept", &web1], "");
    converge(&sandbox, 0);
    let upper = CANARY.to_uppercase();
    assert_eq!(sandbox.read("/srv/db.conf"), format!("password={upper}"));
    let missing = secret(&sandbox, &["edit", "production", "bd"], "");
    assert!(
        missing.code == 64 && missing.err.contains("no secret `bd`"),
        "{missing}"
    );
}

#[test]
fn value_and_passphrase_are_typed_without_echo() {
    let sandbox = host("web1", "web1", None);
    sandbox.manifest(crate::sandbox::MANIFEST);
    let locked = key(&sandbox, "locked", "/operator/locked");
    let command = |args: &[&str]| {
        let mut command = sandbox.command(&[&["secret"], args].concat());
        command.env("TRUEUP_IDENTITY", &locked);
        command
    };
    let mut terminal = Terminal::start(command(&["set", "production", "db"]), None, None);
    terminal.wait_for_text("value of db:");
    terminal.type_keys(&format!("{CANARY}\n"));
    let line = terminal.line();
    let (status, screen) = terminal.end();
    assert!(status.success() && !screen.contains("canary"), "{screen}");
    assert!(line.is_cooked(), "the terminal stays without echo");
    converge(&sandbox, 1);
    let mut terminal = Terminal::start(command(&["rekey", "production"]), None, None);
    terminal.wait_for_text("is this the key of web1?");
    terminal.type_keys("yes\n");
    terminal.wait_for_text("passphrase of");
    terminal.type_keys("open sesame\n");
    let (status, screen) = terminal.end();
    assert!(status.success() && !screen.contains("sesame"), "{screen}");
    converge(&sandbox, 0);
    assert_eq!(sandbox.read("/srv/db.conf"), format!("password={CANARY}"));
    // An interrupt leaves the terminal as it was.
    let mut terminal = Terminal::start(command(&["set", "production", "db"]), None, None);
    terminal.wait_for_text("value of db:");
    terminal.type_keys("\x03");
    let line = terminal.line();
    let (status, screen) = terminal.end();
    assert!(
        !status.success() && screen.contains("interrupted"),
        "{screen}"
    );
    assert!(line.is_cooked());
}
