//! Scenarios as data: a folder each in `tests/scenarios`.
//!
//! A scenario is one step, or several in numbered folders, on one host. A step brings, all of it
//! optional:
//!
//! | file | what |
//! | --- | --- |
//! | `etc/`, `store/` | laid over the host's `/etc` and the store |
//! | `before/` | laid over the host |
//! | `before.list` | modes, folders and links, in the format of `tree.txt` |
//! | `do.sh` | changes by others, with `$ROOT` and `$STORE` |
//! | `args` | more arguments of `plan` and `converge` |
//!
//! and the expected results, which `UPDATE_SCENARIOS=1 cargo test` rewrites:
//!
//! | file | what |
//! | --- | --- |
//! | `plan.txt` | the output of `plan`, and its exit code |
//! | `report.json` | the output of `converge --json`, without times |
//! | `tree.txt` | the host afterwards |
//!
//! Every step also checks that the pass did exactly what the plan announced.
//!
//! In all files `@ROOT@` and `@STORE@` are the folders of this run. Then plan and pass run
//! again: unless the pass failed, the plan is empty and the pass writes nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::sandbox::{Sandbox, isolated};
use crate::{processes, tree};

/// Each name is a test and a folder, `_` for `-`.
macro_rules! scenarios {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            run(stringify!($name));
        })*

        const LISTED: &[&str] = &[$(stringify!($name)),*];
    };
}

scenarios! {
    absent_resources_are_removed
    apps_that_share_a_service_reload_it_once
    drift_is_repaired
    empty_host_is_converged
    failed_check_restores_all_its_files
    failed_restart_stays_owed
    failure_stops_only_its_dependents
    only_selects_one_resource_and_those_that_act_on_it
    refused_manifest_leaves_the_last_good_one_in_force
    restart_by_an_operator_is_not_repeated
    restarts_and_reloads_happen_once_per_change
    secret_is_never_shown
    unreachable_store_is_stale_and_drift_is_still_repaired
    watched_files_take_effect_once_their_check_passes
}

#[test]
fn every_scenario_folder_is_listed() {
    let folders: Vec<String> = folders(&scenarios_folder());
    let folders: Vec<String> = folders.iter().map(|name| name.replace('-', "_")).collect();
    assert_eq!(folders, LISTED, "the list above and the folders, in order");
}

fn scenarios_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

fn folders(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn run(name: &str) {
    let folder = scenarios_folder().join(name.replace('_', "-"));
    let sandbox = Sandbox::empty();
    let numbered = |name: &String| name.starts_with(|c: char| c.is_ascii_digit());
    let mut steps: Vec<PathBuf> = folders(&folder)
        .iter()
        .filter(|name| numbered(name))
        .map(|name| folder.join(name))
        .collect();
    if steps.is_empty() {
        steps.push(folder);
    }
    for step in steps {
        Step {
            folder: &step,
            sandbox: &sandbox,
        }
        .run();
    }
}

struct Step<'a> {
    folder: &'a Path,
    sandbox: &'a Sandbox,
}

impl Step<'_> {
    fn run(&self) {
        self.prepare();
        let text = fs::read_to_string(self.folder.join("args")).unwrap_or_default();
        let args: Vec<&str> = text.split_whitespace().collect();
        let plan = self.sandbox.run(&[&["plan"], &args[..]].concat());
        self.expect("plan.txt", || without_time(&plan.to_string()));
        let forecast = self.sandbox.run(&[&["plan", "--json"], &args[..]].concat());
        let pass = self
            .sandbox
            .run(&[&["converge", "--json"], &args[..]].concat());
        self.expect("report.json", || report(&pass.out));
        if pass.code != 1 {
            assert_eq!(done(&pass.json()), planned(&forecast.json(), &pass.json()));
        }
        // A service writes its reaction to a signal some time later.
        self.expect_eventually("tree.txt", || self.sandbox.tree());
        match pass.code {
            0 => self.sandbox.assert_converged(&args),
            1 => assert_eq!(
                self.sandbox.converge().code,
                1,
                "not the same a second time"
            ),
            code => self.sandbox.pass_writes_nothing(&args, code),
        }
        assert_eq!(tree::leftovers(&self.sandbox.root), [""; 0]);
    }

    fn prepare(&self) {
        let fill = |text: &str| self.sandbox.fill(text);
        for (from, to) in [
            ("etc", self.sandbox.at("/etc")),
            ("store", self.sandbox.store.clone()),
            ("before", self.sandbox.root.clone()),
        ] {
            if self.folder.join(from).is_dir() {
                tree::overlay(&self.folder.join(from), &to, &fill);
            }
        }
        let list = fs::read_to_string(self.folder.join("before.list")).unwrap_or_default();
        for line in list.lines() {
            self.create(line);
        }
        let script = self.folder.join("do.sh");
        if script.exists() {
            let mut command = Command::new("/bin/sh");
            isolated(&mut command);
            command.arg("-eu").arg(&script);
            command.env("ROOT", &self.sandbox.root);
            command.env("STORE", &self.sandbox.store);
            assert!(command.status().unwrap().success(), "do.sh failed");
        }
    }

    fn create(&self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mode = |text: &str| {
            fs::Permissions::from_mode(u32::from_str_radix(text, 8).expect("an octal mode"))
        };
        match words.as_slice() {
            ["l", path, "->", to] => {
                std::os::unix::fs::symlink(to, self.sandbox.at(path)).unwrap();
            }
            ["d", bits, path] => {
                fs::create_dir_all(self.sandbox.at(path)).unwrap();
                fs::set_permissions(self.sandbox.at(path), mode(bits)).unwrap();
            }
            ["f", bits, path] => {
                fs::set_permissions(self.sandbox.at(path), mode(bits)).unwrap();
            }
            _ => panic!("before.list: {line}"),
        }
    }

    fn expect(&self, name: &str, actual: impl FnOnce() -> String) {
        let actual = actual();
        if updating() {
            fs::write(self.folder.join(name), actual).unwrap();
            return;
        }
        let wanted = fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        assert!(
            actual == wanted,
            "{}:\n{}",
            self.path(name),
            diff(&wanted, &actual)
        );
    }

    fn expect_eventually(&self, name: &str, actual: impl Fn() -> String) {
        if updating() {
            std::thread::sleep(Duration::from_millis(500));
        } else {
            let wanted = fs::read_to_string(self.folder.join(name)).unwrap_or_default();
            processes::wait_until(|| actual() == wanted);
        }
        self.expect(name, actual);
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

fn updating() -> bool {
    std::env::var_os("UPDATE_SCENARIOS").is_some()
}

/// What a pass did: the resources that it changed, and what it restarted, reloaded and ran.
fn done(report: &Value) -> Vec<String> {
    let changed = |row: &Value| row["status"] == "changed";
    actions(report, "paid", &changed)
}

/// The same according to the plan before it. Where the plan could not know, the pass decides.
fn planned(plan: &Value, report: &Value) -> Vec<String> {
    let done = done(report);
    let changes = |row: &Value| {
        row["status"] == "pending"
            || (row["status"] == "unknown" && done.contains(&format!("change {}", row["id"])))
    };
    actions(plan, "owed", &changes)
}

fn actions(report: &Value, duties: &str, changes: &dyn Fn(&Value) -> bool) -> Vec<String> {
    let mut acts = Vec::new();
    for row in report["resources"].as_array().unwrap() {
        if changes(row) {
            acts.push(format!("change {}", row["id"]));
        }
        for debt in row[duties].as_array().into_iter().flatten() {
            acts.push(format!(
                "{} {}: {}",
                debt["duty"], row["id"], debt["causes"]
            ));
        }
    }
    acts
}

/// The report without what differs in every run.
fn report(text: &str) -> String {
    let mut report: Value = serde_json::from_str(text).unwrap_or_else(|_| panic!("{text}"));
    let map = report.as_object_mut().unwrap();
    for volatile in ["run", "node", "started", "took_ms"] {
        assert!(map.remove(volatile).is_some(), "no `{volatile}` in {text}");
    }
    if let Some(since) = map
        .get_mut("stale")
        .and_then(|stale| stale.get_mut("since"))
    {
        assert!(since.is_string(), "stale without a time");
        *since = json!("TIME");
    }
    serde_json::to_string_pretty(&report).unwrap() + "\n"
}

/// "… (the store last answered at 2026-11-21 10:48:31 UTC)" is at TIME.
fn without_time(text: &str) -> String {
    const BEFORE: &str = "the store last answered at ";
    let lines = text.lines().map(|line| match line.rsplit_once(BEFORE) {
        Some((before, time)) if time.ends_with(" UTC)") => format!("{before}{BEFORE}TIME)\n"),
        _ => format!("{line}\n"),
    });
    lines.collect()
}

fn diff(wanted: &str, actual: &str) -> String {
    similar::TextDiff::from_lines(wanted, actual)
        .unified_diff()
        .header("expected", "found")
        .to_string()
}
