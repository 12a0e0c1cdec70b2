//! Whether the hosts of a published app may write what rollouts need.

use super::reports::{FleetReports, ReportedHost};
use crate::desired::MAX_LISTED;
use crate::desired::edit::{ManifestEdit, PublishRequest};
use crate::problem::Problem;

/// Refuses to publish an app whose hosts ask for permission that they can never get: the policy of the bucket lets them
/// write their records only, or their trueup knows no rollouts. Only for an app that never had a rollout: with the first
/// one it is known that it works.
pub(super) fn check_access(
    edit: &ManifestEdit,
    order: &PublishRequest,
    fleet: &mut dyn FleetReports,
) -> Result<(), Problem> {
    let Some(environment) = edit.manifest.environments.get(&order.environment) else {
        return Ok(());
    };
    let mut new_apps = Vec::new();
    for change in &edit.changes {
        let is_coordinated = environment.rollout(&change.app).policy().is_some();
        // A store that refuses to answer CI may still let its hosts write.
        if is_coordinated && !fleet.has_rollouts(&change.app).unwrap_or(true) {
            new_apps.push(&change.app);
        }
    }
    if new_apps.is_empty() {
        return Ok(());
    }
    let Ok(reported) = fleet.hosts() else {
        return Ok(());
    };
    for app in new_apps {
        let cannot =
            |host: &&ReportedHost| host.apps.contains(app) && host.may_take_part != Some(true);
        let hosts: Vec<&ReportedHost> = reported.hosts.iter().filter(cannot).collect();
        if !hosts.is_empty() {
            return Err(refusal(app, &order.environment, &hosts));
        }
    }
    Ok(())
}

fn refusal(app: &str, environment: &str, hosts: &[&ReportedHost]) -> Problem {
    let shown = hosts.iter().take(MAX_LISTED);
    let shown: Vec<&str> = shown.map(|host| host.node.as_str()).collect();
    let more = match hosts.len().checked_sub(MAX_LISTED).filter(|more| *more > 0) {
        Some(more) => format!(" and {more} more"),
        None => String::new(),
    };
    Problem::new(format!(
        "{app} would go nowhere: {}{more} cannot take part in rollouts",
        shown.join(", ")
    ))
    .hint(format!(
        "let the hosts read, write and list `rollouts/{environment}/*`, `slots/{environment}/*`, \
         `quarantine/{environment}/*`, `once/{environment}/*` and `at/{environment}/*` (docs/fleet.md has the policy), and \
         upgrade trueup where it is older; or say `rollout: none`: each host for itself, all at once"
    ))
}
