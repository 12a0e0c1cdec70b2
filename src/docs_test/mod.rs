//! Checks that the reference in `docs/` matches the code.
//!
//! People write the prose in the files themselves. This test writes the text between `<!-- generated: NAME
//! -->` and `<!-- /generated -->`: `UPDATE_DOCS=1 cargo test the_reference`.
#![allow(
    clippy::disallowed_methods,
    reason = "the files are this repository's, not a host's"
)]

mod commands;
mod documents;
mod examples;
#[path = "../../tests/json_docs/mod.rs"]
mod json_docs;
mod tables;

use std::collections::HashSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::exit::Exit;
use crate::kind::AnyKind;
use crate::kinds::KINDS;
use tables::{field_tables, type_list};

const BEGIN: &str = "<!-- generated: ";
const END: &str = "<!-- /generated -->";

/// Every generated section of the reference, by file and section name.
fn sections() -> Vec<(&'static str, &'static str, String)> {
    let settings = schemars::schema_for!(crate::settings::SettingsFile);
    let role = crate::role::json_schema();
    let kinds: Vec<schemars::Schema> = KINDS.iter().map(|kind| kind.test_probes().schema).collect();
    vec![
        ("settings.md", "settings", field_tables(&settings)),
        (
            "kinds.md",
            "list",
            KINDS.iter().map(|kind| kind_row(*kind)).collect(),
        ),
        (
            "kinds.md",
            "kinds",
            KINDS.iter().map(|kind| kind_page(*kind)).collect(),
        ),
        ("kinds.md", "types", type_list(&kinds)),
        ("roles.md", "keys", field_tables(&role)),
        ("exit-codes.md", "codes", exit_code_table()),
        ("monitoring.md", "metrics", metrics_table()),
        ("cli.md", "commands", commands::all()),
        (
            "hacking.md",
            "kind",
            format!("\n```rust\n{}```\n", include_str!("../kinds/timezone.rs")),
        ),
        (
            "security.md",
            "paths",
            crate::role::privileged_paths::render_table(),
        ),
    ]
}

fn kind_row(kind: &dyn AnyKind) -> String {
    format!(
        "- [`{0}`](#{0}): {1}\n",
        kind.name(),
        kind.test_probes().about
    )
}

fn kind_page(kind: &dyn AnyKind) -> String {
    format!(
        "\n## {}\n\n{}\n\n```yaml\n{}```\n\n{}",
        kind.name(),
        kind.test_probes().about,
        example(kind),
        field_tables(&kind.test_probes().schema)
    )
}

/// Indented as in a role, where long lines have little room.
fn example(kind: &dyn AnyKind) -> String {
    format!(
        "- {}\n",
        kind.test_probes().example.trim().replace('\n', "\n  ")
    )
}

fn exit_code_table() -> String {
    let mut table = String::from("| code | in JSON | meaning |\n| --- | --- | --- |\n");
    for (exit, meaning) in Exit::ALL {
        let word = serde_json::to_value(exit).unwrap();
        let word = word.as_str().unwrap();
        writeln!(table, "| {} | `{word}` | {meaning} |", exit.code()).unwrap();
    }
    table
}

fn metrics_table() -> String {
    let mut table = String::from("| metric | labels | |\n| --- | --- | --- |\n");
    for (name, labels, help) in crate::report::metrics::tests::reference() {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(table, "| `{name}` | {} | {help} |", labels.join(", ")).unwrap();
    }
    table
}

fn docs_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs")
        .join(name)
}

/// The text with one section replaced.
fn with_section(text: &str, name: &str, section: &str) -> Option<String> {
    let begin = format!("{BEGIN}{name} -->\n");
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!(
        "{before}{begin}{}\n{END}{after}",
        section.trim_end()
    ))
}

/// The first line in which two texts differ.
fn first_difference(old: &str, new: &str) -> String {
    let mut old = old.lines();
    for (number, line) in new.lines().enumerate() {
        match old.next() {
            Some(known) if known == line => {}
            known => {
                return format!(
                    "line {}: {:?}, expected {line:?}",
                    number + 1,
                    known.unwrap_or_default()
                );
            }
        }
    }
    format!("{} lines too many", old.count())
}

#[test]
fn the_reference_follows_the_code() {
    let update = std::env::var_os("UPDATE_DOCS").is_some();
    let mut stale = String::new();
    for (name, section, body) in sections() {
        let path = docs_path(name);
        let old = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let new = with_section(&old, section, &body)
            .unwrap_or_else(|| panic!("docs/{name} has no `{BEGIN}{section} -->` … `{END}`"));
        if update {
            std::fs::write(&path, new).unwrap();
        } else if old != new {
            writeln!(stale, "docs/{name}: {}", first_difference(&old, &new)).unwrap();
        }
    }
    assert!(
        stale.is_empty(),
        "run `UPDATE_DOCS=1 cargo test the_reference` and look at what changed:\n{stale}"
    );
}

/// Each place in the reference's prose that must list a new fact or reserved name.
#[test]
fn the_reference_names_everything_that_templates_see() {
    let prose = std::fs::read_to_string(docs_path("roles.md")).unwrap();
    let facts = crate::facts::Facts::new(crate::ports::root::Root::real().unwrap().into());
    for (name, value) in facts.all().as_object().unwrap() {
        let inner = value.as_object().into_iter().flatten();
        let mut names: Vec<String> = inner
            .map(|(inner, _)| format!("`facts.{name}.{inner}`"))
            .collect();
        if names.is_empty() {
            names.push(format!("`facts.{name}`"));
        }
        for name in names {
            assert!(
                prose.contains(&name),
                "docs/roles.md does not say what {name} is"
            );
        }
    }
}

#[test]
fn every_field_and_setting_says_what_it_is() {
    let mut silent = Vec::new();
    let mut look = |owner: &str, schema: &schemars::Schema| {
        silent.extend(
            tables::undocumented_fields(schema)
                .into_iter()
                .map(|field| format!("{owner}.{field}")),
        );
    };
    look(
        "settings",
        &schemars::schema_for!(crate::settings::SettingsFile),
    );
    look("role", &crate::role::json_schema());
    for kind in KINDS {
        look(kind.name(), &kind.test_probes().schema);
    }
    assert!(silent.is_empty(), "no `///` on {}", silent.join(", "));
}

/// The first YAML example of a page.
fn example_of(page: &str) -> String {
    let text = std::fs::read_to_string(docs_path(page)).unwrap();
    let (_, rest) = text.split_once("```yaml\n").unwrap();
    rest.split("```").next().unwrap().to_owned()
}

#[test]
fn the_examples_of_the_reference_work_together() {
    let folder = tempfile::tempdir().unwrap();
    for (name, body) in [
        ("node.yml", example_of("settings.md")),
        ("roles/app.yml", example_of("roles.md")),
        ("roles/base.yml", "description: Nothing.\n".into()),
        ("templates/nginx/site.conf", "listen {{ app.port }};".into()),
    ] {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, body).unwrap();
    }
    let settings = crate::settings::load(&folder.path().join("node.yml"), folder.path()).unwrap();
    let facts = crate::facts::Facts::new(crate::ports::root::Root::real().unwrap().into());
    let catalog = crate::role::compile_offline(
        &settings,
        &facts,
        &mut crate::fleet::PeerSource::from_settings(&settings),
        "",
    )
    .unwrap();
    let ids: Vec<&str> = catalog
        .resources
        .iter()
        .map(|resource| resource.id.as_str())
        .collect();
    assert_eq!(ids, ["directory:/srv/shop", "shop/site", "service:nginx"]);
}

/// The Rust files below these folders, by path.
fn rust_sources(folders: &[&str]) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<PathBuf> = folders.iter().map(|folder| root.join(folder)).collect();
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                sources.push((path, text));
            }
        }
    }
    sources
}

/// The texts between backticks, outside code blocks.
fn quoted_names(page: &str) -> Vec<String> {
    let text = std::fs::read_to_string(docs_path(page)).unwrap();
    let prose: String = text.split("```").step_by(2).collect();
    let names = prose.split('`').skip(1).step_by(2);
    names.map(str::to_owned).collect()
}

/// The names of the items and variants that a source file defines.
fn defined(text: &str) -> impl Iterator<Item = &str> {
    const KEYWORDS: [&str; 8] = [
        "struct", "enum", "trait", "fn", "mod", "const", "type", "static",
    ];
    text.lines().flat_map(|line| {
        let line = line.trim_start();
        let words: Vec<&str> = line
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .collect();
        let variant = words[0];
        let is_variant = [",", "(", " {"]
            .iter()
            .any(|end| line[variant.len()..].starts_with(end));
        let items: Vec<&str> = words
            .windows(2)
            .filter(|pair| KEYWORDS.contains(&pair[0]))
            .map(|pair| pair[1])
            .chain(is_variant.then_some(variant))
            .collect();
        items
    })
}

/// A guide must not keep naming a module, an item or a file that was renamed or removed.
#[test]
fn every_name_in_the_guides_exists() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let sources = rust_sources(&["src", "tests"]);
    let items: HashSet<&str> = sources.iter().flat_map(|(_, text)| defined(text)).collect();
    let is_item = |name: &str| items.contains(name);
    let is_module = |path: &str| {
        let path = src.join(path);
        path.is_dir() || path.with_extension("rs").is_file()
    };
    let mut count = 0;
    for page in ["hacking.md", "glossary.md"] {
        for name in quoted_names(page) {
            let plain = |c: char| c.is_ascii_alphanumeric() || "_:/.".contains(c);
            if !name.chars().all(plain) {
                continue;
            }
            let exists = match name.rsplit_once("::") {
                Some((path, item)) => {
                    let modules: Vec<&str> = path
                        .split("::")
                        .take_while(|part| part.starts_with(char::is_lowercase))
                        .collect();
                    let last = modules.last().is_none_or(|last| is_item(last));
                    is_item(item) && (last || is_module(&modules.join("/")))
                }
                None if name.ends_with(".rs") => {
                    sources.iter().any(|(path, _)| path.ends_with(&name))
                }
                None if name.starts_with(char::is_uppercase)
                    && name.contains(char::is_lowercase) =>
                {
                    is_item(&name)
                }
                None => continue,
            };
            assert!(exists, "docs/{page} names `{name}`, which does not exist");
            count += 1;
        }
    }
    assert!(count > 60, "only {count} names were found");
}

/// A promise must not keep naming a test that was renamed or removed.
#[test]
fn every_promise_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = rust_sources(&["src", "tests/it"]);
    let is_test = |name: &str| {
        let definition = format!("fn {name}(");
        sources.iter().any(|(_, text)| text.contains(&definition))
    };
    let page = std::fs::read_to_string(docs_path("promises.md")).unwrap();
    let names = page.split('`').skip(1).step_by(2);
    let mut count = 0;
    for name in names.filter(|name| !name.contains(['/', ' ', '=']) && name.len() > 8) {
        let there = is_test(name)
            || root.join("tests/scenarios").join(name).is_dir()
            || root
                .join(format!("tests/lab/scenarios/{name}.sh"))
                .is_file();
        assert!(there, "docs/promises.md names `{name}`, which is no test");
        count += 1;
    }
    assert!(count > 40, "only {count} names were found");
}
