//! The shipped roles with every option on, rendered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::table::PACKAGE_FOLDERS;
use crate::facts::Facts;
use crate::fleet::PeerSource;
use crate::kind::AnyResource;
use crate::ports::root::Root;
use crate::ports::testing::Sandbox;
use crate::release::ReleaseSpec;
use crate::resource::{Change, FieldValue};
use crate::role::{Catalog, compile_offline};
use crate::settings;

/// Every shipped role with all its options on.
const SETTINGS: &str = r#"
environment: production
roles: [app, python, web, datadog, haproxy, keepalived]
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
    shop:
      repo: /a.git
      port: 3000
      secrets: {KEY: "a secret"}
      processes: {sidekiq: bundle exec sidekiq, worker: procfile}
      health: {url: "http://127.0.0.1:3000/up"}
  python_apps:
    api:
      repo: /a.git
      port: 8000
      app_module: a.wsgi
      processes: {celery: {command: .venv/bin/celery -A a worker, stop_signal: QUIT, quiet_signal: TSTP}}
      cron: {nightly: {schedule: "*/5 3 13 * 5", run: .venv/bin/python report.py, timeout: 1h, persistent: true}}
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
  keepalived: {addresses: [10.0.0.5/24], password: hunter2, elastic_ip: eipalloc-0a1b2c3d, nonlocal_bind: true}
  backends:
    shop: {hosts: [shop.example], check: {path: /up, expect: 200}}
"#;

pub(super) fn repository_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the catalog, as wanted.
pub(super) struct RoleFile {
    pub path: PathBuf,
    pub owner: String,
    pub mode: String,
    pub text: String,
}

/// Everything that the shipped roles write, and the owners of the folders that they create.
pub(super) struct RoleFiles {
    pub catalog: Catalog,
    pub files: Vec<RoleFile>,
    pub folder_owners: BTreeMap<PathBuf, String>,
}

/// On a host of Debian's family.
pub(super) fn render_shipped_roles() -> RoleFiles {
    render_shipped_roles_on("debian")
}

/// On a host of this distribution.
pub(super) fn render_shipped_roles_on(distribution: &str) -> RoleFiles {
    let sandbox = Sandbox::empty();
    sandbox.write("/etc/os-release", format!("ID={distribution}\n"));
    let catalog = expand_shipped_roles(&sandbox);
    let mut folder_owners = folder_owners_of_packages();
    let mut files = Vec::new();
    for resource in &catalog.resources {
        let body = resource.body.as_ref();
        if let Some(spec) = body.spec().downcast_ref::<ReleaseSpec>() {
            folder_owners.extend(release_folder_owners(spec));
            continue;
        }
        let Some((path, change)) = body.owned_path().zip(pending_change(body, &sandbox)) else {
            continue;
        };
        let owner = Some(text_of_field(&change, "owner")).filter(|owner| !owner.is_empty());
        let owner = owner.unwrap_or("root".into());
        match body.kind() {
            "directory" => {
                folder_owners.insert(path, owner);
            }
            "file" | "template" => files.push(RoleFile {
                path,
                owner,
                mode: text_of_field(&change, "mode"),
                text: text_of_field(&change, "content"),
            }),
            _ => {}
        }
    }
    RoleFiles {
        catalog,
        files,
        folder_owners,
    }
}

fn expand_shipped_roles(sandbox: &Sandbox) -> Catalog {
    sandbox.write("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\n");
    sandbox.write("/etc/group", "root:x:0:\n");
    sandbox.write("/opt/datadog-agent/bin/agent/agent", "");
    sandbox.write("/etc/trueup/node.yml", SETTINGS);
    let path = sandbox.machine_path("/etc/trueup/node.yml");
    let settings = settings::load(&path, repository_root()).unwrap();
    let facts = Facts::new(Rc::new(Root::at(&sandbox.machine_path("/")).unwrap()));
    let mut peers = PeerSource::from_settings(&settings);
    compile_offline(&settings, &facts, &mut peers, "")
        .unwrap_or_else(|problems| panic!("{problems}"))
}

/// The owners of folders that packages or the system create.
fn folder_owners_of_packages() -> BTreeMap<PathBuf, String> {
    let of_packages = PACKAGE_FOLDERS
        .iter()
        .map(|(path, _)| (path.into(), "its package's user".into()));
    let writable_by_all = ["/tmp", "/var/tmp", "/dev/shm", "/run/lock", "/var/lock"]
        .map(|path| (path.into(), "everybody".into()));
    of_packages.chain(writable_by_all).collect()
}

/// Root owns the folder itself and `releases`; the app's user owns the content of a release.
fn release_folder_owners(spec: &ReleaseSpec) -> [(PathBuf, String); 3] {
    let user = spec.user.clone().unwrap_or_default();
    let deploy_to = spec.layout().deploy_to().to_owned();
    ["current", "shared", "releases/any"].map(|folder| (deploy_to.join(folder), user.clone()))
}

/// The value that a change gives to a field; empty if it does not change the field.
fn text_of_field(change: &Change, name: &str) -> String {
    let field = change.fields.iter().find(|field| field.field == name);
    match field.map(|field| &field.to) {
        Some(FieldValue::Value(text) | FieldValue::Text(text)) => text.clone(),
        _ => String::new(),
    }
}

fn pending_change(body: &dyn AnyResource, sandbox: &Sandbox) -> Option<Change> {
    match body.kind() {
        "directory" | "file" | "template" => body.inspect(&sandbox.host).unwrap().change().cloned(),
        _ => None,
    }
}
