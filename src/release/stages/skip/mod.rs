//! Skips steps, assets and migrations whose inputs have not changed, by git's object ids, which identify the
//! content of a file or of a whole folder.
//!
//! A step and the assets are compared with the last good release that ran them as they are defined now,
//! because their outputs are copied from there. A migration is compared with the active release, because the
//! database is in the state that this release needs. In case of doubt a task runs.

pub(super) mod basis;
pub(super) mod inputs;

use std::path::{Path, PathBuf};

use super::assets;
use super::attempt::Attempt;
use super::outputs::forecast::{Forecast, forecast};
use super::run::Task;
use crate::desired::{ResumePolicy, Sha};
use crate::ports::Host;
use crate::ports::root::FileKind;
use crate::release::app::spec::ReleaseSpec;
use crate::release::app::stage::Stage;
use crate::release::record::entry::{ReleaseEntry, ReleaseStatus};
use crate::release::record::{self, ReleaseRecord};
use crate::release::source::mirror;
use crate::resource::Failure;
use basis::SkipBasis;
use inputs::{InputPaths, find_tree, is_path_equal};

/// Whether a task has to run.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Run,
    Skip(SkipBasis),
    /// It runs unless its inputs equal those of this release; the mirror does not have the wanted commit yet.
    Unknown(SkipBasis),
}

/// The data for a decision.
struct SkipContext<'a> {
    spec: &'a ReleaseSpec,
    host: &'a Host,
    record: &'a ReleaseRecord,
    /// The commit to build.
    sha: &'a Sha,
    /// The release being built, if it was started.
    name: Option<&'a str>,
}

/// The release that makes running a task unnecessary, if any.
pub(crate) fn find_basis(
    attempt: &Attempt<'_, '_>,
    task: &Task<'_>,
) -> Result<Option<SkipBasis>, Failure> {
    let context = SkipContext {
        spec: attempt.deployment.spec,
        host: attempt.deployment.host,
        record: attempt.record,
        sha: &attempt.deployment.sha,
        name: Some(&attempt.name),
    };
    Ok(match context.decide(task)? {
        Decision::Skip(basis) => Some(basis),
        Decision::Run | Decision::Unknown(_) => None,
    })
}

/// The commands of a release of `sha`, for people: a line for each, also for skipped ones.
pub(crate) fn describe_commands(
    spec: &ReleaseSpec,
    host: &Host,
    record: &ReleaseRecord,
    sha: &Sha,
) -> Result<String, Failure> {
    let context = SkipContext {
        spec,
        host,
        record,
        sha,
        name: record.find_resumable(sha).map(|entry| entry.name.as_str()),
    };
    let preflight = spec.preflight().into_iter();
    let preflight = preflight.map(|preflight| Ok(format!("preflight: {}\n", preflight.command)));
    let lines = Task::all(spec).into_iter().map(|task| {
        let (name, run) = (&task.name, task.run);
        if let Some(shared) = task.shared_outputs {
            return Ok(match forecast(spec, host, record, &task, shared, sha)? {
                Forecast::Run => format!("{name}: {run}\n"),
                Forecast::Link(release) => {
                    let why = SkipBasis::describe_release(record, &release);
                    format!("{name}: skipped, {why}\n")
                }
                Forecast::LinkByKey => format!(
                    "{name}: {run} (or skipped, unless its `key` prints something else now)\n"
                ),
                Forecast::Unknown => format!(
                    "{name}: {run} (or skipped, if a release has the same inputs: unknown until it is fetched)\n"
                ),
            });
        }
        Ok(match context.decide(&task)? {
            Decision::Run => format!("{name}: {run}\n"),
            Decision::Skip(basis) => format!("{name}: skipped, {}\n", basis.describe()),
            Decision::Unknown(basis) => format!(
                "{name}: {run} (or skipped, if its inputs equal those of {}: unknown until it is fetched)\n",
                basis.sha.short()
            ),
        })
    });
    lines.chain(preflight).collect()
}

impl SkipContext<'_> {
    fn decide(&self, task: &Task<'_>) -> Result<Decision, Failure> {
        let Some(inputs) = task.when_changed else {
            return Ok(Decision::Run);
        };
        if self.spec.resume_policy == ResumePolicy::FromScratch {
            return Ok(Decision::Run);
        }
        let entry = match task.stage {
            Stage::Migrate => self.last_migrated(task)?,
            _ => self.last_good(task),
        };
        // In another folder the same paths are other files.
        let entry = entry.filter(|entry| entry.subdir == self.spec.subdir());
        let Some(entry) = entry.filter(|entry| self.has_outputs(entry, task)) else {
            return Ok(Decision::Run);
        };
        let basis = SkipBasis::of(entry);
        Ok(
            match self.are_inputs_equal(&entry.sha, inputs, task.outputs) {
                Some(true) => Decision::Skip(basis),
                Some(false) => Decision::Run,
                None => Decision::Unknown(basis),
            },
        )
    }

    fn has_run(&self, entry: &ReleaseEntry, task: &Task<'_>) -> bool {
        let definition = task.fingerprint(self.spec);
        entry.is_done(task.stage, task.step_name(), Some(&definition))
    }

    fn last_good(&self, task: &Task<'_>) -> Option<&ReleaseEntry> {
        let last = self.record.previous_good(self.name.unwrap_or_default());
        last.filter(|entry| self.has_run(entry, task))
    }

    /// The active release, if it ran the migration as it is defined now, or is good with no migration
    /// recorded.
    fn last_migrated(&self, task: &Task<'_>) -> Result<Option<&ReleaseEntry>, Failure> {
        let active = record::current(self.host, &self.spec.layout())?;
        let active = active.filter(|active| Some(active.as_str()) != self.name);
        let entry = active.and_then(|name| self.record.find(&name));
        Ok(
            entry.filter(|entry| match entry.find_stage(Stage::Migrate, None) {
                Some(_) => self.has_run(entry, task),
                None => entry.state == ReleaseStatus::Good,
            }),
        )
    }

    /// Whether that release still has all outputs of the task.
    fn has_outputs(&self, entry: &ReleaseEntry, task: &Task<'_>) -> bool {
        let app = self.spec.layout().app_folder(&entry.name, &entry.subdir);
        match task.stage {
            Stage::Assets => assets::are_complete(self.spec, self.host, &entry.name, &app),
            _ => task.outputs.iter().all(|output| {
                if let Some(link) = self.spec.link_above(output) {
                    return self.has_linked_output(&app.path().join(link), output);
                }
                let meta = self.host.root.meta(&app.path().join(output));
                matches!(meta, Ok(Some(_)))
            }),
        }
    }

    /// Whether that release shares an output, at `link`, and there is something in it: the link may be new since.
    fn has_linked_output(&self, link: &Path, output: &Path) -> bool {
        let root = &self.host.root;
        let is_link = matches!(root.meta(link), Ok(Some(meta)) if meta.kind == FileKind::Symlink);
        let shared = self.spec.layout().shared().join(output);
        let is_filled = match root.meta(&shared) {
            Ok(Some(meta)) if meta.kind == FileKind::Directory => {
                matches!(root.list(&shared), Ok(Some(names)) if !names.is_empty())
            }
            found => matches!(found, Ok(Some(_))),
        };
        is_link && is_filled
    }

    /// Whether the inputs are equal in both commits; `None` if the mirror lacks the wanted one.
    fn are_inputs_equal(&self, old: &Sha, inputs: &[PathBuf], outputs: &[PathBuf]) -> Option<bool> {
        let mirror = mirror::open_existing(self.spec, self.host)?;
        let new = find_tree(&mirror, self.sha)?;
        let Some(old) = find_tree(&mirror, old) else {
            return Some(false);
        };
        // Files that the repository has at an output path influence the output, so they count as inputs.
        let selection = self.spec.selection();
        let made = outputs.iter().all(|path| {
            let path = selection.path_in_repository(path);
            is_path_equal(&old, &new, &path)
        });
        let inputs = InputPaths::parse(inputs, &selection);
        Some(made && inputs.are_equal(&mirror, &old, &new))
    }
}
