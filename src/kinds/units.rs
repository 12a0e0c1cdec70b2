//! The `units` kind: takes away the systemd units of a prefix that no resource describes any more.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::kind::{Diff, Kind};
use crate::ports::Host;
use crate::ports::services::{ActiveState, EnabledState};
use crate::problem::Problem;
use crate::resource::{ApplyOutcome, Change, Failure, FieldValue, ResolveInputs, Verb};

/// The folder of trueup's units; `/etc/systemd/system` is the operator's.
const FOLDER: &str = "/usr/local/lib/systemd/system";

/// The types of units that may be taken away, in this order: a timer or a socket would start its service again.
const SUFFIXES: [&str; 4] = [".timer", ".socket", ".path", ".service"];

pub(super) struct Units;

/// The units of a prefix.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct UnitsSpec {
    /// What the names of the units begin with. It contains a `:`, which no name of an app does, so that it is never the
    /// beginning of another app's units.
    pub prefix: String,
    /// The paths that resources describe.
    #[serde(skip)]
    described: BTreeSet<PathBuf>,
}

/// The names of the units that nothing describes, in the order in which they go.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnitsState(Vec<String>);

impl Kind for Units {
    const NAME: &'static str = "units";
    const ABOUT: &'static str = "The systemd units of a prefix in `/usr/local/lib/systemd/system`: those that no resource describes any more are stopped, disabled and removed.";
    const EXAMPLE: &'static str = "units: {prefix: \"app-shop:\"}";

    type Spec = UnitsSpec;
    type State = UnitsState;
    /// The units to take away.
    type Action = Vec<String>;

    fn subject(spec: &UnitsSpec) -> String {
        spec.prefix.clone()
    }

    fn set_owned_paths(spec: &mut UnitsSpec, paths: &BTreeSet<PathBuf>) {
        let units = paths.iter().filter(|path| path.starts_with(FOLDER));
        spec.described = units.cloned().collect();
    }

    fn resolve(spec: &mut UnitsSpec, _inputs: &dyn ResolveInputs) -> Result<(), Problem> {
        let usable = |c: char| c.is_ascii_alphanumeric() || ":-_.".contains(c);
        let starts = spec.prefix.starts_with(|c: char| c.is_ascii_alphanumeric());
        if starts && spec.prefix.contains(':') && spec.prefix.chars().all(usable) {
            return Ok(());
        }
        Err(Problem::new(
            "expected the beginning of names of units with a `:` in it, such as `app-shop:`",
        )
        .field("prefix"))
    }

    fn inspect(spec: &UnitsSpec, host: &Host) -> Result<UnitsState, Failure> {
        let listed = host.root.list(FOLDER.as_ref())?.unwrap_or_default();
        let names = listed
            .into_iter()
            .filter_map(|name| name.into_string().ok());
        let is_old = |name: &String| {
            name.starts_with(&spec.prefix) && !spec.described.contains(&path_of(name))
        };
        let mut names: Vec<(usize, String)> = names
            .filter(is_old)
            .filter_map(|name| Some((place_of(&name)?, name)))
            .collect();
        names.sort_unstable();
        Ok(UnitsState(
            names.into_iter().map(|(_, name)| name).collect(),
        ))
    }

    fn diff(_spec: &UnitsSpec, state: &UnitsState) -> Option<Diff<Vec<String>>> {
        if state.0.is_empty() {
            return None;
        }
        let old = FieldValue::value(state.0.join(", "));
        let change = Change::new(Verb::Remove).with_field("units", old, FieldValue::Absent);
        Some(Diff::new(state.0.clone(), change))
    }

    fn apply(_: &UnitsSpec, old: &Vec<String>, host: &Host) -> Result<ApplyOutcome, Failure> {
        for name in old {
            remove(name, host)?;
        }
        Ok(ApplyOutcome::Done)
    }
}

/// Stops a unit before its file goes, so that the next pass goes on if this one is killed in between.
fn remove(name: &str, host: &Host) -> Result<(), Failure> {
    let services = &host.services;
    let status = services.status(name)?;
    // The operator's own unit of this name is not for us to stop.
    let is_own = |file: &PathBuf| *file == path_of(name) || status.enabled == EnabledState::Masked;
    if status.known && status.definition_file.as_ref().is_none_or(is_own) {
        if status.enabled == EnabledState::Yes {
            services.disable(name)?;
        }
        if !matches!(status.active, ActiveState::Stopped | ActiveState::Failed) {
            services.stop(name)?;
        }
    }
    host.root.remove_file(&path_of(name))?;
    services.forget(name)?;
    Ok(())
}

fn path_of(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

/// When a unit goes; `None`: it is no unit that trueup wrote.
fn place_of(name: &str) -> Option<usize> {
    SUFFIXES.iter().position(|suffix| name.ends_with(suffix))
}

#[cfg(test)]
mod conformance {
    use super::Units;
    use crate::kind::ConformanceProbes;
    use crate::kind::conformance::Probe;
    use crate::ports::testing::Sandbox;

    impl ConformanceProbes for Units {
        fn prepare(host: &Sandbox) {
            host.write("/usr/local/lib/systemd/system/app-shop:old.1.service", "");
        }

        fn probes() -> Vec<Probe> {
            vec![Probe::not_set("prefix", "it says which units are meant")]
        }

        fn effects() -> Vec<Probe> {
            vec![Probe::effect("a unit that nothing describes", |host| {
                host.write("/usr/local/lib/systemd/system/app-shop:old.2.service", "");
            })]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::services::Services;
    use crate::ports::services::fake::InjectedFault;
    use crate::ports::testing::Sandbox;

    fn spec(described: &[&str]) -> UnitsSpec {
        UnitsSpec {
            prefix: "app-shop:".into(),
            described: described.iter().map(|name| path_of(name)).collect(),
        }
    }

    #[test]
    fn only_units_of_the_app_that_nothing_describes_are_removed() {
        let sandbox = Sandbox::with_base_system();
        let keep = [
            "app-shop:mail.1.service",
            "app-shop-eu:mail.1.service",
            "app-shop.service",
            "app-shop.socket",
            "app-shop:note.txt",
            "other.service",
        ];
        let old = [
            "app-shop:cron:nightly.timer",
            "app-shop:cron:nightly.service",
            "app-shop:mail.2.service",
        ];
        for name in keep.iter().chain(&old) {
            sandbox.write(&format!("{FOLDER}/{name}"), "");
        }
        for name in old {
            sandbox.services.define(name);
            sandbox.services.enable(name).unwrap();
            sandbox.services.start(name).unwrap();
        }
        let spec = spec(&["app-shop:mail.1.service"]);
        let found = Units::inspect(&spec, &sandbox.host).unwrap();
        assert_eq!(found.0, old);
        let diff = Units::diff(&spec, &found).unwrap();
        Units::apply(&spec, &diff.action, &sandbox.host).unwrap();
        for name in old {
            let status = sandbox.services.status(name).unwrap();
            assert_eq!(
                (status.active, status.enabled),
                (ActiveState::Stopped, EnabledState::No),
                "{name}"
            );
            assert!(!sandbox.exists(&format!("{FOLDER}/{name}")), "{name}");
        }
        for name in keep {
            assert!(sandbox.exists(&format!("{FOLDER}/{name}")), "{name}");
        }
        assert_eq!(Units::inspect(&spec, &sandbox.host).unwrap().0, [""; 0]);
    }

    #[test]
    fn unit_that_cannot_be_stopped_keeps_its_file() {
        let sandbox = Sandbox::with_base_system();
        let name = "app-shop:mail.1.service";
        sandbox.write(&format!("{FOLDER}/{name}"), "");
        sandbox.services.define(name);
        sandbox.services.start(name).unwrap();
        let fault = InjectedFault::Fail("it hangs".into());
        sandbox.services.inject_fault(name, "stop", fault);
        let spec = spec(&[]);
        let failure = Units::apply(&spec, &vec![name.into()], &sandbox.host).unwrap_err();
        assert!(failure.message.contains("it hangs"), "{failure}");
        assert_eq!(Units::inspect(&spec, &sandbox.host).unwrap().0, [name]);
    }
}
