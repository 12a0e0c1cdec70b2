//! Runs all checks of a host, ordered so that earlier ones explain later ones: clock skew explains a store
//! that refuses, and so on.

use super::conditional_writes::{self, Probe, check_conditional_writes};
use super::peer_records::check_peer_records;
use super::{ABOUT_WRITES, Check, Verdict, bad, host, note, passes};
use crate::fleet;
use crate::pass::{PassError, Session};
use crate::ports::lock;
use crate::ports::store::{self, Store, StoreError};
use crate::problem::Problem;

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
    let tell = &mut |check| {
        if !stop.is_set() {
            announce(check);
        }
    };
    let settings = &session.settings;
    let roles = settings.roles.join(", ");
    tell(Check::good(
        "settings",
        format!(
            "{} in {}, roles {roles}",
            session.node(),
            settings.environment
        ),
    ));
    let catalog = match session.compile_offline() {
        Ok((catalog, _)) => {
            let count = catalog.resources.len();
            tell(Check::good("roles", format!("{count} resources described")));
            Some(catalog)
        }
        Err(PassError::Input(problems)) => {
            for problem in problems.0 {
                tell(Check::bad("roles", problem));
            }
            None
        }
        Err(error) => {
            tell(bad("roles", error.to_string(), "fix that first"));
            None
        }
    };
    if let Some(catalog) = &catalog {
        for problem in session.exposed_secrets(catalog) {
            tell(Check::note("secrets", problem));
        }
    }
    let apps = catalog.as_ref().map(|catalog| {
        let apps = host::app_specs(catalog).map(|spec| spec.app.clone());
        apps.collect::<Vec<String>>()
    });
    let apps = apps.unwrap_or_default();
    let running = lock::read_holder(&session.host.root);
    let running = running.as_ref();
    let host = &session.host;
    let mut checks: Vec<CheckFn<'_>> = vec![Box::new(|tell| {
        check_store_and_writes(session, &apps, tell)
    })];
    if let Some(catalog) = &catalog {
        checks.extend([
            Box::new(|tell: Announce<'_>| host::check_git_servers(catalog, settings, host, tell))
                as CheckFn<'_>,
            Box::new(|tell| host::check_services(catalog, host, tell)),
            Box::new(|tell| host::check_ports(catalog, host, tell)),
            Box::new(|tell| host::run_role_checks(catalog, host, running, tell)),
            Box::new(|tell| host::check_disks(catalog, settings, host, tell)),
            Box::new(|tell| passes::check_owed(catalog, host, running, tell)),
        ]);
    }
    checks.push(Box::new(|tell| {
        passes::check_last_pass(host, running, tell)
    }));
    checks.push(Box::new(|tell| passes::check_next_pass(host, tell)));
    for look in checks.into_iter().take_while(|_| !stop.is_set()) {
        look(tell);
    }
}

fn check_store_and_writes(session: &Session, apps: &[String], announce: &mut dyn FnMut(Check)) {
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
        Err(error) => return announce(Check::bad("store", Problem::new(error.to_string()))),
    };
    let before = clock.now();
    let (key, environment) = (&settings.manifest, &settings.environment);
    let found = super::check_store(store.as_ref(), key, environment, apps);
    let answered = found.first().is_some_and(|check| !check.is_bad());
    let time = store
        .server_time()
        .map(|theirs| conditional_writes::check_clock(theirs, before, clock.now()));
    let in_time = time.as_ref().is_none_or(|time| !time.is_bad());
    time.into_iter().chain(found).for_each(&mut *announce);
    if !in_time {
        let what = "not tried while the clock is off: a store refuses such writes";
        announce(note("store writes", what));
    } else if answered {
        check_writes(session, store.as_ref(), announce);
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
    let Some(_alone) = lock::try_lock_doctor(&session.host.root) else {
        return announce(note(
            ABOUT_WRITES,
            "not tried: another `trueup doctor` is running",
        ));
    };
    let (environment, node) = (&settings.environment, session.node());
    let record = fleet::record_key(environment, node);
    let kept = check_conditional_writes(&Probe {
        settings: &settings.store,
        store,
        key: &format!("{PREFIX}{environment}/{node}"),
        record: &record,
    });
    let is_kept = matches!(kept.verdict, Verdict::Good { .. });
    announce(kept);
    // A `dir:` store belongs to this machine alone.
    if is_kept && !store.address().starts_with("dir:") {
        let folder = record.trim_end_matches(&format!("{node}.json"));
        check_peer_records(store, folder, &record)
            .into_iter()
            .for_each(announce);
    }
}
