//! The [`Kind`] trait, which every kind of resource implements, and the types around it.
//!
//! A kind has three main operations: [`Kind::inspect`] reads the host, [`Kind::diff`] compares that with the
//! spec (it gets no host and so cannot change anything), and [`Kind::apply`] makes the change. Where other
//! resources depend on it, [`Kind::stamp`] fingerprints what is on disk.

mod access;
mod any;
pub mod candidate;
mod change;
#[cfg(test)]
pub mod conformance;
mod failure;
mod fields;

use std::path::PathBuf;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::desired::DesiredState;
use crate::ports::Host;
use crate::problem::Problem;

pub use crate::yaml::{Seconds, Size};
pub use access::{Access, AccessState};
pub use any::{AnyKind, AnyResource, KindEntry, ObservedState};
pub use change::{Change, FieldChange, FieldValue, Verb};
#[cfg(test)]
pub use conformance::ConformanceProbes;
pub use failure::Failure;
pub use fields::{Argv, Mode, Presence};

/// Inputs for completing a spec, available before the host is inspected.
pub trait ResolveInputs {
    /// Renders a template file with the resource's own variables.
    fn render_template(
        &self,
        source: &str,
        vars: Option<&serde_json::Value>,
    ) -> Result<String, Problem>;
    /// Reads a file beside the templates, unrendered.
    fn read_source(&self, source: &str) -> Result<Vec<u8>, Problem>;
    fn desired(&self) -> &DesiredState;
}

/// A kind of resource. To add one, implement this trait in a file of its own and list it in
/// [`crate::kinds::KINDS`].
pub trait Kind: ConformanceProbes + 'static {
    /// Its name in a role.
    const NAME: &'static str;
    /// One sentence for the reference.
    const ABOUT: &'static str;
    /// A complete resource as YAML, for the reference; the conformance test applies it.
    const EXAMPLE: &'static str;

    /// The fields as written in a role.
    type Spec: DeserializeOwned + Documented + 'static;
    /// The state as found on the host.
    type State;

    /// The path or name of the resource. Together with the kind it makes the default id.
    fn subject(spec: &Self::Spec) -> String;

    /// The path that the resource owns exclusively: no other resource may own the same one.
    fn owned_path(_spec: &Self::Spec) -> Option<PathBuf> {
        None
    }

    /// The app whose sha the resource takes from the manifest, if any.
    fn app(_spec: &Self::Spec) -> Option<&str> {
        None
    }

    /// The sha that the app is deployed at now.
    fn deployed_sha(_spec: &Self::Spec, _state: &Self::State) -> Option<String> {
        None
    }

    /// Completes the spec from inputs other than the host (renders a template, looks up the wanted sha) and
    /// rejects what the types cannot reject.
    fn resolve(_spec: &mut Self::Spec, _inputs: &dyn ResolveInputs) -> Result<(), Problem> {
        Ok(())
    }

    /// The check that must pass before anything uses what this resource wrote.
    fn check_name(_spec: &Self::Spec) -> Option<&str> {
        None
    }

    /// Its duties when other resources change.
    fn triggers(_spec: &Self::Spec) -> Vec<Trigger> {
        Vec::new()
    }

    /// Inspects the host. Reads every field that [`Kind::apply`] can set, and changes nothing.
    fn inspect(spec: &Self::Spec, host: &Host) -> Result<Self::State, Failure>;

    /// Computes the change. Takes no host, so that the signature guarantees purity.
    fn diff(spec: &Self::Spec, state: &Self::State) -> Option<Change>;

    /// Makes the change.
    fn apply(spec: &Self::Spec, change: &Change, host: &Host) -> Result<ApplyOutcome, Failure>;

    /// A fingerprint of what is on disk and the time of its last change, for resources that depend on it.
    /// `None` if nothing is on disk.
    fn stamp(_spec: &Self::Spec, _state: &Self::State) -> Option<Stamp> {
        None
    }

    /// Whether the change gives dependents another [`Kind::stamp`]. The plan uses this so as not to announce
    /// a restart that the pass would not make.
    fn changes_stamp(_change: &Change) -> bool {
        true
    }

    /// Why a pass would only wait instead of making this change now. For the plan.
    fn waiting_reason(_change: &Change) -> Option<String> {
        None
    }

    /// Whether it starts by itself once a missing dependency is in place.
    fn awaits_dependency(_spec: &Self::Spec, _state: &Self::State) -> bool {
        false
    }

    /// The current run of the service, if this is a service and it runs.
    fn service_run(_spec: &Self::Spec, _state: &Self::State) -> Option<ServiceRun> {
        None
    }

    /// The trial that it is on: it was put into service, and the resources that use it have to show that it
    /// works.
    fn trial(_spec: &Self::Spec, _state: &Self::State) -> Option<Trial> {
        None
    }

    /// For a user of something on trial: checks that its processes run from it.
    fn check_runs_from(_spec: &Self::Spec, _host: &Host, _trial: &Trial) -> Result<(), Failure> {
        Ok(())
    }

    /// For a user of something on trial: the uids of its processes.
    fn process_uids(_spec: &Self::Spec, _host: &Host) -> Vec<u32> {
        Vec::new()
    }

    /// For a user of something that failed its trial: its last lines of output, newest last.
    fn log_tail(_spec: &Self::Spec, _host: &Host) -> Vec<String> {
        Vec::new()
    }

    /// Registers its secrets with [`secrets`](crate::ports::secrets), so that no output shows them.
    fn register_secrets(_spec: &Self::Spec) {}

    /// Runs the trial to its end. `_users` checks that all users of the resource run from it; `_runs_as`
    /// returns the uids of their processes.
    fn run_trial(
        _spec: &Self::Spec,
        _host: &Host,
        _users: &mut dyn FnMut() -> Result<(), Failure>,
        _runs_as: &dyn Fn() -> Vec<u32>,
    ) -> Result<TrialOutcome, Failure> {
        Ok(TrialOutcome::Passed)
    }

    /// Where its users cannot run: the other program on the host that is in their way, if there is one.
    fn find_conflict(
        _spec: &Self::Spec,
        _host: &Host,
        _runs_as: &dyn Fn() -> Vec<u32>,
    ) -> Option<Failure> {
        None
    }

    /// Ends a trial that passed.
    fn confirm(_spec: &Self::Spec, _host: &Host) -> Result<(), Failure> {
        Ok(())
    }

    /// Ends a trial that failed: rolls back and returns the name of the restored release, which is then on
    /// trial itself; `None` if there is nothing to roll back to.
    fn roll_back(
        _spec: &Self::Spec,
        _host: &Host,
        _why: &Failure,
    ) -> Result<Option<String>, Failure> {
        Ok(None)
    }

    /// Matters that an operator should see to although nothing differs. Part of every report.
    fn warnings(_spec: &Self::Spec, _state: &Self::State) -> Vec<String> {
        Vec::new()
    }

    /// Whether work is left that affects no service: preparing the next release, removing leftovers of a
    /// killed pass. Called in every pass, so it must cost next to nothing.
    fn needs_maintenance(_spec: &Self::Spec, _state: &Self::State) -> bool {
        false
    }

    /// Does that work, in a pass that has nothing else to do.
    fn run_maintenance(_spec: &Self::Spec, _host: &Host) -> Result<(), Failure> {
        Ok(())
    }

    /// Why the resource is unhealthy although nothing differs and no duty is owed: no change would repair it,
    /// and a host with it is not healthy.
    fn unhealthy_reason(_spec: &Self::Spec, _state: &Self::State) -> Option<Failure> {
        None
    }

    /// Fulfills a duty. Only called for the duties of [`Kind::triggers`].
    fn fulfill(_spec: &Self::Spec, duty: Duty, _host: &Host) -> Result<(), Failure> {
        Err(Failure::new(format!("a {} cannot {duty}", Self::NAME)))
    }
}

/// How an apply without a failure ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApplyOutcome {
    Done,
    /// Nothing was done, and nothing failed: the app is on hold, or no slot is free.
    Waiting(String),
    /// Nothing was done, because the wanted sha is quarantined.
    Refused(String),
}

/// A release that was put into service and has to pass its gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// The name of the release.
    pub release: String,
    /// The folder that contains the app's `releases`.
    pub deploy_to: PathBuf,
    /// The link through which the app uses the release.
    pub current: PathBuf,
}

/// How a trial ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrialOutcome {
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
pub enum Duty {
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

/// A duty and the ids of the resources whose change causes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    pub duty: Duty,
    pub on: Vec<String>,
}

/// A short fingerprint of what is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Differs exactly when what a service would read differs.
    pub fingerprint: String,
    /// Time of the last change by the host's clock; `None` if unknown.
    pub changed_at: Option<Timestamp>,
}

/// One run of a service, no matter who started it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRun {
    pub id: String,
    pub started_at: Option<Timestamp>,
    /// Time of the last reload, by the wall clock as it is set now.
    pub reloaded_at: Option<Timestamp>,
    /// Identifies that reload.
    pub reload_id: Option<String>,
}

/// A spec that describes its fields. In tests it keeps the reference in `docs/` in line with the code; the
/// shipped binary requires nothing of a type.
#[cfg(not(test))]
pub trait Documented {}
#[cfg(not(test))]
impl<T> Documented for T {}
#[cfg(test)]
pub trait Documented: schemars::JsonSchema {}
#[cfg(test)]
impl<T: schemars::JsonSchema> Documented for T {}

/// A kind with a probe for each field. In tests it is `conformance::ConformanceProbes`; the shipped binary
/// requires nothing of a type.
#[cfg(not(test))]
pub trait ConformanceProbes {}
#[cfg(not(test))]
impl<T> ConformanceProbes for T {}
