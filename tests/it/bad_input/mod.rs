//! What people and broken machines hand in, and what they are told: the exact text, because the text
//! is what a person has at three in the morning.

mod host;
mod manifest;
mod owners;
mod roles;
mod settings;
mod state;

use crate::sandbox::Sandbox;
use crate::tree;

/// A host with one file to write, so that anything done in spite of a mistake shows.
fn host() -> Sandbox {
    let sandbox = Sandbox::empty();
    sandbox.write("/etc/trueup/node.yml", crate::sandbox::NODE);
    sandbox.manifest(crate::sandbox::MANIFEST);
    sandbox.role("parameters: {word: one}\nresources:\n  - directory: {path: /srv}\n");
    sandbox
}

/// A pass is refused with this text and this alone, and changes nothing; `plan` and `validate` (where
/// it is not about the store) say the same.
fn refused(host: &Sandbox, expected: &str) {
    // A good manifest is kept even when a role is then found wrong: that is trueup's own.
    let skip = ["/run", "/var"];
    let before = tree::traces(&host.root, &skip);
    let ran = host.converge();
    assert_eq!(ran.code, 78, "{ran}");
    assert_eq!(
        ran.err,
        format!("trueup: {expected}\ntrueup: nothing was changed\n")
    );
    assert_eq!(ran.out, "");
    let touched = tree::touched(&before, &tree::traces(&host.root, &skip));
    assert!(touched.is_empty(), "changed: {touched:?}");
    assert_eq!(host.run(&["plan"]).err, ran.err, "`plan` says otherwise");
}

/// As [`refused`], of something that `validate` finds too.
fn invalid(host: &Sandbox, expected: &str) {
    refused(host, expected);
    let ran = host.run(&["validate"]);
    assert_eq!(ran.code, 78, "{ran}");
    assert_eq!(
        ran.err,
        format!("trueup: {expected}\ntrueup: nothing was changed\n")
    );
}

/// Nine lines that a naive reader makes a billion values of.
fn bomb() -> String {
    let mut text = String::from("a: &a [x, x, x, x, x, x, x, x, x, x]\n");
    for (below, name) in "abcdefgh".chars().zip("bcdefghi".chars()) {
        let ten = vec![format!("*{below}"); 10].join(", ");
        text += &format!("{name}: &{name} [{ten}]\n");
    }
    text
}

/// A pass with little memory and time: what a bomb must not need more of.
fn refused_within_bounds(host: &Sandbox, expected: &str) {
    let mut command = std::process::Command::new("/bin/sh");
    crate::sandbox::isolated(&mut command);
    // Address space in KiB, processor time in seconds.
    let line = "ulimit -v 400000 && ulimit -t 10 && exec \"$@\"";
    command
        .args(["-c", line, "sh"])
        .arg(crate::sandbox::binary());
    command.args(["converge", "--root"]).arg(&host.root);
    let ran = host.ran(command);
    assert_eq!(ran.code, 78, "{ran}");
    assert_eq!(
        ran.err,
        format!("trueup: {expected}\ntrueup: nothing was changed\n")
    );
}
