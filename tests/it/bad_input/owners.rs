//! Settings, roles and templates that another user could have written.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use super::{assert_invalid, host};
use crate::sandbox::{NODE, Sandbox};

const NOBODY: u32 = 65534;

fn mode(host: &Sandbox, path: &str, mode: u32) {
    fs::set_permissions(host.at(path), fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn world_writable_inputs_are_refused() {
    for (file, open, bits) in [
        ("etc/trueup/node.yml", "etc/trueup/node.yml", 0o666),
        ("etc/trueup/node.yml", "etc/trueup", 0o777),
        ("etc/trueup/node.yml", "etc", 0o777),
        ("etc/trueup/node.d", "etc/trueup/node.d", 0o777),
        (
            "etc/trueup/node.d/more.yml",
            "etc/trueup/node.d/more.yml",
            0o646,
        ),
        (
            "etc/trueup/environments/production.yml",
            "etc/trueup/environments/production.yml",
            0o666,
        ),
        ("etc/trueup/roles/app.yml", "etc/trueup/roles", 0o777),
        (
            "etc/trueup/templates/motd",
            "etc/trueup/templates/motd",
            0o602,
        ),
    ] {
        let host = host();
        host.write("/etc/trueup/node.d/more.yml", "tags: {zone: a}\n");
        host.write("/etc/trueup/environments/production.yml", "{}\n");
        host.role("resources:\n  - template: {path: /srv/motd, source: motd}\n");
        host.write("/etc/trueup/templates/motd", "hello\n");
        mode(&host, &format!("/{open}"), bits);
        let expected = format!(
            "@ROOT@/{file} is not trusted: @ROOT@/{open} is writable by everybody (mode {bits:04o})\n  hint: `chmod o-w @ROOT@/{open}`, after checking its contents\ntrueup: nothing was changed\n"
        );
        for command in ["converge", "plan", "validate"] {
            let ran = host.run(&[command]);
            assert_eq!(ran.code, 78, "{ran}");
            // Before it stands where a role or template is named.
            assert!(ran.err.ends_with(&expected), "{ran}\nexpected: {expected}");
        }
        assert!(!host.at("/srv").exists());
    }
}

#[test]
fn inputs_of_other_owners_are_refused() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    for owned in ["etc/trueup/node.yml", "etc/trueup"] {
        let host = host();
        chown(host.at(&format!("/{owned}")), Some(NOBODY), None).unwrap();
        assert_invalid(
            &host,
            &format!(
                "@ROOT@/etc/trueup/node.yml is not trusted: @ROOT@/{owned} belongs to uid {NOBODY}\n  hint: `chown 0 @ROOT@/{owned}`, after checking its contents"
            ),
        );
    }
}

#[test]
fn world_readable_secrets_are_reported_by_passes_and_doctor() {
    let host = host();
    host.role("parameters: {apps: {}}\nresources: []\n");
    let attributes = "attributes: {apps: {shop: {secrets: {TOKEN: s3cret-value}}}}\n";
    host.write("/etc/trueup/node.yml", &format!("{NODE}{attributes}"));
    let words = "node.yml contains secrets and is readable by every user of this host (mode 0644)";
    for _ in 0..2 {
        let ran = host.converge();
        assert_eq!(ran.code, 0, "{ran}");
        assert!(format!("{ran}").contains(words), "{ran}");
        assert!(!format!("{ran}").contains("s3cret-value"), "{ran}");
    }
    let doctor = host.run(&["doctor"]);
    assert!(format!("{doctor}").contains(words), "{doctor}");
    mode(&host, "/etc/trueup/node.yml", 0o600);
    let ran = host.converge();
    assert!(!format!("{ran}").contains(words), "{ran}");
}
