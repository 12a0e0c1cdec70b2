//! `file`: a file with a given content. `template` is the same with a rendered one.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::digest::digest;
use crate::ports::Host;
use crate::ports::root::FileKind;
use crate::ports::secrets;
use crate::problem::Problem;
use crate::resource::{
    Access, AccessSeen, Argv, Change, Failure, FieldChange, Inputs, Kind, Mode, Outcome, Shown,
    Stamp, State, Verb, candidate,
};

/// No managed file is larger, in bytes.
const MAX_FILE: usize = 64 << 20;

/// Longer texts are told by their hash instead of shown, in bytes.
const MAX_SHOWN: usize = 64 << 10;

pub struct File;

/// A file.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Absolute path.
    pub path: PathBuf,
    /// What is in it. Either this or `source`.
    pub content: Option<String>,
    /// A file in `templates/` to copy as it is. Either this or `content`.
    pub source: Option<String>,
    /// Name or number; not given: left as it is (root for a new one).
    pub owner: Option<String>,
    /// Name or number; not given: left as it is (root for a new one).
    pub group: Option<String>,
    /// Quoted octal; not given: left as it is (`"0644"` for a new one).
    pub mode: Option<Mode>,
    /// The content is never shown: not in a plan, a report or a log.
    #[serde(default)]
    pub secret: bool,
    /// The set of files that this is checked together with: a name in the role's `checks`.
    pub check: Option<String>,
    /// What has to accept a new content before it takes the place of the old one: a command in which
    /// `{path}` stands for a file with it, as in `[visudo, -c, -f, "{path}"]`.
    pub verify: Option<Argv>,
    /// `absent` removes it.
    #[serde(default)]
    pub state: State,
    #[serde(skip)]
    bytes: Vec<u8>,
}

impl Kind for File {
    const NAME: &'static str = "file";
    const ABOUT: &'static str = "A file with a given content, replaced whole or not at all. ACL, SELinux label and `user.*` attributes of the file that is replaced stay.";
    const EXAMPLE: &'static str = r#"file: {path: /etc/motd, content: "Kept by trueup.\n", owner: root, group: root, mode: "0644"}"#;

    type Spec = Spec;
    type State = Found;

    fn subject(spec: &Spec) -> String {
        spec.path.display().to_string()
    }

    fn owns(spec: &Spec) -> Option<PathBuf> {
        Some(spec.path.clone())
    }

    fn resolve(spec: &mut Spec, inputs: &dyn Inputs) -> Result<(), Problem> {
        super::usable_path("path", &spec.path)?;
        candidate::usable(spec.verify.as_ref())?;
        spec.bytes = match (&spec.content, &spec.source, spec.state) {
            (Some(content), None, _) => content.clone().into_bytes(),
            (None, Some(source), _) => inputs
                .source(source)
                .map_err(|problem| problem.field("source"))?,
            (None, None, State::Absent) => Vec::new(),
            (Some(_), Some(_), _) => {
                return Err(Problem::new("`content` and `source` exclude each other"));
            }
            (None, None, State::Present) => {
                return Err(Problem::new("expected `content` or `source`"));
            }
        };
        Ok(())
    }

    fn check(spec: &Spec) -> Option<&str> {
        spec.check.as_deref()
    }

    fn inspect(spec: &Spec, host: &Host) -> Result<Found, Failure> {
        spec.wanted().inspect(host)
    }

    fn diff(spec: &Spec, state: &Found) -> Option<Change> {
        spec.wanted().diff(state)
    }

    fn apply(spec: &Spec, change: &Change, host: &Host) -> Result<Outcome, Failure> {
        spec.wanted().apply(change, host)
    }

    fn learn_secrets(spec: &Spec) {
        spec.wanted().learn_secrets();
    }

    fn stamp(_spec: &Spec, state: &Found) -> Option<Stamp> {
        state.stamp()
    }

    fn shows(change: &Change) -> bool {
        !change.only_access()
    }
}

impl Spec {
    fn wanted(&self) -> Wanted<'_> {
        Wanted {
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

/// A file as it should be, wherever its content comes from.
pub struct Wanted<'a> {
    pub path: &'a Path,
    pub body: &'a [u8],
    pub access: Access<'a>,
    pub secret: bool,
    pub verify: Option<&'a Argv>,
    pub state: State,
}

impl Wanted<'_> {
    pub(super) fn learn_secrets(&self) {
        if self.secret {
            secrets::learn_text(&String::from_utf8_lossy(self.body));
        }
    }
}

/// A file as it is.
pub enum Found {
    Nothing,
    File {
        body: Vec<u8>,
        access: AccessSeen,
        changed: jiff::Timestamp,
    },
    Other(FileKind),
}

impl Found {
    pub fn stamp(&self) -> Option<Stamp> {
        match self {
            Found::File { body, changed, .. } => Some(Stamp {
                fingerprint: digest(body),
                changed: Some(*changed),
            }),
            _ => None,
        }
    }
}

impl Wanted<'_> {
    pub fn inspect(&self, host: &Host) -> Result<Found, Failure> {
        let Some((meta, body)) = host.root.read_with_meta(self.path, MAX_FILE)? else {
            return Ok(Found::Nothing);
        };
        match meta.kind {
            FileKind::File => Ok(Found::File {
                access: self.access.look(&meta, host)?,
                changed: meta.changed,
                body,
            }),
            other => Ok(Found::Other(other)),
        }
    }

    pub fn diff(&self, found: &Found) -> Option<Change> {
        match (self.state, found) {
            (State::Absent, Found::Nothing) => None,
            (State::Absent, Found::Other(kind)) => Some(Change::new(Verb::Remove).with(
                "state",
                Shown::value(kind.words()),
                Shown::Absent,
            )),
            (State::Absent, Found::File { .. }) => {
                Some(Change::new(Verb::Remove).with("state", Shown::value("a file"), Shown::Absent))
            }
            (State::Present, Found::Nothing) => {
                let mut change = Change::new(Verb::Create);
                change.fields = self.access.wanted();
                Some(change.with("content", Shown::Absent, self.shown(self.body)))
            }
            (State::Present, Found::Other(kind)) => {
                let change = Change::new(Verb::Update).with(
                    "state",
                    Shown::value(kind.words()),
                    Shown::value("a file"),
                );
                Some(change.with("content", Shown::Absent, self.shown(self.body)))
            }
            (State::Present, Found::File { body, access, .. }) => {
                let mut fields = self.access.diff(access, true);
                if body != self.body {
                    fields.push(FieldChange::new(
                        "content",
                        self.shown(body),
                        self.shown(self.body),
                    ));
                }
                Change::update(fields)
            }
        }
    }

    pub fn apply(&self, change: &Change, host: &Host) -> Result<Outcome, Failure> {
        let blocked = Shown::value(FileKind::Directory.words());
        if change
            .fields
            .iter()
            .any(|field| field.field == "state" && field.from == blocked)
        {
            return Err(
                Failure::new(format!("{} is a directory", self.path.display())).hint(
                    "move it away by hand: trueup does not remove a folder to make room for a file",
                ),
            );
        }
        if change.verb == Verb::Remove {
            host.root.remove(self.path)?;
            return Ok(Outcome::Done);
        }
        // Where others can rename, what is there may be somebody else's file: it is not given away, but
        // replaced by one of the right owner.
        let replaced = change.touches("content")
            || (change.touches("owner") && !host.root.is_trusted_place(self.path)?);
        if replaced {
            // What the spec leaves open stays as it is on the file that is replaced.
            let mut attrs = self.access.attrs(host)?;
            if let Some(old) = host
                .root
                .meta(self.path)?
                .filter(|old| old.kind == FileKind::File)
            {
                attrs.mode.get_or_insert(old.mode);
                if host.root.privileged() {
                    attrs.uid.get_or_insert(old.uid);
                    attrs.gid.get_or_insert(old.gid);
                }
            }
            if let Some(argv) = self.verify {
                candidate::verify(argv, self.body, self.secret, host)?;
            }
            host.root.replace(self.path, self.body, &attrs)?;
        } else {
            host.root.set_attrs(self.path, &self.access.attrs(host)?)?;
        }
        Ok(Outcome::Done)
    }

    fn shown(&self, body: &[u8]) -> Shown {
        match std::str::from_utf8(body) {
            _ if self.secret => Shown::Secret,
            Ok(text) if body.len() <= MAX_SHOWN && !text.contains('\0') => Shown::Text(text.into()),
            _ => Shown::Value(format!("{} bytes, sha256 {}", body.len(), digest(body))),
        }
    }
}

#[cfg(test)]
mod conformance {
    use super::File;
    use crate::resource::Probed;
    use crate::resource::conformance::Probe;

    impl Probed for File {
        fn probes() -> Vec<Probe> {
            const PATH: &str = "/etc/motd";
            vec![
                Probe::not_set("path", "it says which file is meant"),
                Probe::spoil("content", |host| host.write(PATH, "Welcome.\n")),
                Probe::not_set("source", "it is the other way to say `content`"),
                Probe::spoil("owner", |host| host.chown(PATH, 65534, 0)).as_root(),
                Probe::spoil("group", |host| host.chown(PATH, 0, 65534)).as_root(),
                Probe::spoil("mode", |host| host.chmod(PATH, 0o600)),
                Probe::not_set("secret", "it says what may be shown"),
                Probe::not_set("check", "the stages run checks, not the kind"),
                Probe::not_set("verify", "it says who has to accept the content"),
                Probe::gone("state", |host| host.remove(PATH)),
            ]
        }
    }
}
