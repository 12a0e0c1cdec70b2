//! `directory`: a folder that exists, with an owner and a mode.

use std::path::PathBuf;

use serde::Deserialize;

use crate::ports::Host;
use crate::ports::root::FileKind;
use crate::problem::Problem;
use crate::resource::{
    Access, AccessSeen, Change, Failure, Inputs, Kind, Mode, Outcome, Shown, Stamp, State, Verb,
};

pub struct Directory;

const NOT_EMPTY: &str = "a directory that is not empty";

/// A folder.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Absolute path.
    pub path: PathBuf,
    /// Name or number; not given: left as it is (root for a new one).
    pub owner: Option<String>,
    /// Name or number; not given: left as it is (root for a new one).
    pub group: Option<String>,
    /// Quoted octal; not given: left as it is (`"0755"` for a new one).
    pub mode: Option<Mode>,
    /// Also make the folders above it, as root with mode `"0755"`.
    #[serde(default)]
    pub parents: bool,
    /// `absent` removes it if it is empty.
    #[serde(default)]
    pub state: State,
}

pub enum Found {
    Nothing,
    Folder {
        access: AccessSeen,
        stamp: Stamp,
        empty: bool,
    },
    Other(FileKind),
}

impl Spec {
    fn access(&self) -> Access<'_> {
        Access {
            owner: self.owner.as_deref(),
            group: self.group.as_deref(),
            mode: self.mode,
        }
    }
}

impl Kind for Directory {
    const NAME: &'static str = "directory";
    const ABOUT: &'static str = "A folder that exists, with an owner and a mode.";
    const EXAMPLE: &'static str = r#"directory: {path: /srv/www/shop, owner: root, group: root, mode: "0755", parents: true}"#;

    type Spec = Spec;
    type State = Found;

    fn subject(spec: &Spec) -> String {
        spec.path.display().to_string()
    }

    fn owns(spec: &Spec) -> Option<PathBuf> {
        Some(spec.path.clone())
    }

    fn resolve(spec: &mut Spec, _inputs: &dyn Inputs) -> Result<(), Problem> {
        super::usable_path("path", &spec.path)
    }

    fn inspect(spec: &Spec, host: &Host) -> Result<Found, Failure> {
        let Some(meta) = host.root.meta(&spec.path)? else {
            return Ok(Found::Nothing);
        };
        if meta.kind != FileKind::Directory {
            return Ok(Found::Other(meta.kind));
        }
        let empty = spec.state == State::Absent
            && host
                .root
                .list(&spec.path)?
                .is_none_or(|names| names.is_empty());
        let access = spec.access().look(&meta, host)?;
        let stamp = Stamp {
            fingerprint: format!(
                "directory {} {} {}",
                access.owner, access.group, access.mode
            ),
            changed: None,
        };
        Ok(Found::Folder {
            access,
            stamp,
            empty,
        })
    }

    fn diff(spec: &Spec, state: &Found) -> Option<Change> {
        match (spec.state, state) {
            (State::Absent, Found::Nothing) => None,
            (State::Absent, found) => {
                let from = match found {
                    Found::Folder { empty: false, .. } => NOT_EMPTY,
                    Found::Folder { .. } | Found::Nothing => FileKind::Directory.words(),
                    Found::Other(kind) => kind.words(),
                };
                Some(Change::new(Verb::Remove).with("state", Shown::value(from), Shown::Absent))
            }
            (State::Present, Found::Nothing) => {
                let mut change = Change::new(Verb::Create);
                change.fields = spec.access().wanted();
                Some(change)
            }
            (State::Present, Found::Other(kind)) => Some(Change::new(Verb::Update).with(
                "state",
                Shown::value(kind.words()),
                Shown::value("a directory"),
            )),
            (State::Present, Found::Folder { access, .. }) => {
                Change::update(spec.access().diff(access, true))
            }
        }
    }

    fn apply(spec: &Spec, change: &Change, host: &Host) -> Result<Outcome, Failure> {
        if change.verb == Verb::Remove {
            remove(spec, change, host)?;
            return Ok(Outcome::Done);
        }
        if change.touches("state") {
            return Err(Failure::new(format!(
                "{} is in the way and is no directory",
                spec.path.display()
            ))
            .hint("move it away by hand: trueup does not replace a file by a folder"));
        }
        let attrs = spec.access().attrs(host)?;
        if change.verb == Verb::Update {
            host.root.set_attrs(&spec.path, &attrs)?;
        } else if spec.parents {
            host.root.make_dirs(&spec.path, &attrs)?;
        } else {
            host.root.make_dir(&spec.path, &attrs)?;
        }
        Ok(Outcome::Done)
    }

    fn stamp(_spec: &Spec, state: &Found) -> Option<Stamp> {
        match state {
            Found::Folder { stamp, .. } => Some(stamp.clone()),
            _ => None,
        }
    }
}

fn remove(spec: &Spec, change: &Change, host: &Host) -> Result<(), Failure> {
    let full = || {
        Failure::new(format!("{} is not empty", spec.path.display()))
            .hint("describe what is in it as absent first, or remove it by hand")
    };
    let from = change.fields.first().map(|field| &field.from);
    if from == Some(&Shown::value(NOT_EMPTY)) {
        return Err(full());
    }
    if from != Some(&Shown::value(FileKind::Directory.words())) {
        return Err(
            Failure::new(format!("{} is no directory", spec.path.display()))
                .hint("remove it with a `file` or `symlink` resource"),
        );
    }
    // The kernel looks and removes in one: what somebody put into it meanwhile stays.
    match host.root.remove_dir(&spec.path) {
        Err(error) if error.is_not_empty() => Err(full()),
        removed => Ok(removed?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::testing::Sandbox;

    #[test]
    fn file_added_before_removal_keeps_the_directory() {
        let sandbox = Sandbox::empty();
        sandbox.make_dir("/srv/old");
        let spec: Spec =
            serde_json::from_value(serde_json::json!({"path": "/srv/old", "state": "absent"}))
                .unwrap();
        let look = || Directory::inspect(&spec, &sandbox.host).unwrap();
        let change = Directory::diff(&spec, &look()).unwrap();
        sandbox.write("/srv/old/new", "kept");
        let error = Directory::apply(&spec, &change, &sandbox.host).unwrap_err();
        assert!(error.message.contains("is not empty"), "{error}");
        assert_eq!(sandbox.read("/srv/old/new"), "kept");
        sandbox.remove("/srv/old/new");
        Directory::apply(&spec, &change, &sandbox.host).unwrap();
        assert!(Directory::diff(&spec, &look()).is_none());
    }
}

#[cfg(test)]
mod conformance {
    use super::Directory;
    use crate::resource::Probed;
    use crate::resource::conformance::Probe;

    impl Probed for Directory {
        fn probes() -> Vec<Probe> {
            const PATH: &str = "/srv/www/shop";
            vec![
                Probe::not_set("path", "it says which folder is meant"),
                Probe::spoil("owner", |host| host.chown(PATH, 65534, 0)).as_root(),
                Probe::spoil("group", |host| host.chown(PATH, 0, 65534)).as_root(),
                Probe::spoil("mode", |host| host.chmod(PATH, 0o700)),
                Probe::gone("parents", |host| host.remove("/srv/www")),
                Probe::gone("state", |host| host.remove(PATH)),
            ]
        }
    }
}
