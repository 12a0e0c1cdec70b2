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
    let (old, refused): (Vec<&ReportedHost>, Vec<&ReportedHost>) =
        hosts.iter().partition(|host| host.may_take_part.is_none());
    let mut remedies = Vec::new();
    if !refused.is_empty() {
        remedies.push(format!(
            "let {} read, write and list `rollouts/{environment}/*`, `slots/{environment}/*`, `quarantine/{environment}/*`, \
             `once/{environment}/*` and `at/{environment}/*` (the policy for the bucket: \"Sid\": \"Rollouts\" in docs/fleet.md)",
            list(&refused)
        ));
    }
    if !old.is_empty() {
        remedies.push(format!("upgrade trueup on {}", list(&old)));
    }
    Problem::new(format!(
        "{app} would go nowhere: {} cannot take part in rollouts",
        list(hosts)
    ))
    .hint(format!(
        "{}; or say `rollout: none`: each host for itself, all at once",
        remedies.join(", and ")
    ))
}

/// `web1, web2 and 7 more`.
fn list(hosts: &[&ReportedHost]) -> String {
    let shown = hosts.iter().take(MAX_LISTED);
    let shown: Vec<&str> = shown.map(|host| host.node.as_str()).collect();
    match hosts.len().checked_sub(MAX_LISTED).filter(|more| *more > 0) {
        Some(more) => format!("{} and {more} more", shown.join(", ")),
        None => shown.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_without_permission_and_too_old_ones_get_their_own_remedy() {
        let host = |number: usize, may_take_part| ReportedHost {
            node: format!("web{number}"),
            tags: Default::default(),
            may_take_part,
            agent: "0.1.0".into(),
            apps: vec!["shop".into()],
        };
        let hosts: Vec<ReportedHost> = (0..12).map(|n| host(n, Some(false))).collect();
        let mut hosts: Vec<&ReportedHost> = hosts.iter().collect();
        let old = host(99, None);
        let problem = refusal("shop", "staging", &[&old]).to_string();
        assert!(
            problem.contains("upgrade trueup on web99; or say"),
            "{problem}"
        );
        assert!(!problem.contains("slots/"), "{problem}");
        hosts.push(&old);
        let problem = refusal("shop", "staging", &hosts).to_string();
        assert!(
            problem.contains("web9 and 3 more cannot take part"),
            "{problem}"
        );
        assert!(
            problem.contains("web9 and 2 more read, write and list `rollouts/staging/*`"),
            "{problem}"
        );
        assert!(
            problem.contains("docs/fleet.md), and upgrade trueup on web99"),
            "{problem}"
        );
    }
}
