//! `secret("name")`: where it may be used, and what it makes secret.

#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use super::*;
use crate::desired::DesiredState;
use crate::facts::Facts;
use crate::ports::root::Root;
use crate::ports::testing::Sandbox;
use crate::problem::Problems;
use crate::resource::{Failure, FieldValue};
use crate::secrets::LoadedSecrets;
use crate::settings;

const SECRET: &str = "hunter2: {{ x }}\n- \"a'\\";

pub(super) fn values(pairs: &[(&str, Result<&str, &str>)]) -> LoadedSecrets {
    let value = |value: Result<&str, &str>| value.map(str::to_owned).map_err(Failure::new);
    pairs
        .iter()
        .map(|(name, loaded)| ((*name).to_owned(), value(*loaded)))
        .collect()
}

/// The catalog of a role, with these attributes and files beside the settings.
pub(super) fn compile(
    role: &str,
    attributes: &str,
    files: &[(&str, &str)],
    loaded: LoadedSecrets,
) -> Result<Catalog, String> {
    compile_with(role, attributes, files, loaded, Path::new("/nonexistent"))
}

/// The same with the roles and templates that are shipped in a folder.
fn compile_with(
    role: &str,
    attributes: &str,
    files: &[(&str, &str)],
    loaded: LoadedSecrets,
    share: &Path,
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
    let clean = |problems: Problems| {
        let text = problems.to_string();
        text.replace(&format!("{}/", dir.path().display()), "")
    };
    let settings = settings::load(&dir.path().join("node.yml"), share).map_err(clean)?;
    let facts = Facts::new(Rc::new(Root::at(dir.path()).unwrap()));
    let mut peers = crate::fleet::PeerSource::from_settings(&settings);
    let desired = DesiredState::empty();
    let mut sources = RoleSources {
        settings: &settings,
        facts: &facts,
        peers: &mut peers,
        root: "/",
    };
    let first = SecretValues::placeholders(Placeholders::First);
    let drafted = sources.expand(&first).map_err(clean)?;
    let drafted = drafted.resolve(&desired).map_err(clean)?;
    let drafted = drafted
        .check_secrets(&desired, &mut sources)
        .map_err(clean)?;
    let used: Vec<&String> = drafted.used_secrets().iter().collect();
    let loaded_names: Vec<&String> = loaded.keys().collect();
    assert_eq!(used, loaded_names, "what the role uses");
    drafted
        .with_secrets(loaded, &desired, &mut sources)
        .map_err(clean)
}

/// What a resource would write into a file of an empty host, and how the plan shows it.
pub(super) fn written(catalog: &Catalog, id: &str, path: &str) -> (String, FieldValue) {
    let sandbox = Sandbox::with_base_system();
    sandbox.make_dir("/srv");
    let resource = catalog.find(id).unwrap();
    let observed = resource.inspect(&sandbox.host).unwrap();
    let change = observed.change().unwrap().clone();
    let content = change.fields.iter().find(|field| field.field == "content");
    observed.apply(&sandbox.host).unwrap();
    (sandbox.read(path), content.unwrap().to.clone())
}

#[test]
fn value_is_inserted_verbatim_and_its_file_is_secret() {
    let role = "\
resources:
- file: {path: /srv/a, content: 'p={{ secret(\"db\") }}', mode: \"0600\"}
- template: {path: /srv/b, source: b.conf, mode: \"0640\"}
- template: {path: /srv/c, source: c.conf, vars: {word: '{{ secret(\"db\") | upper }}'}, mode: \"0600\"}
- file: {path: /srv/d, content: 'public'}
- template: {path: /srv/e, source: e.conf}
";
    let files = [
        (
            "templates/b.conf",
            "{% if true %}{{ secret('db') }}{% endif %};",
        ),
        ("templates/c.conf", "{{ word }}"),
        (
            "templates/e.conf",
            "{% raw %}{{ secret(\"db\") }}{% endraw %}",
        ),
    ];
    let catalog = compile(role, "", &files, values(&[("db", Ok(SECRET))])).unwrap();
    let upper = SECRET.to_uppercase();
    for (name, text, is_secret) in [
        ("a", &*format!("p={SECRET}"), true),
        ("b", &*format!("{SECRET};"), true),
        ("c", &*upper, true),
        ("d", "public", false),
        ("e", "{{ secret(\"db\") }}", false),
    ] {
        let kind = if "ad".contains(name) {
            "file"
        } else {
            "template"
        };
        let path = format!("/srv/{name}");
        let (body, shown) = written(&catalog, &format!("{kind}:{path}"), &path);
        assert_eq!(body, text);
        assert_eq!(shown == FieldValue::Secret, is_secret, "{name}: {shown:?}");
    }
}

#[test]
fn secrecy_follows_values_through_parameters_and_filters() {
    let role = "\
parameters:
  apps: {}
  password: '{{ secret(\"db\") }}'
  url: '{{ \"postgres://shop:\" ~ (password | urlencode) ~ \"@db\" }}'
for_each: apps
as: app
defaults: {token: null, size: '{{ url | length }}', port: 1}
resources:
- file: {path: '/srv/{{ app.name }}', content: '{{ url }}', mode: \"0600\"}
- file: {path: '/srv/{{ app.name }}-token', content: '{{ app.token }}', mode: \"0600\"}
- file: {path: '/srv/{{ app.name }}-port', content: '{{ app.port }}'}
- template: {path: '/srv/{{ app.name }}-all', source: all, mode: \"0600\"}
";
    let attributes = "attributes: {apps: {shop: {token: '{{ secret(\"token\") }}'}, blog: {token: '{{ port }}', port: 2}}}\n";
    let files = [(
        "templates/all",
        "{% for name, app in apps %}{{ app.token }}{% endfor %}",
    )];
    let loaded = values(&[("db", Ok("p@ss")), ("token", Ok("{{ port }}"))]);
    let catalog = compile(role, attributes, &files, loaded).unwrap();
    for (id, text, is_secret) in [
        ("file:/srv/shop", "postgres://shop:p%40ss@db", true),
        ("file:/srv/shop-token", "{{ port }}", true),
        // Only a reference is rendered in what an operator sets.
        ("file:/srv/blog-token", "{{ port }}", false),
        ("file:/srv/blog-port", "2", false),
        ("template:/srv/shop-all", "{{ port }}{{ port }}", true),
    ] {
        let path = id.split_once(':').unwrap().1;
        let (body, shown) = written(&catalog, id, path);
        assert_eq!(body, text, "{id}");
        assert_eq!(shown == FieldValue::Secret, is_secret, "{id}: {shown:?}");
    }
}

#[test]
fn secret_that_would_be_exposed_is_refused() {
    let file = |fields: &str| format!("resources: [{{file: {{path: /srv/a, {fields}}}}}]");
    let content = "content: '{{ secret(\"db\") }}'";
    for (role, expected) in [
        (file(content), "mode: a file with a secret needs a mode"),
        (
            file(&format!("{content}, mode: \"0644\"")),
            "mode: a file with a secret may not be open to all users, as 0644 is",
        ),
        (
            "resources: [{file: {path: '/srv/{{ secret(\"db\") }}', content: x}}]".into(),
            "what their ids are",
        ),
        (
            file("content: x, owner: '{{ secret(\"db\") }}'"),
            "owner: it depends on a secret, and would not stay one here",
        ),
        (
            "resources: [{command: {run: [login, '{{ secret(\"db\") }}'], creates: /a}}]".into(),
            "what their ids are",
        ),
        (
            "resources: [{command: {run: [a], unless: [login, '{{ secret(\"db\") }}']}}]".into(),
            "unless[1]: it depends on a secret",
        ),
        (
            "resources: [{service: {name: x, process: '{{ secret(\"db\") }}'}}]".into(),
            "no field of a `service` may",
        ),
        (
            "resources: [{file: {path: /srv/a, content: x, when: 'secret(\"db\") == \"x\"'}}, {file: {path: /srv/b, content: '{{ secret(\"db\") }}', mode: \"0600\"}}]".into(),
            "when: a secret decides which resources there are",
        ),
        (
            "parameters: {pw: '{{ secret(\"db\") }}'}\nresources: [{file: {path: /srv/a, content: x, when: 'pw == \"x\"'}}]".into(),
            "when: a secret decides which resources there are",
        ),
        (
            file("content: 'x{% if secret(\"db\") == \"off\" %}a{% endif %}'"),
            "mode: a file with a secret needs a mode",
        ),
        (
            "parameters: {pw: '{{ secret(\"db\") }}'}\nresources: [{file: {path: /srv/a, content: 'x{% if pw == \"off\" %}a{% endif %}', mode: \"0644\"}}]".into(),
            "may not be open to all users",
        ),
        (
            "parameters: {pw: '{{ secret(\"db\") }}'}\nresources: [{template: {path: /srv/a, source: off, mode: \"0644\"}}]".into(),
            "may not be open to all users",
        ),
        (
            "parameters: {pw: '{{ secret(\"db\") }}'}\nresources: [{template: {path: /srv/a, source: word, vars: {word: '{{ pw }}'}, mode: \"0644\"}}]".into(),
            "may not be open to all users",
        ),
        (
            "parameters: {apps: {}}\nfor_each: apps\nas: app\ndefaults: {token: '{{ secret(\"db\") }}'}\nresources: [{file: {path: '/srv/{{ app.name }}', content: x, when: 'app.token == \"x\"'}}]".into(),
            "when: a secret decides which resources there are",
        ),
        (
            "checks: {nginx: [nginx, '{{ secret(\"db\") }}']}\nresources: []".into(),
            "checks.nginx: the arguments of a command are visible to all users",
        ),
    ] {
        let attributes = match role.contains("for_each") {
            true => "attributes: {apps: {shop: {}}}\n",
            false => "",
        };
        let files = [
            ("templates/off", "{% if pw == 'off' %}a{% endif %}"),
            ("templates/word", "{% if word == 'off' %}a{% endif %}"),
        ];
        let result = compile(&role, attributes, &files, values(&[("db", Ok("hunter2"))]));
        let problem = result.err().unwrap_or_else(|| panic!("accepted: {role}"));
        assert!(problem.contains(expected), "{role}:\n{problem}");
        assert!(!problem.contains("hunter2"), "{problem}");
    }
}

#[test]
fn error_with_a_placeholder_names_the_secret() {
    let role = "resources: [{file: {path: /a, content: x, mode: '{{ secret(\"db\") }}'}}]";
    let problem = compile(role, "", &[], values(&[("db", Ok("0600"))]))
        .err()
        .unwrap();
    assert!(
        problem.contains("`secret(\"db\")` is not a mode"),
        "{problem}"
    );
}

#[test]
fn missing_secret_fails_only_what_depends_on_it() {
    let role = "\
parameters: {password: '{{ secret(\"db\") }}'}
resources:
- file: {path: /srv/a, content: '{{ password }}', mode: \"0600\"}
- file: {path: /srv/b, content: '{{ secret(\"token\") }}', mode: \"0600\"}
- template: {path: /srv/c, source: c, mode: \"0600\"}
- file: {path: /srv/d, content: x}
- command: {run: [\"true\"], creates: /srv/e, env: {P: '{{ password }}'}}
- release: {app: shop, repo: \"/srv/git\", secrets: {P: '{{ password }}', T: '{{ secret(\"token\") }}'}}
";
    let files = [(
        "templates/c",
        "{{ password | urlencode }}{{ secret(\"token\") }}",
    )];
    let loaded = values(&[("db", Err("no key fits")), ("token", Ok("t-value"))]);
    let catalog = compile(role, "", &files, loaded).unwrap();
    let unresolved: BTreeMap<&str, &str> = catalog
        .resources
        .iter()
        .filter_map(|resource| Some((&*resource.id, &*resource.unresolved.as_ref()?.message)))
        .collect();
    let ids: Vec<&str> = unresolved.keys().copied().collect();
    let expected = [
        "command:true",
        "file:/srv/a",
        "release:shop",
        "template:/srv/c",
    ];
    assert_eq!(ids, expected);
    assert!(unresolved.values().all(|why| *why == "no key fits"));
    assert_eq!(written(&catalog, "file:/srv/b", "/srv/b").0, "t-value");
    let release = catalog.releases().next().unwrap().1;
    assert!(release.missing_secret.is_some());
    // The condition of the command is not asked without its environment.
    let sandbox = Sandbox::with_base_system();
    let command = catalog.find("command:true").unwrap();
    let failure = command.inspect(&sandbox.host).err().unwrap();
    assert_eq!(failure.message, "no key fits");
}

#[test]
fn shipped_role_takes_secrets_as_values_of_its_parameters() {
    let attributes = "attributes: {apps: {shop: {repo: 'git@example.org:a/shop.git', port: 3000, secrets: {TOKEN: '{{ secret(\"token\") }}'}, files: {config/a.yml: {content: '{{ secret(\"token\") }}'}}}}}\n";
    let shared = Path::new(env!("CARGO_MANIFEST_DIR"));
    let role = std::fs::read_to_string(shared.join("roles/app.yml")).unwrap();
    let loaded = values(&[("token", Ok("value-of-token"))]);
    let catalog = compile_with(&role, attributes, &[], loaded, shared).unwrap();
    let release = catalog.releases().next().unwrap().1;
    assert_eq!(release.secrets["TOKEN"], "value-of-token");
    let config = release
        .files
        .iter()
        .find(|file| file.path.ends_with("a.yml"));
    assert!(config.unwrap().secret);
    // All else is as public as before.
    let rendered = release.files.iter().filter(|file| file.secret);
    let paths: Vec<_> = rendered
        .map(|file| file.path.display().to_string())
        .collect();
    assert_eq!(paths, [".trueup/env", "config/a.yml"]);
}

#[test]
fn name_that_depends_on_a_secret_is_refused() {
    let role = "resources: [{file: {path: /srv/a, content: '{{ secret(name=secret(\"db\")) }}', mode: \"0600\"}}]";
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("roles")).unwrap();
    let node = "environment: production\nroles: [web]\nstore: {url: \"dir:/store\"}\n";
    std::fs::write(dir.path().join("node.yml"), node).unwrap();
    std::fs::write(dir.path().join("roles/web.yml"), role).unwrap();
    let settings = settings::load(&dir.path().join("node.yml"), Path::new("/nonexistent")).unwrap();
    let facts = Facts::new(Rc::new(Root::at(dir.path()).unwrap()));
    let mut peers = crate::fleet::PeerSource::from_settings(&settings);
    let problems = compile_offline(&settings, &facts, &mut peers, "/")
        .err()
        .unwrap();
    let text = problems.to_string();
    assert!(
        text.contains("the name of a secret depends on another secret"),
        "{text}"
    );
}
