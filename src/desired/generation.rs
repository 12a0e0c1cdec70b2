//! The generation of a manifest: each `publish` increments it, so that hosts recognize old instructions.
//!
//! A host refuses a generation that is older than the one it acted on. It also refuses a leap: otherwise
//! anyone who may write the manifest could set the largest number there is, after which no other would ever
//! be newer.

/// Maximum distance of a generation ahead of the one that a host has acted on.
pub(super) const MAX_LEAP: u64 = 1_000_000;

/// Maximum generation for a host that has acted on none yet.
pub(super) const MAX_FIRST: u64 = 1 << 40;

/// The hint of `trueup publish` when hosts refuse the generation.
pub(super) const ABOVE_FLEET_HINT: &str =
    "`trueup publish ENV --above-fleet` sets it above what the hosts have applied";

/// Why a host that has acted on `acted_on` refuses the generation `found`; `None` if it accepts it.
pub(super) fn refusal_reason(found: Option<u64>, acted_on: Option<u64>) -> Option<String> {
    let subject = || found.map_or("it has none".into(), |found| format!("it is {found}"));
    match (found, acted_on) {
        (Some(found), None) if found > MAX_FIRST => Some(format!(
            "it is {found}, and this host has applied none yet: it accepts none above {MAX_FIRST}"
        )),
        (_, None) => None,
        (None, Some(acted_on)) => Some(older_message(&subject(), acted_on)),
        (Some(found), Some(acted_on)) if found < acted_on => {
            Some(older_message(&subject(), acted_on))
        }
        (Some(found), Some(acted_on)) if found - acted_on > MAX_LEAP => Some(format!(
            "it is {found}, and this host has applied {acted_on}: a leap of more than {MAX_LEAP} is refused"
        )),
        _ => None,
    }
}

/// The remedy for a refusal.
pub(super) fn refusal_hint(found: Option<u64>, acted_on: Option<u64>) -> String {
    // Incrementing cannot bridge such a distance.
    const FAR: u64 = 1000;
    let is_far = found.is_some_and(|found| found.abs_diff(acted_on.unwrap_or_default()) > FAR);
    let remedy = match is_far {
        true => ABOVE_FLEET_HINT,
        false => "publish again with `trueup publish`, which increments it",
    };
    format!("{remedy}; to go back on purpose remove /var/lib/trueup/manifest.json on the host")
}

fn older_message(subject: &str, acted_on: u64) -> String {
    format!("{subject}, and this host has applied {acted_on}: an older manifest is refused")
}

/// The generation that a host reports to have acted on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeGeneration {
    /// `production/web1`.
    pub node: String,
    pub generation: u64,
}

/// A generation above those that hosts have acted on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NextGeneration {
    pub generation: u64,
    /// Hosts that would refuse it, because their number is too far from most others.
    pub refused_by: Vec<NodeGeneration>,
}

/// The generation to continue with: above those that the hosts have acted on, and above the current one
/// unless that is a leap. A record may contain any number, so the largest group of hosts that one generation
/// can satisfy counts; among groups of equal size, the one with the lower numbers, which incrementing leads
/// to. Never above `MAX_FIRST`: no new host would accept it, and nobody could increment it. `None`: no host
/// reports a number that can be incremented.
pub(crate) fn generation_above_fleet(
    hosts: &[NodeGeneration],
    current: Option<u64>,
) -> Option<NextGeneration> {
    let mut generations: Vec<u64> = hosts.iter().map(|host| host.generation).collect();
    generations.sort_unstable();
    generations.retain(|generation| *generation < MAX_FIRST);
    let mut best: Option<(usize, u64)> = None;
    let mut first = 0;
    for (last, top) in generations.iter().enumerate() {
        while top - generations[first] >= MAX_LEAP {
            first += 1;
        }
        let count = last + 1 - first;
        if best.is_none_or(|(most, _)| count > most) {
            best = Some((count, *top));
        }
    }
    let (_, top) = best?;
    let least = generations.iter().find(|other| top - **other < MAX_LEAP)?;
    let is_ahead =
        |current: &u64| *current > top && current - least < MAX_LEAP && *current < MAX_FIRST;
    let generation = current.filter(is_ahead).unwrap_or(top) + 1;
    let refuses =
        |host: &&NodeGeneration| refusal_reason(Some(generation), Some(host.generation)).is_some();
    Some(NextGeneration {
        generation,
        refused_by: hosts.iter().filter(refuses).cloned().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_is_accepted_from_the_last_one_up_to_a_leap() {
        for (found, acted_on, expected) in [
            (None, None, None),
            (Some(0), None, None),
            (Some(MAX_FIRST), None, None),
            (Some(MAX_FIRST + 1), None, Some("none above 1099511627776")),
            (Some(u64::MAX), None, Some("none above")),
            (
                None,
                Some(42),
                Some("it has none, and this host has applied 42: an older"),
            ),
            (
                Some(41),
                Some(42),
                Some("it is 41, and this host has applied 42: an older"),
            ),
            (Some(42), Some(42), None),
            (Some(42 + MAX_LEAP), Some(42), None),
            (
                Some(43 + MAX_LEAP),
                Some(42),
                Some("leap of more than 1000000"),
            ),
            (
                Some(u64::MAX),
                Some(42),
                Some("it is 18446744073709551615, and"),
            ),
            (Some(u64::MAX), Some(u64::MAX), None),
            (Some(MAX_FIRST + 2), Some(MAX_FIRST + 1), None),
        ] {
            let reason = refusal_reason(found, acted_on);
            match expected {
                None => assert_eq!(reason, None, "{found:?} {acted_on:?}"),
                Some(part) => assert!(
                    reason.as_ref().is_some_and(|reason| reason.contains(part)),
                    "{reason:?}"
                ),
            }
        }
    }

    fn hosts(generations: &[u64]) -> Vec<NodeGeneration> {
        let numbered = generations.iter().enumerate();
        let hosts = numbered.map(|(n, generation)| NodeGeneration {
            node: format!("production/web{n}"),
            generation: *generation,
        });
        hosts.collect()
    }

    #[test]
    fn generation_suits_most_hosts_and_names_those_that_refuse() {
        for (generations, current, expected, refused) in [
            (vec![42, 41, 42], Some(u64::MAX), 43, vec![]),
            (vec![42, 41, 42], Some(50), 51, vec![]),
            (vec![42], Some(3), 43, vec![]),
            (vec![42], None, 43, vec![]),
            (vec![42, u64::MAX, 40], Some(u64::MAX), 43, vec![1]),
            (vec![1 << 40, 42, 40], Some(1 << 40), 43, vec![0]),
            (vec![1 << 39, 42], Some(1 << 39), 43, vec![0]),
            (vec![42, 42 + MAX_LEAP - 1], Some(7), 42 + MAX_LEAP, vec![]),
            (vec![42, 42 + MAX_LEAP], Some(7), 43, vec![1]),
            (vec![42], Some(42 + MAX_LEAP - 1), 42 + MAX_LEAP, vec![]),
            (vec![42], Some(42 + MAX_LEAP), 43, vec![]),
            (vec![MAX_FIRST - 1], Some(MAX_FIRST), MAX_FIRST, vec![]),
        ] {
            let hosts = hosts(&generations);
            let found = generation_above_fleet(&hosts, current).unwrap();
            assert_eq!(found.generation, expected, "{generations:?} {current:?}");
            let refused: Vec<NodeGeneration> = refused
                .into_iter()
                .map(|n: usize| hosts[n].clone())
                .collect();
            assert_eq!(found.refused_by, refused, "{generations:?} {current:?}");
        }
        for generations in [
            vec![],
            vec![u64::MAX],
            vec![i64::MAX as u64 - 1],
            vec![MAX_FIRST; 2],
        ] {
            assert_eq!(
                generation_above_fleet(&hosts(&generations), Some(5)),
                None,
                "{generations:?}"
            );
        }
    }
}
