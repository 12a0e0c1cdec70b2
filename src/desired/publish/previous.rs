//! Whether the sha that was wanted before becomes `previous`: new hosts take that one, and hosts go back to it, so it has
//! to be one that was served.

use super::reports::{FleetReports, ServedBefore};
use crate::desired::edit::{ManifestEdit, PublishRequest, ShaChange};
use crate::desired::{Action, Manifest, RolloutMode, Sha};
use crate::problem::Problem;

/// The apps that keep the `previous` that they have, and what to say about it. `before`: the manifest before
/// the edit.
pub(super) fn keep_previous(
    before: Option<&Manifest>,
    edit: &ManifestEdit,
    order: &PublishRequest,
    fleet: &mut dyn FleetReports,
) -> (Vec<String>, Vec<Problem>) {
    let (mut kept, mut warnings, mut unknown) = (Vec::new(), Vec::new(), None);
    let Some(environment) = edit.manifest.environments.get(&order.environment) else {
        return (kept, warnings);
    };
    let before = before.and_then(|before| before.environments.get(&order.environment));
    for ShaChange { app, from, to } in &edit.changes {
        let Some(from) = from.as_ref().filter(|from| *from != to) else {
            continue;
        };
        let entry = before.and_then(|before| before.own_entry(app)?.ok());
        let previous = entry.and_then(|entry| entry.previous.as_ref());
        let is_coordinated = environment.rollout(app) != RolloutMode::Independent;
        // Somebody goes back. What is left for that is not the last good one, whoever served it; and a `previous` that is
        // wanted says nothing.
        if previous == Some(to) {
            kept.push(app.clone());
            // Who rolls back knows.
            if is_coordinated && order.action != Action::Rollback {
                warnings.push(way_back(&order.environment, app, from, to));
            }
            continue;
        }
        // Hosts that go each for itself leave no trace of what they served.
        if !is_coordinated {
            continue;
        }
        let why = match fleet.was_served(app, from) {
            Ok(ServedBefore::Yes) => continue,
            Ok(ServedBefore::Quarantined) => "is quarantined",
            Ok(ServedBefore::Never) => "was never proven on any host",
            Err(error) => {
                unknown.get_or_insert(error);
                continue;
            }
        };
        kept.push(app.clone());
        let stays = match previous {
            Some(previous) => format!("stays {}", previous.short()),
            None => "is not set".to_owned(),
        };
        warnings.push(Problem::new(format!(
            "{}/{app}: `previous` {stays}, because {} {why}",
            order.environment,
            from.short()
        )));
    }
    warnings.extend(unknown.map(|error| {
        Problem::new(format!(
            "it is unknown whether the sha before was served; it becomes `previous`: {error}"
        ))
        .hint("let the publisher read `quarantine/*`, `rollouts/*` and list `at/*` (docs/fleet.md has the policy)")
    }));
    (kept, warnings)
}

fn way_back(environment: &str, app: &str, from: &Sha, to: &Sha) -> Problem {
    let (from, to) = (from.short(), to.short());
    Problem::new(format!(
        "{environment}/{app} goes back to {to}, so {from} does not become `previous`: new hosts wait until a host that serves is \
         proven at {to}, and if {to} fails there is nothing to go back to"
    ))
}
