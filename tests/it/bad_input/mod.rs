//! Invalid input, with the exact text of each error: an operator has only that text to find the
//! mistake.

mod host;
mod manifest;
mod owners;
mod roles;
mod settings;
mod state;

use crate::sandbox::Sandbox;
use crate::tree;

/// A host with one directory to create, so that a change in spite of a mistake is visible.
fn host() -> Sandbox {
    let sandbox = Sandbox::empty();
    sandbox.write("/etc/trueup/node.yml", crate::sandbox::NODE);
    sandbox.manifest(crate::sandbox::MANIFEST);
    sandbox.role("parameters: {word: one}\nresources:\n  - directory: {path: /srv}\n");
    sandbox
}

/// A pass fails with exactly this text and changes nothing; `plan` and `validate` (where
/// it is not about the store) print the same.
fn assert_refused(host: &Sandbox, expected: &str) {
    // A pass stores a valid manifest before it finds a mistake in a role: in its own state.
    let skip = ["/run", "/var"];
    let before = tree::fingerprints(&host.root, &skip);
    let ran = host.converge();
    assert_eq!(ran.code, 78, "{ran}");
    assert_eq!(
        ran.err,
        format!("trueup: {expected}\ntrueup: nothing was changed\n")
    );
    assert_eq!(ran.out, "");
    let changed = tree::changed_paths(&before, &tree::fingerprints(&host.root, &skip));
    assert!(changed.is_empty(), "changed: {changed:?}");
    assert_eq!(host.run(&["plan"]).err, ran.err, "`plan` says otherwise");
}

/// As [`assert_refused`], for a mistake that `validate` finds too.
fn assert_invalid(host: &Sandbox, expected: &str) {
    assert_refused(host, expected);
    let ran = host.run(&["validate"]);
    assert_eq!(ran.code, 78, "{ran}");
    assert_eq!(
        ran.err,
        format!("trueup: {expected}\ntrueup: nothing was changed\n")
    );
}

/// Nine lines that a naive parser expands to a billion values.
fn yaml_bomb() -> String {
    let mut text = String::from("a: &a [x, x, x, x, x, x, x, x, x, x]\n");
    for (below, name) in "abcdefgh".chars().zip("bcdefghi".chars()) {
        let ten = vec![format!("*{below}"); 10].join(", ");
        text += &format!("{name}: &{name} [{ten}]\n");
    }
    text
}

/// As [`assert_refused`], with limits on memory and processor time.
fn assert_refused_within_bounds(host: &Sandbox, expected: &str) {
    let mut command = std::process::Command::new("/bin/sh");
    crate::sandbox::isolated(&mut command);
    // Address space in KiB, processor time in seconds.
    let line = "ulimit -v 400000 && ulimit -t 10 && exec \"$@\"";
    command
        .args(["-c", line, "sh"])
        .arg(crate::sandbox::binary());
    command.args(["converge", "--root"]).arg(&host.root);
    let ran = host.run_command(command);
    assert_eq!(ran.code, 78, "{ran}");
    assert_eq!(
        ran.err,
        format!("trueup: {expected}\ntrueup: nothing was changed\n")
    );
}
