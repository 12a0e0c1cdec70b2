//! The `timezone` kind: the time zone of the host, which the link `/etc/localtime` selects.

use std::path::PathBuf;

use serde::Deserialize;

use crate::kind::{Diff, Kind};
use crate::ports::Host;
use crate::ports::root::Attrs;
use crate::problem::Problem;
use crate::resource::{ApplyOutcome, Change, Failure, FieldValue, ResolveInputs, Stamp, Verb};

const LINK: &str = "/etc/localtime";

pub(crate) struct Timezone;

/// The time zone of the host.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct TimezoneSpec {
    /// As in `timedatectl list-timezones`, such as `Europe/Berlin`.
    pub name: String,
}

impl TimezoneSpec {
    fn file(&self) -> PathBuf {
        PathBuf::from(format!("/usr/share/zoneinfo/{}", self.name))
    }
}

/// The only action.
pub(crate) struct SwitchLink;

impl Kind for Timezone {
    const NAME: &'static str = "timezone";
    const ABOUT: &'static str = "The time zone of the host.";
    const EXAMPLE: &'static str = "timezone: {name: Europe/Berlin}";

    type Spec = TimezoneSpec;
    /// The target of the link; `None` if there is no link.
    type State = Option<PathBuf>;
    type Action = SwitchLink;

    fn subject(spec: &TimezoneSpec) -> String {
        spec.name.clone()
    }

    fn owned_path(_spec: &TimezoneSpec) -> Option<PathBuf> {
        Some(LINK.into())
    }

    fn resolve(spec: &mut TimezoneSpec, _inputs: &dyn ResolveInputs) -> Result<(), Problem> {
        super::path_field::validate_path("name", &spec.file())
    }

    fn inspect(_spec: &TimezoneSpec, host: &Host) -> Result<Option<PathBuf>, Failure> {
        Ok(host.root.read_link(LINK.as_ref())?)
    }

    fn diff(spec: &TimezoneSpec, state: &Option<PathBuf>) -> Option<Diff<SwitchLink>> {
        if *state == Some(spec.file()) {
            return None;
        }
        let found = FieldValue::from_option(state.as_ref().map(|target| target.display()));
        let wanted = FieldValue::value(spec.file().display());
        let change = Change::new(Verb::Update).with_field("name", found, wanted);
        Some(Diff::new(SwitchLink, change))
    }

    fn apply(spec: &TimezoneSpec, _: &SwitchLink, host: &Host) -> Result<ApplyOutcome, Failure> {
        if host.root.meta(&spec.file())?.is_none() {
            let why = format!("there is no time zone `{}` on this host", spec.name);
            return Err(
                Failure::new(why).hint("`timedatectl list-timezones` lists those of `tzdata`")
            );
        }
        host.root
            .replace_symlink(LINK.as_ref(), &spec.file(), &Attrs::default())?;
        Ok(ApplyOutcome::Done)
    }

    fn stamp(_spec: &TimezoneSpec, state: &Option<PathBuf>) -> Option<Stamp> {
        let fingerprint = state.as_ref()?.display().to_string();
        Some(Stamp {
            fingerprint,
            changed_at: None,
            is_request: false,
        })
    }
}

#[cfg(test)]
mod conformance {
    use super::{LINK, Timezone};
    use crate::kind::ConformanceProbes;
    use crate::kind::conformance::Probe;
    use crate::ports::testing::Sandbox;

    impl ConformanceProbes for Timezone {
        fn prepare(sandbox: &Sandbox) {
            sandbox.write("/usr/share/zoneinfo/Europe/Berlin", "TZif");
        }

        fn probes() -> Vec<Probe> {
            vec![Probe::drift("name", |sandbox| {
                sandbox.link(LINK, "elsewhere")
            })]
        }
    }
}
