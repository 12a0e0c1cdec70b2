//! Kinds and resources with their types erased, so that the stages can hold a list of them.

use std::any::Any;
use std::marker::PhantomData;
use std::path::PathBuf;

use super::{Change, Duty, Failure, Inputs, Kind, Outcome, Run, Stamp, Trial, Trigger, Verdict};
use crate::ports::{Host, watchdog};
use crate::problem::Problem;
use crate::yaml::{Node, decode};

/// A kind in the list of kinds.
pub trait AnyKind: Sync {
    fn name(&self) -> &'static str;
    fn about(&self) -> &'static str;
    fn example(&self) -> &'static str;
    /// The resource that a role describes, its string leaves rendered.
    fn decode(&self, node: &Node) -> Result<Box<dyn AnyResource>, Problem>;
    #[cfg(test)]
    fn schema(&self) -> schemars::Schema;
    #[cfg(test)]
    fn prepare(&self, sandbox: &crate::ports::testing::Sandbox);
    #[cfg(test)]
    fn cannot_run(&self, sandbox: &crate::ports::testing::Sandbox) -> Option<&'static str>;
    #[cfg(test)]
    fn example_here(&self, sandbox: &crate::ports::testing::Sandbox) -> Option<String>;
    #[cfg(test)]
    fn only_looks(&self) -> bool;
    #[cfg(test)]
    fn probes(&self) -> Vec<super::conformance::Probe>;
}

/// The entry of the kind `K` in the list of kinds.
pub struct Registered<K>(PhantomData<fn() -> K>);

impl<K> Registered<K> {
    pub const fn new() -> Registered<K> {
        Registered(PhantomData)
    }
}

impl<K> Default for Registered<K> {
    fn default() -> Registered<K> {
        Registered::new()
    }
}

impl<K: Kind> AnyKind for Registered<K> {
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
        Ok(Box::new(Typed::<K> {
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
    fn cannot_run(&self, sandbox: &crate::ports::testing::Sandbox) -> Option<&'static str> {
        K::cannot_run(sandbox)
    }

    #[cfg(test)]
    fn example_here(&self, sandbox: &crate::ports::testing::Sandbox) -> Option<String> {
        K::example_here(sandbox)
    }

    #[cfg(test)]
    fn only_looks(&self) -> bool {
        K::only_looks()
    }

    #[cfg(test)]
    fn probes(&self) -> Vec<super::conformance::Probe> {
        K::probes()
    }
}

/// What one look at the host found.
#[derive(Debug)]
pub struct Seen {
    pub change: Option<Change>,
    pub stamp: Option<Stamp>,
    pub run: Option<Run>,
    pub dormant: bool,
    /// The sha that its app is at, if it has one.
    pub sha: Option<String>,
    pub trial: Option<Trial>,
    pub chores: bool,
    pub warnings: Vec<String>,
    pub ails: Option<Failure>,
}

/// A resource of whatever kind. The methods are those of [`Kind`].
pub trait AnyResource {
    fn kind(&self) -> &'static str;
    /// The spec itself, for whoever knows its type.
    fn spec(&self) -> &dyn Any;
    fn subject(&self) -> String;
    fn owns(&self) -> Option<PathBuf>;
    fn app(&self) -> Option<&str>;
    fn resolve(&mut self, inputs: &dyn Inputs) -> Result<(), Problem>;
    fn check(&self) -> Option<&str>;
    fn triggers(&self) -> Vec<Trigger>;
    /// `stamp`: whether somebody needs the fingerprint, which may cost reading.
    fn look(&self, host: &Host, stamp: bool) -> Result<Seen, Failure>;
    fn shows(&self, change: &Change) -> bool;
    fn waits(&self, change: &Change) -> Option<String>;
    fn apply(&self, change: &Change, host: &Host) -> Result<Outcome, Failure>;
    fn pay(&self, duty: Duty, host: &Host) -> Result<(), Failure>;
    fn runs_from(&self, host: &Host, trial: &Trial) -> Result<(), Failure>;
    fn runs_as(&self, host: &Host) -> Vec<u32>;
    fn last_words(&self, host: &Host) -> Vec<String>;
    fn learn_secrets(&self);
    fn prove(
        &self,
        host: &Host,
        users: &mut dyn FnMut() -> Result<(), Failure>,
        runs_as: &dyn Fn() -> Vec<u32>,
    ) -> Result<Verdict, Failure>;
    fn disturbed(&self, host: &Host, runs_as: &dyn Fn() -> Vec<u32>) -> Option<Failure>;
    fn confirm(&self, host: &Host) -> Result<(), Failure>;
    fn do_chores(&self, host: &Host) -> Result<(), Failure>;
    fn put_back(&self, host: &Host, why: &Failure) -> Result<Option<String>, Failure>;
}

struct Typed<K: Kind> {
    spec: K::Spec,
}

impl<K: Kind> Typed<K> {
    /// What the watchdog says should the host hang here.
    fn declare(&self) -> watchdog::Operation {
        watchdog::at(format!("{}:{}", K::NAME, K::subject(&self.spec)))
    }
}

impl<K: Kind> AnyResource for Typed<K> {
    fn kind(&self) -> &'static str {
        K::NAME
    }

    fn spec(&self) -> &dyn Any {
        &self.spec
    }

    fn subject(&self) -> String {
        K::subject(&self.spec)
    }

    fn owns(&self) -> Option<PathBuf> {
        K::owns(&self.spec)
    }

    fn app(&self) -> Option<&str> {
        K::app(&self.spec)
    }

    fn resolve(&mut self, inputs: &dyn Inputs) -> Result<(), Problem> {
        K::resolve(&mut self.spec, inputs)
    }

    fn check(&self) -> Option<&str> {
        K::check(&self.spec)
    }

    fn triggers(&self) -> Vec<Trigger> {
        K::triggers(&self.spec)
    }

    fn look(&self, host: &Host, stamp: bool) -> Result<Seen, Failure> {
        let _operation = self.declare();
        let state = K::inspect(&self.spec, host)?;
        Ok(Seen {
            change: K::diff(&self.spec, &state),
            stamp: stamp.then(|| K::stamp(&self.spec, &state)).flatten(),
            run: K::run(&self.spec, &state),
            dormant: K::dormant(&self.spec, &state),
            sha: K::sha(&self.spec, &state),
            trial: K::trial(&self.spec, &state),
            chores: K::has_chores(&self.spec, &state),
            warnings: K::warnings(&self.spec, &state),
            ails: K::ails(&self.spec, &state),
        })
    }

    fn shows(&self, change: &Change) -> bool {
        K::shows(change)
    }

    fn waits(&self, change: &Change) -> Option<String> {
        K::waits(change)
    }

    fn apply(&self, change: &Change, host: &Host) -> Result<Outcome, Failure> {
        let _operation = self.declare();
        K::apply(&self.spec, change, host)
    }

    fn pay(&self, duty: Duty, host: &Host) -> Result<(), Failure> {
        let _operation = self.declare();
        K::pay(&self.spec, duty, host)
    }

    fn runs_from(&self, host: &Host, trial: &Trial) -> Result<(), Failure> {
        let _operation = self.declare();
        K::runs_from(&self.spec, host, trial)
    }

    fn runs_as(&self, host: &Host) -> Vec<u32> {
        let _operation = self.declare();
        K::runs_as(&self.spec, host)
    }

    fn last_words(&self, host: &Host) -> Vec<String> {
        K::last_words(&self.spec, host)
    }

    fn learn_secrets(&self) {
        K::learn_secrets(&self.spec);
    }

    fn prove(
        &self,
        host: &Host,
        users: &mut dyn FnMut() -> Result<(), Failure>,
        runs_as: &dyn Fn() -> Vec<u32>,
    ) -> Result<Verdict, Failure> {
        let _operation = self.declare();
        K::prove(&self.spec, host, users, runs_as)
    }

    fn disturbed(&self, host: &Host, runs_as: &dyn Fn() -> Vec<u32>) -> Option<Failure> {
        let _operation = self.declare();
        K::disturbed(&self.spec, host, runs_as)
    }

    fn confirm(&self, host: &Host) -> Result<(), Failure> {
        let _operation = self.declare();
        K::confirm(&self.spec, host)
    }

    fn do_chores(&self, host: &Host) -> Result<(), Failure> {
        let _operation = self.declare();
        K::do_chores(&self.spec, host)
    }

    fn put_back(&self, host: &Host, why: &Failure) -> Result<Option<String>, Failure> {
        let _operation = self.declare();
        K::put_back(&self.spec, host, why)
    }
}
