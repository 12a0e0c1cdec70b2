//! What a resource is: the one trait that every kind implements, and the values around it.
//!
//! A kind is asked four things: what is there ([`Kind::inspect`]), what differs from what is wanted
//! ([`Kind::diff`], which has no host and so cannot do anything), to make it so ([`Kind::apply`]),
//! and, where others depend on it, a fingerprint of what is on disk ([`Kind::stamp`]).

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

/// What a kind may ask for while its spec is completed, before anything on the host is looked at.
pub trait ResolveInputs {
    /// The text of a template file, rendered with the resource's own variables.
    fn render_template(
        &self,
        source: &str,
        vars: Option<&serde_json::Value>,
    ) -> Result<String, Problem>;
    /// The bytes of a file beside the templates, as they are.
    fn read_source(&self, source: &str) -> Result<Vec<u8>, Problem>;
    fn desired(&self) -> &DesiredState;
}

/// One kind of resource. Adding a kind is writing this in a file of its own and naming it in
/// [`crate::kinds::KINDS`].
pub trait Kind: ConformanceProbes + 'static {
    /// As written in a role.
    const NAME: &'static str;
    /// One sentence for the reference.
    const ABOUT: &'static str;
    /// A whole resource as YAML, for the reference; the conformance test applies it.
    const EXAMPLE: &'static str;

    /// As written, typed.
    type Spec: DeserializeOwned + Documented + 'static;
    /// As found on the host.
    type State;

    /// What it is about: the path or name. With the kind it makes the default id.
    fn subject(spec: &Self::Spec) -> String;

    /// The path that it owns alone: no other resource may own the same.
    fn owned_path(_spec: &Self::Spec) -> Option<PathBuf> {
        None
    }

    /// The app whose sha it wants from the manifest, if it wants one.
    fn app(_spec: &Self::Spec) -> Option<&str> {
        None
    }

    /// The sha that the app is at now.
    fn deployed_sha(_spec: &Self::Spec, _state: &Self::State) -> Option<String> {
        None
    }

    /// Completes the spec from inputs other than the host (renders a template, looks up the wanted
    /// sha) and refuses what no type can refuse.
    fn resolve(_spec: &mut Self::Spec, _inputs: &dyn ResolveInputs) -> Result<(), Problem> {
        Ok(())
    }

    /// The check that must pass before anything uses what this wrote.
    fn check_name(_spec: &Self::Spec) -> Option<&str> {
        None
    }

    /// What it owes when others change.
    fn triggers(_spec: &Self::Spec) -> Vec<Trigger> {
        Vec::new()
    }

    /// Looks at the host. Reads every field that [`Kind::apply`] can set, and changes nothing.
    fn inspect(spec: &Self::Spec, host: &Host) -> Result<Self::State, Failure>;

    /// What would have to change. No host: purity is in the signature.
    fn diff(spec: &Self::Spec, state: &Self::State) -> Option<Change>;

    /// Makes it so.
    fn apply(spec: &Self::Spec, change: &Change, host: &Host) -> Result<ApplyOutcome, Failure>;

    /// A fingerprint of what is on disk now and when it last changed, for those that depend on it.
    /// `None`: nothing is there.
    fn stamp(_spec: &Self::Spec, _state: &Self::State) -> Option<Stamp> {
        None
    }

    /// Whether those that depend on it will see another [`Kind::stamp`] after this change. A plan
    /// asks, so as not to tell of a restart that the pass would not make.
    fn changes_stamp(_change: &Change) -> bool {
        true
    }

    /// Why a pass would not make this change now, if it would only wait. A plan asks.
    fn waiting_reason(_change: &Change) -> Option<String> {
        None
    }

    /// Whether it will start by itself once something that is not there yet is in place.
    fn awaits_dependency(_spec: &Self::Spec, _state: &Self::State) -> bool {
        false
    }

    /// The run of the service that this is, if it is one and it runs.
    fn service_run(_spec: &Self::Spec, _state: &Self::State) -> Option<ServiceRun> {
        None
    }

    /// The trial that it is on: it was put into service, and its users have to show that it works.
    fn trial(_spec: &Self::Spec, _state: &Self::State) -> Option<Trial> {
        None
    }

    /// As a user of something on trial: whether its processes run from it.
    fn check_runs_from(_spec: &Self::Spec, _host: &Host, _trial: &Trial) -> Result<(), Failure> {
        Ok(())
    }

    /// As a user of something on trial: as whom its processes run.
    fn process_uids(_spec: &Self::Spec, _host: &Host) -> Vec<u32> {
        Vec::new()
    }

    /// As a user of something that failed its trial: what it printed last, newest last.
    fn log_tail(_spec: &Self::Spec, _host: &Host) -> Vec<String> {
        Vec::new()
    }

    /// Tells [`secrets`](crate::ports::secrets) what of it must not be shown, whoever prints it.
    fn register_secrets(_spec: &Self::Spec) {}

    /// Watches a trial to its end. `users` says whether all its users run from it, `process_uids` as whom
    /// their processes do.
    fn run_trial(
        _spec: &Self::Spec,
        _host: &Host,
        _users: &mut dyn FnMut() -> Result<(), Failure>,
        _runs_as: &dyn Fn() -> Vec<u32>,
    ) -> Result<TrialOutcome, Failure> {
        Ok(TrialOutcome::Passed)
    }

    /// Of one whose users cannot run: who else on the host is in their way, if somebody is.
    fn find_conflict(
        _spec: &Self::Spec,
        _host: &Host,
        _runs_as: &dyn Fn() -> Vec<u32>,
    ) -> Option<Failure> {
        None
    }

    /// Ends a trial that went well.
    fn confirm(_spec: &Self::Spec, _host: &Host) -> Result<(), Failure> {
        Ok(())
    }

    /// Ends a trial that went wrong: puts back what was there before and returns its name, on trial
    /// in its turn; `None` if there is nothing to put back.
    fn roll_back(
        _spec: &Self::Spec,
        _host: &Host,
        _why: &Failure,
    ) -> Result<Option<String>, Failure> {
        Ok(None)
    }

    /// What a person should see to, though it is right: told in every report.
    fn warnings(_spec: &Self::Spec, _state: &Self::State) -> Vec<String> {
        Vec::new()
    }

    /// Whether something is left to do that changes nothing for anybody: preparing what comes next,
    /// removing what a killed pass left. Asked in every pass, so it must cost next to nothing.
    fn needs_maintenance(_spec: &Self::Spec, _state: &Self::State) -> bool {
        false
    }

    /// Does its chores, in a pass that has nothing else to do.
    fn run_maintenance(_spec: &Self::Spec, _host: &Host) -> Result<(), Failure> {
        Ok(())
    }

    /// What is wrong with it although nothing about it differs and nothing is owed to it: no change
    /// would mend it, and a host with it is not well.
    fn unhealthy_reason(_spec: &Self::Spec, _state: &Self::State) -> Option<Failure> {
        None
    }

    /// Does what is owed. Only called for the duties of [`Kind::triggers`].
    fn fulfill(_spec: &Self::Spec, duty: Duty, _host: &Host) -> Result<(), Failure> {
        Err(Failure::new(format!("a {} cannot {duty}", Self::NAME)))
    }
}

/// How an apply that did not fail ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApplyOutcome {
    Done,
    /// Nothing was done, for a reason that is nobody's failure: a hold, a slot not free.
    Waiting(String),
    /// Nothing was done, because what is wanted was found to be bad before.
    Refused(String),
}

/// Something that was put into service and has to prove itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// The release's name.
    pub release: String,
    /// The folder of the app's `releases`.
    pub deploy_to: PathBuf,
    /// The link through which it is used.
    pub current: PathBuf,
}

/// How a trial ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrialOutcome {
    Passed,
    Failed(Failure),
    /// Somebody else on the host is in the way, so that nothing can be said; the next pass goes on.
    Conflict(Failure),
    /// trueup was told to stop meanwhile; the next pass goes on with the trial.
    Stopped,
}

/// What a change elsewhere makes necessary.
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

/// A duty and the ids of the resources whose change brings it about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    pub duty: Duty,
    pub on: Vec<String>,
}

/// What is on disk, in a few bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Differs exactly when what a service would read differs.
    pub fingerprint: String,
    /// When it last changed, by the host's clock; `None` when that is not known.
    pub changed_at: Option<Timestamp>,
}

/// One run of a service, whoever started it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRun {
    pub id: String,
    pub started_at: Option<Timestamp>,
    /// When it was last told to reload, by the wall clock as it is set now.
    pub reloaded_at: Option<Timestamp>,
    /// Which reload that was.
    pub reload_id: Option<String>,
}

/// A spec that can tell its fields. In the shipped binary this asks nothing of a type; in tests it
/// makes the reference in `docs/` follow the code.
#[cfg(not(test))]
pub trait Documented {}
#[cfg(not(test))]
impl<T> Documented for T {}
#[cfg(test)]
pub trait Documented: schemars::JsonSchema {}
#[cfg(test)]
impl<T: schemars::JsonSchema> Documented for T {}

/// A kind that can tell how each of its fields is tested. In the shipped binary this asks nothing
/// of a type; in tests it is `conformance::ConformanceProbes`.
#[cfg(not(test))]
pub trait ConformanceProbes {}
#[cfg(not(test))]
impl<T> ConformanceProbes for T {}
