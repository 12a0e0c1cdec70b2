// Tests run the shell of the machine itself.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::process::Command;

use super::*;
use crate::role::tests::{catalog, ids};
use crate::yaml::{ParseLimits, parse};

fn node(text: &str) -> Node {
    parse("node.yml", text.as_bytes(), ParseLimits::default()).unwrap()
}

fn units(text: &str) -> Vec<Value> {
    process_units(&node(text)).unwrap_or_else(|problem| panic!("{problem}"))
}

fn problem(text: &str) -> String {
    process_units(&node(text)).unwrap_err().to_string()
}

#[test]
fn a_process_is_a_command_or_a_map_and_runs_count_times() {
    let found = units(
        "mail: bin/mail\nqueue: {command: bin/queue -c 5, count: 2, stop_timeout: 2m, quiet_signal: SIGTSTP, match: {a: b}}\n",
    );
    let names: Vec<&str> = found
        .iter()
        .map(|unit| unit["unit"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["mail.1", "queue.1", "queue.2"]);
    assert_eq!(found[0]["stop_timeout"], 30);
    assert_eq!(found[0]["quiet_signal"], Value::Null);
    assert_eq!(found[2]["stop_timeout"], 120);
    assert_eq!(found[2]["quiet_signal"], "TSTP");
    assert_eq!(found[2]["match"]["a"], "b");
    let script = found[2]["script"].as_str().unwrap();
    assert!(script.contains("export TRUEUP_INSTANCE='2'\n"), "{script}");
    assert!(
        script.ends_with("\nexec /usr/bin/env bin/queue -c 5"),
        "{script}"
    );
    assert_eq!(units("null"), [Value::Null; 0]);
}

#[test]
fn mistakes_in_processes_name_their_place_and_field() {
    for (text, expected) in [
        (
            "mail: {comand: x}",
            "node.yml:1:8: mail: unknown field `comand`",
        ),
        ("mail: {count: 2}", "mail: the field `command` is missing"),
        (
            "mail: {command: x, count: 0}",
            "node.yml:1:27: mail.count: 0 instances are not possible",
        ),
        ("mail: {command: x, count: 101}", "expected 1 to 100"),
        (
            "mail: {command: x, stop_timeout: 2h}",
            "mail.stop_timeout: a deployment would wait too long",
        ),
        (
            "mail: {command: x, stop_timeout: soon}",
            "mail.stop_timeout: `soon` is not a duration",
        ),
        (
            "mail: {command: x, quiet_signal: KILL}",
            "mail.quiet_signal: `KILL` is no signal",
        ),
        (
            "mail: {command: x, env: {A-B: c}}",
            "node.yml:1:26: mail.env: `A-B` is not a name of an environment variable",
        ),
        ("mail: \"  \"", "mail.command: it is not a command"),
        ("mail: \"a\\x00b\"", "mail.command: it is not a command"),
        ("mail: [x]", "mail: expected a command, or a map"),
        ("mail: null", "mail: expected a command, or a map"),
        ("Mail: x", "`Mail` is not a name"),
        ("1mail: x", "`1mail` is not a name"),
        ("\"a.b\": x", "`a.b` is not a name"),
        ("\"a:b\": x", "`a:b` is not a name"),
        (
            "procfile",
            "name the entries of the Procfile that run on this host",
        ),
        ("[x]", "expected a map of names to processes"),
    ] {
        let found = problem(text);
        assert!(found.contains(expected), "{text}: {found}");
    }
}

#[test]
fn a_simple_command_becomes_the_main_process_and_others_stay_with_their_shell() {
    for (command, is_main) in [
        ("bin/worker --queue a", true),
        ("A=1 bin/worker \"x y\"", true),
        ("exec bin/worker; true", true),
        ("procfile", false),
        ("cd sub && bin/worker", false),
        ("bin/a | bin/b", false),
        ("bin/a; bin/b", false),
        ("echo $(date)", false),
    ] {
        let mode =
            &units(&format!("w: {}", serde_json::to_string(command).unwrap()))[0]["kill_mode"];
        let expected = if is_main { "mixed" } else { "control-group" };
        assert_eq!(mode, expected, "{command}");
    }
}

/// What the script of a process prints, in a folder with this `Procfile`.
fn run(processes: &str, procfile: &str) -> (String, Option<i32>) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("Procfile"), procfile).unwrap();
    let script = units(processes)[0]["script"].as_str().unwrap().to_owned();
    let done = Command::new("/bin/sh")
        .args(["-c", &script])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = [done.stdout, done.stderr].concat();
    (String::from_utf8(text).unwrap(), done.status.code())
}

#[test]
fn a_process_gets_its_variables_whatever_is_in_them() {
    let (text, _) = run(
        "w: {command: 'printf %s,%s,%s \"$A\" \"$TRUEUP_PROCESS\" \"$TRUEUP_INSTANCE\"', env: {A: \"it's $HOME `id`\\n%n\"}}",
        "",
    );
    assert_eq!(text, "it's $HOME `id`\n%n,w,1");
}

#[test]
fn a_process_runs_as_its_entry_in_the_procfile_says() {
    for (procfile, expected, code) in [
        (
            "web: x\nw:   echo \"a  b\" $TRUEUP_PROCESS\n",
            "a  b w\n",
            0,
        ),
        ("w: echo one && echo two\n", "one\ntwo\n", 0),
        ("w: A=3 sh -c 'echo $A'", "3\n", 0),
        ("w: exec echo three\nw: echo four\n", "three\n", 0),
        (
            "ww: x\n w: x\n",
            "the Procfile of this release has no process w\n",
            78,
        ),
        (
            "w:\n",
            "the Procfile of this release has no process w\n",
            78,
        ),
    ] {
        let found = run("w: procfile", procfile);
        assert_eq!(found, (expected.to_owned(), Some(code)), "{procfile}");
    }
}

const ROLE: &str = "\
parameters: {apps: {}}
for_each: apps
defaults: {processes: {}, cron: {}, hosts: []}
resources:
  - file: {for_each: \"{{ app.processes | processes }}\", as: process, when: process.match | matches(tags=node.tags), id: \"unit-{{ process.unit }}\", path: \"/u/{{ app.name }}:{{ process.unit }}\", content: \"{{ process.script | unit_argument }}\"}
  - file: {for_each: \"{{ app.cron | cron_jobs }}\", as: job, path: \"/u/{{ app.name }}:{{ job.unit }}\", content: \"{{ job.calendar | join(sep='+') }}\"}
  - file: {for_each: \"{{ app.processes | processes }}\", as: process, path: \"/v/{{ app.name }}:{{ process.unit }}\", content: x, when: process.name == 'twice'}
  - file: {for_each: \"{{ app.cron | cron_jobs }}\", path: \"/w/{{ element.unit }}\", content: x, when: element.name == 'twice'}
  - file: {for_each: \"{{ app.hosts }}\", path: \"/h/{{ element }}\", content: x}
  - file: {for_each: {a: 1, b: 2}, as: pair, path: \"/p/{{ app.name }}-{{ pair.key }}\", content: \"{{ pair.value }}\"}
  - file: {for_each: \"{{ range(end=2) }}\", as: n, path: \"/n/{{ app.name }}-{{ n }}\", content: x}
";

#[test]
fn a_resource_is_repeated_for_each_element_of_its_list() {
    let catalog = catalog(
        ROLE,
        "tags: {cron: \"yes\"}\nattributes:\n  apps:\n    shop:\n      hosts: [one, two]\n      processes: {mail: {command: x, count: 2}, only: {command: x, match: {cron: \"no\"}}}\n      cron: {nightly: {schedule: \"@daily\", run: x}}\n",
        &[],
    )
    .unwrap();
    assert_eq!(
        ids(&catalog),
        [
            "shop/unit-mail.1",
            "shop/unit-mail.2",
            "file:/u/shop:cron:nightly",
            "file:/h/one",
            "file:/h/two",
            "file:/p/shop-a",
            "file:/p/shop-b",
            "file:/n/shop-0",
            "file:/n/shop-1",
        ]
    );
}

#[test]
fn mistakes_in_a_list_to_repeat_for_name_the_operators_line() {
    for (attributes, expected) in [
        (
            "      processes:\n        mail: {command: x, cont: 2}\n",
            "node.yml:8:28: apps.shop: processes.mail: unknown field `cont`",
        ),
        (
            "      cron:\n        nightly: {schedule: \"61 * * * *\", run: x}\n",
            "node.yml:8:29: apps.shop: cron.nightly.schedule: `61 * * * *` is no schedule: `61` is not the minute",
        ),
        (
            "      hosts: 3\n",
            "expected a list or a map to repeat the resource for, found 3",
        ),
        (
            "      processes: procfile\n",
            "node.yml:7:18: apps.shop: processes: expected a map",
        ),
    ] {
        let text = format!("attributes:\n  apps:\n    shop:\n{attributes}");
        let found = catalog(ROLE, &text, &[]).err().unwrap();
        assert_eq!(found.matches(expected).count(), 1, "{found}");
    }
}

#[test]
fn mistakes_of_a_for_each_are_reported_with_their_line() {
    for (fields, expected) in [
        ("for_each: \"{{ things }}\"", "`things` is not defined"),
        ("for_each: text", "expected a list or a map, such as"),
        (
            "for_each: [1], as: node",
            "and not `facts`, `node` or `root`",
        ),
        ("for_each: [1], as: \"a.b\"", "expected a name of letters"),
        (
            "as: one",
            "it names the element of a `for_each`, and there is none",
        ),
        (
            "for_each: [1, 2], id: same",
            "the id `same` is already taken",
        ),
    ] {
        let role = format!(
            "resources:\n  - file: {{{fields}, path: \"/x/{{{{ element | default(value=0) }}}}\", content: x}}\n"
        );
        let found = catalog(&role, "", &[]).err().unwrap_or_default();
        assert!(found.contains(expected), "{fields}: {found}");
        assert!(found.contains("roles/web.yml:2:"), "{found}");
    }
}
