//! All checks of a host, in the order in which one explains the next: a clock that is off explains a
//! store that refuses, and so on.

use super::conditions::{self, Probe, conditions};
use super::others::others;
use super::{ABOUT_WRITES, Check, Verdict, bad, host, note, passes};
use crate::fleet;
use crate::pass::{PassError, Session};
use crate::ports::lock;
use crate::ports::store::{self, Store, StoreError};
use crate::problem::Problem;

/// Below this every probe has its object in the store.
const PREFIX: &str = "doctor/";

type Tell<'t> = &'t mut dyn FnMut(Check);

/// One thing to look at, which may have more than one line.
type Look<'l> = Box<dyn Fn(Tell<'_>) + 'l>;

/// Looks at everything. `tell` gets each check as soon as it is known: some take seconds. Nothing is
/// changed, but for a throw-away object in the store, which is removed again. Told to stop, it ends
/// after the check that it is at, about which nothing is told: the stop may be what it found.
pub fn examine(session: &Session, tell: &mut dyn FnMut(Check)) {
    let stop = &session.host.stop;
    let tell = &mut |check| {
        if !stop.is_set() {
            tell(check);
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
    let catalog = match session.known() {
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
            tell(bad("roles", error.to_string(), "mend that first"));
            None
        }
    };
    if let Some(catalog) = &catalog {
        for problem in session.exposed(catalog) {
            tell(Check::note("secrets", problem));
        }
    }
    let apps = catalog.as_ref().map(|catalog| {
        let apps = host::apps(catalog).map(|spec| spec.app.clone());
        apps.collect::<Vec<String>>()
    });
    let apps = apps.unwrap_or_default();
    let running = lock::holder(&session.host.root);
    let running = running.as_ref();
    let host = &session.host;
    let mut looks: Vec<Look<'_>> = vec![Box::new(|tell| the_store(session, &apps, tell))];
    if let Some(catalog) = &catalog {
        looks.extend([
            Box::new(|tell: Tell<'_>| host::git(catalog, settings, host, tell)) as Look<'_>,
            Box::new(|tell| host::services(catalog, host, tell)),
            Box::new(|tell| host::ports(catalog, host, tell)),
            Box::new(|tell| host::checks(catalog, host, running, tell)),
            Box::new(|tell| host::disks(catalog, settings, host, tell)),
            Box::new(|tell| passes::owed(catalog, host, running, tell)),
        ]);
    }
    looks.push(Box::new(|tell| passes::last(host, running, tell)));
    looks.push(Box::new(|tell| passes::next(host, tell)));
    for look in looks.into_iter().take_while(|_| !stop.is_set()) {
        look(tell);
    }
}

fn the_store(session: &Session, apps: &[String], tell: &mut dyn FnMut(Check)) {
    let settings = &session.settings;
    let clock = &session.host.clock;
    let store = match store::open(&settings.store) {
        Ok(store) => store,
        Err(StoreError::Settings(why)) => {
            let problem = Problem::new(why).at(&settings.places.store).field("store");
            return tell(Check::bad("store", problem));
        }
        Err(error) => return tell(Check::bad("store", Problem::new(error.to_string()))),
    };
    let before = clock.now();
    let (key, environment) = (&settings.manifest, &settings.environment);
    let found = super::store(store.as_ref(), key, environment, apps);
    let answered = found.first().is_some_and(|check| !check.is_bad());
    let time = store
        .now()
        .map(|theirs| conditions::clock(theirs, before, clock.now()));
    let in_time = time.as_ref().is_none_or(|time| !time.is_bad());
    time.into_iter().chain(found).for_each(&mut *tell);
    if !in_time {
        let what = "not tried while the clock is off: a store refuses such writes";
        tell(note("store writes", what));
    } else if answered {
        writes(session, store.as_ref(), tell);
    }
}

fn writes(session: &Session, store: &dyn Store, tell: &mut dyn FnMut(Check)) {
    let settings = &session.settings;
    if !settings.fleet.publish {
        return tell(note(
            ABOUT_WRITES,
            "not tried: this host writes nothing there (`fleet: {publish: false}`)",
        ));
    }
    let Some(_alone) = lock::alone(&session.host.root) else {
        return tell(note(
            ABOUT_WRITES,
            "not tried: another `trueup doctor` is at it",
        ));
    };
    let (environment, node) = (&settings.environment, session.node());
    let record = fleet::key(environment, node);
    let kept = conditions(&Probe {
        settings: &settings.store,
        store,
        key: &format!("{PREFIX}{environment}/{node}"),
        record: &record,
    });
    let is_kept = matches!(kept.verdict, Verdict::Good { .. });
    tell(kept);
    // A folder is this machine's own.
    if is_kept && !store.address().starts_with("dir:") {
        let folder = record.trim_end_matches(&format!("{node}.json"));
        others(store, folder, &record).into_iter().for_each(tell);
    }
}
