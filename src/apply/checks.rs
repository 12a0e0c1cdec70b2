//! Sets of files that are checked together, and put back together when the check fails.
//!
//! Before the first file of a set is touched, what is there is copied into a folder of root's and
//! a journal names the copies, both on disk for good. After the last file of the set the check
//! runs; when it fails every file goes back. A pass that is killed in between leaves the journal,
//! and the next pass settles it before it plans.
//!
//! Nothing is restarted or reloaded because of a member while its set does not pass, whoever changed
//! what: a watched file is somebody else's, and an old debt may have been left by a pass long ago.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::owed::Debt;
use crate::owed::Ledger;
use crate::ports::Host;
use crate::ports::root::{Attrs, FileKind, RootError};
use crate::resource::{Argv, Duty, Failure, candidate};
use crate::role::{Catalog, Resource};

/// How long a check may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

const VERSION: u32 = 1;

/// No managed file is larger, in bytes.
const MAX_FILE: usize = 64 << 20;

/// What was there before a set was changed.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Journal {
    version: u32,
    saved: Vec<Saved>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Saved {
    path: PathBuf,
    /// The copy's name in the journal's folder; `None`: there was nothing.
    copy: Option<String>,
    mode: u32,
    uid: u32,
    gid: u32,
}

struct Set<'a> {
    argv: &'a Argv,
    /// The last member in order: after it the set is checked.
    last: &'a str,
    changed: BTreeSet<String>,
}

/// The sets of one catalog.
pub(super) struct Checks<'a> {
    sets: BTreeMap<&'a str, Set<'a>>,
    /// The set of each member, by its id.
    set_of: BTreeMap<&'a str, &'a str>,
    /// Whether a set passes as it is now, where that is known.
    verdicts: BTreeMap<&'a str, Result<(), String>>,
}

impl<'a> Checks<'a> {
    pub(super) fn new(catalog: &'a Catalog, _host: &Host) -> Checks<'a> {
        let mut sets: BTreeMap<&str, Set<'_>> = BTreeMap::new();
        let mut set_of = BTreeMap::new();
        for resource in &catalog.resources {
            let Some(name) = resource.body.check() else {
                continue;
            };
            let Some((name, argv)) = catalog.checks.get_key_value(name) else {
                continue;
            };
            let set = sets.entry(name).or_insert(Set {
                argv,
                last: &resource.id,
                changed: BTreeSet::new(),
            });
            set.last = &resource.id;
            set_of.insert(resource.id.as_str(), name.as_str());
        }
        Checks {
            sets,
            set_of,
            verdicts: BTreeMap::new(),
        }
    }

    /// To be called before a member is changed: keeps what is there.
    pub(super) fn before(&mut self, resource: &Resource, host: &Host) -> Result<(), RootError> {
        let Some(name) = resource.body.check() else {
            return Ok(());
        };
        if let (Some(set), Some(path)) = (self.sets.get_mut(name), resource.body.owns()) {
            set.changed.insert(resource.id.clone());
            save(name, &path, host)?;
        }
        Ok(())
    }

    /// To be called after each resource: checks the sets that end with it. Returns the members that
    /// were put back, each with why.
    pub(super) fn close_after(
        &mut self,
        id: &str,
        host: &Host,
    ) -> Result<Vec<(String, Failure)>, RootError> {
        let mut failed = Vec::new();
        for (name, set) in &mut self.sets {
            if set.last != id || set.changed.is_empty() {
                continue;
            }
            let verdict = run(set.argv, host);
            // What is put back is another thing than what was judged.
            if verdict.is_ok() {
                self.verdicts.insert(name, Ok(()));
            }
            if let Err(why) = &verdict {
                put_back(name, host)?;
                for member in &set.changed {
                    let failure = Failure::new(format!(
                        "put back, because the check `{name}` failed: {why}"
                    ))
                    .hint("nothing that uses it was reloaded; mend the template or its parameters");
                    failed.push((member.clone(), failure));
                }
            }
            forget(name, host)?;
            set.changed.clear();
        }
        Ok(failed)
    }

    /// Whether a restart or reload may be made because of these members. Every set is asked once.
    pub(super) fn allow(&mut self, debt: &Debt, host: &Host) -> Result<(), Failure> {
        if debt.duty == Duty::Run {
            return Ok(());
        }
        for id in &debt.causes {
            let Some(name) = self.set_of.get(id.as_str()).copied() else {
                continue;
            };
            let set = &self.sets[name];
            let verdict = self.verdicts.entry(name);
            if let Err(why) = verdict.or_insert_with(|| run(set.argv, host)) {
                let duty = debt.duty;
                let message =
                    format!("no {duty} because of {id}: the check `{name}` failed: {why}");
                let hint = format!(
                    "it goes on as it was, and the {duty} stays owed; mend what the check names"
                );
                return Err(Failure::new(message).hint(hint));
            }
        }
        Ok(())
    }
}

/// Settles what a killed pass left: a set whose check passes stays, any other goes back. Returns a
/// line for the report for each.
pub fn recover(catalog: &Catalog, host: &Host) -> Result<Vec<String>, RootError> {
    candidate::forget(host)?;
    Ledger::new(&host.root).make_private()?;
    let mut notes = Vec::new();
    for name in host.root.list(&host.state("checks"))?.unwrap_or_default() {
        let name = name.to_string_lossy().into_owned();
        if read(&name, host).saved.is_empty() {
            forget(&name, host)?;
            continue;
        }
        let verdict = catalog.checks.get(&name).map(|argv| run(argv, host));
        let note = match verdict {
            Some(Ok(())) => {
                format!("a pass was interrupted before the check `{name}`; it passes now")
            }
            Some(Err(why)) => {
                put_back(&name, host)?;
                format!(
                    "a pass was interrupted before the check `{name}`, which fails: its files were put back ({why})"
                )
            }
            None => {
                put_back(&name, host)?;
                format!(
                    "a pass was interrupted before the check `{name}`, which is gone: its files were put back"
                )
            }
        };
        forget(&name, host)?;
        notes.push(note);
    }
    Ok(notes)
}

fn run(argv: &Argv, host: &Host) -> Result<(), String> {
    run_check(argv, host).map_err(|unpassed| unpassed.message)
}

/// Why a check does not pass.
#[derive(Debug)]
pub struct Unpassed {
    pub message: String,
    /// Its program is not installed.
    pub not_there: bool,
}

/// Runs a check as it stands now.
pub fn run_check(argv: &Argv, host: &Host) -> Result<(), Unpassed> {
    let command = argv.command().timeout(PATIENCE);
    host.exec.must(command).map(drop).map_err(|error| Unpassed {
        not_there: error.is_not_there(),
        message: error.to_string(),
    })
}

fn folder(name: &str, host: &Host) -> PathBuf {
    host.state("checks").join(name)
}

fn read(name: &str, host: &Host) -> Journal {
    let body = host
        .root
        .read(&folder(name, host).join("journal.json"), 1 << 20)
        .ok()
        .flatten();
    body.and_then(|body| serde_json::from_slice(&body).ok())
        .unwrap_or_default()
}

fn save(name: &str, path: &Path, host: &Host) -> Result<(), RootError> {
    let mut journal = read(name, host);
    if journal.saved.iter().any(|saved| saved.path == path) {
        return Ok(());
    }
    let folder = folder(name, host);
    // Copies may hold secrets.
    host.root.make_dirs(&folder, &Attrs::mode(0o700))?;
    let found = host.root.read_with_meta(path, MAX_FILE)?;
    let file = found.filter(|(meta, _)| meta.kind == FileKind::File);
    let saved = match file {
        Some((meta, body)) => {
            let copy = format!("{}.before", journal.saved.len());
            host.root
                .replace(&folder.join(&copy), &body, &Attrs::mode(0o600))?;
            Saved {
                path: path.into(),
                copy: Some(copy),
                mode: meta.mode,
                uid: meta.uid,
                gid: meta.gid,
            }
        }
        None => Saved {
            path: path.into(),
            copy: None,
            mode: 0,
            uid: 0,
            gid: 0,
        },
    };
    journal.version = VERSION;
    journal.saved.push(saved);
    let body = serde_json::to_vec_pretty(&journal).expect("plain data is always JSON");
    host.root
        .replace(&folder.join("journal.json"), &body, &Attrs::mode(0o600))
}

fn put_back(name: &str, host: &Host) -> Result<(), RootError> {
    for saved in read(name, host).saved {
        let Some(copy) = &saved.copy else {
            host.root.remove(&saved.path)?;
            continue;
        };
        let Some(body) = host.root.read(&folder(name, host).join(copy), MAX_FILE)? else {
            continue;
        };
        let owned = host.root.privileged();
        let attrs = Attrs {
            mode: Some(saved.mode),
            uid: owned.then_some(saved.uid),
            gid: owned.then_some(saved.gid),
        };
        host.root.replace(&saved.path, &body, &attrs)?;
    }
    Ok(())
}

fn forget(name: &str, host: &Host) -> Result<(), RootError> {
    // The journal first: without it the copies mean nothing.
    host.root.remove(&folder(name, host).join("journal.json"))?;
    host.root.remove_tree(&folder(name, host))
}
