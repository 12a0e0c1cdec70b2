//! The shipped roles, as they are used: with the few attributes that an app needs.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::privilege::is_root;
use crate::sandbox::{Ran, Sandbox, isolated};

/// A host with the shipped roles and these settings.
pub(crate) fn host(roles: &str, attributes: &str) -> Sandbox {
    let host = Sandbox::empty();
    let attributes = attributes.replace("@REPO@", &host.sibling("repo").display().to_string());
    host.write(
        "/etc/trueup/node.yml",
        &format!(
            "environment: production\nroles: [{roles}]\nstore: {{url: \"dir:@STORE@\"}}\nattributes:\n{attributes}"
        ),
    );
    host.manifest(crate::sandbox::MANIFEST);
    host.write("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\n");
    host.write("/etc/group", "root:x:0:\n");
    host
}

pub(crate) fn run(host: &Sandbox, args: &[&str]) -> Ran {
    let mut command = host.command(args);
    command.env("TRUEUP_SHARE", env!("CARGO_MANIFEST_DIR"));
    host.run_command(command)
}

#[test]
fn every_shipped_role_needs_few_attributes_for_a_plain_app() {
    for (roles, attributes) in [
        ("base", "  deploy_user: deploy\n"),
        (
            "datadog",
            "  datadog_http_checks:\n    a: {url: \"http://127.0.0.1/\"}\n",
        ),
        ("app", "  apps:\n    a: {repo: /a.git, port: 3000}\n"),
        (
            "python",
            "  python_apps:\n    a: {repo: /a.git, port: 8000, app_module: a.wsgi}\n",
        ),
        (
            "python",
            "  python_apps:\n    a: {repo: /a.git, port: 8000, app_module: \"a:app\", server: uvicorn, manager: systemd}\n",
        ),
        (
            "web",
            "  web_apps:\n    a: {repo: /a.git, port: 4000, command: node a.js}\n    files: {repo: /b.git}\n",
        ),
        (
            "web",
            "  web_apps:\n    a: {repo: /a.git, port: 4000, command: \"./a $fd\", socket: true, manager: supervisor}\n",
        ),
        ("haproxy", "  backends:\n    a: {hosts: [a.example]}\n"),
        (
            "haproxy, keepalived",
            "  keepalived: {addresses: [10.0.0.5/24], password: hunter2}\n",
        ),
        (
            "app, python, web",
            "  apps:\n    a: {repo: /a.git, port: 3000}\n  python_apps:\n    b: {repo: /b.git, port: 8000, app_module: b}\n  web_apps:\n    c: {repo: /c.git}\n",
        ),
    ] {
        let host = host(roles, attributes);
        let ran = run(&host, &["validate"]);
        assert_eq!(ran.code, 0, "{roles}: {attributes}{ran}");
    }
}

#[test]
fn site_listens_on_ipv6_only_where_it_is_wanted() {
    for (setting, listens) in [("true", true), ("false", false)] {
        let attributes = format!(
            "  ipv6: {setting}\n  web_apps:\n    a: {{repo: /a.git, port: 3000, command: x}}\n"
        );
        let ran = run(&host("web", &attributes), &["plan"]);
        assert!(ran.out.contains("listen 80;"), "{ran}");
        assert_eq!(ran.out.contains("listen [::]:80;"), listens, "{ran}");
    }
}

#[test]
fn web_app_that_opens_its_port_is_drained_if_balancers_can_notice() {
    let own = "health: {url: 'http://127.0.0.1:3000/up'}";
    for (settings, app, enabled) in [
        ("", own, true),
        ("", "health: {url: 'http://127.0.0.1/up'}", true),
        (
            "",
            "manager: supervisor, health: {url: 'http://127.0.0.1:3000/up'}",
            true,
        ),
        (
            "",
            "socket: true, health: {url: 'http://127.0.0.1:3000/up'}",
            false,
        ),
        ("", "health: null", false),
        ("", "health: {url: 'http://127.0.0.1:3000/'}", false),
        ("", "health: {url: 'http://10.0.0.5/up'}", false),
        ("  nginx: false\n", own, false),
    ] {
        // Refused only where the drain is on.
        let attributes = format!(
            "{settings}  web_apps:\n    a: {{repo: /a.git, port: 3000, command: x, drain: {{notice: 9s, wait: 1s}}, {app}}}\n"
        );
        let ran = run(&host("web", &attributes), &["validate"]);
        let code = if enabled { 78 } else { 0 };
        assert_eq!(ran.code, code, "{settings}{app}: {ran}");
        assert_eq!(ran.err.contains("drain.notice: "), enabled, "{app}: {ran}");
        let attributes = attributes.replace("{notice: 9s, wait: 1s}", "{}");
        let plan = run(&host("web", &attributes), &["plan"]).out;
        let is_by_nginx = app.contains("127.0.0.1/up");
        assert_eq!(
            plan.contains("if ($realip_remote_addr"),
            is_by_nginx,
            "{plan}"
        );
    }
    let asked = "health: {url: 'http://127.0.0.1:3000/'}, drain: {enabled: true}";
    let attributes =
        format!("  web_apps:\n    a: {{repo: /a.git, port: 3000, command: x, {asked}}}\n");
    let ran = run(&host("web", &attributes), &["validate"]);
    assert_eq!(ran.code, 78, "{ran}");
    assert!(ran.err.contains("load balancers cannot be told"), "{ran}");
}

#[test]
fn host_name_belongs_to_one_backend() {
    for (backends, expected) in [
        (
            "    a: {}\n    b: {hosts: [b.example]}\n    c: {hosts: [c.example, _]}\n",
            "backends: `a` and `c` both answer to all host names that no other backend has",
        ),
        (
            "    a: {hosts: [www.example, a.example]}\n    b: {hosts: [b.example, A.Example]}\n",
            "backends: `a` and `b` both answer to the host name a.example",
        ),
    ] {
        let ran = run(
            &host("haproxy", &format!("  backends:\n{backends}")),
            &["validate"],
        );
        assert_eq!(ran.code, 78, "{ran}");
        assert!(ran.err.contains(expected), "{ran}");
        assert!(ran.err.contains("config"), "{ran}");
    }
    let fine = "    a: {hosts: [_, a.example, A.example]}\n    b: {hosts: [b.example]}\n";
    let ran = run(
        &host("haproxy", &format!("  backends:\n{fine}")),
        &["validate"],
    );
    assert_eq!(ran.code, 0, "{ran}");
}

#[test]
fn sudo_rule_for_a_program_in_the_deploy_home_is_refused() {
    let refused = host("base", "  deploy_sudo: [/home/deploy/bin/x -y]\n");
    let ran = run(&refused, &["validate"]);
    assert_eq!(ran.code, 78, "{ran}");
    let expected = "`/home/deploy/bin/x -y` is in the home of deploy";
    assert!(ran.err.contains(expected), "{ran}");
    let fine = host("base", "  deploy_sudo: [/home/deployer/x, /bin/true]\n");
    let ran = run(&fine, &["validate"]);
    assert_eq!(ran.code, 0, "{ran}");
}

#[test]
fn app_and_load_balancer_can_share_a_host() {
    let host = host(
        "app, haproxy",
        "  apps:\n    a: {repo: /a.git, port: 3000}\n  http_port: 8080\n  backends:\n    a: {hosts: [a.example]}\n",
    );
    let ran = run(&host, &["validate"]);
    assert_eq!(ran.code, 0, "{ran}");
}

/// Answers with its environment and working directory.
const SERVER: &str = r#"
import http.server, json, os, socket, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({**os.environ, "CWD": os.getcwd()}).encode())
    def log_message(self, *args):
        pass
server = http.server.HTTPServer(("127.0.0.1", 0), Page, bind_and_activate=False)
server.socket = socket.socket(fileno=int(sys.argv[1]))
server.serve_forever()
"#;

#[test]
fn app_environment_has_the_port_and_the_written_variables() {
    if !is_root("accounts in a sandbox") {
        return;
    }
    let (got, port) = environment_of(
        "web",
        "web_apps",
        "command: python3 server.py $fd\n      socket: true",
    );
    assert_eq!(
        (&got["NUMBER"], &got["PORT"]),
        (&"3".into(), &port.to_string().into())
    );
}

#[test]
fn puma_environment_has_the_written_variables() {
    if !is_root("accounts in a sandbox") {
        return;
    }
    let (got, _) = environment_of(
        "app",
        "apps",
        "command: 'python3 server.py \"$NUMBER\"'\n      migrate: null\n      assets: null\n      steps: []",
    );
    assert_eq!(got["NUMBER"], "3");
    assert_eq!(got["text"], serde_json::Value::Null);
}

/// Deploys `SERVER` by a role, with values in its environment that need every kind of quoting; returns that environment
/// and the port.
fn environment_of(role: &str, apps: &str, more: &str) -> (serde_json::Value, u16) {
    let odd = "it's 50% \"x\" $HOME `id` \\$USER \\n # ; & <tag> ä\nand 'more'\\\n";
    let value = serde_json::to_string(odd).unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let port = free.unwrap().port();
    let host = host(
        role,
        &format!(
            "  packages: []\n  nginx: false\n  {apps}:\n    a:\n      repo: \"@REPO@\"\n      port: {port}\n      env: {{WORD: {value}, NUMBER: 3}}\n      secrets: {{SECRET: {value}}}\n      {more}\n"
        ),
    );
    let repo = host.sibling("repo");
    std::fs::create_dir(&repo).unwrap();
    std::fs::write(repo.join("server.py"), SERVER).unwrap();
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        isolated(&mut command);
        let identity = ["-c", "user.name=t", "-c", "user.email=t@example"];
        let output = command
            .current_dir(&repo)
            .args(identity)
            .args(args)
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    git(&["init", "-q", "."]);
    git(&["add", "."]);
    git(&["commit", "-qm", "Open"]);
    host.manifest(format!(
        "production: {{a: {}}}\n",
        git(&["rev-parse", "HEAD"]).trim()
    ));
    let plan = run(&host, &["plan"]).to_string();
    assert!(plan.contains("a/code") && !plan.contains("<tag>"), "{plan}");
    let ran = run(&host, &["converge"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert_eq!(
        run(&host, &["plan"]).code,
        0,
        "a second pass has nothing to do"
    );
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let got: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!((&got["WORD"], &got["SECRET"]), (&odd.into(), &odd.into()));
    let cwd = got["CWD"].as_str().unwrap();
    assert!(cwd.contains("/srv/www/a/releases/"), "{cwd}");
    (got, port)
}

#[test]
fn datadog_checks_restart_the_agent_when_they_change() {
    if !is_root("accounts in a sandbox") {
        return;
    }
    let attributes = |timeout: u32| {
        format!(
            "  datadog_tags: [\"env:a \\\"b\\\": c\"]\n  datadog_processes:\n    \"puma: 'x'\": {{search_string: [\"puma {{{{ x }}}}\"], exact_match: false}}\n  datadog_http_checks:\n    shop: {{url: \"http://127.0.0.1:3000/up\", timeout: {timeout}, tags: [own]}}\n"
        )
    };
    let host = host("datadog", &attributes(5));
    let conf = |name: &str| format!("/etc/datadog-agent/conf.d/{name}.d/conf.yaml");
    assert_eq!(run(&host, &["converge"]).code, 0);
    assert!(
        !host.at("/etc/datadog-agent").exists(),
        "no agent, no files"
    );
    host.write(
        "/etc/passwd",
        "root:x:0:0:root:/root:/bin/bash\ndd-agent:x:4242:4242::/:/bin/false\n",
    );
    host.write("/etc/group", "root:x:0:\ndd-agent:x:4242:\n");
    host.write("/opt/datadog-agent/bin/agent/agent", "");
    host.write(
        "/etc/systemd/system/datadog-agent.service",
        "[Service]\nExecStart=/bin/sh -c 'echo start >>@ROOT@/starts; exec sleep 600'\n",
    );
    let ran = run(&host, &["converge"]);
    assert_eq!(ran.code, 0, "{ran}");
    // Parsed as YAML, because quoting is what this tests.
    let read = |name: &str| {
        let code = "import json, re, sys\nfor line in open(sys.argv[1]):\n    m = re.match(r'\\s*(?:- )?(?:(\\w+): )?([\\[\"].*|-?\\d+|true|false)$', line)\n    if m: print(m[1], json.dumps(json.loads(m[2]), ensure_ascii=False))";
        let mut command = Command::new("python3");
        isolated(&mut command);
        let output = command
            .args(["-c", code])
            .arg(host.at(&conf(name)))
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    assert_eq!(
        read("process"),
        "name \"puma: 'x'\"\nsearch_string [\"puma {{ x }}\"]\nexact_match false\nNone \"env:a \\\"b\\\": c\"\n"
    );
    assert_eq!(
        read("http_check"),
        "name \"shop\"\nurl \"http://127.0.0.1:3000/up\"\ntimeout 5\nNone \"env:a \\\"b\\\": c\"\nNone \"own\"\n"
    );
    let meta = std::fs::metadata(host.at(&conf("process"))).unwrap();
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    assert_eq!(
        (meta.uid(), meta.permissions().mode() & 0o777),
        (4242, 0o640)
    );
    // An operator stopped the agent: trueup does not start it. Once it runs, a change restarts it.
    assert!(!host.at("/starts").exists());
    host.write(
        "/etc/trueup/roles/start.yml",
        "resources:\n  - service: {name: datadog-agent, running: true}\n",
    );
    let node = host.read("/etc/trueup/node.yml");
    host.write(
        "/etc/trueup/node.yml",
        node.replace("[datadog]", "[start]")
            .split("attributes")
            .next()
            .unwrap(),
    );
    let ran = run(&host, &["converge"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(crate::processes::wait_until(
        || host.read("/starts") == "start\n"
    ));
    host.write("/etc/trueup/node.yml", &node);
    assert_eq!(run(&host, &["converge"]).code, 0);
    assert_eq!(host.read("/starts"), "start\n", "nothing had changed");
    host.write(
        "/etc/trueup/node.yml",
        &node.replace("timeout: 5", "timeout: 7"),
    );
    let ran = run(&host, &["converge"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.out.contains("restarted service:datadog-agent"), "{ran}");
    assert!(crate::processes::wait_until(
        || host.read("/starts") == "start\nstart\n"
    ));
    let none = node
        .split("  datadog_http_checks")
        .next()
        .unwrap()
        .to_owned();
    host.write("/etc/trueup/node.yml", &none);
    assert_eq!(run(&host, &["converge"]).code, 0);
    assert!(!host.at(&conf("http_check")).exists() && host.at(&conf("process")).exists());
}

#[test]
fn umask_is_written_to_service_files_only_when_set() {
    for (role, app, line) in [
        (
            "app",
            "apps:\n    a: {repo: /a.git, port: 3000",
            "UMask=002",
        ),
        (
            "python",
            "python_apps:\n    a: {repo: /a.git, port: 80, app_module: a",
            "umask=002",
        ),
        (
            "web",
            "web_apps:\n    a: {repo: /a.git, port: 80, command: ./a",
            "UMask=002",
        ),
    ] {
        let plan = |more: &str| run(&host(role, &format!("  {app}{more}}}\n")), &["plan"]);
        let (usual, shared) = (plan(""), plan(", umask: \"002\""));
        assert!(!usual.out.to_lowercase().contains("umask"), "{usual}");
        assert!(shared.out.contains(&format!("+{line}\n")), "{shared}");
    }
}

#[test]
fn readme_names_every_shipped_role() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(top.join("README.md")).unwrap();
    for entry in std::fs::read_dir(top.join("roles")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(readme.contains(&format!("`{name}`")), "{name}");
    }
}
