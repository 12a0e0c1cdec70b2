//! `service`: enabled, running, and restarted or reloaded when what it uses changed.

mod place;

use std::path::PathBuf;

use jiff::SignedDuration;
use serde::Deserialize;

use crate::ports::Host;
use crate::ports::processes;
use crate::ports::services::{Active, Enabled, Manager, Services, Status};
use crate::resource::{
    Change, Duty, Failure, FieldChange, Kind, Outcome, Run, Shown, Trial, Trigger, Verb,
};

pub struct Service;

/// A service.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// As its supervisor calls it; for systemd `nginx` means `nginx.service`.
    pub name: String,
    /// What runs it: `host` (see `services` in the settings), or `supervisor`, a supervisord beside
    /// that. Its names are supervisord's: `shop`, or `group:shop`, or `group:*`.
    #[serde(default)]
    pub manager: Manager,
    /// Whether it starts at boot; not given: left as it is. Under supervisord its section alone says.
    pub enabled: Option<bool>,
    /// Whether it runs; not given: left as it is.
    pub running: Option<bool>,
    /// The unit file that it has to be defined by. Another one that systemd takes instead, such as one of
    /// the same name in `/etc/systemd/system`, is told.
    pub unit: Option<PathBuf>,
    /// What it runs from, normally an app's `current`. While there is nothing it is not started.
    pub serves: Option<PathBuf>,
    /// Resources (ids) whose change it only takes up when it is restarted.
    #[serde(default)]
    pub restart_on: Vec<String>,
    /// Resources (ids) whose change it takes up when it is reloaded.
    #[serde(default)]
    pub reload_on: Vec<String>,
}

/// A service as it is.
pub struct Found {
    status: Status,
    /// There is nothing yet that it could run from.
    dormant: bool,
    /// It has not been up for long.
    fresh: bool,
    /// A file that its supervisor opens as root, where others decide what it finds.
    exposed: Option<PathBuf>,
}

/// What runs it.
fn services<'a>(spec: &Spec, host: &'a Host) -> &'a dyn Services {
    host.services_of(spec.manager)
}

impl Kind for Service {
    const NAME: &'static str = "service";
    const ABOUT: &'static str = "A service: enabled, running, and restarted or reloaded once when something that it uses changed.";
    const EXAMPLE: &'static str = "service: {name: demo, enabled: true, running: true}";

    type Spec = Spec;
    type State = Found;

    fn subject(spec: &Spec) -> String {
        spec.name.clone()
    }

    fn triggers(spec: &Spec) -> Vec<Trigger> {
        [
            (Duty::Restart, &spec.restart_on),
            (Duty::Reload, &spec.reload_on),
        ]
        .into_iter()
        .filter(|(_, on)| !on.is_empty())
        .map(|(duty, on)| Trigger {
            duty,
            on: on.clone(),
        })
        .collect()
    }

    fn inspect(spec: &Spec, host: &Host) -> Result<Found, Failure> {
        let status = services(spec, host).status(&spec.name)?;
        if status.known {
            let dormant = match &spec.serves {
                Some(path) => host.root.meta(path)?.is_none(),
                None => false,
            };
            let up = status
                .started_at
                .map(|at| host.clock.now().duration_since(at));
            let fresh = up.is_none_or(|up| up < FRESH);
            let mut exposed = None;
            for path in &status.environment_files {
                if exposed.is_none() && !host.root.only_root_decides(path)? {
                    exposed = Some(path.clone());
                }
            }
            return Ok(Found {
                status,
                dormant,
                fresh,
                exposed,
            });
        }
        Err(
            Failure::not_yet(format!("there is no service `{}` on this host", spec.name))
                .hint("is its package installed, or its unit or section described before it?"),
        )
    }

    fn diff(
        spec: &Spec,
        Found {
            status: state,
            dormant,
            ..
        }: &Found,
    ) -> Option<Change> {
        if forbidden(spec, state) {
            let change = Change::new(Verb::Update);
            return Some(change.with(MASKED, Shown::value(true), Shown::value(false)));
        }
        let mut fields = Vec::new();
        let enabled = match state.enabled {
            Enabled::Yes => Some(true),
            Enabled::No => Some(false),
            // There is nothing to enable in a static unit, nor in one that shall not run.
            Enabled::Static | Enabled::Masked => None,
        };
        if let (Some(wanted), Some(is)) = (spec.enabled, enabled) {
            fields.extend(FieldChange::of("enabled", &is, &wanted));
        }
        let running = matches!(state.active, Active::Running | Active::Starting);
        if let Some(wanted) = spec
            .running
            .filter(|wanted| *wanted != running && !(*wanted && *dormant))
        {
            let to = if wanted { "running" } else { "stopped" };
            fields.push(FieldChange::new(
                "running",
                Shown::value(word(state.active)),
                Shown::value(to),
            ));
        }
        Change::update(fields)
    }

    fn apply(spec: &Spec, change: &Change, host: &Host) -> Result<Outcome, Failure> {
        debug_assert_eq!(change.verb, Verb::Update);
        if let Some(why) = Service::waits(change) {
            return Ok(Outcome::Waiting(why));
        }
        let services = services(spec, host);
        if change.touches("enabled") {
            if spec.enabled == Some(true) {
                services.enable(&spec.name)?;
            } else {
                services.disable(&spec.name)?;
            }
        }
        if change.touches("running") {
            if spec.running == Some(true) {
                services.start(&spec.name)?;
            } else {
                services.stop(&spec.name)?;
            }
        }
        Ok(Outcome::Done)
    }

    /// For whoever masked it to unmask it.
    fn waits(change: &Change) -> Option<String> {
        change.touches(MASKED).then(|| {
            "somebody masked it on purpose; `systemctl unmask` lets it run again".to_owned()
        })
    }

    fn dormant(spec: &Spec, state: &Found) -> bool {
        state.dormant && spec.running == Some(true)
    }

    fn run(_spec: &Spec, Found { status: state, .. }: &Found) -> Option<Run> {
        if state.active != Active::Running {
            return None;
        }
        Some(Run {
            id: state.run.clone()?,
            started: state.started_at,
            reloaded: state.reloaded_at,
            load: state.load.clone(),
        })
    }

    fn runs_from(spec: &Spec, host: &Host, trial: &Trial) -> Result<(), Failure> {
        let status = services(spec, host).status(&spec.name)?;
        let name = &spec.name;
        match status.active {
            Active::Running => {}
            // Nobody wants it to run: there is nothing to be shown.
            _ if spec.running != Some(true) => return Ok(()),
            other => {
                let masked = match forbidden(spec, &status) {
                    true => ", and somebody masked it on purpose",
                    false => "",
                };
                return Err(Failure::new(format!("{name} is {}{masked}", word(other))));
            }
        }
        let serves = spec.serves.as_deref() == Some(&trial.current);
        match status.main_pid {
            Some(main) => place::check(name, main, serves, trial, host),
            None => Ok(()),
        }
    }

    fn runs_as(spec: &Spec, host: &Host) -> Vec<u32> {
        let status = services(spec, host).status(&spec.name).ok();
        let family = status.and_then(|status| processes::family(status.main_pid?));
        let family = family.into_iter().flatten();
        // Sockets are of whoever a process acts as.
        family.map(|process| process.users[1]).collect()
    }

    /// It dies, and its supervisor starts it again each time: at most looks it runs. Once may happen.
    /// Or its supervisor has another definition of it, or one that gives root's rights away.
    fn ails(spec: &Spec, state: &Found) -> Option<Failure> {
        if let (Some(unit), Some(other)) = (&spec.unit, &state.status.definition)
            && unit != other
        {
            let (name, other) = (&spec.name, other.display());
            let failure = Failure::new(format!(
                "{name} is defined by {other}, which hides {}",
                unit.display()
            ));
            return Some(failure.hint(format!(
                "take away what is not wanted: `rm {other}`, then `systemctl daemon-reload` and `systemctl restart {name}`"
            )));
        }
        if let Some(path) = &state.exposed {
            let failure = Failure::new(format!(
                "{}: systemd opens its EnvironmentFile= {} as root, and others than root can put a link or a pipe there",
                spec.name,
                path.display()
            ));
            return Some(failure.hint("have the service's own user read it, as the shipped templates/systemd/puma.service does, or keep the file in a folder of root's"));
        }
        let Status {
            revived, active, ..
        } = state.status;
        let name = &spec.name;
        let trouble = match active {
            _ if spec.running != Some(true) => return None,
            Active::Starting if revived > 0 => "it died, and waits to be started again",
            // No numbers: what is the same in every pass is kept once.
            Active::Running if revived > 1 && state.fresh => {
                "it keeps dying, and is started again each time"
            }
            _ => return None,
        };
        let hint = format!(
            "`journalctl -u {name}` tells why; it counts as well again when it has been up for {} minutes",
            FRESH.as_mins()
        );
        Some(Failure::new(format!("{name}: {trouble}")).hint(hint))
    }

    fn last_words(spec: &Spec, host: &Host) -> Vec<String> {
        services(spec, host).last_words(&spec.name)
    }

    fn pay(spec: &Spec, duty: Duty, host: &Host) -> Result<(), Failure> {
        match duty {
            Duty::Reload => services(spec, host).reload(&spec.name)?,
            _ => services(spec, host).restart(&spec.name)?,
        }
        Ok(())
    }
}

/// How long a service that died more than once has to be up to count as well again.
const FRESH: SignedDuration = SignedDuration::from_mins(5);

/// The field of a change that only whoever masked the service can make.
const MASKED: &str = "masked";

/// Whether it shall run, and an operator forbade it: his word counts. What it runs now goes on, and
/// is neither restarted nor reloaded, which systemd would refuse.
fn forbidden(spec: &Spec, state: &Status) -> bool {
    spec.running == Some(true) && state.enabled == Enabled::Masked
}

fn word(active: Active) -> &'static str {
    match active {
        Active::Running | Active::Starting => "running",
        Active::Stopping => "stopping",
        Active::Stopped => "stopped",
        Active::Failed => "failed",
    }
}

#[cfg(test)]
mod conformance {
    use super::Service;
    use crate::ports::services::Services;
    use crate::resource::Probed;
    use crate::resource::conformance::Probe;

    impl Probed for Service {
        fn prepare(host: &crate::ports::testing::Sandbox) {
            host.services.define("demo");
        }

        fn probes() -> Vec<Probe> {
            let owed = "what is owed is kept by the stages";
            vec![
                Probe::not_set("name", "it says which service is meant"),
                Probe::not_set("manager", "it says whom to ask"),
                Probe::spoil("enabled", |host| host.services.disable("demo").unwrap()),
                Probe::spoil("running", |host| host.services.crash("demo", &[])),
                Probe::not_set("unit", "what hides it is somebody else's"),
                Probe::not_set("serves", "it says what there must be before it can start"),
                Probe::not_set("restart_on", owed),
                Probe::not_set("reload_on", owed),
            ]
        }
    }
}

#[cfg(test)]
mod tests;
