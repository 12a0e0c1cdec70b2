//! The layout of the source: what may use what, and where things are.
//!
//! A rule that no test enforces is soon broken. If one here is in the way, change it with its
//! reason, not around it.

mod imports;
mod names;
mod tokens;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules that each module may use, from the bottom up. Data flows one way, and each stage gets only what it needs.
const LAYERS: &[(&str, &[&str])] = &[
    ("printable", &[]),
    ("problem", &["printable"]),
    ("exit", &[]),
    ("digest", &[]),
    ("yaml", &["printable", "problem"]),
    ("ports", &["digest"]),
    ("balancer", &["ports", "problem"]),
    ("settings", &["ports", "problem", "yaml"]),
    ("facts", &["balancer", "ports"]),
    (
        "desired",
        &[
            "digest",
            "ports",
            "printable",
            "problem",
            "settings",
            "yaml",
        ],
    ),
    (
        "policy",
        &[
            "desired",
            "exit",
            "ports",
            "printable",
            "problem",
            "settings",
        ],
    ),
    (
        "fleet",
        &[
            "desired",
            "digest",
            "exit",
            "ports",
            "printable",
            "problem",
            "settings",
        ],
    ),
    ("resource", &["ports", "printable", "problem", "yaml"]),
    (
        "secrets",
        &[
            "desired",
            "digest",
            "ports",
            "printable",
            "problem",
            "resource",
            "settings",
        ],
    ),
    (
        "release",
        &[
            "desired",
            "digest",
            "ports",
            "printable",
            "problem",
            "resource",
            "yaml",
        ],
    ),
    // It knows one kind by its type, the release: stages and operators work with the releases of an app.
    ("kind", &["ports", "problem", "release", "resource", "yaml"]),
    (
        "kinds",
        &[
            "desired", "digest", "kind", "ports", "problem", "release", "resource",
        ],
    ),
    (
        "role",
        &[
            "balancer", "desired", "digest", "facts", "fleet", "kind", "kinds", "ports", "problem",
            "release", "resource", "secrets", "settings", "yaml",
        ],
    ),
    ("owed", &["digest", "ports", "resource"]),
    ("plan", &["kind", "owed", "ports", "resource", "role"]),
    (
        "apply",
        &[
            "digest", "kind", "owed", "plan", "ports", "release", "resource", "role",
        ],
    ),
    (
        "report",
        &[
            "apply",
            "balancer",
            "desired",
            "digest",
            "exit",
            "owed",
            "plan",
            "policy",
            "ports",
            "printable",
            "resource",
            "role",
        ],
    ),
    // Messages about what passes and rollouts bring about.
    (
        "notify",
        &[
            "desired",
            "digest",
            "fleet",
            "ports",
            "printable",
            "problem",
            "settings",
        ],
    ),
    (
        "pass",
        &[
            "apply", "balancer", "desired", "exit", "facts", "fleet", "notify", "plan", "policy",
            "ports", "problem", "release", "report", "resource", "role", "secrets", "settings",
        ],
    ),
    // What a pass relies on, checked without a pass.
    (
        "checks",
        &[
            "apply", "balancer", "desired", "exit", "fleet", "notify", "pass", "plan", "ports",
            "problem", "release", "report", "resource", "role", "settings",
        ],
    ),
    // What commands decide; it knows no command line.
    (
        "operate",
        &[
            "apply",
            "balancer",
            "checks",
            "desired",
            "exit",
            "fleet",
            "notify",
            "pass",
            "policy",
            "ports",
            "printable",
            "problem",
            "release",
            "report",
            "resource",
            "role",
            "secrets",
            "settings",
            "yaml",
        ],
    ),
    // For releases (list, build, roll back) it calls the pipeline itself, whose
    // failures are a resource's.
    (
        "cli",
        &[
            "apply",
            "balancer",
            "checks",
            "desired",
            "exit",
            "facts",
            "fleet",
            "operate",
            "pass",
            "policy",
            "ports",
            "printable",
            "problem",
            "release",
            "report",
            "resource",
            "role",
            "secrets",
            "settings",
            "yaml",
        ],
    ),
    ("lib", &[]),
    ("main", &[]),
    // What tests and benchmarks measure.
    ("testing", &[]),
    ("simulation", &["fleet"]),
];

/// Backends, each known only in the folder of its port.
const BACKENDS: &[(&str, &[&str])] = &[
    ("src/ports/store", &["DirStore", "MemoryStore", "S3Store"]),
    (
        "src/ports/services",
        &[
            "FakeServices",
            "ProcessServices",
            "SupervisorServices",
            "SystemdServices",
        ],
    ),
];

/// Files of more than 400 lines, each with why it is one file.
const LONG: &[(&str, &str)] = &[
    (
        "src/desired/edit/tests.rs",
        "one table of edits, with the text before and after each",
    ),
    (
        "src/ports/services/fake.rs",
        "the only fake of the service managers",
    ),
    (
        "src/release/source/fetch/lfs.rs",
        "the conversation with an LFS server from its address to its files",
    ),
    (
        "src/release/source/mirror.rs",
        "one mirror: creating, fetching, recreating, and attributing its errors",
    ),
    (
        "src/release/source/tree/spare.rs",
        "the life of a spare tree, from making one to removing it",
    ),
    (
        "src/release/tests/stages.rs",
        "one table of what each stage does and leaves",
    ),
    (
        "src/ports/services/conformance.rs",
        "the one suite that every supervisor passes",
    ),
    (
        "src/fleet/tests/peer_list.rs",
        "one table of lists, and which of them are refused",
    ),
    (
        "src/kinds/user/mod.rs",
        "half of it says how each field of an account is probed",
    ),
    (
        "src/ports/services/process/tests.rs",
        "one set of real processes that each test starts and stops",
    ),
    (
        "src/ports/services/systemd/state.rs",
        "one reading of all properties of a unit, with its tests",
    ),
    (
        "src/ports/store/conformance.rs",
        "the one suite that every store passes",
    ),
    (
        "src/release/tests/lfs.rs",
        "one fake LFS server, and what it may do wrong",
    ),
    (
        "src/release/source/tree/plan.rs",
        "one walk from a commit to the entries to write",
    ),
];

/// What may lie at the top, besides hidden files and what a build leaves.
const TOP: &[&str] = &[
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "benches",
    "docs",
    "packaging",
    // Where proptest keeps, and looks for, the seeds of failures once found; not in git.
    "proptest-regressions",
    "roles",
    "src",
    "target",
    "templates",
    "tests",
];

/// A source file, and whether only tests are built from it.
struct Source {
    /// From the top of the repository.
    path: String,
    text: String,
    test: bool,
}

impl Source {
    /// The folder or file right below `src`.
    fn module(&self) -> &str {
        let inner = self.path.trim_start_matches("src/");
        let first = inner.split('/').next().unwrap();
        first.trim_end_matches(".rs")
    }

    /// Lines of code that ship: without comments, and without a test module at the end.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let test = |pair: &[&str]| {
            pair[0] == "#[cfg(test)]" && pair[1].ends_with('{') && pair[1].contains("mod ")
        };
        let end = lines.windows(2).position(test).unwrap_or(lines.len());
        let code = |line: &&str| !line.trim_start().starts_with("//");
        (1..)
            .zip(lines.into_iter().take(end))
            .filter(move |(_, line)| code(line))
    }
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files below a folder of the repository, sorted.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    let mut todo = vec![top().join(folder)];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    paths
}

fn sources() -> Vec<Source> {
    let paths = rust_files("src");
    let read = |path: &PathBuf| fs::read_to_string(path).unwrap();
    let only_tests: BTreeSet<PathBuf> = paths
        .iter()
        .flat_map(|path| test_modules(path, &read(path)))
        .collect();
    let is_test = |path: &Path| {
        path.ancestors()
            .any(|part| only_tests.contains(&part.with_extension("")))
    };
    let sources: Vec<Source> = paths
        .iter()
        .map(|path| Source {
            path: path.strip_prefix(top()).unwrap().display().to_string(),
            text: read(path),
            test: is_test(path),
        })
        .collect();
    assert!(sources.len() > 100 && sources.iter().any(|source| source.test));
    sources
}

/// The modules that a file declares for tests only, as paths without `.rs`.
fn test_modules(path: &Path, text: &str) -> Vec<PathBuf> {
    let base = match path.file_stem().unwrap().to_str().unwrap() {
        "mod" | "lib" | "main" => path.parent().unwrap().to_owned(),
        _ => path.with_extension(""),
    };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines
        .windows(2)
        .filter(|pair| pair[0].starts_with("#[cfg(") && pair[0].contains("test"))
        .filter_map(|pair| {
            let name = pair[1].strip_suffix(';')?.rsplit_once("mod ")?.1;
            Some(base.join(name))
        })
        .collect()
}

fn assert_none(found: Vec<String>) {
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn modules_use_only_the_layers_below_them() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !source.test) {
        let Some((_, below)) = LAYERS.iter().find(|(name, _)| *name == source.module()) else {
            found.push(format!("{}: say in LAYERS what it may use", source.path));
            continue;
        };
        for (line, code) in source.code() {
            for used in code.split("crate::").skip(1) {
                let end = used.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                let used = &used[..end.unwrap_or(used.len())];
                if used != source.module() && !below.contains(&used) {
                    found.push(format!("{}:{line}: uses {used}", source.path));
                }
            }
        }
    }
    assert_none(found);
}

#[test]
fn layers_have_no_cycle() {
    for (i, (_, below)) in LAYERS.iter().enumerate() {
        for name in *below {
            let at = LAYERS.iter().position(|(other, _)| other == name);
            assert!(
                at.is_some_and(|at| at < i),
                "{name} comes after a module that uses it"
            );
        }
    }
}

#[test]
fn backends_are_named_only_in_their_port() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !source.test) {
        for (folder, names) in BACKENDS {
            if source.path.starts_with(folder) {
                continue;
            }
            for (line, code) in source.code() {
                for name in names.iter().filter(|name| code.contains(**name)) {
                    found.push(format!("{}:{line}: names {name}", source.path));
                }
            }
        }
    }
    assert_none(found);
}

#[test]
fn only_the_command_line_and_reports_print() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !source.test) {
        if ["cli", "report"].contains(&source.module()) {
            continue;
        }
        for (line, code) in source.code() {
            let printing = ["println!", "print!(", "io::stdout()", "io::stderr()"];
            if printing.iter().any(|word| code.contains(word)) {
                found.push(format!("{}:{line}: {}", source.path, code.trim()));
            }
        }
    }
    assert_none(found);
}

#[test]
fn every_module_has_a_doc_comment() {
    let silent = |source: &&Source| !source.test && !source.text.starts_with("//! ");
    let sources = sources();
    assert_none(
        sources
            .iter()
            .filter(silent)
            .map(|source| source.path.clone())
            .collect(),
    );
}

#[test]
fn long_files_have_a_reason() {
    let sources = sources();
    let long: Vec<&Source> = sources
        .iter()
        .filter(|source| source.text.lines().count() > 400)
        .collect();
    let has_reason = |source: &&&Source| LONG.iter().any(|(path, _)| *path == source.path);
    assert_none(
        long.iter()
            .filter(|source| !has_reason(source))
            .map(|source| source.path.clone())
            .collect(),
    );
    for (path, why) in LONG {
        assert!(
            !why.is_empty() && long.iter().any(|source| source.path == *path),
            "{path} is no longer long"
        );
    }
}

#[test]
fn top_folder_has_only_the_listed_entries() {
    let names = fs::read_dir(top())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_none(
        names
            .filter(|name| !name.starts_with('.') && !TOP.contains(&name.as_str()))
            .collect(),
    );
}
