//! The traits that kinds of resources implement.
//!
//! A [`Kind`] has three main operations: [`Kind::inspect`] reads the host, [`Kind::diff`] compares that with
//! the spec (it gets no host and so cannot change anything), and [`Kind::apply`] does what `diff` found.
//! Where other resources depend on it, [`Kind::stamp`] fingerprints what is on disk.
//!
//! What only some kinds can do are traits of their own, implemented by their specs: [`Triggered`] acts when
//! others change, and [`ServiceProcesses`] gives access to those of a service. One kind, the release, is known
//! by its type: operators work with the releases of an app by name.

mod any;
#[cfg(test)]
pub(crate) mod conformance;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::ports::Host;
use crate::ports::permission::Purpose;
use crate::ports::services::{LogRange, ScheduledJob, ServiceLog};
use crate::problem::Problem;
use crate::release::ReleaseSpec;
use crate::resource::{
    ApplyOutcome, Change, Duty, DutyOutcome, Failure, ResolveInputs, ServiceRun, ServiceSummary,
    Stamp, Trial, Trigger,
};

pub(crate) use any::{AnyKind, AnyResource, KindEntry, Observation};
#[cfg(test)]
pub(crate) use conformance::ConformanceProbes;

/// A kind of resource. To add one, implement this trait in a file of its own and list it in
/// [`crate::kinds::KINDS`].
pub(crate) trait Kind: ConformanceProbes + 'static {
    /// Its name in a role.
    const NAME: &'static str;
    /// One sentence for the reference.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test writes the reference"))]
    const ABOUT: &'static str;
    /// A complete resource as YAML, for the reference; the conformance test applies it.
    #[cfg_attr(not(test), expect(dead_code, reason = "only tests apply it"))]
    const EXAMPLE: &'static str;

    /// The fields that may hold secrets: no output shows their values, and no other user of the host can read them from
    /// what the kind does. Keys from the outside to the inside, `*` for any; with all that is in them.
    const SECRET_FIELDS: &'static [&'static [&'static str]] = &[];

    /// The fields as written in a role.
    type Spec: DeserializeOwned + Documented + 'static;
    /// The state as found on the host.
    type State;
    /// What [`Kind::apply`] can be asked to do.
    type Action;

    /// The path or name of the resource. Together with the kind it makes the default id.
    fn subject(spec: &Self::Spec) -> String;

    /// The path that the resource owns exclusively: no other resource may own the same one.
    fn owned_path(_spec: &Self::Spec) -> Option<PathBuf> {
        None
    }

    /// The path of a file that the resource removes. No other resource may own it.
    fn removed_path(_spec: &Self::Spec) -> Option<PathBuf> {
        None
    }

    /// Learns the paths of all resources of the node, if it has to leave them alone.
    fn set_owned_paths(_spec: &mut Self::Spec, _paths: &BTreeSet<PathBuf>) {}

    /// The check that must pass before anything uses what this resource wrote.
    fn check_name(_spec: &Self::Spec) -> Option<&str> {
        None
    }

    /// Completes the spec from inputs other than the host (renders a template, reads a file), rejects what
    /// the types cannot reject, and registers its secrets with [`secrets`](crate::ports::secrets), so that
    /// no output shows them.
    fn resolve(_spec: &mut Self::Spec, _inputs: &dyn ResolveInputs) -> Result<(), Problem> {
        Ok(())
    }

    /// Inspects the host. Reads every field that [`Kind::apply`] can set, and changes nothing.
    fn inspect(spec: &Self::Spec, host: &Host) -> Result<Self::State, Failure>;

    /// What differs and what to do about it. Takes no host, so that the signature guarantees purity.
    fn diff(spec: &Self::Spec, state: &Self::State) -> Option<Diff<Self::Action>>;

    /// Does it.
    fn apply(
        spec: &Self::Spec,
        action: &Self::Action,
        host: &Host,
    ) -> Result<ApplyOutcome, Failure>;

    /// A fingerprint of what is on disk and the time of its last change, for resources that depend on it.
    /// `None` if nothing is on disk.
    fn stamp(_spec: &Self::Spec, _state: &Self::State) -> Option<Stamp> {
        None
    }

    /// What the stages want to know of a service or a release beyond what differs.
    fn condition(_spec: &Self::Spec, _state: &Self::State) -> Condition {
        Condition::None
    }

    /// The spec as something that acts when other resources change, if it does.
    fn triggered(_spec: &Self::Spec) -> Option<&dyn Triggered> {
        None
    }

    /// The spec as a service, if it is one.
    fn service(_spec: &Self::Spec) -> Option<&dyn ServiceProcesses> {
        None
    }

    /// The spec as a release, if it is one.
    fn release(_spec: &Self::Spec) -> Option<&ReleaseSpec> {
        None
    }

    /// The same, to complete it from the manifest.
    fn release_mut(_spec: &mut Self::Spec) -> Option<&mut ReleaseSpec> {
        None
    }
}

/// What differs between the spec of a resource and the host.
#[derive(Debug)]
pub(crate) struct Diff<A> {
    /// What [`Kind::apply`] does about it.
    pub action: A,
    /// The same for the stages and for people.
    pub change: Change,
}

impl<A> Diff<A> {
    pub(crate) fn new(action: A, change: Change) -> Diff<A> {
        Diff { action, change }
    }
}

/// Has duties when other resources change.
pub(crate) trait Triggered {
    /// Its duties, and whose changes cause them.
    fn triggers(&self) -> Vec<Trigger>;

    /// Fulfills one of these duties. `fingerprints`: of what caused it, as it is on disk; empty for what is not there.
    fn fulfill(
        &self,
        duty: Duty,
        fingerprints: &[&str],
        host: &Host,
    ) -> Result<DutyOutcome, Failure>;
}

/// The processes of a service, which perhaps run a release that is on trial.
pub(crate) trait ServiceProcesses {
    /// Its name in the service manager.
    fn name(&self) -> &str;

    /// The name of the slots of which it takes one before it is restarted or reloaded, if hosts take turns with it.
    fn slots(&self) -> Option<String>;

    /// The path of an app that it runs from.
    fn serves(&self) -> Option<&Path>;

    /// Whether it is started with a new release only after the gate.
    fn is_after_gate(&self) -> bool;

    /// The process of the app that it runs, or the cron job that it starts, by the name that operators use.
    fn process(&self) -> Option<&str>;

    /// Notes what its processes have loaded, if they can take over changes of it. Called before a pass changes anything,
    /// and only while nothing is owed: `fingerprints` are those of what it loaded, as it is on disk.
    fn note_loaded(&self, fingerprints: &[&str], host: &Host);

    /// Work on its running processes that changes nothing which differs. Logs failures.
    fn maintain(&self, host: &Host);

    /// The job that it starts, if it is a timer.
    fn scheduled_job(&self, host: &Host) -> Result<Option<ScheduledJob>, Failure>;

    /// Whether it runs, and whether it should.
    fn summary(&self, host: &Host) -> Result<ServiceSummary, Failure>;

    /// The ids of its processes, of at least those that have no other of them as ancestor.
    fn process_ids(&self, host: &Host) -> Result<Vec<u32>, Failure>;

    /// Checks that its processes run from the release on trial.
    fn check_runs_from(&self, host: &Host, trial: &Trial) -> Result<(), Failure>;

    /// How often its supervisor restarted it after a crash, since the last explicit start; 0 if it does not count.
    fn crashes(&self, host: &Host) -> u32;

    /// The uids of its processes.
    fn process_uids(&self, host: &Host) -> Vec<u32>;

    /// Opens what its processes print: one log, or one for each of them.
    fn open_logs(&self, host: &Host, range: LogRange) -> Result<Vec<ServiceLog>, Failure>;

    /// Its last lines of output, newest last.
    fn log_tail(&self, host: &Host) -> Vec<String>;
}

/// What an inspection found beyond what differs.
#[derive(Debug)]
pub(crate) enum Condition {
    /// Nothing that a stage asks for.
    None,
    Service(ServiceCondition),
    Release(ReleaseCondition),
    /// Matters that an operator should know although nothing differs. Part of every report.
    Noted(Vec<String>),
}

/// The condition of a service.
#[derive(Debug)]
pub(crate) struct ServiceCondition {
    /// Its current run, if it runs.
    pub run: Option<ServiceRun>,
    /// The role wants it to run, and no operator masked it.
    pub may_start: bool,
    /// Whether it starts by itself once a missing dependency is in place.
    pub awaits_dependency: bool,
    /// Whether its running processes are maintained.
    pub needs_maintenance: bool,
    /// Why it is unhealthy although nothing differs and no duty is owed: no change would repair it, and a
    /// host with it is not healthy.
    pub unhealthy_reason: Option<Failure>,
}

/// The condition of an app's releases.
#[derive(Debug)]
pub(crate) struct ReleaseCondition {
    /// The deployed sha.
    pub sha: Option<String>,
    /// The trial of the active release: the services that use it have to show that it works.
    pub trial: Option<Trial>,
    /// A release is complete and should be active: what permission it needs.
    pub needs_permission: Option<Purpose>,
    /// Whether the active release passed its gate only a moment ago, so that it is watched.
    pub is_new: bool,
    /// Whether work is left that affects no service: preparing the next release, removing leftovers of a
    /// killed pass. Asked in every pass, so it must cost next to nothing.
    pub needs_maintenance: bool,
    /// Matters that an operator should see to although nothing differs. Part of every report.
    pub warnings: Vec<String>,
}

impl Condition {
    pub(crate) fn service(&self) -> Option<&ServiceCondition> {
        match self {
            Condition::Service(service) => Some(service),
            _ => None,
        }
    }

    pub(crate) fn release(&self) -> Option<&ReleaseCondition> {
        match self {
            Condition::Release(release) => Some(release),
            _ => None,
        }
    }
}

/// A spec that describes its fields. In tests it keeps the reference in `docs/` in line with the code; the
/// shipped binary requires nothing of a type.
#[cfg(not(test))]
pub(crate) trait Documented {}
#[cfg(not(test))]
impl<T> Documented for T {}
#[cfg(test)]
pub(crate) trait Documented: schemars::JsonSchema {}
#[cfg(test)]
impl<T: schemars::JsonSchema> Documented for T {}

/// A kind with a probe for each field. In tests it is `conformance::ConformanceProbes`; the shipped binary
/// requires nothing of a type.
#[cfg(not(test))]
pub(crate) trait ConformanceProbes {}
#[cfg(not(test))]
impl<T> ConformanceProbes for T {}
