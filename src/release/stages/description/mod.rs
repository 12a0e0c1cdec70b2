//! What describes the build of a release: a fingerprint for each stage, which the record keeps.
//!
//! A tree cannot be un-run. So a release goes on only if everything that was done in it was done by the same
//! description; otherwise it is built anew, from a fresh checkout. What was not begun yet may change at will.
//!
//! The record is readable by everybody, so no fingerprint covers a secret: a changed one repeats no
//! completed step.

#[cfg(test)]
mod tests;

use super::run::Task;
use crate::digest::digest;
use crate::release::app::spec::ReleaseSpec;
use crate::release::app::stage::Stage;
use crate::release::record::entry::{ReleaseEntry, StageEntry};

/// Recorded apart in the stage `link`: the rendered files that the steps found.
pub(crate) const FILES_STEP: &str = "files";

/// Recorded apart in the stage `assets`: a resumed release that only lacks the sharing does not compile
/// again.
pub(crate) const COMPILE_STEP: &str = "compile";

/// The description of a build, as far as it decides what is in the tree.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BuildDescription {
    /// How the commit becomes files, and whose they are.
    pub materialise: String,
    /// What trueup adds to them, and the hooks up to the assets.
    pub link: String,
    /// The content of the rendered files that are not secret; `None`: there are none.
    pub files: Option<String>,
    /// Each step by its name, in order.
    steps: Vec<(String, String)>,
    assets: Option<String>,
}

impl BuildDescription {
    pub(crate) fn of(spec: &ReleaseSpec) -> BuildDescription {
        let materialise = (&spec.user, &spec.group, spec.filters, &spec.git_crypt_key);
        let mut materialise = format!("{materialise:?}");
        if let Some(subdir) = &spec.subdir {
            materialise.push_str(&format!("{:?}", (subdir, &spec.also)));
        }
        let assets = spec.assets.as_ref();
        let assets = assets.map(|assets| (&assets.path, &assets.manifests));
        let files: Vec<_> = spec.files.iter().map(|file| &file.path).collect();
        let link = (
            &spec.linked_dirs,
            &spec.linked_files,
            assets,
            files,
            build_hooks(spec),
        );
        let mut steps: Vec<(String, String)> = Vec::new();
        for index in 0..spec.steps.len() {
            let task = Task::build_step(spec, index);
            let definition = task.fingerprint(spec);
            // As in the record: of two steps of one name the later one counts, in the place of the first.
            match steps.iter_mut().find(|(name, _)| *name == task.name) {
                Some(same) => same.1 = definition,
                None => steps.push((task.name, definition)),
            }
        }
        BuildDescription {
            materialise: fingerprint(&materialise),
            link: fingerprint(&format!("{link:?}")),
            files: files_fingerprint(spec),
            steps,
            assets: Task::assets(spec).map(|task| task.fingerprint(spec)),
        }
    }

    /// The first part of a release that another description made; `None`: the release may go on, or, if it is
    /// complete, is the described one.
    ///
    /// A part of a complete release without a fingerprint counts as described: an earlier trueup built it.
    pub(crate) fn first_difference(&self, entry: &ReleaseEntry) -> Option<String> {
        self.changed_tree(entry)
            .or_else(|| self.changed_step(entry))
            .or_else(|| self.changed_assets(entry))
            .or_else(|| self.changed_files(entry))
    }

    fn changed_tree(&self, entry: &ReleaseEntry) -> Option<String> {
        let stages = [
            (Stage::Materialise, &self.materialise),
            (Stage::Link, &self.link),
        ];
        let differs = |(stage, now): &(Stage, &String)| {
            let made = entry.find_stage(*stage, None);
            match made.and_then(|made| made.definition.as_ref()) {
                Some(made) => made != *now,
                None => !entry.state.is_complete(),
            }
        };
        let changed = stages.into_iter().find(differs);
        changed.map(|(stage, _)| format!("the stage `{}`", stage.as_str()))
    }

    fn changed_step(&self, entry: &ReleaseEntry) -> Option<String> {
        let is_step = |made: &&StageEntry| made.stage == Stage::Build && made.step.is_some();
        let started: Vec<&StageEntry> = entry.stages.iter().filter(is_step).collect();
        for (index, made) in started.iter().enumerate() {
            let name = made.step.as_deref().unwrap_or_default();
            let is_same = self
                .steps
                .get(index)
                .is_some_and(|(now, definition)| now == name && is_described(made, definition));
            if !is_same {
                return Some(format!("the step `{name}`"));
            }
        }
        let is_whole = entry.state.is_complete() && entry.find_stage(Stage::Build, None).is_some();
        let missing = self.steps.get(started.len()).filter(|_| is_whole);
        missing.map(|(name, _)| format!("the step `{name}`"))
    }

    fn changed_assets(&self, entry: &ReleaseEntry) -> Option<String> {
        let differs = match (started_assets(entry), &self.assets) {
            (Some(made), Some(now)) => !is_described(made, now),
            (Some(_), None) => true,
            (None, Some(_)) => entry.state.is_complete(),
            (None, None) => false,
        };
        differs.then(|| "the stage `assets`".to_owned())
    }

    /// The files of a complete release are rewritten when it is activated. In an unfinished one the commands
    /// that ran may have used the old ones.
    fn changed_files(&self, entry: &ReleaseEntry) -> Option<String> {
        let has_step = |made: &StageEntry| made.stage == Stage::Build && made.step.is_some();
        let has_started = entry.stages.iter().any(has_step) || started_assets(entry).is_some();
        if entry.state.is_complete() || !has_started {
            return None;
        }
        let made = entry.find_stage(Stage::Link, Some(FILES_STEP));
        let made = made.and_then(|made| made.definition.as_ref());
        (made != self.files.as_ref()).then(|| "the rendered files".to_owned())
    }
}

fn started_assets(entry: &ReleaseEntry) -> Option<&StageEntry> {
    let compiled = || entry.find_stage(Stage::Assets, Some(COMPILE_STEP));
    entry.find_stage(Stage::Assets, None).or_else(compiled)
}

fn is_described(made: &StageEntry, definition: &str) -> bool {
    made.definition
        .as_deref()
        .is_none_or(|made| made == definition)
}

/// A fingerprint of the links of a release.
pub(crate) fn links_fingerprint(spec: &ReleaseSpec) -> String {
    fingerprint(&format!("{:?}", (&spec.linked_dirs, &spec.linked_files)))
}

/// A fingerprint of everything that decides whether a release can be built and activated: while it stays the
/// same, a release that failed fails again, as far as it is up to its description.
pub(crate) fn attempt_fingerprint(spec: &ReleaseSpec) -> String {
    let tasks = Task::all(spec).into_iter();
    let tasks: Vec<_> = tasks
        .map(|task| (task.fingerprint(spec), task.name, task.timeout))
        .collect();
    // Without the headers of the health check, which may hold a token.
    let preflight = spec.preflight().map(|preflight| {
        let health = preflight.health.as_ref().or(spec.health.as_ref());
        (
            preflight.command.to_string(),
            &preflight.env,
            preflight.timeout.map(|timeout| timeout.0),
            (preflight.memory, preflight.when_short, preflight.when),
            health.map(|health| &health.url),
        )
    });
    let deadline = spec.build_deadline.map(|deadline| deadline.0);
    fingerprint(&format!(
        "{:?}",
        (
            BuildDescription::of(spec),
            tasks,
            &spec.hooks,
            preflight,
            deadline
        )
    ))
}

/// The hooks that run in the tree while it is built.
fn build_hooks(spec: &ReleaseSpec) -> String {
    let stages = [Stage::Materialise, Stage::Link, Stage::Build, Stage::Assets];
    let names = stages.map(|stage| {
        let stage = stage.as_str();
        [format!("before_{stage}"), format!("after_{stage}")]
    });
    let mut text = String::new();
    for name in names.iter().flatten() {
        for step in spec.hooks.steps_of(name) {
            let command = (name, step.run.to_string(), &step.env, &step.user);
            text.push_str(&format!("{command:?}"));
        }
    }
    text
}

fn files_fingerprint(spec: &ReleaseSpec) -> Option<String> {
    if spec.files.is_empty() {
        return None;
    }
    let files = spec.files.iter().map(|file| {
        let body = (!file.secret).then_some(&file.body);
        format!("{:?}", (&file.path, body))
    });
    Some(fingerprint(&files.collect::<String>()))
}

fn fingerprint(text: &str) -> String {
    digest(text.as_bytes())[..16].to_owned()
}
