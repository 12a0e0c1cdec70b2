//! Values that describe a resource: its fields, what differs, why it failed, what it depends on.
//!
//! The kinds, the release pipeline and the stages of a pass share them.

mod access;
pub(crate) mod candidate;
mod cause;
mod change;
mod failure;
mod fields;
mod variables;

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ports::services::ActiveState;
use crate::problem::Problem;

pub(crate) use crate::yaml::{Seconds, Size};
pub(crate) use access::{Access, AccessState};
pub(crate) use cause::one_line;
pub(crate) use change::{Change, FieldChange, FieldValue, Verb, Withheld};
pub(crate) use failure::{Failure, FailureKind};
pub(crate) use fields::{Argv, Mode, Presence};
pub(crate) use variables::{check_variable_name, check_variable_value, check_variables};

/// Inputs for completing a spec, available before the host is inspected.
pub(crate) trait ResolveInputs {
    /// Renders a template file with the resource's own variables.
    fn render_template(
        &self,
        source: &str,
        vars: Option<&serde_json::Value>,
    ) -> Result<RenderedTemplate, Problem>;
    /// Reads a file beside the templates, unrendered.
    fn read_source(&self, source: &str) -> Result<Vec<u8>, Problem>;
    /// Whether the value of this field, or anything in it, depends on a secret. `field`: keys of maps and numbers of list
    /// items, from the outside to the inside.
    fn is_secret(&self, field: &[&str]) -> bool;
}

/// A rendered template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RenderedTemplate {
    pub text: String,
    /// Whether it depends on a secret.
    pub is_secret: bool,
}

/// Refuses a file with a secret that all users may read. `mode` is the one that the spec asks for.
pub(crate) fn check_secret_mode(mode: Option<Mode>) -> Result<(), Problem> {
    let problem = match mode {
        None => Problem::new("a file with a secret needs a mode"),
        Some(mode) if mode.0 & 0o007 != 0 => Problem::new(format!(
            "a file with a secret may not be open to all users, as {mode} is"
        )),
        Some(_) => return Ok(()),
    };
    let hint = "such as \"0600\", or \"0640\" with the group of the service that reads it; a unit file is better kept public, with the secret in a file of `EnvironmentFile=` or `LoadCredential=`";
    Err(problem.field("mode").hint(hint))
}

/// How an apply without a failure ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ApplyOutcome {
    Done,
    /// Another change than the planned one was enough.
    DoneAs(Change),
    /// Nothing was done, and nothing failed: the app is on hold.
    Waiting(String),
    /// Nothing was activated, because the wanted sha is quarantined or has just failed its preflight.
    Refused(Failure),
    /// Nothing was activated, because the wanted sha failed on another host.
    RefusedByFleet(Failure),
}

/// A release that was put into service and has to pass its gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trial {
    /// The name of the release.
    pub release: String,
    /// How often one of its services crashed since it passed its gate, if that was too often.
    pub crashed: Option<String>,
    /// The folder that contains the app's `releases`.
    pub deploy_to: PathBuf,
    /// The link through which the app uses the release.
    pub current: PathBuf,
}

/// How a trial ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TrialOutcome {
    Passed,
    Failed(Failure),
    /// Another program on the host is in the way, so there is no verdict; the next pass continues.
    Conflict(Failure),
    /// trueup was asked to stop; the next pass continues the trial.
    Stopped,
}

/// What a resource has to do when a dependency changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Duty {
    Restart,
    Reload,
    Run,
}

impl std::fmt::Display for Duty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Duty::Restart => "restart",
            Duty::Reload => "reload",
            Duty::Run => "run",
        })
    }
}

/// How a duty was fulfilled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DutyOutcome {
    AsNamed,
    /// Something that interrupts less leads to the same state, and was done in its place. What was done, in a few words.
    AtRuntime(String),
}

/// A duty and the ids of the resources whose change causes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trigger {
    pub duty: Duty,
    pub on: Vec<String>,
}

/// A short fingerprint of what is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Differs exactly when what a service would read differs.
    pub fingerprint: String,
    /// Time of the last change by the host's clock; `None` if unknown.
    pub changed_at: Option<Timestamp>,
    /// An operator's request, which is on no disk. An empty fingerprint requests nothing.
    pub is_request: bool,
}

/// One run of a service, no matter who started it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceRun {
    pub id: String,
    pub started_at: Option<Timestamp>,
    /// Time of the last reload, by the wall clock as it is set now.
    pub reloaded_at: Option<Timestamp>,
    /// Identifies that reload.
    pub reload_id: Option<String>,
}

/// Whether a service runs, and whether it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServiceSummary {
    pub active: ActiveState,
    pub expected: ExpectedState,
}

/// What the role says about a running service, and who overrides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExpectedState {
    Running,
    /// It should run, but there is no release to run from yet.
    AwaitsRelease,
    /// It should run, but an operator masked it.
    Masked,
    Stopped,
    /// The role leaves it as it is.
    Any,
}
