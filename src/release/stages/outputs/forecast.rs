//! Whether a step with shared outputs will run, before anything does.

use super::key::{OutputInputs, find_inputs, folder_of_step};
use super::store::OutputStore;
use crate::desired::Sha;
use crate::ports::Host;
use crate::release::app::outputs::SharedOutputs;
use crate::release::app::spec::ReleaseSpec;
use crate::release::stages::run::Task;
use crate::resource::Failure;

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
    task: &Task<'_>,
    outputs: &SharedOutputs,
    sha: &Sha,
) -> Result<Forecast, Failure> {
    let store = OutputStore {
        root: &host.root,
        layout: &spec.layout(),
    };
    let step = folder_of_step(&task.name);
    Ok(match find_inputs(spec, host, task, outputs, sha)? {
        OutputInputs::None => Forecast::Run,
        OutputInputs::Unknown => Forecast::Unknown,
        OutputInputs::Digest(inputs) => match store.find(&step, &inputs)? {
            None => Forecast::Run,
            Some(_) if outputs.key.is_some() => Forecast::LinkByKey,
            Some((_, release)) => Forecast::Link(release),
        },
    })
}
