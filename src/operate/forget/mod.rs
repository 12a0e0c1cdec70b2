//! The removal of a node whose machine is gone.

use std::time::Duration;

use crate::fleet;
use crate::operate::CommandError;
use crate::operate::rollout::NodeRelease;
use crate::pass::PassError;
use crate::problem::Problem;

/// What happens to a live node whose record was removed.
pub(crate) const RETURN_NOTE: &str = "if it is alive, it returns with its next heartbeat and is missing from all peer lists until then";

/// A node whose record was removed.
#[derive(Debug)]
pub(crate) struct ForgottenNode {
    /// It sent a heartbeat recently.
    pub was_alive: bool,
    /// What it held in rollouts and was given up, a line each.
    pub released: Vec<String>,
    /// What could not be looked at or given up, a line each.
    pub warnings: Vec<String>,
}

/// Frees what a node holds in rollouts, and removes its record. Refuses one that still publishes, unless `even_if_alive`.
pub(crate) fn forget(
    release: &NodeRelease<'_>,
    even_if_alive: bool,
) -> Result<ForgottenNode, CommandError> {
    let (store, environment, node) = (release.store, release.environment, release.node);
    let heartbeat: Duration = release.fleet.heartbeat();
    let silence = fleet::node_silence(store, environment, node).map_err(PassError::Store)?;
    let recent = silence.filter(|silence| *silence < 2 * heartbeat);
    if let (Some(silence), false) = (recent, even_if_alive) {
        let problem = Problem::new(format!(
            "{node} sent a heartbeat {} s ago: {RETURN_NOTE}",
            silence.as_secs()
        ));
        return Err(CommandError::Usage(problem.hint(format!(
            "if its machine is gone or was replaced: `trueup fleet --forget {node} --yes`"
        ))));
    }
    // First: without its record nobody would see that it holds a slot.
    let released = release.run()?;
    let removed = fleet::forget_node(store, environment, node).map_err(PassError::Store)?;
    if removed == 0 && released.done.is_empty() {
        let known = fleet::node_names(store, environment).map_err(PassError::Store)?;
        let problem = Problem::new(format!("{environment} has no node `{node}`"));
        return Err(CommandError::Usage(
            problem
                .suggest(node, known.iter().map(String::as_str))
                .hint(format!(
                    "`trueup fleet --env {environment}` lists the nodes"
                )),
        ));
    }
    Ok(ForgottenNode {
        was_alive: recent.is_some(),
        released: released.done,
        warnings: released.warnings,
    })
}

#[cfg(test)]
mod tests;
