//! Counting the generation up.

use super::super::generation::{Above, MAX_FIRST, WAY_OUT, above};
use super::super::{Manifest, SHOWN};
use super::{EditError, Order};
use crate::problem::Problem;

/// The generation of the new text.
pub(super) fn next_generation(
    manifest: &Manifest,
    name: &str,
    order: &Order,
    warnings: &mut Vec<Problem>,
) -> Result<u64, EditError> {
    let there = manifest.generation;
    let Some(hosts) = &order.above else {
        return counted_up(manifest).map_err(EditError::manifest);
    };
    let above = above(hosts, there).ok_or_else(|| {
        let problem = format!("no node record says which generation its host has acted on, so nobody knows what {name} has to go past");
        EditError::order(Problem::new(problem).hint(
            "`trueup status` on a host tells what it has acted on: write one more as `generation:` by hand",
        ))
    })?;
    if 2 * above.refused_by.len() > hosts.len() {
        return Err(EditError::order(refused_by_most(&above, hosts.len())));
    }
    for host in above.refused_by.iter().take(SHOWN) {
        warnings.push(
            Problem::new(format!(
                "{} says that it has acted on generation {}, and will refuse {}",
                host.node, host.generation, above.generation
            ))
            .hint(
                "if it is a host and no forged record, remove /var/lib/trueup/manifest.json there",
            ),
        );
    }
    if let Some(more) = above
        .refused_by
        .len()
        .checked_sub(SHOWN)
        .filter(|more| *more > 0)
    {
        warnings.push(Problem::new(format!("{more} more hosts say so")));
    }
    Ok(above.generation)
}

fn refused_by_most(above: &Above, hosts: usize) -> Problem {
    let said = above.refused_by.iter().take(SHOWN);
    let said = said.map(|host| format!("{} says {}", host.node, host.generation));
    let said: Vec<String> = said.collect();
    Problem::new(format!(
        "{} of {hosts} hosts would refuse the generation {}, the one that most of them could take ({}, …); nothing was written",
        above.refused_by.len(),
        above.generation,
        said.join(", ")
    ))
    .hint(
        "records that no host of yours wrote go with `trueup fleet --env ENV --forget NODE`; else write `generation:` by hand, as `trueup status` on the hosts tells",
    )
}

/// One up from what is there.
fn counted_up(manifest: &Manifest) -> Result<u64, Problem> {
    match manifest.generation {
        None => Ok(1),
        Some(there) if there < MAX_FIRST => Ok(there + 1),
        Some(there) => Err(Problem::new(format!(
            "the generation {there} cannot be counted up: no host that has acted on none yet takes one above {MAX_FIRST}"
        ))
        .at(&manifest.generation_at)
        .hint(format!("if nobody meant it, {WAY_OUT}"))),
    }
}
