//! Test that no privileged program opens a path where an unprivileged user could put a link, a pipe or
//! another file. Renders everything that the shipped roles write, with every option on, and checks each
//! directive with a path in it against [`table::FORMATS`].
#![allow(
    clippy::disallowed_methods,
    reason = "the files are this repository's, not a host's"
)]

mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use self::table::{FORMATS, Format, PACKAGE_FOLDERS, Rights};
use crate::facts::Facts;
use crate::fleet::PeerSource;
use crate::kind::AnyResource;
use crate::ports::root::Root;
use crate::ports::testing::Sandbox;
use crate::resource::{Change, FieldValue};
use crate::role::{Catalog, expand};
use crate::settings;

pub(crate) use self::table::render_table;

/// Every shipped role with all its options on.
const SETTINGS: &str = r#"
environment: production
roles: [app, python, web, datadog, haproxy]
store: {url: "dir:/store"}
attributes:
  deploy_authorized_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ana@desk"]
  deploy_sudo: [/usr/bin/systemctl reload nginx]
  deploy_private_key: "a key"
  known_hosts: ["git.example ssh-ed25519 AAAA/B+C="]
  ruby_build: true
  nodejs_version: 22.11.0
  nodejs_sha256: "00"
  apps:
    shop: {repo: /a.git, port: 3000, secrets: {KEY: "a secret"}}
  python_apps:
    api: {repo: /a.git, port: 8000, app_module: a.wsgi}
    live: {repo: /a.git, port: 8001, app_module: "a:app", server: uvicorn, manager: systemd}
  web_apps:
    node: {repo: /a.git, port: 4000, command: node server.js $fd, socket: true}
    plain: {repo: /a.git, port: 4001, command: node server.js}
    held: {repo: /a.git, port: 4002, command: node server.js $fd, socket: true, manager: supervisor}
    kept: {repo: /a.git, port: 4003, command: node server.js, manager: supervisor}
    docs: {repo: /a.git, fallback: /index.html}
  datadog_processes: {puma: {search_string: [puma]}}
  datadog_http_checks: {shop: {url: "http://127.0.0.1:3000/up"}}
  http_port: 8080
  ipv6: true
  certificates: [/etc/ssl/private/example.com.pem]
  certificate: "a certificate"
  max_connections: 1000
  backends:
    shop: {hosts: [shop.example], check: {path: /up, expect: 200}}
"#;

fn repository_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the catalog, as wanted.
struct RoleFile {
    path: PathBuf,
    owner: String,
    mode: String,
    text: String,
}

/// Everything that the shipped roles write, and the owners of the folders that they create.
struct RoleFiles {
    catalog: Catalog,
    files: Vec<RoleFile>,
    folder_owners: BTreeMap<PathBuf, String>,
}

fn render_shipped_roles() -> RoleFiles {
    let sandbox = Sandbox::empty();
    sandbox.write("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\n");
    sandbox.write("/etc/group", "root:x:0:\n");
    sandbox.write("/opt/datadog-agent/bin/agent/agent", "");
    sandbox.write("/etc/trueup/node.yml", SETTINGS);
    let settings = settings::load(
        &sandbox.machine_path("/etc/trueup/node.yml"),
        repository_root(),
    )
    .unwrap();
    let facts = Facts::new(Rc::new(Root::at(&sandbox.machine_path("/")).unwrap()));
    let catalog = expand(&settings, &facts, &PeerSource::from_settings(&settings), "")
        .and_then(|expanded| expanded.resolve(&crate::desired::DesiredState::empty()))
        .unwrap_or_else(|problems| panic!("{problems}"));
    let mut host = RoleFiles {
        catalog,
        files: Vec::new(),
        folder_owners: BTreeMap::new(),
    };
    for (path, _) in PACKAGE_FOLDERS {
        host.folder_owners
            .insert(path.into(), "its package's user".into());
    }
    for folder in ["/tmp", "/var/tmp", "/dev/shm", "/run/lock", "/var/lock"] {
        host.folder_owners.insert(folder.into(), "everybody".into());
    }
    for resource in &host.catalog.resources {
        let body = resource.body.as_ref();
        if let Some(spec) = body.spec().downcast_ref::<crate::release::ReleaseSpec>() {
            let user = spec.user.clone().unwrap_or_default();
            let deploy_to = spec.layout().deploy_to().to_owned();
            // Root owns the folder itself and `releases`; the app's user owns the content of a release.
            for folder in ["current", "shared", "releases/any"] {
                host.folder_owners
                    .insert(deploy_to.join(folder), user.clone());
            }
            continue;
        }
        let Some((path, change)) = body.owned_path().zip(pending_change(body, &sandbox)) else {
            continue;
        };
        let field = |name: &str| match change.fields.iter().find(|field| field.field == name) {
            Some(field) => match &field.to {
                FieldValue::Value(text) | FieldValue::Text(text) => text.clone(),
                _ => String::new(),
            },
            None => String::new(),
        };
        let owner = Some(field("owner")).filter(|owner| !owner.is_empty());
        let owner = owner.unwrap_or("root".into());
        match body.kind() {
            "directory" => {
                host.folder_owners.insert(path, owner);
            }
            "file" | "template" => host.files.push(RoleFile {
                path,
                owner,
                mode: field("mode"),
                text: field("content"),
            }),
            _ => {}
        }
    }
    host
}

fn pending_change(body: &dyn AnyResource, sandbox: &Sandbox) -> Option<Change> {
    match body.kind() {
        "directory" | "file" | "template" => body.inspect(&sandbox.host).unwrap().change().cloned(),
        _ => None,
    }
}

impl RoleFiles {
    /// The user other than root who could replace what is at a path.
    fn unprivileged_owner(&self, path: &Path) -> Option<&str> {
        let above = path.ancestors().skip(1).collect::<Vec<_>>();
        above.into_iter().rev().find_map(|folder| {
            let owner = self.folder_owners.get(folder)?;
            let accepted = PACKAGE_FOLDERS
                .iter()
                .any(|(known, _)| Path::new(known) == folder);
            (owner != "root" && !accepted).then_some(owner.as_str())
        })
    }

    /// Why it is unsafe that root opens a path, if it is.
    fn exposure_problem(&self, path: &str) -> Option<String> {
        let owner = self.unprivileged_owner(Path::new(path))?;
        Some(format!(
            "root opens {path}, and {owner} could put a link, a pipe or another file there: have the app's user open it, or keep it in a folder of root's"
        ))
    }

    fn file_problems(&self, file: &RoleFile) -> Vec<String> {
        let shown = file.path.display();
        let Some(format) = find_format(&file.path) else {
            return vec![format!(
                "{shown}: say in src/kinds/privileged/table.rs who reads such a file, and with whose rights each path in it is opened"
            )];
        };
        let mut problems = Vec::new();
        if file.owner != format.owner {
            problems.push(format!(
                "it belongs to {}, not to {}",
                file.owner, format.owner
            ));
        }
        let writable = u32::from_str_radix(&file.mode, 8).unwrap_or(0o777) & 0o022 != 0;
        if writable && format.owner == "root" {
            problems.push(format!("others than root may write it: {}", file.mode));
        }
        if format.owner == "root" {
            problems.extend(self.exposure_problem(&shown.to_string()));
        }
        for line in file.text.lines() {
            problems.extend(self.line_problem(format, file, line));
        }
        let problems = problems.into_iter();
        problems
            .map(|problem| format!("{shown}: {problem}"))
            .collect()
    }

    fn line_problem(&self, format: &Format, file: &RoleFile, line: &str) -> Option<String> {
        let line = line.trim();
        if line.starts_with(['#', ';']) || !line.contains('/') {
            return None;
        }
        let (name, value) = split_directive(format, line);
        let Some(directive) = format.directive(&name) else {
            return Some(format!(
                "`{name}` has a path in it ({line}): say in src/kinds/privileged/table.rs who opens it, and with whose rights"
            ));
        };
        let paths = absolute_paths(value);
        match directive.rights {
            Rights::NoFile | Rights::User(_) => None,
            Rights::Root if paths.is_empty() => Some(format!("not a whole path: {line}")),
            Rights::Root => paths.iter().find_map(|path| self.exposure_problem(path)),
            Rights::Program => match paths.first() {
                Some(path) if value.trim_start().starts_with(path) => self
                    .exposure_problem(path)
                    .or_else(|| missing_user_problem(format, file)),
                _ => Some(format!("not the whole path of a program: {line}")),
            },
            Rights::Listed => {
                let owner = self.unprivileged_owner(Path::new(*paths.first()?))?;
                let su = format!("su {owner} ");
                let has = file.text.lines().any(|line| line.trim().starts_with(&su));
                (!has).then(|| format!("no `{su}…` beside {line}"))
            }
        }
    }
}

/// Requires a `User=`/`user=` other than root: without one a supervisor runs the program as root.
fn missing_user_problem(format: &Format, file: &RoleFile) -> Option<String> {
    let key = match format.path_prefix {
        "/usr/local/lib/systemd/system/" => "User=",
        "/etc/supervisor/conf.d/" => "user=",
        _ => return None,
    };
    let users = file.text.lines().filter_map(|line| line.strip_prefix(key));
    let users: Vec<&str> = users.collect();
    let fine = users.len() == 1 && !["", "root", "0"].contains(&users[0]);
    (!fine).then(|| format!("`{key}` has to say a user that is not root"))
}

fn find_format(path: &Path) -> Option<&'static Format> {
    let path = path.to_str()?;
    let mut formats = FORMATS.iter();
    formats
        .find(|format| path.starts_with(format.path_prefix) && path.ends_with(format.path_suffix))
}

/// The directive of a line, and the rest of the line.
fn split_directive<'l>(format: &Format, line: &'l str) -> (String, &'l str) {
    let word = line.split_whitespace().next().unwrap_or_default();
    let network = |word: &str| {
        let address = word.split('/').next().unwrap_or_default();
        address.parse::<std::net::IpAddr>().is_ok()
    };
    let (name, value) = match format.path_prefix {
        "/etc/logrotate.d/" if word.starts_with('/') => ("(pattern)", line),
        "/etc/sudoers.d/" => ("(command)", line.split(": ").nth(1).unwrap_or(line)),
        "/etc/nginx/sites-enabled/" if network(word) => ("(network)", line),
        "/home/deploy/.ssh/" if !line.starts_with("Identity") && line.contains(" ssh-") => {
            ("(key)", line)
        }
        "/etc/datadog-agent/conf.d/" => line.split_once(": ").unwrap_or((line, "")),
        "/usr/local/lib/systemd/system/" | "/etc/supervisor/conf.d/" => {
            line.split_once('=').unwrap_or((line, ""))
        }
        _ => line.split_once(char::is_whitespace).unwrap_or((line, "")),
    };
    (name.trim().to_owned(), value.trim().trim_end_matches(';'))
}

/// The absolute paths in a value, without the prefixes that units and configurations allow.
fn absolute_paths(value: &str) -> Vec<&str> {
    let words = value.split(|c: char| c.is_whitespace() || "\"',:=(".contains(c));
    let words = words.map(|word| word.trim_start_matches(['-', '@', '+', '!']));
    words.filter(|word| word.starts_with('/')).collect()
}

#[test]
fn no_privileged_program_opens_a_path_of_an_unprivileged_user() {
    let host = render_shipped_roles();
    let problems: Vec<String> = host
        .files
        .iter()
        .flat_map(|file| host.file_problems(file))
        .collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(host.files.len() > 20, "only {} files", host.files.len());
}

/// Covers the commands that root runs and the folders in its search path.
#[test]
fn nothing_that_root_runs_is_writable_by_unprivileged_users() {
    let host = render_shipped_roles();
    let mut opened: Vec<String> = Vec::new();
    for argv in host.catalog.checks.values() {
        opened.extend(
            absolute_paths(&argv.to_string())
                .into_iter()
                .map(str::to_owned),
        );
    }
    for resource in &host.catalog.resources {
        let spec = resource.body.spec();
        let path = |path: &Path| path.display().to_string();
        if let Some(spec) = spec.downcast_ref::<super::symlink::SymlinkSpec>() {
            opened.extend(spec.to.iter().map(|to| path(to)));
        } else if let Some(spec) = spec.downcast_ref::<super::command::CommandSpec>() {
            assert!(spec.user.is_none(), "say here what {} opens", resource.id);
            opened.extend(spec.cwd.iter().map(|cwd| path(&cwd.join("any"))));
            opened.extend(spec.creates.iter().map(|creates| path(creates)));
        } else if let Some(spec) = spec.downcast_ref::<super::watch::WatchSpec>() {
            opened.extend(spec.paths.iter().map(|one| path(one)));
        } else if let Some(spec) = spec.downcast_ref::<super::service::ServiceSpec>() {
            opened.extend(spec.unit.iter().map(|unit| path(unit)));
        }
    }
    let problems: Vec<String> = opened
        .iter()
        .filter_map(|path| host.exposure_problem(path))
        .collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(opened.len() > 8, "{opened:?}");
}

/// A template that SETTINGS does not switch on would escape the check.
#[test]
fn every_template_of_every_shipped_role_is_covered() {
    let host = render_shipped_roles();
    let mut sources = BTreeSet::new();
    let mut roles = BTreeSet::new();
    for resource in &host.catalog.resources {
        roles.insert(resource.role.clone());
        let spec = resource.body.spec();
        if let Some(spec) = spec.downcast_ref::<super::template::TemplateSpec>() {
            sources.insert(spec.source.clone());
        } else if let Some(spec) = spec.downcast_ref::<crate::release::ReleaseSpec>() {
            // These are in a release, and the app's user reads them.
            sources.extend(spec.files.iter().filter_map(|file| file.source.clone()));
        }
    }
    let mut missing = Vec::new();
    for role in std::fs::read_dir(repository_root().join("roles")).unwrap() {
        let name = role.unwrap().path();
        let name = name.file_stem().unwrap().to_str().unwrap().to_owned();
        missing.extend((!roles.contains(&name)).then_some(name));
    }
    for folder in std::fs::read_dir(repository_root().join("templates")).unwrap() {
        let folder = folder.unwrap();
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let name = [folder.file_name(), file.unwrap().file_name()];
            let name = name.map(|part| part.into_string().unwrap()).join("/");
            missing.extend((!sources.contains(&name)).then_some(name));
        }
    }
    assert!(missing.is_empty(), "switch on in SETTINGS: {missing:?}");
}

/// Tests the checker itself.
#[test]
fn checker_detects_every_known_way_to_expose_root() {
    let host = render_shipped_roles();
    let see = |path: &str, text: &str| {
        let problems = host.file_problems(&RoleFile {
            path: path.into(),
            owner: "root".into(),
            mode: "0644".into(),
            text: text.into(),
        });
        problems.join("\n")
    };
    const UNIT: &str = "/usr/local/lib/systemd/system/a.service";
    const SECTION: &str = "/etc/supervisor/conf.d/a.conf";
    for (path, text, expected) in [
        (
            UNIT,
            "EnvironmentFile=/srv/www/shop/current/.trueup/env",
            "deploy could put a link",
        ),
        (
            UNIT,
            "EnvironmentFile=-/srv/www/shop/shared/env",
            "deploy could put a link",
        ),
        (
            UNIT,
            "StandardOutput=append:/srv/www/shop/shared/log/out",
            "deploy could put a link",
        ),
        (
            UNIT,
            "User=deploy\nExecStart=/srv/www/shop/current/bin/run",
            "deploy could put a link",
        ),
        (UNIT, "User=deploy\nExecStart=bin/run", "not the whole path"),
        (UNIT, "ExecStart=/bin/sh .trueup/run", "`User=` has to say"),
        (
            UNIT,
            "User=root\nExecStart=/bin/sh .trueup/run",
            "`User=` has to say",
        ),
        (
            UNIT,
            "ExecStopPost=/bin/true",
            "say in src/kinds/privileged/table.rs who opens it",
        ),
        (
            SECTION,
            "stdout_logfile=/srv/www/shop/shared/log/out",
            "deploy could put a link",
        ),
        (
            SECTION,
            "stdout_logfile=/tmp/out",
            "everybody could put a link",
        ),
        (SECTION, "stdout_logfile=log/out", "not a whole path"),
        (SECTION, "command=/bin/sh /srv/run", "`user=` has to say"),
        (
            "/etc/logrotate.d/a",
            "/srv/www/shop/shared/log/*.log {\n weekly\n}",
            "no `su deploy",
        ),
        (
            "/etc/nginx/sites-enabled/a.conf",
            "ssl_certificate_key /home/deploy/a.pem;",
            "deploy could",
        ),
        (
            "/etc/haproxy/haproxy.cfg",
            "bind *:443 ssl crt /home/deploy/a.pem",
            "deploy could",
        ),
        (
            "/etc/sudoers.d/a",
            "deploy ALL=(root) NOPASSWD: /home/deploy/bin/x",
            "deploy could",
        ),
        (
            "/etc/cron.d/a",
            "",
            "say in src/kinds/privileged/table.rs who reads",
        ),
    ] {
        let seen = see(path, text);
        assert!(seen.contains(expected), "{path}: {text}\n{seen}");
    }
    for (path, text) in [
        (
            UNIT,
            "User=deploy\nExecStart=/bin/sh /srv/www/shop/current/.trueup/run\n# EnvironmentFile=/srv/x",
        ),
        (
            UNIT,
            "EnvironmentFile=-/etc/default/a\nListenStream=127.0.0.1:80",
        ),
        (
            "/etc/haproxy/haproxy.cfg",
            "bind *:443 ssl crt /etc/ssl/a.pem",
        ),
    ] {
        assert_eq!(see(path, text), "", "{text}");
    }
}
