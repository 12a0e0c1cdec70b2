//! The preflight of a release, as a role declares it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use super::health::HealthCheck;
use crate::problem::Problem;
use crate::resource::{Argv, Seconds};
use crate::yaml::Size;

fn default_true() -> bool {
    true
}

/// Reads a boolean, or its text, which an expression in a role renders.
pub(super) fn deserialize_rendered_bool<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<bool, D::Error> {
    struct RenderedBool;

    impl Visitor<'_> for RenderedBool {
        type Value = bool;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("`true` or `false`")
        }

        fn visit_bool<E: Error>(self, value: bool) -> Result<bool, E> {
            Ok(value)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
            text.parse()
                .map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
        }
    }

    deserializer.deserialize_any(RenderedBool)
}

/// How long an app may boot at least without a `timeout`.
const MIN_DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// A trial start of a release beside the running one, before it is activated.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct PreflightSpec {
    /// `false`: there is none.
    #[serde(
        default = "default_true",
        deserialize_with = "deserialize_rendered_bool"
    )]
    pub enabled: bool,
    /// The command that serves the app from the release's folder, as the release's user, in the environment of
    /// the steps, with `TRUEUP_PREFLIGHT=1`. It must listen on 127.0.0.1 at the port in `PORT`, which
    /// trueup picks.
    pub command: Argv,
    /// The check that it must pass there; the host and the port of its URL are replaced. The release's
    /// `health` when not given.
    pub health: Option<HealthCheck>,
    /// Added to the environment of all steps.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How long it may boot; as long as `gate_timeout`, at least `60s`, when not given.
    pub timeout: Option<Seconds>,
    /// How much memory the host must have available. Under systemd the instance gets no more.
    pub memory: Option<Size>,
    /// What to do when it has less.
    #[serde(default)]
    pub when_short: WhenShort,
    /// When to start it.
    #[serde(default)]
    pub when: PreflightTiming,
}

/// What to do when the host has too little memory for a second instance of the app.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(crate) enum WhenShort {
    /// Deploy without preflight, with a warning.
    #[default]
    Skip,
    /// Do not deploy.
    Fail,
}

/// When the preflight runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(crate) enum PreflightTiming {
    /// After the migration.
    #[default]
    BeforeActivate,
    /// Before the migration: a release that cannot boot never migrates. For apps that boot without their new
    /// columns.
    BeforeMigrate,
    Both,
}

impl PreflightSpec {
    /// `gate`: the time limit of the gate.
    pub(in crate::release) fn timeout(&self, gate: Duration) -> Duration {
        let default = gate.max(MIN_DEFAULT_TIMEOUT);
        self.timeout.map_or(default, |seconds| seconds.0)
    }

    pub(in crate::release) fn runs_before_migrate(&self) -> bool {
        self.when != PreflightTiming::BeforeActivate
    }

    pub(in crate::release) fn runs_before_activate(&self) -> bool {
        self.when != PreflightTiming::BeforeMigrate
    }

    /// Checks what the types cannot express.
    pub(in crate::release) fn validate(&self, health: Option<&HealthCheck>) -> Result<(), Problem> {
        match (&self.health, health) {
            (Some(own), _) => own.validate().map_err(|problem| Problem {
                field: problem.field.map(|field| format!("preflight.{field}")),
                ..problem
            }),
            (None, Some(_)) => Ok(()),
            (None, None) => Err(Problem::new("a preflight needs a health check")
                .field("preflight")
                .hint("set the release's `health`, or `preflight.health`")),
        }
    }
}
