//! Increments the generation.

use super::super::generation::{
    ABOVE_FLEET_HINT, MAX_FIRST, NextGeneration, generation_above_fleet,
};
use super::super::{MAX_LISTED, Manifest};
use super::request::{EditError, PublishRequest};
use crate::problem::Problem;

/// The generation of the new text.
pub(super) fn next_generation(
    manifest: &Manifest,
    name: &str,
    order: &PublishRequest,
    warnings: &mut Vec<Problem>,
) -> Result<u64, EditError> {
    let current = manifest.generation_of(&order.environment);
    let Some(hosts) = &order.above_fleet else {
        return increment_generation(manifest, &order.environment).map_err(EditError::manifest);
    };
    let next = generation_above_fleet(hosts, current).ok_or_else(|| {
        let problem = format!("no node record reports the generation that its host applied, so the next generation of {name} is unknown");
        EditError::request(Problem::new(problem).hint(
            "`trueup status` on a host shows the generation that it applied: set `generation:` to one more by hand",
        ))
    })?;
    if 2 * next.refused_by.len() > hosts.len() {
        return Err(EditError::request(refused_by_most(&next, hosts.len())));
    }
    for host in next.refused_by.iter().take(MAX_LISTED) {
        warnings.push(
            Problem::new(format!(
                "{} reports that it applied generation {}, and will refuse {}",
                host.node, host.generation, next.generation
            ))
            .hint(
                "if it is a real host and not a forged record, remove /var/lib/trueup/manifest.json there",
            ),
        );
    }
    if let Some(more) = next
        .refused_by
        .len()
        .checked_sub(MAX_LISTED)
        .filter(|more| *more > 0)
    {
        warnings.push(Problem::new(format!("{more} more hosts report this")));
    }
    Ok(next.generation)
}

fn refused_by_most(next: &NextGeneration, hosts: usize) -> Problem {
    let hosts_shown = next.refused_by.iter().take(MAX_LISTED);
    let hosts_shown = hosts_shown.map(|host| format!("{} says {}", host.node, host.generation));
    let hosts_shown: Vec<String> = hosts_shown.collect();
    Problem::new(format!(
        "{} of {hosts} hosts would refuse the generation {}, the one that most of them could take ({}, …); nothing was written",
        next.refused_by.len(),
        next.generation,
        hosts_shown.join(", ")
    ))
    .hint(
        "remove forged records with `trueup fleet --env ENV --forget NODE`; else set `generation:` by hand, from `trueup status` on the hosts",
    )
}

/// The current generation plus one.
fn increment_generation(manifest: &Manifest, environment: &str) -> Result<u64, Problem> {
    match manifest.generation_of(environment) {
        None => Ok(1),
        Some(there) if there < MAX_FIRST => Ok(there + 1),
        Some(there) => Err(Problem::new(format!(
            "the generation {there} cannot be incremented: a new host accepts none above {MAX_FIRST}"
        ))
        .at(manifest.generation_location(environment))
        .hint(format!("if it is unintended, {ABOVE_FLEET_HINT}"))),
    }
}
