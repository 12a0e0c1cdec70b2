//! Hosts that share a store and find each other in it.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::app::{App, GOOD};
use crate::gate::ROLE;
use crate::processes::wait_until;
use crate::sandbox::Sandbox;

const PEERS: &str = "resources:\n\
    - template: {path: /peers, source: peers}\n\
    - file: {when: nodes(role='app') | length > 1, path: /many, content: x}\n";
const TEMPLATE: &str = "{% for n in nodes(role='app', port='http') %}{{ n.name }} {{ n.address }}:{{ n.ports.http }} {{ n.tags.zone }}\n{% endfor %}";

/// A host with few resources that publishes its address.
fn host(store: &Path, name: &str, address: &str) -> Sandbox {
    let host = Sandbox::empty();
    host.write(
        "/etc/trueup/node.yml",
        &format!(
            "environment: production\nroles: [app]\nnode: {name}\ntags: {{zone: a}}\nstore: {{url: \"dir:{}\"}}\nfleet: {{addresses: [{address}]}}\n",
            store.display()
        ),
    );
    host.role("ports: {http: 80, https: \"\"}\nresources: []\n");
    host
}

/// A host with its own store, whose template calls `nodes()`.
fn load_balancer() -> Sandbox {
    let host = Sandbox::empty();
    host.write(
        "/etc/trueup/node.yml",
        "environment: production\nroles: [lb]\nnode: lb\nstore: {url: \"dir:@STORE@\"}\n",
    );
    host.write("/etc/trueup/roles/lb.yml", PEERS);
    host.template("peers", TEMPLATE);
    host.manifest(crate::sandbox::MANIFEST);
    host
}

fn records(store: &Path) -> Vec<String> {
    let listed = fs::read_dir(store.join("nodes/production"));
    let mut names: Vec<String> = listed
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn hosts_of_one_store_find_each_other_and_a_plan_publishes_nothing() {
    let lb = load_balancer();
    let web1 = host(&lb.store, "web1", "10.0.0.1");
    let plan = web1.run(&["plan"]);
    assert_eq!(plan.code, 0, "{plan}");
    assert!(records(&lb.store).is_empty(), "a plan wrote into the store");
    web1.converged();
    assert_eq!(records(&lb.store), ["web1.json"]);
    let plan = lb.run(&["plan"]);
    assert!(plan.to_string().contains("web1 10.0.0.1:80 a"), "{plan}");
    assert_eq!(fs::read_dir(lb.at("/var")).map_or(0, Iterator::count), 0);
    lb.converged();
    assert_eq!(lb.read("/peers"), "web1 10.0.0.1:80 a\n");
    assert_eq!(lb.read("/many"), "");
    lb.assert_converged(&[]);
    host(&lb.store, "web2", "\"2001:db8::2\"").converged();
    lb.converged();
    let both = "web1 10.0.0.1:80 a\nweb2 2001:db8::2:80 a\n";
    assert_eq!(
        (lb.read("/peers").as_str(), lb.read("/many").as_str()),
        (both, "x")
    );
    lb.assert_converged(&[]);

    // Deleted by hand: the last good list stays in use, and every command reports it.
    let (before, after) = (lb.store.join("nodes"), lb.store.join("away"));
    fs::rename(&before, &after).unwrap();
    for command in ["converge", "plan", "status"] {
        let ran = lb.run(&[command]);
        assert_eq!(ran.code, 5, "{command}: {ran}");
        assert!(
            ran.to_string()
                .contains("keeping the last good list (web1, web2)"),
            "{command}: {ran}"
        );
    }
    let ran = lb.run(&["converge", "--json"]);
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        report["kept_lists"].as_array().unwrap().len(),
        2,
        "one for each question"
    );
    assert_eq!(lb.read("/peers"), both);
    lb.pass_writes_nothing(&[], 5);
    let validated = lb.run(&["validate"]);
    assert_eq!(validated.code, 0, "{validated}");
    let accepted = lb.run(&["plan", "--accept-shrink"]);
    assert_eq!(accepted.code, 2, "{accepted}");
    assert_eq!(lb.run(&["converge"]).code, 5, "a plan accepts nothing");
    assert_eq!(lb.run(&["converge", "--accept-shrink"]).code, 0);
    assert_eq!(lb.read("/peers"), "");
    lb.converged();
}

#[test]
fn unreachable_store_keeps_the_last_good_list_and_changes_nothing_without_one() {
    let lb = load_balancer();
    host(&lb.store, "web1", "10.0.0.1").converged();
    lb.converged();
    let away = lb.store.with_extension("away");
    fs::rename(&lb.store, &away).unwrap();
    let ran = lb.converge();
    assert_eq!(ran.code, 5, "{ran}");
    assert_eq!(lb.read("/peers"), "web1 10.0.0.1:80 a\n");
    fs::remove_file(lb.at("/var/lib/trueup/fleet.json")).unwrap();
    fs::remove_file(lb.at("/peers")).unwrap();
    let ran = lb.converge();
    assert_eq!(ran.code, 1, "{ran}");
    assert!(
        ran.to_string().contains("no list of its peers yet"),
        "{ran}"
    );
    assert!(!lb.at("/peers").exists(), "nothing was changed");
    fs::rename(&away, &lb.store).unwrap();
    lb.converged();
    assert_eq!(lb.read("/peers"), "web1 10.0.0.1:80 a\n");
}

#[test]
fn invalid_nodes_query_names_its_place_and_changes_nothing() {
    for (template, expected) in [
        ("\n{{ nodes(rolle='app') }}", "nodes(…) has no `rolle`"),
        ("\n{{ nodes(role=1) }}", "expected a text for `role`"),
        ("\n{{ nodes(tag=[1]) }}", "expected texts such as `zone=a`"),
    ] {
        let lb = load_balancer();
        lb.template("peers", template);
        let ran = lb.converge();
        assert_eq!(ran.code, 78, "{ran}");
        let message = ran.to_string();
        assert!(
            message.contains(expected) && message.contains("templates/peers"),
            "{template}: {message}"
        );
        assert!(!lb.at("/peers").exists());
    }
}

#[test]
fn node_list_can_be_a_parameter_value() {
    let lb = load_balancer();
    host(&lb.store, "web1", "10.0.0.1").converged();
    lb.write(
        "/etc/trueup/roles/lb.yml",
        "parameters: {peers: \"{{ nodes(tag='zone=a') }}\"}\nresources:\n  - file: {path: /first, content: \"{{ peers | length }} {{ peers[0].name }}\"}\n",
    );
    lb.converged();
    assert_eq!(lb.read("/first"), "1 web1");
}

#[test]
fn fleet_needs_only_the_store_and_runs_on_any_host() {
    let lb = load_balancer();
    host(&lb.store, "web1", "10.0.0.1").converged();
    lb.converged();
    let store = format!("dir:{}", lb.store.display());
    let outside = Sandbox::empty();
    let fleet = |more: &[&str]| {
        outside.run(&[&["fleet", "--store", &store, "--env", "production"], more].concat())
    };
    let ran = fleet(&["--json"]);
    let shown: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        (ran.code, &shown["outcome"], &shown["version"]),
        (0, &json!("converged"), &json!(1))
    );
    let nodes: Vec<&str> = shown["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n["node"].as_str().unwrap())
        .collect();
    assert_eq!(nodes, ["lb", "web1"]);
    assert_eq!(shown["nodes"][1]["addresses"], json!(["10.0.0.1"]));
    assert_eq!(shown["nodes"][1]["ports"], json!({"http": 80}));

    // A failed node, and an invalid record.
    let key = lb.store.join("nodes/production/web1.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&key).unwrap()).unwrap();
    record["apps"] = json!({"other": {"wanted": "4f2c9d0e1b3a5c7d9e0f1a2b3c4d5e6f70819203", "actual": null, "state": "absent", "why": "other/code: no disk"}});
    record["last_pass"] =
        json!({"at": "2026-11-21T03:00:00Z", "outcome": "failed", "why": "other/code: no disk"});
    fs::write(&key, record.to_string()).unwrap();
    fs::write(lb.store.join("nodes/production/web9.json"), "{").unwrap();
    let ran = fleet(&[]);
    assert_eq!(ran.code, 1, "{ran}");
    let lines: Vec<&str> = ran.out.lines().collect();
    assert!(
        lines[2].starts_with("web1  other  4f2c9d0  -       -      "),
        "{ran}"
    );
    assert!(lines[2].ends_with("failed: other/code: no disk"), "{ran}");
    assert!(
        lines[3].starts_with("warning: nodes/production/web9.json: it is not a record"),
        "{ran}"
    );
    assert!(!ran.out.contains('\x1b'), "plain in a pipe");
    let typo = fleet(&["--app", "othre"]);
    assert_eq!(typo.code, 1, "{typo}");
    assert!(
        typo.out
            .contains("no node of production runs `othre`; what they run: other"),
        "{typo}"
    );
    let typo = outside.run(&["fleet", "--store", &store, "--env", "prodcution"]);
    assert_eq!(typo.code, 1, "{typo}");
    assert!(
        typo.out
            .contains("no node of `prodcution` has reported; the manifest names production"),
        "{typo}"
    );

    let lives = fleet(&["--forget", "web1"]);
    assert_eq!(lives.code, 64, "{lives}");
    assert!(lives.to_string().contains("--forget web1 --yes"), "{lives}");
    let forgotten = fleet(&["--forget", "web1", "--yes"]);
    assert_eq!(forgotten.code, 0, "{forgotten}");
    assert!(forgotten.out.contains("next heartbeat"), "{forgotten}");
    assert_eq!(records(&lb.store), ["lb.json", "web9.json"]);
    assert_eq!(fleet(&["--forget", "web1"]).code, 64);
    assert_eq!(outside.run(&["fleet"]).code, 78);
    assert_eq!(
        outside.run(&["fleet", "--store", &store]).code,
        64,
        "no environment given"
    );
}

#[test]
fn fleet_shows_a_release_that_a_host_deploys_tries_and_takes_back() {
    let wait = "      steps: [{name: wait, run: 'until test -e $SHARED_PATH/go; do sleep 0.02; done'}]\n      hooks:\n";
    let app = App::new(&ROLE.replace("      hooks:\n", wait));
    let good = app.publish_commit(GOOD, "200", "page one");
    app.sandbox.write("/srv/shop/shared/go", "");
    app.converge(0);
    fs::remove_file(app.sandbox.at("/srv/shop/shared/go")).unwrap();
    let bad = app.publish_commit(GOOD, "500", "page two");
    let shop = || app.sandbox.run(&["fleet", "--json"]).json()["nodes"][0]["apps"][0].clone();
    let mut command = app.sandbox.command(&["converge"]);
    let mut pass = command.stdout(Stdio::null()).spawn().unwrap();
    let why_contains = |text: &str| {
        wait_until(|| {
            let row = shop();
            let why = row["why"].as_str().unwrap_or_default();
            why.contains(text)
        })
    };
    assert!(why_contains("deploying since "), "{}", shop());
    let row = shop();
    assert_eq!(
        [&row["actual"], &row["wanted"], &row["outcome"]],
        [good.as_str(), bad.as_str(), "pending"]
    );
    app.sandbox.write("/srv/shop/shared/go", "");
    assert!(wait_until(|| shop()["state"] == "on-trial"), "{}", shop());
    assert!(
        wait_until(|| shop()["outcome"] == "rolled-back"),
        "{}",
        shop()
    );
    assert!(why_contains("failed: "), "{}", shop());
    assert_eq!(pass.wait().unwrap().code(), Some(4));
    let row = shop();
    assert_eq!([&row["actual"], &row["state"]], [good.as_str(), "serving"]);
}

#[test]
fn release_that_stays_on_trial_is_published_once_not_in_each_pass() {
    use std::os::unix::fs::MetadataExt;
    let app = App::new(ROLE);
    app.publish_commit(GOOD, "500", "page one");
    let record = || {
        let folder = app.sandbox.store.join("nodes/production");
        let path = fs::read_dir(folder)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        (
            fs::metadata(&path).unwrap().ino(),
            fs::read_to_string(path).unwrap(),
        )
    };
    app.converge(1);
    // The first pass had no record to write over.
    app.converge(1);
    let before = record();
    assert!(before.1.contains("on-trial"), "{}", before.1);
    app.converge(1);
    assert_eq!(record(), before);
}
