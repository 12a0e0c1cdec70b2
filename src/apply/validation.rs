//! Validates sets of files together with the check that their role names, and rolls them back together when it
//! fails.
//!
//! Before the first file of a set changes, its current content is copied into a folder of root's and a
//! journal names the copies, both synced to disk. After the last file of the set the check runs; when it
//! fails, every file is restored. A pass that is killed in between leaves the journal, and the next pass
//! resolves it before it plans.
//!
//! While a set does not pass, no member causes a restart or reload, no matter who changed it: another program
//! writes a watched file, and a pass long ago may have left an old obligation.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::owed::Obligation;
use crate::owed::RecordStore;
use crate::ports::Host;
use crate::ports::root::{Attrs, FileKind, RootError};
use crate::ports::state::Document;
use crate::resource::{Argv, Duty, Failure, candidate};
use crate::role::{Catalog, Resource};

/// Timeout of a check.
const CHECK_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);

const VERSION: u32 = 1;

const JOURNAL: Document = Document::new(VERSION, 1 << 20).private();

/// Size limit of a managed file, in bytes.
const MAX_FILE_BYTES: usize = 64 << 20;

/// The state of a set's files before the change.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Journal {
    version: u32,
    saved: Vec<SavedFile>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct SavedFile {
    path: PathBuf,
    /// The name of the copy in the journal's folder; `None` if the file did not exist.
    copy: Option<String>,
    mode: u32,
    uid: u32,
    gid: u32,
}

struct ValidatedSet<'a> {
    argv: &'a Argv,
    /// The last member in order, after which the set is validated.
    last_member: &'a str,
    changed: BTreeSet<String>,
}

/// The sets of one catalog.
pub(super) struct ValidatedSets<'a> {
    sets: BTreeMap<&'a str, ValidatedSet<'a>>,
    /// The set of each member, by member id.
    set_by_member: BTreeMap<&'a str, &'a str>,
    /// The known results of checks on the current files.
    results: BTreeMap<&'a str, Result<(), String>>,
}

impl<'a> ValidatedSets<'a> {
    pub(super) fn new(catalog: &'a Catalog) -> ValidatedSets<'a> {
        let mut sets: BTreeMap<&str, ValidatedSet<'_>> = BTreeMap::new();
        let mut set_by_member = BTreeMap::new();
        for resource in &catalog.resources {
            let Some(name) = resource.body.check_name() else {
                continue;
            };
            let Some((name, check)) = catalog.checks.get_key_value(name) else {
                continue;
            };
            let set = sets.entry(name).or_insert(ValidatedSet {
                argv: &check.run,
                last_member: &resource.id,
                changed: BTreeSet::new(),
            });
            set.last_member = &resource.id;
            set_by_member.insert(resource.id.as_str(), name.as_str());
        }
        ValidatedSets {
            sets,
            set_by_member,
            results: BTreeMap::new(),
        }
    }

    /// The checks that passed on the files as they are now.
    pub(super) fn passed(&self) -> BTreeSet<&'a str> {
        let results = self.results.iter().filter(|(_, result)| result.is_ok());
        results.map(|(name, _)| *name).collect()
    }

    /// Saves the current file. Must be called before a member changes.
    pub(super) fn save_before_change(
        &mut self,
        resource: &Resource,
        host: &Host,
    ) -> Result<(), RootError> {
        let Some(name) = resource.body.check_name() else {
            return Ok(());
        };
        if let (Some(set), Some(path)) = (self.sets.get_mut(name), resource.body.owned_path()) {
            set.changed.insert(resource.id.clone());
            save_file(name, &path, host)?;
        }
        Ok(())
    }

    /// Validates the sets that end with this resource; must be called after each one. Returns the members that
    /// were rolled back, each with its failure.
    pub(super) fn validate_completed_sets(
        &mut self,
        id: &str,
        host: &Host,
    ) -> Result<Vec<(String, Failure)>, RootError> {
        let mut failed = Vec::new();
        for (name, set) in &mut self.sets {
            if set.last_member != id || set.changed.is_empty() {
                continue;
            }
            let verdict = check_result(set.argv, host);
            // A failure is not kept: the restored files are not the ones that failed.
            if verdict.is_ok() {
                self.results.insert(name, Ok(()));
            }
            if let Err(why) = &verdict {
                restore_files(name, host)?;
                for member in &set.changed {
                    let failure = Failure::new(format!(
                        "restored, because the check `{name}` failed: {why}"
                    ))
                    .hint("nothing that uses it was reloaded; fix the template or its parameters");
                    failed.push((member.clone(), failure));
                }
            }
            remove_journal(name, host)?;
            set.changed.clear();
        }
        Ok(failed)
    }

    /// Rejects a restart or reload while a set of these members fails its check. Runs each check at most
    /// once.
    pub(super) fn require_passing(
        &mut self,
        obligation: &Obligation,
        host: &Host,
    ) -> Result<(), Failure> {
        if obligation.duty == Duty::Run {
            return Ok(());
        }
        for id in &obligation.causes {
            let Some(name) = self.set_by_member.get(id.as_str()).copied() else {
                continue;
            };
            let set = &self.sets[name];
            let verdict = self.results.entry(name);
            if let Err(why) = verdict.or_insert_with(|| check_result(set.argv, host)) {
                let duty = obligation.duty;
                let message =
                    format!("no {duty} because of {id}: the check `{name}` failed: {why}");
                let hint = format!(
                    "the service keeps running as it is, and the {duty} stays owed; fix what the check reports"
                );
                return Err(Failure::new(message).hint(hint));
            }
        }
        Ok(())
    }
}

/// Resolves the journals of a killed pass: keeps a set whose check passes and restores any other. Returns a
/// line for the report for each.
pub(crate) fn recover_interrupted(
    catalog: &Catalog,
    host: &Host,
) -> Result<Vec<String>, RootError> {
    candidate::remove_leftovers(host)?;
    RecordStore::new(&host.root).restrict_modes()?;
    let mut notes = Vec::new();
    for name in host
        .root
        .list(&host.state_path("checks"))?
        .unwrap_or_default()
    {
        let name = name.to_string_lossy().into_owned();
        if read_journal(&name, host).saved.is_empty() {
            remove_journal(&name, host)?;
            continue;
        }
        let verdict = catalog
            .checks
            .get(&name)
            .map(|check| check_result(&check.run, host));
        let note = match verdict {
            Some(Ok(())) => {
                format!("a pass was interrupted before the check `{name}`; it passes now")
            }
            Some(Err(why)) => {
                restore_files(&name, host)?;
                format!(
                    "a pass was interrupted before the check `{name}`, which fails: its files were restored ({why})"
                )
            }
            None => {
                restore_files(&name, host)?;
                format!(
                    "a pass was interrupted before the check `{name}`, which no longer exists: its files were restored"
                )
            }
        };
        remove_journal(&name, host)?;
        notes.push(note);
    }
    Ok(notes)
}

fn check_result(argv: &Argv, host: &Host) -> Result<(), String> {
    run_check(argv, host).map_err(|failure| failure.message)
}

/// Why a check fails.
#[derive(Debug)]
pub(crate) struct CheckFailure {
    pub message: String,
    /// The program of the check is not installed.
    pub program_missing: bool,
}

/// Runs a check on the files as they are now.
pub(crate) fn run_check(argv: &Argv, host: &Host) -> Result<(), CheckFailure> {
    let command = argv.command().timeout(CHECK_TIMEOUT);
    host.exec
        .run_checked(command)
        .map(drop)
        .map_err(|error| CheckFailure {
            program_missing: error.is_program_missing(),
            message: error.to_string(),
        })
}

fn journal_dir(name: &str, host: &Host) -> PathBuf {
    host.state_path("checks").join(name)
}

fn journal_path(name: &str, host: &Host) -> PathBuf {
    journal_dir(name, host).join("journal.json")
}

fn read_journal(name: &str, host: &Host) -> Journal {
    JOURNAL
        .load_cache(&host.root, &journal_path(name, host))
        .unwrap_or_default()
}

fn save_file(name: &str, path: &Path, host: &Host) -> Result<(), RootError> {
    let mut journal = read_journal(name, host);
    if journal.saved.iter().any(|saved| saved.path == path) {
        return Ok(());
    }
    let folder = journal_dir(name, host);
    // The copies may hold secrets.
    host.root.create_dir_all(&folder, &Attrs::mode(0o700))?;
    let found = host.root.read_with_meta(path, MAX_FILE_BYTES)?;
    let file = found.filter(|(meta, _)| meta.kind == FileKind::File);
    let saved = match file {
        Some((meta, body)) => {
            let copy = format!("{}.before", journal.saved.len());
            host.root
                .write_atomic(&folder.join(&copy), &body, &Attrs::mode(0o600))?;
            SavedFile {
                path: path.into(),
                copy: Some(copy),
                mode: meta.mode,
                uid: meta.uid,
                gid: meta.gid,
            }
        }
        None => SavedFile {
            path: path.into(),
            copy: None,
            mode: 0,
            uid: 0,
            gid: 0,
        },
    };
    journal.version = VERSION;
    journal.saved.push(saved);
    JOURNAL.save(&host.root, &journal_path(name, host), &journal)
}

fn restore_files(name: &str, host: &Host) -> Result<(), RootError> {
    for saved in read_journal(name, host).saved {
        let Some(copy) = &saved.copy else {
            host.root.remove_file(&saved.path)?;
            continue;
        };
        let Some(body) = host
            .root
            .read(&journal_dir(name, host).join(copy), MAX_FILE_BYTES)?
        else {
            continue;
        };
        let owned = host.root.is_privileged();
        let attrs = Attrs {
            mode: Some(saved.mode),
            uid: owned.then_some(saved.uid),
            gid: owned.then_some(saved.gid),
        };
        host.root.write_atomic(&saved.path, &body, &attrs)?;
    }
    Ok(())
}

fn remove_journal(name: &str, host: &Host) -> Result<(), RootError> {
    // Remove the journal first: without it the copies have no meaning.
    host.root.remove_file(&journal_path(name, host))?;
    host.root.remove_tree(&journal_dir(name, host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::state::testing::assert_round_trip;

    #[test]
    fn example_journal_survives_a_round_trip() {
        assert_round_trip::<Journal>(&JOURNAL, "check-journal.json");
    }
}
