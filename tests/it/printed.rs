//! Text of others is printed without control characters that a terminal would obey.

use crate::app::{App, GOOD};
use crate::gate::ROLE;
use crate::sandbox::{Ran, Sandbox};
use crate::terminal::Terminal;

/// Writes the clipboard, overwrites the line, hides and reverses text: as YAML and JSON
/// escape it, and as `printf` does.
const HOSTILE: &str = "x\\u001b]52;c;aGk=\\u0007\\ry\\u009b8m\\u202ez";
const PRINTF: &str = r"x\033]52;c;aGk=\007\ry\302\2338m\342\200\256z";

/// The text on an operator's terminal, without trueup's own colours and what erases the line of a running step.
fn screen_text(sandbox: &Sandbox, args: &[&str]) -> String {
    let mut command = sandbox.command(args);
    command.env("TERM", "xterm");
    let (_, screen) = Terminal::start(command, None, None).end();
    let mut text = screen.replace("\r\n", "\n");
    for style in trueup::printable::STYLES {
        text = text.replace(style, "");
    }
    text.replace("\r\u{1b}[K", "")
}

fn assert_plain(text: &str) {
    let bad = |c: char| c != '\n' && c != '\t' && trueup::printable::is_unprintable(c);
    assert!(!text.contains(bad), "{text:?}");
}

/// The text is printed, without control characters, at a terminal and in a pipe.
fn assert_shown_plain(sandbox: &Sandbox, args: &[&str]) {
    let ran: Ran = sandbox.run(args);
    let piped = format!("{}{}", ran.out, ran.err);
    for text in [piped, screen_text(sandbox, args)] {
        assert_plain(&text);
        assert!(text.contains("]52;c;aGk="), "{args:?}: {text:?}");
    }
}

#[test]
fn manifest_text_cannot_control_the_terminal() {
    let app = App::new(ROLE);
    let sha = app.publish_commit(GOOD, "200", "page one");
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
        assert_shown_plain(&app.sandbox, args);
        let text = screen_text(&app.sandbox, args);
        assert!(!text.contains("\nconverged: x"), "{text}");
    }
    // In an error message.
    app.sandbox.manifest(format!(
        "production:\n  shop: {{sha: {sha}, \"{HOSTILE}\": 1}}\n"
    ));
    assert_shown_plain(&app.sandbox, &["converge"]);
}

#[test]
fn build_output_cannot_control_the_terminal_and_stays_raw_in_the_log() {
    let step = format!(
        "      steps: [{{name: hostile, run: \"printf '{}'; exit 1\"}}]\n",
        PRINTF.replace('\\', "\\\\")
    );
    let app = App::new(&ROLE.replace("      hooks:\n", &format!("{step}      hooks:\n")));
    app.publish_commit(GOOD, "200", "page one");
    assert_shown_plain(&app.sandbox, &["converge"]);
    let name = crate::operate::release_names(&app).remove(0);
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
        assert_plain(&ran.out);
        assert_plain(&screen_text(&app.sandbox, args));
    }
}

#[test]
fn service_output_and_answers_cannot_control_the_terminal() {
    let app = App::new(ROLE);
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    app.publish_commit(&format!("printf '{PRINTF}\\n'; exit 1"), "200", "page two");
    app.converge(4);
    for name in crate::operate::release_names(&app) {
        assert_plain(&screen_text(&app.sandbox, &["history", "--release", &name]));
    }
    app.publish_commit(
        GOOD,
        "500",
        "page \u{1b}]52;c;aGk=\u{7}\ry\u{9b}8m\u{202e}z",
    );
    assert_shown_plain(&app.sandbox, &["converge"]);
    assert_plain(&app.sandbox.read("/run/motd.d/trueup"));
    assert_plain(&screen_text(&app.sandbox, &["status"]));
}

#[test]
fn logs_cannot_control_the_terminal() {
    let app = App::new(ROLE);
    let run = format!("printf '{PRINTF}\\n'; exec python3 web.py $1");
    app.publish_commit(&run, "200", "page one");
    app.converge(0);
    for format in ["text", "json", "yaml"] {
        assert_shown_plain(&app.sandbox, &["logs", "shop", "-o", format]);
    }
}

#[test]
fn command_lines_cannot_control_the_terminal() {
    let app = App::new(ROLE);
    let run = format!("exec python3 web.py $1 \"$(printf '{PRINTF}')\"");
    app.publish_commit(&run, "200", "page one");
    app.converge(0);
    assert_shown_plain(&app.sandbox, &["ps", "shop"]);
    assert_shown_plain(&app.sandbox, &["ps", "shop", "-o", "yaml"]);
}

#[test]
fn peer_records_and_replaced_files_cannot_control_the_terminal() {
    let sandbox = Sandbox::of(&format!(
        "  - file: {{path: /there, content: \"new\\n\"}}\n  - file: {{path: /new, content: \"{HOSTILE}\\n\"}}\n"
    ));
    sandbox.write("/there", "old \u{1b}]52;c;aGk=\u{7}\ry\u{9b}8m\u{202e}z\n");
    assert_shown_plain(&sandbox, &["plan"]);
    sandbox.converged();
    let nodes = sandbox.store.join("nodes/production");
    std::fs::create_dir_all(&nodes).unwrap();
    let record = format!(
        "{{\"version\": 1, \"node\": \"peer\", \"environment\": \"production\", \"last_pass\": {{\"at\": \"2026-11-21T00:00:00Z\", \"outcome\": \"failed\", \"why\": \"{HOSTILE}\"}}}}"
    );
    std::fs::write(nodes.join("peer.json"), record).unwrap();
    std::fs::write(nodes.join("other.json"), format!("{{\"{HOSTILE}\": 1}}")).unwrap();
    assert_shown_plain(&sandbox, &["fleet"]);
    assert_shown_plain(&sandbox, &["fleet", "-o", "yaml"]);
}
