//! Runs all checks of a host, ordered so that earlier ones explain later ones: clock skew explains a store
//! that refuses, and so on.

use super::conditional_writes::{self, Probe, check_conditional_writes};
use super::peer_records::check_peer_records;
use super::{
    ABOUT_ROLLOUTS, ABOUT_WRITES, Check, Verdict, bad, claims, host, note, notify, passes, sshd,
};
use crate::desired::DesiredState;
use crate::fleet;
use crate::fleet::rollout::{may_take_part, may_take_slots, rollout_folders};
use crate::pass::{PassError, Session};
use crate::ports::lock::{self, Holder};
use crate::ports::store::{self, Store, StoreError};
use crate::problem::Problem;
use crate::role::{self, Catalog};

/// Prefix of every host's probe object in the store.
const PREFIX: &str = "doctor/";

type Announce<'t> = &'t mut dyn FnMut(Check);

/// One check, which may report more than one line.
type CheckFn<'l> = Box<dyn Fn(Announce<'_>) + 'l>;

/// Runs all checks and passes each result to `announce` as soon as it is known, because some take seconds.
/// Changes nothing except a temporary object in the store, which it removes. When stopped, it ends after the
/// current check and drops its result, which the stop may have caused.
pub(crate) fn run_all(session: &Session, announce: &mut dyn FnMut(Check)) {
    let stop = &session.host.stop;
    let announce = &mut |check| {
        if !stop.is_set() {
            announce(check);
        }
    };
    let settings = &session.settings;
    announce(Check::good(
        "settings",
        format!(
            "{} in {}, roles {}",
            session.node(),
            settings.environment,
            settings.roles.join(", ")
        ),
    ));
    let compiled = check_roles(session, announce);
    let catalog = compiled.as_ref().map(|(catalog, _)| catalog);
    let apps = catalog.map(|catalog| {
        let apps = host::app_specs(catalog).map(|spec| spec.app.clone());
        apps.collect::<Vec<String>>()
    });
    let apps = apps.unwrap_or_default();
    let services = catalog.map(coordinated_services);
    let services = services.unwrap_or_default();
    let running = lock::read_holder(&session.host.root);
    let mut checks: Vec<CheckFn<'_>> = vec![Box::new(|announce| {
        check_store_and_writes(session, &apps, &services, announce);
    })];
    if let Some(catalog) = catalog {
        checks.extend(catalog_checks(session, catalog, running.as_ref()));
    }
    let host = &session.host;
    checks.push(Box::new(|announce| host::check_maintenance(host, announce)));
    checks.push(Box::new(|announce| host::check_balancer(host, announce)));
    checks.push(Box::new(|announce| {
        host::check_drains(host, running.as_ref(), announce);
    }));
    checks.push(Box::new(|announce| claims::check_claims(session, announce)));
    if let Some((_, desired)) = &compiled {
        checks.push(Box::new(|announce| {
            notify::check_channels(session, desired, announce)
        }));
    }
    checks.push(Box::new(|announce| {
        passes::check_last_pass(host, running.as_ref(), announce);
    }));
    checks.push(Box::new(|announce| passes::check_next_pass(host, announce)));
    for check in checks.into_iter().take_while(|_| !stop.is_set()) {
        check(announce);
    }
}

/// Compiles the roles without contacting the store; `None`: they have mistakes.
fn check_roles(session: &Session, announce: Announce<'_>) -> Option<(Catalog, DesiredState)> {
    let (catalog, desired) = match session.compile_offline() {
        Ok(compiled) => compiled,
        Err(PassError::Input(problems)) => {
            for problem in problems.0 {
                announce(Check::bad("roles", problem));
            }
            return None;
        }
        Err(error) => {
            announce(bad("roles", error.to_string(), "fix that first"));
            return None;
        }
    };
    let roles = &session.settings.roles;
    announce(Check::good(
        "roles",
        role::describe_resources(roles, catalog.resources.len()),
    ));
    for problem in session.exposed_secrets(&catalog) {
        announce(Check::note("secrets", problem));
    }
    Some((catalog, desired))
}

/// The checks of what the roles describe.
fn catalog_checks<'l>(
    session: &'l Session,
    catalog: &'l Catalog,
    running: Option<&'l Holder>,
) -> [CheckFn<'l>; 7] {
    let (settings, host) = (&session.settings, &session.host);
    [
        Box::new(move |announce| host::check_git_servers(catalog, settings, host, announce)),
        Box::new(move |announce| host::check_services(catalog, host, running, announce)),
        Box::new(move |announce| host::check_ports(catalog, host, announce)),
        Box::new(move |announce| sshd::check_key_files(catalog, host, announce)),
        Box::new(move |announce| host::run_role_checks(catalog, host, running, announce)),
        Box::new(move |announce| host::check_disks(catalog, settings, host, announce)),
        Box::new(move |announce| passes::check_owed(catalog, host, running, announce)),
    ]
}

/// The services of which one host at a time is restarted or reloaded.
fn coordinated_services(catalog: &Catalog) -> Vec<String> {
    let services = catalog.resources.iter();
    let services = services.filter_map(|resource| resource.body.service());
    let coordinated = services.filter(|service| service.slots().is_some());
    coordinated
        .map(|service| service.name().to_owned())
        .collect()
}

fn check_store_and_writes(
    session: &Session,
    apps: &[String],
    services: &[String],
    announce: &mut dyn FnMut(Check),
) {
    let settings = &session.settings;
    let clock = &session.host.clock;
    let store = match store::open(&settings.store) {
        Ok(store) => store,
        Err(StoreError::Settings(why)) => {
            let problem = Problem::new(why)
                .at(&settings.locations.store)
                .field("store");
            return announce(Check::bad("store", problem));
        }
        Err(error) => return announce(super::bad_store("store", &error)),
    };
    let before = clock.now();
    let (key, environment) = (&settings.manifest, &settings.environment);
    let is_ordinary_user = session.host.root.is_ordinary_user();
    let checks = super::check_store(store.as_ref(), key, environment, apps, is_ordinary_user);
    let is_answered = checks
        .first()
        .is_some_and(|check| matches!(check.verdict, Verdict::Good { .. }));
    let clock_check = store
        .server_time()
        .map(|server_time| conditional_writes::check_clock(server_time, before, clock.now()));
    let is_in_time = clock_check.as_ref().is_none_or(|check| !check.is_bad());
    clock_check
        .into_iter()
        .chain(checks)
        .for_each(&mut *announce);
    if !is_in_time {
        let message = "not tried while the clock is off: a store refuses such writes";
        announce(note(ABOUT_WRITES, message));
    } else if is_answered {
        check_writes(session, store.as_ref(), announce);
        if store.address().starts_with("dir:") {
            return;
        }
        if !apps.is_empty() {
            announce(check_rollout_writes(session, store.as_ref()));
        }
        if !services.is_empty() {
            announce(check_slot_writes(session, store.as_ref(), services));
        }
    }
}

/// Whether this host may take a slot: the policy of a bucket that was made for an earlier trueup may not allow it.
fn check_rollout_writes(session: &Session, store: &dyn Store) -> Check {
    let environment = &session.settings.environment;
    match may_take_part(&session.host.root, store, environment) {
        Ok(true) => Check::good(ABOUT_ROLLOUTS, "this host may take part in them"),
        Ok(false) => bad(
            ABOUT_ROLLOUTS,
            "this host may not write what they need, so it goes last, and `publish` refuses its apps",
            format!(
                "let it read, write and list {} (docs/fleet.md has the policy)",
                rollout_folders(environment)
            ),
        ),
        Err(error) => super::bad_store(ABOUT_ROLLOUTS, &error),
    }
}

/// Whether this host may take the slots of its services.
fn check_slot_writes(session: &Session, store: &dyn Store, services: &[String]) -> Check {
    let (environment, services) = (&session.settings.environment, services.join(", "));
    match may_take_slots(store, environment) {
        Ok(true) => {
            let message = format!("{services}: one host at a time restarts or reloads it");
            Check::good(ABOUT_ROLLOUTS, message)
        }
        Ok(false) => bad(
            ABOUT_ROLLOUTS,
            format!(
                "this host may take no slots, so it restarts and reloads {services} at the same time as other hosts"
            ),
            format!(
                "let it read and write `slots/{environment}/*`, in a store that honours conditional writes"
            ),
        ),
        Err(error) => super::bad_store(ABOUT_ROLLOUTS, &error),
    }
}

fn check_writes(session: &Session, store: &dyn Store, announce: &mut dyn FnMut(Check)) {
    let settings = &session.settings;
    if !settings.fleet.publish {
        return announce(note(
            ABOUT_WRITES,
            "not tried: this host does not write there (`fleet: {publish: false}`)",
        ));
    }
    let Some(_lock) = lock::try_lock_doctor(&session.host.root) else {
        return announce(note(
            ABOUT_WRITES,
            "not tried: another `trueup doctor` is running",
        ));
    };
    let (environment, node) = (&settings.environment, session.node());
    let record = fleet::record_key(environment, node);
    let check = check_conditional_writes(&Probe {
        settings: &settings.store,
        store,
        key: &format!("{PREFIX}{environment}/{node}"),
        record: &record,
    });
    let is_good = matches!(check.verdict, Verdict::Good { .. });
    announce(check);
    // A `dir:` store belongs to this machine alone.
    if is_good && !store.address().starts_with("dir:") {
        let folder = record.trim_end_matches(&format!("{node}.json"));
        check_peer_records(store, folder, &record)
            .into_iter()
            .for_each(announce);
    }
}
