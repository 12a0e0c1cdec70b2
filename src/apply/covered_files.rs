//! Whether the checks of roles pass on the host's files as they are, also on those that trueup does not manage.
//!
//! A file that an operator broke stays unnoticed until the next reload, which its check then refuses, or until a reboot.
//! So a check runs when the names or times of the files in its folders have changed, and while it fails.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::validation::run_check;
use crate::digest::digest;
use crate::ports::root::{FileKind, RootError};
use crate::ports::services::ActiveState;
use crate::ports::state::Document;
use crate::ports::{Host, RUN_DIR};
use crate::resource::{Duty, Failure};
use crate::role::{Catalog, ConfigCheck, Resource};

const VERSION: u32 = 1;

/// Private: a reason quotes programs.
const CHECKS: Document = Document::new(VERSION, 1 << 20).private();

/// Most files of a folder that are looked at.
const MAX_FILES: usize = 10_000;

/// What the checks found, since boot: a reboot reads all files again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct CheckRecord {
    version: u32,
    checks: BTreeMap<String, LastCheck>,
}

/// The last run of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LastCheck {
    /// Of the names and times of the files.
    files: String,
    /// Why it failed, if it did.
    failure: Option<String>,
}

/// Failures by the id of the resource that they concern.
pub(crate) type FailingChecks = BTreeMap<String, Failure>;

/// Runs the checks whose files have changed or that failed before, and returns those that fail. `passed`: at the end of a
/// pass, the checks that it has run since and that passed; those that failed at its begin are not run again.
pub(crate) fn check_covered_files(
    catalog: &Catalog,
    host: &Host,
    passed: Option<&BTreeSet<&str>>,
) -> Result<FailingChecks, RootError> {
    let before = load(host);
    let mut record = CheckRecord {
        version: VERSION,
        checks: BTreeMap::new(),
    };
    let mut failing = FailingChecks::new();
    for (name, check) in &catalog.checks {
        if members(name, catalog).next().is_none() {
            continue;
        }
        let files = fingerprint(name, check, catalog, host);
        let last = before.checks.get(name);
        if let Some(last) = last.filter(|last| last.files == files && last.failure.is_none()) {
            record.checks.insert(name.clone(), last.clone());
            continue;
        }
        if passed.is_some_and(|passed| passed.contains(name.as_str())) {
            let check = LastCheck {
                files,
                failure: None,
            };
            record.checks.insert(name.clone(), check);
            continue;
        }
        // Without a service that runs, nothing reads the files yet.
        let Some(user) = user_of(name, catalog, host) else {
            continue;
        };
        let known = last.filter(|last| passed.is_some() && last.files == files);
        let failure = match known.and_then(|last| last.failure.clone()) {
            Some(failure) => Some(failure),
            None => match run_check(&check.run, host) {
                Ok(()) => None,
                // A package that is not installed yet brings it.
                Err(failure) if failure.program_missing => continue,
                Err(failure) => Some(failure.message),
            },
        };
        if let Some(why) = &failure {
            failing.insert(user.id.clone(), describe(name, why));
        }
        let check = LastCheck { files, failure };
        record.checks.insert(name.clone(), check);
    }
    if record != before && (!record.checks.is_empty() || !before.checks.is_empty()) {
        CHECKS.save(&host.root, &record_path(), &record)?;
    }
    Ok(failing)
}

/// The checks that failed in the last pass, without running any. Empty for a user who may not read that.
pub(crate) fn known_failing_checks(catalog: &Catalog, host: &Host) -> FailingChecks {
    let record = load(host);
    let failing = record.checks.iter().filter_map(|(name, last)| {
        let why = last.failure.as_ref()?;
        let user = user_of(name, catalog, host)?;
        Some((user.id.clone(), describe(name, why)))
    });
    failing.collect()
}

fn load(host: &Host) -> CheckRecord {
    CHECKS
        .load_cache(&host.root, &record_path())
        .unwrap_or_default()
}

fn record_path() -> PathBuf {
    Path::new(RUN_DIR).join("checks.json")
}

fn describe(name: &str, why: &str) -> Failure {
    Failure::new(format!("the check `{name}` fails: {why}")).hint(format!(
        "mend the file that it names; until then nothing that the check `{name}` covers is reloaded, and what runs may not start again"
    ))
}

fn members<'c>(name: &'c str, catalog: &'c Catalog) -> impl Iterator<Item = &'c Resource> {
    let resources = catalog.resources.iter();
    resources.filter(move |resource| resource.body.check_name() == Some(name))
}

/// Whom a failure concerns: the running service that reads the files, or, if no service does, the last of the resources.
fn user_of<'c>(name: &'c str, catalog: &'c Catalog, host: &Host) -> Option<&'c Resource> {
    let ids: BTreeSet<&str> = members(name, catalog)
        .map(|member| member.id.as_str())
        .collect();
    let reads = |resource: &&Resource| {
        let triggers = resource
            .triggers
            .iter()
            .filter(|trigger| trigger.duty != Duty::Run);
        let mut on = triggers.flat_map(|trigger| &trigger.on);
        on.any(|id| ids.contains(id.as_str()))
    };
    let mut services = catalog.resources.iter().filter(reads).peekable();
    if services.peek().is_none() {
        return members(name, catalog).last();
    }
    services.find(|service| {
        let summary = service.body.service().map(|body| body.summary(host));
        summary.is_some_and(|summary| {
            summary.is_ok_and(|summary| summary.active == ActiveState::Running)
        })
    })
}

/// Identifies the files by their names, inodes, sizes and times.
fn fingerprint(name: &str, check: &ConfigCheck, catalog: &Catalog, host: &Host) -> String {
    let owned = members(name, catalog).filter_map(|member| member.body.owned_path());
    let folders = owned.filter_map(|path| Some(path.parent()?.to_owned()));
    let paths: BTreeSet<PathBuf> = folders.chain(check.covers.iter().cloned()).collect();
    let mut listing = String::new();
    // Nothing changes meanwhile, so open folders can be cached.
    let _open = host.root.cache_folders();
    for path in &paths {
        let is_folder = add_file(path, host, &mut listing) == Some(FileKind::Directory);
        // Nobody else can make many files in a folder of root's.
        if !is_folder
            || !host
                .root
                .is_trusted_path(&path.join("any"))
                .unwrap_or(false)
        {
            continue;
        }
        let names = host.root.list(path).ok().flatten().unwrap_or_default();
        for name in names.iter().take(MAX_FILES) {
            add_file(&path.join(name), host, &mut listing);
        }
    }
    digest(listing.as_bytes())
}

/// Adds a file, and what it leads to if it is a link: configurations are often enabled by links.
fn add_file(path: &Path, host: &Host, listing: &mut String) -> Option<FileKind> {
    let meta = host.root.meta(path).ok().flatten()?;
    let mut kind = meta.kind;
    listing.push_str(&format!(
        "{}\0{}\0{}\0{}\n",
        path.display(),
        meta.inode,
        meta.size,
        meta.ctime
    ));
    if kind == FileKind::Symlink
        && let Ok(Some(real)) = host.root.canonicalize(path)
        && let Ok(Some(target)) = host.root.meta(&real)
    {
        kind = target.kind;
        listing.push_str(&format!(
            "{}\0{}\0{}\n",
            target.inode, target.size, target.ctime
        ));
    }
    Some(kind)
}
