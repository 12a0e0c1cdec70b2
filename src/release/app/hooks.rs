//! Hooks: an app's commands around the stages, such as a deploy notification to a tracker.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::stage::Stage;
use super::step::{Step, deserialize_enabled_steps};
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
        if let Some((name, _)) = self.0.iter().find(|(_, steps)| {
            let conditional =
                |step: &Step| step.when_changed.is_some() || !step.outputs.paths().is_empty();
            steps.0.iter().any(conditional)
        }) {
            return Err(Problem::new(format!(
                "a hook always runs: `{name}` takes no `when_changed` and no `outputs`"
            ))
            .field("hooks"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
