//! The `file` kind: a file with a given content. `template` is the same with rendered content.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::package_file;
use crate::digest::digest;
use crate::kind::{Diff, Kind};
use crate::ports::Host;
use crate::ports::root::FileKind;
use crate::ports::secrets;
use crate::problem::Problem;
use crate::resource::{
    Access, AccessState, ApplyOutcome, Argv, Change, Failure, FieldChange, FieldValue, Mode,
    Presence, ResolveInputs, Stamp, Verb, candidate, check_secret_mode,
};

/// Size limit of a managed file, in bytes.
const MAX_FILE_BYTES: usize = 64 << 20;

/// Longer texts, in bytes, are shown as a hash.
const MAX_SHOWN_BYTES: usize = 64 << 10;

pub(super) struct File;

/// A file.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct FileSpec {
    /// Absolute path.
    pub path: PathBuf,
    /// Its content. Either this or `source`.
    pub content: Option<String>,
    /// A file in `templates/` to copy as it is. Either this or `content`.
    pub source: Option<String>,
    /// Name or number; not given: left as it is (root for a new one).
    pub owner: Option<String>,
    /// Name or number; not given: left as it is (root for a new one).
    pub group: Option<String>,
    /// Quoted octal; not given: left as it is (`"0644"` for a new one).
    pub mode: Option<Mode>,
    /// Never show the content in a plan, a report or a log.
    #[serde(default)]
    pub secret: bool,
    /// The check that covers this file together with others: a name in the role's `checks`.
    pub check: Option<String>,
    /// A command that must accept new content before it replaces the old: `{path}` stands for a file with the
    /// new content, as in `[visudo, -c, -f, "{path}"]`.
    pub verify: Option<Argv>,
    /// `absent` removes it.
    #[serde(default)]
    pub state: Presence,
    #[serde(skip)]
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileAction {
    /// Write it whole, with its access rights.
    Write,
    /// Set the access rights of a file with the right content.
    SetAccess {
        changes_owner: bool,
    },
    Remove,
    /// Fail: a folder has its path.
    RefuseToReplace,
}

impl Kind for File {
    const NAME: &'static str = "file";
    const ABOUT: &'static str = "A file with a given content, replaced whole or not at all. It keeps the ACL, SELinux label and `user.*` attributes of the file that it replaces.";
    const EXAMPLE: &'static str = r#"file: {path: /etc/motd, content: "Kept by trueup.\n", owner: root, group: root, mode: "0644"}"#;

    const SECRET_FIELDS: &'static [&'static [&'static str]] = &[&["content"]];

    type Spec = FileSpec;
    type State = FileState;
    type Action = FileAction;

    fn subject(spec: &FileSpec) -> String {
        spec.path.display().to_string()
    }

    fn owned_path(spec: &FileSpec) -> Option<PathBuf> {
        Some(spec.path.clone())
    }

    fn resolve(spec: &mut FileSpec, inputs: &dyn ResolveInputs) -> Result<(), Problem> {
        super::path_field::validate_path("path", &spec.path)?;
        candidate::validate_command(spec.verify.as_ref())?;
        spec.bytes = match (&spec.content, &spec.source, spec.state) {
            (Some(content), None, _) => content.clone().into_bytes(),
            (None, Some(source), _) => inputs
                .read_source(source)
                .map_err(|problem| problem.field("source"))?,
            (None, None, Presence::Absent) => Vec::new(),
            (Some(_), Some(_), _) => {
                return Err(Problem::new("`content` and `source` exclude each other"));
            }
            (None, None, Presence::Present) => {
                return Err(Problem::new("expected `content` or `source`"));
            }
        };
        if inputs.is_secret(&["content"]) {
            check_secret_mode(spec.mode)?;
            spec.secret = true;
        }
        spec.desired_file().register_secrets();
        Ok(())
    }

    fn check_name(spec: &FileSpec) -> Option<&str> {
        spec.check.as_deref()
    }

    fn inspect(spec: &FileSpec, host: &Host) -> Result<FileState, Failure> {
        spec.desired_file().inspect(host)
    }

    fn diff(spec: &FileSpec, state: &FileState) -> Option<Diff<FileAction>> {
        spec.desired_file().diff(state)
    }

    fn apply(spec: &FileSpec, action: &FileAction, host: &Host) -> Result<ApplyOutcome, Failure> {
        spec.desired_file().apply(*action, host)
    }

    fn stamp(_spec: &FileSpec, state: &FileState) -> Option<Stamp> {
        state.stamp()
    }
}

impl FileSpec {
    fn desired_file(&self) -> DesiredFile<'_> {
        DesiredFile {
            path: &self.path,
            body: &self.bytes,
            access: Access {
                owner: self.owner.as_deref(),
                group: self.group.as_deref(),
                mode: self.mode,
            },
            secret: self.secret,
            verify: self.verify.as_ref(),
            state: self.state,
        }
    }
}

/// A file as wanted, whatever the source of its content.
pub(super) struct DesiredFile<'a> {
    pub path: &'a Path,
    pub body: &'a [u8],
    pub access: Access<'a>,
    pub secret: bool,
    pub verify: Option<&'a Argv>,
    pub state: Presence,
}

impl DesiredFile<'_> {
    pub(super) fn register_secrets(&self) {
        if self.secret {
            secrets::add_secrets_of_text(&String::from_utf8_lossy(self.body));
        }
    }
}

impl FileAction {
    /// `action`, unless what it would replace may hold other people's files.
    fn replacing(other: FileKind, action: FileAction) -> FileAction {
        match other {
            FileKind::Directory => FileAction::RefuseToReplace,
            _ => action,
        }
    }
}

fn removal(from: &str) -> Change {
    let change = Change::new(Verb::Remove);
    change.with_field("state", FieldValue::value(from), FieldValue::Absent)
}

/// A file as found on the host.
pub(super) enum FileState {
    Missing,
    File {
        body: Vec<u8>,
        access: AccessState,
        changed_at: jiff::Timestamp,
        /// Whose file is to be replaced.
        package: Option<String>,
    },
    Other(FileKind),
}

impl FileState {
    pub(super) fn stamp(&self) -> Option<Stamp> {
        match self {
            FileState::File {
                body,
                changed_at: changed,
                ..
            } => Some(Stamp {
                fingerprint: digest(body),
                changed_at: Some(*changed),
                is_request: false,
            }),
            _ => None,
        }
    }
}

impl DesiredFile<'_> {
    pub(super) fn inspect(&self, host: &Host) -> Result<FileState, Failure> {
        let Some((meta, body)) = host.root.read_with_meta(self.path, MAX_FILE_BYTES)? else {
            return Ok(FileState::Missing);
        };
        match meta.kind {
            FileKind::File => Ok(FileState::File {
                access: self.access.observe(&meta, host)?,
                changed_at: meta.ctime,
                package: self.package_to_replace(&body, host),
                body,
            }),
            other => Ok(FileState::Other(other)),
        }
    }

    /// The package that has the file, if trueup does not seem to have written what is there.
    fn package_to_replace(&self, body: &[u8], host: &Host) -> Option<String> {
        let replaces = self.state == Presence::Present && body != self.body;
        (replaces && !package_file::is_marked(body))
            .then(|| package_file::package_of(self.path, host))
            .flatten()
    }

    pub(super) fn diff(&self, found: &FileState) -> Option<Diff<FileAction>> {
        let content = || self.display_content(self.body);
        let (action, change) = match (self.state, found) {
            (Presence::Absent, FileState::Missing) => return None,
            (Presence::Absent, FileState::Other(kind)) => (
                FileAction::replacing(*kind, FileAction::Remove),
                removal(kind.describe()),
            ),
            (Presence::Absent, FileState::File { .. }) => (FileAction::Remove, removal("a file")),
            (Presence::Present, FileState::Missing) => {
                let change = Change::new(Verb::Create);
                let change = change.with_fields(self.access.creation_fields());
                let change = change.with_field("content", FieldValue::Absent, content());
                (FileAction::Write, change)
            }
            (Presence::Present, FileState::Other(kind)) => {
                let other = FieldValue::value(kind.describe());
                let change = Change::new(Verb::Update)
                    .with_field("state", other, FieldValue::value("a file"))
                    .with_field("content", FieldValue::Absent, content());
                (FileAction::replacing(*kind, FileAction::Write), change)
            }
            (
                Presence::Present,
                FileState::File {
                    body,
                    access,
                    package,
                    ..
                },
            ) => {
                let mut fields = self.access.diff(access, true);
                if body == self.body {
                    let change = Change::update(fields)?.keeping_stamp();
                    let changes_owner = self.access.changes_owner(access);
                    return Some(Diff::new(FileAction::SetAccess { changes_owner }, change));
                }
                let old = self.display_content(body);
                fields.extend(package.as_deref().map(package_file::replacement_note));
                fields.push(FieldChange::new("content", old, content()));
                (FileAction::Write, Change::update(fields)?)
            }
        };
        Some(Diff::new(action, change))
    }

    pub(super) fn apply(&self, action: FileAction, host: &Host) -> Result<ApplyOutcome, Failure> {
        match action {
            FileAction::RefuseToReplace => {
                return Err(
                    Failure::new(format!("{} is a directory", self.path.display())).hint(
                        "move it away by hand: trueup does not remove a folder to make room for a file",
                    ),
                );
            }
            FileAction::Remove => host.root.remove_file(self.path)?,
            FileAction::Write => self.write(host)?,
            // Where others can rename files, the present one may belong to another user: replace it by one
            // with the right owner instead of giving it away.
            FileAction::SetAccess {
                changes_owner: true,
            } if !host.root.is_in_trusted_folder(self.path)? => self.write(host)?,
            FileAction::SetAccess { .. } => host
                .root
                .set_attrs(self.path, &self.access.resolve_attrs(host)?)?,
        }
        Ok(ApplyOutcome::Done)
    }

    fn write(&self, host: &Host) -> Result<(), Failure> {
        // The new file keeps the attributes that the spec leaves open.
        let mut attrs = self.access.resolve_attrs(host)?;
        let old = host.root.meta(self.path)?;
        if let Some(old) = old.filter(|old| old.kind == FileKind::File) {
            attrs.mode.get_or_insert(old.mode);
            if host.root.is_privileged() {
                attrs.uid.get_or_insert(old.uid);
                attrs.gid.get_or_insert(old.gid);
            }
        }
        if let Some(argv) = self.verify {
            candidate::verify(argv, self.body, self.secret, host)?;
        }
        Ok(host.root.write_atomic(self.path, self.body, &attrs)?)
    }

    fn display_content(&self, body: &[u8]) -> FieldValue {
        match std::str::from_utf8(body) {
            _ if self.secret => FieldValue::Secret,
            Ok(text) if body.len() <= MAX_SHOWN_BYTES && !text.contains('\0') => {
                FieldValue::Text(text.into())
            }
            _ => FieldValue::Value(format!("{} bytes, sha256 {}", body.len(), digest(body))),
        }
    }
}

#[cfg(test)]
mod conformance {
    use super::File;
    use crate::kind::ConformanceProbes;
    use crate::kind::conformance::Probe;

    impl ConformanceProbes for File {
        fn probes() -> Vec<Probe> {
            const PATH: &str = "/etc/motd";
            vec![
                Probe::not_set("path", "it says which file is meant"),
                Probe::drift("content", |host| host.write(PATH, "Welcome.\n")),
                Probe::not_set("source", "it is the other way to say `content`"),
                Probe::drift("owner", |host| host.chown(PATH, 65534, 0)).needs_root(),
                Probe::drift("group", |host| host.chown(PATH, 0, 65534)).needs_root(),
                Probe::drift("mode", |host| host.chmod(PATH, 0o600)),
                Probe::not_set("secret", "it says what may be shown"),
                Probe::not_set("check", "the stages run checks, not the kind"),
                Probe::not_set("verify", "it says who has to accept the content"),
                Probe::removal("state", |host| host.remove(PATH)),
            ]
        }
    }
}
