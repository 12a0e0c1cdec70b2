// Tests create scratch files on the machine itself, not on a host of trueup.
#![allow(clippy::disallowed_methods)]

use std::path::Path;

use super::*;
use std::rc::Rc;

use crate::facts::Facts;
use crate::ports::root::Root;
use crate::resource::Duty;
use crate::settings;

/// Expands one role `web` of a node whose settings end with `attributes`.
pub(super) fn catalog(
    role: &str,
    attributes: &str,
    files: &[(&str, &str)],
) -> Result<Catalog, String> {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, body: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, body).unwrap();
    };
    put(
        "node.yml",
        &format!(
            "environment: production\nroles: [web]\nstore: {{url: \"dir:/store\"}}\n{attributes}"
        ),
    );
    put("roles/web.yml", role);
    for (name, body) in files {
        put(name, body);
    }
    let clean = |text: String| text.replace(&format!("{}/", dir.path().display()), "");
    let settings = settings::load(&dir.path().join("node.yml"), Path::new("/nonexistent"))
        .map_err(|problems| clean(problems.to_string()))?;
    let facts = Facts::new(Rc::new(Root::at(dir.path()).unwrap()));
    compile_offline(
        &settings,
        &facts,
        &mut crate::fleet::PeerSource::from_settings(&settings),
        "/",
    )
    .map_err(|problems| clean(problems.to_string()))
}

pub(super) fn ids(catalog: &Catalog) -> Vec<&str> {
    catalog
        .resources
        .iter()
        .map(|resource| resource.id.as_str())
        .collect()
}

const TWO_APPS: &str = "\
parameters: {apps: {}}
for_each: apps
defaults: {port: null, conf: \"/etc/{{ app.name }}.conf\"}
resources:
  - file: {id: site, path: \"{{ app.conf }}\", content: \"port {{ app.port }}\"}
  - service: {name: nginx, reload_on: [site]}
  - file: {path: /etc/common, content: x}
";

#[test]
fn equal_resources_of_items_merge_with_all_their_triggers() {
    let catalog = catalog(
        TWO_APPS,
        "attributes: {apps: {a: {port: 1}, b: {port: 2}}}",
        &[],
    )
    .unwrap();
    assert_eq!(
        ids(&catalog),
        ["a/site", "file:/etc/common", "b/site", "service:nginx"]
    );
    let nginx = catalog.find("service:nginx").unwrap();
    assert_eq!(nginx.triggers.len(), 1);
    assert_eq!(nginx.triggers[0].duty, Duty::Reload);
    assert_eq!(nginx.triggers[0].on, ["a/site", "b/site"]);
}

/// A role, the end of the node's settings, and the problem.
const MISTAKES: &[(&str, &str, &str)] = &[
    (
        "resources:\n  - fiel: {path: /a}",
        "",
        "roles/web.yml:2:5: there is no kind `fiel`\n  hint: did you mean `file`?",
    ),
    (
        "resources:\n  - file: {path: /a, content: x, mod: \"0644\"}",
        "",
        "roles/web.yml:2:34: file: unknown field `mod`\n  hint: did you mean `mode`?",
    ),
    (
        "resources:\n  - file: {id: m, path: /a, content: x, mode: 755}",
        "",
        "roles/web.yml:2:47: m: mode: a mode must be quoted, or YAML reads it as the decimal number 755\n  hint: write \"0755\"",
    ),
    (
        "resources:\n  - file: {path: /a/../b, content: x}",
        "",
        "roles/web.yml:2:5: file:/a/../b: path: /a/../b is not a valid path: `..` is not allowed: write the resolved path",
    ),
    (
        "resources:\n  - file: {path: /a, content: x}\n  - symlink: {path: /a/, to: b}",
        "",
        "roles/web.yml:3:5: symlink:/a/: /a is already owned by file:/a (roles/web.yml:2:5)\n  hint: one path belongs to one resource",
    ),
    (
        "resources:\n  - file: {id: conf, path: /a, content: x}\n  - service: {name: s, restart_on: [cnof]}",
        "",
        "roles/web.yml:3:5: service:s: there is no resource `cnof`\n  hint: did you mean `conf`?",
    ),
    (
        "resources:\n  - file: {path: /a, content: x, requires: [fiel]}\n  - file: {id: file, path: /b, content: x}",
        "",
        "roles/web.yml:2:5: file:/a: requires: there is no resource `fiel`\n  hint: did you mean `file`?",
    ),
    (
        "resources:\n  - file: {path: /a, content: x, requires: [late]}\n  - file: {id: late, path: /b, content: x}",
        "",
        "roles/web.yml:2:5: file:/a: requires: it requires `late`, which comes after it\n  hint: resources are applied in the order of the list: put it before this one",
    ),
    (
        "resources:\n  - file: {id: own, path: /a, content: x, requires: own}",
        "",
        "roles/web.yml:2:53: own: requires: expected a list, found the text `own`",
    ),
    (
        "resources:\n  - file: {path: /b, content: x}\n  - template: {path: /a, source: a.conf, replaces: /b}",
        "",
        "roles/web.yml:3:5: template:/a: replaces: /b is owned by file:/b (roles/web.yml:2:5), so nothing may replace it",
    ),
    (
        "resources:\n  - service: {name: shop.socket, proves: {listens: [80]}}",
        "",
        "roles/web.yml:2:5: service:shop.socket: proves: a socket of systemd has no process that listens\n  hint: say it of the service that the socket starts",
    ),
    (
        "resources:\n  - release: {app: shop, repo: /srv/shop.git, deploy_to: /srv/shop, user: shop}\n  - service: {name: proxy, coordinated: true, restart_on: ['release:shop']}",
        "",
        "roles/web.yml:3:5: service:proxy: coordinated: it acts on `release:shop`, the release of an app\n  hint: leave it out: the rollout policy of the app stands for its services",
    ),
    (
        "resources:\n  - file: {path: /a, content: x, check: nginx}\nchecks: {nginx: {run: [nginx, -t], covers: [conf.d]}}",
        "",
        "roles/web.yml:3:17: covers: expected absolute paths, found `conf.d`",
    ),
    (
        "resources:\n  - file: {path: /a, content: x, check: ngnix}\nchecks: {nginx: [nginx, -t]}",
        "",
        "roles/web.yml:2:5: file:/a: check: no role of this node has a check `ngnix`\n  hint: did you mean `nginx`?",
    ),
    (
        "parameters: {motd: hi}\nresources:\n  - file: {path: /a, content: \"{{ modt }}\"}",
        "",
        "roles/web.yml:3:31: file: content: `modt` is not defined\n  hint: did you mean `motd`?",
    ),
    (
        "parameters: {motd: null}\nresources:\n  - file: {path: \"{{ motd }}\", content: x}",
        "",
        "roles/web.yml:3:18: file: path: `motd` has no value\n  hint: set `motd` in the node's attributes or in the environment's file",
    ),
    (
        "resources:\n  - template: {path: /a, source: a.cnf}",
        "",
        "roles/web.yml:2:5: template:/a: source: there is no template `a.cnf` in templates and /nonexistent/templates\n  hint: did you mean `a.conf`?",
    ),
    (
        "resources:\n  - template: {path: /a, source: bad.conf}",
        "",
        "templates/bad.conf:2:8: template:/a: source: template error: Variable `facst` is not defined\n  hint: did you mean `facts`?",
    ),
    (
        "parameters: {net: {}}\nresources:\n  - template: {path: /a, source: picky.conf}",
        "attributes: {net: {mtu: 1}}",
        "node.yml:4:25: template:/a: source: net.mtu: expected at least 68",
    ),
    (
        "parameters: {apps: {}}",
        "attributes: {aps: {}}",
        "node.yml:4:14: attributes.aps: no role of this node (web) has a parameter `aps`\n  hint: did you mean `apps`?",
    ),
    (
        TWO_APPS,
        "attributes: {apps: {a: {prot: 1}}}",
        "node.yml:4:25: apps.a.prot: there is no setting `prot` for an item of `apps` in the role `web`\n  hint: did you mean `port`?",
    ),
    (
        "include: [wbe]",
        "",
        "roles/web.yml:1:10: include: there is no role `wbe` in roles and /nonexistent/roles\n  hint: did you mean `web`?",
    ),
    (
        "include: [web]",
        "",
        "roles/web.yml:1:10: include: roles include each other in a circle: web -> web",
    ),
    (
        "paramters: {}",
        "",
        "roles/web.yml:1:1: unknown field `paramters`\n  hint: did you mean `parameters`?",
    ),
    (
        "parameters: {facts: 1}",
        "",
        "roles/web.yml:1:14: parameters: `facts` is reserved and cannot be a parameter",
    ),
];

#[test]
fn every_mistake_names_its_place_and_what_to_do() {
    let mut wrong = Vec::new();
    for (role, attributes, expected) in MISTAKES {
        let files = [
            ("templates/a.conf", ""),
            (
                "templates/picky.conf",
                "{{ throw(message='net.mtu: expected at least 68') }}",
            ),
            ("templates/bad.conf", "one\ntwo {{ facst.cpus }}\n"),
        ];
        let error = catalog(role, attributes, &files)
            .err()
            .unwrap_or_else(|| panic!("taken: {role}"));
        if !error.starts_with(expected) {
            wrong.push(format!("\n  got: {error}\n want: {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_value_can_never_change_the_structure() {
    let role = "parameters: {motd: ''}\nresources:\n  - file: {path: /a, content: \"{{ motd }}\"}";
    let attributes =
        "attributes: {motd: \"x}\\n  - file: {path: /etc/passwd, content: \\\"{{ root }}\\\"\"}";
    let catalog = catalog(role, attributes, &[]).unwrap();
    assert_eq!(ids(&catalog), ["file:/a"]);
}

#[test]
fn later_layers_win_and_maps_merge_deep() {
    let role = "parameters: {a: {x: 1, y: 1, z: 1}, b: \"{{ a.x }}{{ a.y }}{{ a.z }}\"}\nresources:\n  - file: {path: \"/{{ b }}\", content: x}";
    let environment = [("environments/production.yml", "a: {y: 2, z: 2}")];
    let catalog = catalog(role, "attributes: {a: {z: 3}}", &environment).unwrap();
    assert_eq!(ids(&catalog), ["file:/123"]);
}

#[test]
fn operator_values_are_never_rendered_as_templates() {
    let role = "parameters: {motd: ''}\nresources:\n  - file: {path: \"/{{ motd }}\", content: x}";
    let catalog = catalog(role, "attributes: {motd: \"{{ facts.hostname }}\"}", &[]).unwrap();
    assert_eq!(ids(&catalog), ["file:/{{ facts.hostname }}"]);
}

#[test]
fn resources_with_a_false_when_are_skipped_and_stay_referable() {
    let role = "parameters: {web: false}\nresources:\n  - file: {id: site, when: web, path: /a, content: x}\n  - service: {name: s, restart_on: [site]}";
    let without = catalog(role, "", &[]).unwrap();
    assert_eq!(ids(&without), ["service:s"]);
    let with = catalog(role, "attributes: {web: true}", &[]).unwrap();
    assert_eq!(ids(&with), ["site", "service:s"]);
}

#[test]
fn lists_maps_and_numbers_pass_through_a_plain_reference() {
    let role = "parameters: {on: [a, b], flag: 'true'}\nresources:\n  - file: {id: a, path: /a, content: x}\n  - file: {id: b, path: /b, content: x}\n  - service: {name: s, enabled: \"{{ flag }}\", restart_on: \"{{ on }}\"}";
    let catalog = catalog(role, "", &[]).unwrap();
    assert_eq!(
        catalog.find("service:s").unwrap().triggers[0].on,
        ["a", "b"]
    );
}

#[test]
fn templates_include_others_and_are_never_escaped_as_html() {
    let role = "parameters: {v: \"<&'\"}\nresources:\n  - template: {path: /a, source: page.html}";
    let files = [
        ("templates/page.html", "{% include \"part/inner.html\" %}\n"),
        ("templates/part/inner.html", "{{ v }}"),
    ];
    assert!(catalog(role, "", &files).is_ok());
}

#[test]
fn a_map_is_rendered_in_the_order_in_which_it_was_written() {
    let role = "parameters: {m: {z: 1, a: 2, y: 3, b: 4, x: 5, c: 6}}\nresources:\n  - file: {path: \"/{% for k, v in m %}{{ k }}{% endfor %}\", content: x}";
    let catalog = catalog(role, "", &[]).unwrap();
    assert_eq!(ids(&catalog), ["file:/zaybxc"]);
}

#[test]
fn an_explanation_shows_every_layer_with_its_place_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("roles")).unwrap();
    std::fs::create_dir_all(dir.path().join("environments")).unwrap();
    std::fs::write(
        dir.path().join("roles/web.yml"),
        "parameters: {keep: 5, apps: {}}\nfor_each: apps\ndefaults: {port: 3000, secrets: {}, files: {}}",
    )
    .unwrap();
    std::fs::write(dir.path().join("environments/production.yml"), "keep: 6").unwrap();
    std::fs::write(
        dir.path().join("node.yml"),
        "environment: production\nroles: [web]\nstore: {url: \"dir:/s\"}\nattributes:\n  keep: 7\n  apps: {shop: {port: 1, secrets: {DB: abc}, files: {.key: {content: abc, secret: true}}}}\n",
    )
    .unwrap();
    let settings = settings::load(&dir.path().join("node.yml"), Path::new("/nonexistent")).unwrap();
    let keep = explain(&settings, "keep").unwrap();
    let values: Vec<_> = keep
        .layers
        .iter()
        .map(|layer| layer.value.to_string())
        .collect();
    assert_eq!(values, ["5", "6", "7"]);
    assert!(keep.layers[2].at.to_string().ends_with("node.yml:5:9"));
    let port = explain(&settings, "apps.shop.port").unwrap();
    let layers: Vec<_> = port
        .layers
        .iter()
        .map(|layer| layer.layer.as_str())
        .collect();
    assert_eq!(layers, ["role web (defaults of each app)", "node"]);
    for key in [
        "apps.shop",
        "apps.shop.secrets.DB",
        "apps.shop.files..key.content",
    ] {
        let secret = explain(&settings, key).unwrap();
        let shown = secret.layers.last().unwrap().value.to_string();
        assert!(!shown.contains("abc"), "{key}: {shown}");
    }
    assert!(explain(&settings, "nothing").is_err());
}

#[test]
fn shipped_role_needs_only_a_name_a_repo_and_a_port() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("node.yml");
    std::fs::write(
        &config,
        "environment: production\nroles: [app]\nstore: {url: \"dir:/s\"}\nattributes:\n  apps: {shop: {repo: \"git@example.org:acme/shop.git\", port: 3000}}\n",
    )
    .unwrap();
    let settings = settings::load(&config, Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
    let facts = Facts::new(Rc::new(Root::at(dir.path()).unwrap()));
    let mut peers = crate::fleet::PeerSource::from_settings(&settings);
    let catalog = compile_offline(&settings, &facts, &mut peers, "/")
        .unwrap_or_else(|problems| panic!("{problems}"));
    for id in [
        "shop/code",
        "shop/site",
        "service:puma-shop",
        "service:nginx",
        "user:deploy",
    ] {
        assert!(catalog.find(id).is_some(), "no {id} in {:?}", ids(&catalog));
    }
}

#[test]
fn peers_are_loaded_only_when_a_template_queries_them() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("roles")).unwrap();
    std::fs::write(
        dir.path().join("node.yml"),
        "environment: production\nroles: [web]\nstore: {url: \"dir:/store\"}\nfleet: {static: {db1: {addresses: [10.0.0.1], roles: [db]}}}\n",
    )
    .unwrap();
    let settings = settings::load(&dir.path().join("node.yml"), Path::new("/nonexistent")).unwrap();
    let facts = Facts::new(Rc::new(Root::at(dir.path()).unwrap()));
    for (content, loaded) in [
        (
            "{% if node.name == 'x' %}{{ nodes() }}{% endif %} nodes(",
            false,
        ),
        (
            "{% for peer in nodes (role='db') %}{{ peer.name }}{% endfor %}",
            true,
        ),
        ("{{ nodes(role='db') | length }}", true),
    ] {
        let role = format!("resources: [{{file: {{path: /a, content: \"{content}\"}}}}]\n");
        std::fs::write(dir.path().join("roles/web.yml"), role).unwrap();
        let mut peers = crate::fleet::PeerSource::from_settings(&settings);
        let catalog = compile_offline(&settings, &facts, &mut peers, "/");
        assert!(catalog.is_ok(), "{content}");
        assert_eq!(peers.loaded.is_some(), loaded, "{content}");
    }
}
