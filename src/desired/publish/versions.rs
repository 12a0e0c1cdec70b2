//! Hosts whose trueup is older than a field of the published entry: they refuse the manifest and stay where they are.

use super::remembered::Remembered;
use super::reports::{FleetReports, ReportedHosts};
use crate::desired::edit::{ManifestEdit, PublishRequest};
use crate::desired::{AppEntry, MAX_LISTED, Manifest};
use crate::problem::Problem;

/// Major, minor and patch.
type Version = [u64; 3];

/// A field of an entry that an older trueup does not know.
struct Field {
    name: &'static str,
    is_used: fn(&AppEntry) -> bool,
    since: Version,
}

const FIELDS: [Field; 4] = [
    Field {
        name: "previous",
        is_used: |entry| entry.previous.is_some(),
        since: [0, 1, 0],
    },
    Field {
        name: "rollout",
        is_used: |entry| entry.rollout.is_some(),
        since: [0, 1, 0],
    },
    Field {
        name: "restart_requested_at",
        is_used: |entry| entry.restart_requested_at.is_some(),
        since: [0, 1, 0],
    },
    Field {
        name: "hold.sha",
        is_used: |entry| entry.hold.as_ref().is_some_and(|hold| hold.sha.is_some()),
        since: [0, 1, 0],
    },
];

/// A warning for each app of the request whose entry some of its hosts would refuse. `before`: the manifest before the
/// edit.
pub(super) fn outdated_hosts(
    before: Option<&Manifest>,
    edit: &ManifestEdit,
    order: &PublishRequest,
    fleet: &mut Remembered<'_>,
) -> Vec<Problem> {
    let entry_of = |manifest: &Manifest, app: &str| -> Option<AppEntry> {
        let environment = manifest.environments.get(&order.environment)?;
        environment.own_entry(app)?.ok().cloned()
    };
    // A large fleet has many records: they are read only for a field that is new, which nothing but a restart brings without
    // a policy that needs the hosts anyway.
    let restart = order.restart.as_deref();
    let is_first_restart = restart.is_some_and(|app| {
        let before = before.and_then(|before| entry_of(before, app));
        before.is_none_or(|entry| entry.restart_requested_at.is_none())
    });
    let hosts = match is_first_restart {
        true => fleet.hosts().ok(),
        false => fleet.known_hosts().cloned(),
    };
    let Some(hosts) = hosts else {
        return Vec::new();
    };
    let apps = order.shas.iter().map(|(app, _)| app.as_str());
    apps.chain(restart)
        .filter_map(|app| warning(app, &entry_of(&edit.manifest, app)?, &hosts))
        .collect()
}

fn warning(app: &str, entry: &AppEntry, reported: &ReportedHosts) -> Option<Problem> {
    let fields = FIELDS.iter().filter(|field| (field.is_used)(entry));
    let newest = fields.max_by_key(|field| field.since)?;
    let hosts = reported.hosts.iter();
    let hosts = hosts.filter(|host| host.apps.iter().any(|own| own == app));
    // One that does not say its version may be of any.
    let is_older = |agent: &str| parse(agent).is_some_and(|version| version < newest.since);
    let hosts = hosts.filter(|host| is_older(&host.agent));
    let names = hosts.map(|host| format!("{} ({})", host.node, host.agent));
    let names: Vec<String> = names.collect();
    let shown = names.get(..MAX_LISTED).unwrap_or(&names).join(", ");
    let more = match names.len().saturating_sub(MAX_LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let [major, minor, patch] = newest.since;
    let field = newest.name;
    (!names.is_empty()).then(|| {
        Problem::new(format!(
            "{shown}{more} would refuse the manifest: `{field}` of {app} needs trueup {major}.{minor}.{patch}"
        ))
        .hint("upgrade trueup there; until then these hosts stay at their last good manifest")
    })
}

/// `0.1.0`, whatever follows the patch.
fn parse(agent: &str) -> Option<Version> {
    let numbers = agent.split(['-', '+']).next()?;
    let mut numbers = numbers.split('.').map(|number| number.parse().ok());
    let version = [numbers.next()??, numbers.next()??, numbers.next()??];
    numbers.next().is_none().then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers_and_unknown_ones_are_none() {
        assert!(parse("0.9.0") < parse("0.10.0") && parse("0.10.0") < parse("1.0.0"));
        assert_eq!(parse("1.2.3-rc.1+abc"), Some([1, 2, 3]));
        for unknown in [
            "",
            "1",
            "1.2",
            "1.2.3.4",
            "a.b.c",
            "-1.2.3",
            "\u{1b}",
            "99999999999999999999.0.0",
        ] {
            assert_eq!(parse(unknown), None, "{unknown:?}");
        }
    }
}
