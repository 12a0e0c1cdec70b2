//! Notices of a host by itself: the store is a folder, so there is no rollout.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use crate::app::{App, GOOD};
use crate::gate::ROLE;
use crate::sandbox::Sandbox;

/// Appends the document and the variables to `/srv/notices`.
const PAGE: &str =
    "#!/bin/sh\n{ printf '%s ' \"$TRUEUP_NOTICE\"; cat; echo; } >>@ROOT@/srv/notices\n";

/// Gives a host the channel `ops`, and a program for it that keeps the notices.
pub(crate) fn give_channel(host: &Sandbox, channel: &str) {
    host.write(
        "/etc/trueup/node.d/notify.yml",
        &format!("notify: {{channels: {{ops: {channel}}}}}\n"),
    );
    let page = PAGE.replace("@ROOT@", &host.at("/").display().to_string());
    host.write("/usr/local/bin/page", &page);
    let program = host.at("/usr/local/bin/page");
    std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// An app of a host that has this channel, which the manifest names.
fn app_with_channel(channel: &str) -> App {
    let app = App::new(ROLE);
    give_channel(&app.sandbox, channel);
    app.publish_commit(GOOD, "200", "page one");
    let sha = app.git(&["rev-parse", "HEAD"]);
    publish(&app, &sha, "");
    app.converge(0);
    app
}

fn publish(app: &App, sha: &str, more: &str) {
    let text =
        format!("production:\n  _settings: {{notify: [ops]}}\n  shop: {{sha: {sha}{more}}}\n");
    app.sandbox.manifest(text);
}

/// The transitions of all notices so far, with their documents.
pub(crate) fn notices(host: &Sandbox) -> Vec<(String, serde_json::Value)> {
    let text = std::fs::read_to_string(host.at("/srv/notices")).unwrap_or_default();
    let lines = text.lines().map(|line| {
        let (transition, document) = line.split_once(' ').unwrap();
        (
            transition.to_owned(),
            serde_json::from_str(document).unwrap(),
        )
    });
    lines.collect()
}

fn transitions(app: &App) -> Vec<String> {
    notices(&app.sandbox)
        .into_iter()
        .map(|(transition, _)| transition)
        .collect()
}

#[test]
fn host_by_itself_notifies_once_of_each_transition() {
    let app = app_with_channel("{command: [/usr/local/bin/page]}");
    assert_eq!(transitions(&app), [""; 0], "what was before is no news");
    app.sandbox.pass_writes_nothing(&[], 0);

    let two = app.commit_page("page two");
    // The clock of whoever publishes decides nothing.
    let more = ", by: ana, at: 2026-01-01T00:00:00Z, notes: [{text: run the reindex}]";
    publish(&app, &two, more);
    app.converge(0);
    assert_eq!(transitions(&app), ["published", "note", "done"]);
    let (_, done) = &notices(&app.sandbox)[2];
    assert_eq!(
        (&done["version"], &done["to"]),
        (&1.into(), &two.as_str().into())
    );
    assert_eq!(done["notes"][0], "run the reindex");
    assert!(
        done["text"]
            .as_str()
            .unwrap()
            .contains("To do:  run the reindex")
    );
    app.converge(0);
    app.sandbox.pass_writes_nothing(&[], 0);

    publish(&app, &two, ", hold: {reason: \"db maintenance\", by: ana}");
    app.converge(0);
    let forced = app.sandbox.run(&["converge", "--force"]);
    assert_eq!(forced.code, 0, "{forced}");
    assert_eq!(transitions(&app)[3..], ["held"], "one pass goes over it");
    publish(&app, &two, "");
    app.converge(0);
    assert_eq!(transitions(&app)[3..], ["held", "hold_ended"]);

    std::fs::write(app.repo.join("status"), "500").unwrap();
    let bad = app.commit_page("page three");
    publish(&app, &bad, "");
    app.converge(4);
    assert_eq!(transitions(&app)[5..], ["published", "failed"]);
    let (_, failed) = &notices(&app.sandbox)[6];
    assert!(
        failed["failure"]["reason"]
            .as_str()
            .unwrap()
            .contains("500"),
        "{failed}"
    );
    app.converge(4);
    assert_eq!(transitions(&app).len(), 7);
}

#[test]
fn what_was_published_while_nobody_was_to_be_notified_is_no_news() {
    let app = app_with_channel("{command: [/usr/local/bin/page]}");
    let two = app.commit_page("page two");
    app.sandbox
        .manifest(format!("production:\n  shop: {{sha: {two}}}\n"));
    app.converge(0);
    publish(&app, &two, "");
    app.converge(0);
    assert_eq!(transitions(&app), [""; 0]);
    app.sandbox.pass_writes_nothing(&[], 0);
    let three = app.commit_page("page three");
    publish(&app, &three, "");
    app.converge(0);
    assert_eq!(transitions(&app), ["published", "done"]);
}

#[test]
fn channel_that_hangs_neither_fails_nor_repeats_in_a_pass() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", silent.local_addr().unwrap());
    let app = app_with_channel(&format!(
        "{{webhook: {{url: \"{url}\", allow_private: true}}}}"
    ));
    let two = app.commit_page("page two");
    publish(&app, &two, "");
    let ran = app.converge(0);
    assert!(ran.err.contains("ops was not notified"), "{ran}");
    let health = "/var/lib/trueup/notices/_channels.json";
    assert!(app.sandbox.read(health).contains("\"failures\": 1"));
    app.converge(0);
    assert!(
        app.sandbox.read(health).contains("\"failures\": 1"),
        "it rests"
    );
    let doctor = app.sandbox.run(&["doctor"]);
    assert!(doctor.out.contains("it failed once"), "{doctor}");
}

#[test]
fn test_of_a_channel_shows_the_answer() {
    let app = app_with_channel("{command: [/usr/local/bin/page]}");
    let sent = app.sandbox.run(&["notify", "test", "ops"]);
    assert_eq!(sent.code, 0, "{sent}");
    assert!(sent.out.starts_with("ops: sent: "), "{sent}");
    assert_eq!(notices(&app.sandbox)[0].1["test"], true);
    let unknown = app.sandbox.run(&["notify", "test", "opps"]);
    assert_eq!(unknown.code, 64, "{unknown}");
    assert!(unknown.err.contains("did you mean `ops`?"), "{unknown}");
    app.sandbox.write(
        "/usr/local/bin/page",
        "#!/bin/sh\necho the pager is down; exit 3\n",
    );
    let failed = app.sandbox.run(&["notify", "test", "ops"]);
    assert_eq!(failed.code, 1, "{failed}");
    assert!(
        failed.err.contains("exited with 3") && failed.err.contains("the pager is down"),
        "{failed}"
    );
}

#[test]
fn mistake_in_a_channel_names_file_line_and_field() {
    let app = App::new(ROLE);
    app.publish_commit(GOOD, "200", "page one");
    for (channel, expected) in [
        (
            "{}",
            "notify.channels.ops: expected one of `slack`, `webhook`, `command` and `email`",
        ),
        ("{command: [page]}", "notify.channels.ops.command: "),
        ("{command: []}", "notify.channels.ops.command: "),
        (
            "{slack: {url: \"ftp://x\"}}",
            "notify.channels.ops.slack.url: it is not an http or https URL",
        ),
        (
            "{webhook: {}}",
            "notify.channels.ops.webhook: expected either `url` or `url_file`",
        ),
        (
            "{webhook: {url_file: hook}}",
            "notify.channels.ops.webhook.url_file: ",
        ),
        (
            "{email: {to: [\"a@b\\nBcc: c\"]}}",
            "notify.channels.ops.email.to: ",
        ),
        (
            "{email: {to: [root]}, user: ana}",
            "notify.channels.ops.user: ",
        ),
        ("{emial: {to: [root]}}", "did you mean `email`?"),
    ] {
        let text = format!("\nnotify: {{channels: {{ops: {channel}}}}}\n");
        app.sandbox.write("/etc/trueup/node.d/notify.yml", &text);
        let ran = app.sandbox.run(&["validate"]);
        assert_eq!(ran.code, 78, "{channel}: {ran}");
        assert!(
            ran.err.contains("notify.yml:2:") && ran.err.contains(expected),
            "{channel}: {ran}"
        );
    }
    app.sandbox.write("/etc/trueup/node.d/notify.yml", "{}\n");
    let manifest = |notify: &str| format!("production: {{_settings: {{notify: {notify}}}}}\n");
    for (notify, expected) in [
        ("{ops: [haltd]}", "did you mean `halted`?"),
        ("[../x]", "../x"),
        ("ops", "a list of channels"),
    ] {
        app.sandbox.manifest(manifest(notify));
        let ran = app.sandbox.converge();
        assert_eq!(ran.code, 78, "{notify}: {ran}");
        assert!(ran.err.contains(expected), "{notify}: {ran}");
    }
}
