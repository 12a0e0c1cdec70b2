//! The `symlink` kind: a symbolic link with a given target, switched by rename.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Deserialize;

use crate::kind::{Diff, Kind};
use crate::ports::Host;
use crate::ports::root::FileKind;
use crate::problem::Problem;
use crate::resource::{
    Access, AccessState, ApplyOutcome, Change, Failure, FieldChange, FieldValue, Presence,
    ResolveInputs, Stamp, Verb,
};

pub(super) struct Symlink;

/// A symbolic link.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct SymlinkSpec {
    /// Absolute path of the link.
    pub path: PathBuf,
    /// Its target, written into the link unchanged.
    pub to: Option<PathBuf>,
    /// Name or number; not given: left as it is (root for a new one).
    pub owner: Option<String>,
    /// Name or number; not given: left as it is (root for a new one).
    pub group: Option<String>,
    /// `absent` removes it.
    #[serde(default)]
    pub state: Presence,
}

impl SymlinkSpec {
    fn access(&self) -> Access<'_> {
        Access {
            owner: self.owner.as_deref(),
            group: self.group.as_deref(),
            mode: None,
        }
    }
}

pub(super) enum SymlinkState {
    Missing,
    Symlink {
        target: PathBuf,
        access: AccessState,
        changed_at: Timestamp,
    },
    Other(FileKind),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SymlinkAction {
    /// Create the link, or switch it to another target.
    Point,
    /// Set the owner of a link with the right target.
    SetOwner,
    Remove,
    /// Fail: something else has its path. A file may be a user's data; a link never is.
    RefuseToReplace,
}

impl Kind for Symlink {
    const NAME: &'static str = "symlink";
    const ABOUT: &'static str = "A symbolic link, switched in one step.";
    const EXAMPLE: &'static str = "symlink: {path: /etc/nginx/sites-enabled/default, to: ../sites-available/shop, owner: root, group: root}";

    type Spec = SymlinkSpec;
    type State = SymlinkState;
    type Action = SymlinkAction;

    fn subject(spec: &SymlinkSpec) -> String {
        spec.path.display().to_string()
    }

    fn owned_path(spec: &SymlinkSpec) -> Option<PathBuf> {
        Some(spec.path.clone())
    }

    fn resolve(spec: &mut SymlinkSpec, _inputs: &dyn ResolveInputs) -> Result<(), Problem> {
        super::path_field::validate_path("path", &spec.path)?;
        match (&spec.to, spec.state) {
            (None, Presence::Present) => Err(Problem::new("the field `to` is missing")),
            (Some(to), _) if to.as_os_str().is_empty() => {
                Err(Problem::new("a link needs a target").field("to"))
            }
            _ => Ok(()),
        }
    }

    fn inspect(spec: &SymlinkSpec, host: &Host) -> Result<SymlinkState, Failure> {
        let Some(meta) = host.root.meta(&spec.path)? else {
            return Ok(SymlinkState::Missing);
        };
        match (meta.kind, host.root.read_link(&spec.path)?) {
            (FileKind::Symlink, Some(to)) => Ok(SymlinkState::Symlink {
                target: to,
                access: spec.access().observe(&meta, host)?,
                changed_at: meta.ctime,
            }),
            (kind, _) => Ok(SymlinkState::Other(kind)),
        }
    }

    fn diff(spec: &SymlinkSpec, state: &SymlinkState) -> Option<Diff<SymlinkAction>> {
        let wanted = || FieldValue::from_option(spec.to.as_ref().map(|to| to.display()));
        let (action, change) = match (spec.state, state) {
            (Presence::Absent, SymlinkState::Missing) => return None,
            (Presence::Absent, SymlinkState::Symlink { target, .. }) => {
                let change = Change::new(Verb::Remove);
                let target = FieldValue::value(target.display());
                let change = change.with_field("to", target, FieldValue::Absent);
                (SymlinkAction::Remove, change)
            }
            (Presence::Absent, SymlinkState::Other(kind)) => {
                let change = Change::new(Verb::Remove);
                let other = FieldValue::value(kind.describe());
                let change = change.with_field("state", other, FieldValue::Absent);
                (SymlinkAction::RefuseToReplace, change)
            }
            (Presence::Present, SymlinkState::Missing) => {
                let change = Change::new(Verb::Create);
                let change = change.with_field("to", FieldValue::Absent, wanted());
                let change = change.with_fields(spec.access().creation_fields());
                (SymlinkAction::Point, change)
            }
            (Presence::Present, SymlinkState::Other(kind)) => {
                let other = FieldValue::value(kind.describe());
                let change = Change::new(Verb::Update)
                    .with_field("state", other, FieldValue::value("a symbolic link"))
                    .with_field("to", FieldValue::Absent, wanted());
                (SymlinkAction::RefuseToReplace, change)
            }
            (Presence::Present, SymlinkState::Symlink { target, access, .. }) => {
                let mut fields = spec.access().diff(access, false);
                if Some(target) == spec.to.as_ref() {
                    let change = Change::update(fields)?.keeping_stamp();
                    return Some(Diff::new(SymlinkAction::SetOwner, change));
                }
                let target = FieldValue::value(target.display());
                fields.push(FieldChange::new("to", target, wanted()));
                (SymlinkAction::Point, Change::update(fields)?)
            }
        };
        Some(Diff::new(action, change))
    }

    fn apply(
        spec: &SymlinkSpec,
        action: &SymlinkAction,
        host: &Host,
    ) -> Result<ApplyOutcome, Failure> {
        let path = &spec.path;
        let attrs = || spec.access().resolve_attrs(host);
        match (action, &spec.to) {
            (SymlinkAction::RefuseToReplace, _) => {
                return Err(Failure::new(format!(
                    "{} exists and is not a symbolic link",
                    path.display()
                ))
                .hint(
                    "move it away by hand: trueup does not replace a file or folder with a link",
                ));
            }
            (SymlinkAction::Remove, _) => host.root.remove_file(path)?,
            (SymlinkAction::Point, Some(to)) => host.root.replace_symlink(path, to, &attrs()?)?,
            (SymlinkAction::SetOwner | SymlinkAction::Point, _) => {
                host.root.set_attrs(path, &attrs()?)?;
            }
        }
        Ok(ApplyOutcome::Done)
    }

    fn stamp(_spec: &SymlinkSpec, state: &SymlinkState) -> Option<Stamp> {
        match state {
            SymlinkState::Symlink {
                target: to,
                changed_at: changed,
                ..
            } => Some(Stamp {
                fingerprint: format!("link {}", to.display()),
                changed_at: Some(*changed),
                is_request: false,
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod conformance {
    use super::Symlink;
    use crate::kind::ConformanceProbes;
    use crate::kind::conformance::Probe;

    impl ConformanceProbes for Symlink {
        fn prepare(host: &crate::ports::testing::Sandbox) {
            host.make_dir("/etc/nginx/sites-enabled");
        }

        fn probes() -> Vec<Probe> {
            const PATH: &str = "/etc/nginx/sites-enabled/default";
            vec![
                Probe::not_set("path", "it says which link is meant"),
                Probe::drift("to", |host| host.link(PATH, "elsewhere")),
                Probe::drift("owner", |host| host.chown(PATH, 65534, 0)).needs_root(),
                Probe::drift("group", |host| host.chown(PATH, 0, 65534)).needs_root(),
                Probe::removal("state", |host| host.remove(PATH)),
            ]
        }
    }
}
