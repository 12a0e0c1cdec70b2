//! Hooks: an app's commands around the stages, such as a deploy notification to a tracker.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::stage::Stage;
use super::step::{Once, Step, deserialize_enabled_steps};
use crate::problem::{Problem, nearest};

/// Commands by the time they run: `before_STAGE` and `after_STAGE` for the stages `fetch`,
/// `materialise`, `link`, `build`, `assets`, `migrate`, `preflight`, `activate`, `gate` and `keep`, and
/// `before_rollback` and `after_rollback`, which a rollback runs instead of those of `activate`.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub(crate) struct Hooks(BTreeMap<String, Steps>);

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
struct Steps(#[serde(deserialize_with = "deserialize_enabled_steps")] Vec<Step>);

/// The word for a rollback in the name of a hook.
pub(in crate::release) const ROLLBACK: &str = "rollback";

/// The hooks whose steps one host can run for all: it has permission then, and no host has activated the release.
pub(in crate::release) const ONCE_HOOKS: [&str; 3] =
    [BEFORE_MIGRATE, AFTER_MIGRATE, BEFORE_ACTIVATE];
pub(in crate::release) const BEFORE_MIGRATE: &str = "before_migrate";
pub(in crate::release) const AFTER_MIGRATE: &str = "after_migrate";
pub(in crate::release) const BEFORE_ACTIVATE: &str = "before_activate";

/// Whether a name may be part of a key in the store.
fn is_once_name(name: &str) -> bool {
    let usable = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(usable)
}

impl Hooks {
    /// The steps of one hook.
    pub(crate) fn steps_of(&self, name: &str) -> &[Step] {
        self.0.get(name).map_or(&[], |steps| &steps.0)
    }

    /// Whether a stage has hooks.
    pub(crate) fn has_any(&self, stage: &str) -> bool {
        ["before", "after"]
            .iter()
            .any(|side| !self.steps_of(&format!("{side}_{stage}")).is_empty())
    }

    /// Puts steps before those of a hook.
    pub(super) fn prepend(&mut self, name: &str, steps: Vec<Step>) {
        let hook = self.0.entry(name.to_owned()).or_default();
        hook.0.splice(..0, steps);
    }

    /// The steps of one hook that one host runs for all.
    pub(crate) fn once_steps_of(&self, name: &str) -> impl Iterator<Item = &Step> {
        let steps = self.steps_of(name).iter();
        steps.filter(|step| step.once == Once::Fleet)
    }

    /// Refuses steps that one host could not run for all, or that no operator could name.
    fn validate_once(&self) -> Result<(), Problem> {
        let mut names = BTreeSet::from(["migrate"]);
        for (hook, steps) in &self.0 {
            for step in steps.0.iter().filter(|step| step.once == Once::Fleet) {
                if !ONCE_HOOKS.contains(&hook.as_str()) {
                    let problem = format!("a hook `{hook}` takes no `once: fleet`");
                    return Err(Problem::new(problem).field("hooks").hint(format!(
                        "one host runs a step for all before any of them activates the release: expected {}",
                        ONCE_HOOKS.join(", ")
                    )));
                }
                let name = step.name.as_deref().unwrap_or_default();
                if !is_once_name(name) || !names.insert(name) {
                    let what = match name {
                        "" => "a step with `once: fleet` needs a `name`".to_owned(),
                        name if is_once_name(name) => {
                            format!("two steps with `once: fleet` are called `{name}`")
                        }
                        name => format!(
                            "`{name}` is no name for a step with `once: fleet`: expected letters, digits, `-`, `_` or `.`, starting with a letter or digit"
                        ),
                    };
                    return Err(Problem::new(what)
                        .field("hooks")
                        .hint("`trueup rollout once` settles it by its name; `migrate` is taken"));
                }
            }
        }
        Ok(())
    }

    /// Refuses hooks of unknown stages, and hooks that could be skipped.
    pub(crate) fn validate(&self) -> Result<(), Problem> {
        let stages = Stage::ALL
            .iter()
            .map(|stage| stage.as_str())
            .chain([ROLLBACK]);
        let known: Vec<String> = stages
            .flat_map(|stage| [format!("before_{stage}"), format!("after_{stage}")])
            .collect();
        for name in self.0.keys() {
            if !known.contains(name) {
                let problem = Problem::new(format!("there is no hook `{name}`")).field("hooks");
                return Err(match nearest(name, known.iter().map(String::as_str)) {
                    Some(near) => problem.hint(format!("did you mean `{near}`?")),
                    None => problem.hint(format!("there are {}", known.join(", "))),
                });
            }
        }
        let conditional =
            |step: &&Step| step.when_changed.is_some() || !step.outputs.paths().is_empty();
        for (hook, steps) in &self.0 {
            let Some(step) = steps.0.iter().find(conditional) else {
                continue;
            };
            // It may be written as a build step.
            let what = match step.once {
                Once::Fleet => {
                    let name = step.name.as_deref().unwrap_or(hook);
                    format!("a step with `once: fleet` runs for each sha: `{name}`")
                }
                Once::Host => format!("a hook always runs: `{hook}`"),
            };
            let what = format!("{what} takes no `when_changed` and no `outputs`");
            return Err(Problem::new(what).field("hooks"));
        }
        self.validate_once()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_for_all_hosts_has_a_name_and_comes_before_the_activation() {
        let refused = |hooks: &str| {
            let hooks: Hooks = serde_yaml::from_str(hooks).unwrap();
            let problem = hooks.validate().map(|()| String::new());
            problem.unwrap_or_else(|problem| problem.message)
        };
        let seed = "{name: seed, run: rake seed, once: fleet}";
        for hook in ONCE_HOOKS {
            assert_eq!(refused(&format!("{hook}: [{seed}]")), "");
        }
        let error = refused(&format!("after_gate: [{seed}]"));
        assert_eq!(error, "a hook `after_gate` takes no `once: fleet`");
        let error = refused("before_migrate: [{run: rake seed, once: fleet}]");
        assert_eq!(error, "a step with `once: fleet` needs a `name`");
        let error = refused(&format!(
            "before_migrate: [{seed}]\nafter_migrate: [{seed}]"
        ));
        assert_eq!(error, "two steps with `once: fleet` are called `seed`");
        let error = refused("before_migrate: [{name: ../../x, run: x, once: fleet}]");
        assert!(error.starts_with("`../../x` is no name for"), "{error}");
        assert_eq!(refused("after_gate: [{run: curl, once: host}]"), "");
        let upload = "{name: upload, run: x, once: fleet, when_changed: [a]}";
        assert_eq!(
            refused(&format!("before_migrate: [{upload}]")),
            "a step with `once: fleet` runs for each sha: `upload` takes no `when_changed` and no `outputs`"
        );
    }

    #[test]
    fn hook_of_unknown_stage_is_refused_with_a_suggestion() {
        let hooks = |name: &str| Hooks(BTreeMap::from([(name.to_owned(), Steps::default())]));
        for good in ["before_fetch", "after_keep", "after_rollback"] {
            assert!(hooks(good).validate().is_ok(), "{good}");
        }
        let problem = hooks("after_bild").validate().unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("hooks"));
        assert!(problem.to_string().contains("after_build"), "{problem}");
    }
}
