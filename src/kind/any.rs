//! Type-erased kinds and resources, so that the stages can hold lists of them.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::path::PathBuf;

use super::{Condition, Diff, Kind, ServiceProcesses, Triggered};
use crate::ports::{Host, watchdog};
use crate::problem::Problem;
use crate::release::ReleaseSpec;
use crate::resource::{ApplyOutcome, Change, Failure, ResolveInputs, Stamp};
use crate::yaml::{Node, decode};

/// An entry of [`crate::kinds::KINDS`].
pub(crate) trait AnyKind: Sync {
    fn name(&self) -> &'static str;
    /// Decodes a resource from its node in a role, whose string leaves are rendered already.
    fn decode(&self, node: &Node) -> Result<Box<dyn AnyResource>, Problem>;
    #[cfg(test)]
    fn test_probes(&self) -> super::conformance::TestProbes;
}

/// The entry of the kind `K` in [`crate::kinds::KINDS`].
pub(crate) struct KindEntry<K>(PhantomData<fn() -> K>);

impl<K> KindEntry<K> {
    pub(crate) const fn new() -> KindEntry<K> {
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

    fn decode(&self, node: &Node) -> Result<Box<dyn AnyResource>, Problem> {
        Ok(Box::new(TypedResource::<K> {
            spec: decode(node)?,
        }))
    }

    #[cfg(test)]
    fn test_probes(&self) -> super::conformance::TestProbes {
        super::conformance::TestProbes::of::<K>()
    }
}

/// A resource of any kind. The methods are those of [`Kind`].
pub(crate) trait AnyResource {
    fn kind(&self) -> &'static str;
    #[cfg(test)]
    fn spec(&self) -> &dyn std::any::Any;
    fn subject(&self) -> String;
    fn owned_path(&self) -> Option<PathBuf>;
    fn removed_path(&self) -> Option<PathBuf>;
    fn set_owned_paths(&mut self, paths: &BTreeSet<PathBuf>);
    fn check_name(&self) -> Option<&str>;
    /// Whether the field at this path may hold a secret.
    fn accepts_secret(&self, field: &[String]) -> bool;
    /// The fields that may, as errors show them.
    fn secret_fields(&self) -> Vec<String>;
    fn resolve(&mut self, inputs: &dyn ResolveInputs) -> Result<(), Problem>;
    /// Inspects the host and compares it with the spec.
    fn inspect<'r>(&'r self, host: &Host) -> Result<Box<dyn Observation + 'r>, Failure>;
    fn triggered(&self) -> Option<&dyn Triggered>;
    fn service(&self) -> Option<&dyn ServiceProcesses>;
    fn release(&self) -> Option<&ReleaseSpec>;
    fn release_mut(&mut self) -> Option<&mut ReleaseSpec>;
    /// Begins an operation on it, which the watchdog names if the host hangs.
    fn begin_operation(&self) -> watchdog::Operation;
}

/// What one inspection found.
pub(crate) trait Observation {
    fn change(&self) -> Option<&Change>;
    fn condition(&self) -> &Condition;
    /// Keeps what the stages want to know and drops the rest, such as the contents of files.
    fn into_parts(self: Box<Self>) -> (Option<Change>, Condition);
    /// The fingerprint that dependents compare, which may cost reading files.
    fn stamp(&self) -> Option<Stamp>;
    /// Makes the change; nothing is to be done if there is none.
    fn apply(&self, host: &Host) -> Result<ApplyOutcome, Failure>;
}

struct TypedResource<K: Kind> {
    spec: K::Spec,
}

struct TypedObservation<'r, K: Kind> {
    resource: &'r TypedResource<K>,
    state: K::State,
    diff: Option<Diff<K::Action>>,
    condition: Condition,
}

impl<K: Kind> AnyResource for TypedResource<K> {
    fn kind(&self) -> &'static str {
        K::NAME
    }

    #[cfg(test)]
    fn spec(&self) -> &dyn std::any::Any {
        &self.spec
    }

    fn subject(&self) -> String {
        K::subject(&self.spec)
    }

    fn owned_path(&self) -> Option<PathBuf> {
        K::owned_path(&self.spec)
    }

    fn removed_path(&self) -> Option<PathBuf> {
        K::removed_path(&self.spec)
    }

    fn set_owned_paths(&mut self, paths: &BTreeSet<PathBuf>) {
        K::set_owned_paths(&mut self.spec, paths);
    }

    fn check_name(&self) -> Option<&str> {
        K::check_name(&self.spec)
    }

    fn accepts_secret(&self, field: &[String]) -> bool {
        let accepts = |accepted: &&[&str]| {
            let mut parts = accepted.iter().zip(field);
            field.len() >= accepted.len()
                && parts.all(|(known, part)| *known == "*" || known == part)
        };
        K::SECRET_FIELDS.iter().any(accepts)
    }

    fn secret_fields(&self) -> Vec<String> {
        K::SECRET_FIELDS.iter().map(|path| path.join(".")).collect()
    }

    fn resolve(&mut self, inputs: &dyn ResolveInputs) -> Result<(), Problem> {
        K::resolve(&mut self.spec, inputs)
    }

    fn inspect<'r>(&'r self, host: &Host) -> Result<Box<dyn Observation + 'r>, Failure> {
        let _operation = self.begin_operation();
        let state = K::inspect(&self.spec, host)?;
        Ok(Box::new(TypedObservation {
            resource: self,
            diff: K::diff(&self.spec, &state),
            condition: K::condition(&self.spec, &state),
            state,
        }))
    }

    fn triggered(&self) -> Option<&dyn Triggered> {
        K::triggered(&self.spec)
    }

    fn service(&self) -> Option<&dyn ServiceProcesses> {
        K::service(&self.spec)
    }

    fn release(&self) -> Option<&ReleaseSpec> {
        K::release(&self.spec)
    }

    fn release_mut(&mut self) -> Option<&mut ReleaseSpec> {
        K::release_mut(&mut self.spec)
    }

    fn begin_operation(&self) -> watchdog::Operation {
        watchdog::begin_unbounded(format!("{}:{}", K::NAME, K::subject(&self.spec)))
    }
}

impl<K: Kind> Observation for TypedObservation<'_, K> {
    fn change(&self) -> Option<&Change> {
        self.diff.as_ref().map(|diff| &diff.change)
    }

    fn condition(&self) -> &Condition {
        &self.condition
    }

    fn into_parts(self: Box<Self>) -> (Option<Change>, Condition) {
        (self.diff.map(|diff| diff.change), self.condition)
    }

    fn stamp(&self) -> Option<Stamp> {
        K::stamp(&self.resource.spec, &self.state)
    }

    fn apply(&self, host: &Host) -> Result<ApplyOutcome, Failure> {
        let _operation = self.resource.begin_operation();
        match &self.diff {
            Some(diff) => {
                let outcome = K::apply(&self.resource.spec, &diff.action, host);
                host.label_new_paths();
                outcome
            }
            None => Ok(ApplyOutcome::Done),
        }
    }
}
