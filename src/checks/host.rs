//! What a pass needs of the host and of the git server.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Check, bad, note};
use crate::apply;
use crate::ports::lock::Holder;
use crate::ports::root::Space;
use crate::ports::{Host, STATE};
use crate::release::{self, Spec};
use crate::role::Catalog;
use crate::settings::Settings;

/// Less than this share of a filesystem free is too little, in percent.
const SHARE: u64 = 5;

/// Less than this is too little whatever the share, in bytes: a build's tree, a log, a package.
const LEAST: u64 = 256 << 20;

pub(super) fn apps(catalog: &Catalog) -> impl Iterator<Item = &Spec> {
    let resources = catalog.resources.iter();
    resources.filter_map(|resource| resource.body.spec().downcast_ref::<Spec>())
}

/// Whether each app's git server lets this host in, with the keys that a pass would use: its own and
/// those of servers.
pub(super) fn git(
    catalog: &Catalog,
    settings: &Settings,
    host: &Host,
    tell: &mut dyn FnMut(Check),
) {
    let known = super::known_hosts(settings);
    for spec in apps(catalog).take_while(|_| !host.stop.is_set()) {
        tell(super::git(spec, host, &known));
    }
}

/// Whether what runs services knows each of them.
pub(super) fn services(catalog: &Catalog, host: &Host, tell: &mut dyn FnMut(Check)) {
    let services = catalog
        .resources
        .iter()
        .filter(|resource| resource.body.kind() == "service");
    for resource in services.take_while(|_| !host.stop.is_set()) {
        let about = format!("service {}", resource.body.subject());
        tell(match resource.body.look(host, false) {
            Ok(_) => Check::good(about, "known to what runs it"),
            Err(failure) if failure.denied => note(about, failure.message),
            Err(failure) if failure.not_yet => bad(
                about,
                failure.message,
                "`trueup plan` shows whether a pass brings it; if not, its package or unit is not described",
            ),
            Err(failure) => bad(
                about,
                failure.message,
                failure.hint.unwrap_or_else(|| "look at its unit".into()),
            ),
        });
    }
}

/// Who holds the port of an app in its place; of those that are held by nobody wrong, nothing is said.
pub(super) fn ports(catalog: &Catalog, host: &Host, tell: &mut dyn FnMut(Check)) {
    for resource in &catalog.resources {
        let Some(spec) = resource.body.spec().downcast_ref::<Spec>() else {
            continue;
        };
        let runs_as = || catalog.runs_as(&resource.id, host);
        if let Some(failure) = release::disturbed(spec, host, &runs_as) {
            let hint = failure.hint.unwrap_or_default();
            tell(bad(format!("port {}", spec.app), failure.message, hint));
        }
    }
}

/// Whether the sets of files that are checked together pass their checks as they are now: nginx, say.
/// While a pass is running they may be half written.
pub(super) fn checks(
    catalog: &Catalog,
    host: &Host,
    running: Option<&Holder>,
    tell: &mut dyn FnMut(Check),
) {
    for (name, argv) in &catalog.checks {
        if host.stop.is_set() {
            return;
        }
        let used = catalog
            .resources
            .iter()
            .any(|resource| resource.body.check() == Some(name));
        if !used {
            continue;
        }
        let about = format!("check {name}");
        tell(match apply::run_check(argv, host) {
            Ok(()) => Check::good(about, format!("`{argv}` passes")),
            Err(why) if why.not_there => {
                note(about, format!("`{argv}`: its program is not there yet"))
            }
            Err(_) if !host.root.privileged() => {
                note(about, format!("`{argv}` can be run only by root"))
            }
            Err(why) if running.is_some() => {
                note(about, format!("while a pass is running: {}", why.message))
            }
            Err(why) => bad(
                about,
                why.message,
                "mend what it names: a file that no role describes, or the parameters of one that is",
            ),
        });
    }
}

/// Whether there is room where releases, state and logs are written.
pub(super) fn disks(
    catalog: &Catalog,
    settings: &Settings,
    host: &Host,
    tell: &mut dyn FnMut(Check),
) {
    let mut places: Vec<PathBuf> = vec![STATE.into(), "/var/log/trueup".into(), "/tmp".into()];
    places.extend(apps(catalog).map(|spec| spec.layout().deploy_to().to_owned()));
    places.extend(settings.metrics.textfile.clone());
    // One line for each filesystem, named by what lies on it.
    let mut seen: BTreeMap<u64, (Vec<String>, Space)> = BTreeMap::new();
    for place in places {
        if let Ok(Some(space)) = host.root.space(&place) {
            let entry = seen.entry(space.device).or_insert((Vec::new(), space));
            entry.0.push(place.display().to_string());
        }
    }
    if let Some(folder) = &settings.metrics.textfile
        && host.root.meta(folder).ok().flatten().is_none()
    {
        tell(bad(
            "metrics",
            format!("{} is not there", folder.display()),
            "make it, or install prometheus-node-exporter; or leave `metrics.textfile` out",
        ));
    }
    for (places, space) in seen.values() {
        tell(room(&places.join(", "), space));
    }
}

fn room(places: &str, space: &Space) -> Check {
    let percent = |free: u64, total: u64| (free * 100).checked_div(total).unwrap_or(100);
    let bytes = percent(space.free, space.total);
    let files = space.files.map(|(free, total)| percent(free, total));
    let inodes = files.map_or(String::new(), |files| format!(", {files}% of its inodes"));
    let what = format!(
        "{} MiB ({bytes}%) free{inodes}, for {places}",
        space.free >> 20
    );
    let full = bytes < SHARE || space.free < LEAST;
    if !full && files.is_none_or(|files| files >= SHARE) {
        return Check::good("disk", what);
    }
    bad(
        "disk",
        what,
        if full {
            "make room: `trueup releases clean --all-failed`, a lower `keep_releases`, old logs and packages (`apt-get clean`)"
        } else {
            "too many small files: old releases (`trueup releases clean --all-failed`), sessions and caches of apps in shared/"
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_space_or_few_inodes_fail_the_disk_check() {
        let space = |free, files| Space {
            device: 1,
            free,
            total: 100 << 30,
            files,
        };
        let is_bad = |free, files| room("/srv", &space(free, files)).is_bad();
        assert!(!is_bad(6 << 30, Some((6, 100))));
        assert!(!is_bad(6 << 30, None));
        assert!(is_bad(4 << 30, None));
        assert!(is_bad(6 << 30, Some((4, 100))));
        let small = Space {
            total: 300 << 20,
            ..space(200 << 20, None)
        };
        assert!(room("/srv", &small).is_bad());
        assert_eq!(
            room("/srv, /tmp", &space(4 << 30, Some((5, 100)))).message(),
            "4096 MiB (4%) free, 5% of its inodes, for /srv, /tmp"
        );
    }
}
