//! Type-erased kinds and resources, so that the stages can hold lists of them.

use std::any::Any;
use std::marker::PhantomData;
use std::path::PathBuf;

use super::{
    ApplyOutcome, Change, Duty, Failure, Kind, ResolveInputs, ServiceRun, Stamp, Trial,
    TrialOutcome, Trigger,
};
use crate::ports::{Host, watchdog};
use crate::problem::Problem;
use crate::yaml::{Node, decode};

/// An entry of [`crate::kinds::KINDS`].
pub trait AnyKind: Sync {
    fn name(&self) -> &'static str;
    fn about(&self) -> &'static str;
    fn example(&self) -> &'static str;
    /// Decodes a resource from its node in a role, whose string leaves are rendered already.
    fn decode(&self, node: &Node) -> Result<Box<dyn AnyResource>, Problem>;
    #[cfg(test)]
    fn schema(&self) -> schemars::Schema;
    #[cfg(test)]
    fn prepare(&self, sandbox: &crate::ports::testing::Sandbox);
    #[cfg(test)]
    fn skip_reason(&self, sandbox: &crate::ports::testing::Sandbox) -> Option<&'static str>;
    #[cfg(test)]
    fn sandbox_example(&self, sandbox: &crate::ports::testing::Sandbox) -> Option<String>;
    #[cfg(test)]
    fn is_read_only(&self) -> bool;
    #[cfg(test)]
    fn probes(&self) -> Vec<super::conformance::Probe>;
}

/// The entry of the kind `K` in [`crate::kinds::KINDS`].
pub struct KindEntry<K>(PhantomData<fn() -> K>);

impl<K> KindEntry<K> {
    pub const fn new() -> KindEntry<K> {
        KindEntry(PhantomData)
    }
}

impl<K> Default for KindEntry<K> {
    fn default() -> KindEntry<K> {
        KindEntry::new()
    }
}

impl<K: Kind> AnyKind for KindEntry<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn about(&self) -> &'static str {
        K::ABOUT
    }

    fn example(&self) -> &'static str {
        K::EXAMPLE
    }

    fn decode(&self, node: &Node) -> Result<Box<dyn AnyResource>, Problem> {
        Ok(Box::new(TypedResource::<K> {
            spec: decode(node)?,
        }))
    }

    #[cfg(test)]
    fn schema(&self) -> schemars::Schema {
        schemars::schema_for!(K::Spec)
    }

    #[cfg(test)]
    fn prepare(&self, sandbox: &crate::ports::testing::Sandbox) {
        K::prepare(sandbox);
    }

    #[cfg(test)]
    fn skip_reason(&self, sandbox: &crate::ports::testing::Sandbox) -> Option<&'static str> {
        K::skip_reason(sandbox)
    }

    #[cfg(test)]
    fn sandbox_example(&self, sandbox: &crate::ports::testing::Sandbox) -> Option<String> {
        K::sandbox_example(sandbox)
    }

    #[cfg(test)]
    fn is_read_only(&self) -> bool {
        K::is_read_only()
    }

    #[cfg(test)]
    fn probes(&self) -> Vec<super::conformance::Probe> {
        K::probes()
    }
}

/// The result of one inspection of the host.
#[derive(Debug)]
pub struct ObservedState {
    pub change: Option<Change>,
    pub stamp: Option<Stamp>,
    pub run: Option<ServiceRun>,
    pub awaits_dependency: bool,
    /// The sha that its app is deployed at, if it has an app.
    pub deployed_sha: Option<String>,
    pub trial: Option<Trial>,
    pub needs_maintenance: bool,
    pub warnings: Vec<String>,
    pub unhealthy_reason: Option<Failure>,
}

/// A resource of any kind. The methods are those of [`Kind`].
pub trait AnyResource {
    fn kind(&self) -> &'static str;
    /// The spec, for a caller that knows its type and downcasts it.
    fn spec(&self) -> &dyn Any;
    fn subject(&self) -> String;
    fn owned_path(&self) -> Option<PathBuf>;
    fn app(&self) -> Option<&str>;
    fn resolve(&mut self, inputs: &dyn ResolveInputs) -> Result<(), Problem>;
    fn check_name(&self) -> Option<&str>;
    fn triggers(&self) -> Vec<Trigger>;
    /// `stamp`: whether another resource needs the fingerprint, which may cost reading files.
    fn inspect(&self, host: &Host, stamp: bool) -> Result<ObservedState, Failure>;
    fn changes_stamp(&self, change: &Change) -> bool;
    fn waiting_reason(&self, change: &Change) -> Option<String>;
    fn apply(&self, change: &Change, host: &Host) -> Result<ApplyOutcome, Failure>;
    fn fulfill(&self, duty: Duty, host: &Host) -> Result<(), Failure>;
    fn check_runs_from(&self, host: &Host, trial: &Trial) -> Result<(), Failure>;
    fn process_uids(&self, host: &Host) -> Vec<u32>;
    fn log_tail(&self, host: &Host) -> Vec<String>;
    fn register_secrets(&self);
    fn run_trial(
        &self,
        host: &Host,
        users: &mut dyn FnMut() -> Result<(), Failure>,
        runs_as: &dyn Fn() -> Vec<u32>,
    ) -> Result<TrialOutcome, Failure>;
    fn find_conflict(&self, host: &Host, runs_as: &dyn Fn() -> Vec<u32>) -> Option<Failure>;
    fn confirm(&self, host: &Host) -> Result<(), Failure>;
    fn run_maintenance(&self, host: &Host) -> Result<(), Failure>;
    fn roll_back(&self, host: &Host, why: &Failure) -> Result<Option<String>, Failure>;
}

struct TypedResource<K: Kind> {
    spec: K::Spec,
}

impl<K: Kind> TypedResource<K> {
    /// The operation that the watchdog names if the host hangs here.
    fn watch_operation(&self) -> watchdog::Operation {
        watchdog::begin_unbounded(format!("{}:{}", K::NAME, K::subject(&self.spec)))
    }
}

impl<K: Kind> AnyResource for TypedResource<K> {
    fn kind(&self) -> &'static str {
        K::NAME
    }

    fn spec(&self) -> &dyn Any {
        &self.spec
    }

    fn subject(&self) -> String {
        K::subject(&self.spec)
    }

    fn owned_path(&self) -> Option<PathBuf> {
        K::owned_path(&self.spec)
    }

    fn app(&self) -> Option<&str> {
        K::app(&self.spec)
    }

    fn resolve(&mut self, inputs: &dyn ResolveInputs) -> Result<(), Problem> {
        K::resolve(&mut self.spec, inputs)
    }

    fn check_name(&self) -> Option<&str> {
        K::check_name(&self.spec)
    }

    fn triggers(&self) -> Vec<Trigger> {
        K::triggers(&self.spec)
    }

    fn inspect(&self, host: &Host, stamp: bool) -> Result<ObservedState, Failure> {
        let _operation = self.watch_operation();
        let state = K::inspect(&self.spec, host)?;
        Ok(ObservedState {
            change: K::diff(&self.spec, &state),
            stamp: stamp.then(|| K::stamp(&self.spec, &state)).flatten(),
            run: K::service_run(&self.spec, &state),
            awaits_dependency: K::awaits_dependency(&self.spec, &state),
            deployed_sha: K::deployed_sha(&self.spec, &state),
            trial: K::trial(&self.spec, &state),
            needs_maintenance: K::needs_maintenance(&self.spec, &state),
            warnings: K::warnings(&self.spec, &state),
            unhealthy_reason: K::unhealthy_reason(&self.spec, &state),
        })
    }

    fn changes_stamp(&self, change: &Change) -> bool {
        K::changes_stamp(change)
    }

    fn waiting_reason(&self, change: &Change) -> Option<String> {
        K::waiting_reason(change)
    }

    fn apply(&self, change: &Change, host: &Host) -> Result<ApplyOutcome, Failure> {
        let _operation = self.watch_operation();
        K::apply(&self.spec, change, host)
    }

    fn fulfill(&self, duty: Duty, host: &Host) -> Result<(), Failure> {
        let _operation = self.watch_operation();
        K::fulfill(&self.spec, duty, host)
    }

    fn check_runs_from(&self, host: &Host, trial: &Trial) -> Result<(), Failure> {
        let _operation = self.watch_operation();
        K::check_runs_from(&self.spec, host, trial)
    }

    fn process_uids(&self, host: &Host) -> Vec<u32> {
        let _operation = self.watch_operation();
        K::process_uids(&self.spec, host)
    }

    fn log_tail(&self, host: &Host) -> Vec<String> {
        K::log_tail(&self.spec, host)
    }

    fn register_secrets(&self) {
        K::register_secrets(&self.spec);
    }

    fn run_trial(
        &self,
        host: &Host,
        users: &mut dyn FnMut() -> Result<(), Failure>,
        runs_as: &dyn Fn() -> Vec<u32>,
    ) -> Result<TrialOutcome, Failure> {
        let _operation = self.watch_operation();
        K::run_trial(&self.spec, host, users, runs_as)
    }

    fn find_conflict(&self, host: &Host, runs_as: &dyn Fn() -> Vec<u32>) -> Option<Failure> {
        let _operation = self.watch_operation();
        K::find_conflict(&self.spec, host, runs_as)
    }

    fn confirm(&self, host: &Host) -> Result<(), Failure> {
        let _operation = self.watch_operation();
        K::confirm(&self.spec, host)
    }

    fn run_maintenance(&self, host: &Host) -> Result<(), Failure> {
        let _operation = self.watch_operation();
        K::run_maintenance(&self.spec, host)
    }

    fn roll_back(&self, host: &Host, why: &Failure) -> Result<Option<String>, Failure> {
        let _operation = self.watch_operation();
        K::roll_back(&self.spec, host, why)
    }
}
