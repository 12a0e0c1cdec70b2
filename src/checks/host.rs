//! Checks what a pass needs on the host and from the git servers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Check, bad, note, note_for_root};
use crate::apply;
use crate::balancer::drain::Drain;
use crate::ports::lock::Holder;
use crate::ports::root::DiskSpace;
use crate::ports::services::ActiveState;
use crate::ports::{Host, STATE_DIR};
use crate::problem::Problem;
use crate::release::{self, Maintenance, ReleaseSpec};
use crate::report::History;
use crate::resource::{ExpectedState, FailureKind};
use crate::role::{Catalog, ConfigCheck};
use crate::settings::Settings;

/// Minimum free share of a filesystem, in percent.
const MIN_FREE_PERCENT: u64 = 5;

/// Minimum free space whatever the share, in bytes: room for a build's tree, a log, a package.
const MIN_FREE_BYTES: u64 = 256 << 20;

pub(super) fn app_specs(catalog: &Catalog) -> impl Iterator<Item = &ReleaseSpec> {
    catalog.releases().map(|(_, spec)| spec)
}

/// Checks that each app's git server grants this host access, with the keys that a pass would use: the deploy
/// key and the host keys of servers.
pub(super) fn check_git_servers(
    catalog: &Catalog,
    settings: &Settings,
    host: &Host,
    announce: &mut dyn FnMut(Check),
) {
    let known = super::known_hosts(settings);
    for spec in app_specs(catalog).take_while(|_| !host.stop.is_set()) {
        announce(super::check_git(spec, host, &known));
    }
}

/// Checks that the service manager knows each service, and that those run that a pass has started.
pub(super) fn check_services(
    catalog: &Catalog,
    host: &Host,
    running: Option<&Holder>,
    announce: &mut dyn FnMut(Check),
) {
    // The first pass may not have started them, and the one that runs may be about to.
    let are_started = running.is_none() && History::new(host).last().is_some();
    let services = catalog
        .resources
        .iter()
        .filter(|resource| resource.body.service().is_some());
    for resource in services.take_while(|_| !host.stop.is_set()) {
        let about = format!("service {}", resource.body.subject());
        let stopped = resource
            .body
            .service()
            .filter(|_| are_started)
            .and_then(|service| service.summary(host).ok())
            .filter(|found| {
                let is_down = matches!(found.active, ActiveState::Stopped | ActiveState::Failed);
                is_down && found.expected == ExpectedState::Running
            });
        announce(match resource.body.inspect(host) {
            Ok(_) if stopped.is_some() => bad(
                about,
                "it does not run, and should",
                "`trueup converge` starts it, as the next pass of the timer does; `journalctl -u` shows why it ended",
            ),
            Ok(_) => Check::good(about, "known to its service manager"),
            Err(failure) if failure.is(FailureKind::PermissionDenied) => {
                note_for_root(about, failure.message)
            }
            Err(failure) if failure.is(FailureKind::NotReady) => bad(
                about,
                failure.message,
                "`trueup plan` shows whether a pass installs it; if not, no role describes its package or unit",
            ),
            Err(failure) => bad(
                about,
                failure.message,
                failure.hint.unwrap_or_else(|| "check its unit".into()),
            ),
        });
    }
}

/// Notes each app whose visitors get a page instead of the app.
pub(super) fn check_maintenance(host: &Host, announce: &mut dyn FnMut(Check)) {
    let apps = match release::apps_in_maintenance(&host.root) {
        Ok(apps) => apps,
        Err(error) => {
            let hint = error.hint().unwrap_or_else(|| "make it readable".into());
            return announce(bad("maintenance", error.to_string(), hint));
        }
    };
    for app in apps {
        if let Some(line) = Maintenance::describe_app(&host.root, &app) {
            let problem =
                Problem::new(line).hint(format!("`trueup maintenance {app} off` ends it"));
            announce(Check::note(format!("app {app}"), problem));
        }
    }
}

/// Notes that an operator keeps the address of a pair away from this host.
pub(super) fn check_balancer(host: &Host, announce: &mut dyn FnMut(Check)) {
    if let Some(line) = Drain::describe_host(&host.root) {
        let problem = Problem::new(line).hint("`trueup balancer undrain` ends it");
        announce(Check::note("balancer", problem));
    }
}

/// Notes each app that load balancers are asked to leave alone. `running`: the pass that may be the reason.
pub(super) fn check_drains(host: &Host, running: Option<&Holder>, announce: &mut dyn FnMut(Check)) {
    for app in release::drained_apps(&host.root).unwrap_or_default() {
        let Some(line) = release::describe_drain(&host.root, &app) else {
            continue;
        };
        let hint = match running {
            Some(_) => "the pass that runs ends it, once the app has shown that it serves",
            None => "a pass that was killed left it; the next pass ends it, or `trueup converge`",
        };
        announce(Check::note(
            format!("app {app}"),
            Problem::new(line).hint(hint),
        ));
    }
}

/// Reports a foreign process that holds the port of an app. Prints nothing for the other ports.
pub(super) fn check_ports(catalog: &Catalog, host: &Host, announce: &mut dyn FnMut(Check)) {
    for (resource, spec) in catalog.releases() {
        let runs_as = || catalog.runs_as(&resource.id, host);
        if let Some(failure) = release::port_conflict(spec, host, &runs_as) {
            let hint = failure.hint.unwrap_or_default();
            announce(bad(format!("port {}", spec.app), failure.message, hint));
        }
    }
}

/// Runs the check commands of the roles (such as `nginx -t`) on the files as they are now. While a pass runs,
/// those may be half written.
pub(super) fn run_role_checks(
    catalog: &Catalog,
    host: &Host,
    running: Option<&Holder>,
    announce: &mut dyn FnMut(Check),
) {
    for (name, ConfigCheck { run: argv, .. }) in &catalog.checks {
        if host.stop.is_set() {
            return;
        }
        let used = catalog
            .resources
            .iter()
            .any(|resource| resource.body.check_name() == Some(name));
        if !used {
            continue;
        }
        let about = format!("check {name}");
        announce(match apply::run_check(argv, host) {
            Ok(()) => Check::good(about, format!("`{argv}` passes")),
            Err(why) if why.program_missing => {
                note(about, format!("`{argv}`: its program is not installed yet"))
            }
            Err(_) if !host.root.is_privileged() => {
                note(about, format!("only root can run `{argv}`"))
            }
            Err(why) if running.is_some() => {
                note(about, format!("while a pass is running: {}", why.message))
            }
            Err(why) => bad(
                about,
                why.message,
                "fix what it reports: a file that no role describes, or the parameters of one that a role does",
            ),
        });
    }
}

/// Checks the free space where releases, state and logs are written.
pub(super) fn check_disks(
    catalog: &Catalog,
    settings: &Settings,
    host: &Host,
    announce: &mut dyn FnMut(Check),
) {
    let mut paths: Vec<PathBuf> = vec![STATE_DIR.into(), "/var/log/trueup".into(), "/tmp".into()];
    paths.extend(app_specs(catalog).map(|spec| spec.layout().deploy_to().to_owned()));
    paths.extend(settings.metrics.textfile.clone());
    // One line per filesystem, labelled with what is stored on it.
    let mut filesystems: BTreeMap<u64, (Vec<String>, DiskSpace)> = BTreeMap::new();
    for path in paths {
        if let Ok(Some(space)) = host.root.disk_space(&path) {
            let entry = filesystems
                .entry(space.device)
                .or_insert((Vec::new(), space));
            entry.0.push(path.display().to_string());
        }
    }
    if let Some(folder) = &settings.metrics.textfile
        && host.root.meta(folder).ok().flatten().is_none()
    {
        announce(bad(
            "metrics",
            format!("{} is not there", folder.display()),
            "create it, or install prometheus-node-exporter; or remove `metrics.textfile`",
        ));
    }
    for (paths, space) in filesystems.values() {
        announce(check_space(&paths.join(", "), space));
    }
}

fn check_space(paths: &str, space: &DiskSpace) -> Check {
    let percent = |free: u64, total: u64| (free * 100).checked_div(total).unwrap_or(100);
    let bytes = percent(space.free, space.total);
    let files = space.files.map(|(free, total)| percent(free, total));
    let inodes = files.map_or(String::new(), |files| format!(", {files}% of its inodes"));
    let message = format!(
        "{} MiB ({bytes}%) free{inodes}, for {paths}",
        space.free >> 20
    );
    let full = bytes < MIN_FREE_PERCENT || space.free < MIN_FREE_BYTES;
    if !full && files.is_none_or(|files| files >= MIN_FREE_PERCENT) {
        return Check::good("disk", message);
    }
    bad(
        "disk",
        message,
        if full {
            "free space: `trueup releases clean --all-failed`, a lower `keep_releases`, old logs and packages (`apt-get clean`)"
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
        let space = |free, files| DiskSpace {
            device: 1,
            free,
            total: 100 << 30,
            files,
        };
        let is_bad = |free, files| check_space("/srv", &space(free, files)).is_bad();
        assert!(!is_bad(6 << 30, Some((6, 100))));
        assert!(!is_bad(6 << 30, None));
        assert!(is_bad(4 << 30, None));
        assert!(is_bad(6 << 30, Some((4, 100))));
        let small = DiskSpace {
            total: 300 << 20,
            ..space(200 << 20, None)
        };
        assert!(check_space("/srv", &small).is_bad());
        assert_eq!(
            check_space("/srv, /tmp", &space(4 << 30, Some((5, 100)))).message(),
            "4096 MiB (4%) free, 5% of its inodes, for /srv, /tmp"
        );
    }
}
