//! The `directory` kind: a folder with an owner and a mode.

use std::path::PathBuf;

use serde::Deserialize;

use crate::kind::{Diff, Kind};
use crate::ports::Host;
use crate::ports::root::FileKind;
use crate::problem::Problem;
use crate::resource::{
    Access, AccessState, ApplyOutcome, Change, Failure, FieldValue, Mode, Presence, ResolveInputs,
    Stamp, Verb,
};

pub(super) struct Directory;

/// A folder.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct DirectorySpec {
    /// Absolute path.
    pub path: PathBuf,
    /// Name or number; not given: left as it is (root for a new one).
    pub owner: Option<String>,
    /// Name or number; not given: left as it is (root for a new one).
    pub group: Option<String>,
    /// Quoted octal; not given: left as it is (`"0755"` for a new one).
    pub mode: Option<Mode>,
    /// Also create the folders above it, as root with mode `"0755"`.
    #[serde(default)]
    pub parents: bool,
    /// `absent` removes it if it is empty.
    #[serde(default)]
    pub state: Presence,
}

pub(super) enum DirectoryState {
    Missing,
    Directory {
        access: AccessState,
        stamp: Stamp,
        empty: bool,
    },
    Other(FileKind),
}

impl DirectorySpec {
    fn access(&self) -> Access<'_> {
        Access {
            owner: self.owner.as_deref(),
            group: self.group.as_deref(),
            mode: self.mode,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DirectoryAction {
    Create,
    SetAccess,
    Remove,
    Refuse(Obstacle),
}

/// Why a directory cannot be had, or removed, without the loss of something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// It is to be removed and is not empty.
    NotEmpty,
    /// It is to be removed and is no directory.
    NotADirectory,
    /// It is to be created, and something else has its path.
    InTheWay,
}

impl Kind for Directory {
    const NAME: &'static str = "directory";
    const ABOUT: &'static str = "A folder, with owner and mode.";
    const EXAMPLE: &'static str = r#"directory: {path: /srv/www/shop, owner: root, group: root, mode: "0755", parents: true}"#;

    type Spec = DirectorySpec;
    type State = DirectoryState;
    type Action = DirectoryAction;

    fn subject(spec: &DirectorySpec) -> String {
        spec.path.display().to_string()
    }

    fn owned_path(spec: &DirectorySpec) -> Option<PathBuf> {
        Some(spec.path.clone())
    }

    fn resolve(spec: &mut DirectorySpec, _inputs: &dyn ResolveInputs) -> Result<(), Problem> {
        super::path_field::validate_path("path", &spec.path)
    }

    fn inspect(spec: &DirectorySpec, host: &Host) -> Result<DirectoryState, Failure> {
        let Some(meta) = host.root.meta(&spec.path)? else {
            return Ok(DirectoryState::Missing);
        };
        if meta.kind != FileKind::Directory {
            return Ok(DirectoryState::Other(meta.kind));
        }
        let empty = spec.state == Presence::Absent
            && host
                .root
                .list(&spec.path)?
                .is_none_or(|names| names.is_empty());
        let access = spec.access().observe(&meta, host)?;
        let stamp = Stamp {
            fingerprint: format!(
                "directory {} {} {}",
                access.owner, access.group, access.mode
            ),
            changed_at: None,
            is_request: false,
        };
        Ok(DirectoryState::Directory {
            access,
            stamp,
            empty,
        })
    }

    fn diff(spec: &DirectorySpec, state: &DirectoryState) -> Option<Diff<DirectoryAction>> {
        let removal = |action, from: &str| {
            let change = Change::new(Verb::Remove);
            let change = change.with_field("state", FieldValue::value(from), FieldValue::Absent);
            Some(Diff::new(action, change))
        };
        match (spec.state, state) {
            (Presence::Absent, DirectoryState::Missing) => None,
            (Presence::Absent, DirectoryState::Directory { empty: false, .. }) => removal(
                DirectoryAction::Refuse(Obstacle::NotEmpty),
                "a directory that is not empty",
            ),
            (Presence::Absent, DirectoryState::Directory { .. }) => {
                removal(DirectoryAction::Remove, FileKind::Directory.describe())
            }
            (Presence::Absent, DirectoryState::Other(kind)) => removal(
                DirectoryAction::Refuse(Obstacle::NotADirectory),
                kind.describe(),
            ),
            (Presence::Present, DirectoryState::Missing) => {
                let change = Change::new(Verb::Create);
                let change = change.with_fields(spec.access().creation_fields());
                Some(Diff::new(DirectoryAction::Create, change))
            }
            (Presence::Present, DirectoryState::Other(kind)) => {
                let change = Change::new(Verb::Update).with_field(
                    "state",
                    FieldValue::value(kind.describe()),
                    FieldValue::value("a directory"),
                );
                Some(Diff::new(
                    DirectoryAction::Refuse(Obstacle::InTheWay),
                    change,
                ))
            }
            (Presence::Present, DirectoryState::Directory { access, .. }) => {
                let change = Change::update(spec.access().diff(access, true))?;
                Some(Diff::new(DirectoryAction::SetAccess, change))
            }
        }
    }

    fn apply(
        spec: &DirectorySpec,
        action: &DirectoryAction,
        host: &Host,
    ) -> Result<ApplyOutcome, Failure> {
        let attrs = || spec.access().resolve_attrs(host);
        match action {
            DirectoryAction::Refuse(obstacle) => return Err(obstacle.failure(spec)),
            // The kernel checks and removes in one step, so files that appear meanwhile survive.
            DirectoryAction::Remove => match host.root.remove_dir(&spec.path) {
                Err(error) if error.is_not_empty() => {
                    return Err(Obstacle::NotEmpty.failure(spec));
                }
                removed => removed?,
            },
            DirectoryAction::SetAccess => host.root.set_attrs(&spec.path, &attrs()?)?,
            DirectoryAction::Create if spec.parents => {
                host.root.create_dir_all(&spec.path, &attrs()?)?;
            }
            DirectoryAction::Create => host.root.create_dir(&spec.path, &attrs()?)?,
        }
        Ok(ApplyOutcome::Done)
    }

    fn stamp(_spec: &DirectorySpec, state: &DirectoryState) -> Option<Stamp> {
        match state {
            DirectoryState::Directory { stamp, .. } => Some(stamp.clone()),
            _ => None,
        }
    }
}

impl Obstacle {
    fn failure(self, spec: &DirectorySpec) -> Failure {
        let path = spec.path.display();
        match self {
            Obstacle::NotEmpty => Failure::new(format!("{path} is not empty"))
                .hint("describe its contents as absent first, or remove them by hand"),
            Obstacle::NotADirectory => Failure::new(format!("{path} is not a directory"))
                .hint("remove it with a `file` or `symlink` resource"),
            Obstacle::InTheWay => Failure::new(format!("{path} exists and is not a directory"))
                .hint("move it away by hand: trueup does not replace a file with a folder"),
        }
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
        let spec: DirectorySpec =
            serde_json::from_value(serde_json::json!({"path": "/srv/old", "state": "absent"}))
                .unwrap();
        let observe = || Directory::inspect(&spec, &sandbox.host).unwrap();
        let action = Directory::diff(&spec, &observe()).unwrap().action;
        sandbox.write("/srv/old/new", "kept");
        let error = Directory::apply(&spec, &action, &sandbox.host).unwrap_err();
        assert!(error.message.contains("is not empty"), "{error}");
        assert_eq!(sandbox.read("/srv/old/new"), "kept");
        sandbox.remove("/srv/old/new");
        Directory::apply(&spec, &action, &sandbox.host).unwrap();
        assert!(Directory::diff(&spec, &observe()).is_none());
    }
}

#[cfg(test)]
mod conformance {
    use super::Directory;
    use crate::kind::ConformanceProbes;
    use crate::kind::conformance::Probe;

    impl ConformanceProbes for Directory {
        fn probes() -> Vec<Probe> {
            const PATH: &str = "/srv/www/shop";
            vec![
                Probe::not_set("path", "it says which folder is meant"),
                Probe::drift("owner", |host| host.chown(PATH, 65534, 0)).needs_root(),
                Probe::drift("group", |host| host.chown(PATH, 0, 65534)).needs_root(),
                Probe::drift("mode", |host| host.chmod(PATH, 0o700)),
                Probe::removal("parents", |host| host.remove("/srv/www")),
                Probe::removal("state", |host| host.remove(PATH)),
            ]
        }
    }
}
