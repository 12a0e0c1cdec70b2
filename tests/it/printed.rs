//! What others write reaches a terminal as text, and does nothing there.

use crate::app::{App, GOOD};
use crate::gate::ROLE;
use crate::sandbox::{Ran, Sandbox};
use crate::terminal::Terminal;

/// Writes the clipboard, hides what was printed before, rings, turns the text round: as YAML and JSON
/// write it, and as `printf` does.
const HOSTILE: &str = "x\\u001b]52;c;aGk=\\u0007\\ry\\u009b8m\\u202ez";
const PRINTF: &str = r"x\033]52;c;aGk=\007\ry\302\2338m\342\200\256z";

/// What an operator has on his screen, but for what trueup itself prints in colour.
fn on_screen(sandbox: &Sandbox, args: &[&str]) -> String {
    let mut command = sandbox.command(args);
    command.env("TERM", "xterm");
    let (_, screen) = Terminal::start(command, None, None).end();
    let mut text = screen.replace("\r\n", "\n");
    for style in trueup::printable::STYLES {
        text = text.replace(style, "");
    }
    text
}

fn is_plain(text: &str) {
    let bad = |c: char| c != '\n' && c != '\t' && trueup::printable::is_unprintable(c);
    assert!(!text.contains(bad), "{text:?}");
}

/// The text is there, and nothing of it does anything, at a terminal and in a pipe.
fn shows(sandbox: &Sandbox, args: &[&str]) {
    let ran: Ran = sandbox.run(args);
    let piped = format!("{}{}", ran.out, ran.err);
    for text in [piped, on_screen(sandbox, args)] {
        is_plain(&text);
        assert!(text.contains("]52;c;aGk="), "{args:?}: {text:?}");
    }
}

#[test]
fn manifest_text_cannot_control_the_terminal() {
    let app = App::new(ROLE);
    let sha = app.want(GOOD, "200", "page one");
    app.converge(0);
    let other = "4f".repeat(20);
    app.sandbox.manifest(format!(
        "production:\n  shop: {{sha: {other}, ref: \"{HOSTILE}\", by: \"{HOSTILE}\", hold: {{reason: \"a\\nconverged: {HOSTILE}\", by: \"{HOSTILE}\"}}}}\n"
    ));
    for args in [
        &["converge"][..],
        &["plan"],
        &["status"],
        &["status", "-o", "yaml"],
    ] {
        shows(&app.sandbox, args);
        let text = on_screen(&app.sandbox, args);
        assert!(!text.contains("\nconverged: x"), "{text}");
    }
    // As a part of what is wrong.
    app.sandbox.manifest(format!(
        "production:\n  shop: {{sha: {sha}, \"{HOSTILE}\": 1}}\n"
    ));
    shows(&app.sandbox, &["converge"]);
}

#[test]
fn build_output_cannot_control_the_terminal_and_stays_raw_in_the_log() {
    let step = format!(
        "      steps: [{{name: hostile, run: \"printf '{}'; exit 1\"}}]\n",
        PRINTF.replace('\\', "\\\\")
    );
    let app = App::new(&ROLE.replace("      hooks:\n", &format!("{step}      hooks:\n")));
    app.want(GOOD, "200", "page one");
    shows(&app.sandbox, &["converge"]);
    let name = crate::operate::names(&app).remove(0);
    let log = app
        .sandbox
        .read(&format!("/var/log/trueup/releases/shop/{name}.log"));
    assert!(log.contains("\u{1b}]52;c;aGk=\u{7}\ry\u{9b}8m"), "{log:?}");
    for args in [
        &["history", "--release", &name][..],
        &["history"],
        &["status"],
        &["releases"],
    ] {
        let ran = app.sandbox.run(args);
        is_plain(&ran.out);
        is_plain(&on_screen(&app.sandbox, args));
    }
}

#[test]
fn service_output_and_answers_cannot_control_the_terminal() {
    let app = App::new(ROLE);
    app.want(GOOD, "200", "page one");
    app.converge(0);
    app.want(&format!("printf '{PRINTF}\\n'; exit 1"), "200", "page two");
    app.converge(4);
    for name in crate::operate::names(&app) {
        is_plain(&on_screen(&app.sandbox, &["history", "--release", &name]));
    }
    app.want(
        GOOD,
        "500",
        "page \u{1b}]52;c;aGk=\u{7}\ry\u{9b}8m\u{202e}z",
    );
    shows(&app.sandbox, &["converge"]);
    is_plain(&app.sandbox.read("/run/motd.d/trueup"));
    is_plain(&on_screen(&app.sandbox, &["status"]));
}

#[test]
fn peer_records_and_replaced_files_cannot_control_the_terminal() {
    let sandbox = Sandbox::of(&format!(
        "  - file: {{path: /there, content: \"new\\n\"}}\n  - file: {{path: /new, content: \"{HOSTILE}\\n\"}}\n"
    ));
    sandbox.write("/there", "old \u{1b}]52;c;aGk=\u{7}\ry\u{9b}8m\u{202e}z\n");
    shows(&sandbox, &["plan"]);
    sandbox.converged();
    let nodes = sandbox.store.join("nodes/production");
    std::fs::create_dir_all(&nodes).unwrap();
    let record = format!(
        "{{\"version\": 1, \"node\": \"peer\", \"environment\": \"production\", \"last_pass\": {{\"at\": \"2026-11-21T00:00:00Z\", \"outcome\": \"failed\", \"why\": \"{HOSTILE}\"}}}}"
    );
    std::fs::write(nodes.join("peer.json"), record).unwrap();
    std::fs::write(nodes.join("other.json"), format!("{{\"{HOSTILE}\": 1}}")).unwrap();
    shows(&sandbox, &["fleet"]);
    shows(&sandbox, &["fleet", "-o", "yaml"]);
}
