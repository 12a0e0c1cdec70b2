//! Tests that no privileged program opens a path where an unprivileged user could put a link, a pipe or
//! another file. Renders everything that the shipped roles write, with every option on, and checks each
//! directive with a path in it against [`table::FORMATS`].
#![allow(
    clippy::disallowed_methods,
    reason = "the files are this repository's, not a host's"
)]

mod checker;
mod checker_tests;
mod shipped_roles;
mod table;

use std::collections::BTreeSet;
use std::path::Path;

use self::checker::absolute_paths;
use self::shipped_roles::{render_shipped_roles, render_shipped_roles_on, repository_root};
pub(crate) use self::table::render_table;
use crate::role::Catalog;
use crate::role::template_syntax::referenced_templates;

#[test]
fn no_privileged_program_opens_a_path_of_an_unprivileged_user() {
    for distribution in ["debian", "fedora"] {
        let host = render_shipped_roles_on(distribution);
        let problems: Vec<String> = host
            .files
            .iter()
            .flat_map(|file| host.file_problems(file))
            .collect();
        assert!(problems.is_empty(), "{}", problems.join("\n"));
        assert!(host.files.len() > 20, "only {} files", host.files.len());
    }
}

/// Covers the commands that root runs and the folders in its search path.
#[test]
fn nothing_that_root_runs_is_writable_by_unprivileged_users() {
    let host = render_shipped_roles();
    let opened = paths_that_root_uses(&host.catalog);
    let problems: Vec<String> = opened
        .iter()
        .filter_map(|path| host.exposure_problem(path))
        .collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(opened.len() > 8, "{opened:?}");
}

#[test]
fn roles_write_where_the_programs_of_each_family_read() {
    for (distribution, wanted, unwanted) in [
        (
            "debian",
            [
                "/etc/nginx/sites-enabled/shop.conf",
                "/etc/supervisor/conf.d/held.conf",
                "/etc/supervisor/conf.d/api.conf",
            ],
            "/etc/tmpfiles.d/trueup-haproxy.conf",
        ),
        (
            "fedora",
            [
                "/etc/nginx/conf.d/shop.conf",
                "/etc/supervisord.d/held.ini",
                "/etc/tmpfiles.d/trueup-haproxy.conf",
            ],
            "/etc/supervisord.d/api.ini",
        ),
    ] {
        let host = render_shipped_roles_on(distribution);
        let has = |path: &str| host.files.iter().any(|file| file.path == Path::new(path));
        for path in wanted {
            assert!(has(path), "{distribution}: no {path}");
        }
        assert!(!has(unwanted), "{distribution}: {unwanted}");
    }
}

/// Paths that checks, links, commands, watches and services make root use.
fn paths_that_root_uses(catalog: &Catalog) -> Vec<String> {
    let mut opened: Vec<String> = Vec::new();
    for check in catalog.checks.values() {
        opened.extend(
            absolute_paths(&check.run.to_string())
                .into_iter()
                .map(str::to_owned),
        );
    }
    for resource in &catalog.resources {
        let spec = resource.body.spec();
        let path = |path: &Path| path.display().to_string();
        if let Some(spec) = spec.downcast_ref::<crate::kinds::symlink::SymlinkSpec>() {
            opened.extend(spec.to.iter().map(|to| path(to)));
        } else if let Some(spec) = spec.downcast_ref::<crate::kinds::command::CommandSpec>() {
            assert!(spec.user.is_none(), "say here what {} opens", resource.id);
            opened.extend(spec.cwd.iter().map(|cwd| path(&cwd.join("any"))));
            opened.extend(spec.creates.iter().map(|creates| path(creates)));
        } else if let Some(spec) = spec.downcast_ref::<crate::kinds::watch::WatchSpec>() {
            opened.extend(spec.paths.iter().map(|one| path(one)));
        } else if let Some(spec) = spec.downcast_ref::<crate::kinds::service::ServiceSpec>() {
            opened.extend(spec.unit.iter().map(|unit| path(unit)));
            let haproxy = spec.runtime.haproxy.iter();
            let paths =
                haproxy.flat_map(|haproxy| [&haproxy.config, &haproxy.socket, &haproxy.state_file]);
            opened.extend(paths.map(|one| path(one)));
        }
    }
    opened
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
        if let Some(spec) = spec.downcast_ref::<crate::kinds::template::TemplateSpec>() {
            sources.insert(spec.source.clone());
        } else if let Some(spec) = spec.downcast_ref::<crate::release::ReleaseSpec>() {
            // These are in a release, and the app's user reads them.
            sources.extend(spec.files.iter().filter_map(|file| file.source.clone()));
        }
    }
    // Templates that the others include.
    for source in sources.clone() {
        let text = std::fs::read_to_string(repository_root().join("templates").join(&source));
        sources.extend(referenced_templates(&text.unwrap()));
    }
    let mut missing = Vec::new();
    for role in std::fs::read_dir(repository_root().join("roles")).unwrap() {
        let name = role.unwrap().path();
        let name = name.file_stem().unwrap().to_str().unwrap().to_owned();
        missing.extend((!roles.contains(&name)).then_some(name));
    }
    for folder in std::fs::read_dir(repository_root().join("templates")).unwrap() {
        let folder = folder.unwrap();
        // Texts of messages, which no role writes to a file.
        if folder.file_name() == "notify" {
            continue;
        }
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let name = [folder.file_name(), file.unwrap().file_name()];
            let name = name.map(|part| part.into_string().unwrap()).join("/");
            missing.extend((!sources.contains(&name)).then_some(name));
        }
    }
    assert!(missing.is_empty(), "switch on in SETTINGS: {missing:?}");
}
