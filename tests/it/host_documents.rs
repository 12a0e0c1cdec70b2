//! The documents of `--json` of commands about one host, its policy bundles and its secrets, against docs/json.md.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::app::{App, GOOD};
use crate::gate::ROLE;
use crate::json_docs::JsonDocs;
use crate::sandbox::{MANIFEST, Ran, Sandbox};
use crate::secret_command;

/// Compares documents with the page.
struct Comparison {
    docs: JsonDocs,
    different: Vec<String>,
}

impl Comparison {
    fn new() -> Comparison {
        Comparison {
            docs: JsonDocs::read(),
            different: Vec::new(),
        }
    }

    /// Compares what a command printed. `parts` name what the document has to have, `*` for any item of a list, so that the
    /// page is compared with more than empty lists.
    fn add(&mut self, section: &str, ran: &Ran, parts: &[&str]) -> Value {
        let document = ran.json();
        assert_eq!(document["version"], 1, "{section}: {ran}");
        let is_error = document.get("errors").is_some() && document.get("roles").is_none();
        assert_eq!(is_error, section == "An error", "{section}: {ran}");
        for part in parts {
            let path: Vec<&str> = part.split('/').skip(1).collect();
            assert!(has(&document, &path), "{section}: no {part}: {ran}");
        }
        let differences = self.docs.differences(section, &document);
        self.different.extend(differences);
        document
    }

    fn assert_equal(self) {
        assert!(self.different.is_empty(), "{}", self.different.join("\n"));
    }
}

/// Whether there is a value other than `null` at this path.
fn has(value: &Value, path: &[&str]) -> bool {
    match path {
        [] => !value.is_null(),
        ["*", rest @ ..] => value
            .as_array()
            .is_some_and(|list| list.iter().any(|item| has(item, rest))),
        [name, rest @ ..] => value.get(name).is_some_and(|value| has(value, rest)),
    }
}

/// Runs a command for its document.
fn run(sandbox: &Sandbox, words: &[&str]) -> Ran {
    sandbox.run(&[words, &["--json"]].concat())
}

/// The manifest of an app.
fn publish(app: &App, generation: u64, sha: &str, more: &str) {
    app.sandbox.manifest(format!(
        "production:\n  _settings: {{generation: {generation}}}\n  shop: {{sha: {sha}, ref: main, by: ana{more}}}\n"
    ));
}

#[test]
fn documents_about_passes_and_releases_are_as_the_page_promises() {
    let mut all = Comparison::new();
    let app = App::new(ROLE);
    let host = &app.sandbox;
    all.add("`trueup releases list`", &run(host, &["releases"]), &[]);
    let one = app.publish_commit(GOOD, "200", "page one");
    publish(&app, 7, &one, "");
    let planned = [
        "/generation",
        "/apps/*/reference",
        "/resources/*/change/fields/*/to",
    ];
    all.add("report", &run(host, &["plan"]), &planned);
    let done = ["/resources/*/change", "/counts/changed"];
    all.add("report", &run(host, &["converge"]), &done);
    let healthy = ["/last_pass/good", "/apps/*/serving/health/ok"];
    all.add("`trueup status`", &run(host, &["status"]), &healthy);

    let two = app.publish_commit(GOOD, "500", "page two");
    publish(&app, 8, &two, "");
    let failed = ["/apps/*/why", "/resources/*/why", "/resources/*/change"];
    all.add("report", &run(host, &["converge"]), &failed);
    let quarantined = [
        "/why",
        "/failures/*/why",
        "/last_pass/why",
        "/apps/*/quarantine/*/why",
    ];
    all.add("`trueup status`", &run(host, &["status"]), &quarantined);
    let three = app.publish_commit("exec python3 web.py $1 # three", "200", "page three");
    publish(&app, 9, &three, "");
    let restarted = ["/counts/restarted", "/resources/*/paid/*/causes/*"];
    all.add("report", &run(host, &["converge"]), &restarted);

    let listed = [
        "/apps/*/quarantine/*/release",
        "/apps/*/releases/*/ref",
        "/apps/*/releases/*/size/shared",
        "/apps/*/releases/*/why",
    ];
    let list = all.add("`trueup releases list`", &run(host, &["releases"]), &listed);
    let name = |n: usize| {
        let release = &list["apps"][0]["releases"][n]["release"];
        release.as_str().unwrap().to_owned()
    };
    let release = ["history", "--release", &name(0)];
    let stages = ["/ref", "/by", "/stages/*/took_ms"];
    all.add("`trueup history --release`", &run(host, &release), &stages);
    let bad = ["history", "--release", &name(2)];
    all.add("`trueup history --release`", &run(host, &bad), &["/why"]);
    let built = run(host, &["releases", "build", "shop", "--sha", &two]);
    all.add("`trueup releases build`", &built, &[]);
    let clean = ["releases", "clean", "--all-failed", "--dry-run"];
    let removed = ["/apps/*/removed/*/size/own"];
    all.add("`trueup releases clean`", &run(host, &clean), &removed);
    all.add("`trueup releases clean`", &run(host, &clean[..3]), &removed);

    let rollback = "`trueup rollback APP`, `releases activate`";
    let back = ["rollback", "shop", "--reason", "orders fail", "--by", "ana"];
    let pinned = ["/pin/reason", "/pin/instead_of", "/migrations", "/release"];
    all.add(rollback, &run(host, &back), &pinned);
    all.add(
        "`trueup status`",
        &run(host, &["status"]),
        &["/apps/*/pin/reason"],
    );
    all.add(
        "`trueup releases list`",
        &run(host, &["releases"]),
        &["/apps/*/pin/by"],
    );
    let activate = ["releases", "activate", "shop", &name(0)];
    all.add(rollback, &run(host, &activate), &["/report/apps/*/actual"]);
    all.add(rollback, &run(host, &["rollback", "shop", "--unpin"]), &[]);
    publish(&app, 10, &one, ", hold: {reason: audit, by: ana}");
    let held = ["/apps/*/held", "/resources/*/change"];
    all.add("report", &run(host, &["plan"]), &held);

    app.sandbox.manifest("production: [\n");
    all.add("report", &run(host, &["converge"]), &["/refused"]);
    std::fs::remove_dir_all(&host.store).unwrap();
    all.add("report", &run(host, &["converge"]), &["/stale/why"]);
    all.add("`trueup status`", &run(host, &["status"]), &["/stale"]);
    let passes = ["/passes/*/outcome", "/passes/*/resources/*/id"];
    all.add("`trueup history`", &run(host, &["history"]), &passes);
    all.assert_equal();
}

/// A second service of the app, and a site that has a maintenance page.
const WORKER: &str = r#"  - file: {path: /etc/site.conf, content: 'if (-f {{ root }}/var/lib/trueup/maintenance/shop.json) {'}
  - file: {path: /etc/systemd/system/worker.service, content: "[Service]\nExecStart=/bin/sh -c 'echo begun; exec sleep 1000'\n"}
  - service: {name: worker, running: true, restart_on: [code]}
"#;

#[test]
fn documents_about_the_services_of_an_app_are_as_the_page_promises() {
    let mut all = Comparison::new();
    let app = App::new(&format!("{ROLE}{WORKER}"));
    let host = &app.sandbox;
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let processes = ["/release", "/services/*/processes/*/release"];
    all.add("`trueup ps`", &run(host, &["ps", "shop"]), &processes);
    let restarted = ["/serves", "/services/*/result"];
    all.add(
        "`trueup restart`",
        &run(host, &["restart", "shop"]),
        &restarted,
    );
    let logs = run(host, &["logs", "shop", "-n", "1"]);
    all.add("`trueup logs`", &logs, &["/line"]);
    let maintenance = "`trueup maintenance`";
    let on = [
        "maintenance",
        "shop",
        "on",
        "--for",
        "1h",
        "--drain",
        "--reason",
        "disks",
    ];
    let limited = ["/apps/*/maintenance/until", "/apps/*/maintenance/reason"];
    all.add(maintenance, &run(host, &on), &limited);
    all.add(
        "report",
        &run(host, &["converge"]),
        &["/apps/*/maintenance"],
    );
    all.add(
        "`trueup status`",
        &run(host, &["status"]),
        &["/apps/*/maintenance"],
    );
    host.write("/var/lib/trueup/maintenance/shop.json", "{");
    all.add(maintenance, &run(host, &["maintenance"]), &["/apps/*/why"]);
    all.add(
        maintenance,
        &run(host, &["maintenance", "shop", "off"]),
        &["/apps/*/described"],
    );
    host.write("/srv/shop/current/status", "500");
    let unhealthy = run(host, &["restart", "shop"]);
    all.add("`trueup restart`", &unhealthy, &["/why"]);
    all.add(
        "`trueup status`",
        &run(host, &["status"]),
        &["/apps/*/serving/health/why"],
    );
    all.assert_equal();
}

#[test]
fn documents_of_a_host_without_apps_are_as_the_page_promises() {
    let mut all = Comparison::new();
    let host = Sandbox::of("  - file: {path: /etc/motd, content: \"{{ color }}\"}\n");
    let role = host.read("/etc/trueup/roles/app.yml");
    host.role(&format!(
        "description: Says a color.\nparameters:\n  # Which color.\n  color: red\nschema: {{color: {{type: text, one_of: [red, blue]}}}}\n{role}"
    ));
    let host = &host;
    let counted = ["/resources", "/roles/*"];
    all.add("`trueup validate`", &run(host, &["validate"]), &counted);
    all.add("`trueup facts`", &run(host, &["facts"]), &["/facts/os"]);
    all.add(
        "`trueup doctor`",
        &run(host, &["doctor"]),
        &["/checks/*/about"],
    );
    host.write(
        "/etc/trueup/node.d/color.yml",
        "attributes: {color: blue}\n",
    );
    let explained = run(host, &["plan", "--explain", "color"]);
    let layers = ["/layers/*/at/line", "/layers/*/value"];
    all.add("`trueup plan --explain`", &explained, &layers);
    let listed = ["/roles/*/description"];
    all.add("`trueup roles list`", &run(host, &["roles"]), &listed);
    let shown = run(host, &["roles", "show", "app"]);
    all.add("`trueup roles show`", &shown, &["/parameters/*/one_of/*"]);
    let program = host.at("/usr/local/bin/page");
    host.write("/usr/local/bin/page", "#!/bin/sh\necho paged\n");
    std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
    host.write(
        "/etc/trueup/node.d/notify.yml",
        "notify: {channels: {ops: {command: [/usr/local/bin/page]}}}\n",
    );
    let sent = run(host, &["notify", "test", "ops"]);
    all.add("`trueup notify test`", &sent, &["/answer"]);
    host.role("nonsense: true\n");
    let listed = ["/errors/*/at/line"];
    all.add("`trueup roles list`", &run(host, &["roles"]), &listed);
    all.add("An error", &run(host, &["plan"]), &listed);
    all.assert_equal();
}

#[test]
fn status_during_a_pass_is_as_the_page_promises() {
    let mut all = Comparison::new();
    let host = Sandbox::of(
        "  - directory: {path: /srv}\n  - command: {id: slow, run: \"touch begun; until test -e go; do sleep 0.02; done; touch slow\", cwd: /srv, creates: /srv/slow, timeout: 60s}\n",
    );
    let mut command = host.command(&["converge"]);
    command.stdout(std::process::Stdio::null());
    let mut pass = command.spawn().unwrap();
    assert!(crate::processes::wait_until(|| host
        .at("/srv/begun")
        .exists()));
    let ran = run(&host, &["status"]);
    host.write("/srv/go", "");
    assert!(pass.wait().unwrap().success());
    all.add("`trueup status`", &ran, &["/running/doing", "/running/by"]);
    all.assert_equal();
}

#[test]
fn documents_of_init_and_of_the_shipped_role_are_as_the_page_promises() {
    let mut all = Comparison::new();
    let host = Sandbox::empty();
    let (store, share) = (host.fill("dir:@STORE@"), env!("CARGO_MANIFEST_DIR"));
    let settings = std::fs::read_to_string(format!("{share}/packaging/node.yml")).unwrap();
    host.write("/etc/trueup/node.yml", &settings);
    let init = [
        "init",
        "--env",
        "production",
        "--role",
        "app",
        "--store",
        &store,
    ];
    for (repo, part) in [
        ("/nowhere.git", "/checks/*"),
        ("@ROOT@/repo.git", "/written/*"),
    ] {
        let repo = host.fill(repo);
        let mut git = std::process::Command::new("git");
        crate::sandbox::isolated(&mut git);
        let made = git.args(["init", "-q", "--bare"]).arg(host.at("/repo.git"));
        assert!(made.status().unwrap().success());
        let app = format!("shop={repo}");
        let more = ["--app", &app, "--set", "apps.shop.port=3000", "--json"];
        let mut command = host.command(&[&init[..], &more].concat());
        command.env("TRUEUP_SHARE", share);
        all.add("`trueup init`", &host.run_command(command), &[part]);
    }
    let mut command = host.command(&["roles", "show", "app", "--json"]);
    command.env("TRUEUP_SHARE", share);
    let parts = ["/items/settings/*/name", "/included/*/parameters/*/type"];
    let ran = host.run_command(command);
    all.add("`trueup roles show`", &ran, &parts);
    all.assert_equal();
}

#[test]
fn documents_about_secrets_are_as_the_page_promises() {
    const CHANGE: &str = "`trueup secret set`, `edit`, `remove`, `rekey`";
    let mut all = Comparison::new();
    let host = secret_command::host("web1", "web1", None);
    host.manifest(MANIFEST);
    let run = |words: &[&str]| {
        let value = secret_command::CANARY;
        secret_command::succeeds(&host, &[words, &["--json"]].concat(), value)
    };
    let written = ["/generation", "/digest"];
    all.add(CHANGE, &run(&["set", "production", "db"]), &written);
    secret_command::converge(&host, 1);
    let web1 = secret_command::fingerprint("web1");
    let rekey = ["rekey", "production", "--accept", &web1];
    let keys = ["/generation", "/recipients/*"];
    all.add(CHANGE, &run(&rekey), &keys);
    let unchanged = all.add(CHANGE, &run(&rekey), &keys[1..]);
    assert!(unchanged["generation"].is_null(), "{unchanged}");
    host.write("/editor", "#!/bin/sh\necho another > \"$1\"\n");
    let editor = host.at("/editor");
    std::fs::set_permissions(&editor, PermissionsExt::from_mode(0o755)).unwrap();
    for (editor, parts) in [
        ("true", &["/name"][..]),
        (editor.to_str().unwrap(), &written),
    ] {
        let mut command = host.command(&["secret", "edit", "production", "db", "--json"]);
        command.env("TRUEUP_IDENTITY", host.at("/operator/key"));
        command.env("EDITOR", editor);
        all.add(CHANGE, &host.run_command(command), parts);
    }
    let listed = run(&["list", "production"]);
    all.add("`trueup secret list`", &listed, &["/secrets/*/since"]);
    all.add(CHANGE, &run(&["remove", "production", "db"]), &["/name"]);
    all.assert_equal();
}

#[test]
fn documents_about_policy_bundles_are_as_the_page_promises() {
    let mut all = Comparison::new();
    let host = Sandbox::empty();
    let settings =
        "environment: production\nroles: [app]\nstore: {url: \"dir:@STORE@\"}\nsigners: signers\n";
    host.write("/etc/trueup/node.yml", settings);
    host.manifest(MANIFEST);
    // The role of the package, until there is a bundle.
    let packaged = host.sibling("share/roles");
    std::fs::create_dir_all(&packaged).unwrap();
    std::fs::write(packaged.join("app.yml"), "resources: []\n").unwrap();
    let key = secret_command::key(&host, "web1", "/root/deploy_key");
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    let signers = format!("ci namespaces=\"trueup@production\" {public}");
    host.write("/etc/trueup/signers", &signers);
    let role = "parameters: {color: none}\nresources:\n  - file: {path: /app, content: \"x {{ color }}\"}\n";
    host.write("/policy/roles/app.yml", role);
    let (folder, key) = (host.at("/policy"), key.display().to_string());
    let folder = folder.to_str().unwrap();
    let store = host.fill("dir:@STORE@");
    let at =
        |words: &[&str], more: &[&str]| run(&host, &[words, &["--store", &store], more].concat());
    let signed = |words: &[&str]| at(words, &["--sign", &key, "--trust-current"]);
    let push = ["policy", "push", "production", folder];
    let dry = signed(&[&push[..], &["--dry-run"]].concat());
    all.add("`trueup policy push`", &dry, &["/files/*", "/digest"]);
    all.add("`trueup policy push`", &signed(&push), &["/generation"]);
    host.write("/policy/environments/production.yml", "color: blue\n");
    let again = all.add("`trueup policy push`", &signed(&push), &["/previous"]);
    let unsigned = at(&["policy", "push", "production", folder, "--dry-run"], &[]);
    all.add("`trueup policy push`", &unsigned, &["/warnings/*/hint"]);
    let list = at(&["policy", "list", "production"], &[]);
    let bundles = ["/bundles/*/since", "/bundles/*/role"];
    all.add("`trueup policy list`", &list, &bundles);
    let show = ["policy", "show", "production"];
    all.add("`trueup policy show`", &at(&show, &[]), &["/files/*/size"]);
    let one_file = at(&show, &["--file", "roles/app.yml"]);
    all.add("`trueup policy show`", &one_file, &["/files/*/content"]);
    host.write("/policy/roles/app.yml", &role.replace("x {{", "y {{"));
    let node = host.at("/etc/trueup/node.yml");
    let test = ["policy", "test", folder, "--as", node.to_str().unwrap()];
    let changes = ["/hosts/*/changes/*/after", "/hosts/*/changes/*/before"];
    all.add("`trueup policy test`", &run(&host, &test), &changes);
    let pass = all.add("report", &run(&host, &["converge"]), &["/policy/wanted"]);
    assert_eq!(pass["policy"]["wanted"], again["digest"], "{pass}");
    let status = run(&host, &["status"]);
    all.add("`trueup status`", &status, &["/policy/in_force"]);
    let back = signed(&["rollback", "production", "--policy", "--yes"]);
    all.add(
        "`trueup promote`, `rollback ENV APP`, `hold`, `unhold`, `note`, `now`",
        &back,
        &["/generation"],
    );
    all.assert_equal();
}

#[test]
fn documents_about_a_pair_of_balancers_are_as_the_page_promises() {
    const BALANCER: &str = "`trueup balancer status`, `drain`, `undrain`";
    let mut all = Comparison::new();
    let host = Sandbox::empty();
    host.write(
        "/etc/keepalived/keepalived.conf",
        "vrrp_script haproxy {\n script \"trueup balancer check --socket /run/none.sock --url http://127.0.0.1:1/\"\n}\nvrrp_instance web {\n unicast_peer {\n 127.0.0.2\n }\n virtual_ipaddress {\n 127.0.0.1/8\n }\n}\n",
    );
    let status = || run(&host, &["balancer", "status"]);
    let unknown = ["/haproxy_failure", "/instances/*/addresses/*/here"];
    all.add(BALANCER, &status(), &unknown);
    let master = host.run(&["balancer", "state", "web", "master"]);
    assert_eq!(master.code, 0, "{master}");
    let drain = "/var/lib/trueup/balancer/drain.json";
    let drained = r#"{"version":1,"by":"ana","since":"2026-11-30T13:04:11Z","reason":"disks"}"#;
    host.write(drain, drained);
    let parts = [
        "/drain/reason",
        "/instances/*/since",
        "/instances/*/peers/*",
    ];
    all.add(BALANCER, &status(), &parts);
    host.write(drain, "{");
    all.add(BALANCER, &status(), &["/drain_error"]);
    host.write(drain, drained);
    host.write("/etc/keepalived/keepalived.conf", "");
    let ended = run(&host, &["balancer", "undrain"]);
    all.add(BALANCER, &ended, &["/outcome"]);
    assert!(!host.at(drain).exists(), "{ended}");
    all.assert_equal();
}
