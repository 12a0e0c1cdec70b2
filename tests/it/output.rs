//! Documents for programs: `--output json`, `--output yaml` and `--json`.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::Value;

use crate::app::{App, GOOD};
use crate::gate::ROLE;
use crate::sandbox::Sandbox;
use crate::terminal::Terminal;

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Without values that differ in every run: free memory, durations, times.
fn without_volatile(value: &Value) -> Value {
    match value {
        Value::Number(_) => Value::from(0),
        Value::Array(items) => items.iter().map(without_volatile).collect(),
        Value::Object(entries) => entries
            .iter()
            .map(|(key, value)| match key.as_str() {
                "run" | "started" => (key.clone(), Value::Null),
                _ => (key.clone(), without_volatile(value)),
            })
            .collect(),
        value => value.clone(),
    }
}

/// The same document in each format, in the same order of fields.
fn assert_same_document(host: &Sandbox, args: &[&str]) {
    let expected = host.run(&[args, &["--json"]].concat());
    for (more, is_yaml) in [
        (&["--output", "json"][..], false),
        (&["--output", "yaml"], true),
        (&["-o", "yaml"], true),
        (&["-o", "json", "--json"], false),
    ] {
        let ran = host.run(&[args, more].concat());
        assert_eq!((ran.code, &ran.err), (expected.code, &expected.err));
        // `@ROOT@` for a path begins no text in YAML.
        let known: Value = serde_json::from_str(&host.fill(&expected.out)).unwrap();
        let out = host.fill(&ran.out);
        let read = match is_yaml {
            true => yaml(&out),
            false => serde_json::from_str(&out).unwrap(),
        };
        let (read, known) = match args[0] {
            "facts" | "plan" | "ps" | "status" => {
                (without_volatile(&read), without_volatile(&known))
            }
            _ => (read, known),
        };
        // As texts: fields have an order.
        assert_eq!(read.to_string(), known.to_string(), "{args:?} {more:?}");
        assert_eq!(out.starts_with('{'), !is_yaml, "{out}");
    }
}

#[test]
fn yaml_output_has_the_same_data_as_json() {
    let app = App::new(ROLE);
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let release = crate::operate::release_names(&app).remove(0);
    for args in [
        &["plan"][..],
        &["status"],
        &["history"],
        &["history", "--release", &release],
        &["ps", "shop"],
        &["releases"],
        &["releases", "clean", "--dry-run"],
        &["validate"],
        &["facts"],
        // An error is a document too.
        &["plan", "--explain", "nonsense"],
        &["rollback", "shop", "--to", "nonsense"],
    ] {
        assert_same_document(&app.sandbox, args);
    }
    app.sandbox.role("nonsense: true\n");
    assert_same_document(&app.sandbox, &["converge"]);
    let ran = app.sandbox.run(&["-o", "yaml", "status"]);
    let error = &yaml(&app.sandbox.fill(&ran.out))["errors"][0];
    assert_eq!((ran.code, &error["at"]["line"]), (78, &Value::from(1)));
    let text = app.sandbox.run(&["history", "--output", "text"]);
    assert_eq!(text.out, app.sandbox.run(&["history"]).out);
}

#[test]
fn json_with_another_output_format_is_a_usage_error() {
    let host = Sandbox::of("");
    for format in ["yaml", "text"] {
        let ran = host.run(&["status", "--json", "--output", format]);
        assert_eq!((ran.code, ran.out.as_str()), (64, ""), "{ran}");
        let expected = format!("the argument '--json' cannot be used with '--output {format}'");
        assert!(ran.err.contains(&expected), "{ran}");
    }
    let ran = host.run(&["status", "--output", "xml"]);
    assert_eq!(ran.code, 64, "{ran}");
    assert!(
        ran.err.contains("[possible values: text, json, yaml]"),
        "{ran}"
    );
}

#[test]
fn documents_have_no_colours_and_preserve_foreign_text() {
    let hostile = "x\u{1b}]52;c;aGk=\u{7}\ry\u{9b}8m\u{202e}z\n\ttwo\n";
    let written = r"x\u001b]52;c;aGk=\u0007\ry\u009b8m\u202ez\n\ttwo\n";
    let host = Sandbox::of("");
    host.role(&format!(
        "parameters: {{word: \"{written}\"}}\nresources: []\n"
    ));
    for format in ["json", "yaml"] {
        let mut command = host.command(&["plan", "--explain", "word", "--output", format]);
        command.env("TERM", "xterm");
        let (_, screen) = Terminal::start(command, None, None).end();
        let screen = screen.replace("\r\n", "\n");
        let is_control = |c: char| c != '\n' && trueup::printable::is_unprintable(c);
        assert!(!screen.contains(is_control), "{screen:?}");
        // JSON is YAML.
        assert_eq!(yaml(&screen)["layers"][0]["value"], hostile, "{screen}");
    }
}

#[test]
fn fleet_watch_prints_a_stream_of_yaml_documents() {
    let host = Sandbox::of("");
    host.converged();
    let mut command = host.command(&["fleet", "--watch", "1", "-o", "yaml"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut marks = 0;
    let printed: Vec<String> = lines
        .map(Result::unwrap)
        .take_while(|line| {
            marks += usize::from(line == "---");
            marks < 2
        })
        .collect();
    child.kill().unwrap();
    child.wait().unwrap();
    let text = printed.join("\n");
    let documents: Vec<Value> = serde_yaml::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).unwrap())
        .collect();
    assert_eq!(documents.len(), 2, "{text}");
    assert_eq!(documents[0]["nodes"], documents[1]["nodes"]);
    assert_eq!(documents[0]["version"], 1);
}

/// What the command prints at a terminal of this width.
fn at_width(width: usize, command: &Command) -> String {
    let mut shell = Command::new("sh");
    let script = format!("stty cols {width} rows 24 && exec \"$@\"");
    shell.args(["-c", &script, "sh"]).arg(command.get_program());
    shell.args(command.get_args()).env_clear();
    let set = command
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    shell
        .envs(set)
        .env("PATH", "/usr/bin:/bin")
        .env("TERM", "dumb");
    let (status, screen) = Terminal::start(shell, None, None).end();
    assert!(status.success(), "{screen}");
    screen
}

#[test]
fn tables_fit_the_terminal_and_a_pipe_gets_the_full_text() {
    let app = App::new(ROLE);
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let first = app.current().rsplit('/').next().unwrap().to_owned();
    app.publish_commit(GOOD, "200", "page two");
    app.converge(0);
    let reason = "orders fail since the checkout asks the new warehouse for what it has";
    let back = ["rollback", "shop", "--by", "ana", "--reason", reason];
    assert_eq!(app.sandbox.run(&back).code, 0);
    let piped = app.sandbox.run(&["releases"]).out;
    assert!(piped.lines().any(|line| line.ends_with(reason)), "{piped}");
    for width in [60, 80, 120] {
        let screen = at_width(width, &app.sandbox.command(&["releases"]));
        let table = screen.lines().filter(|line| line.contains("shop  "));
        let mut rows = 0;
        for line in table {
            assert!(line.trim_end().chars().count() <= width, "{width}: {line}");
            rows += 1;
        }
        assert_eq!(rows, 2, "{screen}");
        assert!(screen.contains(&first), "{width}: {screen}");
    }
}
