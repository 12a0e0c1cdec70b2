//! Whether a step with shared outputs will run, before anything does.

use super::key::{OutputInputs, find_inputs, folder_of_step};
use super::store::OutputStore;
use crate::desired::{ResumePolicy, Sha};
use crate::ports::Host;
use crate::release::app::outputs::SharedOutputs;
use crate::release::app::spec::ReleaseSpec;
use crate::release::record::ReleaseRecord;
use crate::release::stages::run::Task;
use crate::resource::Failure;

/// Whether an output that a release uses may be used by others: not if the build failed later, or the release
/// turned out to be bad, for which the output may be the reason, nor if an operator tries something with it.
pub(crate) fn is_proper(record: &ReleaseRecord, release: &str) -> bool {
    let entry = record.find(release);
    entry.is_some_and(|entry| entry.state.is_complete() && entry.private_until.is_none())
}

/// What will happen to a step.
pub(crate) enum Forecast {
    Run,
    /// An output of this release has the same inputs.
    Link(String),
    /// As [`Forecast::Link`], unless the command `key` prints something else now.
    LinkByKey,
    /// The mirror lacks the commit.
    Unknown,
}

pub(crate) fn forecast(
    spec: &ReleaseSpec,
    host: &Host,
    record: &ReleaseRecord,
    task: &Task<'_>,
    outputs: &SharedOutputs,
    sha: &Sha,
) -> Result<Forecast, Failure> {
    let store = OutputStore {
        root: &host.root,
        layout: &spec.layout(),
    };
    let step = folder_of_step(&task.name);
    if spec.resume_policy == ResumePolicy::FromScratch {
        return Ok(Forecast::Run);
    }
    Ok(match find_inputs(spec, host, task, outputs, sha)? {
        OutputInputs::None => Forecast::Run,
        OutputInputs::Unknown => Forecast::Unknown,
        OutputInputs::Digest(inputs) => {
            match store.find(&step, &inputs, |release| is_proper(record, release))? {
                None => Forecast::Run,
                Some(_) if outputs.key.is_some() => Forecast::LinkByKey,
                Some((_, release)) => Forecast::Link(release),
            }
        }
    })
}
