//! What a value of a secret does to the resources.

use std::collections::BTreeMap;

use super::secret_tests::{compile, values, written};
use super::*;
use crate::resource::FieldValue;

/// Why each resource that cannot be made cannot.
fn unresolved(catalog: &Catalog) -> BTreeMap<&str, String> {
    let resources = catalog.resources.iter();
    let failed = resources.filter_map(|resource| {
        let failure = resource.unresolved.as_ref()?;
        Some((&*resource.id, format!("{failure} {:?}", failure.hint)))
    });
    failed.collect()
}

#[test]
fn invalid_value_fails_only_the_resource_that_it_makes_invalid() {
    let role = "\
resources:
- template: {path: /srv/a, source: a, mode: \"0600\"}
- file: {path: /srv/b, content: '{{ secret(\"n\") }}', mode: \"0600\"}
- file: {path: /srv/c, content: x}
";
    let template =
        "{% if secret('n') is starting_with(pat='hunter') %}{{ secret('n') | int }}{% endif %}";
    let files = [("templates/a", template)];
    let catalog = compile(role, "", &files, values(&[("n", Ok("hunter2"))])).unwrap();
    let failed = unresolved(&catalog);
    let ids: Vec<&str> = failed.keys().copied().collect();
    assert_eq!(ids, ["template:/srv/a"]);
    let why = &failed["template:/srv/a"];
    assert!(!why.contains("hunter2"), "{why}");
    assert!(why.contains("with the value of its secrets"), "{why}");
    assert_eq!(written(&catalog, "file:/srv/b", "/srv/b").0, "hunter2");
}

#[test]
fn value_that_breaks_a_parameter_fails_what_uses_that_secret() {
    let role = "\
parameters:
  n: '{% if secret(\"n\") == \"hunter2\" %}{{ secret(\"n\") | int }}{% endif %}'
resources:
- file: {path: /srv/a, content: '{{ n }}{{ secret(\"n\") }}', mode: \"0600\"}
- file: {path: /srv/b, content: '{{ secret(\"db\") }}', mode: \"0600\"}
";
    let loaded = values(&[("n", Ok("hunter2")), ("db", Ok("d-value"))]);
    let catalog = compile(role, "", &[], loaded).unwrap();
    let failed = unresolved(&catalog);
    let ids: Vec<&str> = failed.keys().copied().collect();
    assert_eq!(ids, ["file:/srv/a"]);
    let why = &failed["file:/srv/a"];
    assert!(!why.contains("hunter2"), "{why}");
    assert!(
        why.contains("the secret `n` cannot be used: roles/web.yml:2") || why.contains("web.yml"),
        "{why}"
    );
    assert_eq!(written(&catalog, "file:/srv/b", "/srv/b").0, "d-value");
}

#[test]
fn missing_secret_fails_what_only_compares_it() {
    let role = "resources: [{file: {path: /srv/a, content: 'x{% if secret(\"db\") == \"off\" %}a{% endif %}', mode: \"0600\"}}]";
    let catalog = compile(role, "", &[], values(&[("db", Err("no key fits"))])).unwrap();
    assert_eq!(unresolved(&catalog).len(), 1);
}

#[test]
fn public_values_beside_a_secret_stay_public() {
    let role = "\
parameters: {apps: {}}
for_each: apps
as: app
defaults: {token: '{{ secret(\"db\") }}', port: 1}
resources:
- template: {path: '/srv/{{ app.name }}', source: ports, when: 'app.port == 1'}
- file: {path: '/srv/{{ app.name }}-token', content: '{{ app.token }}', mode: \"0600\"}
";
    let ports = "token: {% for name, app in apps %}{{ app.port }}{% endfor %}";
    let files = [("templates/ports", ports)];
    let attributes = "attributes: {apps: {shop: {}}}\n";
    let catalog = compile(role, attributes, &files, values(&[("db", Ok("hunter2"))])).unwrap();
    let (body, shown) = written(&catalog, "template:/srv/shop", "/srv/shop");
    assert_eq!(body, "token: 1");
    assert_ne!(shown, FieldValue::Secret);
}
