//! What an operator does with releases at a host: looks, builds, goes back, runs something in them.

use serde_json::Value;

use crate::app::{App, GOOD};
use crate::gate::ROLE;

fn releases(app: &App) -> Vec<Value> {
    let ran = app.sandbox.run(&["releases", "--json"]);
    assert_eq!(ran.code, 0, "{ran}");
    let apps = ran.json()["apps"].clone();
    assert_eq!(apps[0]["app"], "shop");
    apps[0]["releases"].as_array().unwrap().clone()
}

/// The names of all releases, the newest first.
fn names(app: &App) -> Vec<String> {
    let name = |release: &Value| release["release"].as_str().unwrap().to_owned();
    releases(app).iter().map(name).collect()
}

fn states(app: &App) -> Vec<String> {
    let state = |release: &Value| release["state"].as_str().unwrap().to_owned();
    releases(app).iter().map(state).collect()
}

#[test]
fn the_list_says_how_each_release_stands_and_how_much_room_it_takes() {
    let app = App::new(ROLE);
    let empty = app.sandbox.run(&["releases"]);
    assert_eq!(empty.code, 0, "{empty}");
    assert_eq!(empty.out, "shop: there is no release yet\n");
    app.want(GOOD, "200", "page one");
    app.converge(0);
    let bad = app.want(GOOD, "500", "page two");
    app.converge(4);
    app.want("exec python3 web.py $1 # three", "200", "page three");
    app.converge(0);
    assert_eq!(states(&app), ["active", "good", "bad"]);
    let list = releases(&app);
    assert!(list[0]["size"]["own"].as_u64().unwrap() > 1000, "{list:?}");
    assert_eq!(list[2]["sha"], bad.as_str());
    assert!(list[2]["why"].as_str().unwrap().contains("answered 500"));
    let text = app.sandbox.run(&["releases"]).out;
    let head: Vec<&str> = text.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(&head[..4], ["APP", "RELEASE", "STATE", "SHA"]);
    assert!(
        text.contains(&format!("quarantined shop: {}", &bad[..7])),
        "{text}"
    );
    let other = app.sandbox.run(&["releases", "--app", "shpo"]);
    assert_eq!(other.code, 64, "{other}");
    assert!(other.err.contains("did you mean `shop`?"), "{other}");
}

#[test]
fn the_history_of_a_release_tells_every_stage_and_the_end_of_what_failed() {
    let steps = "      steps: [{name: gems, run: \"seq 1 100\"}, {name: flaky, run: 'cat page; seq 1 100; exit $(cat status)'}]\n";
    let app = App::new(&ROLE.replace("      hooks:\n", &format!("{steps}      hooks:\n")));
    app.want(GOOD, "3", "page one");
    app.converge(1);
    let name = names(&app).remove(0);
    let ran = app.sandbox.run(&["history", "--release", &name]);
    assert_eq!(ran.code, 0, "{ran}");
    let lines: Vec<&str> = ran.out.lines().map(str::trim).collect();
    let at = |start: &str| lines.iter().position(|line| line.starts_with(start));
    let (gems, flaky) = (at("build gems").unwrap(), at("build flaky").unwrap());
    assert_eq!(&lines[gems + 1..flaky], ["| 98", "| 99", "| 100"], "{ran}");
    assert_eq!(
        lines[flaky + 1..]
            .iter()
            .filter(|l| l.starts_with("| "))
            .count(),
        20
    );
    assert!(lines[flaky].contains("failed"), "{ran}");
    assert!(at("fetch").is_some() && at("link").is_some(), "{ran}");
    let json = app
        .sandbox
        .run(&["history", "--release", &name, "--json"])
        .json();
    assert_eq!(
        (&json["app"], &json["version"]),
        (&"shop".into(), &1.into())
    );
    let stages = json["stages"].as_array().unwrap();
    let last = stages.last().unwrap();
    assert_eq!(
        (&last["step"], &last["ended"]),
        (&"flaky".into(), &"failed".into())
    );
    assert_eq!(last["output"][19], "100");
    let unknown = app
        .sandbox
        .run(&["history", "--release", &name[..name.len() - 1]]);
    assert_eq!(unknown.code, 64, "{unknown}");
    assert!(
        unknown.err.contains(&format!("did you mean `{name}`?")),
        "{unknown}"
    );
}
