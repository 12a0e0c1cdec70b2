//! `symlink`: a link that points where it should, switched by rename.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Deserialize;

use crate::ports::Host;
use crate::ports::root::FileKind;
use crate::problem::Problem;
use crate::resource::{
    Access, AccessSeen, Change, Failure, FieldChange, Inputs, Kind, Outcome, Shown, Stamp, State,
    Verb,
};

pub struct Symlink;

/// A symbolic link.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Absolute path of the link.
    pub path: PathBuf,
    /// What it points to, written into the link as it is here.
    pub to: Option<PathBuf>,
    /// Name or number; not given: left as it is (root for a new one).
    pub owner: Option<String>,
    /// Name or number; not given: left as it is (root for a new one).
    pub group: Option<String>,
    /// `absent` removes it.
    #[serde(default)]
    pub state: State,
}

impl Spec {
    fn access(&self) -> Access<'_> {
        Access {
            owner: self.owner.as_deref(),
            group: self.group.as_deref(),
            mode: None,
        }
    }
}

pub enum Found {
    Nothing,
    Link {
        to: PathBuf,
        access: AccessSeen,
        changed: Timestamp,
    },
    Other(FileKind),
}

impl Kind for Symlink {
    const NAME: &'static str = "symlink";
    const ABOUT: &'static str = "A symbolic link, switched in one step.";
    const EXAMPLE: &'static str = "symlink: {path: /etc/nginx/sites-enabled/default, to: ../sites-available/shop, owner: root, group: root}";

    type Spec = Spec;
    type State = Found;

    fn subject(spec: &Spec) -> String {
        spec.path.display().to_string()
    }

    fn owns(spec: &Spec) -> Option<PathBuf> {
        Some(spec.path.clone())
    }

    fn resolve(spec: &mut Spec, _inputs: &dyn Inputs) -> Result<(), Problem> {
        super::usable_path("path", &spec.path)?;
        match (&spec.to, spec.state) {
            (None, State::Present) => Err(Problem::new("the field `to` is missing")),
            (Some(to), _) if to.as_os_str().is_empty() => {
                Err(Problem::new("a link cannot point to nothing").field("to"))
            }
            _ => Ok(()),
        }
    }

    fn inspect(spec: &Spec, host: &Host) -> Result<Found, Failure> {
        let Some(meta) = host.root.meta(&spec.path)? else {
            return Ok(Found::Nothing);
        };
        match (meta.kind, host.root.read_link(&spec.path)?) {
            (FileKind::Symlink, Some(to)) => Ok(Found::Link {
                to,
                access: spec.access().look(&meta, host)?,
                changed: meta.changed,
            }),
            (kind, _) => Ok(Found::Other(kind)),
        }
    }

    fn diff(spec: &Spec, state: &Found) -> Option<Change> {
        let wanted = || Shown::maybe(spec.to.as_ref().map(|to| to.display()));
        match (spec.state, state) {
            (State::Absent, Found::Nothing) => None,
            (State::Absent, Found::Link { to, .. }) => Some(Change::new(Verb::Remove).with(
                "to",
                Shown::value(to.display()),
                Shown::Absent,
            )),
            (State::Absent, Found::Other(kind)) => Some(Change::new(Verb::Remove).with(
                "state",
                Shown::value(kind.words()),
                Shown::Absent,
            )),
            (State::Present, Found::Nothing) => {
                let mut change = Change::new(Verb::Create).with("to", Shown::Absent, wanted());
                change.fields.extend(spec.access().wanted());
                Some(change)
            }
            (State::Present, Found::Other(kind)) => Some(
                Change::new(Verb::Update)
                    .with(
                        "state",
                        Shown::value(kind.words()),
                        Shown::value("a symbolic link"),
                    )
                    .with("to", Shown::Absent, wanted()),
            ),
            (State::Present, Found::Link { to, access, .. }) => {
                let mut fields = spec.access().diff(access, false);
                if Some(to) != spec.to.as_ref() {
                    fields.push(FieldChange::new("to", Shown::value(to.display()), wanted()));
                }
                Change::update(fields)
            }
        }
    }

    fn apply(spec: &Spec, change: &Change, host: &Host) -> Result<Outcome, Failure> {
        let path = &spec.path;
        if change.touches("state") {
            // A file there may be somebody's data; a link never is.
            return Err(Failure::new(format!(
                "{} is in the way and is no symbolic link",
                path.display()
            ))
            .hint("move it away by hand: trueup does not replace a file or folder by a link"));
        }
        match (change.verb, &spec.to) {
            (Verb::Remove, _) => host.root.remove(path)?,
            (_, Some(to)) if change.touches("to") => {
                host.root.link(path, to, &spec.access().attrs(host)?)?;
            }
            _ => host.root.set_attrs(path, &spec.access().attrs(host)?)?,
        }
        Ok(Outcome::Done)
    }

    fn shows(change: &Change) -> bool {
        !change.only_access()
    }

    fn stamp(_spec: &Spec, state: &Found) -> Option<Stamp> {
        match state {
            Found::Link { to, changed, .. } => Some(Stamp {
                fingerprint: format!("link {}", to.display()),
                changed: Some(*changed),
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod conformance {
    use super::Symlink;
    use crate::resource::Probed;
    use crate::resource::conformance::Probe;

    impl Probed for Symlink {
        fn prepare(host: &crate::ports::testing::Sandbox) {
            host.make_dir("/etc/nginx/sites-enabled");
        }

        fn probes() -> Vec<Probe> {
            const PATH: &str = "/etc/nginx/sites-enabled/default";
            vec![
                Probe::not_set("path", "it says which link is meant"),
                Probe::spoil("to", |host| host.link(PATH, "elsewhere")),
                Probe::spoil("owner", |host| host.chown(PATH, 65534, 0)).as_root(),
                Probe::spoil("group", |host| host.chown(PATH, 0, 65534)).as_root(),
                Probe::gone("state", |host| host.remove(PATH)),
            ]
        }
    }
}
